"""Your turn: replace each ``raise NotImplementedError``."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatch

import torch
from torch import Tensor, nn

from quant.affine.solution import choose_qparams, quantize
from quant.int8 import Policy


class Int8Linear(nn.Module):
    """A linear layer with int8 weights, whose activations are quantized row by row as they come (dynamic W8A8)."""

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        """Keep ``codes`` (out, in) int8, ``scale`` (out,) float32 and ``bias`` (out,) as buffers of those names.

        Raises ValueError where the shapes do not belong together, TypeError unless codes are int8.
        """
        super().__init__()
        raise NotImplementedError("TODO 1 (core, about 4 lines): keep codes, scale and bias as buffers")

    @classmethod
    def from_float(cls, linear: nn.Linear) -> "Int8Linear":
        """Quantize a float layer's weight, symmetrically, one scale for each output channel.

        Raises TypeError unless ``linear`` is an ``nn.Linear``, ValueError where it has no outputs or inputs, or its
        weight has NaN or inf.
        """
        raise NotImplementedError("TODO 1 (core, about 5 lines): codes and scales of the weight")

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out), in the dtype of ``x``; every row of ``x`` gets a scale of its own.

        The result has no gradient, as rounding has none. Raises ValueError where the last dimension is not ``in``,
        TypeError for integers.
        """
        raise NotImplementedError("TODO 2 (core, about 8 lines): quantize the rows, multiply codes, scale back")


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
    raise NotImplementedError("TODO 3 (core, about 14 lines): swap the layers by name")


def calibrate(model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> dict[str, tuple[float, float]]:
    """Run the model on each batch, as in use, and return the range of every linear layer's input, by all its names.

    A batch is given as ``model(**batch)``. Raises ValueError for no batches, and NaN or inf in an input.
    """
    raise NotImplementedError("TODO 4 (stretch, about 12 lines): watch the inputs with hooks")


class StaticInt8Linear(nn.Module):
    """A linear layer with int8 weights and one affine map, known beforehand, for all activations (static W8A8)."""

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor | None, input_range: Tensor) -> None:
        """Keep everything as buffers of those names; ``input_range`` is (2,) float32, lowest and highest."""
        super().__init__()
        raise NotImplementedError("TODO 5 (stretch, about 5 lines): keep everything as buffers")

    @classmethod
    def from_float(cls, linear: nn.Linear, input_range: tuple[float, float]) -> "StaticInt8Linear":
        """Quantize a float layer's weight; ``input_range`` is stretched to hold 0.

        Raises as ``Int8Linear.from_float``, and ValueError for a range that is upside down or not finite.
        """
        raise NotImplementedError("TODO 5 (stretch, about 6 lines): the weight, and the range")

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out); what lies outside the range is clipped to it.

        Raises ValueError where the last dimension is not ``in``, TypeError for integers.
        """
        raise NotImplementedError("TODO 5 (stretch, about 8 lines): an affine map for the input, then as in TODO 2")
