"""The text that tinylm is trained and scored on: the source of Python's own standard library.

``modules.txt`` lists the files, fixed for good: those that Python 3.11, 3.12 and 3.13 all have, without tests,
idlelib, turtledemo, pydoc_data, lib2to3, distutils and the encodings that are only tables. Files are held out whole:
those whose path has a SHA-256 that begins with a byte below 16, one in sixteen, whatever is in them.
"""

import ast
import hashlib
import re
import sysconfig
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

Split = Literal["train", "heldout"]
HELD_OUT_BELOW = 16  # of the 256 values of a hash's first byte


def is_held_out(path: str) -> bool:
    """Tell whether the model never sees this file; ``path`` is relative to the standard library, with slashes."""
    return hashlib.sha256(path.encode()).digest()[0] < HELD_OUT_BELOW


def modules(split: Split) -> list[str]:
    """List the files of a split, relative to the standard library. Raises ValueError for another split."""
    if split not in ("train", "heldout"):
        msg = f"split is {split!r}, must be 'train' or 'heldout'"
        raise ValueError(msg)
    listed = (files("models") / "modules.txt").read_text("utf-8").split()
    return [path for path in listed if is_held_out(path) == (split == "heldout")]


@cache
def documents(split: Split) -> dict[str, str]:
    """Return the text of each file of a split, by its path; files that the running Python lacks are left out.

    Raises ValueError for another split.
    """
    root = Path(sysconfig.get_path("stdlib"))
    return {path: (root / path).read_text("utf-8") for path in modules(split) if (root / path).exists()}


@cache
def corpus(split: Split) -> str:
    """Return the text of a split, read from the running Python; files that it lacks are left out.

    The text differs a little from one Python to the next: 7.7 to 7.9 MB. Raises ValueError for another split and
    OSError where the standard library has no source (a frozen or zipped Python).
    """
    if not (found := documents(split)):
        msg = f"no source of the standard library in {sysconfig.get_path('stdlib')}"
        raise OSError(msg)
    return "\n".join(found.values())


@cache
def sentences(count: int = 400) -> tuple[str, ...]:
    """Return English sentences of 5 to 30 words from the standard library's docstrings, always the same ones.

    What an encoder can be tried on without a download. Raises ValueError unless ``count`` is from 1 to 4000.
    """
    if not 1 <= count <= 4000:  # noqa: PLR2004
        msg = f"count is {count}, must be 1 to 4000"
        raise ValueError(msg)
    root = Path(sysconfig.get_path("stdlib"))
    found: dict[str, None] = {}  # a set that keeps its order
    for path in sorted(modules("train"), key=lambda name: hashlib.sha256(name.encode()).digest()):
        for node in ast.walk(ast.parse((root / path).read_text("utf-8"))) if (root / path).exists() else ():
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                first = (ast.get_docstring(node) or "").split("\n\n")[0]
                for sentence in re.split(r"(?<=[.!?])\s+", " ".join(first.split())):
                    if 5 <= len(sentence.split()) <= 30 and re.fullmatch(r"[A-Z][\w ,'()-]+[.!?]", sentence):  # noqa: PLR2004
                        found[sentence] = None
        if len(found) >= count:
            break
    return tuple(found)[:count]
