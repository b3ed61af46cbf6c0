"""Your turn: replace each ``raise NotImplementedError``."""

import math
import warnings

import numpy as np
from numpy.typing import ArrayLike

from stats.result import Result
from stats.special.solution import f, t
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
    """Test whether two means differ, given means, standard deviations (with n - 1) and numbers of both samples.

    All are numbers, or arrays that broadcast. ``equal_var`` pools the variances (Student); without it the degrees of
    freedom are Welch's. Raises ValueError for a negative deviation or number, or an unknown alternative. Source:
    Student 1908; Welch 1947, Biometrika 34, eq. 28 with Satterthwaite's degrees of freedom.
    """
    raise NotImplementedError("TODO 1 (core, about 12 lines): standard error, degrees of freedom, two tails")


def ttest_1samp(
    a: ArrayLike,
    popmean: ArrayLike,
    axis: int | None = 0,
    nan_policy: NanPolicy = "propagate",
    alternative: Alternative = "two-sided",
) -> Result:
    """Test whether the mean along ``axis`` of ``a`` (None: of all of it) is ``popmean``.

    ``popmean`` is a number, or an array as ``a`` with length 1 along the axis. The estimate is the mean itself.
    Fewer than two values, or constant ones at ``popmean``, give NaN and a RuntimeWarning. Raises ValueError for an
    unknown policy or alternative, or NaN where the policy refuses it. Source: Student 1908, Biometrika 6.
    """
    if nan_policy == "omit":
        raise NotImplementedError("TODO 5 (stretch, about 8 lines): numbers of values that differ from test to test")
    raise NotImplementedError("TODO 2 (core, about 6 lines): the distance of the mean in standard errors")


def ttest_rel(
    a: ArrayLike,
    b: ArrayLike,
    axis: int | None = 0,
    nan_policy: NanPolicy = "propagate",
    alternative: Alternative = "two-sided",
) -> Result:
    """Test whether the mean of the differences of pairs, ``a - b`` along ``axis``, is 0.

    ``n`` counts pairs; one of which a value is missing counts as missing. Raises ValueError for shapes that do not
    pair. Otherwise as ``ttest_1samp``.
    """
    if nan_policy == "omit":
        raise NotImplementedError("TODO 5 (stretch, about 8 lines): numbers of values that differ from test to test")
    raise NotImplementedError("TODO 3 (core, about 2 lines): one sample of differences")


def ttest_ind(
    a: ArrayLike,
    b: ArrayLike,
    *,
    axis: int | None = 0,
    equal_var: bool = True,
    nan_policy: NanPolicy = "propagate",
    alternative: Alternative = "two-sided",
) -> Result:
    """Test whether two independent samples have the same mean, along ``axis`` of both (None: of all values).

    ``equal_var`` pools the variances (Student); without it the test is Welch's. The estimate is the mean of ``a`` less
    that of ``b``. Fewer than two values, or constant samples without a difference, give NaN and a RuntimeWarning.
    Raises ValueError for an unknown policy or alternative, or NaN where the policy refuses it. Source: Student 1908;
    Welch 1947, Biometrika 34.
    """
    if nan_policy == "omit":
        raise NotImplementedError("TODO 5 (stretch, about 8 lines): numbers of values that differ from test to test")
    raise NotImplementedError("TODO 4 (core, about 8 lines): means and deviations along the axis, for TODO 1")


def f_oneway(*samples: ArrayLike) -> Result:
    """Test whether several independent samples, each (values,), all have the same mean: one-way analysis of variance.

    The estimate is eta squared, the share of the sum of squares that lies between samples; ``df`` is a pair, between
    and within. Constant samples give inf, or NaN where the means are equal too, with a RuntimeWarning. Raises
    ValueError for fewer than two samples, empty ones, or no more values than samples.
    Source: Fisher 1925; NIST Statistical Reference Datasets, Analysis of Variance.
    """
    raise NotImplementedError("TODO 6 (stretch, about 12 lines): the spread between samples over that within them")
