"""Peer: ``scipy.stats``, which has the tests beneath."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from stats.experiments import Arm
from stats.result import Result


def srm(counts: Mapping[Arm, int] | Sequence[int], weights: Mapping[str, float] | Sequence[float]) -> Result:
    """Call ``chisquare``; the estimate is not scipy's."""
    shares: dict[Arm, float] = dict(weights.items() if isinstance(weights, Mapping) else enumerate(weights))
    found: dict[Arm, int] = dict(counts.items() if isinstance(counts, Mapping) else enumerate(counts))
    pairs = [(found.get(arm, 0), share) for arm, share in shares.items() if share]
    seen, share = np.array([x for x, _ in pairs], float), np.array([s for _, s in pairs])
    n = int(seen.sum())
    said: Any = stats.chisquare(seen, share * n)
    errors, gaps = np.sqrt(share * (1 - share) / n), seen / n - share
    worst = int(np.argmax(np.abs(gaps) / errors))
    statistic, pvalue = float(said.statistic), float(said.pvalue)
    gap, error = float(gaps[worst]), float(errors[worst])
    return Result(statistic, pvalue, _log(pvalue), len(pairs) - 1, gap, error, n, "two-sided", "chisquare")


def guardrail(first: ArrayLike, second: ArrayLike, margin: float, *, harm: Literal["fall", "rise"] = "fall") -> Result:
    """Call ``ttest_ind`` on shifted values."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    return _one_sided(a, b, margin, "greater") if harm == "fall" else _one_sided(a, b, -margin, "less")


def tost(first: ArrayLike, second: ArrayLike, low: float, high: float) -> Result:
    """Call ``ttest_ind`` twice."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    both = _one_sided(a, b, -low, "greater"), _one_sided(a, b, -high, "less")
    return max(both, key=lambda found: found.pvalue)


def _one_sided(a: np.ndarray, b: np.ndarray, shift: float, alternative: Literal["less", "greater"]) -> Result:
    said: Any = stats.ttest_ind(a + shift, b, equal_var=False, alternative=alternative)
    statistic, pvalue, df = float(said.statistic), float(said.pvalue), float(said.df)
    estimate = float(a.mean() - b.mean())
    error, n = (estimate + shift) / statistic, len(a) + len(b)
    return Result(statistic, pvalue, _log(pvalue), df, estimate, error, n, alternative, "ttest_ind")


def _log(pvalue: float) -> float:
    return math.log(pvalue) if pvalue else -math.inf
