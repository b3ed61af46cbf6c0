"""Quantized models in one safetensors file: the tensors, each once, and which model, scheme and layers they make."""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models import Loaded
from models import load as load_float
from quant.int4.solution import Int4Linear
from quant.int8.solution import Int8Linear, StaticInt8Linear
from quant.packed import Int8Embedding, PackedLinear
from quant.schemes import find
from quant.smoothing import Rescaled

KIND = "quant-3"
# What each layer is made of again: its buffers, and then its attributes.
LAYERS: dict[str, tuple[type[nn.Module], tuple[str, ...], tuple[str, ...]]] = {
    "int8": (Int8Linear, ("codes", "scale", "bias"), ()),
    "int8-static": (StaticInt8Linear, ("codes", "scale", "bias", "input_range"), ()),
    "int4": (Int4Linear, ("packed", "scale", "zero_point", "bias"), ("in_features", "group")),
    "packed": (PackedLinear, ("packed", "scale", "zero_point", "bias"), ("in_features", "group", "bits")),
    "embedding": (Int8Embedding, ("codes", "scale"), ()),
    "rescaled": (Rescaled, ("reciprocal",), ()),
}


def save(loaded: Loaded, scheme: str, path: Path) -> None:
    """Write a quantized model, the file whole or not at all; tensors under two names are written once.

    ``loaded.name`` says where its float model comes from, ``scheme`` how it was quantized. Raises ValueError for an
    unknown scheme, OSError where the file cannot be written.
    """
    find(scheme)
    refuse_place(path)
    kinds = {each[0]: kind for kind, each in LAYERS.items()}
    layers = [
        (name, kinds[type(m)], [getattr(m, key) for key in LAYERS[kinds[type(m)]][2]])
        for name, m in loaded.model.named_modules()
        if type(m) in kinds
    ]
    first: dict[object, str] = {}
    tensors: dict[str, Tensor] = {}
    same: dict[str, str] = {}
    for name, tensor in loaded.model.state_dict().items():
        known = first.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype), name)
        if known == name:
            tensors[name] = tensor.contiguous()
        else:
            same[name] = known
    floats = {t.dtype for t in loaded.model.parameters()}  # the layers that are left
    about = {
        "kind": KIND,
        "dtype": str(floats.pop()).removeprefix("torch.") if len(floats) == 1 else "float32",
        "model": str(Path(loaded.name).absolute()) if Path(loaded.name).is_dir() else loaded.name,
        "scheme": scheme,
        "layers": layers,
        "same": same,
    }
    words = json.dumps(about)
    try:
        with whole(path) as scratch:
            save_file(tensors, str(scratch), metadata={"about": words, "sha256": _digest(words, tensors)})
    except SafetensorError as error:
        msg = f"cannot write {path}: {error}"
        raise OSError(msg) from error


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a file beside ``path`` to write, its name nobody else's, which then takes its place; or leave nothing."""
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield scratch
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def load(path: Path, *, device: str | torch.device = "cpu") -> tuple[Loaded, str]:
    """Read a model that ``save`` wrote; its float model gives the architecture and the tokenizer.

    Returns the model and its scheme. Raises ValueError for a file that is damaged, of another kind, or does not fit
    its model.
    """
    about, tensors = _read(path, str(device))
    loaded = load_float(about["model"], device=device, dtype=getattr(torch, about.get("dtype", "float32")))
    try:
        state = tensors | {name: tensors[kept] for name, kept in about["same"].items()}
        for name, kind, options in about["layers"]:  # outer ones come first
            module, buffers, _ = LAYERS[kind]
            parts = [state.get(f"{name}.{key}") for key in buffers]
            made: nn.Module
            if module is Rescaled:  # made of the layer inside, its buffer copied below
                made = Rescaled(loaded.model.get_submodule(name), torch.ones_like(state[f"{name}.reciprocal"]))
            else:
                made = module(*parts, *options)
            loaded.model.set_submodule(name, made.train(mode=False))
        loaded.model.load_state_dict(state)
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        msg = f"{path} does not fit {about['model']} in {about['scheme']}: it is damaged, or the model has changed"
        raise ValueError(msg) from error
    return loaded, about["scheme"]


def refuse_place(path: Path) -> None:
    """Raise OSError where a file cannot be written to, before any work."""
    if not path.parent.is_dir():
        msg = f"cannot write {path}: there is no folder {path.parent}"
        raise OSError(msg)
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        msg = f"cannot write {path}: {'it is a folder' if path.is_dir() else f'{path.parent} is read-only'}"
        raise OSError(msg)


def _read(path: Path, device: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what a file says of itself, and its tensors."""
    if not path.is_file():
        msg = f"no file {path}"
        raise ValueError(msg)
    foreign = f"{path} was not written by `quant save`, or is damaged"
    try:
        with safe_open(str(path), "pt", device=device) as file:
            known = file.metadata() or {}
            words = known.get("about", "{}")
            about = json.loads(words)
            ours = isinstance(about, dict) and about.get("kind") == KIND
            tensors = {name: file.get_tensor(name) for name in file.keys()} if ours else {}  # noqa: SIM118 - no mapping
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise ValueError(foreign) from error
    if not ours or known.get("sha256") != _digest(words, tensors):
        raise ValueError(foreign)
    return about, tensors


def _digest(about: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of what a file says of itself and of all tensors: safetensors itself checks only sizes."""
    found = hashlib.sha256(about.encode())
    for name in sorted(tensors):
        found.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        found.update(tensors[name].reshape(-1).view(torch.uint8).cpu().numpy().data)
    return found.hexdigest()
