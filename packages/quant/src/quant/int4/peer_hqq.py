"""Peer: hqq's int4 weights; its group ``peers-extra`` brings accelerate and other things that nothing else needs."""

from typing import Any

import torch
from hqq.core.quantize import BaseQuantizeConfig, HQQLinear
from torch import Tensor, nn


class Int4Linear(nn.Module):
    """HQQ's layer: 4-bit codes, zero points improved by its solver, scales and zero points in floating point."""

    inner: nn.Module

    def __init__(
        self, packed: Tensor, scale: Tensor, zero_point: Tensor, bias: Tensor | None, in_features: int, group: int
    ) -> None:
        """Refuse: hqq makes its weights from float ones only."""
        super().__init__()
        raise NotImplementedError

    @classmethod
    def from_float(cls, linear: nn.Linear, group: int = 32) -> "Int4Linear":
        """Quantize a float layer's weight."""
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        config = BaseQuantizeConfig(nbits=4, group_size=group, axis=1)
        device = str(linear.weight.device)
        inner: Any = HQQLinear(linear, config, compute_dtype=linear.weight.dtype, device=device, del_orig=False)
        layer.inner = inner
        return layer

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Run the layer: the weight is unpacked and multiplied in floating point."""
        y: Tensor = self.inner(x)
        return y
