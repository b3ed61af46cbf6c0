"""The production answer: exact tails in logarithms, exact laws for scores on a grid, sums looked up byte by byte."""

import itertools
import math
import warnings
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.result import Result
from stats.special.solution import norm, t

BLOCK = 1 << 17  # bytes or numbers at a time: they stay in a core's cache
BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(float)  # (256, 8)
BIT = np.array([128, 64, 32, 16, 8, 4, 2, 1], np.uint8)  # of eight items in a byte
LOG2 = math.log(2)
WIDEST = 64  # steps between the least and the largest difference that still make a grid worth a law
WINDOWS = (33, 65, 97, 129, 193, 257)  # sums whose law is found by tables: 14 deviations and 25 to hold Poisson's tail
FEWEST = 32  # items whose resampled means have a law smooth enough to be computed from its frequencies
Vector = NDArray[np.float64]


def mcnemar(first: ArrayLike, second: ArrayLike, *, midp: bool = False) -> Result:
    """Test whether two models are right equally often on the same items.

    ``first`` and ``second`` are (n,), 0 or 1. The statistic is the number of items that only the first model has right;
    without an effect it is binomial with probability 1/2 over the items that exactly one has right. Two-sided: twice
    the smaller tail, at most 1; ``midp`` counts the observed number half. Raises ValueError for other values, lengths
    that differ, or no items. Source: McNemar 1947; Fagerland et al. 2013, BMC Med. Res. Methodol. 13:91, eq. 6 and 7.
    """
    a, b = np.asarray(first), np.asarray(second)
    cells = _discordant(a, b)
    if cells is None:
        a, b = _pair(first, second)
        if not (((a == 0) | (a == 1)).all() and ((b == 0) | (b == 1)).all()):
            raise ValueError("scores must be 0 or 1; for other scores take permutation_test")
        cells = int(np.count_nonzero(a > b)), int(np.count_nonzero(b > a))
    up, down = cells
    n, apart = a.size, up + down
    log_pvalue = _log_two_sided(apart, min(up, down), midp=midp)
    estimate = (up - down) / n
    error = math.sqrt(max(apart / n - estimate * estimate, 0.0) / n)
    method = "McNemar, mid-p" if midp else "McNemar, exact"
    return Result(up, math.exp(log_pvalue), log_pvalue, math.inf, estimate, error, n, "two-sided", method)


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
    a, b = _pair(first, second, paired=paired)
    _refuse_resamples(resamples)
    if method not in ("sampled", "saddlepoint") or (method == "saddlepoint" and not paired):
        msg = f"method is {method!r}, must be 'sampled', or 'saddlepoint' for paired scores"
        raise ValueError(msg)
    if not paired:
        return _shared_out(a, b, resamples, np.random.default_rng(seed))
    d = a - b
    estimate = float(d.mean())
    moved = d[d != 0]  # a difference of 0 is the same with either sign
    sizes = np.abs(moved)
    # The same sum in another order may be a rounding smaller.
    observed = abs(float(moved.sum())) - 1e-12 * float(sizes.sum())
    if moved.size == 0 or sizes.min() == sizes.max():  # every pattern's sum is a count: its law is known
        up = int(np.count_nonzero(moved > 0))
        log_pvalue, how = _log_two_sided(moved.size, min(up, moved.size - up)), "exact count"
    elif method == "saddlepoint":
        log_pvalue, how = _log_saddlepoint(sizes, abs(float(moved.sum()))), "saddlepoint"
    elif 2**moved.size <= resamples:
        log_pvalue, how = math.log(np.mean(np.abs(_all_sums(moved)) >= observed)), "all patterns"
    else:
        hits = np.count_nonzero(np.abs(_flipped_sums(sizes, resamples, np.random.default_rng(seed))) >= observed)
        log_pvalue, how = math.log((hits + 1) / (resamples + 1)), f"{resamples} patterns"
    return _permuted(estimate, log_pvalue, _error(d), d.size, f"sign-flip, {how}")


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
    bias and skewness. Without ``second`` the interval is for the mean of ``first``. Where all differences are whole
    numbers and no more than 64 apart, as for right and wrong, the law of the resampled means is computed: what comes
    back is what infinitely many resamples would give. So it is for 32 and more items of any other scores, but as if a
    normal deviation of 1/120 standard error were added to every mean: ``resamples`` and ``seed`` are for fewer. Raises
    ValueError for lengths that differ, fewer than two items, NaN or inf, a level outside (0, 1), resamples below 1 or
    an unknown method.
    Source: Efron 1987, JASA 82(397), section 2 and eq. 6.6.
    """
    _refuse_resamples(resamples)
    if not 0 < level < 1 or method not in ("percentile", "bca"):
        msg = f"level is {level} and method {method!r}, must be between 0 and 1, and 'percentile' or 'bca'"
        raise ValueError(msg)
    a = np.asarray(first)
    b = np.zeros_like(a) if second is None else np.asarray(second)
    cuts = [(1 - level) / 2, (1 + level) / 2]
    if a.size > 1 and (cells := _discordant(a, b)):
        up, down = cells
        return _grid_ends(-1, [down, a.size - up - down, up], cuts, bca=method == "bca")
    a, b = _pair(a, b, least=2)
    d = a - b
    low, high = float(d.min()), float(d.max())
    if high - low <= WIDEST and (d == np.floor(d)).all():
        return _grid_ends(low, np.bincount((d - low).astype(int)).tolist(), cuts, bca=method == "bca")
    if d.size >= FEWEST and low < high:
        return _smooth_ends(d, cuts, bca=method == "bca")
    means = _resampled_means(d, resamples, np.random.default_rng(seed))
    if method == "bca" and low < high:
        centred = d - d.mean()
        below = int(np.count_nonzero(means < d.mean())) + 0.5 * int(np.count_nonzero(means == d.mean()))
        below = min(max(below, 0.5), resamples - 0.5) / resamples
        cuts = _moved_cuts(cuts, below, float((centred**3).sum()), float((centred**2).sum()))
    first_end, last_end = np.quantile(means, cuts)
    return float(first_end), float(last_end)


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
        raise ValueError("p-values must lie between 0 and 1")
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


def cluster_se(values: ArrayLike, clusters: ArrayLike) -> float:
    """Return the standard error of the mean of values that depend on each other within clusters.

    ``values`` and ``clusters``, names or numbers, are (n,). Each cluster's sum of deviations is taken as one
    observation, and set off for the part of the mean that the cluster itself made up, its share of the items: without
    that the error is too small where clusters are few or one of them is large. Raises ValueError for lengths that
    differ, NaN or inf, or fewer than two clusters. Source: Miller 2024, arXiv:2411.00640, eq. 4; Bell and McCaffrey
    2002, Bias Reduction in Standard Errors for Linear Regression with Multi-Stage Samples (CR2).
    """
    x, _ = _pair(values, values)
    return _clustered(x, clusters)[1]


def clustered_difference(first: ArrayLike, second: ArrayLike, clusters: ArrayLike) -> Result:
    """Test whether the mean difference of paired scores is 0, where items of a cluster depend on each other.

    ``first``, ``second`` and ``clusters`` are (n,). Student's t of the mean over ``cluster_se``, with the degrees of
    freedom of the variance's estimate: clusters - 1 where they are of one size, fewer where they are not. The interval
    needs about 20 clusters. Raises ValueError for lengths that differ, NaN or inf, or fewer than two clusters. Warns,
    with a p-value of nan, where the clusters do not differ at all. Source: as ``cluster_se``; degrees of freedom:
    Bell and McCaffrey 2002, for items that are independent and of equal variance.
    """
    a, b = _pair(first, second)
    estimate, error, df = _clustered(a - b, clusters)
    return _tested(estimate, error, df, a.size, "clustered differences, Student's t", "all clusters differ alike")


def delong(labels: ArrayLike, first: ArrayLike, second: ArrayLike | None = None) -> Result:
    """Test whether two scores of the same items have the same area under the ROC curve.

    ``labels`` are (n,), 0 or 1, ``first`` and ``second`` (n,) scores, the larger the surer of label 1. The estimate is
    the difference of the areas; without ``second`` it is the first's area, tested against 1/2. O(n log n): an item's
    part in the area is a rank, found by sorting. Raises ValueError for lengths that differ, NaN or inf, other labels,
    or fewer than two items of either. Warns, with a p-value of nan, where the parts have no spread at all, as after a
    perfect separation. Source: DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44(3), eq. 5 and 6; Sun and Xu 2014,
    IEEE Signal Processing Letters 21(11), for the ranks.
    """
    y, a = _pair(labels, first)
    positive = y == 1
    m = int(np.count_nonzero(positive))
    if not (positive | (y == 0)).all() or m < 2 or y.size - m < 2:  # noqa: PLR2004
        raise ValueError("labels must be 0 or 1, with at least two of each")
    parts = _parts(a[positive], a[~positive])
    estimate, null, method = float(parts[0].mean()), 0.5, "area under the ROC curve, DeLong"
    if second is not None:
        _, b = _pair(labels, second)
        parts = [own - other for own, other in zip(parts, _parts(b[positive], b[~positive]), strict=True)]
        estimate, null, method = float(parts[0].mean()), 0.0, "areas under two ROC curves, DeLong"
    error = math.sqrt(sum(float(part.var(ddof=1)) / part.size for part in parts))
    return _tested(estimate, error, math.inf, y.size, method, "the areas have no spread", null=null)


def _log_two_sided(n: int, k: int, *, midp: bool = False) -> float:
    """Return the logarithm of twice the chance of at most ``k`` heads in ``n`` fair throws, with k at most n / 2."""
    # Terms relative to the last, at least by fall = log((n - k + 1) / k) smaller in logarithm from one to the next: the
    # j-th is at most exp(-fall * j - 2 * j * (j - 1) / n), and those left out are below 1e-18 of the sum.
    fall = math.log((n - k + 1) / k) if k else 0.0
    count = min(k, int(n / 4 * (math.sqrt(fall * fall + 332 / (n + 1)) - fall)) + 3)
    if count <= 60:  # noqa: PLR2004 - a loop is faster than calling numpy
        term = total = 1.0
        for index in range(k, k - count, -1):
            term *= index / (n - index + 1)
            total += term
    else:
        down = np.arange(k, k - count, -1.0)
        total = 1.0 + float(np.add.reduce(np.multiply.accumulate(down / (n + 1 - down))))
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


def _log_saddlepoint(sizes: Vector, observed: float) -> float:
    """Return the logarithm of the chance that random signs give a sum of at least ``observed``, either way."""
    total = float(sizes.sum())
    if observed >= total * (1 - 1e-12):  # one pattern and its mirror
        return (1 - sizes.size) * LOG2
    # K(t) is the sum of log cosh(t d); K'(t) = observed at the saddle. K' is concave: from the left Newton's steps
    # never overshoot, and 0 curvature comes last.
    point, step = observed / float(sizes @ sizes), math.inf
    while step > 1e-13 * point:
        slope = np.tanh(point * sizes)
        bend = float(sizes**2 @ (1 - slope**2))
        step = (observed - float(sizes @ slope)) / bend
        point += step
    scaled = point * sizes
    height = float((scaled + np.log1p(np.exp(-2 * scaled))).sum()) - sizes.size * LOG2
    w = math.sqrt(max(0.0, 2 * (point * observed - height)))
    if w < 1e-4:  # noqa: PLR2004 - the two terms below cancel, and what they leave is below 1e-5 of the tail
        return min(0.0, LOG2 + float(norm.logsf(w)))
    tail = float(norm.logsf(w))
    hazard = math.exp(-0.5 * w * w - 0.5 * math.log(2 * math.pi) - tail)
    return min(0.0, LOG2 + tail + math.log1p(hazard * (1 / (point * math.sqrt(bend)) - 1 / w)))


def _shared_out(a: Vector, b: Vector, resamples: int, generator: "np.random.Generator") -> Result:
    """Test a difference of means by sharing the scores of both out anew."""
    m, n = a.size, a.size + b.size
    z = np.concatenate([a, b])
    low, high = z.min(), z.max()
    centred = z - z.mean()  # a sum of the first share then says the difference: the other share has the opposite one
    observed = abs(float(centred[:m].sum())) - 1e-12 * float(np.abs(centred).sum())
    if ((z == low) | (z == high)).all():
        log_pvalue = _log_hypergeometric(n, int((z == high).sum()), m, int((a == high).sum()))
        how = "exact count"
    elif math.comb(n, m) <= resamples:
        shares = np.array(list(itertools.combinations(range(n), m)))
        log_pvalue, how = math.log(np.mean(np.abs(centred[shares].sum(axis=1)) >= observed)), "all ways"
    else:
        rows = max(1, 128 * BLOCK // n)
        hits = 0
        for start in range(0, resamples, rows):
            chosen = _subsets(n, m, min(rows, resamples - start), generator)
            hits += int(np.count_nonzero(np.abs(_sums(chosen, centred)) >= observed))
        log_pvalue, how = math.log((hits + 1) / (resamples + 1)), f"{resamples} ways"
    error = math.sqrt(sum(_error(x) ** 2 for x in (a, b)))
    return _permuted(float(a.mean() - b.mean()), log_pvalue, error, n, f"permutation, {how}")


def _log_hypergeometric(n: int, ones: int, m: int, seen: int) -> float:
    """Return the logarithm of the chance that, of ``ones`` among ``n``, as odd a number as seen is among ``m``."""
    x = np.arange(max(0, m + ones - n), min(m, ones) + 1.0)
    ratios = (ones - x[:-1]) * (m - x[:-1]) / ((x[:-1] + 1) * (n - ones - m + x[:-1] + 1))
    logs = np.concatenate([[0.0], np.cumsum(np.log(ratios))])
    extreme = logs[np.abs(x * n - m * ones) >= abs(seen * n - m * ones)]
    top, peak = logs.max(), extreme.max()
    return min(0.0, float(peak - top + np.log(np.exp(extreme - peak).sum() / np.exp(logs - top).sum())))


def _subsets(n: int, m: int, count: int, generator: "np.random.Generator") -> NDArray[np.uint8]:
    """Return ``count`` random subsets of m of n items as bits, (bytes, count), all subsets equally likely."""
    chosen = np.zeros((-(-n // 8), count), np.uint8)
    # First each item by itself, with nearly the chance wanted: from the last binary digit of level / 256 on, random
    # bits are joined by "or" for a one and by "and" for a zero, which halves what stands so far.
    level = min(255, round(256 * m / n))
    for digit in range(8):
        if level & ((2 << digit) - 1):  # before the first one there is nothing to halve
            fresh = _raw(chosen.size, generator).reshape(chosen.shape)
            chosen = chosen | fresh if level >> digit & 1 else chosen & fresh
    chosen[-1] &= 256 - (1 << (-n % 8))
    # Then random members leave, or join, until there are m. Of a given size all subsets stay equally likely.
    gaps = np.bitwise_count(chosen).sum(axis=0, dtype=np.int64) - m
    rows = np.flatnonzero(gaps)
    many, left, flat = gaps[rows] > 0, np.abs(gaps[rows]), chosen.reshape(-1)
    while rows.size:
        item = generator.integers(0, n, rows.size)
        place, bit = (item >> 3) * count + rows, BIT.take(item & 7)
        hit = (flat.take(place) & bit != 0) == many
        flat[place[hit]] ^= bit[hit]
        left -= hit
        more = left > 0
        rows, many, left = rows[more], many[more], left[more]
    return chosen


def _sums(chosen: NDArray[np.uint8], values: Vector) -> Vector:
    """Return the sums of the values whose bits are set in ``chosen``, (bytes, count)."""
    sums = np.zeros(chosen.shape[1])
    for start, row in zip(range(0, values.size, 8), chosen, strict=True):
        sums += _table(values[start : start + 8]).take(row)
    return sums


def _flipped_sums(sizes: Vector, resamples: int, generator: "np.random.Generator") -> Vector:
    """Return sums of ``sizes`` with random signs: twice the sum of those that stay positive, less all of them."""
    sums = np.zeros(resamples)
    for start in range(0, sizes.size, 8):
        sums += _table(sizes[start : start + 8]).take(_raw(resamples, generator))
    return 2 * sums - float(sizes.sum())


def _table(values: Vector) -> Vector:
    """Return the sums of all 256 subsets of eight values: to look up is faster than to add."""
    found: Vector = BITS[:, : values.size] @ values
    return found


def _raw(count: int, generator: "np.random.Generator") -> NDArray[np.uint8]:
    """Return random bytes, eight from each number that the generator makes."""
    words: NDArray[np.uint64] = generator.bit_generator.random_raw(-(-count // 8))
    return words.view(np.uint8)[:count]


def _discordant(a: NDArray[Any], b: NDArray[Any]) -> tuple[int, int] | None:
    """Count the items that only the first has right, and only the second; None where not both are 0 and 1 alone."""
    if a.dtype != b.dtype or a.ndim != 1 or a.shape != b.shape or not a.size:
        return None
    kind = a.dtype.kind
    if kind == "f":
        # What is not 0 is 1. numpy counts truth values five times as fast as floats.
        nonzero, right = (a.astype(bool), b.astype(bool)), (a == 1, b == 1)
        if any(np.count_nonzero(x) != np.count_nonzero(y) for x, y in zip(nonzero, right, strict=True)):
            return None
        a, b = right
    elif kind not in "biu":
        return None
    either = a | b
    if kind in "iu" and int(np.bitwise_or.reduce(either)) not in (0, 1):  # a higher bit is set in some
        return None
    total = int(np.count_nonzero(either))
    return total - int(np.count_nonzero(b)), total - int(np.count_nonzero(a))


def _permuted(estimate: float, log_pvalue: float, error: float, n: int, method: str) -> Result:
    return Result(estimate, math.exp(log_pvalue), log_pvalue, math.inf, estimate, error, n, "two-sided", method)


def _tested(estimate: float, error: float, df: float, n: int, method: str, flaw: str, *, null: float = 0.0) -> Result:
    """Return what a t or z test of an estimate says, two-sided."""
    if not error:
        warnings.warn(f"{flaw}: nothing to measure a difference by, the p-value is nan", stacklevel=3)
        return Result(math.nan, math.nan, math.nan, df, estimate, error, n, "two-sided", method)
    statistic = (estimate - null) / error
    log_pvalue = min(0.0, LOG2 + float(t.logsf(abs(statistic), df)))
    pvalue = min(1.0, 2 * float(t.sf(abs(statistic), df)))
    return Result(statistic, pvalue, log_pvalue, df, estimate, error, n, "two-sided", method)


def _error(d: Vector) -> float:
    return float(d.std(ddof=1)) / math.sqrt(d.size) if d.size > 1 else math.nan


def _resampled_means(d: Vector, resamples: int, generator: "np.random.Generator") -> Vector:
    """Return means of ``resamples`` samples of the size of ``d``, drawn from it with replacement."""
    rows = max(1, BLOCK // d.size)
    counts = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    return np.concatenate([d[generator.integers(0, d.size, (count, d.size))].mean(axis=1) for count in counts])


def _smooth_ends(d: Vector, cuts: list[float], *, bca: bool) -> tuple[float, float]:
    """Return the ends of a bootstrap interval for many differences of any size.

    The mean of n draws has the n-th power of the differences' characteristic function. That is taken at 2,048
    frequencies, and damped as if a normal deviation of 1/120 standard error were added to every mean: what lies beyond
    is then below 1e-6, whatever the differences. Ten thousand resamples have their 2.5 % point wrong by 1/37. Source:
    Abate and Whitt 1992, Queueing Systems 10, section 5 (the Fourier-series method).
    """
    window, rows, columns, points = 20.0, 64, 32, 1 << 14  # standard errors, and three counts
    n, mean = d.size, float(d.mean())
    z = d - mean
    unit = float(np.abs(z).max())
    z /= unit
    spread = math.sqrt(float(z @ z))  # of a sum of n draws
    turns = np.zeros((rows, columns), np.complex128)
    for start in range(0, n, 1 << 12):  # powers of what is one frequency's turn: 0, 32, 64, ... times 1 to 32
        first = np.exp(z[start : start + (1 << 12)] * (2j * math.pi / (window * spread)))
        few = np.cumprod(np.broadcast_to(first, (columns, first.size)), axis=0)
        many = np.ones((rows, first.size), complex)
        np.cumprod(np.broadcast_to(few[-1], (rows - 1, first.size)), axis=0, out=many[1:])
        turns += many @ few.T
    t = np.arange(1, rows * columns + 1) * (2 * math.pi / window)
    waves = np.zeros(points // 2 + 1, complex)
    waves[1 : t.size + 1] = (_power((turns / n).ravel(), n) * np.exp(-0.5 * (t / 120) ** 2)).conj() / (1j * t)
    x = np.linspace(-window / 2, window / 2, points, endpoint=False)
    wave = np.roll(np.fft.irfft(waves, points) * (points / window), points // 2)
    below = np.maximum.accumulate((x - x[0]) / window + wave - wave[0])
    if bca:
        cuts = _moved_cuts(cuts, float(np.interp(0, x, below)), float((z**3).sum()), float(z @ z))
    first_end, last_end = np.clip(mean + unit * spread / n * np.interp(cuts, below, x), d.min(), d.max())
    return float(first_end), float(last_end)


def _grid_ends(least: float, counts: list[int], cuts: list[float], *, bca: bool) -> tuple[float, float]:
    """Return the ends of a bootstrap interval for values ``least``, ``least + 1``, ... that come ``counts`` times."""
    n, total = sum(counts), sum(step * count for step, count in enumerate(counts))
    mean = total / n
    variance = max(0.0, sum(step * step * count for step, count in enumerate(counts)) / n - mean * mean)
    spread = 14 * math.sqrt(n * variance)
    if len(counts) == 3 and spread + 25 < WINDOWS[-1]:  # noqa: PLR2004 - right and wrong
        width = next(width for width in WINDOWS if width > spread + 25)
        start = max(0, total - width // 2)
        below = _right_and_wrong(counts, n, start, width)
    else:
        # The law of a sum of n draws is the n-th power in the frequencies. Seven deviations and more either way hold
        # all but 1e-12 of it; what a window of that width folds over is nothing.
        span = n * (len(counts) - 1) + 1
        width = min(span, int(spread) + 24 * (len(counts) - 1) + 1)
        start = max(0, min(total - width // 2, span - width))
        law = np.fft.irfft(_power(np.fft.rfft(np.array(counts) / n, width), n), width)
        turn = start % width
        below = np.concatenate([law[turn:], law[:turn]]).cumsum()
    if bca and variance:
        here = total - start
        share = float(below[here] + (below[here - 1] if here else 0.0)) / 2
        third = sum((step - mean) ** 3 * count for step, count in enumerate(counts))
        cuts = _moved_cuts(cuts, share, third, n * variance)
    # A cut that falls on a step belongs to it, whatever rounding says; what is below 1e-13 is rounding itself.
    low, high = (min(int(below.searchsorted(max(cut - 1e-12, 1e-13))), width - 1) for cut in cuts)
    return (start + low + n * least) / n, (start + high + n * least) / n


def _right_and_wrong(counts: list[int], n: int, start: int, width: int) -> Vector:
    """Return the chances of at most ``start``, ``start + 1``, ... as the sum of n draws of 0, 1 or 2."""
    one, shifts, sums, even = _window(width)
    # With x = sin(turn / 2)**2 one draw's characteristic function has the square 1 - 4 x variance + 4 x**2 bend. Its
    # n-th power is below exp(-28) from the first root on, and again at the last frequency where few are right or wrong.
    down, same, up = (count / n for count in counts)
    bend, enough = 4 * down * up, 14 / n
    variance = bend + same * (down + up)
    root = variance * variance - 4 * enough * bend
    few = width // 2
    if root > 0 and abs(same - down - up) ** n < 1e-13:  # noqa: PLR2004
        sine = 2 * enough / (variance + math.sqrt(root))
        few = min(few, 1 + int(width / math.pi * math.asin(math.sqrt(min(1.0, sine)))))
    waves = _power(one[:few].dot(np.array((down, same, up), complex)), n) * shifts[start % width, :few]
    found: Vector = even + waves.view(float).dot(sums[: 2 * few])
    return found


@cache
def _window(width: int) -> tuple[NDArray[np.complex128], NDArray[np.complex128], Vector, Vector]:
    """Return what of ``_right_and_wrong`` depends on the window alone."""
    turn = 2j * math.pi / width * np.arange(1, width // 2 + 1)
    turns = np.exp(np.multiply.outer(range(width + 1), turn))
    sums = 2 / width * (1 - turns[1:]) / (1 - turns[1])
    return turns[:3].T.copy(), turns.conj(), sums.view(float).T.copy(), np.arange(1, width + 1) / width


def _power(base: NDArray[np.complex128], n: int) -> NDArray[np.complex128]:
    """Return the n-th power, by squaring: numpy's takes a logarithm of each from 100 on."""
    if n < 100:  # noqa: PLR2004
        return base**n
    found = _power(base, n // 2)
    found *= found
    return found * base if n & 1 else found


def _moved_cuts(cuts: list[float], below: float, cubes: float, squares: float) -> list[float]:
    """Return BCa's cuts from the share of means below the observed one, and sums of powers of centred values."""
    bias, acceleration = float(norm.ppf(below)), cubes / (6 * squares**1.5)
    shifted = [bias + float(norm.ppf(cut)) for cut in cuts]
    return [float(norm.cdf(bias + z / (1 - acceleration * z))) for z in shifted]


def _clustered(x: Vector, clusters: ArrayLike) -> tuple[float, float, float]:
    """Return the mean, its standard error over clusters, and the degrees of freedom of that error's square."""
    names = np.asarray(clusters)
    if names.shape != x.shape:
        msg = f"{x.size} values but clusters of shape {names.shape}, must be one for each"
        raise ValueError(msg)
    _, index = np.unique(names, return_inverse=True)
    sizes = np.bincount(index)
    if sizes.size < 2:  # noqa: PLR2004
        msg = f"{sizes.size} cluster, at least two are needed"
        raise ValueError(msg)
    n = x.size
    rest = np.bincount(index, x - x.mean())  # sums of deviations, by cluster
    weight = 1 / (1 - sizes / n)
    # Under independence the covariance of two such sums is -size * size / n, the variance size * (1 - size / n): the
    # degrees of freedom are those of the chi-square law with the mean and variance of sum(weight * rest**2).
    pull = weight * sizes**2
    df = n**2 / float((sizes**2).sum() + (pull.sum() ** 2 - (pull**2).sum()) / n**2)
    spread = float(weight @ rest**2)
    # A sum of deviations that is nothing but rounding is none.
    noise = n * (np.finfo(float).eps * float(np.abs(x).max(initial=0.0))) ** 2
    return float(x.mean()), math.sqrt(spread) / n if spread > noise else 0.0, df


def _parts(positive: Vector, negative: Vector) -> list[Vector]:
    """Return each item's part in the area: how much of the other class lies on the right side of it, ties half."""
    up, down = np.sort(positive), np.sort(negative)
    below = (np.searchsorted(down, positive, "left") + np.searchsorted(down, positive, "right")) / (2 * down.size)
    above = 1 - (np.searchsorted(up, negative, "left") + np.searchsorted(up, negative, "right")) / (2 * up.size)
    return [below, above]


def _pair(first: ArrayLike, second: ArrayLike, least: int = 1, *, paired: bool = True) -> tuple[Vector, Vector]:
    """Check two models' scores and return them as float64."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.ndim != 1 or b.ndim != 1 or (paired and a.shape != b.shape):
        wanted = "(n,) twice, for the same items in the same order" if paired else "(n,) and (m,)"
        msg = f"scores have shapes {a.shape} and {b.shape}, must be {wanted}"
        raise ValueError(msg)
    if min(a.size, b.size) < least:
        msg = f"{min(a.size, b.size)} items, at least {least} are needed"
        raise ValueError(msg)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("scores have NaN or inf")
    return a, b


def _refuse_resamples(resamples: int) -> None:
    if resamples < 1:
        msg = f"resamples is {resamples}, must be at least 1"
        raise ValueError(msg)
