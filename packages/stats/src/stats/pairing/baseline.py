"""The simple answer: sums over binomial coefficients, loops over resamples."""

import itertools
import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.result import Result


def mcnemar(first: ArrayLike, second: ArrayLike, *, midp: bool = False) -> Result:
    """Test whether two models are right equally often on the same items."""
    a, b = np.asarray(first, int), np.asarray(second, int)
    only_first, only_second = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    n, k = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    here = math.comb(n, k) / 2**n
    pvalue = 2 * tail - here if midp else min(1.0, 2 * tail)
    estimate = float(a.mean() - b.mean())
    error = float((a - b).std()) / len(a) ** 0.5
    return Result(only_first, pvalue, math.log(pvalue), math.inf, estimate, error, len(a), "two-sided", "McNemar")


def permutation_test(
    first: ArrayLike,
    second: ArrayLike,
    *,
    paired: bool = True,
    resamples: int = 10_000,
    seed: int = 0,
    method: Literal["sampled", "saddlepoint"] = "sampled",
) -> Result:
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
    mean, error = float(d.mean()), float(d.std()) / n**0.5
    return Result(mean, float(pvalue), math.log(pvalue), math.inf, mean, error, n, "two-sided", "sign-flip")


def bootstrap_ci(
    first: ArrayLike,
    second: ArrayLike | None = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    method: Literal["percentile", "bca"] = "percentile",
) -> tuple[float, float]:
    """Return an interval for the mean difference of paired scores."""
    d = np.asarray(first, float) - (0.0 if second is None else np.asarray(second, float))
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


def cluster_se(values: ArrayLike, clusters: ArrayLike) -> float:
    """Return the standard error of the mean of values that depend on each other within clusters."""
    x, names = np.asarray(values, float), np.asarray(clusters)
    shares = {name: float((names == name).mean()) for name in set(names.tolist())}
    sums = {name: float((x[names == name] - x.mean()).sum()) for name in shares}
    return math.sqrt(sum(sums[name] ** 2 / (1 - share) for name, share in shares.items())) / x.size


def delong(labels: ArrayLike, first: ArrayLike, second: ArrayLike | None = None) -> Result:
    """Test whether two scores of the same items have the same area under the ROC curve, by all pairs."""
    y = np.asarray(labels)
    wins: float | NDArray[np.float64] = 0.0
    for scores, sign in ((first, 1), (second, -1)):
        if scores is not None:
            up, down = np.asarray(scores, float)[y == 1][:, None], np.asarray(scores, float)[y == 0]
            wins = wins + sign * ((up > down) + 0.5 * (up == down))  # (positives, negatives)
    pairs = np.asarray(wins)
    estimate, null = float(pairs.mean()), 0.5 if second is None else 0.0
    error = math.sqrt(sum(pairs.mean(axis=axis).var(ddof=1) / pairs.shape[1 - axis] for axis in (0, 1)))
    z = (estimate - null) / error
    pvalue = math.erfc(abs(z) / math.sqrt(2))
    return Result(z, pvalue, math.log(pvalue), math.inf, estimate, error, y.size, "two-sided", "DeLong")
