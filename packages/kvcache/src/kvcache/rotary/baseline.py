"""The simple answer: the rotation as complex numbers."""

import torch
from torch import Tensor


def frequencies(head_dim: int, base: float = 10000.0) -> Tensor:
    """Return base**(-2 i / head_dim)."""
    return torch.tensor([base ** (-2 * i / head_dim) for i in range(head_dim // 2)], dtype=torch.float32)


def positions_of(padding_mask: Tensor, past: int = 0) -> Tensor:
    """Count the real tokens up to each column."""
    return (padding_mask.long().cumsum(1) - 1).clamp(min=0)[:, past:]


def rotate(x: Tensor, positions: Tensor, frequencies: Tensor, attention: float = 1.0) -> Tensor:
    """Multiply by exp(i * angle)."""
    wide = torch.promote_types(x.dtype, torch.float32)
    angles = positions[..., None].to(wide) * frequencies.to(x.device, wide)
    turn = torch.polar(torch.full_like(angles, attention), angles)
    turn = turn if positions.ndim == 1 else turn[:, None]
    first, second = x.to(wide).chunk(2, dim=-1)
    turned = torch.complex(first.contiguous(), second.contiguous()) * turn
    return torch.cat([turned.real, turned.imag], -1).to(x.dtype)
