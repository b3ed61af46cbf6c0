"""The simple answer: Simpson's rule over the spread of the sample, and bisection."""

import math
from collections.abc import Callable
from statistics import NormalDist

from stats.sample_size import Alternative, Kind, Test

NORMAL, CUTS = NormalDist(), 200  # cuts of Simpson's rule


def tail(x: float, df: float, shift: float) -> float:
    """Return the chance that (Z + shift) / sqrt(V / df) is above x: given V, a normal tail."""
    low, high = max(1e-9, math.sqrt(df) - 9), math.sqrt(df) + 9  # of sqrt(V), whose spread is at most 1
    front = math.log(2) - df / 2 * math.log(2) - math.lgamma(df / 2)
    total, width = 0.0, (high - low) / CUTS
    for k in range(CUTS + 1):
        s = low + k * width
        density = math.exp(front + (df - 1) * math.log(s) - s * s / 2)
        total += (1 if k in (0, CUTS) else 4 if k % 2 else 2) * density * NORMAL.cdf(shift - x * s / math.sqrt(df))
    return total * width / 3


def bisect(short: Callable[[float], float], low: float, high: float) -> float:
    """Return where a growing function crosses 0."""
    if not short(low) < 0 < short(high):
        raise ValueError("no answer in the interval")
    for _ in range(45):
        middle = (low + high) / 2
        low, high = (low, middle) if short(middle) > 0 else (middle, high)
    return (low + high) / 2


def power_ttest(
    d: float,
    n: float,
    *,
    alpha: float = 0.05,
    alternative: Alternative = "two-sided",
    kind: Kind = "two-sample",
    ratio: float = 1.0,
) -> float:
    """Return the power of Student's t-test."""
    df, weight = (n - 1, n) if kind == "one-sample" else (n + ratio * n - 2, n * ratio / (1 + ratio))
    each, shift = alpha / 2 if alternative == "two-sided" else alpha, d * math.sqrt(weight)
    cut = bisect(lambda x: each - tail(x, df, 0.0), 0.0, 1e3)
    above, below = tail(cut, df, shift), tail(cut, df, -shift)
    return above + below if alternative == "two-sided" else above if alternative == "greater" else below


def power_proportions(
    p1: float,
    p2: float,
    n: float,
    *,
    alpha: float = 0.05,
    alternative: Alternative = "two-sided",
    ratio: float = 1.0,
) -> float:
    """Return the power of the z test of two shares."""
    pooled = (p1 + ratio * p2) / (1 + ratio)
    null = math.sqrt(pooled * (1 - pooled) * (1 + 1 / ratio) / n)
    spread = math.sqrt((p1 * (1 - p1) + p2 * (1 - p2) / ratio) / n)
    reach = NORMAL.inv_cdf(1 - (alpha / 2 if alternative == "two-sided" else alpha)) * null
    above, below = (1 - NORMAL.cdf((reach - effect) / spread) for effect in (p1 - p2, p2 - p1))
    return above + below if alternative == "two-sided" else above if alternative == "greater" else below


def solve_power(
    test: Test,
    *,
    effect: float | None = None,
    n: float | None = None,
    power: float | None = None,
    alpha: float = 0.05,
    alternative: Alternative = "two-sided",
    kind: Kind = "two-sample",
    ratio: float = 1.0,
    base: float = 0.5,
    df: float = 1.0,
    margin: float | None = None,
) -> float:
    """Return the one that is None, by bisection."""

    def reached(effect: float, n: float) -> float:
        if test == "ttest":
            return power_ttest(effect, n, alpha=alpha, alternative=alternative, kind=kind, ratio=ratio)
        return power_proportions(base + effect, base, n, alpha=alpha, alternative=alternative, ratio=ratio)

    if power is None:
        return reached(effect or 0.0, n or 0.0)
    if n is None:
        return bisect(lambda n: reached(effect or 0.0, n) - power, 3, 1e5)
    sign, most = (-1 if alternative == "less" else 1), 3.0 if test == "ttest" else 1 - base
    return sign * bisect(lambda size: reached(sign * size, n) - power, 1e-9, most)
