"""Peer: ``nn.Linear`` in float32, which int8 has to beat."""

from torch import Tensor, nn


class Int8Linear(nn.Module):
    """The float layer under the other's name."""

    inner: nn.Module

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        """Make a float layer of the codes' values."""
        super().__init__()
        self.inner = nn.Linear(codes.shape[1], len(codes), bias=bias is not None)

    @classmethod
    def from_float(cls, linear: nn.Linear) -> "Int8Linear":
        """Keep the float layer."""
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer.inner = linear
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer."""
        y: Tensor = self.inner(x)
        return y
