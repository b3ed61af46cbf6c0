"""Peer: optimum-quanto's int4 weights."""

from typing import Any

from optimum.quanto import QLinear, qint4
from torch import Tensor, nn


class Int4Linear(nn.Module):
    """quanto's layer with groups of 128 columns or fewer, its own choice."""

    inner: nn.Module

    def __init__(
        self, packed: Tensor, scale: Tensor, zero_point: Tensor, bias: Tensor | None, in_features: int, group: int
    ) -> None:
        """Refuse: quanto makes its weights from float ones only."""
        super().__init__()
        raise NotImplementedError

    @classmethod
    def from_float(cls, linear: nn.Linear, group: int = 32) -> "Int4Linear":
        """Quantize a float layer's weight; quanto chooses the group."""
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        inner: Any = QLinear.from_module(linear, weights=qint4)
        inner.freeze()
        layer.inner = inner
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer."""
        y: Tensor = self.inner(x)
        return y
