"""SmoothQuant: move the outliers of activations into the weights, where they cost less, without changing the model.

A few input channels of a transformer's linear layers carry values tens of times larger than the rest. One scale for a
token, or for a whole tensor, then leaves the other channels a handful of codes. Weights have no such channels. Since
``x @ w.T == (x / s) @ (w * s).T`` for any factor ``s`` of each input channel, part of the range can move from ``x`` to
``w``; and where a norm wrote ``x``, dividing the norm's own weight (and bias) by ``s`` does it for nothing.

That is exact only where nobody else reads what the norm writes. A pre-norm decoder is such a place; a post-norm
encoder (BERT, MiniLM) adds the same tensor to the next residual, and there the division has to stay explicit, in front
of the linear layers: ``Rescaled``.

What you write:

- ``largest_inputs``: the largest magnitude of every input channel of every linear layer, over calibration data.
- ``smoothing_factors``: how much of each channel moves, with one strength ``alpha`` for all.
- ``fold``: divide what writes the channels, multiply what reads them.
- ``find_groups``: which norm is read by which linear layers, and whether by them alone.
- ``smooth``: all of it.
- stretch: linear layers that are read by one linear layer (``up_proj`` by ``down_proj``) as groups, too; and ``awq``,
  the search for the factors that help weights alone at three or four bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

Batch = Mapping[str, Tensor]
"""What a model is called with: ``model(**batch)``."""


@dataclass(frozen=True, slots=True)
class Group:
    """The linear layers that read the same tensor, and the module that writes it, by their names in the model.

    ``previous`` is a norm, or a linear layer with only elementwise or mixing operations between that commute with a
    factor for each channel. Where ``shared``, something else reads the tensor too, so that ``previous`` has to stay
    as it is.
    """

    previous: str
    layers: tuple[str, ...]
    shared: bool


class Rescaled(nn.Module):
    """A linear layer whose input is divided by a factor for each channel, at the price of one pass over the input."""

    reciprocal: Tensor

    def __init__(self, linear: nn.Module, factors: Tensor) -> None:
        """Keep ``1 / factors``, (in,), as a buffer, since multiplying is quicker than dividing."""
        super().__init__()
        self.linear = linear
        self.register_buffer("reciprocal", 1 / factors)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        y: Tensor = self.linear(x * self.reciprocal.to(x.dtype))
        return y
