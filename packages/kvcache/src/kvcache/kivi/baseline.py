"""The simple answer: the formula, a bit at a time."""

import torch
from torch import Tensor

from kvcache.kivi import Codes


def quantize(x: Tensor, bits: int, dim: int, *, symmetric: bool = False) -> Codes:
    """Spread the codes evenly from the smallest to the largest number, or around 0."""
    low = x.float().amin(dim, keepdim=True).bfloat16()
    scale = ((x.float().amax(dim, keepdim=True) - low.float()) / (2**bits - 1)).bfloat16()
    if symmetric:
        scale = (x.float().abs().amax(dim, keepdim=True) / (2 ** (bits - 1) - 1)).bfloat16()
        low = -(2 ** (bits - 1)) * scale
    step = torch.where(scale == 0, 1.0, scale.float())
    codes = torch.round((x.float() - low.float()) / step).clamp(0, 2**bits - 1)
    return Codes(codes.to(torch.uint8), scale, low)


def dequantize(codes: Codes, dtype: torch.dtype = torch.float32) -> Tensor:
    """Map the codes back."""
    return (codes.low.float() + codes.scale.float() * codes.codes.float()).to(dtype)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Add up the codes of a byte."""
    out = torch.zeros_like(codes[..., :: 8 // bits])
    for i in range(8 // bits):
        out += codes[..., i :: 8 // bits] * 2 ** (bits * i)
    return out


def unpack(packed: Tensor, bits: int) -> Tensor:
    """Take the bytes apart."""
    parts = [(packed.int() // 2 ** (bits * i) % 2**bits).to(torch.uint8) for i in range(8 // bits)]
    return torch.stack(parts, -1).flatten(-2)
