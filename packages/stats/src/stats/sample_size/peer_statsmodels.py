"""Peer: ``statsmodels.stats.power``."""

from typing import Any

from statsmodels.stats import power as peer
from statsmodels.stats.proportion import power_proportions_2indep

from stats.sample_size import Alternative, Kind, Test

WORDS = {"two-sided": "two-sided", "greater": "larger", "less": "smaller"}


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
    words = WORDS[alternative]
    if kind == "one-sample":
        return float(peer.TTestPower().power(d, n, alpha, alternative=words))
    return float(peer.TTestIndPower().power(d, n, alpha, ratio=ratio, alternative=words))


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
    words = WORDS[alternative]
    found = power_proportions_2indep(p1 - p2, p2, n, ratio=ratio, alpha=alpha, alternative=words, return_results=False)
    return float(found)


def power_chi2(w: float, n: float, df: float, *, alpha: float = 0.05) -> float:
    """Return the power of a chi-square test."""
    return float(peer.GofChisquarePower().power(w, n, alpha, n_bins=df + 1))


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
    """Return the one that is None; shares are not solved for."""
    given: dict[str, Any] = {"effect_size": effect, "power": power, "alpha": alpha}
    if test == "chi2":
        return float(peer.GofChisquarePower().solve_power(**given, nobs=n, n_bins=df + 1))
    if test == "proportions":
        msg = "statsmodels solves for arcsine effects only"
        raise ValueError(msg)
    given["alternative"] = WORDS[alternative]
    if kind == "one-sample":
        return float(peer.TTestPower().solve_power(**given, nobs=n))
    return float(peer.TTestIndPower().solve_power(**given, nobs1=n, ratio=ratio))
