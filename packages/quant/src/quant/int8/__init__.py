"""Int8 linear layers: weights and activations in eight bits, integer products, and a whole model swapped over.

A weight in int8 is a quarter of the bytes; multiplying int8 by int8 is two to eight times the arithmetic of float32
on most processors. Both need the activations in int8 too, and those are only known when the layer runs. *Dynamic*
quantization looks at them then and gives each token (each row) a scale of its own. *Static* quantization takes one
range from calibration data and saves the look, at the price of clipping what lies outside.

What you write:

- ``Int8Linear``: made from an ``nn.Linear``; codes and one scale per output channel as buffers, so that
  ``state_dict``, ``deepcopy`` and ``to`` work; ``forward`` quantizes each row of its input to 8 bits: symmetrically,
  or with a zero point for each row, as the solution does.
- ``quantize_model``: swap the linear layers of a model that a ``Policy`` names, and no others.
- stretch: ``calibrate`` and ``StaticInt8Linear``, the layer whose activations have one range, known beforehand.

The product of the codes may be computed in any way that gives the exact integer sum to float32's precision; how the
solution picks a kernel for the number of rows is worth reading.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Policy:
    """Which linear layers become int8, and where their activations' scales come from.

    ``include`` and ``skip`` are shell patterns (``fnmatch``) for the names in ``model.named_modules()``; a layer is
    swapped where one of ``include`` matches and none of ``skip``.
    """

    include: tuple[str, ...] = ("*",)
    skip: tuple[str, ...] = ()
    activations: Literal["dynamic", "static"] = "dynamic"

    def __post_init__(self) -> None:
        """Refuse a pattern that is no tuple, since a string would count letter by letter, and other words."""
        for name in ("include", "skip"):
            patterns: object = getattr(self, name)
            if isinstance(patterns, str):
                msg = f"{name} is the string {patterns!r}, must be a tuple of patterns"
                raise TypeError(msg)
        if self.activations not in ("dynamic", "static"):
            msg = f"activations is {self.activations!r}, must be 'dynamic' or 'static'"
            raise ValueError(msg)
