"""Peer: optimum-quanto's int8 weights."""

from typing import Any

from optimum.quanto import QLinear, qint8
from torch import Tensor, nn


class Int8Linear(nn.Module):
    """quanto's layer: int8 weights, float activations."""

    inner: nn.Module

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        """Refuse: quanto makes its weights from float ones only."""
        super().__init__()
        raise NotImplementedError

    @classmethod
    def from_float(cls, linear: nn.Linear) -> "Int8Linear":
        """Quantize a float layer's weight; quanto has no dynamic activations, so these stay float."""
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        inner: Any = QLinear.from_module(linear, weights=qint8)
        inner.freeze()
        layer.inner = inner
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer."""
        y: Tensor = self.inner(x)
        return y
