"""The simple answer: sums over binomial coefficients, loops over resamples."""

import itertools
import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.pairing import Comparison


def mcnemar(first: ArrayLike, second: ArrayLike, *, midp: bool = False) -> Comparison:
    """Test whether two models are right equally often on the same items."""
    a, b = np.asarray(first, int), np.asarray(second, int)
    only_first, only_second = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    n, k = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    here = math.comb(n, k) / 2**n
    pvalue = 2 * tail - here if midp else min(1.0, 2 * tail)
    estimate = float(a.mean() - b.mean())
    return Comparison(only_first, pvalue, math.log(pvalue), estimate, len(a), "McNemar, mid-p" if midp else "McNemar")


def permutation_test(first: ArrayLike, second: ArrayLike, *, resamples: int = 10_000, seed: int = 0) -> Comparison:
    """Test whether the mean difference of paired scores is 0, by flipping the signs of the differences."""
    d = np.asarray(first, float) - np.asarray(second, float)
    observed, n = abs(d.sum()), len(d)
    slack = 1e-12 * np.abs(d).sum()  # the same sum in another order is not smaller
    if 2**n <= resamples:
        patterns = list(itertools.product((1, -1), repeat=n))
        pvalue = sum(abs(np.dot(d, signs)) >= observed - slack for signs in patterns) / 2**n
    else:
        generator = np.random.default_rng(seed)
        hits = sum(abs((d * generator.choice((1, -1), n)).sum()) >= observed - slack for _ in range(resamples))
        pvalue = (hits + 1) / (resamples + 1)
    return Comparison(float(d.mean()), float(pvalue), math.log(pvalue), float(d.mean()), n, "sign-flip permutation")


def bootstrap_ci(
    first: ArrayLike,
    second: ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    method: Literal["percentile", "bca"] = "percentile",
) -> tuple[float, float]:
    """Return an interval for the mean difference of paired scores."""
    d = np.asarray(first, float) - np.asarray(second, float)
    generator = np.random.default_rng(seed)
    means = [generator.choice(d, len(d)).mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def adjust_pvalues(pvalues: ArrayLike, method: Literal["holm", "bh", "by"] = "holm") -> NDArray[np.float64]:
    """Adjust p-values of many tests."""
    p = np.asarray(pvalues, float)
    flat = p.ravel()
    m, order = flat.size, np.argsort(flat)
    adjusted = np.empty(m)
    if method == "holm":
        largest = 0.0
        for rank, index in enumerate(order):
            largest = max(largest, min(1.0, (m - rank) * flat[index]))
            adjusted[index] = largest
    else:
        factor = sum(1 / i for i in range(1, m + 1)) if method == "by" else 1.0
        smallest = 1.0
        for rank in range(m, 0, -1):
            index = order[rank - 1]
            smallest = min(smallest, factor * m * flat[index] / rank)
            adjusted[index] = smallest
    return adjusted.reshape(p.shape)
