"""Peer: ``scipy.stats``."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats as untyped

from stats.result import Result
from stats.students import Alternative, NanPolicy

stats: Any = untyped  # its stubs know no axis but whole numbers


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
    """Call ``ttest_ind_from_stats``, which says nothing but statistic and p-value."""
    said = stats.ttest_ind_from_stats(
        *map(np.asarray, (mean1, std1, nobs1, mean2, std2, nobs2)), equal_var=equal_var, alternative=alternative
    )
    estimate = np.subtract(mean1, mean2)
    error = np.abs(estimate / said.statistic)
    n = np.add(nobs1, nobs2)
    return Result(said.statistic, said.pvalue, _log(said.pvalue), np.nan, estimate, error, n, alternative, "scipy")


def ttest_1samp(
    a: ArrayLike,
    popmean: ArrayLike,
    axis: int | None = 0,
    nan_policy: NanPolicy = "propagate",
    alternative: Alternative = "two-sided",
) -> Result:
    """Call ``ttest_1samp``."""
    return _result(stats.ttest_1samp(a, popmean, axis, nan_policy, alternative), alternative)


def ttest_rel(
    a: ArrayLike,
    b: ArrayLike,
    axis: int | None = 0,
    nan_policy: NanPolicy = "propagate",
    alternative: Alternative = "two-sided",
) -> Result:
    """Call ``ttest_rel``."""
    return _result(stats.ttest_rel(a, b, axis, nan_policy, alternative), alternative)


def ttest_ind(
    a: ArrayLike,
    b: ArrayLike,
    *,
    axis: int | None = 0,
    equal_var: bool = True,
    nan_policy: NanPolicy = "propagate",
    alternative: Alternative = "two-sided",
) -> Result:
    """Call ``ttest_ind``."""
    said = stats.ttest_ind(a, b, axis=axis, equal_var=equal_var, nan_policy=nan_policy, alternative=alternative)
    return _result(said, alternative)


def f_oneway(*samples: ArrayLike) -> Result:
    """Call ``f_oneway``, which says nothing but statistic and p-value."""
    said = stats.f_oneway(*samples)
    sizes = [len(np.asarray(sample)) for sample in samples]
    df = len(sizes) - 1, sum(sizes) - len(sizes)
    share = said.statistic * df[0] / (said.statistic * df[0] + df[1])
    pvalue = said.pvalue
    return Result(said.statistic, pvalue, _log(pvalue), df, share, np.nan, sum(sizes), "two-sided", "scipy")


def _result(said: Any, alternative: Alternative) -> Result:  # noqa: ANN401 - scipy's type is private
    """Hand on what scipy has, and no more: its estimate and standard error are private."""
    estimate, error = said._estimate, said._standard_error  # noqa: SLF001
    n = np.nan
    return Result(said.statistic, said.pvalue, _log(said.pvalue), said.df, estimate, error, n, alternative, "scipy")


def _log(pvalue: Any) -> Any:  # noqa: ANN401 - a number or an array
    with np.errstate(divide="ignore"):
        return np.log(pvalue)
