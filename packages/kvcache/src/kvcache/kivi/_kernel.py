"""The native kernel's door: packed codes of a cache back to floats."""

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from harness import native

LANES = 16  # what a head's size is a multiple of


class _Shape(ctypes.Structure):
    """As in ``_kivi.c``."""

    _fields_ = tuple(
        (name, ctypes.c_long)
        for name in ("heads", "groups", "group", "dim", "code_stride", "scale_stride", "low_stride", "out_stride")
    )


@cache
def _library() -> Any:  # noqa: ANN401 - ctypes' functions have no types
    """Return the compiled kernel, None where it cannot be built."""
    library = native.library("kvcache.kivi", "_kivi")
    if library is not None:
        number, pointer = ctypes.c_int, ctypes.c_void_p
        library.decode.argtypes = [number, number, ctypes.POINTER(_Shape), *[pointer] * 4, number]
        library.decode.restype = None
    return library


def suits(codes: Tensor, head_dim: int, dtype: torch.dtype) -> bool:
    """Tell whether the kernel is there and decodes such a cache."""
    return (codes.device.type, dtype, head_dim % LANES) == ("cpu", torch.float32, 0) and _library() is not None


def decode(codes: Tensor, scales: Tensor, lows: Tensor, out: Tensor, bits: int, group: int) -> None:
    """Write ``low + scale * code`` of the first whole groups to ``out``, nothing checked.

    ``codes`` is (batch, kv_heads, positions, bytes), one layer's; ``scales`` and ``lows``, bfloat16, are (batch,
    kv_heads, groups, 1, head_dim) of keys and (batch, kv_heads, positions, 1, 1) of values. Of 8 bits a head has one
    low for all groups or positions, and the codes count from -128. ``out`` is (batch, kv_heads, length, head_dim)
    float32, in one piece. The numbers are those of ``dequantize``, bit by bit.
    """
    batch, kv_heads, length, dim = out.shape
    heads, groups = batch * kv_heads, length // group
    strides = codes.stride(1), scales.stride(1), lows.stride(1), length * dim
    found = codes.data_ptr(), scales.data_ptr(), lows.data_ptr(), out.data_ptr()
    shape = _Shape(heads, groups, group, dim, *strides)
    _library().decode(bits, scales.shape[4] > 1, ctypes.byref(shape), *found, torch.get_num_threads())
