"""Native kernels: compiled by the machine's own compiler when they are first wanted, and kept for the next time."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from importlib.resources import files
from pathlib import Path

# The code is for this very machine, and cached under what its compiler and processor are.
COMPILE = ("-O3", "-march=native", "-ffp-contract=fast", "-fopenmp", "-fPIC", "-c")
# Linked without an OpenMP of its own: the symbols are found in torch's, so that both share one pool of threads. Two
# pools would fight for the cores, since a pool's threads go on spinning for a while. All symbols must be there at
# loading.
LINK = ("-shared", "-Wl,-z,now")


@cache
def library(package: str, name: str) -> ctypes.CDLL | None:
    """Return ``name``.c of a package as a compiled library; None where it cannot be built, or QUANT_NATIVE=0."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if not compiler or os.environ.get("QUANT_NATIVE") == "0":
        return None
    source = (files(package) / f"{name}.c").read_bytes()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quant"
    try:
        kept = folder / f"{name}-{_key(compiler, source)}.so"
        if not kept.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                code, half, made = (Path(scratch) / f"kernel.{ending}" for ending in ("c", "o", "so"))
                code.write_bytes(source)
                for command in ((*COMPILE, str(code), "-o", str(half)), (*LINK, str(half), "-o", str(made))):
                    subprocess.run([compiler, *command], check=True, capture_output=True)  # noqa: S603
                made.replace(kept)  # whole or not at all, whoever else compiles at the same time
        return ctypes.CDLL(str(kept))
    except (OSError, subprocess.CalledProcessError):
        return None


def _key(compiler: str, source: bytes) -> str:
    """Name what a compiled file depends on: the text, the options, the compiler, and the processor."""
    command = [compiler, "-march=native", "-Q", "--help=target"]
    target = subprocess.run(command, check=False, capture_output=True).stdout  # noqa: S603
    parts = (source, " ".join(COMPILE + LINK).encode(), platform.machine().encode(), compiler.encode(), target)
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
