"""Peer: ``torch.ao.quantization.quantize_dynamic`` and its layer: one activation scale for the whole batch."""

import warnings
from collections.abc import Mapping
from fnmatch import fnmatch

import torch
from torch import Tensor, nn
from torch.ao.quantization import (
    QConfig,
    default_dynamic_quant_observer,
    default_per_channel_weight_observer,
    quantize_dynamic,
)

from quant.int8 import Policy

PER_CHANNEL = QConfig(activation=default_dynamic_quant_observer, weight=default_per_channel_weight_observer)


class Int8Linear(nn.Module):
    """``torch.ao.nn.quantized.dynamic.Linear``, with a scale for each output channel."""

    inner: nn.Module

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        """Pack the weight."""
        super().__init__()
        zeros = torch.zeros(len(scale), dtype=torch.int64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated in favour of torchao, and still what most code uses
            inner = torch.ao.nn.quantized.dynamic.Linear(codes.shape[1], len(codes), bias_=bias is not None)
            weight = torch._make_per_channel_quantized_tensor(codes, scale.double(), zeros, 0)  # noqa: SLF001
            inner.set_weight_bias(weight, bias)
        self.inner = inner

    @classmethod
    def from_float(cls, linear: nn.Linear) -> "Int8Linear":
        """Quantize a float layer with ``quantize_dynamic``."""
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer.inner = quantize_model(nn.Sequential(linear), Policy())
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer."""
        y: Tensor = self.inner(x)
        return y


def quantize_model(
    model: nn.Module, policy: Policy, ranges: Mapping[str, tuple[float, float]] | None = None
) -> nn.Module:
    """Swap every layer that the policy names."""
    names = {
        name
        for name, module in model.named_modules()
        if type(module) is nn.Linear
        and any(fnmatch(name, pattern) for pattern in policy.include)
        and not any(fnmatch(name, pattern) for pattern in policy.skip)
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done: nn.Module = quantize_dynamic(model, dict.fromkeys(names, PER_CHANNEL), inplace=True)
    return done
