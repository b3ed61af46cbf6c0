"""The native attention's door: who may pass, and how tensors become pointers."""

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from harness import native

LANES, BAND = 16, 24  # at most so many numbers in a vector; rows that share a scratch


class _Shape(ctypes.Structure):
    """As in ``_attend.c``."""

    _fields_ = (
        *((name, ctypes.c_long) for name in ("batch", "kv_heads", "group", "q_len", "dim", "block", "most")),
        *((name, ctypes.c_long) for name in ("head_stride", "block_stride", "window", "width", "rows", "longest")),
        ("scale", ctypes.c_float),
    )


@cache
def _functions() -> dict[torch.dtype, Any]:
    """Return the kernel for each dtype of the pools; none where it cannot be built."""
    library = native.library("kvcache", "_attend")
    if library is None:
        return {}
    found = {torch.float32: library.attend_f32, torch.bfloat16: library.attend_bf16}
    for function in found.values():
        function.argtypes = [ctypes.c_void_p] * 7 + [ctypes.POINTER(_Shape), ctypes.c_int]
        function.restype = None
    return found


def suits(k_pool: Tensor, v_pool: Tensor) -> bool:
    """Tell whether the kernel is there and takes these pools, each (kv_heads, blocks, block_size, head_dim).

    Or keys and values in one piece, (batch, kv_heads, kv_len, head_dim), for ``attend_together``.
    """
    return (
        k_pool.device.type == "cpu"
        and k_pool.shape[3] % LANES == 0
        and k_pool.stride() == v_pool.stride()
        and k_pool.stride()[2:] == (k_pool.shape[3], 1)
        and k_pool.dtype in _functions()
    )


def attend(
    q: Tensor, k_pool: Tensor, v_pool: Tensor, block_tables: Tensor, lengths: Tensor, longest: int, window: int = 0
) -> Tensor:
    """Attend from the last q_len of ``lengths`` positions of each request, nothing checked.

    ``q`` is (batch, heads, q_len, head_dim), the pools (kv_heads, blocks, block_size, head_dim) of the same dtype such
    that ``suits``, ``block_tables`` (batch, most) int64, ``lengths`` (batch,) int64, none above ``longest``; with
    ``window`` a query sees only that many positions, itself among them. Returns the shape of ``q``. A row's result is
    the same bits for any block table, block size, batch and q_len.
    """
    strides = k_pool.stride(0), k_pool.stride(1)
    tables, lengths = block_tables.contiguous(), lengths.contiguous()  # alive until the kernel is done with them
    sizes = k_pool.shape[0], k_pool.shape[2], tables.shape[1]
    return _call(q, k_pool, v_pool, sizes, strides, longest, window, tables.data_ptr(), lengths.data_ptr())


def attend_together(q: Tensor, k: Tensor, v: Tensor, window: int = 0) -> Tensor:
    """Attend from the last q_len positions to keys in one piece such that ``suits``, nothing checked.

    ``q`` is (batch, heads, q_len, head_dim), ``k`` and ``v`` (batch, kv_heads, kv_len, head_dim).
    """
    stride, head_stride, _, _ = k.stride()
    return _call(q, k, v, (k.shape[1], k.shape[2], 1), (head_stride, stride), k.shape[2], window)


def _call(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    sizes: tuple[int, int, int],
    strides: tuple[int, int],
    longest: int,
    window: int,
    tables: int | None = None,
    lengths: int | None = None,
) -> Tensor:
    """Call the kernel; ``sizes`` are kv_heads, block_size and most, ``strides`` those of a head and of a block.

    A step over few keys takes little longer than what is done here: tensors that are not needed are not made.
    """
    batch, heads, q_len, dim = q.shape
    kv_heads, block, most = sizes
    group, width, threads = heads // kv_heads, longest + 2 * LANES, torch.get_num_threads()
    rows = min(BAND, group * q_len)
    counts = batch, kv_heads, group, q_len, dim, block, most
    shape = _Shape(*counts, *strides, window, width, rows, longest, dim**-0.5)
    q = q.contiguous()
    out, scratch = torch.empty_like(q), torch.empty(threads * (rows * (width + 2 * dim) + dim * LANES))
    pointers = q.data_ptr(), keys.data_ptr(), values.data_ptr(), tables, lengths, out.data_ptr(), scratch.data_ptr()
    _functions()[keys.dtype](*pointers, ctypes.byref(shape), threads)
    return out
