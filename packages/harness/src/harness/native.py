"""Native kernels: compiled by the machine's own compiler when they are first wanted, and kept for the next time."""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

# The code is for this very machine, and cached under what its compiler and processor are. Products are contracted to
# fused multiply-adds everywhere or nowhere; sums keep their order, so that no option may reassociate them.
COMPILE = ("-O3", "-march=native", "-ffp-contract=fast", "-fopenmp", "-fPIC", "-c")
# Linked without an OpenMP of its own: the symbols are found in torch's, so that both share one pool of threads. Two
# pools would fight for the cores, since a pool's threads go on spinning for a while. All symbols must be there at
# loading.
LINK = ("-shared", "-Wl,-z,now")


@cache
def library(package: str, name: str) -> ctypes.CDLL | None:
    """Return ``name``.c of ``package``, such as "quant.int8", as a compiled library, with OpenMP's symbols from torch.

    It may include the headers that lie beside the outermost package's modules. None where it cannot be built, or the
    environment has QUANT_NATIVE=0, after that package's name.
    """
    top = package.partition(".")[0]
    try:
        compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]  # with options, as make takes it
    except ValueError:  # a quotation that does not end
        return None
    if not shutil.which(compiler[0]) or os.environ.get(f"{top.upper()}_NATIVE") == "0":
        return None
    beside = sorted(files(top).iterdir(), key=lambda file: file.name)
    texts = {file.name: file.read_bytes() for file in beside if file.name.endswith(".h")}
    texts["kernel.c"] = (files(package) / f"{name}.c").read_bytes()
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / top
        kept = folder / f"{name}-{_key(compiler, texts)}.so"
        if not _is_whole(kept):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                for file, text in texts.items():
                    (Path(scratch) / file).write_bytes(text)
                code, half, made, digest = (Path(scratch) / f"kernel.{ending}" for ending in ("c", "o", "so", "sha256"))
                for command in ((*COMPILE, str(code), "-o", str(half)), (*LINK, str(half), "-o", str(made))):
                    subprocess.run([*compiler, *command], check=True, capture_output=True)  # noqa: S603
                digest.write_bytes(_digest(made))
                digest.replace(kept.with_suffix(".sha256"))
                made.replace(kept)  # whole or not at all, whoever else compiles at the same time
        return ctypes.CDLL(str(kept))
    except (OSError, RuntimeError, subprocess.CalledProcessError):  # RuntimeError: there is no home
        return None


def _is_whole(kept: Path) -> bool:
    """Tell whether a library is there as it was written: one that has lost its end would end the process."""
    digest = kept.with_suffix(".sha256")
    return kept.exists() and digest.exists() and digest.read_bytes() == _digest(kept)


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).hexdigest().encode()


def _key(compiler: list[str], texts: Mapping[str, bytes]) -> str:
    """Name what a compiled file depends on: texts, options, the compiler, and what it knows of the processor."""
    command = [*compiler, "-march=native", "-dM", "-E", "-x", "c", os.devnull]
    macros = subprocess.run(command, check=False, capture_output=True).stdout  # noqa: S603
    words = (part.encode() for part in (*COMPILE, *LINK, platform.machine(), *compiler, *texts))
    return hashlib.sha256(b"\0".join((*words, *texts.values(), macros))).hexdigest()[:16]
