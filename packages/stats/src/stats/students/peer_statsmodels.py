"""Peer: statsmodels."""

import math

import numpy as np
from numpy.typing import ArrayLike
from statsmodels.stats.weightstats import ttest_ind as statsmodels_ttest

from stats.result import Result
from stats.students import Alternative, NanPolicy

WORDS = {"two-sided": "two-sided", "greater": "larger", "less": "smaller"}


def ttest_ind(
    a: ArrayLike,
    b: ArrayLike,
    *,
    axis: int | None = 0,
    equal_var: bool = True,
    nan_policy: NanPolicy = "propagate",
    alternative: Alternative = "two-sided",
) -> Result:
    """Call ``ttest_ind``, for one pair of samples."""
    first, second = np.asarray(a, float), np.asarray(b, float)
    if first.ndim != 1 or axis != 0:
        msg = "statsmodels takes an axis of its own"
        raise NotImplementedError(msg)
    usevar = "pooled" if equal_var else "unequal"
    statistic, pvalue, df = statsmodels_ttest(first, second, alternative=WORDS[alternative], usevar=usevar)
    estimate = float(first.mean() - second.mean())
    log = math.log(pvalue) if pvalue else -math.inf
    n, error = first.size + second.size, abs(estimate / statistic)
    return Result(float(statistic), float(pvalue), log, float(df), estimate, error, n, alternative, "statsmodels")
