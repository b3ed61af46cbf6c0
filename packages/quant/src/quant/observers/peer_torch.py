"""Peer: torch.ao's observers; the ranges of its histogram observer are its own, with 8 bits built in."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.ao.quantization import observer

from quant.observers import Histogram


class MinMaxObserver:
    """``torch.ao.quantization.MinMaxObserver``."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self.inner = observer.MinMaxObserver()

    def update(self, x: Tensor) -> None:
        """Look at a batch."""
        self.inner(x)

    def merge(self, other: "MinMaxObserver") -> None:
        """Show it the other's extremes: it has no merge."""
        self.inner(torch.stack([other.inner.min_val, other.inner.max_val]))

    def range(self) -> tuple[float, float]:
        """Return the smallest and the largest value."""
        if self.inner.min_val > self.inner.max_val:
            msg = "nothing was seen"
            raise ValueError(msg)
        return float(self.inner.min_val), float(self.inner.max_val)


class HistogramObserver:
    """``torch.ao.quantization.HistogramObserver``: its bins cover the range so far, spread anew when it grows."""

    def __init__(self, choose: Callable[[Histogram], tuple[float, float]], bins: int = 4096) -> None:
        """Start with nothing seen."""
        self.choose = choose
        self.inner = observer.HistogramObserver(bins=bins)

    def update(self, x: Tensor) -> None:
        """Look at a batch."""
        self.inner(x)

    def merge(self, other: "HistogramObserver") -> None:
        """Refuse: its bins depend on the batches it saw, and it offers no way to join two of them."""
        msg = f"torch.ao's observers of {self.inner.bins} and {other.inner.bins} bins cannot be joined"
        raise ValueError(msg)

    def histogram(self) -> Histogram:
        """Return its counts; its bins are not those of the definition."""
        return Histogram(self.inner.histogram.long(), 0, float(self.inner.min_val), float(self.inner.max_val))

    def range(self) -> tuple[float, float]:
        """Return the chosen range."""
        return self.choose(self.histogram())
