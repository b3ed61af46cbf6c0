"""The production answer: a chunk's sums of powers in one read of it, piece by piece, joined by Pebay's formulas.

Means are kept as a pair, a value and what rounding took from it, so that the mean of a thousand chunks is as good as
that of one.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

PIECE = 1 << 13  # values whose deviations stay in a core's cache
NAN = float("nan")


class Moments:
    """The first four moments of a stream of numbers."""

    __slots__ = ("centre", "m2", "m3", "m4", "n", "rest")

    def __init__(self) -> None:
        """Start with nothing seen; ``n`` counts the values."""
        self.n = 0
        self.centre = self.rest = 0.0  # the mean, and the part of it that a float64 has no room for
        self.m2 = self.m3 = self.m4 = 0.0  # sums of powers of the deviations from the mean

    def update(self, values: ArrayLike) -> None:
        """Take in a chunk of numbers, of any shape and size, in any real dtype.

        Raises TypeError for what is no number, ValueError for NaN or inf; what was seen before stays as it was.
        """
        given = np.asarray(values)
        if given.dtype.kind not in "bifu" and given.size:
            msg = f"values are {given.dtype}, must be real numbers"
            raise TypeError(msg)
        x = given.astype(np.float64, copy=False).ravel()
        if not x.size:
            return
        found = _moments(x)
        if not math.isfinite(found.centre) and not np.isfinite(x).all():
            msg = f"values have {np.count_nonzero(~np.isfinite(x))} NaN or inf among {x.size}"
            raise ValueError(msg)
        joined = self.merge(found)
        for name in Moments.__slots__:
            setattr(self, name, getattr(joined, name))

    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of both streams together; neither is changed.

        Source: Pebay 2008, SAND2008-6212, eq. 2.1.
        """
        both = Moments()
        a, b = self.n, other.n
        if not a or not b:
            source = other if b else self
            for name in Moments.__slots__:
                setattr(both, name, getattr(source, name))
            return both
        n = a + b
        delta = (other.centre - self.centre) + (other.rest - self.rest)
        square = delta * delta  # not delta**2, which raises where it overflows
        both.n = n
        both.centre, both.rest = _two_sum(self.centre, self.rest + delta * (b / n))
        weight = a * (b / n)
        both.m2 = self.m2 + other.m2 + square * weight
        both.m3 = self.m3 + other.m3 + square * delta * weight * ((a - b) / n)
        both.m3 += 3 * delta * (a * other.m2 - b * self.m2) / n
        both.m4 = self.m4 + other.m4 + square * square * weight * ((a * a - a * b + b * b) / n / n)
        both.m4 += 6 * square * ((a / n) ** 2 * other.m2 + (b / n) ** 2 * self.m2)
        both.m4 += 4 * delta * (a * other.m3 - b * self.m3) / n
        return both

    @property
    def mean(self) -> float:
        """The arithmetic mean. Raises ValueError where nothing was seen."""
        self._refuse_fewer_than(1)
        return self.centre

    @property
    def variance(self) -> float:
        """The variance of a sample, over n - 1. Raises ValueError for fewer than two values."""
        self._refuse_fewer_than(2)
        return self.m2 / (self.n - 1)

    @property
    def skewness(self) -> float:
        """The third central moment over the second to the power 1.5; NaN for constant data.

        Raises ValueError where nothing was seen.
        """
        self._refuse_fewer_than(1)
        return math.sqrt(self.n) * (self.m3 / self.m2) / math.sqrt(self.m2) if self.m2 else NAN

    @property
    def kurtosis(self) -> float:
        """The fourth central moment over the second squared, minus 3; NaN for constant data.

        Raises ValueError where nothing was seen.
        """
        self._refuse_fewer_than(1)
        return self.n * (self.m4 / self.m2) / self.m2 - 3 if self.m2 else NAN

    def _refuse_fewer_than(self, count: int) -> None:
        if self.n < count:
            msg = f"{self.n} values seen, at least {count} are needed"
            raise ValueError(msg)


def _moments(x: NDArray[np.float64]) -> Moments:
    """Return the moments of one chunk."""
    found = Moments()
    found.n = n = x.size
    with np.errstate(over="ignore", invalid="ignore"):  # from 1e77 on the fourth power is inf; NaN is refused later
        # Around a value near the mean little cancels below. The first piece's mean is one, or else it shows the way.
        shift = float(np.add.reduce(x[:PIECE])) / min(n, PIECE)
        one, two, three, four = _powers(x, shift)
        if n > PIECE and one * one > two * n / 16:
            shift += one / n
            one, two, three, four = _powers(x, shift)
        gap = one / n  # from the shift to the mean
        found.centre, found.rest = _two_sum(shift, gap)
        found.m2 = two - gap * one
        found.m3 = three - gap * (3 * two - 2 * gap * one)
        found.m4 = four - gap * (4 * three - gap * (6 * two - 3 * gap * one)) if gap else four
    return found


def _powers(x: NDArray[np.float64], shift: float) -> list[float]:
    """Return the sums of ``x - shift`` and of its second, third and fourth powers; ``x`` is read once."""
    size = min(x.size, PIECE)
    sums, room = np.empty((4, -(-x.size // PIECE))), np.empty((2, size))  # reused: fresh memory costs as much as sums
    for column, start in enumerate(range(0, x.size, PIECE)):
        piece = x[start : start + PIECE]
        deviations = np.subtract(piece, shift, out=room[0, : piece.size])  # exact where values lie close together
        squares = np.multiply(deviations, deviations, out=room[1, : piece.size])
        sums[:, column] = (
            np.add.reduce(deviations),
            np.dot(deviations, deviations),
            np.dot(squares, deviations),
            np.dot(squares, squares),
        )
    found: list[float] = sums.sum(axis=1).tolist()
    return found


def _two_sum(a: float, b: float) -> tuple[float, float]:
    """Return a + b rounded, and what rounding took from it, exactly. Source: Knuth 1997, volume 2, 4.2.2, theorem B."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)
