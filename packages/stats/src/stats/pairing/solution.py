"""The production answer: exact tails in logarithms, exact counts for 0/1 data, resamples in blocks."""

import math
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.pairing import Comparison

BLOCK = 1 << 20  # numbers drawn at a time
NORMAL = NormalDist()
LOG2 = math.log(2)
Vector = NDArray[np.float64]


def mcnemar(first: ArrayLike, second: ArrayLike, *, midp: bool = False) -> Comparison:
    """Test whether two models are right equally often on the same items.

    ``first`` and ``second`` are (n,), 0 or 1. The statistic is the number of items that only the first model has right;
    without an effect it is binomial with probability 1/2 over the items that exactly one has right. Two-sided: twice
    the smaller tail, at most 1; ``midp`` counts the observed number half. Raises ValueError for other values, lengths
    that differ, or no items. Source: McNemar 1947; Fagerland et al. 2013, BMC Med. Res. Methodol. 13:91, eq. 6 and 7.
    """
    a, b = np.asarray(first), np.asarray(second)
    whole = a.dtype == b.dtype and a.dtype.kind in "biu" and a.ndim == 1 and a.shape == b.shape and a.size > 0
    # Whole numbers are 0 or 1 exactly if no higher bit is set in any of them: one fast pass over each.
    if not (whole and np.bitwise_or.reduce(a) in (0, 1) and np.bitwise_or.reduce(b) in (0, 1)):
        a, b = _pair(first, second)
        if not (((a == 0) | (a == 1)).all() and ((b == 0) | (b == 1)).all()):
            raise ValueError("scores must be 0 or 1; for other scores take permutation_test")
    a, b = a.astype(np.int8), b.astype(np.int8)  # an eighth of the bytes to compare
    only_first = int(np.count_nonzero(a > b))
    only_second = int(np.count_nonzero(b > a))
    log_pvalue = _log_two_sided(only_first + only_second, min(only_first, only_second), midp=midp)
    estimate = (only_first - only_second) / a.size
    method = "McNemar, mid-p" if midp else "McNemar, exact"
    return Comparison(only_first, math.exp(log_pvalue), log_pvalue, estimate, a.size, method)


def permutation_test(first: ArrayLike, second: ArrayLike, *, resamples: int = 10_000, seed: int = 0) -> Comparison:
    """Test whether the mean difference of paired scores is 0, by flipping the signs of the differences.

    ``first`` and ``second`` are (n,) scores. All 2**n sign patterns are counted where they are no more than
    ``resamples``; else as many random ones, and the observed one with them, so that the p-value is never 0. Raises
    ValueError for lengths that differ, no items, NaN or inf, or resamples below 1. Source: Pitman 1937; Phipson and
    Smyth 2010, eq. 2.
    """
    a, b = _pair(first, second)
    _refuse_resamples(resamples)
    d = a - b
    estimate = float(d.mean())
    moved = d[d != 0]  # a difference of 0 is the same with either sign
    sizes = np.abs(moved)
    observed = abs(float(moved.sum())) * (1 - 1e-12)  # the same sum in another order may be a rounding smaller
    if moved.size and sizes.min() == sizes.max():  # every pattern's sum is a count: its law is known
        up = int(np.count_nonzero(moved > 0))
        log_pvalue = _log_two_sided(moved.size, min(up, moved.size - up))
        return Comparison(estimate, math.exp(log_pvalue), log_pvalue, estimate, d.size, "sign-flip, exact count")
    if 2.0**moved.size <= resamples:
        pvalue = float(np.mean(np.abs(_all_sums(moved)) >= observed))
        return Comparison(estimate, pvalue, math.log(pvalue), estimate, d.size, "sign-flip, all patterns")
    generator = np.random.default_rng(seed)
    hits, done, rows = 0, 0, max(1, BLOCK // moved.size)
    while done < resamples:
        count = min(rows, resamples - done)
        bits = np.unpackbits(generator.integers(0, 256, (count, -(-moved.size // 8)), np.uint8), axis=1)
        # A sum with signs is twice the sum of those that stay positive, less all of them.
        sums = 2 * (bits[:, : moved.size].astype(np.float32) @ sizes.astype(np.float32)).astype(float) - sizes.sum()
        unsure = np.abs(np.abs(sums) - observed) < 1e-5 * sizes.sum()  # within float32's error of the edge
        exact = 2 * (bits[unsure, : moved.size] @ sizes) - sizes.sum()
        hits += int(np.count_nonzero(np.abs(sums[~unsure]) >= observed) + np.count_nonzero(np.abs(exact) >= observed))
        done += count
    pvalue = (hits + 1) / (resamples + 1)
    return Comparison(estimate, pvalue, math.log(pvalue), estimate, d.size, f"sign-flip, {resamples} patterns")


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
    a, b = _pair(first, second, least=2)
    _refuse_resamples(resamples)
    if not 0 < level < 1 or method not in ("percentile", "bca"):
        msg = f"level is {level} and method {method!r}, must be between 0 and 1, and 'percentile' or 'bca'"
        raise ValueError(msg)
    d = a - b
    means = _resampled_means(d, resamples, np.random.default_rng(seed))
    cuts = [(1 - level) / 2, (1 + level) / 2]
    if method == "bca" and d.min() < d.max():
        below = (np.count_nonzero(means < d.mean()) + 0.5 * np.count_nonzero(means == d.mean())) / resamples
        bias = NORMAL.inv_cdf(min(max(below, 0.5 / resamples), 1 - 0.5 / resamples))
        centred = d - d.mean()
        acceleration = float((centred**3).sum() / (6 * (centred**2).sum() ** 1.5))
        shifted = [bias + NORMAL.inv_cdf(cut) for cut in cuts]
        cuts = [NORMAL.cdf(bias + z / (1 - acceleration * z)) for z in shifted]
    low, high = np.quantile(means, cuts)
    return float(low), float(high)


def adjust_pvalues(pvalues: ArrayLike, method: Literal["holm", "bh", "by"] = "holm") -> NDArray[np.float64]:
    """Adjust p-values of many tests; those at most alpha afterwards are rejected at alpha. Shape and order are kept.

    ``holm`` keeps the chance of any false rejection below alpha, ``bh`` the expected share of false ones among the
    rejected for independent tests, ``by`` for any. Raises ValueError for values outside [0, 1], NaN, or an unknown
    method. Source: Holm 1979; Benjamini and Hochberg 1995; Benjamini and Yekutieli 2001, theorem 1.3.
    """
    p = np.asarray(pvalues, float)
    if method not in ("holm", "bh", "by"):
        msg = f"method is {method!r}, must be 'holm', 'bh' or 'by'"
        raise ValueError(msg)
    if not ((p >= 0) & (p <= 1)).all():
        msg = "p-values must lie between 0 and 1"
        raise ValueError(msg)
    flat = p.ravel()
    order, ranks = np.argsort(flat, kind="stable"), np.arange(1, flat.size + 1)
    if method == "holm":
        steps = np.maximum.accumulate(flat[order] * (flat.size + 1 - ranks))
    else:
        factor = float((1 / ranks).sum()) if method == "by" else 1.0
        steps = np.minimum.accumulate((flat[order] * (factor * flat.size) / ranks)[::-1])[::-1]
    adjusted = np.empty_like(flat)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted.reshape(p.shape)


def _log_two_sided(n: int, k: int, *, midp: bool = False) -> float:
    """Return the logarithm of twice the chance of at most ``k`` heads in ``n`` fair throws, with k at most n / 2."""
    # Terms relative to the last, k / (n - k + 1) times smaller from one to the next: the j-th is at most
    # exp(-2 * j * (j - 1) / n), so those beyond 4.6 roots of n are below 1e-18 of the sum.
    count = min(k, int(4.6 * math.sqrt(n)) + 2)
    if count <= 40:  # noqa: PLR2004 - a loop is faster than calling numpy
        term = total = 1.0
        for index in range(k, k - count, -1):
            term *= index / (n - index + 1)
            total += term
    else:
        down = np.arange(k, k - count, -1.0)
        total = 1.0 + float(np.multiply.accumulate(down / (n + 1 - down)).sum())
    return min(0.0, _log_half_binomial(n, k) + math.log(2 * total - (1 if midp else 0)))


def _log_half_binomial(n: int, k: int) -> float:
    """Return the logarithm of the chance of ``k`` heads in ``n`` fair throws, with k at most n / 2."""
    if n <= 200 or k < 20:  # noqa: PLR2004 - exact where it is cheap
        return math.log(math.comb(n, k)) - n * LOG2
    # Loader 2000, Fast and Accurate Computation of Binomial Probabilities, eq. 4: three large logarithms of factorials
    # would cancel and take the digits along; what Stirling's formula leaves of each is small.
    excess = (n - 2 * k) / n
    deviance = k * math.log1p(-excess) + (n - k) * math.log1p(excess)
    left = _stirling_error(n) - _stirling_error(k) - _stirling_error(n - k)
    return left - deviance + 0.5 * math.log(n / (2 * math.pi * k * (n - k)))


def _stirling_error(n: int) -> float:
    """Return log(n!) less Stirling's formula for it, for n of at least 20."""
    square = n * n
    return (1 / 12 - (1 / 360 - (1 / 1260 - 1 / 1680 / square) / square) / square) / n


def _all_sums(d: Vector) -> Vector:
    """Return the sums of ``d`` with all 2**n patterns of signs."""
    sums = np.zeros(1)
    for value in d:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _resampled_means(d: Vector, resamples: int, generator: np.random.Generator) -> Vector:
    """Return means of ``resamples`` samples of the size of ``d``, drawn from it with replacement."""
    values, counts = np.unique(d, return_counts=True)
    if values.size <= 8:  # noqa: PLR2004 - right and wrong give -1, 0 and 1: draw how often each comes, not each item
        drawn = generator.multinomial(d.size, counts / d.size, resamples)
        found: Vector = drawn @ values / d.size
        return found
    rows = max(1, BLOCK // d.size)
    sizes = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    return np.concatenate([d[generator.integers(0, d.size, (count, d.size))].mean(axis=1) for count in sizes])


def _pair(first: ArrayLike, second: ArrayLike, least: int = 1) -> tuple[Vector, Vector]:
    """Check paired scores and return them as float64."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.ndim != 1 or a.shape != b.shape:
        msg = f"scores have shapes {a.shape} and {b.shape}, must be (n,) twice, for the same items in the same order"
        raise ValueError(msg)
    if a.size < least:
        msg = f"{a.size} items, at least {least} are needed"
        raise ValueError(msg)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        msg = "scores have NaN or inf"
        raise ValueError(msg)
    return a, b


def _refuse_resamples(resamples: int) -> None:
    if resamples < 1:
        msg = f"resamples is {resamples}, must be at least 1"
        raise ValueError(msg)
