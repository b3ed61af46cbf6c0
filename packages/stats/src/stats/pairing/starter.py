"""Your turn: replace each ``raise NotImplementedError``."""

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.pairing import Comparison


def mcnemar(first: ArrayLike, second: ArrayLike, *, midp: bool = False) -> Comparison:
    """Test whether two models are right equally often on the same items.

    ``first`` and ``second`` are (n,), 0 or 1. The statistic is the number of items that only the first model has right;
    without an effect it is binomial with probability 1/2 over the items that exactly one has right. Two-sided: twice
    the smaller tail, at most 1; ``midp`` counts the observed number half. Raises ValueError for other values, lengths
    that differ, or no items. Source: McNemar 1947; Fagerland et al. 2013, BMC Med. Res. Methodol. 13:91, eq. 6 and 7.
    """
    raise NotImplementedError("TODO 1 (core, about 10 lines): a binomial tail over the discordant items")


def permutation_test(first: ArrayLike, second: ArrayLike, *, resamples: int = 10_000, seed: int = 0) -> Comparison:
    """Test whether the mean difference of paired scores is 0, by flipping the signs of the differences.

    ``first`` and ``second`` are (n,) scores. All 2**n sign patterns are counted where they are no more than
    ``resamples``; else as many random ones, and the observed one with them, so that the p-value is never 0. Raises
    ValueError for lengths that differ, no items, NaN or inf, or resamples below 1. Source: Pitman 1937; Phipson and
    Smyth 2010, eq. 2.
    """
    raise NotImplementedError("TODO 2 (core, about 14 lines): the share of sign patterns at least as extreme")


def bootstrap_ci(
    first: ArrayLike,
    second: ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    method: Literal["percentile", "bca"] = "percentile",
) -> tuple[float, float]:
    """Return an interval for the mean difference of paired scores, from means of resampled items.

    ``percentile`` cuts ``(1 - level) / 2`` off both ends of the resampled means; ``bca`` (stretch) moves both cuts for
    bias and skewness. Raises ValueError for lengths that differ, fewer than two items, NaN or inf, a level outside
    (0, 1), resamples below 1 or an unknown method. Source: Efron 1987, JASA 82(397), section 2 and eq. 6.6.
    """
    if method == "bca":
        raise NotImplementedError("TODO 5 (stretch, about 10 lines): cuts moved by bias and acceleration")
    raise NotImplementedError("TODO 3 (core, about 6 lines): quantiles of the means of resampled pairs")


def adjust_pvalues(pvalues: ArrayLike, method: Literal["holm", "bh", "by"] = "holm") -> NDArray[np.float64]:
    """Adjust p-values of many tests; those at most alpha afterwards are rejected at alpha. Shape and order are kept.

    ``holm`` keeps the chance of any false rejection below alpha, ``bh`` the expected share of false ones among the
    rejected for independent tests, ``by`` for any. Raises ValueError for values outside [0, 1], NaN, or an unknown
    method. Source: Holm 1979; Benjamini and Hochberg 1995; Benjamini and Yekutieli 2001, theorem 1.3.
    """
    raise NotImplementedError("TODO 4 (core, about 12 lines): sort, multiply, make monotone, sort back")
