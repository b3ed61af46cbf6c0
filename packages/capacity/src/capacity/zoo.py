"""Well-known models by name, for trying things out; nothing is downloaded."""

import json
import tomllib
from importlib import resources
from pathlib import Path

from capacity.weights import Model


def names() -> list[str]:
    """Name the models whose configs come with the package."""
    return sorted(_known())


def load(model: str | Path) -> Model:
    """Return a model by its name here, or by the path of its ``config.json`` or of the folder that holds it.

    Raises ValueError where there is none, or where the file is not such a config.
    """
    if str(model) in _known():
        return Model.from_config(_known()[str(model)])
    path = Path(model)
    path = path / "config.json" if path.is_dir() else path
    if not path.is_file():
        msg = f"no config at {str(model)!r}: not a file, not a folder with config.json, not one of {', '.join(names())}"
        raise ValueError(msg)
    try:
        config = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        msg = f"{path} is not JSON: {error}"
        raise ValueError(msg) from None
    if not isinstance(config, dict):
        msg = f"{path} holds no JSON object"
        raise ValueError(msg)  # noqa: TRY004 - the file's content is wrong, not an argument's type
    return Model.from_config(config)


def _known() -> dict[str, dict[str, object]]:
    return tomllib.loads(resources.files("capacity").joinpath("zoo.toml").read_text("utf-8"))
