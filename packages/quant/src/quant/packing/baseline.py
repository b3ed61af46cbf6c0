"""The simple answer: one position in the byte after the other."""

import torch
from torch import Tensor
from torch.nn import functional as F


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack codes of 2, 4 or 8 bits, several to a byte, the first in the lowest bits."""
    each = 8 // bits
    padded = F.pad(codes, (0, -codes.shape[1] % each))
    packed = torch.zeros(codes.shape[0], padded.shape[1] // each, dtype=torch.uint8, device=codes.device)
    for place in range(each):
        packed |= ((padded[:, place::each].int() & (2**bits - 1)) << (place * bits)).to(torch.uint8)
    return packed


def unpack(packed: Tensor, bits: int, cols: int) -> Tensor:
    """Undo ``pack``."""
    each = 8 // bits
    codes = torch.zeros(packed.shape[0], packed.shape[1] * each, dtype=torch.int8, device=packed.device)
    for place in range(each):
        code = (packed.int() >> (place * bits)) & (2**bits - 1)
        codes[:, place::each] = torch.where(code >= 2 ** (bits - 1), code - 2**bits, code).to(torch.int8)
    return codes[:, :cols]


def bits_per_weight(
    rows: int, cols: int, bits: int, group: int, scale_bits: int = 16, zero_point_bits: int = 0
) -> float:
    """Return the bits that each weight of a packed (rows, cols) matrix costs."""
    code_bits = -(-cols * bits // 8) * 8
    groups = -(-cols // group)
    return rows * (code_bits + groups * (scale_bits + zero_point_bits)) / (rows * cols)
