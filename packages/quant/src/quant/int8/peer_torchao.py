"""Peer: torchao's int8 dynamic activations with int8 weights."""

from collections.abc import Mapping
from fnmatch import fnmatch

from torch import Tensor, nn
from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

from quant.int8 import Policy


class Int8Linear(nn.Module):
    """A linear layer whose weight is torchao's tensor subclass."""

    inner: nn.Module

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        """Refuse: torchao makes its weights from float ones only."""
        super().__init__()
        raise NotImplementedError

    @classmethod
    def from_float(cls, linear: nn.Linear) -> "Int8Linear":
        """Quantize a copy of a float layer."""
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        copy = nn.Linear(
            linear.in_features, linear.out_features, bias=linear.bias is not None, device=linear.weight.device
        )
        copy.load_state_dict(linear.state_dict())
        layer.inner = quantize_model(nn.Sequential(copy), Policy())
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer."""
        y: Tensor = self.inner(x)
        return y


def quantize_model(
    model: nn.Module, policy: Policy, ranges: Mapping[str, tuple[float, float]] | None = None
) -> nn.Module:
    """Swap the weights of the layers that the policy names."""

    def chosen(module: nn.Module, name: str) -> bool:
        return (
            isinstance(module, nn.Linear)
            and any(fnmatch(name, pattern) for pattern in policy.include)
            and not any(fnmatch(name, pattern) for pattern in policy.skip)
        )

    quantize_(model.eval(), Int8DynamicActivationInt8WeightConfig(), filter_fn=chosen)
    return model
