"""Your turn: replace each ``raise NotImplementedError``."""

import torch
from torch import Tensor

from quant.affine import MXFP4, Granularity, QParams


def choose_qparams(
    x: Tensor,
    bits: int = 8,
    symmetric: bool = True,  # noqa: FBT001, FBT002
    granularity: Granularity = "channel",
) -> QParams:
    """Choose the scale and zero point of each slice of a matrix from its smallest and largest value.

    ``x`` is (rows, cols), float. With ``symmetric`` the zero point is 0 and the largest magnitude becomes the code
    ``2**(bits - 1) - 1``; otherwise the slice's range, stretched to hold 0, becomes all ``2**bits`` codes. A slice of
    zeros has scale 1, and no scale is 0, however small the numbers. Raises ValueError for bits outside 2 to 8, a
    granularity that is not "tensor", "channel" or a positive int, an empty or not two-dimensional ``x``, NaN or inf,
    and TypeError for integers. Source: Jacob et al. 2018, section 3.
    """
    raise NotImplementedError("TODO 1 (core, about 14 lines): scale and zero point of each slice")


def quantize(x: Tensor, qparams: QParams) -> Tensor:
    """Map real numbers to the nearest code, int8 (rows, cols); what lies outside the range becomes its nearest end.

    ``x`` is (rows, cols), float, of the shape that ``qparams`` were chosen for. Raises ValueError for another shape,
    NaN or inf, and TypeError for integers. Source: Jacob et al. 2018, eq. 12.
    """
    raise NotImplementedError("TODO 2 (core, about 5 lines): divide, round, shift and clamp")


def dequantize(codes: Tensor, qparams: QParams) -> Tensor:
    """Map codes back to real numbers, ``scale * (code - zero_point)``, float32 (rows, cols).

    ``codes`` is (rows, cols) int8. Raises ValueError where its shape does not fit ``qparams``. Source: Jacob et al.
    2018, eq. 1.
    """
    raise NotImplementedError("TODO 3 (core, about 3 lines): the affine map back")


def round_e4m3(x: Tensor) -> Tensor:
    """Round to the nearest FP8 E4M3 number, ties to even, float32 of the shape of ``x``.

    The format has 4 exponent bits (bias 7), 3 mantissa bits, subnormals in steps of 2**-9 and no infinity; what is
    larger than 448 becomes 448. Raises TypeError for integers and ValueError for NaN or inf. Source: Micikevicius et
    al. 2022, arXiv:2209.05433, table 1.
    """
    raise NotImplementedError("TODO 4 (stretch, about 6 lines): the step of each number's binade")


def quantize_mxfp4(x: Tensor) -> MXFP4:
    """Quantize blocks of 32 columns to E2M1 numbers (0, 0.5, 1, 1.5, 2, 3, 4, 6) with a power of two for each block.

    The exponent of a block is ``floor(log2(largest magnitude)) - 2``; what then lies beyond 6 becomes 6. ``x`` is
    (rows, cols), float. Raises ValueError unless cols is a multiple of 32, for an empty ``x``, NaN or inf, and
    TypeError for integers. Source: OCP Microscaling Formats (MX) v1.0, sections 5.3 and 6.3.
    """
    raise NotImplementedError("TODO 5 (stretch, about 8 lines): block exponents, then E2M1 codes")


def dequantize_mxfp4(mx: MXFP4) -> Tensor:
    """Return the numbers that the codes stand for, float32 (rows, cols)."""
    raise NotImplementedError("TODO 5 (stretch, about 3 lines): look the codes up, scale the blocks")
