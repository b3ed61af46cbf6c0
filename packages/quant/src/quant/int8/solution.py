"""The production answer: integer kernels chosen by the number of rows, buffers that survive saving and copying."""

import math
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from typing import Any

import torch
from torch import Tensor, nn

from quant.affine.solution import choose_qparams, quantize
from quant.int8 import Policy
from quant.int8._kernels import TINY, Weight, dynamic, static
from quant.layers import CodedLinear, in_use, is_plain, swap


class _Int8(CodedLinear):
    """What both layers keep: codes, scales and bias, and the weight packed for the kernels."""

    codes: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        """Check the shapes and register the buffers."""
        super().__init__()
        _refuse_misfit(codes, scale, bias)
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if bias is None else bias.detach())
        self.out_features, self.in_features = codes.shape

    def packed(self) -> Weight:
        """Return the weight for the kernels, packed anew after its buffers were moved or loaded."""
        packed: Weight = self.made("packed", lambda: Weight(self.codes, self.scale), ("codes", "scale"))
        return packed

    def dequantized(self) -> Tensor:
        """Return the weight that the layer stands for, (out, in) float32."""
        return self.codes * self.scale.float()[:, None]

    def in_floats(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out), float32, by the numbers that both sides' codes stand for."""
        x = x.float()
        low, high = self.span(x)
        step = (high / 255 - low / 255).clamp(min=TINY)  # their difference might not be finite
        zero_point = (-low / step).round()
        codes = (torch.round(x / step) + zero_point).clamp(0, 255) - zero_point
        return super().in_floats(codes * step)

    def span(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ends of the ranges that the activations (..., in) are quantized over."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Show the shape, as ``nn.Linear`` does."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Int8Linear(_Int8):
    """A linear layer with int8 weights, whose activations are quantized row by row as they come (dynamic W8A8)."""

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        """Keep ``codes`` (out, in) int8, ``scale`` (out,) float32 and ``bias`` (out,) as buffers of those names.

        Raises ValueError where the shapes do not belong together, TypeError unless codes are int8.
        """
        super().__init__(codes, scale, bias)

    @classmethod
    def from_float(cls, linear: nn.Linear) -> "Int8Linear":
        """Quantize a float layer's weight, symmetrically, one scale for each output channel.

        Raises TypeError unless ``linear`` is an ``nn.Linear``, ValueError where it has no outputs or inputs, or its
        weight has NaN or inf.
        """
        return cls(*_codes_of(linear), linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out), in the dtype of ``x``; every row of ``x`` gets a scale of its own.

        The result has no gradient, as rounding has none. Raises ValueError where the last dimension is not ``in``,
        TypeError for integers.
        """
        if torch.compiler.is_compiling():
            return self.in_graph(x)
        rows = rows_of(x, self.in_features)  # (rows, in)
        if not is_plain(rows):
            return like(x, self.in_floats(rows))
        return like(x, dynamic(rows, self.packed(), self._bias()))

    def span(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ends of each row's range, (..., 1) both, between which lies 0."""
        return x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)


class StaticInt8Linear(_Int8):
    """A linear layer with int8 weights and one affine map, known beforehand, for all activations (static W8A8)."""

    input_range: Tensor

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None, input_range: Tensor) -> None:
        """Keep everything as buffers of those names; ``input_range`` is (2,) float32, lowest and highest."""
        super().__init__(codes, scale, bias)
        self.register_buffer("input_range", input_range)

    @classmethod
    def from_float(cls, linear: nn.Linear, input_range: tuple[float, float]) -> "StaticInt8Linear":
        """Quantize a float layer's weight; ``input_range`` is stretched to hold 0.

        Raises as ``Int8Linear.from_float``, and ValueError for a range that is upside down or not finite.
        """
        low, high = input_range
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            msg = f"input_range is {input_range}, must be two finite numbers, the lower first"
            raise ValueError(msg)
        codes, scale = _codes_of(linear)
        return cls(codes, scale, linear.bias, torch.tensor([min(low, 0.0), max(high, 0.0)], device=codes.device))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out); what lies outside the range is clipped to it.

        Raises ValueError where the last dimension is not ``in``, TypeError for integers.
        """
        if torch.compiler.is_compiling():
            return self.in_graph(x)
        rows = rows_of(x, self.in_features)  # (rows, in)
        if not is_plain(rows):
            return like(x, self.in_floats(rows))
        return like(x, static(rows, self.packed(), self._bias(), *self.made("map", self._affine, ("input_range",))))

    def span(self, x: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002 - whatever comes
        """Return the ends of the range that was calibrated."""
        return self.input_range[0], self.input_range[1]

    def _affine(self) -> tuple[float, int]:
        """Return scale and zero point as numbers."""
        low, high = self.input_range.tolist()
        step = max((high - low) / 255, TINY)
        return step, round(-low / step)


def quantize_model(
    model: nn.Module, policy: Policy, ranges: Mapping[str, tuple[float, float]] | None = None
) -> nn.Module:
    """Swap the linear layers that ``policy`` names, in place, and return the model.

    A layer that stands under two names becomes one layer under both. A model that is one layer, named "", cannot be
    changed in place: its successor is returned. A weight that a layer shares with something that is not swapped (a tied
    embedding) stays as it is, since a second copy would save nothing. Only layers that are exactly ``nn.Linear`` count:
    a subclass may be one whose owner reads its weight, as ``nn.MultiheadAttention`` does. With
    ``policy.activations == "static"`` the layers are ``StaticInt8Linear`` with the ranges of ``calibrate``.

    Raises ValueError where no layer is left to swap, or a static layer has no range.
    """
    chosen = _chosen(model, policy)
    if policy.activations == "static" and (missing := sorted(set(chosen) - set(ranges or {}))):
        msg = f"no range was calibrated for {missing[0]!r} ({len(missing)} of {len(chosen)} layers)"
        raise ValueError(msg)
    swapped: dict[nn.Module, nn.Module] = {}
    first: dict[int, _Int8] = {}
    for name, linear in chosen.items():
        if linear in swapped:
            continue
        try:
            made = (
                StaticInt8Linear.from_float(linear, (ranges or {})[name])
                if policy.activations == "static"
                else Int8Linear.from_float(linear)
            )
        except ValueError as error:
            msg = f"layer {name!r}: {error}"
            raise ValueError(msg) from error
        shared = first.setdefault(id(linear.weight), made)  # two layers of one weight go on sharing it
        made.codes, made.scale = shared.codes, shared.scale
        swapped[linear] = made
    return swap(model, swapped)


def calibrate(model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> dict[str, tuple[float, float]]:
    """Run the model on each batch, as in use, and return the range of every linear layer's input, by all its names.

    A batch is given as ``model(**batch)``. Raises ValueError for no batches, and NaN or inf in an input.
    """
    ranges: dict[str, tuple[float, float]] = {}
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.Linear):
            names.setdefault(module, []).append(name)

    def watch(module: nn.Module, args: tuple[Any, ...]) -> None:
        if not args[0].numel():  # as an expert that no token was sent to
            return
        low, high = (float(side) for side in torch.aminmax(args[0]))
        if not (math.isfinite(low) and math.isfinite(high)):
            msg = f"the input of {names[module][0]!r} has NaN or inf"
            raise ValueError(msg)
        for name in names[module]:
            before = ranges.get(name, (low, high))
            ranges[name] = min(low, before[0]), max(high, before[1])

    hooks = [module.register_forward_pre_hook(watch) for module in names]
    count = 0
    try:
        with torch.no_grad(), in_use(model):
            for count, batch in enumerate(batches, 1):  # noqa: B007 - the count is what is wanted
                model(**batch)
    finally:
        for hook in hooks:
            hook.remove()
    if not count:
        msg = "no batches to calibrate with"
        raise ValueError(msg)
    return ranges


def _chosen(model: nn.Module, policy: Policy) -> dict[str, nn.Linear]:
    """Return the layers to swap, by every name they have."""
    named = {
        name: module
        for name, module in model.named_modules(remove_duplicate=False)
        # Subclasses are left alone: attention reads the weight of its NonDynamicallyQuantizableLinear itself.
        if type(module) is nn.Linear
        and any(fnmatch(name, pattern) for pattern in policy.include)
        and not any(fnmatch(name, pattern) for pattern in policy.skip)
    }
    ours = {id(module) for module in named.values()}
    shared = {id(p) for m in model.modules() if id(m) not in ours for p in m.parameters(recurse=False)}
    found = {name: module for name, module in named.items() if id(module.weight) not in shared}
    if not found:
        msg = f"no linear layer to swap: {len(named)} match include={policy.include} and skip={policy.skip}"
        raise ValueError(msg + (", and share their weight with a layer that stays" if named else ""))
    return found


def float_weight(linear: nn.Module) -> Tensor:
    """Return the weight of an ``nn.Linear``, (out, in).

    Raises TypeError for another module, ValueError for a weight without elements.
    """
    if not isinstance(linear, nn.Linear):
        msg = f"linear is a {type(linear).__name__}, must be an nn.Linear"
        raise TypeError(msg)
    weight = linear.weight.detach()
    if not weight.numel():
        msg = f"the layer's weight has shape {tuple(weight.shape)}: there is nothing to quantize"
        raise ValueError(msg)
    return weight


def _codes_of(linear: nn.Module) -> tuple[Tensor, Tensor]:
    """Return a float layer's weight as int8 codes, (out, in), and scales, (out,)."""
    weight = float_weight(linear)
    qparams = choose_qparams(weight, 8, True, "channel")  # noqa: FBT003
    return quantize(weight, qparams), qparams.scale[:, 0].contiguous()


def rows_of(x: Tensor, inputs: int) -> Tensor:
    """Check a layer's input, (..., inputs), and return it as (rows, inputs) float32.

    Every look at a tensor from Python takes a good part of a microsecond, and a small layer some twenty.
    """
    shape, dtype = x.shape, x.dtype
    if not dtype.is_floating_point:
        msg = f"x is {dtype}, must be floating point"
        raise TypeError(msg)
    if not shape or shape[-1] != inputs:
        msg = f"x has shape {tuple(shape)}, the layer takes (..., {inputs})"
        raise ValueError(msg)
    x = x.detach() if x.requires_grad else x
    x = x if len(shape) == 2 else x.reshape(math.prod(shape[:-1]), inputs)  # noqa: PLR2004
    return x if dtype is torch.float32 else x.float()


def like(x: Tensor, y: Tensor) -> Tensor:
    """Return (rows, out) with the leading dimensions and the dtype of ``x``."""
    y = y if x.ndim == 2 else y.view(*x.shape[:-1], y.shape[1])  # noqa: PLR2004
    return y if y.dtype is x.dtype else y.to(x.dtype)


def _refuse_misfit(codes: Tensor, scale: Tensor, bias: Tensor | None) -> None:
    if codes.dtype != torch.int8:
        msg = f"codes are {codes.dtype}, must be int8"
        raise TypeError(msg)
    if codes.ndim != 2 or scale.shape != codes.shape[:1] or (bias is not None and bias.shape != codes.shape[:1]):  # noqa: PLR2004
        given = tuple(codes.shape), tuple(scale.shape), None if bias is None else tuple(bias.shape)
        msg = f"codes, scale and bias have shapes {given}, must be (out, in), (out,), (out,)"
        raise ValueError(msg)
