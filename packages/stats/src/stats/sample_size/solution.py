"""The production answer: exact noncentral tails, and a bracketed root in the logarithm of what is sought."""

import math
from collections.abc import Callable
from typing import get_args

from stats.sample_size import Alternative, Kind, Test
from stats.special.solution import chi2, nct, nct_between, nct_outside, ncx2, norm, t

FARTHEST = 1e15  # n, or an effect: what needs more is out of reach
NEAREST = 1e-12  # an effect
CLOSE = 1e-14  # of the root, relative


def power_ttest(
    d: float,
    n: float,
    *,
    alpha: float = 0.05,
    alternative: Alternative = "two-sided",
    kind: Kind = "two-sample",
    ratio: float = 1.0,
) -> float:
    """Return the power of Student's t-test for Cohen's ``d``, a difference of means in standard deviations.

    ``n`` is the number of values in the first sample, ``ratio * n`` that in the second; a "one-sample" test, or one of
    paired differences, has n alone. Two-sided power counts both tails. Numbers need not be whole, but leave more than 0
    degrees of freedom. Raises ValueError for other n, d that is not finite, alpha outside (0, 1), a ratio that is
    not positive, or unknown words. Source: Cohen 1988, Statistical Power Analysis, chapter 2; the exact law is
    noncentral t, Johnson, Kotz and Balakrishnan 1995, section 31.2.
    """
    _refuse_options(alpha, alternative, kind)
    df, weight = _degrees(d, n, ratio, kind)
    shift = d * math.sqrt(weight)
    cut = t.isf(_each_side(alpha, alternative), df)
    if alternative == "two-sided":
        return nct_outside(cut, df, shift)
    return float(nct.sf(cut, df, shift) if alternative == "greater" else nct.cdf(-cut, df, shift))


def power_proportions(
    p1: float,
    p2: float,
    n: float,
    *,
    alpha: float = 0.05,
    alternative: Alternative = "two-sided",
    ratio: float = 1.0,
) -> float:
    """Return the power of the z test that two shares, ``p1`` of n items and ``p2`` of ``ratio * n``, differ.

    The test divides by the standard error of pooled shares, while the difference has that of shares apart; normal
    approximation, both tails. "greater" means p1 > p2. Raises ValueError for shares outside [0, 1], n or ratio that are
    not positive, alpha outside (0, 1), or unknown words. Source: Fleiss, Levin and Paik 2003, Statistical Methods
    for Rates and Proportions, eq. 4.14 turned around.
    """
    if not (0 <= p1 <= 1 and 0 <= p2 <= 1):
        msg = f"p1 is {p1} and p2 {p2}, must lie between 0 and 1"
        raise ValueError(msg)
    _refuse("n", n, 0.0)
    _refuse("ratio", ratio, 0.0)
    _refuse_options(alpha, alternative)
    pooled = (p1 + ratio * p2) / (1 + ratio)
    null = math.sqrt(pooled * (1 - pooled) * (1 + 1 / ratio) / n)
    spread = math.sqrt((p1 * (1 - p1) + p2 * (1 - p2) / ratio) / n)
    reach, effect = norm.isf(_each_side(alpha, alternative)) * null, p1 - p2
    if spread == 0:  # both shares are certain
        return float((alternative != "less" and effect > reach) or (alternative != "greater" and effect < -reach))
    above = norm.sf((reach - effect) / spread) if alternative != "less" else 0.0
    below = norm.cdf((-reach - effect) / spread) if alternative != "greater" else 0.0
    return float(above + below)


def power_chi2(w: float, n: float, df: float, *, alpha: float = 0.05) -> float:
    """Return the power of a chi-square test with ``df`` degrees of freedom on ``n`` items for Cohen's effect ``w``.

    Raises ValueError for w that is negative or not finite, n or df that is not positive, or alpha outside (0, 1).
    Source: Cohen 1988, chapter 7.
    """
    if not 0 <= w < math.inf:
        msg = f"w is {w}, must be finite and at least 0"
        raise ValueError(msg)
    _refuse("n", n, 0.0)
    _refuse("df", df, 0.0)
    _refuse_options(alpha)
    return float(ncx2.sf(chi2.isf(alpha, df), df, n * w * w))


def power_tost(
    d: float,
    n: float,
    margin: float,
    *,
    alpha: float = 0.05,
    kind: Kind = "two-sample",
    ratio: float = 1.0,
) -> float:
    """Return the power of two one-sided t-tests to show that a difference lies within ``margin``, where it is ``d``.

    Both are in standard deviations; ``n``, ``ratio`` and ``kind`` as in ``power_ttest``. It is exact: both tests share
    one estimate of the spread. Raises ValueError for a margin that is not positive, and as ``power_ttest``. Source:
    Schuirmann 1987, J. Pharmacokinet. Biopharm. 15; Owen 1965, Biometrika 52.
    """
    _refuse("margin", margin, 0.0)
    df, weight = _degrees(d, n, ratio, kind)
    _refuse_options(alpha, kind=kind)
    root = math.sqrt(weight)
    return nct_between(t.isf(alpha, df), df, (d + margin) * root, (d - margin) * root)


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
    """Return the one of ``effect``, ``n`` and ``power`` that is None, from the other two.

    "ttest" solves ``power_ttest`` with its ``kind`` (the effect is d); "proportions" ``power_proportions`` with p1 =
    base + effect against p2 = ``base``; "chi2" (stretch) ``power_chi2`` with ``df``; "tost" (stretch) ``power_tost``
    with ``margin``, for n or the power. n is that of the first sample, a real number: round it up. An effect asked for
    is the positive one, the negative one after "less". Raises ValueError unless exactly one is None, and for what no n
    or effect achieves, such as a power not above alpha.
    """
    _refuse_question(test, effect, n, power, margin)

    def reached(effect: float, n: float) -> float:
        if test == "tost":
            return power_tost(effect, n, float(margin or 0), alpha=alpha, kind=kind, ratio=ratio)
        if test == "ttest":
            return power_ttest(effect, n, alpha=alpha, alternative=alternative, kind=kind, ratio=ratio)
        if test == "chi2":
            return power_chi2(effect, n, df, alpha=alpha)
        one = base + effect
        return power_proportions(one, base, n, alpha=alpha, alternative=alternative, ratio=ratio)

    if power is None:
        return reached(float(effect), float(n))  # type: ignore[arg-type] # neither is None
    _refuse_options(alpha, alternative, kind)
    _refuse("ratio", ratio, 0.0)
    if not 0 <= base <= 1:
        msg = f"base is {base}, must lie between 0 and 1"
        raise ValueError(msg)
    if not alpha < power < 1:
        msg = f"power is {power}, must lie between alpha = {alpha}, which no effect at all gives, and 1"
        raise ValueError(msg)
    # The normal law's answer is near, with a variance of `unit` for each item.
    reach = norm.isf(alpha / 2) - norm.isf(power)
    unit = _unit(test, kind, ratio, base)
    if n is None:
        # Half a degree of freedom at least, for t; the others take any n.
        least = 1.5 if kind == "one-sample" else 2.5 / (1 + ratio)
        ends = least if test in ("ttest", "tost") else 1e-6, FARTHEST
        size = float(effect)  # type: ignore[arg-type] # it is not None
        seen = reach / ((float(margin or 0) - abs(size) if test == "tost" else size) or NEAREST)
        guess = unit * seen * seen
        return _root(lambda n: reached(size, n) - power, guess, ends, "n", power)
    sign = -1.0 if alternative == "less" and test != "chi2" else 1.0
    farthest = FARTHEST if test != "proportions" else base if sign < 0 else 1 - base
    guess = reach * math.sqrt(unit / n) if n > 0 else farthest
    return sign * _root(lambda size: reached(sign * size, n) - power, guess, (NEAREST, farthest), "effect", power)


def _root(short: Callable[[float], float], guess: float, ends: tuple[float, float], name: str, power: float) -> float:
    """Find where a growing function crosses 0, in the logarithm; a bracket first, then the Illinois method.

    Raises ValueError where the function has not the signs of a root at the ends. Source: Dowell and Jarratt 1971, A
    modified regula falsi method, BIT 11.
    """
    least, most = math.log(ends[0]), math.log(max(ends))
    low = high = math.log(min(max(guess, ends[0]), max(ends)))
    lower = upper = short(min(math.exp(low), ends[1]))
    step = 0.02
    while upper <= 0:
        if high >= most:
            msg = f"power {power} is not reached by any {name} up to {ends[1]:.4g}"
            raise ValueError(msg)
        low, lower, high, step = high, upper, min(high + step, most), 3 * step
        upper = short(min(math.exp(high), ends[1]))
    while lower >= 0:
        if low <= least:
            msg = f"power {power} is less than what the smallest {name}, {ends[0]:.4g}, gives"
            raise ValueError(msg)
        high, upper, low, step = low, lower, max(low - step, least), 3 * step
        lower = short(max(math.exp(low), ends[0]))
    kept = 0
    while high - low > CLOSE * max(1.0, abs(high)):
        middle = high - upper * (high - low) / (upper - lower)
        middle = middle if low < middle < high else (low + high) / 2
        here = short(math.exp(middle))
        if here == 0 or not low < middle < high:
            return math.exp(middle)
        if here > 0:
            high, upper = middle, here
            lower, kept = (lower / 2 if kept > 0 else lower), 1
        else:
            low, lower = middle, here
            upper, kept = (upper / 2 if kept < 0 else upper), -1
    return math.exp((low + high) / 2)


def _degrees(d: float, n: float, ratio: float, kind: Kind) -> tuple[float, float]:
    """Return the degrees of freedom of a t-test, and one over the variance of its difference."""
    _refuse("d", d, -math.inf)
    _refuse("n", n, 0.0)
    _refuse("ratio", ratio, 0.0)
    df, weight = (n - 1, n) if kind == "one-sample" else (n + ratio * n - 2, n * ratio / (1 + ratio))
    if df <= 0:
        msg = f"n is {n}, which leaves {df} degrees of freedom for a {kind} test, must be more than 0"
        raise ValueError(msg)
    return df, weight


def _unit(test: Test, kind: Kind, ratio: float, base: float) -> float:
    """Return about n times the variance of an estimate of the effect."""
    samples = 1.0 if test == "chi2" or (test != "proportions" and kind == "one-sample") else 1 + 1 / ratio
    return samples * max(base * (1 - base), 0.01) if test == "proportions" else samples


def _each_side(alpha: float, alternative: Alternative) -> float:
    return alpha / 2 if alternative == "two-sided" else alpha


def _refuse(name: str, value: float, least: float) -> None:
    if not least < value < math.inf:
        msg = f"{name} is {value}, must be finite{' and more than 0' if least == 0 else ''}"
        raise ValueError(msg)


def _refuse_question(
    test: str, effect: float | None, n: float | None, power: float | None, margin: float | None
) -> None:
    if test not in get_args(Test):
        msg = f"test is {test!r}, must be one of {', '.join(get_args(Test))}"
        raise ValueError(msg)
    if (effect is None) + (n is None) + (power is None) != 1:
        msg = f"effect is {effect}, n {n}, power {power}: leave out exactly one of them"
        raise ValueError(msg)
    if test == "tost" and (margin is None or effect is None):
        msg = f"effect is {effect} and margin {margin}: for tost both have to be given"
        raise ValueError(msg)


def _refuse_options(alpha: float, alternative: str = "two-sided", kind: str = "two-sample") -> None:
    if not 0 < alpha < 1:
        msg = f"alpha is {alpha}, must lie between 0 and 1"
        raise ValueError(msg)
    for name, given, known in (("alternative", alternative, Alternative), ("kind", kind, Kind)):
        if given not in get_args(known):
            msg = f"{name} is {given!r}, must be one of {', '.join(get_args(known))}"
            raise ValueError(msg)
