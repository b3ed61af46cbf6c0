"""Peer: ``nn.Linear`` in float32, which int4 has to beat."""

from torch import Tensor, nn


class Int4Linear(nn.Module):
    """The float layer under the other's name."""

    inner: nn.Module

    def __init__(
        self, packed: Tensor, scale: Tensor, zero_point: Tensor, bias: Tensor | None, in_features: int, group: int
    ) -> None:
        """Make a float layer of the same shape."""
        super().__init__()
        self.inner = nn.Linear(in_features, len(packed), bias=bias is not None)

    @classmethod
    def from_float(cls, linear: nn.Linear, group: int = 32) -> "Int4Linear":
        """Keep the float layer."""
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer.inner = linear
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer."""
        y: Tensor = self.inner(x)
        return y
