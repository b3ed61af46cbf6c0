"""The simple answer: the formulas of the textbook, tails from ``stats.special``."""

import numpy as np
from numpy.typing import ArrayLike

from stats.result import Result
from stats.special import Real
from stats.special.solution import t
from stats.students import Alternative, NanPolicy


def ttest_from_stats(
    mean1: ArrayLike,
    std1: ArrayLike,
    nobs1: ArrayLike,
    mean2: ArrayLike,
    std2: ArrayLike,
    nobs2: ArrayLike,
    equal_var: bool = True,  # noqa: FBT001, FBT002 - scipy's signature
    alternative: Alternative = "two-sided",
) -> Result:
    """Test whether two means differ, given means, standard deviations and numbers of both samples."""
    n, m = np.asarray(nobs1, float), np.asarray(nobs2, float)
    u, v = np.asarray(std1) ** 2, np.asarray(std2) ** 2
    if equal_var:
        df = n + m - 2
        error = np.sqrt(((n - 1) * u + (m - 1) * v) / df * (1 / n + 1 / m))
    else:
        df = (u / n + v / m) ** 2 / ((u / n) ** 2 / (n - 1) + (v / m) ** 2 / (m - 1))
        error = np.sqrt(u / n + v / m)
    gap = np.asarray(mean1) - np.asarray(mean2)
    return _result(gap, error, df, gap, n + m, alternative)


def ttest_1samp(
    a: ArrayLike,
    popmean: ArrayLike,
    axis: int | None = 0,
    nan_policy: NanPolicy = "propagate",
    alternative: Alternative = "two-sided",
) -> Result:
    """Test whether the mean along ``axis`` of ``a`` is ``popmean``."""
    x = np.asarray(a, float)
    n = x.size if axis is None else x.shape[axis]
    mean, error = x.mean(axis, keepdims=True), x.std(axis, ddof=1) / np.sqrt(n)
    return _result((mean - popmean).reshape(error.shape), error, n - 1, x.mean(axis), n, alternative)


def ttest_rel(
    a: ArrayLike,
    b: ArrayLike,
    axis: int | None = 0,
    nan_policy: NanPolicy = "propagate",
    alternative: Alternative = "two-sided",
) -> Result:
    """Test whether the mean of the differences of pairs is 0."""
    return ttest_1samp(np.asarray(a, float) - np.asarray(b, float), 0, axis, nan_policy, alternative)


def ttest_ind(
    a: ArrayLike,
    b: ArrayLike,
    *,
    axis: int | None = 0,
    equal_var: bool = True,
    nan_policy: NanPolicy = "propagate",
    alternative: Alternative = "two-sided",
) -> Result:
    """Test whether two independent samples have the same mean."""
    x, y = np.asarray(a, float), np.asarray(b, float)
    n, m = (z.size if axis is None else z.shape[axis] for z in (x, y))
    first, second = (x.mean(axis), x.std(axis, ddof=1)), (y.mean(axis), y.std(axis, ddof=1))
    return ttest_from_stats(*first, n, *second, m, equal_var, alternative)


def _result(gap: Real, error: Real, df: Real, estimate: Real, n: Real, alternative: Alternative) -> Result:
    statistic = gap / error
    size = {"two-sided": np.abs(statistic), "greater": statistic, "less": -statistic}[alternative]
    pvalue = t.sf(size, df) * (2 if alternative == "two-sided" else 1)
    df = df + 0 * statistic  # one for each test
    with np.errstate(divide="ignore"):
        return Result(statistic, pvalue, np.log(pvalue), df, estimate, error, n, alternative, "t")
