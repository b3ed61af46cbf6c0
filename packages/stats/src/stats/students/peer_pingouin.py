"""Peer: pingouin."""

import math
from typing import Any

import numpy as np
import pingouin
from numpy.typing import ArrayLike

from stats.result import Result
from stats.students import Alternative, NanPolicy


def ttest_1samp(
    a: ArrayLike,
    popmean: ArrayLike,
    axis: int | None = 0,
    nan_policy: NanPolicy = "propagate",
    alternative: Alternative = "two-sided",
) -> Result:
    """Call ``ttest`` with a number."""
    return _ttest(a, popmean, axis, nan_policy, alternative)


def ttest_rel(
    a: ArrayLike,
    b: ArrayLike,
    axis: int | None = 0,
    nan_policy: NanPolicy = "propagate",
    alternative: Alternative = "two-sided",
) -> Result:
    """Call ``ttest`` with ``paired``."""
    return _ttest(a, b, axis, nan_policy, alternative, paired=True)


def ttest_ind(
    a: ArrayLike,
    b: ArrayLike,
    *,
    axis: int | None = 0,
    equal_var: bool = True,
    nan_policy: NanPolicy = "propagate",
    alternative: Alternative = "two-sided",
) -> Result:
    """Call ``ttest`` with Welch's ``correction`` or without."""
    return _ttest(a, b, axis, nan_policy, alternative, correction=not equal_var)


def _ttest(
    a: ArrayLike, b: ArrayLike, axis: int | None, nan_policy: NanPolicy, alternative: Alternative, **options: bool
) -> Result:
    first, second = np.asarray(a, float), np.asarray(b, float)
    if first.ndim != 1 or axis != 0 or nan_policy != "propagate":
        msg = "pingouin has no axis, and leaves NaN out"
        raise NotImplementedError(msg)
    said: Any = pingouin.ttest(first, second, alternative=alternative, **options)
    # Its columns were renamed in version 0.6.
    statistic, df = float(said["T"].iloc[0]), float(said["dof"].iloc[0])
    pvalue = float(said["p_val" if "p_val" in said else "p-val"].iloc[0])
    estimate = float(first.mean() - (second.mean() if options else 0))
    gap = float(first.mean() - second.mean())
    log = math.log(pvalue) if pvalue else -math.inf
    n = first.size + (second.size if options and not options.get("paired") else 0)
    return Result(statistic, pvalue, log, df, estimate, abs(gap / statistic), n, alternative, "pingouin")
