"""Peer: statsmodels, with regression for CUPED and its own two one-sided tests."""

import math
from typing import Any

import numpy as np
import statsmodels.api as sm
from numpy.typing import ArrayLike
from statsmodels.stats.weightstats import ttost_ind

from stats.result import Result


def cuped(first: ArrayLike, second: ArrayLike, first_before: ArrayLike, second_before: ArrayLike) -> Result:
    """Regress on the arm and the covariate: the arm's coefficient is CUPED's estimate, with White's errors (HC2)."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    y = np.concatenate([a, b])
    arm = np.repeat([1.0, 0.0], [a.size, b.size])
    before = np.concatenate([np.asarray(first_before, float), np.asarray(second_before, float)])
    fit: Any = sm.OLS(y, np.column_stack([np.ones_like(y), arm, before])).fit(cov_type="HC2", use_t=True)
    statistic, pvalue = float(fit.tvalues[1]), float(fit.pvalues[1])
    estimate, error, df = float(fit.params[1]), float(fit.bse[1]), float(fit.df_resid)
    return Result(statistic, pvalue, _log(pvalue), df, estimate, error, y.size, "two-sided", "OLS, HC2")


def tost(first: ArrayLike, second: ArrayLike, low: float, high: float) -> Result:
    """Call ``ttost_ind``."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    pvalue, lower, upper = ttost_ind(a, b, low, high, usevar="unequal")
    statistic, _, df = max(lower, upper, key=lambda found: float(found[1]))
    error, n = (high - low) / float(lower[0] - upper[0]), a.size + b.size
    estimate = float(a.mean() - b.mean())
    return Result(float(statistic), float(pvalue), _log(pvalue), float(df), estimate, error, n, "tost", "ttost_ind")


def _log(pvalue: float) -> float:
    return math.log(pvalue) if pvalue else -math.inf
