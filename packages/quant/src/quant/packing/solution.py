"""The production answer: shifts of whole tensors, of bytes where a width divides them and else of words of eight."""

import torch
from torch import Tensor
from torch.nn import functional as F

WIDTHS = (2, 4, 8)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack codes of 2, 4 or 8 bits, several to a byte, the first in the lowest bits.

    ``codes`` is (rows, cols) int8 between ``-2**(bits - 1)`` and ``2**(bits - 1) - 1``. Returns uint8 of shape (rows,
    ceil(cols * bits / 8)). Raises ValueError for other bits, codes out of range, or not two dimensions, TypeError for
    another dtype.
    """
    _refuse_width(bits, WIDTHS)
    _refuse_codes(codes, bits)
    each = 8 // bits
    padded = F.pad(codes, (0, -codes.shape[1] % each)).view(torch.uint8)
    packed = padded[:, each - 1 :: each].clone()
    for place in reversed(range(each - 1)):  # from the highest code down; the shift drops what the byte has no room for
        packed.bitwise_left_shift_(bits).bitwise_or_(padded[:, place::each] & ((1 << bits) - 1))
    return packed


def unpack(packed: Tensor, bits: int, cols: int) -> Tensor:
    """Undo ``pack``: int8 of shape (rows, cols), the sign restored.

    Raises ValueError where ``packed`` is not as wide as ``cols`` codes need, or for other bits, TypeError unless it
    is uint8.
    """
    _refuse_width(bits, WIDTHS)
    _refuse_packed(packed, bits, cols)
    each = 8 // bits
    signed = packed.view(torch.int8)
    codes = torch.empty(*packed.shape, each, dtype=torch.int8, device=packed.device)  # (rows, bytes, each)
    for place in range(each):
        # Up to the sign bit and back: the shift to the right is arithmetic and brings the sign along.
        torch.bitwise_right_shift(signed << (8 - bits - place * bits), 8 - bits, out=codes[..., place])
    return codes.flatten(1)[:, :cols]


def bits_per_weight(
    rows: int, cols: int, bits: int, group: int, scale_bits: int = 16, zero_point_bits: int = 0
) -> float:
    """Return the bits that each weight of a packed (rows, cols) matrix costs.

    Rows are packed apart and padded to whole bytes; each group of ``group`` columns of a row (the last may be
    shorter) has a scale of ``scale_bits`` and a zero point of ``zero_point_bits``. Raises ValueError for bits outside
    2 to 8 and for sizes, a group or widths that make no sense.
    """
    _refuse_width(bits, tuple(range(2, 9)))
    if min(rows, cols, group) < 1 or min(scale_bits, zero_point_bits) < 0:
        msg = (
            f"rows, cols and group are {rows}, {cols}, {group}, scale_bits and zero_point_bits {scale_bits}, "
            f"{zero_point_bits}: the first three must be positive, the others not negative"
        )
        raise ValueError(msg)
    groups = -(-cols // group)
    return (8 * _bytes(bits, cols) + groups * (scale_bits + zero_point_bits)) / cols


def pack_dense(codes: Tensor, bits: int) -> Tensor:
    """Pack codes of 2 to 8 bits without a gap: code i of a row takes its bits ``i * bits`` to ``(i + 1) * bits - 1``.

    Bit b of a row is bit ``b % 8`` of byte ``b // 8``, so for 2, 4 and 8 bits the result is that of ``pack``. Shapes
    and errors as there.
    """
    _refuse_width(bits, tuple(range(2, 9)))
    _refuse_codes(codes, bits)
    cols = codes.shape[1]
    if not codes.numel():  # such tensors have no strides to look at them as words
        return codes.new_empty(len(codes), _bytes(bits, cols), dtype=torch.uint8)
    # Eight codes, a word of 64 bits as they lie in memory, fill ``bits`` bytes exactly.
    flat = F.pad(codes, (0, -cols % 8)).reshape(-1).view(torch.int64)  # strides of one row may be anything
    words = flat.view(len(codes), -1) & _fields(bits, 8)  # (rows, blocks)
    for lane in (8, 16, 32):  # of two lanes the upper one's codes move down to the lower one's
        held = lane * bits // 8
        upper = (words >> (lane - held)).bitwise_and_(_fields(held, 2 * lane, held))
        words.bitwise_and_(_fields(held, 2 * lane)).bitwise_or_(upper)
    packed: Tensor = words.view(torch.uint8).unflatten(1, (-1, 8))[..., :bits]  # (rows, blocks, bits)
    return packed.flatten(1)[:, : _bytes(bits, cols)].contiguous()


def unpack_dense(packed: Tensor, bits: int, cols: int) -> Tensor:
    """Undo ``pack_dense``; shapes and errors as in ``unpack``."""
    _refuse_width(bits, tuple(range(2, 9)))
    _refuse_packed(packed, bits, cols)
    if not packed.numel():
        return packed.new_empty(len(packed), cols, dtype=torch.int8)
    words = F.pad(F.pad(packed, (0, -packed.shape[1] % bits)).unflatten(1, (-1, bits)), (0, 8 - bits))
    words = words.flatten(1).contiguous().view(torch.int64)  # (rows, blocks)
    for lane in (32, 16, 8):
        held = lane * bits // 8
        upper = (words << (lane - held)).bitwise_and_(_fields(held, 2 * lane, lane))
        words.bitwise_and_(_fields(held, 2 * lane)).bitwise_or_(upper)
    sign = 1 << (bits - 1) if bits < 8 else 0  # noqa: PLR2004 - turning the sign bit and taking it off extends it
    codes: Tensor = words.view(torch.int8)  # (rows, 8 * blocks)
    return codes.bitwise_xor_(sign).sub_(sign)[:, :cols]


def _fields(width: int, lane: int, start: int = 0) -> int:
    """Return the int64 whose lanes of ``lane`` bits each have ``width`` bits set, from bit ``start`` on."""
    found = sum(((1 << width) - 1) << at for at in range(start, 64, lane))
    return found - (1 << 64) if found >> 63 else found


def _bytes(bits: int, cols: int) -> int:
    return -(-cols * bits // 8)


def _refuse_width(bits: int, known: tuple[int, ...]) -> None:
    if bits not in known:
        msg = f"bits is {bits}, must be one of {', '.join(map(str, known))}"
        raise ValueError(msg)


def _refuse_codes(codes: Tensor, bits: int) -> None:
    if codes.dtype != torch.int8:
        msg = f"codes are {codes.dtype}, must be int8"
        raise TypeError(msg)
    if codes.ndim != 2:  # noqa: PLR2004
        msg = f"codes have shape {tuple(codes.shape)}, must be (rows, cols)"
        raise ValueError(msg)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    if bits < 8 and codes.numel() and (codes.min() < low or codes.max() > high):  # noqa: PLR2004
        found = codes.min().item(), codes.max().item()
        msg = f"codes lie between {found[0]} and {found[1]}, {bits} bits hold {low} to {high}"
        raise ValueError(msg)


def _refuse_packed(packed: Tensor, bits: int, cols: int) -> None:
    if packed.dtype != torch.uint8:
        msg = f"packed is {packed.dtype}, must be uint8"
        raise TypeError(msg)
    if packed.ndim != 2 or cols < 0 or packed.shape[1] != _bytes(bits, cols):  # noqa: PLR2004
        msg = f"packed has shape {tuple(packed.shape)}, {cols} codes of {bits} bits take (rows, {_bytes(bits, cols)})"
        raise ValueError(msg)
