"""The native kernel's door: packed codes of a cache back to floats."""

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from kvcache import _native

LANES = 16  # what a head's size is a multiple of


class _Shape(ctypes.Structure):
    """As in ``_kivi.c``."""

    _fields_ = tuple(
        (name, ctypes.c_long) for name in ("heads", "groups", "group", "dim", "code_stride", "map_stride", "out_stride")
    )


@cache
def _library() -> Any:  # noqa: ANN401 - ctypes' functions have no types
    """Return the compiled kernel, None where it cannot be built."""
    library = _native.library("kvcache.kivi", "_kivi")
    if library is not None:
        number, pointer = ctypes.c_int, ctypes.c_void_p
        library.decode.argtypes = [number, number, ctypes.POINTER(_Shape), *[pointer] * 4, number]
        library.decode.restype = None
    return library


def suits(codes: Tensor, head_dim: int, dtype: torch.dtype) -> bool:
    """Tell whether the kernel is there and decodes such a cache."""
    return (codes.device.type, dtype, head_dim % LANES) == ("cpu", torch.float32, 0) and _library() is not None


def decode(codes: Tensor, maps: Tensor, out: Tensor, bits: int, group: int) -> None:
    """Write ``low + scale * code`` of the first whole groups to ``out``, nothing checked.

    ``codes`` is (batch, kv_heads, positions, bytes), one layer's; ``maps``, bfloat16, its scales and lows: of keys (2,
    batch, kv_heads, groups, 1, head_dim), of values (2, batch, kv_heads, positions, 1, 1); ``out`` (batch, kv_heads,
    length, head_dim) float32, in one piece. The numbers are those of ``dequantize``, bit by bit.
    """
    batch, kv_heads, length, dim = out.shape
    heads, groups = batch * kv_heads, length // group
    shape = _Shape(heads, groups, group, dim, codes.stride(1), maps.stride(2), length * dim)
    found = codes.data_ptr(), maps[0].data_ptr(), maps[1].data_ptr(), out.data_ptr()
    _library().decode(bits, maps.shape[5] > 1, ctypes.byref(shape), *found, torch.get_num_threads())
