"""The simple answer: one value after the other, each joined to what was seen (Welford's way, to the fourth power)."""

import numpy as np
from numpy.typing import ArrayLike

FULL = 4


class Moments:
    """The first four moments of a stream of numbers."""

    def __init__(self, order: int = FULL) -> None:
        """Start with nothing seen; all four are kept whatever ``order`` says."""
        self.order = order
        self.n = 0
        self.centre = self.m2 = self.m3 = self.m4 = 0.0

    def update(self, values: ArrayLike) -> None:
        """Take in a chunk of numbers."""
        for value in np.asarray(values, float).ravel().tolist():
            one = Moments()
            one.n, one.centre = 1, value
            joined = self.merge(one)
            self.n, self.centre = joined.n, joined.centre
            self.m2, self.m3, self.m4 = joined.m2, joined.m3, joined.m4

    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of both streams together."""
        a, b, n = self.n, other.n, self.n + other.n
        both = Moments()
        if n == 0:
            return both
        delta = other.centre - self.centre
        square = delta * delta  # not delta**2, which raises where it overflows
        both.n = n
        both.centre = self.centre + delta * b / n
        both.m2 = self.m2 + other.m2 + square * a * b / n
        both.m3 = self.m3 + other.m3 + square * delta * a * b * (a - b) / n**2
        both.m3 += 3 * delta * (a * other.m2 - b * self.m2) / n
        both.m4 = self.m4 + other.m4 + square * square * a * b * (a**2 - a * b + b**2) / n**3
        both.m4 += 6 * square * (a**2 * other.m2 + b**2 * self.m2) / n**2
        both.m4 += 4 * delta * (a * other.m3 - b * self.m3) / n
        return both

    @property
    def mean(self) -> float:
        """The arithmetic mean."""
        return self.centre

    @property
    def variance(self) -> float:
        """The variance of a sample, over n - 1."""
        return self.m2 / (self.n - 1)

    @property
    def skewness(self) -> float:
        """The third central moment over the second to the power 1.5."""
        return self.n**0.5 * self.m3 / self.m2**1.5 if self.m2 else float("nan")

    @property
    def kurtosis(self) -> float:
        """The fourth central moment over the second squared, minus 3."""
        return self.n * self.m4 / self.m2**2 - 3 if self.m2 else float("nan")
