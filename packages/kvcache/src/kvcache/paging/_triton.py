"""The kernels for GPUs, in Triton: they read keys and values through the block table, where they lie.

One program attends from the query heads that share a key head to SPAN positions of one request; a second kernel joins
the spans. Which positions are summed together, and in which order, follows from their numbers alone: where the blocks
lie, how large they are and which requests are beside it changes no bit of a result.

What is tested is the arithmetic, in Triton's interpreter, and that all variants compile for sm_80 and sm_90. The sizes
of tiles are a guess: nothing here was timed on a GPU.
"""
# A kernel's arguments have Triton's types, and its constants their customary capitals:
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: ANN001, ANN202, N803

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

DTYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
SPAN, TILE, JOINED = 256, 32, 16  # positions of a program and of its steps, spans of a step of the second kernel
WIDEST = 256  # channels of a head that fit the registers


@triton.jit
def attend_spans(
    q, k_pool, v_pool, block_tables, lengths, sums, peaks, totals, most, spans, dim, group, size, scale,
    k_head, k_block, k_slot, v_head, v_block, v_slot,
    GROUP: tl.constexpr, DIM: tl.constexpr, SPAN: tl.constexpr, TILE: tl.constexpr, OPERAND: tl.constexpr,
):  # fmt: skip
    """Attend to one span: the largest score, in powers of two, the sum of the weights, and of the weighted values."""
    span, kv_head, row = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    length, first = tl.load(lengths + row).to(tl.int32), span * SPAN
    if first >= length:
        return
    member, channel = tl.arange(0, GROUP), tl.arange(0, DIM)
    head = (row * tl.num_programs(1) + kv_head).to(tl.int64) * group + member  # of all requests
    real = (member < group)[:, None] & (channel < dim)[None, :]
    query = tl.load(q + head[:, None] * dim + channel[None, :], mask=real, other=0.0).to(OPERAND)  # (group, dim)
    peak = tl.full((GROUP,), float("-inf"), tl.float32)
    total, weighted = tl.zeros((GROUP,), tl.float32), tl.zeros((GROUP, DIM), tl.float32)
    for start in range(first, tl.minimum(first + SPAN, length), TILE):
        position = start + tl.arange(0, TILE)
        there = position < length
        block = tl.load(block_tables + row.to(tl.int64) * most + position // size, mask=there, other=0)
        at, mask = position % size, there[:, None] & (channel < dim)[None, :]
        key_at = kv_head.to(tl.int64) * k_head + block * k_block + at * k_slot
        value_at = kv_head.to(tl.int64) * v_head + block * v_block + at * v_slot
        key = tl.load(k_pool + key_at[:, None] + channel[None, :], mask=mask, other=0.0).to(OPERAND)  # (tile, dim)
        value = tl.load(v_pool + value_at[:, None] + channel[None, :], mask=mask, other=0.0).to(OPERAND)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale  # (group, tile)
        scores = tl.where(there[None, :], scores, float("-inf"))
        higher = tl.maximum(peak, tl.max(scores, 1))
        shrink, weights = tl.exp2(peak - higher), tl.exp2(scores - higher[:, None])
        total = total * shrink + tl.sum(weights, 1)
        weighted = weighted * shrink[:, None] + tl.dot(weights.to(OPERAND), value, input_precision="ieee")
        peak = higher
    where = head * spans + span
    tl.store(peaks + where, peak, mask=member < group)
    tl.store(totals + where, total, mask=member < group)
    tl.store(sums + where[:, None] * dim + channel[None, :], weighted, mask=real)


@triton.jit
def join_spans(
    lengths, sums, peaks, totals, out, heads, spans, dim,
    DIM: tl.constexpr, SPAN: tl.constexpr, JOINED: tl.constexpr,
):  # fmt: skip
    """Bring the spans of one head of one request to the same largest score and add them."""
    row, channel = tl.program_id(1), tl.arange(0, DIM)
    head = row.to(tl.int64) * heads + tl.program_id(0)
    length = tl.load(lengths + row).to(tl.int32)
    peak, total, weighted = float("-inf"), 0.0, tl.zeros((DIM,), tl.float32)
    for start in range(0, (length + SPAN - 1) // SPAN, JOINED):
        span = start + tl.arange(0, JOINED)
        there, at = span * SPAN < length, head * spans + span
        found = tl.load(peaks + at, mask=there, other=float("-inf"))
        higher = tl.maximum(peak, tl.max(found, 0))
        shrink, factor = tl.exp2(peak - higher), tl.exp2(found - higher)
        total = total * shrink + tl.sum(tl.load(totals + at, mask=there, other=0.0) * factor, 0)
        mask = there[:, None] & (channel < dim)[None, :]
        part = tl.load(sums + at[:, None] * dim + channel[None, :], mask=mask, other=0.0)  # (spans, dim)
        weighted = weighted * shrink + tl.sum(part * factor[:, None], 0)
        peak = higher
    found = weighted / tl.where(length > 0, total, 1.0)  # zeros for a request without keys
    tl.store(out + head * dim + channel, found.to(out.dtype.element_ty), mask=channel < dim)


def suits(k_pool: Tensor, v_pool: Tensor) -> bool:
    """Tell whether the kernels take these pools, each (kv_heads, blocks, block_size, head_dim)."""
    narrow = k_pool.shape[3] <= WIDEST and k_pool.stride(3) == v_pool.stride(3) == 1
    return narrow and k_pool.dtype in DTYPES


def plan(dtype: torch.dtype, group: int, dim: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Choose the constants of both kernels; the tensor cores take 16 rows and channels at least."""
    wide = max(16, triton.next_power_of_2(dim))
    # The interpreter multiplies arrays of numpy, which has no bfloat16.
    operand = tl.float32 if triton.knobs.runtime.interpret else DTYPES[dtype]
    first = {"GROUP": max(16, triton.next_power_of_2(group)), "DIM": wide, "SPAN": SPAN, "TILE": TILE}
    return first | {"OPERAND": operand, "num_warps": 4}, {"DIM": wide, "SPAN": SPAN, "JOINED": JOINED, "num_warps": 4}


def attend(q: Tensor, k_pool: Tensor, v_pool: Tensor, block_tables: Tensor, lengths: Tensor) -> Tensor:
    """Attend from one query for each request, nothing checked; shapes as in ``paged_attention``, pools that ``suits``.

    Scores and sums are float32; in 16 bits the weights are rounded to the dtype of the values they multiply.
    """
    (batch, heads, dim), (kv_heads, _, size, _) = q.shape, k_pool.shape
    q, block_tables, lengths = q.detach().contiguous(), block_tables.contiguous(), lengths.contiguous()
    spans = max(1, triton.cdiv(int(lengths.max()), SPAN))
    out, sums = torch.empty_like(q), q.new_empty(batch, heads, spans, dim, dtype=torch.float32)
    peaks, totals = (q.new_empty(batch, heads, spans, dtype=torch.float32) for _ in range(2))
    first, second = plan(q.dtype, heads // kv_heads, dim)
    sizes = block_tables.shape[1], spans, dim, heads // kv_heads, size, dim**-0.5 * math.log2(math.e)
    strides = *k_pool.stride()[:3], *v_pool.stride()[:3]
    tensors = q, k_pool, v_pool, block_tables, lengths, sums, peaks, totals
    with torch.cuda.device_of(q):
        attend_spans[spans, kv_heads, batch](*tensors, *sizes, *strides, **first)
        join_spans[heads, batch](lengths, sums, peaks, totals, out, heads, spans, dim, **second)
    return out
