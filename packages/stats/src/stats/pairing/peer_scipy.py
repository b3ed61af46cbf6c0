"""Peer: ``scipy.stats``."""

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from stats.result import Result


def mcnemar(first: ArrayLike, second: ArrayLike, *, midp: bool = False) -> Result:
    """Test the discordant items with ``binomtest``, which has no mid-p."""
    if midp:
        msg = "scipy has no mid-p"
        raise NotImplementedError(msg)
    a, b = np.asarray(first, float), np.asarray(second, float)
    up, down = int((a > b).sum()), int((b > a).sum())
    pvalue = float(stats.binomtest(up, up + down).pvalue) if up + down else 1.0
    error = float((a - b).std()) / math.sqrt(a.size)
    estimate = float((a - b).mean())
    return Result(up, pvalue, math.log(pvalue), math.inf, estimate, error, a.size, "two-sided", "binomtest")


def permutation_test(
    first: ArrayLike,
    second: ArrayLike,
    *,
    paired: bool = True,
    resamples: int = 10_000,
    seed: int = 0,
    method: Literal["sampled", "saddlepoint"] = "sampled",
) -> Result:
    """Permute within pairs, or shared out anew."""
    if method != "sampled":
        msg = "scipy has no saddle-point tail"
        raise NotImplementedError(msg)
    a, b = np.asarray(first, float), np.asarray(second, float)
    found = stats.permutation_test(
        (a, b),
        lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis),
        permutation_type="samples" if paired else "independent",
        vectorized=True,
        n_resamples=resamples,
        batch=1000,
        rng=np.random.default_rng(seed),
    )
    pvalue, estimate = float(found.pvalue), float(found.statistic)
    n, nan = a.size + (0 if paired else b.size), math.nan
    return Result(estimate, pvalue, math.log(pvalue), nan, estimate, nan, n, "two-sided", "permutation")


def bootstrap_ci(
    first: ArrayLike,
    second: ArrayLike | None = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    method: Literal["percentile", "bca"] = "percentile",
) -> tuple[float, float]:
    """Resample the differences."""
    d = np.asarray(first, float) - (0.0 if second is None else np.asarray(second, float))
    kind = "BCa" if method == "bca" else "percentile"
    options: dict[str, Any] = {"confidence_level": level, "n_resamples": resamples, "method": kind, "batch": 1000}
    found = stats.bootstrap((d,), np.mean, rng=np.random.default_rng(seed), **options)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def adjust_pvalues(pvalues: ArrayLike, method: Literal["holm", "bh", "by"] = "holm") -> NDArray[np.float64]:
    """Adjust; scipy has no Holm."""
    if method == "holm":
        msg = "scipy has no Holm"
        raise NotImplementedError(msg)
    found: NDArray[np.float64] = stats.false_discovery_control(np.asarray(pvalues, float), axis=None, method=method)
    return found
