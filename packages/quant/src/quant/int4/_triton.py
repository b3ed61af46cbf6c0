"""The kernels for GPUs, in Triton: they read the layer's own buffers, so that no weight is kept twice.

Columns are taken in pieces, the longest power of two that divides the group: a piece has one scale and one zero point.
A few rows are multiplied in float32, where reading the weights is the work; more go through the tensor cores as
products with ``code - zero_point``, whole numbers that every dtype holds exactly, and the scale is applied to the sum.

What is tested is the arithmetic, in Triton's interpreter, and that all variants compile for sm_80 and sm_90. Sizes of
tiles and limits below come from counting bytes and operations: nothing here was timed on a GPU.
"""
# A kernel's arguments have Triton's types, and its constants their customary capitals:
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: ANN001, ANN202, N803

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

DTYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
FEW = 4  # rows up to which each weight is unpacked to float32 and multiplied without tensor cores
NARROWEST = 16  # columns of a piece that the tensor cores take
# To unpack a whole weight torch moves some 25 bytes for each element, 7.5 ps at 3.35 TB/s; its float32 product is
# quicker after that, 2 operations at perhaps 50 TFLOP/s against 15 here, 0.1 ps a row. That makes 75 rows even. In 16
# bits there are tensor cores here and none there.
MOST = {torch.float32: 64}


@triton.jit
def few_rows(
    x, packed, scale, zero_point, bias, y, rows, outputs, inputs, groups, width,
    GROUP: tl.constexpr, PIECE: tl.constexpr, PIECES: tl.constexpr, ROWS: tl.constexpr, OUTPUTS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """Multiply ROWS rows by OUTPUTS outputs, PIECES pieces of columns at a time, summed in float32."""
    m = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    n = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    whose, row = m[:, None, None] < rows, m.to(tl.int64)[:, None, None] * inputs
    output, weight_row = n[:, None, None] < outputs, n.to(tl.int64)[:, None, None] * width
    sums = tl.zeros((ROWS, OUTPUTS, PIECES, PIECE // 2), tl.float32)
    for first in range(0, inputs, PIECES * PIECE):
        start = first + tl.arange(0, PIECES) * PIECE  # (pieces,)
        column = start[None, :, None] + tl.arange(0, PIECE)[None, None, :]  # (1, pieces, piece)
        value = tl.load(x + row + column, mask=whose & (column < inputs), other=0.0).to(tl.float32)
        even, odd = tl.split(tl.reshape(value, (ROWS, PIECES, PIECE // 2, 2)))  # (rows, pieces, piece / 2)
        byte = (start // 2)[None, :, None] + tl.arange(0, PIECE // 2)[None, None, :]
        both = tl.load(packed + weight_row + byte, mask=output & (byte < width), other=0)  # (outputs, pieces, piece/2)
        low, high = _codes(both)
        group = n.to(tl.int64)[:, None] * groups + (start // GROUP)[None, :]
        there = (n[:, None] < outputs) & (start[None, :] < inputs)
        step = tl.load(scale + group, mask=there, other=0.0).to(tl.float32)  # (outputs, pieces)
        zero = step * tl.load(zero_point + group, mask=there, other=0).to(tl.float32)
        step, zero = step[:, :, None], zero[:, :, None]
        # Both products have at most 16 significant bits: the difference is the dequantized weight, exactly.
        sums += (low.to(tl.float32) * step - zero)[None] * even[:, None]
        sums += (high.to(tl.float32) * step - zero)[None] * odd[:, None]
    total = tl.sum(tl.reshape(sums, (ROWS, OUTPUTS, PIECES * (PIECE // 2))), 2)
    _store(total, bias, y, m, n, rows, outputs, HAS_BIAS)


@triton.jit
def many_rows(
    x, packed, scale, zero_point, bias, y, rows, outputs, inputs, groups, width,
    GROUP: tl.constexpr, PIECE: tl.constexpr, ROWS: tl.constexpr, OUTPUTS: tl.constexpr, HAS_BIAS: tl.constexpr,
    OPERAND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Multiply ROWS rows by OUTPUTS outputs with tensor cores, one piece of columns at a time, summed in float32."""
    m = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    n = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    x_rows = x + m.to(tl.int64)[:, None] * inputs
    weight_rows = packed + n.to(tl.int64)[:, None] * width
    sums = tl.zeros((ROWS, OUTPUTS), tl.float32)
    for start in range(0, inputs, PIECE):
        column = start + tl.arange(0, PIECE)[None, :]
        value = tl.load(x_rows + column, mask=(m[:, None] < rows) & (column < inputs), other=0.0)
        byte = start // 2 + tl.arange(0, PIECE // 2)[None, :]
        both = tl.load(weight_rows + byte, mask=(n[:, None] < outputs) & (byte < width), other=0)
        low, high = _codes(both)
        group = n.to(tl.int64) * groups + start // GROUP
        step = tl.load(scale + group, mask=n < outputs, other=0.0).to(tl.float32)
        zero = tl.load(zero_point + group, mask=n < outputs, other=0).to(tl.int32)
        whole = (tl.interleave(low, high) - zero[:, None]).to(tl.float32).to(OPERAND)  # (outputs, piece)
        sums += tl.dot(value.to(OPERAND), tl.trans(whole), input_precision=PRECISION) * step[None, :]
    _store(sums, bias, y, m, n, rows, outputs, HAS_BIAS)


@triton.jit
def _codes(both):
    """Return the codes of the lower and the upper half of bytes: shifted up to the sign bit and back."""
    wide = both.to(tl.int32)
    return (wide << 28) >> 28, (wide << 24) >> 28


@triton.jit
def _store(sums, bias, y, m, n, rows, outputs, HAS_BIAS: tl.constexpr):
    """Add the bias and write (rows, outputs) in the dtype of ``y``."""
    if HAS_BIAS:
        sums += tl.load(bias + n, mask=n < outputs, other=0.0).to(tl.float32)[None, :]
    where = m.to(tl.int64)[:, None] * outputs + n[None, :]
    tl.store(y + where, sums.to(y.dtype.element_ty), mask=(m[:, None] < rows) & (n[None, :] < outputs))


def piece(group: int) -> int:
    """Return the longest power of two, up to 64, that divides the group."""
    return min(64, group & -group)


def suits(dtype: torch.dtype, rows: int, group: int) -> bool:
    """Tell whether a kernel is there for so many rows, and likely to be quicker than torch with the whole weight."""
    if piece(group) < 2 or dtype not in DTYPES:  # noqa: PLR2004 - in odd groups a byte belongs to two
        return False
    return 0 < rows <= (MOST.get(dtype, rows) if piece(group) >= NARROWEST else FEW * FEW)


def plan(dtype: torch.dtype, rows: int, inputs: int, group: int, *, has_bias: bool) -> tuple[Any, dict[str, Any]]:
    """Choose the kernel, and its constants, for a product that ``suits``."""
    each = piece(group)
    constants: dict[str, Any] = {"GROUP": group, "PIECE": each, "HAS_BIAS": has_bias}
    if rows <= FEW or each < NARROWEST:
        # 16 bytes of codes for each of 32 threads are 1024 columns.
        pieces = triton.next_power_of_2(triton.cdiv(min(inputs, 1024), each))
        constants |= {"PIECES": pieces, "ROWS": min(FEW, triton.next_power_of_2(rows)), "OUTPUTS": 4, "num_warps": 4}
        return few_rows, constants
    # The interpreter multiplies arrays of numpy, which has no bfloat16.
    operand = tl.float32 if triton.knobs.runtime.interpret else DTYPES[dtype]
    precision = "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"
    most = 32 if dtype is torch.float32 else 64  # without tensor cores a tile of 64 by 64 does not fit the registers
    tall = min(most, max(16, triton.next_power_of_2(rows)))
    constants |= {"PIECE": min(most, each), "ROWS": tall, "OUTPUTS": 32 if tall == 16 else most}  # noqa: PLR2004
    return many_rows, constants | {"OPERAND": operand, "PRECISION": precision, "num_warps": 4, "num_stages": 4}


def product(x: Tensor, packed: Tensor, scale: Tensor, zero_point: Tensor, bias: Tensor | None, group: int) -> Tensor:
    """Multiply (..., in) by the weight of an ``Int4Linear``, nothing checked; (..., out) in the dtype of ``x``.

    The other arguments are the layer's. The product has to be one that ``suits``.
    """
    inputs, outputs = x.shape[-1], len(packed)
    flat = x.detach().reshape(-1, inputs).contiguous()
    rows, y = len(flat), x.new_empty(*x.shape[:-1], outputs)
    kernel, constants = plan(x.dtype, rows, inputs, group, has_bias=bias is not None)
    buffers = [t.contiguous() for t in (packed, scale, zero_point, packed if bias is None else bias.detach())]
    grid = triton.cdiv(outputs, constants["OUTPUTS"]), triton.cdiv(rows, constants["ROWS"])
    sizes = rows, outputs, inputs, scale.shape[1], packed.shape[1]
    with torch.cuda.device_of(flat):
        kernel[grid](flat, *buffers, y, *sizes, **constants)
    return y
