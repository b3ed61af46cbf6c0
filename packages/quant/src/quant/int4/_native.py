"""The native kernel: compiled by the machine's own compiler when it is first wanted, and kept for the next time."""

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
from typing import Any

import torch
from torch import Tensor

GROUP, OUTPUTS = 32, 16
COMPILE = ("-O3", "-mavx2", "-mfma", "-fopenmp", "-fPIC", "-c")
# Linked without an OpenMP of its own: the symbols are found in torch's, so that both share one pool of threads. Two
# pools would fight for the cores, since a pool's threads go on spinning for a while. All symbols must be there at
# loading.
LINK = ("-shared", "-Wl,-z,now")


@cache
def kernel() -> Any:  # noqa: ANN401 - a foreign function
    """Return the compiled kernel, or None without AVX2 or a compiler, or where QUANT_NATIVE=0 says so."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    capable = platform.machine() in ("x86_64", "AMD64") and torch.backends.cpu.get_cpu_capability() in (
        "AVX2",
        "AVX512",
    )
    if not compiler or not capable or os.environ.get("QUANT_NATIVE") == "0":
        return None
    source = (files("quant.int4") / "_w4a8.c").read_bytes()
    name = hashlib.sha256(source + " ".join(COMPILE + LINK).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quant"
    library = folder / f"w4a8-{name}.so"
    try:
        if not library.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                code, half, made = (Path(scratch) / f"w4a8.{ending}" for ending in ("c", "o", "so"))
                code.write_bytes(source)
                for command in ((*COMPILE, str(code), "-o", str(half)), (*LINK, str(half), "-o", str(made))):
                    subprocess.run([compiler, *command], check=True, capture_output=True)  # noqa: S603
                made.replace(library)  # whole or not at all, whoever else compiles at the same time
        function = ctypes.CDLL(str(library)).w4a8
    except (OSError, subprocess.CalledProcessError):
        return None
    function.argtypes = [ctypes.c_void_p] * 6 + [ctypes.c_long] * 3 + [ctypes.c_int]
    function.restype = None
    return function


def records(codes: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """Lay a weight out as the kernel reads it.

    ``codes`` is (out, in) int8 from -8 to 7, ``scale`` (out, groups) bfloat16, ``zero_point`` (out, groups) int8.
    Returns (out / 16, groups, 304) uint8.
    """
    blocks, groups = codes.shape[0] // OUTPUTS, codes.shape[1] // GROUP
    unsigned = (
        (codes + 8).to(torch.uint8).view(blocks, 2, 8, groups, 8, 4)
    )  # (blocks, half, output, groups, step, input)
    ordered = unsigned.permute(1, 0, 3, 4, 2, 5)  # (half, blocks, groups, step, output, input)
    nibbles = (ordered[0] | ordered[1] << 4).reshape(blocks, groups, 256)
    scales, zeros = (t.view(blocks, OUTPUTS, groups).transpose(1, 2).contiguous() for t in (scale, zero_point + 8))
    return torch.cat([nibbles, scales.view(torch.uint8), zeros.to(torch.uint8)], dim=2)


def product(x: Tensor, weight: Tensor, outputs: int) -> Tensor:
    """Multiply (rows, in) float32 by the weight that ``records`` laid out; (rows, outputs) float32."""
    rows, inputs = x.shape
    x = x.contiguous()
    y, step = torch.empty(rows, outputs), torch.empty(rows)
    codes, sums = torch.empty(rows, inputs, dtype=torch.int8), torch.empty(rows, inputs // GROUP)
    tensors = (x, weight, y, codes, sums, step)  # alive until the kernel is done with their memory
    kernel()(*(t.data_ptr() for t in tensors), rows, inputs, outputs, torch.get_num_threads())
    return y
