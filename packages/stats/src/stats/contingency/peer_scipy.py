"""Peer: ``scipy.stats``."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats as untyped

from stats.contingency import Lambda
from stats.result import Result

stats: Any = untyped


def chisquare(f_obs: ArrayLike, f_exp: ArrayLike | None = None, ddof: int = 0) -> Result:
    """Call ``chisquare``."""
    said, n = stats.chisquare(f_obs, f_exp, ddof), float(np.sum(np.asarray(f_obs)))
    df = len(np.asarray(f_obs)) - 1 - ddof
    return _result(said, df, math.sqrt(said.statistic / n), n)


def chi2_contingency(observed: ArrayLike, correction: bool = True, lambda_: Lambda = "pearson") -> Result:  # noqa: FBT001, FBT002 - its signature
    """Call ``chi2_contingency``, which has no effect size."""
    said = stats.chi2_contingency(observed, correction, lambda_)
    return _result(said, said.dof, math.nan, float(np.sum(np.asarray(observed))))


def cramers_v(observed: ArrayLike, bias_correction: bool = False) -> float:  # noqa: FBT001, FBT002 - as the others
    """Call ``contingency.association``, which has no correction."""
    if bias_correction:
        msg = "scipy has no correction"
        raise NotImplementedError(msg)
    return float(stats.contingency.association(np.asarray(observed)))


def _result(said: Any, df: int, estimate: float, n: float) -> Result:  # noqa: ANN401 - scipy's type is private
    pvalue = float(said.pvalue)
    log = math.log(pvalue) if pvalue else -math.inf
    return Result(float(said.statistic), pvalue, log, df, estimate, math.nan, n, "two-sided", "scipy")
