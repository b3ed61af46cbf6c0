"""The simple answer: torch's own reductions and quantiles, one number after the other."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from quant.observers import LOWEST_EXPONENT, Histogram


class MinMaxObserver:
    """The smallest and largest value of a stream."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self.low, self.high = math.inf, -math.inf

    def update(self, x: Tensor) -> None:
        """Look at a batch."""
        self.low, self.high = min(self.low, x.min().item()), max(self.high, x.max().item())

    def merge(self, other: "MinMaxObserver") -> None:
        """Take in what another observer has seen."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    def range(self) -> tuple[float, float]:
        """Return the smallest and the largest value."""
        return self.low, self.high


class MovingAverageObserver:
    """The extremes of batches, averaged: all of them are kept."""

    def __init__(self, momentum: float = 0.1) -> None:
        """Start with nothing seen."""
        self.momentum = momentum
        self.seen: list[tuple[float, float]] = []

    def update(self, x: Tensor) -> None:
        """Look at a batch."""
        self.seen.append((x.min().item(), x.max().item()))

    def merge(self, other: "MovingAverageObserver") -> None:
        """Take in another observer's batches, as if they came after this one's."""
        self.seen += other.seen

    def range(self) -> tuple[float, float]:
        """Return the averages of the minima and of the maxima."""
        weights = [(1 - self.momentum) ** age for age in reversed(range(len(self.seen)))]
        low, high = (sum(w * pair[i] for w, pair in zip(weights, self.seen, strict=True)) for i in (0, 1))
        return low / sum(weights), high / sum(weights)


class HistogramObserver:
    """Counts of a stream, made when they are asked for: all of it is kept."""

    def __init__(self, choose: Callable[[Histogram], tuple[float, float]], bins: int = 4096) -> None:
        """Start with nothing seen."""
        self.choose, self.bins = choose, bins
        self.seen: list[Tensor] = []

    def update(self, x: Tensor) -> None:
        """Look at a batch."""
        self.seen.append(x.flatten().cpu().double())

    def merge(self, other: "HistogramObserver") -> None:
        """Take in what another observer has seen."""
        self.seen += other.seen

    def histogram(self) -> Histogram:
        """Return the counts so far."""
        x = torch.cat(self.seen)
        largest = x.abs().max().item()
        exponent = max(LOWEST_EXPONENT, math.frexp(largest)[1]) if largest else LOWEST_EXPONENT
        index = (x / 2.0**exponent * (self.bins // 2)).floor().long() + self.bins // 2
        return Histogram(index.bincount(minlength=self.bins), exponent, x.min().item(), x.max().item())

    def range(self) -> tuple[float, float]:
        """Return the chosen range."""
        return self.choose(self.histogram())


def percentile_range(histogram: Histogram, share: float = 0.9999) -> tuple[float, float]:
    """Return the range that holds ``share`` of the values."""
    counts = histogram.counts.double()
    half = len(counts) // 2
    below = counts.cumsum(0)
    ends = []
    for q in ((1 - share) / 2, (1 + share) / 2):
        wanted = q * below[-1]
        number = int((below < wanted).sum())
        inside = 1 - (below[number] - wanted) / counts[number].clamp(min=1)
        ends.append((number - half + inside.item()) * 2.0**histogram.exponent / half)
    low, high = (min(max(end, histogram.low), histogram.high) for end in ends)
    return low, high


def mse_range(histogram: Histogram, bits: int = 8, symmetric: bool = False) -> tuple[float, float]:  # noqa: FBT001, FBT002
    """Return the best of a grid of ranges."""
    full = histogram.counts.nonzero().flatten()
    counts = histogram.counts[full].double()
    half = len(histogram.counts) // 2
    middle = (full - half + 0.5) * 2.0**histogram.exponent / half
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    if symmetric:
        low, high = -max(-low, high), max(-low, high)
    steps = 2**bits - 2 if symmetric else 2**bits - 1
    best, found = math.inf, (low, high)
    shares = [i / 50 for i in range(1, 51)] if low < high else []
    for a in shares:
        for b in [a] if symmetric else shares:
            scale = (b * high - a * low) / steps
            codes = (middle / scale).round().clamp(round(a * low / scale), round(b * high / scale))
            error = (counts * (codes * scale - middle) ** 2).sum().item()
            if error < best:
                best, found = error, (a * low, b * high)
    return found
