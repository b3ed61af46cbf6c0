"""The simple answer: integer codes, multiplied as floats."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatch

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quant.affine.solution import choose_qparams, quantize
from quant.int8 import Policy


class Int8Linear(nn.Module):
    """A linear layer with int8 weights and dynamically quantized activations."""

    codes: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        """Keep codes, scale and bias as buffers."""
        super().__init__()
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)

    @classmethod
    def from_float(cls, linear: nn.Linear) -> "Int8Linear":
        """Quantize a float layer's weight."""
        weight = linear.weight.detach()
        qparams = choose_qparams(weight, 8, True, "channel")  # noqa: FBT003
        return cls(quantize(weight, qparams), qparams.scale[:, 0], linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        step = x.float().abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127
        codes = torch.round(x.float() / step)
        y = F.linear(codes, self.codes.float()) * step * self.scale
        return (y if self.bias is None else y + self.bias).to(x.dtype)


def quantize_model(
    model: nn.Module, policy: Policy, ranges: Mapping[str, tuple[float, float]] | None = None
) -> nn.Module:
    """Swap the linear layers that ``policy`` names, in place, and return the model."""
    modules = dict(model.named_modules(remove_duplicate=False))
    chosen = {
        name: module
        for name, module in modules.items()
        if isinstance(module, nn.Linear)
        and any(fnmatch(name, pattern) for pattern in policy.include)
        and not any(fnmatch(name, pattern) for pattern in policy.skip)
    }
    others = {id(p) for m in modules.values() if m not in chosen.values() for p in m.parameters(recurse=False)}
    swapped: dict[nn.Module, nn.Module] = {}
    for name, linear in chosen.items():
        if id(linear.weight) in others:
            continue
        if linear not in swapped and policy.activations == "static":
            swapped[linear] = StaticInt8Linear.from_float(linear, (ranges or {})[name])
        elif linear not in swapped:
            swapped[linear] = Int8Linear.from_float(linear)
        if not name:
            return swapped[linear]
        parent, _, child = name.rpartition(".")
        setattr(modules[parent], child, swapped[linear])
    return model


def calibrate(model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> dict[str, tuple[float, float]]:
    """Return the range of every linear layer's input, by name."""
    ranges: dict[str, tuple[float, float]] = {}

    def watch(name: str, x: Tensor) -> None:
        low, high = ranges.get(name, (0.0, 0.0))
        ranges[name] = min(low, float(x.min())), max(high, float(x.max()))

    hooks = [
        module.register_forward_pre_hook(lambda _module, args, name=name: watch(name, args[0]))
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, nn.Linear)
    ]
    with torch.no_grad():
        for batch in batches:
            model(**batch)
    for hook in hooks:
        hook.remove()
    return ranges


class StaticInt8Linear(nn.Module):
    """A linear layer with int8 weights and one affine map for all activations."""

    codes: Tensor
    scale: Tensor
    bias: Tensor | None
    input_range: Tensor

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None, input_range: Tensor) -> None:
        """Keep everything as buffers."""
        super().__init__()
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)
        self.register_buffer("input_range", input_range)

    @classmethod
    def from_float(cls, linear: nn.Linear, input_range: tuple[float, float]) -> "StaticInt8Linear":
        """Quantize a float layer's weight."""
        inner = Int8Linear.from_float(linear)
        span = torch.tensor([min(input_range[0], 0.0), max(input_range[1], 0.0)], device=inner.codes.device)
        return cls(inner.codes, inner.scale, linear.bias, span)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        low, high = self.input_range[0], self.input_range[1]
        step = ((high - low) / 255).clamp(min=1e-30)
        zero_point = torch.round(-low / step)
        codes = torch.clamp(torch.round(x.float() / step) + zero_point, 0, 255)
        y = F.linear(codes - zero_point, self.codes.float()) * step * self.scale
        return (y if self.bias is None else y + self.bias).to(x.dtype)
