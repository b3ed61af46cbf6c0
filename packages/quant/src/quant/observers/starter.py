"""Your turn: replace each ``raise NotImplementedError``."""

from collections.abc import Callable

from torch import Tensor

from quant.observers import Histogram


class MinMaxObserver:
    """The smallest and largest value of a stream."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        raise NotImplementedError("TODO 1 (core, about 2 lines): nothing seen yet")

    def update(self, x: Tensor) -> None:
        """Look at a batch of any shape.

        Raises TypeError for integers, ValueError for an empty batch, NaN or inf.
        """
        raise NotImplementedError("TODO 1 (core, about 4 lines): the extremes so far")

    def merge(self, other: "MinMaxObserver") -> None:
        """Take in what another observer has seen."""
        raise NotImplementedError("TODO 1 (core, about 2 lines): the extremes of both")

    def range(self) -> tuple[float, float]:
        """Return the smallest and the largest value. Raises ValueError where nothing was seen."""
        raise NotImplementedError("TODO 1 (core, about 2 lines): both, if there are any")


class MovingAverageObserver:
    """The extremes of batches, averaged with exponentially decaying weights."""

    def __init__(self, momentum: float = 0.1) -> None:
        """Start with nothing seen; ``momentum`` is the newest batch's weight. Raises ValueError outside (0, 1]."""
        raise NotImplementedError("TODO 2 (core, about 4 lines): sums of weighted extremes, and how many batches")

    def update(self, x: Tensor) -> None:
        """Look at a batch of any shape.

        Raises TypeError for integers, ValueError for an empty batch, NaN or inf.
        """
        raise NotImplementedError("TODO 2 (core, about 4 lines): let the old fade, add the new")

    def merge(self, other: "MovingAverageObserver") -> None:
        """Take in another's batches, as if they came after this one's. Raises ValueError for another momentum."""
        raise NotImplementedError("TODO 2 (core, about 4 lines): fade by as many batches as come")

    def range(self) -> tuple[float, float]:
        """Return the averages of the minima and of the maxima. Raises ValueError where nothing was seen.

        The weights of n batches are divided by their sum, ``1 - (1 - momentum)**n``, with all its digits however small
        the momentum. Source: Kingma and Ba 2015, arXiv:1412.6980, section 3.
        """
        raise NotImplementedError("TODO 2 (core, about 3 lines): over the weight that the batches have together")


class HistogramObserver:
    """Counts of a stream in bins that double their width when they have to."""

    def __init__(self, choose: Callable[[Histogram], tuple[float, float]], bins: int = 4096) -> None:
        """Start with nothing seen; ``choose`` makes a range of a histogram.

        Raises ValueError unless ``bins`` is a positive multiple of 4.
        """
        raise NotImplementedError("TODO 3 (core, about 5 lines): no counts, the lowest exponent")

    def update(self, x: Tensor) -> None:
        """Look at a batch of any shape.

        Raises TypeError for integers, ValueError for an empty batch, NaN or inf.
        """
        raise NotImplementedError("TODO 3 (core, about 10 lines): widen if needed, then count")

    def merge(self, other: "HistogramObserver") -> None:
        """Take in what another observer has seen. Raises ValueError for another number of bins."""
        raise NotImplementedError("TODO 3 (core, about 7 lines): widen the narrower one, add")

    def histogram(self) -> Histogram:
        """Return the counts so far. Raises ValueError where nothing was seen."""
        raise NotImplementedError("TODO 3 (core, about 2 lines): if there are any")

    def range(self) -> tuple[float, float]:
        """Return the chosen range. Raises ValueError where nothing was seen."""
        raise NotImplementedError("TODO 3 (core, about 1 line): ask the rule")


def percentile_range(histogram: Histogram, share: float = 0.9999) -> tuple[float, float]:
    """Return the range that holds ``share`` of the values and leaves as many out below as above.

    Inside a bin the values count as evenly spread; the range stays within the extremes. Raises ValueError for a share
    outside (0, 1].
    """
    raise NotImplementedError("TODO 4 (core, about 8 lines): two quantiles of the cumulated counts")


def mse_range(histogram: Histogram, bits: int = 8, symmetric: bool = False) -> tuple[float, float]:  # noqa: FBT001, FBT002
    """Return the range whose codes have the least expected squared error.

    A range is stretched to hold 0. Its step is its width over ``2**bits - 1``, and its codes stand for the whole
    multiples of the step from ``round(low / step)`` to ``round(high / step)``; with ``symmetric`` it is (-t, t) and has
    a code less, a step of ``2 * t / (2**bits - 2)``. What lies outside becomes the nearest end. The values of a bin
    count as its middle. Raises ValueError for bits outside 2 to 8. Source: Banner et al. 2018, arXiv:1810.05723,
    section 3.
    """
    raise NotImplementedError("TODO 5 (core, about 20 lines): the error of many ranges, the best of them")


def entropy_range(histogram: Histogram, bits: int = 8) -> tuple[float, float]:
    """Return the symmetric range (-t, t) whose ``2**(bits - 1)`` magnitudes lose least of the distribution.

    Of the histogram of magnitudes (bins / 2 of them) the first n stay; P is their distribution with all that lies
    beyond counted in bin n - 1. Q is what is left of the first n bins without it when bin j shares level
    ``floor(j * 2**(bits - 1) / n)`` with others: the level's counts, spread evenly over its bins that are not empty.
    The n with the least Kullback-Leibler divergence of normalized P from normalized Q wins, the largest of equals;
    bin n - 1 must not be empty, and n must be at least ``2**(bits - 1)``, or all where there are fewer. t is the upper
    edge of bin n - 1, or the largest magnitude if that is less. Raises ValueError for bits outside 2 to 8. Source:
    Migacz 2017, 8-bit Inference with TensorRT, GTC, slides 30 to 38.
    """
    raise NotImplementedError("TODO 6 (stretch, about 20 lines): the divergence of every threshold")
