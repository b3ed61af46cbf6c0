"""Peer: numpy and ``scipy.stats`` over everything seen, which has to be kept."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

FULL = 4


def t_statistic(values: ArrayLike) -> float:
    """Return Student's t of the mean of all values, in memory at once."""
    return float(stats.ttest_1samp(np.asarray(values, float), 0.0).statistic)


class Moments:
    """All the values, and scipy's functions of them."""

    def __init__(self, order: int = FULL) -> None:
        """Keep chunks; all four can be had whatever ``order`` says."""
        self.order = order
        self.chunks: list[np.ndarray] = []

    @property
    def n(self) -> int:
        """How many values were seen."""
        return sum(chunk.size for chunk in self.chunks)

    def update(self, values: ArrayLike) -> None:
        """Keep a chunk."""
        self.chunks.append(np.asarray(values, float).ravel().copy())

    def merge(self, other: "Moments") -> "Moments":
        """Keep the chunks of both."""
        both = Moments()
        both.chunks = self.chunks + other.chunks
        return both

    @property
    def mean(self) -> float:
        """The arithmetic mean."""
        return float(np.mean(np.concatenate(self.chunks)))

    @property
    def variance(self) -> float:
        """The variance of a sample, over n - 1."""
        return float(np.var(np.concatenate(self.chunks), ddof=1))

    @property
    def skewness(self) -> float:
        """The third central moment over the second to the power 1.5."""
        return float(stats.skew(np.concatenate(self.chunks)))

    @property
    def kurtosis(self) -> float:
        """The fourth central moment over the second squared, minus 3."""
        return float(stats.kurtosis(np.concatenate(self.chunks)))
