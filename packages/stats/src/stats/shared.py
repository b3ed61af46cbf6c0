"""What several solutions need beside the special functions."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stats.special import Distribution

LEAST = 1e-300  # of what has all the digits of a float64
UNTHREADED = 10_000  # values up to which BLAS has no threads


def dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the sum of products of two vectors, without BLAS's threads: they wait longer than the sum takes."""
    return float(a.dot(b) if a.size <= UNTHREADED else np.einsum("i,i->", a, b))


def tail_and_log(law: Distribution[Any], x: float, df: float, centre: float) -> tuple[float, float]:
    """Return the probability above x and its logarithm: below the centre the logarithm has more digits to give."""
    if x < centre:
        log_pvalue = float(law.logsf(x, df))
        return math.exp(log_pvalue), log_pvalue
    pvalue = float(law.sf(x, df))
    return pvalue, math.log(pvalue) if pvalue > LEAST else float(law.logsf(x, df))
