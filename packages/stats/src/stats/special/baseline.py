"""The simple answer: a number at a time, by the textbook's series and continued fractions."""

import math
from collections.abc import Callable

import numpy as np

from stats.special import Real

MOST, CLOSE = 10_000, 1e-16


def norm_tail(x: Real, upper: bool, log: bool) -> Real:  # noqa: FBT001
    """Return a tail of the standard normal distribution, or its logarithm."""
    return each(lambda z: math.erfc((z if upper else -z) / math.sqrt(2)) / 2, log, x)


def chi2_tail(x: Real, upper: bool, log: bool, df: Real) -> Real:  # noqa: FBT001
    """Return a tail of the chi-square distribution, or its logarithm."""

    def one(x: float, df: float) -> float:
        a, x = df / 2, x / 2
        if x <= 0:
            return float(upper)
        front = math.exp(a * math.log(x) - x - math.lgamma(a))
        if x < a + 1:
            term = total = 1 / a
            n = a
            while term > total * 1e-17:
                n += 1
                term *= x / n
                total += term
            return 1 - front * total if upper else front * total
        b = x + 1 - a
        c, d = 1e300, 1 / b
        fraction, n = d, 0
        while n < MOST:
            n += 1
            b += 2
            d = 1 / (n * (a - n) * d + b)
            c = b + n * (a - n) / c
            fraction *= c * d
            if abs(c * d - 1) < CLOSE:
                break
        return front * fraction if upper else 1 - front * fraction

    return each(one, log, x, df)


def t_tail(x: Real, upper: bool, log: bool, df: Real) -> Real:  # noqa: FBT001
    """Return a tail of Student's t distribution, or its logarithm."""

    def one(t: float, df: float) -> float:
        x, a, b = df / (df + t * t), df / 2, 0.5
        front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x)) * abs(t)
        front /= math.sqrt(df + t * t)
        tail = front * fraction(a, b, x) / (2 * a) if x < (a + 1) / (a + b + 2) else 0.5 - front * fraction(b, a, 1 - x)
        return tail if (t > 0) == upper else 1 - tail

    return each(one, log, x, df)


def fraction(a: float, b: float, x: float) -> float:
    """Return the continued fraction of the incomplete beta function, by Lentz's method."""
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    found = d
    for m in range(1, MOST):
        even, odd = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)), -(a + m) * (a + b + m) * x
        for step in (even, odd / ((a + 2 * m) * (a + 2 * m + 1))):
            c, d = 1 + step / c, 1 / (1 + step * d)
            found *= c * d
        if abs(c * d - 1) < CLOSE:
            break
    return found


def each(one: Callable[..., float], log: bool, *given: Real) -> Real:  # noqa: FBT001
    """Call a function for each element."""
    found = np.vectorize(one, otypes=[float])(*given)
    with np.errstate(divide="ignore"):
        return (np.log(found) if log else found)[()]
