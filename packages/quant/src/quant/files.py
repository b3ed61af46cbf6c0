"""Quantized models in one safetensors file: the tensors, and which model and scheme they belong to."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_model
from torch import nn

from models import Loaded
from models import load as load_float
from quant.int8 import Policy
from quant.int8.solution import quantize_model

KIND = "quant-1"
SAVED = ("int8-dynamic", "int8-static")


def save(loaded: Loaded, scheme: str, path: Path) -> None:
    """Write a quantized model, the file whole or not at all; weights under two names are written once.

    ``loaded.name`` says where its float model comes from, ``scheme`` how it was quantized. Raises ValueError for a
    scheme whose layers are not kept in fewer bits, OSError where the file cannot be written.
    """
    if scheme not in SAVED:
        msg = f"scheme {scheme!r} cannot be saved, only {', '.join(SAVED)}"
        raise ValueError(msg)
    if not path.parent.is_dir():
        msg = f"cannot write {path}: there is no folder {path.parent}"
        raise OSError(msg)
    about = {"kind": KIND, "model": loaded.name, "scheme": scheme}
    scratch = path.with_name(f".{path.name}.tmp")
    try:
        save_model(loaded.model, str(scratch), metadata={"about": json.dumps(about)})
        scratch.replace(path)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    finally:
        scratch.unlink(missing_ok=True)


def load(path: Path, *, device: str | torch.device = "cpu") -> tuple[Loaded, str]:
    """Read a model that ``save`` wrote; its float model gives the architecture and the tokenizer.

    Returns the model and its scheme. Raises ValueError for a file that is damaged, of another kind, or does not fit
    its model.
    """
    about = _about(path)
    loaded = load_float(about["model"], device=device)
    static = about["scheme"] == "int8-static"
    everything = {name: (0.0, 0.0) for name, m in loaded.model.named_modules() if isinstance(m, nn.Linear)}
    policy = Policy(activations="static" if static else "dynamic")
    model = quantize_model(loaded.model, policy, everything if static else None)
    try:
        load_model(model, str(path), device=str(device))
    except (SafetensorError, RuntimeError) as error:
        msg = f"{path} does not fit {about['model']} in {about['scheme']}: it is damaged, or the model has changed"
        raise ValueError(msg) from error
    return replace(loaded, model=model), about["scheme"]


def _about(path: Path) -> dict[str, str]:
    """Read what a file says of itself."""
    if not path.is_file():
        msg = f"no file {path}"
        raise ValueError(msg)
    foreign = f"{path} was not written by `quant save`, or is damaged"
    try:
        with safe_open(str(path), "pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
    except (SafetensorError, ValueError) as error:
        raise ValueError(foreign) from error
    if not isinstance(about, dict) or about.get("kind") != KIND or about.get("scheme") not in SAVED:
        raise ValueError(foreign)
    return about
