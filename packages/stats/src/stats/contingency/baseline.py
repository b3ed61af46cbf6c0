"""The simple answer: the sums of the textbook."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.contingency import Lambda
from stats.result import Result
from stats.special.solution import chi2

Table = NDArray[np.float64]


def chisquare(f_obs: ArrayLike, f_exp: ArrayLike | None = None, ddof: int = 0) -> Result:
    """Test whether counts fit expected ones."""
    seen = np.asarray(f_obs, float)
    n = float(seen.sum())
    expected = np.full(seen.shape, n / seen.size) if f_exp is None else np.asarray(f_exp, float)
    statistic = float(((seen - expected) ** 2 / expected).sum())
    return _result(statistic, seen.size - 1 - ddof, math.sqrt(statistic / n), n)


def chi2_contingency(observed: ArrayLike, correction: bool = True, lambda_: Lambda = "pearson") -> Result:  # noqa: FBT001, FBT002 - scipy's signature
    """Test whether rows and columns are independent."""
    seen, df = np.asarray(observed, float), (np.shape(observed)[0] - 1) * (np.shape(observed)[1] - 1)
    n = float(seen.sum())
    expected = np.outer(seen.sum(1), seen.sum(0)) / n
    if correction and df == 1:
        seen = seen + np.clip(expected - seen, -0.5, 0.5)
    if lambda_ == "pearson":
        statistic = float(((seen - expected) ** 2 / expected).sum())
    else:
        statistic = 2 * float((seen * np.log(np.where(seen > 0, seen, 1) / expected)).sum())
    return _result(statistic, df, cramers_v(observed), n)


def cramers_v(observed: ArrayLike, bias_correction: bool = False) -> float:  # noqa: FBT001, FBT002
    """Return Cramer's V."""
    seen = np.asarray(observed, float)
    expected = np.outer(seen.sum(1), seen.sum(0)) / seen.sum()
    return math.sqrt(float(((seen - expected) ** 2 / expected).sum()) / float(seen.sum()) / (min(seen.shape) - 1))


def residuals(observed: ArrayLike) -> Table:
    """Return adjusted residuals."""
    seen = np.asarray(observed, float)
    n, rows, columns = seen.sum(), seen.sum(1), seen.sum(0)
    expected = np.outer(rows, columns) / n
    found: Table = (seen - expected) / np.sqrt(expected * np.outer(1 - rows / n, 1 - columns / n))
    return found


def _result(statistic: float, df: int, estimate: float, n: float) -> Result:
    pvalue = float(chi2.sf(statistic, df))
    log = math.log(pvalue) if pvalue else -math.inf
    return Result(statistic, pvalue, log, df, estimate, math.nan, n, "two-sided", "chi-square")
