"""The simple answer: unpack the whole weight at every call."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quant.affine import QParams
from quant.affine.solution import choose_qparams, dequantize, quantize
from quant.packing.solution import pack, unpack


class Int4Linear(nn.Module):
    """A linear layer with 4-bit weights in groups of columns, and float activations."""

    packed: Tensor
    scale: Tensor
    zero_point: Tensor
    bias: Tensor | None

    def __init__(
        self, packed: Tensor, scale: Tensor, zero_point: Tensor, bias: Tensor | None, in_features: int, group: int
    ) -> None:
        """Keep everything as buffers."""
        super().__init__()
        for name, tensor in (("packed", packed), ("scale", scale), ("zero_point", zero_point), ("bias", bias)):
            self.register_buffer(name, tensor)
        self.in_features, self.group = in_features, group

    @classmethod
    def from_float(cls, linear: nn.Linear, group: int = 32) -> "Int4Linear":
        """Round a float layer's weight to 4-bit codes."""
        weight = linear.weight.detach().float()
        chosen = choose_qparams(weight, 4, False, group)  # noqa: FBT003
        scale = chosen.scale.bfloat16()
        codes = quantize(weight, QParams(scale.float(), chosen.zero_point, chosen.group, 4))
        return cls(pack(codes, 4), scale, chosen.zero_point.to(torch.int8), linear.bias, weight.shape[1], chosen.group)

    def dequantized(self) -> Tensor:
        """Return the weight that the layer stands for."""
        codes = unpack(self.packed, 4, self.in_features)
        return dequantize(codes, QParams(self.scale.float(), self.zero_point.int(), self.group, 4))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out)."""
        y = F.linear(x.float(), self.dequantized(), None if self.bias is None else self.bias.float())
        return y.to(x.dtype)
