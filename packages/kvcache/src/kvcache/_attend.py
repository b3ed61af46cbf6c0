"""The native attention's door: who may pass, and how tensors become pointers."""

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from kvcache import _native

LANES, BAND = 16, 24  # at most so many numbers in a vector; rows that share a scratch


class _Shape(ctypes.Structure):
    """As in ``_attend.c``."""

    _fields_ = (
        *((name, ctypes.c_long) for name in ("batch", "kv_heads", "group", "q_len", "dim", "block", "most")),
        *((name, ctypes.c_long) for name in ("head_stride", "block_stride", "window", "width", "rows")),
        ("scale", ctypes.c_float),
    )


@cache
def _functions() -> dict[torch.dtype, Any]:
    """Return the kernel for each dtype of the pools; none where it cannot be built."""
    library = _native.library("kvcache", "_attend")
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

    ``q`` is (batch, heads, q_len, head_dim), the pools (kv_heads, blocks, block_size, head_dim) such that ``suits``,
    ``block_tables`` (batch, most) int64, ``lengths`` (batch,) int64, none above ``longest``; with ``window`` a query
    sees only that many positions, itself among them. Returns the shape of ``q``. A row's result is the same bits for
    any block table, block size, batch and q_len.
    """
    batch, heads, q_len, dim = q.shape
    kv_heads, _, block, _ = k_pool.shape
    width, threads = longest + 2 * LANES, torch.get_num_threads()
    sizes = batch, kv_heads, heads // kv_heads, q_len, dim, block, block_tables.shape[1]
    rows = min(BAND, heads // kv_heads * q_len)
    shape = _Shape(*sizes, k_pool.stride(0), k_pool.stride(1), window, width, rows, dim**-0.5)
    queries = q.float().contiguous()
    out, scratch = torch.empty_like(queries), torch.empty(threads, rows * (width + dim) + dim * LANES)
    tensors = queries, k_pool, v_pool, block_tables.contiguous(), lengths.contiguous(), out, scratch
    # The list keeps the tensors alive until the kernel is done with their memory.
    _functions()[k_pool.dtype](*[t.data_ptr() for t in tensors], ctypes.byref(shape), threads)
    return out.to(q.dtype)


def attend_together(q: Tensor, k: Tensor, v: Tensor, window: int = 0) -> Tensor:
    """Attend from the last q_len positions to keys in one piece such that ``suits``, nothing checked.

    ``q`` is (batch, heads, q_len, head_dim), ``k`` and ``v`` (batch, kv_heads, kv_len, head_dim).
    """
    batch, _, kv_len, _ = k.shape
    lengths = torch.full((batch,), kv_len)
    return attend(q, k.transpose(0, 1), v.transpose(0, 1), _own_block(batch), lengths, kv_len, window)


@cache
def _own_block(batch: int) -> Tensor:
    """Return block tables in which a row is one block; made once, as a step makes few tensors."""
    return torch.arange(batch)[:, None]
