"""Observers: which range of numbers eight bits, or four, should be spent on.

A static scale is chosen before the data it will meet. The largest value seen is a safe choice and often a bad one: one
outlier in a million makes the steps of all others coarse. What is seen comes in batches, on several machines, once; so
each observer takes a stream in any chunks (``update``), two observers of two halves join into one (``merge``), and
nothing is kept but a few numbers.

What you write:

- ``MinMaxObserver``: the smallest and largest value.
- ``MovingAverageObserver``: the batches' extremes averaged with weights that decay, ``momentum`` for the newest. The
  average of the first n batches is divided by the weight they have together, ``1 - (1 - momentum)**n``, as Adam does,
  so that the first batch is not a special case and streams join exactly.
- ``HistogramObserver``: counts in bins whose width is a power of two. When a value falls outside, the width doubles
  and pairs of bins become one; so the histogram is the same for every order and chunking of the same numbers.
- ``percentile_range``: leave the same share of the values out at both ends.
- ``mse_range``: the range with the least expected squared error.
- stretch: ``entropy_range``, the symmetric range whose codes tell most of the distribution (TensorRT's calibration).
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

LOWEST_EXPONENT = -100
"""Numbers below ``2**-100`` in magnitude are all in the two middle bins."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of numbers between ``-2**exponent`` and ``2**exponent``.

    ``counts`` is (bins,) int64, bins an even number; bin i holds ``floor(x * 2**-exponent * bins / 2) + bins / 2 ==
    i``. ``exponent`` is the least with ``abs(x) < 2**exponent`` for all x, at least ``LOWEST_EXPONENT``. ``low`` and
    ``high`` are the extremes.
    """

    counts: Tensor
    exponent: int
    low: float
    high: float


class Observer(Protocol):
    """What has seen numbers can name a range for them."""

    def update(self, x: Tensor) -> None:
        """Look at a batch."""

    def range(self) -> tuple[float, float]:
        """Return the range to quantize."""
        ...
