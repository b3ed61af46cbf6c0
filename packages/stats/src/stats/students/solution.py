"""The production answer: moments about a value of the sample, and a tail that is cheap where it is ordinary."""

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.result import Result
from stats.shared import dot
from stats.special import Real
from stats.special.solution import f, t
from stats.students import Alternative, NanPolicy

Array = NDArray[np.float64]
BLOCK = 1 << 15  # values of many tests worked on at a time: they stay in the cache
SHORT = 128  # values up to which dot products are as exact as numpy's sum; BLAS has threads for many, which wait
TERMS = 17
LOG2, ROOT_TAU = math.log(2), math.sqrt(2 * math.pi)


class Sample(NamedTuple):
    """Numbers of values, their means in two parts whose sum it is, and sums of squares about them."""

    n: Real
    pivot: Real
    shift: Real
    squares: Real


def ttest_from_stats(
    mean1: ArrayLike,
    std1: ArrayLike,
    nobs1: ArrayLike,
    mean2: ArrayLike,
    std2: ArrayLike,
    nobs2: ArrayLike,
    equal_var: bool = True,  # noqa: FBT001, FBT002 - scipy's signature
    alternative: Alternative = "two-sided",
) -> Result:
    """Test whether two means differ, given means, standard deviations (with n - 1) and numbers of both samples.

    All are numbers, or arrays that broadcast. ``equal_var`` pools the variances (Student); without it the degrees of
    freedom are Welch's. Raises ValueError for a negative deviation or number, or an unknown alternative. Source:
    Student 1908; Welch 1947, Biometrika 34, eq. 28 with Satterthwaite's degrees of freedom.
    """
    _refuse(alternative)
    found: list[Sample] = []
    for mean, std, nobs in ((mean1, std1, nobs1), (mean2, std2, nobs2)):
        middle, spread, n = np.asarray(mean, float), np.asarray(std, float), np.asarray(nobs, float)
        if (spread < 0).any() or (n < 0).any():
            msg = "standard deviations and numbers of observations must not be negative"
            raise ValueError(msg)
        found.append(Sample(n[()], middle[()], 0.0 * middle[()], (spread**2 * (n - 1))[()]))
    return _two_samples(*found, equal_var=equal_var, alternative=alternative)


def ttest_1samp(
    a: ArrayLike,
    popmean: ArrayLike,
    axis: int | None = 0,
    nan_policy: NanPolicy = "propagate",
    alternative: Alternative = "two-sided",
) -> Result:
    """Test whether the mean along ``axis`` of ``a`` (None: of all of it) is ``popmean``.

    ``popmean`` is a number, or an array as ``a`` with length 1 along the axis. The estimate is the mean itself.
    Fewer than two values, or constant ones at ``popmean``, give NaN and a RuntimeWarning. Raises ValueError for an
    unknown policy or alternative, or NaN where the policy refuses it. Source: Student 1908, Biometrika 6.
    """
    _refuse(alternative, nan_policy)
    sample = _sample(a, axis, nan_policy)
    null = np.asarray(popmean, float)
    if null.ndim and axis is not None and null.shape[axis] != 1:
        msg = f"popmean has length {null.shape[axis]} along the axis, must be 1 or a number"
        raise ValueError(msg)
    flat = float(null) if not null.ndim else null.reshape(()) if axis is None else null.squeeze(axis)
    return _one_sample(sample, flat, alternative, "one-sample t")


def ttest_rel(
    a: ArrayLike,
    b: ArrayLike,
    axis: int | None = 0,
    nan_policy: NanPolicy = "propagate",
    alternative: Alternative = "two-sided",
) -> Result:
    """Test whether the mean of the differences of pairs, ``a - b`` along ``axis``, is 0.

    ``n`` counts pairs; one of which a value is missing counts as missing. Raises ValueError for shapes that do not
    pair. Otherwise as ``ttest_1samp``.
    """
    _refuse(alternative, nan_policy)
    first, second = np.asarray(a, float), np.asarray(b, float)
    if first.shape != second.shape and (axis is None or first.shape[axis] != second.shape[axis]):
        msg = f"pairs of shapes {first.shape} and {second.shape}: unequal lengths along the axis"
        raise ValueError(msg)
    return _one_sample(_sample(first - second, axis, nan_policy), 0.0, alternative, "paired t")


def ttest_ind(
    a: ArrayLike,
    b: ArrayLike,
    *,
    axis: int | None = 0,
    equal_var: bool = True,
    nan_policy: NanPolicy = "propagate",
    alternative: Alternative = "two-sided",
) -> Result:
    """Test whether two independent samples have the same mean, along ``axis`` of both (None: of all values).

    ``equal_var`` pools the variances (Student); without it the test is Welch's. The estimate is the mean of ``a`` less
    that of ``b``. Fewer than two values, or constant samples without a difference, give NaN and a RuntimeWarning.
    Raises ValueError for an unknown policy or alternative, or NaN where the policy refuses it. Source: Student 1908;
    Welch 1947, Biometrika 34.
    """
    _refuse(alternative, nan_policy)
    first, second = _sample(a, axis, nan_policy), _sample(b, axis, nan_policy)
    return _two_samples(first, second, equal_var=equal_var, alternative=alternative)


def f_oneway(*samples: ArrayLike) -> Result:
    """Test whether several independent samples, each (values,), all have the same mean: one-way analysis of variance.

    The estimate is eta squared, the share of the sum of squares that lies between samples; ``df`` is a pair, between
    and within. Constant samples give inf, or NaN where the means are equal too, with a RuntimeWarning. Raises
    ValueError for fewer than two samples, empty ones, or no more values than samples.
    Source: Fisher 1925; NIST Statistical Reference Datasets, Analysis of Variance.
    """
    values = [np.asarray(sample, float) for sample in samples]
    n, k = sum(x.size for x in values), len(values)
    if k < 2 or any(x.ndim != 1 or not x.size for x in values) or n <= k:  # noqa: PLR2004
        msg = f"samples have shapes {[x.shape for x in values]}: at least two, each (values,), more values than samples"
        raise ValueError(msg)
    pivot = values[0][0]  # one for all: differences between means that are close stay exact
    moved = [x - pivot for x in values]
    sizes = np.array([x.size for x in values])
    means = np.array([x[0] + (x - x[0]).mean() for x in moved])  # of constant ones it is exact
    grand = float(sizes @ means) / n
    between = math.fsum(sizes * (means - grand) ** 2)
    within = math.fsum(float((d := x - mean).dot(d)) for x, mean in zip(moved, means, strict=True))
    if within == 0:
        warnings.warn("each sample is constant: there is no spread to compare means with", RuntimeWarning, stacklevel=2)
    df = (k - 1, n - k)
    statistic = _over(between / df[0], within / df[1])
    pvalue = float(f.sf(statistic, *df))
    log_pvalue = math.log(pvalue) if 1e-290 < pvalue < 0.5 else float(f.logsf(statistic, *df))  # noqa: PLR2004
    share = _over(between, between + within)
    return Result(statistic, pvalue, log_pvalue, df, share, math.nan, n, "two-sided", "one-way ANOVA")


# Samples


def _sample(values: ArrayLike, axis: int | None, nan_policy: NanPolicy) -> Sample:
    """Return the moments along an axis, about a value of the sample: a large mean takes no digits along."""
    x = np.asarray(values, float)
    if axis is None:
        x, axis = x.ravel(), 0
    if x.ndim == 1 and x.size:
        pivot = x.item(0)
        d = x - (pivot if math.isfinite(pivot) else math.nan)
        total, squares = float(np.add.reduce(d)), dot(d, d)
        if squares == squares and total * total <= 0.9 * x.size * squares:  # noqa: PLR0124
            return Sample(x.size, pivot, total / x.size, squares - total * total / x.size)
        if squares == 0:
            return Sample(x.size, pivot, 0.0, 0.0)
    x, present = x if axis in (-1, x.ndim - 1) else np.moveaxis(x, axis, -1), None
    if nan_policy != "propagate":
        missing = np.isnan(x)
        if missing.any():
            if nan_policy == "raise":
                msg = "the input has NaN"
                raise ValueError(msg)
            present = ~missing
    found = _moments(x, present)
    return found if x.ndim > 1 else Sample(*(float(each) for each in found))


def _moments(x: Array, present: NDArray[np.bool_] | None) -> Sample:
    """Return the moments along the last axis, of those ``present``; one number of values where none is missing."""
    *shape, length = x.shape
    n: Real = float(length)
    if length == 0:
        nothing = np.full(shape, np.nan)
        return Sample(n, nothing, nothing, nothing)
    x = x.reshape(-1, length)  # (tests, values)
    if present is not None:
        present = present.reshape(-1, length)
        n = present.sum(-1).astype(float)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        pivot, total, squares = _centred(x, present, n, raw=present is None and _about_zero(x))
        shift = total / n
        squares -= total * shift
    found = (each.reshape(shape) for each in (pivot, shift, squares))
    return Sample(n if present is None else n.reshape(shape), *found)


def _about_zero(x: Array) -> bool:
    """Guess by the first row whether means are at most a standard deviation: sums of values as they are will do."""
    return bool(len(x) and x[0].sum() ** 2 <= 0.5 * x.shape[1] * x[0].dot(x[0]))


def _centred(x: Array, present: NDArray[np.bool_] | None, n: Real, *, raw: bool) -> tuple[Array, Array, Array]:
    """Return pivots, sums and sums of squares about them, of which a mean far from the pivot takes no digits along."""
    if raw:
        pivot = np.zeros(len(x))
    elif present is None:
        pivot = x[:, 0].copy()  # sums of constant values about it are exactly 0
    else:
        pivot = np.take_along_axis(x, present.argmax(-1)[:, None], -1)[:, 0]
    total, squares = _sums(x, None if raw else pivot, present)
    far = total * total > 0.9 * n * squares
    if far.any():
        some = None if present is None else present[far]
        if raw:
            pivot[far], total[far], squares[far] = _centred(x[far], some, n, raw=False)
        else:  # the first value is an outlier: once more, about the mean
            pivot[far] += (total / n)[far]
            total[far], squares[far] = _sums(x[far], pivot[far], some)
    return pivot, total, squares


def _sums(x: Array, pivot: Array | None, present: NDArray[np.bool_] | None) -> tuple[Array, Array]:
    """Return sums and sums of squares of rows about their pivots, some rows at a time: they are read once."""
    tests, length = x.shape
    step = max(1, BLOCK // length)
    total, squares, held, ones = np.empty(tests), np.empty(tests), np.empty((min(step, tests), length)), np.ones(length)
    for start in range(0, tests, step):
        part = slice(start, start + step)
        d = x[part]
        if pivot is not None:
            d = np.subtract(d, pivot[part, None], out=held[: len(d)])
        if present is not None:
            d[~present[part]] = 0
        if length <= SHORT:
            np.vecdot(d, ones, out=total[part])
            np.vecdot(d, d, out=squares[part])
        else:
            d.sum(-1, out=total[part])
            np.einsum("ij,ij->i", d, d, out=squares[part])
    return total, squares


# Tests


def _one_sample(sample: Sample, null: Real, alternative: Alternative, method: str) -> Result:
    n, pivot, shift, squares = sample
    df = n - 1
    gap = (pivot - null) + shift
    error = _root(_over(_over(squares, df), n))
    return _result(gap, error, df, pivot + shift, n, n > 1, alternative, method)


def _two_samples(first: Sample, second: Sample, *, equal_var: bool, alternative: Alternative) -> Result:
    df1, df2 = first.n - 1, second.n - 1
    estimate = (first.pivot - second.pivot) + (first.shift - second.shift)
    if equal_var:
        df = df1 + df2
        error = _root(_over(first.squares + second.squares, df) * (_over(1.0, first.n) + _over(1.0, second.n)))
        enough = (df > 0) & (df1 >= 0) & (df2 >= 0)
    else:
        u, v = _over(_over(first.squares, df1), first.n), _over(_over(second.squares, df2), second.n)
        total = u + v
        # The share of the variance, half where there is none; squares of u and v themselves could underflow.
        share = u / total if isinstance(total, float) and total > 0 else np.where(total == 0, 0.5, _over(u, total))[()]
        df = _over(1.0, _over(share * share, df1) + _over((1 - share) * (1 - share), df2))
        error = _root(total)
        enough = (df1 > 0) & (df2 > 0)
    method = "Student's t" if equal_var else "Welch's t"
    return _result(estimate, error, df, estimate, first.n + second.n, enough, alternative, method)


def _result(
    gap: Real, error: Real, df: Real, estimate: Real, n: Real, enough: Real, alternative: Alternative, method: str
) -> Result:
    """Divide, look the tail up, and say why where there is no answer."""
    if isinstance(gap, float) and isinstance(error, float) and error > 0 and df > 0 and math.isfinite(gap / error):
        statistic = gap / error
        pvalue, log_pvalue = _pvalue(statistic, df, alternative)
        return Result(statistic, pvalue, log_pvalue, df, estimate, error, int(n), alternative, method)
    ratio = np.asarray(_over(gap, error))
    if not np.asarray(enough).all():
        warnings.warn("too few values: a spread needs two", RuntimeWarning, stacklevel=4)
        ratio, error = np.where(enough, ratio, np.nan), np.where(enough, error, np.nan)
    if not np.asarray(error).all():
        warnings.warn("all values are the same: there is no spread to compare with", RuntimeWarning, stacklevel=4)
    numbers = (ratio, *_pvalues(ratio, df, alternative), df, estimate, error, np.asarray(n, int))
    whole = (each if np.shape(each) == ratio.shape else np.full(ratio.shape, each) for each in numbers)
    known: list[Any] = [each if ratio.ndim else np.asarray(each).item() for each in whole]
    return Result(*known, alternative, method)  # type: ignore[call-arg]


def _pvalue(statistic: float, df: float, alternative: Alternative) -> tuple[float, float]:
    """Return a p-value and its logarithm."""
    sides = 2.0 if alternative == "two-sided" else 1.0
    if alternative == "less":
        statistic = -statistic
    size = statistic if alternative != "two-sided" else abs(statistic)
    found = _tail(abs(size), df)
    if found > 0:
        pvalue = sides * found if size >= 0 else 1 - found
        return pvalue, math.log(pvalue)
    return sides * float(t.sf(size, float(df))), float(t.logsf(size, float(df))) + math.log(sides)


def _pvalues(statistic: Array, df: Real, alternative: Alternative) -> tuple[Array, Array]:
    """Return p-values of many tests and their logarithms."""
    size = np.abs(statistic) if alternative == "two-sided" else statistic if alternative == "greater" else -statistic
    sides = 2.0 if alternative == "two-sided" else 1.0
    if isinstance(df, np.ndarray) and df.size and (df == df.flat[0]).all():
        df = df.item(0)  # of one law many tails are cheap
    # Without degrees of freedom the statistic is NaN.
    df = np.where(df > 0, df, 1.0) if isinstance(df, np.ndarray) else float(df) if df > 0 else 1.0
    pvalue = np.asarray(t.sf(size, df)) * sides
    with np.errstate(divide="ignore"):
        log_pvalue = np.log(pvalue)
    small = pvalue < 1e-290  # noqa: PLR2004 - no longer all its digits, or none
    if small.any():
        log_pvalue = np.where(small, np.asarray(t.logsf(size, df)) + math.log(sides), log_pvalue)
    return pvalue, log_pvalue


def _coefficients() -> tuple[tuple[float, float], ...]:
    """Return the Taylor coefficients k of sqrt(y / (1 - exp(-y))), k > 0, with 2 k + 1, the last first."""
    below = [(-1) ** k / math.factorial(k + 1) for k in range(TERMS)]  # of (1 - exp(-y)) / y
    ratio, root = [1.0], [1.0]
    for k in range(1, TERMS):
        ratio.append(-sum(below[j] * ratio[k - j] for j in range(1, k + 1)))
        root.append((ratio[k] - sum(root[j] * root[k - j] for j in range(1, k))) / 2)
    return tuple((root[k], 2.0 * k + 1) for k in range(TERMS - 1, 0, -1))


COEFFICIENTS = _coefficients()


def _tail(size: float, df: float) -> float:
    """Return P(T > size), size >= 0, to 1e-14 where a few operations have it; -1 where ``stats.special`` must be asked.

    With u**2 = df * log(1 + t**2 / df) = df * y the density of u is normal times sqrt(y / (1 - exp(-y))). Its Taylor
    series integrated by parts is a multiple of the normal tail and one of its density; both sums run through one loop.
    Source: as ``stats.special``'s tail, which keeps 25 digits of the exponent and costs ten times as much.
    """
    y = math.log1p(size * size / df)
    square = df * y
    if not (df >= 20 and y < 0.7 and square < 200):  # noqa: PLR2004 - where 16 terms do, and the exponent's rounding
        return -1.0
    inverse, inner, outer = 1 / df, 0.0, 0.0
    for coefficient, odd in COEFFICIENTS:
        inner = coefficient + odd * inverse * inner
        outer = outer * y + inner
    u = math.sqrt(square)
    density = math.exp(-0.5 * square) / ROOT_TAU
    return 0.5 * math.erfc(u / math.sqrt(2)) + density * u * outer * inverse / (1 + inverse * inner)


def _over(a: Real, b: Real) -> Real:
    """Divide as IEEE 754 has it, 0 / 0 is NaN, without a word."""
    if isinstance(b, float | int) and b != 0:
        return a / b
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(a, b)[()]


def _root(x: Real) -> Real:
    return math.sqrt(x) if isinstance(x, float) and x >= 0 else np.sqrt(x)


def _refuse(alternative: str, nan_policy: str = "omit") -> None:
    if alternative not in ("two-sided", "less", "greater") or nan_policy not in ("propagate", "omit", "raise"):
        msg = (
            f"alternative is {alternative!r} and nan_policy {nan_policy!r}, must be 'two-sided', 'less' or 'greater', "
            "and 'propagate', 'omit' or 'raise'"
        )
        raise ValueError(msg)
