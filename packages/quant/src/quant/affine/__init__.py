"""Affine quantization: real numbers as small integers, a scale and a zero point.

A layer's weight takes four bytes a number; an int8 code takes one. Find for each slice of a matrix the affine map ``x
~ scale * (code - zero_point)`` that loses least, and map there and back. A slice is the whole matrix, one row (an
output channel), or a group of consecutive columns of a row: the smaller the slice, the less one outlier costs the
rest.

What you write:

- ``choose_qparams``: the scale and zero point of each slice. Symmetric maps have zero point 0 and spend the codes
  evenly on both signs; asymmetric ones cover exactly the slice's range. Zero is always a code: padding and ReLU make
  it frequent, and an error there would be a bias.
- ``quantize`` and ``dequantize``: there and back.
- stretch: ``round_e4m3``, the eight-bit float of Hopper's tensor cores, and ``quantize_mxfp4`` and
  ``dequantize_mxfp4``, four-bit floats in blocks of 32 that share a power of two.

Codes of ``bits`` bits lie between ``-2**(bits - 1)`` and ``2**(bits - 1) - 1`` and are kept one in an int8.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Granularity = Literal["tensor", "channel"] | int
"""One slice for the whole matrix, one for each row, or one for each ``int`` columns of a row (the last may be
shorter)."""


@dataclass(frozen=True, slots=True)
class QParams:
    """The affine maps of a matrix's slices: ``x ~ scale * (code - zero_point)``.

    ``scale`` is float32 and ``zero_point`` int32, both (rows, groups), or (1, 1) for one slice. ``group`` is the
    number of columns that share a map, ``bits`` the width of a code.
    """

    scale: Tensor
    zero_point: Tensor
    group: int
    bits: int

    @property
    def lowest(self) -> int:
        """The smallest code."""
        return -(1 << (self.bits - 1))

    @property
    def highest(self) -> int:
        """The largest code."""
        return (1 << (self.bits - 1)) - 1


@dataclass(frozen=True, slots=True)
class MXFP4:
    """Microscaling FP4: ``codes`` (rows, cols) uint8, one E2M1 number in the low four bits of each (the sign is bit 3).

    ``exponents`` is (rows, cols / 32) uint8, E8M0: a block of 32 columns is multiplied by ``2**(exponent - 127)``.
    """

    codes: Tensor
    exponents: Tensor
