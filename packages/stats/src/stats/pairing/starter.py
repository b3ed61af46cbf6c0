"""Your turn: replace each ``raise NotImplementedError``."""

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.result import Result


def mcnemar(first: ArrayLike, second: ArrayLike, *, midp: bool = False) -> Result:
    """Test whether two models are right equally often on the same items.

    ``first`` and ``second`` are (n,), 0 or 1. The statistic is the number of items that only the first model has right;
    without an effect it is binomial with probability 1/2 over the items that exactly one has right. Two-sided: twice
    the smaller tail, at most 1; ``midp`` counts the observed number half. Raises ValueError for other values, lengths
    that differ, or no items. Source: McNemar 1947; Fagerland et al. 2013, BMC Med. Res. Methodol. 13:91, eq. 6 and 7.
    """
    raise NotImplementedError("TODO 1 (core, about 10 lines): a binomial tail over the discordant items")


def permutation_test(
    first: ArrayLike,
    second: ArrayLike,
    *,
    paired: bool = True,
    resamples: int = 10_000,
    seed: int = 0,
    method: Literal["sampled", "saddlepoint"] = "sampled",
) -> Result:
    """Test whether the mean difference of paired scores is 0, by flipping the signs of the differences.

    ``first`` and ``second`` are (n,) scores. All 2**n sign patterns are counted where they are no more than
    ``resamples``; else as many random ones, and the observed one with them, so that the p-value is never 0. Where all
    differences are of one size their law is known, and exact. With ``saddlepoint`` (stretch) the tail is computed
    instead of sampled: no seed, no least value, right to about 1 / n of itself for scores without ties. Without
    ``paired`` (stretch) the scores are of different items, (n,) and (m,): all ways to share them out are counted, or
    random ones; exactly where there are two values only.

    Raises ValueError for lengths that differ where paired, no items, NaN or inf, resamples below 1, an unknown method,
    or saddlepoint for scores that are not paired. Source: Pitman 1937; Phipson and Smyth 2010, eq. 2; Robinson 1982,
    Saddlepoint Approximations for Permutation Tests, JRSS B 44; Lugannani and Rice 1980.
    """
    if not paired:
        raise NotImplementedError("TODO 8 (stretch, about 15 lines): share the scores of both out anew")
    if method == "saddlepoint":
        raise NotImplementedError("TODO 9 (stretch, about 12 lines): the tail at the saddle of the cumulants")
    raise NotImplementedError("TODO 2 (core, about 14 lines): the share of sign patterns at least as extreme")


def bootstrap_ci(
    first: ArrayLike,
    second: ArrayLike | None = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    method: Literal["percentile", "bca"] = "percentile",
) -> tuple[float, float]:
    """Return an interval for the mean difference of paired scores, from means of resampled items.

    ``percentile`` cuts ``(1 - level) / 2`` off both ends of the resampled means; ``bca`` (stretch) moves both cuts for
    bias and skewness. Without ``second`` the interval is for the mean of ``first``. To resample is enough; the solution
    computes the law of the resampled means where it can. Raises ValueError for lengths that differ, fewer than two
    items, NaN or inf, a level outside (0, 1), resamples below 1 or an unknown method.
    Source: Efron 1987, JASA 82(397), section 2 and eq. 6.6.
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


def cluster_se(values: ArrayLike, clusters: ArrayLike) -> float:
    """Return the standard error of the mean of values that depend on each other within clusters.

    ``values`` and ``clusters``, names or numbers, are (n,). Each cluster's sum of deviations is taken as one
    observation, and set off for the part of the mean that the cluster itself made up, its share of the items: without
    that the error is too small where clusters are few or one of them is large. Raises ValueError for lengths that
    differ, NaN or inf, or fewer than two clusters. Source: Miller 2024, arXiv:2411.00640, eq. 4; Bell and McCaffrey
    2002, Bias Reduction in Standard Errors for Linear Regression with Multi-Stage Samples (CR2).
    """
    raise NotImplementedError("TODO 6 (stretch, about 6 lines): sums of deviations, one for each cluster")


def clustered_difference(first: ArrayLike, second: ArrayLike, clusters: ArrayLike) -> Result:
    """Test whether the mean difference of paired scores is 0, where items of a cluster depend on each other.

    ``first``, ``second`` and ``clusters`` are (n,). Student's t of the mean over ``cluster_se``, with the degrees of
    freedom of the variance's estimate: clusters - 1 where they are of one size, fewer where they are not. The interval
    needs about 20 clusters. Raises ValueError for lengths that differ, NaN or inf, or fewer than two clusters. Warns,
    with a p-value of nan, where the clusters do not differ at all. Source: as ``cluster_se``; degrees of freedom:
    Bell and McCaffrey 2002, for items that are independent and of equal variance.
    """
    raise NotImplementedError("TODO 6 (stretch, about 12 lines): t of the mean over its clustered error")


def delong(labels: ArrayLike, first: ArrayLike, second: ArrayLike | None = None) -> Result:
    """Test whether two scores of the same items have the same area under the ROC curve.

    ``labels`` are (n,), 0 or 1, ``first`` and ``second`` (n,) scores, the larger the surer of label 1. The estimate is
    the difference of the areas; without ``second`` it is the first's area, tested against 1/2. O(n log n): an item's
    part in the area is a rank, found by sorting. Raises ValueError for lengths that differ, NaN or inf, other labels,
    or fewer than two items of either. Warns, with a p-value of nan, where the parts have no spread at all, as after a
    perfect separation. Source: DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44(3), eq. 5 and 6; Sun and Xu 2014,
    IEEE Signal Processing Letters 21(11), for the ranks.
    """
    raise NotImplementedError("TODO 7 (stretch, about 14 lines): each item's part in the area, and their spread")
