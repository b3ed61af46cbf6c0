"""Your turn: replace each ``raise NotImplementedError``."""

import math
import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.contingency import Lambda
from stats.result import Result
from stats.special.solution import chi2

Table = NDArray[np.float64]


def chisquare(f_obs: ArrayLike, f_exp: ArrayLike | None = None, ddof: int = 0) -> Result:
    """Test whether counts (k,) fit expected ones, all equal unless ``f_exp`` (k,) is given: Pearson's chi-square.

    ``ddof`` parameters estimated from the counts cost a degree of freedom each. The estimate is Cohen's w, the root of
    statistic / n. Warns where fewer than 5 are expected. Raises ValueError for counts that are negative or NaN, none,
    shapes that differ, expected counts that are not above 0 or have another sum, or no degree of freedom left.
    Source: Pearson 1900; Cohen 1988, chapter 7.
    """
    raise NotImplementedError("TODO 1 (core, about 10 lines): squared distances over expected counts")


def chi2_contingency(observed: ArrayLike, correction: bool = True, lambda_: Lambda = "pearson") -> Result:  # noqa: FBT001, FBT002 - scipy's signature
    """Test whether rows and columns of a table of counts (r, c) are independent.

    ``correction`` moves each count by up to 1/2 towards the expected one where there is one degree of freedom (Yates);
    ``lambda_`` "log-likelihood" makes it the G-test. The estimate is Cramer's V, without the correction. Warns where
    fewer than 5 are expected in a cell. Raises ValueError for counts that are negative or NaN, none, another shape, a
    row or column of zeros, or an unknown ``lambda_``. Source: Pearson 1900; Yates 1934; Wilks 1935; Cochran 1954.
    """
    if lambda_ == "log-likelihood":
        raise NotImplementedError("TODO 5 (stretch, about 4 lines): twice the sum of counts times log ratios")
    raise NotImplementedError("TODO 2 (core, about 14 lines): expected counts from the margins, Yates, the tail")


def cramers_v(observed: ArrayLike, bias_correction: bool = False) -> float:  # noqa: FBT001, FBT002 - as scipy's `correction`
    """Return Cramer's V of a table of counts (r, c), from 0 (independent) to 1.

    ``bias_correction`` takes off what independent rows and columns would show by chance. NaN for a single row or
    column. Raises ValueError as ``chi2_contingency``. Source: Cramer 1946; Bergsma 2013, J. Korean Stat. Soc. 42(3).
    """
    if bias_correction:
        raise NotImplementedError("TODO 6 (stretch, about 5 lines): less what chance would show")
    raise NotImplementedError("TODO 3 (core, about 4 lines): the root of chi-square over its largest value")


def residuals(observed: ArrayLike) -> Table:
    """Return adjusted residuals (r, c): how many standard errors each count is off what independence expects.

    Where rows and columns are independent each is nearly standard normal. NaN for a single row or column. Raises
    ValueError as ``chi2_contingency``. Source: Haberman 1973, Biometrics 29(1), eq. 5.
    """
    raise NotImplementedError("TODO 4 (core, about 4 lines): distances in standard errors")
