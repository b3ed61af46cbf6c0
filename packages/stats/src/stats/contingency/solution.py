"""The production answer: closed forms for two by two, a chi-square tail that is a short sum, expected counts named."""

import math
import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.contingency import Lambda
from stats.result import Result
from stats.shared import tail_and_log
from stats.special import Real
from stats.special.solution import chi2

Table = NDArray[np.float64]
SMALL = 5.0  # Cochran 1954: expected counts below make the chi-square law a poor approximation


def chisquare(f_obs: ArrayLike, f_exp: ArrayLike | None = None, ddof: int = 0) -> Result:
    """Test whether counts (k,) fit expected ones, all equal unless ``f_exp`` (k,) is given: Pearson's chi-square.

    ``ddof`` parameters estimated from the counts cost a degree of freedom each. The estimate is Cohen's w, the root of
    statistic / n. Warns where fewer than 5 are expected. Raises ValueError for counts that are negative or NaN, none,
    shapes that differ, expected counts that are not above 0 or have another sum, ddof below 0 or not whole, or no
    degree of freedom left. Source: Pearson 1900; Cohen 1988, chapter 7.
    """
    seen = _counts(f_obs)
    if seen.ndim != 1:
        msg = f"f_obs has shape {seen.shape}, must be (k,)"
        raise ValueError(msg)
    n = float(seen.sum())
    expected, least = (n / seen.size, n / seen.size) if f_exp is None else _given(f_exp, seen, n)
    if ddof != ddof // 1 or ddof < 0:
        msg = f"ddof is {ddof}, must be a whole number, at least 0"
        raise ValueError(msg)
    df = seen.size - 1 - ddof
    if df < 1:
        msg = f"{seen.size} counts less 1 less ddof = {ddof} leave {df} degrees of freedom, must be at least 1"
        raise ValueError(msg)
    _say_if_small(least)
    statistic = _pearson(seen, expected)
    return _result(statistic, df, math.sqrt(statistic / n), n, "chi-square, goodness of fit")


def chi2_contingency(observed: ArrayLike, correction: bool = True, lambda_: Lambda = "pearson") -> Result:  # noqa: FBT001, FBT002 - scipy's signature
    """Test whether rows and columns of a table of counts (r, c) are independent.

    ``correction`` moves each count by up to 1/2 towards the expected one where there is one degree of freedom (Yates);
    ``lambda_`` "log-likelihood" makes it the G-test. The estimate is Cramer's V, without the correction. Warns where
    fewer than 5 are expected in a cell. Raises ValueError for counts that are negative or NaN, none, another shape, a
    row or column of zeros, or an unknown ``lambda_``. Source: Pearson 1900; Yates 1934; Wilks 1935; Cochran 1954.
    """
    if lambda_ not in ("pearson", "log-likelihood"):
        msg = f"lambda_ is {lambda_!r}, must be 'pearson' or 'log-likelihood'"
        raise ValueError(msg)
    table = observed if isinstance(observed, np.ndarray) else np.asarray(observed, float)
    if table.shape == (2, 2) and lambda_ == "pearson":
        (a, b), (c, d) = table.tolist()
        left, right, top, bottom = a + c, b + d, a + b, c + d
        # NaN fails the comparison too.
        if min(a, b, c, d) >= 0 and 0 < left * right * top * bottom < math.inf:
            n = float(top + bottom)
            least = min(left, right) * min(top, bottom) / n
            if least < SMALL:
                _say_if_small(least)
            gap = abs(a * d - b * c)
            moved = max(0.0, gap - n / 2) if correction else gap
            scale = n / (left * right) / (top * bottom)
            method = "chi-square, Yates" if correction else "chi-square"
            return _result(moved * moved * scale, 1, gap * math.sqrt(scale / n), n, method)
    seen, expected = _expected(table)
    n = float(seen.sum())
    _say_if_small(float(expected.min()))
    df = (seen.shape[0] - 1) * (seen.shape[1] - 1)
    distance = _pearson(seen, expected)
    strength = _v(distance, seen.shape, n)
    corrected = correction and df == 1
    if corrected:
        gap_to = expected - seen
        seen = seen + np.sign(gap_to) * np.minimum(0.5, np.abs(gap_to))
    if lambda_ == "pearson":
        statistic, name = _pearson(seen, expected) if corrected else distance, "chi-square"
    else:
        some = seen > 0  # x log x is 0 at 0
        ratio = (seen[some] - expected[some]) / expected[some]
        # 2 sum(x log(x / e)) with sum(x - e) = 0 taken off: terms that are positive do not cancel.
        terms = seen[some] * np.log1p(ratio) - (seen[some] - expected[some])
        statistic, name = max(0.0, 2 * float(terms.sum() + expected[~some].sum())), "G-test"
    return _result(statistic, df, strength, n, f"{name}, Yates" if corrected else name)


def cramers_v(observed: ArrayLike, bias_correction: bool = False) -> float:  # noqa: FBT001, FBT002 - as scipy's `correction`
    """Return Cramer's V of a table of counts (r, c), from 0 (independent) to 1.

    ``bias_correction`` takes off what independent rows and columns would show by chance. NaN for a single row or
    column, or where there are too few counts to correct. Raises ValueError as ``chi2_contingency``. Source: Cramer
    1946; Bergsma 2013, J. Korean Stat. Soc. 42(3).
    """
    seen, expected = _expected(np.asarray(observed, float))
    n = float(seen.sum())
    v = _v(_pearson(seen, expected), seen.shape, n)
    if not bias_correction or math.isnan(v):
        return v
    r, c = seen.shape
    square = max(0.0, v * v * (min(r, c) - 1) - (r - 1) * (c - 1) / (n - 1))
    least = min(side - (side - 1) ** 2 / (n - 1) for side in (r, c)) - 1
    return math.sqrt(square / least) if least > 0 else math.nan


def residuals(observed: ArrayLike) -> Table:
    """Return adjusted residuals (r, c): how many standard errors each count is off what independence expects.

    Where rows and columns are independent each is nearly standard normal. NaN for a single row or column. Raises
    ValueError as ``chi2_contingency``. Source: Haberman 1973, Biometrics 29(1), eq. 5.
    """
    seen, expected = _expected(np.asarray(observed, float))
    n = seen.sum()
    rows, columns = 1 - seen.sum(1, keepdims=True) / n, 1 - seen.sum(0, keepdims=True) / n
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Table = (seen - expected) / np.sqrt(expected * rows * columns)
    return found


def _shown(seen: Table) -> str:
    """Name what is wrong with counts: the first that is none, or that all are 0."""
    wrong = seen[~(np.isfinite(seen) & (seen >= 0))]
    return f"{wrong[0]:g}" if wrong.size else "0 alone" if seen.size else "nothing"


def _counts(values: ArrayLike) -> Table:
    seen = np.asarray(values, float)
    if not (np.isfinite(seen) & (seen >= 0)).all() or not seen.sum():
        msg = f"counts must be finite, none negative, and not all 0, not {_shown(seen)}"
        raise ValueError(msg)
    return seen


def _expected(table: Table) -> tuple[Table, Table]:
    """Check a table of counts; return it and what independence expects."""
    seen = _counts(table)
    if seen.ndim != 2:  # noqa: PLR2004
        msg = f"observed has shape {seen.shape}, must be (rows, columns)"
        raise ValueError(msg)
    rows, columns = seen.sum(1, keepdims=True), seen.sum(0, keepdims=True)
    if not (rows.all() and columns.all()):
        msg = "a row or column has nothing but zeros: leave it out"
        raise ValueError(msg)
    return seen, rows * (columns / seen.sum())


def _given(f_exp: ArrayLike, seen: Table, n: float) -> tuple[Table, float]:
    """Check expected counts; return them and the least."""
    expected = np.asarray(f_exp, float)
    if expected.shape != seen.shape or not (expected > 0).all():
        least = expected.min(initial=math.inf)
        msg = f"f_exp has shape {expected.shape} and least {least}, must have {seen.shape}, all above 0"
        raise ValueError(msg)
    if not math.isclose(float(expected.sum()), n, rel_tol=1e-8):
        msg = f"f_exp sums to {expected.sum():.9g} and f_obs to {n:.9g}, must be equal"
        raise ValueError(msg)
    return expected, float(expected.min())


def _pearson(seen: Table, expected: Real) -> float:
    gap = seen - expected
    return float((gap * gap / expected).sum())


def _v(distance: float, shape: tuple[int, ...], n: float) -> float:
    least = min(shape) - 1
    return math.sqrt(distance / n / least) if least else math.nan


def _say_if_small(least: float) -> None:
    if least < SMALL:
        words = f"{least:.2g} counts expected in a cell: the p-value is rough below 5, an exact test is better"
        warnings.warn(words, stacklevel=3)


def _result(statistic: float, df: int, estimate: float, n: float, method: str) -> Result:
    pvalue, log_pvalue = _tail(statistic, df)
    return Result(statistic, pvalue, log_pvalue, df, estimate, math.nan, n, "two-sided", method)


def _tail(x: float, df: int) -> tuple[float, float]:
    """Return P(chi-square > x) and its logarithm: for whole df a sum of positive terms. Source: DLMF 8.4.10, 8.4.13."""
    if df == 0:
        return 1.0, 0.0
    if x > 400 or df > 60:  # noqa: PLR2004 - where the exponent's rounding shows, and the sum gets long
        return tail_and_log(chi2, x, df, df)
    half = 0.5 * x
    if df % 2:
        total, order = math.erfc(math.sqrt(half)), 0.5
        term = math.exp(-half) * math.sqrt(half) * 2 / math.sqrt(math.pi)
    else:
        total, order = 0.0, 0.0
        term = math.exp(-half)
    for _ in range(df // 2):
        total += term
        order += 1
        term *= half / order
    return total, math.log(total)
