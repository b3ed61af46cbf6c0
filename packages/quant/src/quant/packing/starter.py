"""Your turn: replace each ``raise NotImplementedError``."""

import torch
from torch import Tensor


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack codes of 2, 4 or 8 bits, several to a byte, the first in the lowest bits.

    ``codes`` is (rows, cols) int8 between ``-2**(bits - 1)`` and ``2**(bits - 1) - 1``. Returns uint8 of shape (rows,
    ceil(cols * bits / 8)). Raises ValueError for other bits, codes out of range, or not two dimensions, TypeError for
    another dtype.
    """
    raise NotImplementedError("TODO 1 (core, about 7 lines): shift the codes of each byte into place and join them")


def unpack(packed: Tensor, bits: int, cols: int) -> Tensor:
    """Undo ``pack``: int8 of shape (rows, cols), the sign restored.

    Raises ValueError where ``packed`` is not as wide as ``cols`` codes need, or for other bits, TypeError unless it
    is uint8.
    """
    raise NotImplementedError("TODO 2 (core, about 6 lines): shift each code out, restore its sign, cut the padding")


def bits_per_weight(
    rows: int, cols: int, bits: int, group: int, scale_bits: int = 16, zero_point_bits: int = 0
) -> float:
    """Return the bits that each weight of a packed (rows, cols) matrix costs.

    Rows are packed apart and padded to whole bytes; each group of ``group`` columns of a row (the last may be
    shorter) has a scale of ``scale_bits`` and a zero point of ``zero_point_bits``. Raises ValueError for bits outside
    2 to 8 and for sizes, a group or widths that make no sense.
    """
    raise NotImplementedError(
        "TODO 3 (core, about 5 lines): bits of codes, padding, scales and zero points, per weight"
    )


def pack_dense(codes: Tensor, bits: int) -> Tensor:
    """Pack codes of 2 to 8 bits without a gap: code i of a row takes its bits ``i * bits`` to ``(i + 1) * bits - 1``.

    Bit b of a row is bit ``b % 8`` of byte ``b // 8``, so for 2, 4 and 8 bits the result is that of ``pack``. Shapes
    and errors as there.
    """
    raise NotImplementedError("TODO 4 (stretch, about 8 lines): a row as a string of bits, eight to a byte")


def unpack_dense(packed: Tensor, bits: int, cols: int) -> Tensor:
    """Undo ``pack_dense``; shapes and errors as in ``unpack``."""
    raise NotImplementedError("TODO 4 (stretch, about 8 lines): the bits of each code, its sign restored")
