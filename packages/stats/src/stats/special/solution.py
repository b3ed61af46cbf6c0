"""The production answer: every tail is an exponential, its exponent kept as a pair of floats, times a tame ratio.

The ratio comes from a sum of positive terms or an integral of a positive function, so that nothing cancels: power
series where they are short, else Gauss's rule in the variable in which the density is log-concave.
"""

import math
from collections.abc import Callable
from functools import cache, lru_cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stats.special import Distribution, Real
from stats.special import _noncentral as noncentral
from stats.special import _pairs as pairs
from stats.special._pairs import Pair

Vector = NDArray[np.float64]
Fall = Callable[[Vector], Vector]
Rough = Callable[[Vector], tuple[Vector, Vector]]
ROOT_HALF, ROOT_TAU = math.sqrt(0.5), math.sqrt(2 * math.pi)
EPS = 2.0**-53
FEW = 3e3  # the sum of shapes up to which a beta tail's argument needs no more than 16 digits
LONG = 400.0  # shape up to which series and continued fraction of a gamma tail are short enough
LOG_EPS = math.log(EPS)
SQUARED, LARGEST, TINIEST = 1e154, 1.7e308, 5e-324  # what can be squared, and what there is
ENDLESS = 1e20  # degrees of freedom of F that are as good as any more
HELD = 1e100  # beyond, t**2 / df is taken by logarithms
SHIFTED = 16.0  # degrees of freedom from which Temme's expansion has 16 digits
TERMS = 28  # of that expansion
WHOLE = 64.0  # the largest shape that a finite sum is taken for
NODES, PIECES = 40, 8  # of Gauss's rule, and where it is applied piece by piece
FALL = 38.0  # the integrand is followed until it is exp(-FALL) of what it was
SHORT = 5.0  # up to this shape the power series is short enough
STEPS = 100  # Halley's or Newton's, at most
CLOSE = 1e-5  # to the root: the third power of it is what the next of Halley's steps leaves
ROWS, MOST = 400, 1000  # terms of a series taken at once, and at most
MIXED, HEAVY = 400, 200.0  # terms of a Poisson mixture at most, and the mean up to which they are enough
DEEP = 600.0  # the largest exponent of a mixture, lest it underflow before it is multiplied
ALL = 0.999  # beyond, what is missing is computed
MUCH = 0.01  # of a sum, so that two digits are lost
CALM = 40.0  # twice the exponent up to which its rounding costs no more than 1e-14
CENTRAL = 0.5 - 0.425  # the normal tail from which on the quantile is nearly a line
BLOCK = 1 << 10  # values worked on at a time: they stay in the cache
# Numerator and denominator of Wichura's three rational functions, from the highest power on.
CENTRE = (
    (2509.0809287301227, 5226.495278852854),
    (33430.57558358813, 28729.085735721943),
    (67265.7709270087, 39307.89580009271),
    (45921.95393154987, 21213.794301586597),
    (13731.69376550946, 5394.196021424751),
    (1971.5909503065513, 687.1870074920579),
    (133.14166789178438, 42.31333070160091),
    (3.3871328727963665, 1.0),
)
BESIDE = (
    (0.0007745450142783414, 1.0507500716444169e-09),
    (0.022723844989269184, 0.0005475938084995345),
    (0.2417807251774506, 0.015198666563616457),
    (1.2704582524523684, 0.14810397642748008),
    (3.6478483247632045, 0.6897673349851),
    (5.769497221460691, 1.6763848301838038),
    (4.630337846156546, 2.053191626637759),
    (1.4234371107496835, 1.0),
)
OUTSIDE = (
    (2.0103343992922881e-07, 2.0442631033899397e-15),
    (2.7115555687434876e-05, 1.421511758316446e-07),
    (0.0012426609473880784, 1.8463183175100548e-05),
    (0.026532189526576124, 0.0007868691311456133),
    (0.29656057182850487, 0.014875361290850615),
    (1.7848265399172913, 0.1369298809227358),
    (5.463784911164114, 0.599832206555888),
    (6.657904643501103, 1.0),
)


class Side(NamedTuple):
    """One of a distribution's two tails, exp(-high - low) * ratio, and its density, exp(-high - low) * density.

    ``upper`` says which of the two it is, the smaller one or nearly. The density is that of the variable in which it
    is log-concave: log x for a gamma variate, the logit for a beta variate, asinh(t / sqrt(df)) for t.
    """

    upper: Real
    high: Real
    low: Real
    ratio: Real
    density: Real


# Distributions


def norm_tail(x: Real, upper: bool, log: bool) -> Real:  # noqa: FBT001
    """Return a tail of the standard normal distribution, or its logarithm.

    Source: the tail by the trapezoidal rule with its pole, Matta and Reichel 1971, Math. Comp. 25(114).
    """
    if isinstance(x, float | int):
        return _finish(_normal(float(x)), upper, log) if x == x else math.nan  # noqa: PLR0124
    (z,), shape = _flat(x)
    with np.errstate(all="ignore"):
        return _finish(_normal(z), upper, log).reshape(shape)[()]


def norm_quantile(p: Real, upper: bool) -> Real:  # noqa: FBT001
    """Return the x with probability ``p`` above it, or not above it. Raises ValueError for p outside [0, 1]."""
    if isinstance(p, float | int) and 0 < p < 1:
        size: Real = _normal_quantile(min(float(p), 1.0 - p))
        return size if (p <= 0.5) == upper else -size  # noqa: PLR2004
    (flat,), shape = _flat(_probability(p))
    with np.errstate(all="ignore"):
        size = _normal_quantile(np.minimum(flat, 1 - flat))  # the smaller side has the more digits
        found = np.where((flat <= 0.5) == upper, size, -size)  # noqa: PLR2004
    found = _ends(found, flat, upper, (-math.inf, math.inf)).reshape(shape)
    return _as_given(found, p)


def t_tail(x: Real, upper: bool, log: bool, df: Real) -> Real:  # noqa: FBT001
    """Return a tail of Student's t distribution with ``df`` > 0 degrees of freedom, or its logarithm.

    Raises ValueError for a df that is not positive. Source: Temme 1979, SIAM J. Math. Anal. 10(4), specialised;
    DLMF 8.17.8 far out.
    """
    _refuse_shape("df", df, endless=True)
    return _evaluate(_student, upper, log, x, (-math.inf, math.inf), df)


def t_quantile(p: Real, upper: bool, df: Real) -> Real:  # noqa: FBT001
    """Return the x with probability ``p`` above it, or not above it.

    Raises ValueError for p outside [0, 1] or a df that is not positive.
    """
    _refuse_shape("df", df, endless=True)

    def start(p: Real, sign: Real, df: Real) -> Real:  # u is z + log(f) / z, Temme 1992, Math. Comp. 58(198), eq. 3.5
        of, z = _of(p), _clip(_normal_quantile(p), 1e-9, math.inf)
        y = z * z / df
        u = z + 0.5 * of.log(-y / of.expm1(-y)) / z
        return sign * of.sqrt(df * of.expm1(_clip(u * u / df, 0.0, 600.0)))

    def move(x: Real, step: Real, df: Real) -> Real:
        more, less = _of(x).expm1(step), -_of(x).expm1(-step)  # cosh and sinh in half the time
        return x + 0.5 * (x * (more - less) + _of(x).hypot(_of(df).sqrt(df), x) * (more + less))

    def bend(x: Real, df: Real) -> Real:
        return df * x / _of(x).hypot(_of(df).sqrt(df), x)

    df = min(float(df), 1e30) if isinstance(df, float | int) else np.minimum(df, 1e30)
    return _quantile(p, upper, _student, start, move, bend, (-math.inf, math.inf), df)


def chi2_tail(x: Real, upper: bool, log: bool, df: Real) -> Real:  # noqa: FBT001
    """Return a tail of the chi-square distribution with ``df`` > 0 degrees of freedom, or its logarithm.

    Raises ValueError for a df that is not positive. Source: as ``gammainc``.
    """
    if isinstance(x, float | int) and df == 1 and x > 0:
        high = 0.5 * min(float(x), LARGEST)
        root = math.sqrt(high)
        if root < 1 and (log or not upper):
            p = math.erf(root)
            return (math.log1p(-p) if upper else math.log(p)) if log else p
        return _finish(Side(upper=True, high=high, low=0.0, ratio=_erfcx(root), density=0.0), upper, log)
    _refuse_shape("df", df)
    return _evaluate(_gamma, upper, log, _half(x), (0.0, math.inf), _half(df))


def chi2_quantile(p: Real, upper: bool, df: Real) -> Real:  # noqa: FBT001
    """Return the x with probability ``p`` above it, or not above it.

    Raises ValueError for p outside [0, 1] or a df that is not positive.
    """
    _refuse_shape("df", df)

    def start(p: Real, sign: Real, a: Real) -> Real:  # Wilson and Hilferty 1931; from below Newton's steps come back
        cube = 1 - 1 / (9 * a) + sign * _normal_quantile(p) / (3 * _of(a).sqrt(a))
        return a * _clip(cube, 0.1, math.inf) ** 3

    return 2 * _quantile(p, upper, _gamma, start, _stretch, lambda x, a: x - a, (0.0, math.inf), _half(df))


def f_tail(x: Real, upper: bool, log: bool, dfn: Real, dfd: Real) -> Real:  # noqa: FBT001
    """Return a tail of Fisher's F distribution with ``dfn`` and ``dfd`` > 0 degrees of freedom, or its logarithm.

    Raises ValueError for degrees of freedom that are not positive. Source: as ``betainc``.
    """
    dfn, dfd = _degrees(dfn, dfd)
    return _evaluate(_fisher, upper, log, x, (0.0, math.inf), _half(dfn), _half(dfd))


def f_quantile(p: Real, upper: bool, dfn: Real, dfd: Real) -> Real:  # noqa: FBT001
    """Return the x with probability ``p`` above it, or not above it.

    Raises ValueError for p outside [0, 1] or degrees of freedom that are not positive.
    """
    dfn, dfd = _degrees(dfn, dfd)

    def start(p: Real, sign: Real, a: Real, b: Real) -> Real:  # noqa: ARG001
        return 1.0 + 0 * p  # the mode of its logarithm

    def bend(x: Real, a: Real, b: Real) -> Real:
        return a * b * (x - 1) / (a * x + b)

    return _quantile(p, upper, _fisher, start, _stretch, bend, (0.0, math.inf), _half(dfn), _half(dfd))


def binom_tail(x: Real, upper: bool, log: bool, n: Real, p: Real) -> Real:  # noqa: FBT001
    """Return a tail of the binomial distribution of successes in ``n`` trials of chance ``p``, or its logarithm.

    Raises ValueError for an n that is no whole number of at least 0, or p outside [0, 1]. Source: DLMF 8.17.5.
    """
    trials, chance = np.asarray(n, float), np.asarray(p, float)
    _refuse_trials(trials, chance)
    k = np.floor(np.asarray(x, float))
    k, trials, chance = np.broadcast_arrays(k, trials, chance)
    sure = ~((k >= 0) & (k < trials))
    inner = np.where(sure, 0.0, k)
    # More than k successes: a beta variate of shapes k + 1 and n - k is below p.
    found = np.asarray(_regularized(inner + 1, np.maximum(trials, 1) - inner, chance, upper=not upper, log=log))
    return _as_given(np.where(sure, _edge((k < 0) == upper, log=log), found) + 0 * k, x, n, p)


def binom_quantile(q: Real, upper: bool, n: Real, p: Real) -> Real:  # noqa: FBT001
    """Return the smallest number k with ``cdf(k) >= q``, or with ``sf(k) <= q`` where ``upper``; -1 where that is none.

    Raises ValueError for q or p outside [0, 1], or an n that is no whole number.
    """
    trials, chance = np.asarray(n, float), np.asarray(p, float)
    _refuse_trials(trials, chance)
    wanted = _probability(q)
    wanted, trials, chance = (np.array(each) for each in np.broadcast_arrays(wanted, trials, chance))
    low, high = np.full_like(trials, -1.0), trials.copy()  # the answer lies above low, and at most at high
    for _ in range(2 + int(np.log2(trials.max(initial=1)))):
        middle = np.floor((low + high) / 2)
        found = np.asarray(binom_tail(middle, upper, False, trials, chance))  # noqa: FBT003
        enough = (found <= wanted) if upper else (found >= wanted)
        low, high = np.where(enough, low, middle), np.where(enough, np.maximum(middle, low + 1), high)
    none = (wanted == 1) if upper else (wanted == 0)
    return _as_given(np.where(np.isnan(wanted), np.nan, np.where(none, -1.0, high)), q, n, p)


def nct_tail(x: Real, upper: bool, log: bool, df: Real, nc: Real) -> Real:  # noqa: FBT001
    """Return a tail of the noncentral t distribution, or its logarithm.

    The variate is (Z + nc) / sqrt(V / df) with Z standard normal and V chi-square with ``df`` > 0 degrees of freedom.
    Raises ValueError for a df that is not positive, or an nc that is not finite. Source: Guenther 1978, Evaluation of
    probabilities for the noncentral distributions, a Poisson mixture, where its terms are few and nothing cancels; else
    Johnson, Kotz and Balakrishnan 1995, volume 2, eq. 31.10, integrated over log sqrt(V / df) with the trapezoidal
    rule.
    """
    _refuse_shape("df", df)
    _refuse_infinite(nc)

    def kernel(x: Real, df: Real, nc: Real) -> Side:
        found, fit = _noncentral_t_mixture(x, df, nc, upper, log)
        if np.all(fit):
            return found
        if isinstance(x, float):
            return _noncentral_t(x, df, nc)
        rest = ~fit
        some = _noncentral_t(x[rest], _where(df, rest), _where(nc, rest))
        whole = Side(*(np.array(np.broadcast_to(each, x.shape)) for each in found))
        for old, new in zip(whole, some, strict=True):
            old[rest] = new
        return whole

    return _evaluate(kernel, upper, log, x, (-math.inf, math.inf), df, nc)


def nct_quantile(p: Real, upper: bool, df: Real, nc: Real) -> Real:  # noqa: FBT001
    """Return the x with probability ``p`` above it, or not above it.

    Raises ValueError for p outside [0, 1], a df that is not positive, or an nc that is not finite.
    """
    _refuse_shape("df", df)
    _refuse_infinite(nc)
    return _search(p, upper, _noncentral_t, (-math.inf, math.inf), lambda _, nc: (nc, np.arcsinh, np.sinh), df, nc)


def nct_outside(x: float, df: float, nc: float) -> float:
    """Return the chance that a noncentral t variate lies beyond x > 0 on either side: what a two-sided test rejects.

    Raises ValueError for a df that is not positive, or an nc that is not finite. Source: as ``nct_tail``.
    """
    _refuse_shape("df", df)
    _refuse_infinite(nc)
    central = _student(float(x), float(df))
    even, _, settled = _mixture(float(x), float(df), float(nc), central)
    high = central.high + 0.5 * nc * nc
    found = 2 * math.exp(-high) * even if settled and high < DEEP else math.inf
    if found <= ALL:
        return found
    above, below = (nct_tail(side * x, side > 0, False, df, nc) for side in (1, -1))  # noqa: FBT003
    inside = nct_tail(x if nc > 0 else -x, nc < 0, False, df, nc) - (below if nc > 0 else above)  # noqa: FBT003
    return float(1 - inside if inside < 1 - ALL else above + below)


def nct_between(x: float, df: float, low: float, high: float) -> float:
    """Return the chance that (Z + low) / w > x and (Z + high) / w < -x, of one Z and w = sqrt(V / df).

    Both hold where Z lies between w x - low and -w x - high: what a pair of one-sided tests rejects. Raises ValueError
    for a df that is not positive. Source: Owen 1965, A special case of a bivariate non-central t-distribution,
    Biometrika 52, with his Q integrated over log w by Gauss's rule.
    """
    _refuse_shape("df", df)
    if low - high <= 0:
        return 0.0
    reach = math.sqrt(FALL / df)  # df / 2 * (exp(2 s) - 1 - 2 s) is above FALL beyond it, and so below the other end
    first, last = -reach - FALL / df, min(reach, math.log((low - high) / (2 * x))) if x > 0 else reach
    if last <= first:
        return 0.0
    nodes, weights = _gauss()
    width = (last - first) / PIECES
    s = first + width * (np.arange(PIECES)[:, None] + nodes)  # (pieces, nodes)
    near, far = low - x * np.exp(s), high + x * np.exp(s)  # P(-Z < near) - P(-Z < far)
    if near[0, 0] + far[0, 0] > 0:  # the smaller tails have the more digits
        near, far = -far, -near
    inside = norm_tail(near, False, False) - norm_tail(far, False, False)  # noqa: FBT003
    constant = math.sqrt(df / math.pi) * math.exp(-_stirling_rest(0.5 * df))
    return float(width * constant * ((inside * np.exp(-0.5 * df * _exp_rest(2 * s))) @ weights).sum())


def ncx2_tail(x: Real, upper: bool, log: bool, df: Real, nc: Real) -> Real:  # noqa: FBT001
    """Return a tail of the noncentral chi-square distribution, or its logarithm.

    With ``df`` > 0 degrees of freedom; ``nc`` >= 0 is the sum of the squared means. Raises ValueError for a df that is
    not positive, or an nc that is negative or not finite. Source: Helstrom 1978, IEEE Trans. AES-14(4): the inverse
    Laplace integral along a path of steepest descent.
    """
    _refuse_shape("df", df)
    _refuse_infinite(nc, least=0.0)
    return _evaluate(_noncentral_chi2, upper, log, x, (0.0, math.inf), df, nc)


def ncx2_quantile(p: Real, upper: bool, df: Real, nc: Real) -> Real:  # noqa: FBT001
    """Return the x with probability ``p`` above it, or not above it.

    Raises ValueError for p outside [0, 1], a df that is not positive, or an nc that is negative or not finite.
    """
    _refuse_shape("df", df)
    _refuse_infinite(nc, least=0.0)
    return _search(p, upper, _noncentral_chi2, (0.0, math.inf), lambda df, nc: (df + nc, np.log, np.exp), df, nc)


norm = Distribution(norm_tail, norm_quantile)
t = Distribution(t_tail, t_quantile)
chi2 = Distribution(chi2_tail, chi2_quantile)
f = Distribution(f_tail, f_quantile)
binom = Distribution(binom_tail, binom_quantile)
nct = Distribution(nct_tail, nct_quantile)
ncx2 = Distribution(ncx2_tail, ncx2_quantile)


# Incomplete functions


def betainc(a: Real, b: Real, x: Real) -> Real:
    """Return the regularised incomplete beta function I_x(a, b) for a, b > 0 and x in [0, 1].

    Raises ValueError for arguments out of range. Source: DLMF 8.17.8; the prefactor as in Loader 2000.
    """
    return _regularized(a, b, x, upper=False, log=False)


def betaincc(a: Real, b: Real, x: Real) -> Real:
    """Return 1 - I_x(a, b), with all its digits where it is small. Raises ValueError for arguments out of range."""
    return _regularized(a, b, x, upper=True, log=False)


def gammainc(a: Real, x: Real) -> Real:
    """Return the regularised lower incomplete gamma function P(a, x) for a > 0 and x >= 0.

    Raises ValueError for arguments out of range. Source: DLMF 8.11.4; the prefactor as in Loader 2000.
    """
    return _incomplete_gamma(a, x, upper=False)


def gammaincc(a: Real, x: Real) -> Real:
    """Return Q(a, x) = 1 - P(a, x), with all its digits where it is small. Raises ValueError out of range."""
    return _incomplete_gamma(a, x, upper=True)


def _regularized(a: Real, b: Real, x: Real, *, upper: bool, log: bool) -> Real:
    _refuse_shape("a", a)
    _refuse_shape("b", b)
    given = np.asarray(x, float)
    if ((given < 0) | (given > 1)).any():
        msg = f"x reaches from {np.nanmin(given)} to {np.nanmax(given)}, must lie between 0 and 1"
        raise ValueError(msg)

    def kernel(x: Real, a: Real, b: Real) -> Side:
        return _beta(a, b, (x, 0.0 * x), pairs.two_sum(1.0, -x))

    return _as_given(np.asarray(_evaluate(kernel, upper, log, x, (0.0, 1.0), a, b)), a, b, x)


def _incomplete_gamma(a: Real, x: Real, *, upper: bool) -> Real:
    _refuse_shape("a", a)
    given = np.asarray(x, float)
    if (given < 0).any():
        msg = f"x reaches down to {np.nanmin(given)}, must be at least 0"
        raise ValueError(msg)
    return _evaluate(_gamma, upper, False, x, (0.0, math.inf), a)  # noqa: FBT003


# Kernels


def _normal(z: Real) -> Side:
    size = min(abs(z), SQUARED) if isinstance(z, float) else np.minimum(np.abs(z), SQUARED)
    high, low = pairs.two_product(size, size)
    return Side(z > 0, 0.5 * high, 0.5 * low, 0.5 * _erfcx(ROOT_HALF * size), 1 / ROOT_TAU)


@cache
def _ladder() -> tuple[tuple[float, float], ...]:
    """Return squared nodes and weights of the midpoint rule for erfcx with step 1/2."""
    nodes = [((k + 0.5) / 2) ** 2 for k in range(13)]
    return tuple((node, math.exp(-node) / math.pi) for node in nodes)


@cache
def _ladder_columns() -> tuple[Vector, Vector]:
    """Return the same for arrays: the nodes as a column, and the weights."""
    nodes, weights = np.array(_ladder()).T
    return nodes[:, None], weights.copy()


def _erfcx(x: Real) -> Real:
    """Return exp(x**2) erfc(x) for x >= 0: a sum of positive terms, no digit lost.

    The pole of the integrand at i * x adds the last term while it lies inside the rule's strip.
    """
    if isinstance(x, float):
        if x > 1e7:  # noqa: PLR2004 - the next term of the series is 1 / (2 * x**2) of it
            return 1 / (x * math.sqrt(math.pi))
        square = x * x
        total = 0.0
        for node, weight in _ladder():
            total += weight / (node + square)
        return x * total + (2 * math.exp(square) / (1 + math.exp(4 * math.pi * x)) if square < 4 * math.pi**2 else 0.0)
    square = x * x
    if x.ndim == 1 and x.size <= BLOCK:
        nodes, weights = _ladder_columns()
        found = x * (weights @ (1 / (nodes + square)))
    else:
        found = x * sum(weight / (node + square) for node, weight in _ladder())
    top = x.max(initial=0.0)
    if top < 2 * math.pi:
        return found + 2 * np.exp(square) / (1 + np.exp(4 * math.pi * x))
    near = x < 2 * math.pi
    close = x[near]
    found[near] += 2 * np.exp(close * close) / (1 + np.exp(4 * math.pi * close))
    return found if top < 1e7 else np.where(x > 1e7, 1 / (x * math.sqrt(math.pi)), found)  # noqa: PLR2004


def _student(t: Real, df: Real) -> Side:
    """Return the tail of t beyond |t|: Temme's expansion around the centre, the power series outside.

    The tail is exp(-df / 2 * log(1 + t**2 / df)) times a ratio; a large exponent needs more digits than float64 has.
    """
    if isinstance(t, float):
        size, df = abs(t), min(df, 1e30)
        held = min(size, HELD)
        square = held * held / df
        log = math.log1p(square)
        kernel = _student_centre if square <= 1 else _student_far
        high, low = (0.5 * df * log, 0.0) if df * log <= CALM else _student_exponent(size, df)
        return Side(t > 0, high, low, *kernel(square, log, df))
    size, df = np.abs(t), min(df, 1e30) if isinstance(df, float) else np.minimum(df, 1e30)
    square = size * size / df
    log = np.log1p(square)
    high, low = (0.5 * df) * log, 0.0
    if high.max(initial=0.0) > 0.5 * CALM:
        steep, low = high > 0.5 * CALM, np.zeros_like(high)
        high[steep], low[steep] = _student_exponent(size[steep], _where(df, steep))
    if square.max(initial=0.0) <= 1:
        return Side(t > 0, high, low, *_student_centre(square, log, df))
    found, far = np.empty((2, size.size)), square > 1
    for inside, kernel in ((~far, _student_centre), (far, _student_far)):
        found[0, inside], found[1, inside] = kernel(square[inside], log[inside], _where(df, inside))
    return Side(t > 0, high, low, *found)


def _student_exponent(size: Real, df: Real) -> Pair:
    """Return df / 2 * log(1 + t**2 / df) as a pair."""
    df = df + 0 * size
    smaller = min if isinstance(size, float) else np.minimum
    held = smaller(size, HELD)
    log = pairs.log1p(pairs.over(pairs.two_product(held, held), (df, 0.0 * df)))
    log = _pick_pair(size > HELD, _log_ratio(smaller(size, LARGEST), df), log)
    return pairs.times(log, (0.5 * df, 0.0 * df))


def _student_centre(square: Real, log: Real, df: Real) -> tuple[Real, Real]:
    """Return ratio and density for t**2 <= df, from t**2 / df and log(1 + t**2 / df).

    With u**2 = df log(1 + t**2 / df) the density of u is normal times sqrt(y / (1 - exp(-y))), y = u**2 / df, whose
    Taylor series is integrated term by term. Fewer degrees of freedom are raised by 2 a time, DLMF 8.17.20, which only
    adds positive terms.
    """
    single = isinstance(square, float)
    largest = log if single else float(log.max(initial=0.0))
    needed = TERMS if not largest <= 0.5 else 3 + int(LOG_EPS / math.log(max(largest, 1e-300) / (2 * math.pi)))  # noqa: PLR2004
    more, shifted, polynomial, constant = _student_series(df) if isinstance(df, float) else _series_of(df)
    root = math.sqrt if single else np.sqrt
    u = root(shifted * log)
    if single:
        total: Real = 0.0
        for coefficient in polynomial[needed - 1 :: -1].tolist():
            total = total * log + coefficient
    else:
        total = _polynomial(polynomial[:needed], log)
    ratio = 0.5 * _erfcx(ROOT_HALF * u) + u / ROOT_TAU * total
    if more:
        tail_x = 1 / (1 + square)  # df / (df + t**2)
        term = constant / df * root(square * tail_x)
        partial, power = term, tail_x
        for step in range(more - 1):
            term = term * tail_x * ((df + 1 + 2 * step) / (df + 2 + 2 * step))
            partial = partial + term
            power = power * tail_x
        ratio = ratio * power + partial
    return ratio, constant


def _polynomial(coefficients: Vector, x: Vector) -> Vector:
    """Return a polynomial, its coefficients numbers, or rows of numbers for each x."""
    count = len(coefficients)
    powers = np.empty((count, x.size))
    powers[0], done, factor = 1.0, 1, x
    while done < count:  # each product doubles them: few calls of numpy for many terms
        more = min(done, count - done)
        np.multiply(powers[:more], factor, out=powers[done : done + more])
        done, factor = done + more, factor * factor
    found: Vector = coefficients @ powers if coefficients.ndim == 1 else np.einsum("ij,ij->j", coefficients, powers)
    return found


@lru_cache(maxsize=64)
def _student_series(df: float) -> tuple[int, Real, Real, Real]:
    """Return the same of a number, once."""
    return _series_of(df)


def _series_of(df: Real) -> tuple[int, Real, Real, Real]:
    """Return how often df is raised by 2, to what, Temme's polynomial there, and the density of asinh(t / sqrt(df))."""
    fewest = float(np.min(df)) if np.size(df) else SHIFTED
    more = max(0, math.ceil((SHIFTED - fewest) / 2))
    shifted = df + 2 * more
    taylor = _taylor()
    rest: Real = 0.0
    polynomial: list[Real] = []
    for j in range(TERMS - 1, -1, -1):
        rest = taylor[j + 1] + (2 * j + 3) / shifted * rest
        polynomial.append(rest)
    constant = np.sqrt(shifted) / (ROOT_TAU * (1 + rest / shifted))
    for step in range(more):
        constant = constant * ((df + 2 * step) / (df + 2 * step + 1))
    rows = np.array(polynomial[::-1]) / (shifted + rest)
    return more, shifted, rows, float(constant) if isinstance(df, float) else constant


@cache
def _taylor() -> list[float]:
    """Return the Taylor coefficients of sqrt(y / (1 - exp(-y))), by the recurrence for powers of a series."""
    from fractions import Fraction  # noqa: PLC0415 - not everybody who imports the package gets here

    inner = [Fraction((-1) ** k, math.factorial(k + 1)) for k in range(TERMS + 1)]
    found = [Fraction(1)]
    for n in range(1, TERMS + 1):
        terms = ((Fraction(k, 2) - n) * inner[k] * found[n - k] for k in range(1, n + 1))
        found.append(sum(terms, Fraction(0)) / n)
    return [float(value) for value in found]


def _student_far(square: Real, log: Real, df: Real) -> tuple[Real, Real]:  # noqa: ARG001
    """Return ratio and density for t**2 > df, DLMF 8.17.7 with b = 1/2: x <= 1/2 makes it short."""
    constant = (_student_series(df) if isinstance(df, float) else _series_of(df))[3]
    tail_x, half = 1 / (1 + square), 0.5 * df
    # The terms are 1 * 3 * ... / (2 * 4 * ...) x**n half / (half + n).
    total = _series(lambda n: (n + 0.5) / (n + 1) * ((half + n) / (half + n + 1)), tail_x, half)
    return constant / df * total, constant


def _log_ratio(size: Real, df: Real) -> Pair:
    """Return log(t**2 / df) of a t so large that 1 + t**2 / df is no more."""
    high, low = pairs.add(pairs.log((size, 0 * size)), pairs.log((size, 0 * size)))
    less = pairs.log((df, 0 * df))
    return pairs.add((high, low), (-less[0], -less[1]))


def _gamma(x: Real, a: Real) -> Side:
    """Return a tail of the gamma distribution of shape a at x."""
    if isinstance(x, float):
        high, low = _deviance(a, (x, 0.0), pairs.two_sum(a, -x))
    else:
        high, low = _deviance_plain(a, x, x - a), 0.0
        if high.max(initial=0.0) > 0.5 * CALM:
            steep, low = high > 0.5 * CALM, np.zeros_like(high)
            shape, at = _where(a, steep), x[steep]
            high[steep], low[steep] = _deviance(shape + 0 * at, (at, 0 * at), pairs.two_sum(shape, -at))
    density = _of(a).sqrt(a / (2 * math.pi)) * _of(a).exp(-_stirling_rest(a))
    right, short = (x >= a) & (x >= 1), a <= LONG
    regions = [(right & short, _gamma_fraction), (right, _gamma_right), (short, _gamma_series), (None, _gamma_left)]
    return Side(right, high, low, density * _by_region(regions, a, x), density)


def _gamma_series(a: Real, x: Real) -> Real:
    return _series(lambda n: a / (a + 1 + n), x / a, a) / a


def _gamma_fraction(a: Real, x: Real) -> Real:
    """Return the continued fraction of the upper tail for x >= a, from its far end; DLMF 8.9.2, its even part.

    Degrees of freedom that are whole and few have a finite sum, DLMF 8.8.11, down to exp(-x) or erfc(sqrt(x)).
    """
    if (finite := _finite(a, lambda k: a - k, 1 / x)) is not None:
        total, last = finite
        root = _of(x).sqrt(x)
        return total + last * (0.5 * math.sqrt(math.pi) / root * _erfcx(root)) if a % 1 else total
    base = x + 1 - a
    rest = 0.0 * x
    for k in range(int(8 + 90 / np.min(x) + 3.5 * math.sqrt(np.max(a))), 0, -1):
        rest = k * (k - a) / (base + 2 * k - rest)
    return 1 / (base - rest)


def _gamma_right(a: Real, x: Real) -> Real:
    return _integral(*_gamma_exponent(1.0, *_columns(a, x)))


def _gamma_left(a: Real, x: Real) -> Real:
    return _integral(*_gamma_exponent(-1.0, *_columns(a, x)))


def _gamma_exponent(sign: float, a: Real, x: Real) -> tuple[Fall, Rough, Real]:
    """Return how far the log density of log x falls v away, the same roughly with its slope, and where to stop."""
    slope = sign * (x - a)

    def fall(v: Vector) -> Vector:
        fallen: Vector = slope * v + x * _exp_rest(sign * v)
        return fallen

    def rough(v: Vector) -> tuple[Vector, Vector]:
        grown = np.expm1(sign * v)
        return slope * v + x * (grown - sign * v), slope + sign * x * grown

    # Right were it a parabola; it is steeper to the right.
    square = 2 * FALL / (np.sqrt(slope * slope + 2 * FALL * x) + slope)
    return fall, rough, np.minimum(square, np.log1p(2 * FALL / x)) if sign > 0 else square


def _fisher(ratio: Real, a: Real, b: Real) -> Side:
    """Return a tail of F with 2a and 2b degrees of freedom."""
    held = min(max(ratio, 1e-250), 1e250) if isinstance(ratio, float) else np.clip(ratio, 1e-250, 1e250)
    if not isinstance(ratio, float) and np.max(a) + np.max(b) <= FEW:
        whole = a * held + b
        side = _beta(a, b, (a * held / whole, 0.0), (b / whole, 0.0))
    else:
        scaled = pairs.two_product(a, held)
        sums = pairs.add(scaled, (b, 0 * b))
        side = _beta(a, b, pairs.over(scaled, sums), pairs.over((b, 0 * b), sums))
    beyond = _of(ratio).log(ratio) - _of(ratio).log(held)  # there the tails are powers of the ratio
    return side._replace(high=side.high + _pick(beyond < 0, -a, b) * beyond)


def _beta(a: Real, b: Real, x: Pair, y: Pair) -> Side:
    """Return a tail of the beta distribution of shapes a and b at x = 1 - y."""
    plain = not isinstance(x[0], float) and x[0].size > 0 and np.max(a) + np.max(b) <= FEW  # float64 has the digits
    apart = (b * x[0] - a * y[0], 0.0) if plain else _beyond_mode(a, b, x, y)
    left = apart[0] < 0
    if isinstance(a, float) and isinstance(left, np.ndarray):
        if left.any() and not left.all():  # apart, so that the shapes stay numbers: their series are polynomials then
            halves = [_beta(a, b, _pick_some(x, half), _pick_some(y, half)) for half in (left, ~left)]
            return Side(*(_joined(left, *parts) for parts in zip(*halves, strict=True)))
        left = bool(left.size and left[0])
    # The right tail, where y is the smaller one; the left tail is the right one of the mirrored distribution.
    a, b = _pick(left, b, a), _pick(left, a, b)
    x, y = _pick_pair(left, y, x), _pick_pair(left, x, y)
    apart = _pick_pair(left, (-apart[0], -apart[1]), apart)
    n = pairs.two_sum(a, b)
    if plain:
        high = _deviance_plain(a, n[0] * x[0], apart[0]) + _deviance_plain(b, n[0] * y[0], -apart[0])
        low: Real = 0.0
        if not high.max() <= 0.5 * CALM:
            steep, low = ~(high <= 0.5 * CALM), np.zeros_like(high)
            one, two, at, rest = _where(a, steep), _where(b, steep), _pick_some(x, steep), _pick_some(y, steep)
            high[steep], low[steep] = _deviances(one, two, at, rest, _beyond_mode(one, two, at, rest))
    else:
        high, low = _deviances(a, b, x, y, apart)
    rest = _stirling_rest(n[0]) - _stirling_rest(a) - _stirling_rest(b)
    density = _of(a).sqrt(a / n[0] * b / (2 * math.pi)) * _of(a).exp(rest)
    # Where x is so small, or both shapes are, the other tail has the shorter series.
    other = ((n[0] * x[0] < 1) & (x[0] < 0.5)) | ((b < SHORT) & (y[0] > 0.7))  # noqa: PLR2004
    short = (a <= LONG) | (b <= LONG)
    regions = [(other, _beta_other), (b < SHORT, _beta_series), (short, _beta_fraction), (None, _beta_integral)]
    ratio = _by_region(regions, a, b, n[0], x[0], y[0], apart[0])
    return Side(left == other, high, low, density * ratio, density)


def _beyond_mode(a: Real, b: Real, x: Pair, y: Pair) -> Pair:
    """Return (a + b) x - a."""
    zero = 0 * a
    before = pairs.times((a, zero), y)
    return pairs.add(pairs.times((b, zero), x), (-before[0], -before[1]))


def _deviances(a: Real, b: Real, x: Pair, y: Pair, apart: Pair) -> Pair:
    """Return the exponent of a beta density as a pair."""
    n = pairs.two_sum(a, b)
    first = _deviance(a, pairs.times(n, x), (-apart[0], -apart[1]))
    return pairs.add(first, _deviance(b, pairs.times(n, y), apart))


def _beta_other(a: Real, b: Real, n: Real, x: Real, y: Real, slope: Real) -> Real:
    return _beta_series(b, a, n, y, x, slope)


def _beta_series(a: Real, b: Real, n: Real, x: Real, y: Real, slope: Real) -> Real:  # noqa: ARG001
    return _series(lambda k: (n + k) / (b + 1 + k), y, b) / b


def _beta_fraction(a: Real, b: Real, n: Real, x: Real, y: Real, slope: Real) -> Real:
    """Return the continued fraction of the right tail from its far end; Didonato and Morris 1992, TOMS 18(3), eq. 9.

    Degrees of freedom that are whole and few have a finite sum, DLMF 8.17.20, down to y**b or the tail of t.
    """
    if (finite := _finite(a, lambda k: (a - k) / (n - 1 - k), 1 / x)) is not None:
        total, last = finite
        if not a % 1:
            return total
        t = _student(_of(x).sqrt(2 * b * (x / y)), 2 * b)
        return total + last * t.ratio / t.density / _of(x).sqrt(x)
    found = _at_once(lambda k: (n + k) / (b + 1 + k), y) if isinstance(n, float) and not isinstance(y, float) else None
    if found is not None:  # the power series, where it is not too long: a few calls of numpy do it
        return found / b
    rest, grown = 0.0 * y, 1 + x
    for k in range(int(8 + 90 / np.min(n * x) + 3.5 * math.sqrt(np.max(np.minimum(a, b)))), 0, -1):
        inner, odd = k * (a - k) * y, b + (2 * k - 1)
        above = (b + (k - 1)) * (n + (k - 1)) * inner * y / (odd * odd)
        rest = above / (k + inner / odd + (b + k) / (odd + 2) * (slope + 1 + k * grown) + rest)
    return 1 / (b / (b + 1) * (slope + 1) + rest)


def _beta_integral(a: Real, b: Real, n: Real, x: Real, y: Real, slope: Real) -> Real:  # noqa: ARG001
    return _integral(*_beta_exponent(*_columns(n, x, y, slope)))


def _beta_exponent(n: Real, x: Real, y: Real, slope: Real) -> tuple[Fall, Rough, Real]:
    """Return how far the log density of the logit falls v further right, the same roughly, and where to stop."""
    left = x <= 0.5  # noqa: PLR2004
    small, sign = _pick(left, x, y), _pick(left, 1.0, -1.0)

    def fall(v: Vector) -> Vector:
        grown = small * np.expm1(sign * v)
        near = small * _exp_rest(sign * v) - _log_rest(grown)
        fallen: Vector = slope * v + n * np.where(np.abs(grown) < 1, near, np.log1p(grown) - sign * small * v)
        return fallen

    def rough(v: Vector) -> tuple[Vector, Vector]:
        grown = small * np.expm1(sign * v)
        return (
            slope * v + n * (np.log1p(grown) - sign * small * v),
            slope + n * (1 - small) * sign * grown / (1 + grown),
        )

    return fall, rough, np.minimum(np.sqrt(2 * FALL / (n * x * y)), FALL / np.maximum(slope, TINIEST))


def _integral(fall: Fall, rough: Rough, stop: Real) -> Real:
    """Return the integral of exp(-fall(v)) over v from 0 on; fall is convex and 0 at 0. Gauss-Legendre."""
    for _ in range(10):  # Newton for fall = FALL: from beyond the root on it never comes back
        depth, slope = rough(stop)
        if np.all((depth > FALL - 1) & (depth < FALL + 4)):
            break
        stop = np.minimum(stop - (depth - FALL) / slope, 600)
    nodes, weights = _gauss()
    return (np.exp(-fall(stop * nodes)) @ weights) * (stop[:, 0] if np.ndim(stop) else stop)


@cache
def _gauss() -> tuple[Vector, Vector]:
    """Return Gauss's nodes on [0, 1] and their weights; numpy's own weights have 13 digits at the ends."""
    from decimal import Decimal, localcontext  # noqa: PLC0415 - not everybody who imports the package gets here

    with localcontext(prec=30):
        rule = []
        for guess in np.polynomial.legendre.leggauss(NODES)[0].tolist():
            x = Decimal(guess)
            for _ in range(2):
                before, value = Decimal(1), x
                for k in range(2, NODES + 1):
                    before, value = value, ((2 * k - 1) * x * value - (k - 1) * before) / k
                slope = NODES * (before - x * value) / (1 - x * x)
                x -= value / slope
            rule.append(((1 + x) / 2, 1 / ((1 - x * x) * slope * slope)))
    nodes, weights = np.array(rule, np.float64).T
    return nodes, weights


def _series(ratio: Callable[[Real], Real], x: Real, parameter: Real) -> Real:
    """Return the sum of positive terms, the first 1, each ``ratio(n) * x`` times the one before it.

    Where the parameter behind the ratios is a number, the sum is a polynomial in x.
    """
    if isinstance(x, float):
        total, term, n = 1.0, 1.0, 0
        while term > total * EPS and n < MOST:
            term *= ratio(n) * x
            total += term
            n += 1
        return total
    found = _at_once(ratio, x) if isinstance(parameter, float) else None
    if found is not None:
        return found
    total, term, n = np.ones_like(x), np.ones_like(x), 0
    while (term > total * EPS).any() and n < MOST:
        term = term * (ratio(n) * x)
        total += term
        n += 1
    return total


def _finite(a: Real, ratio: Callable[[Real], Real], u: Real) -> tuple[Real, Real] | None:
    """Return the sum of ratio(0) u / a, ratio(0) ratio(1) u**2 / a, ..., a term for each 1 in ``a``, and the last term.

    None where ``a`` is no half of a small whole number.
    """
    if not isinstance(a, float) or a > WHOLE or 2 * a % 1:
        return None
    if isinstance(u, float):
        total, term = 0.0, 1 / a
        for k in range(int(a)):
            term *= ratio(k) * u
            total += term
        return total, term
    top = u.max(initial=TINIEST)
    terms = np.cumprod(ratio(np.arange(int(a))) * top) / a
    last = terms[-1] * (u / top) ** len(terms) if len(terms) else 1 / a
    return _polynomial(np.concatenate([[0.0], terms]), u / top), last


def _at_once(ratio: Callable[[Real], Real], x: Vector) -> Vector | None:
    """Return the same sum as a polynomial, None where it would be too long."""
    top = x.max(initial=TINIEST)
    ratios = ratio(np.arange(ROWS)) * top
    terms = np.cumprod(ratios)
    small = (terms < EPS) & (ratios < 1)
    if not small.any():
        return None
    return _polynomial(np.concatenate([[1.0], terms[: int(small.argmax())]]), x / top)


def _deviance(k: Real, mean: Pair, apart: Pair) -> Pair:
    """Return k log(k / mean) + mean - k as a pair; ``apart`` is k - mean. Source: Loader 2000, section 2, refined."""
    zero = 0 * k
    ratio = pairs.over(apart, pairs.add(mean, (k, zero)))
    close = abs(ratio[0]) < 0.02  # noqa: PLR2004
    if isinstance(close, bool) or close.all() or not close.any():
        return _deviance_near(k, apart, ratio) if np.all(close) else _deviance_far(k, mean, apart)
    return _pick_pair(close, _deviance_near(k, apart, ratio), _deviance_far(k, mean, apart))


def _deviance_plain(k: Real, mean: Vector, apart: Vector) -> Vector:
    """Return the same of arrays in float64, ``apart`` being mean - k."""
    w = apart / k
    found: Vector = k * np.where(np.abs(w) < 0.3, _log_rest(w), w - np.log(mean / k))  # noqa: PLR2004
    return found


def _deviance_near(k: Real, apart: Pair, ratio: Pair) -> Pair:
    """With v = (k - mean) / (k + mean) it is (k - mean) v + 2 k (v**3 / 3 + v**5 / 5 + ...)."""
    square = ratio[0] * ratio[0]
    odd = square * ratio[0] * (1 / 3 + square * (1 / 5 + square * (1 / 7 + square * (1 / 9 + square / 11))))
    return pairs.add(pairs.times(apart, ratio), (2 * k * odd, 0 * k))


def _deviance_far(k: Real, mean: Pair, apart: Pair) -> Pair:
    less = pairs.log(mean)
    logs = pairs.add(pairs.log((k, 0 * k)), (-less[0], -less[1]))
    return pairs.add(pairs.times((k, 0 * k), logs), (-apart[0], -apart[1]))


def _stirling_rest(z: Real) -> Real:
    """Return log Gamma(z) less Stirling's (z - 1/2) log z - z + log(2 pi) / 2, without cancellation. DLMF 5.11.1."""
    total = 0 * z
    if isinstance(z, float):
        while z < 10:  # noqa: PLR2004
            total += (z + 0.5) * math.log1p(1 / z) - 1
            z += 1
    else:
        while (small := z < 10).any():  # noqa: PLR2004
            total = total + np.where(small, (z + 0.5) * np.log1p(1 / z) - 1, 0.0)
            z = np.where(small, z + 1, z)
    w = 1 / (z * z)
    return total + (1 / 12 - w * (1 / 360 - w * (1 / 1260 - w * (1 / 1680 - w * (1 / 1188 - w * 691 / 360360))))) / z


def _exp_rest(v: Vector) -> Vector:
    """Return exp(v) - 1 - v without cancellation."""
    close = np.abs(v) < 0.5  # noqa: PLR2004
    near = np.where(close, v, 0.0)
    total = np.ones_like(v)
    for k in range(16, 2, -1):  # v**2 / 2 * (1 + v / 3 * (1 + v / 4 * (...)))
        total = 1 + near / k * total
    return np.where(close, 0.5 * near * near * total, np.expm1(v) - v)


def _log_rest(w: Vector) -> Vector:
    """Return w - log(1 + w) without cancellation: with z = w / (2 + w) it is w z - 2 (z**3 / 3 + z**5 / 5 + ...)."""
    close = np.abs(w) < 0.3  # noqa: PLR2004
    z = np.where(close, w / (2 + w), 0.0)
    square, total = z * z, np.zeros_like(w)
    for k in range(19, 1, -2):
        total = total * square + 1 / k
    return np.where(close, z * (w - 2 * square * total), w - np.log1p(w))


def _of(x: Real) -> ModuleType:
    """Return the module whose functions are the quick ones for x."""
    return math if isinstance(x, float) else np


def _clip(x: Real, low: float, high: float) -> Real:
    return min(max(x, low), high) if isinstance(x, float) else np.minimum(np.maximum(x, low), high)


def _pick(where: Real, a: Real, b: Real) -> Real:
    return (a if where else b) if isinstance(where, bool | np.bool_) else np.where(where, a, b)


def _pick_some(x: Pair, inside: NDArray[np.bool_]) -> Pair:
    return tuple(part if isinstance(part, float) else part[inside] for part in x)  # type: ignore[return-value]


def _joined(where: NDArray[np.bool_], a: Real, b: Real) -> Real:
    """Put together what was computed apart."""
    if np.ndim(a) == 0 and np.ndim(b) == 0 and a == b:
        return a
    found = np.empty(where.shape, np.result_type(a, b))
    found[where], found[~where] = a, b
    return found


def _pick_pair(where: Real, a: Pair, b: Pair) -> Pair:
    return _pick(where, a[0], b[0]), _pick(where, a[1], b[1])


def _columns(*given: Real) -> tuple[Real, ...]:
    """Make room for the nodes of a rule."""
    return tuple(each if isinstance(each, float) else each[:, None] for each in given)


def _by_region(regions: list[tuple[Real, Callable[..., Real]]], *given: Real) -> Real:
    """Compute each element with the function of the first region that it is in; None is what is left."""
    if all(isinstance(each, float) for each in given):
        return float(next(kernel for where, kernel in regions if where is None or where)(*given))
    shape = np.broadcast_shapes(*(np.shape(each) for each in given))
    found, left = np.empty(shape), np.ones(shape, bool)
    for where, kernel in regions:
        inside = left if where is None else left & where
        if inside.any():
            found[inside] = kernel(*(_where(each, inside) for each in given))
        left = left & ~inside
    return found


def _noncentral_t_mixture(x: Real, df: Real, nc: Real, upper: bool, log: bool) -> tuple[Side, Real]:  # noqa: FBT001
    """Return the tail beyond |x|, and whether it is good for what is asked for."""
    flip = x < 0  # -T has the noncentrality -nc
    shift, central = _pick(flip, -nc, nc), _student(abs(x), df)
    even, odd, settled = _mixture(abs(x), df, nc, central)
    ratio = even + _pick(shift < 0, -odd, odd)
    side = _pick(flip, False, True)  # noqa: FBT003
    found = Side(side, central.high + 0.5 * nc * nc, central.low, ratio, math.nan)
    # Where both sums nearly cancel, or leave little of 1, digits are lost; log(1 - p) needs those of p.
    whole, rest = ratio >= MUCH * even, 1 - _of(found.high).exp(-found.high) * ratio >= MUCH
    fit = settled & (found.high < DEEP) & (whole & rest if log else _pick(side == upper, whole, rest))
    return found, fit


def _mixture(t: Real, df: Real, nc: Real, central: Side) -> tuple[Real, Real, Real]:
    """Return half of the noncentral t's two tails beyond t, half of their difference, and where the series ended.

    Both are sums of Poisson weights times tails of beta variates, whose shapes grow by 1: Guenther's. Both are to be
    multiplied by exp(-nc**2 / 2) and the central tail's exponential.
    """
    square = _clip(t * t / df, 0.0, HELD)
    y, b, weight = square / (1 + square), 0.5 * df, 0.5 * nc * nc
    # P(beta(j + 1/2, b) > y) and P(beta(j + 1, b) > y) over (1 - y)**b, and what they gain from j to j + 1.
    one, more = 2 * central.ratio, 2 * central.density * _of(y).sqrt(y)
    two, plus = 1.0 + 0 * y, b * y
    p, q = 0.5, abs(nc) / ROOT_TAU
    even, odd, settled = p * one, q * two, False
    for j in range(MIXED if np.min(weight) <= HEAVY else 0):
        one, two = one + more, two + plus
        more, plus = more * (y * ((j + 0.5 + b) / (j + 1.5))), plus * (y * ((j + 1 + b) / (j + 2)))
        p, q = p * (weight / (j + 1)), q * (weight / (j + 1.5))
        gain, gains = p * one, q * two
        even, odd = even + gain, odd + gains
        if j % 8 == 7 or isinstance(t, float):  # noqa: PLR2004
            settled = (gain <= EPS * even) & (gains <= EPS * odd)
            if np.all(settled) if not isinstance(t, float) else settled:
                break
    return even, odd, settled & (weight <= HEAVY)


def _noncentral_t(x: Real, df: Real, nc: Real) -> Side:
    x, df, nc = np.broadcast_arrays(*(np.atleast_1d(each) for each in (x, df, nc)))
    constant = np.sqrt(df / math.pi) * np.exp(-_stirling_rest(0.5 * df))
    return Side(*noncentral.t_tail(x, df, nc, constant, _erfcx, _exp_rest))


def _noncentral_chi2(x: Real, df: Real, nc: Real) -> Side:
    return Side(*noncentral.chi2_tail(*np.broadcast_arrays(*(np.atleast_1d(each) for each in (x, df, nc)))))


# What all tails and quantiles share


def _finish(side: Side, upper: Real, log: bool) -> Real:  # noqa: FBT001
    """Return the tail that was asked for of the one that was computed."""
    if isinstance(side.high, float):
        near = side.upper == upper
        if log and near:
            return math.log(side.ratio) - side.high - side.low if side.ratio else -math.inf
        p = min(math.exp(-side.high) * (1 - side.low) * side.ratio, 1.0)
        if near:
            return p
        return 1 - p if not log else math.log1p(-p) if p < 1 else -math.inf
    near = side.upper == upper
    p = np.minimum(np.exp(-side.high) * (1 - side.low) * side.ratio, 1.0)
    if log:
        return np.where(near, np.log(side.ratio) - side.high - side.low, np.log1p(-p))
    return np.where(near, p, 1 - p)


def _evaluate(  # a scalar in, a scalar out
    kernel: Callable[..., Side],
    upper: bool,  # noqa: FBT001
    log: bool,  # noqa: FBT001
    x: Real,
    ends: tuple[float, float],
    *parameters: Real,
) -> Real:
    """Compute a tail; at the ends of the support the answer is known."""
    if all(isinstance(each, float | int) for each in (x, *parameters)):
        if not ends[0] < x < ends[1]:
            return math.nan if math.isnan(x) else float(_edge((x >= ends[1]) != upper, log=log))
        with np.errstate(all="ignore"):
            one = _finish(kernel(float(x), *(float(each) for each in parameters)), upper, log)
        return float(one if isinstance(one, float) else one[0])
    (x, *rest), shape = _flat(x, *parameters)
    if x.size > BLOCK:
        cuts = range(0, x.size, BLOCK)
        parts = [[_where(each, slice(cut, cut + BLOCK)) for each in (x, *rest)] for cut in cuts]
        return np.concatenate([_evaluate(kernel, upper, log, x, ends, *rest) for x, *rest in parts]).reshape(shape)
    with np.errstate(all="ignore"):
        if x.size and x.min() > ends[0] and x.max() < ends[1]:
            return _finish(kernel(x, *rest), upper, log).reshape(shape)[()]
        inside = (x > ends[0]) & (x < ends[1])
        found = np.where(np.isnan(x), np.nan, _edge((x >= ends[1]) != upper, log=log))
        if inside.any():
            found[inside] = _finish(kernel(x[inside], *(_where(each, inside) for each in rest)), upper, log)
    return found.reshape(shape)[()]


def _where(x: Real, inside: Any) -> Real:  # noqa: ANN401 - a mask or a slice
    """Take some elements; a number holds for all of them."""
    return x if isinstance(x, float) else x[inside]


def _half(x: Real) -> Real:
    return 0.5 * x if isinstance(x, float | int) else 0.5 * np.asarray(x, float)


def _edge(sure: Real, *, log: bool) -> Real:
    return np.where(sure, 0.0, -np.inf) if log else np.where(sure, 1.0, 0.0)


def _stretch(x: Real, step: Real, *parameters: Real) -> Real:  # noqa: ARG001
    return x * _of(step).exp(step)


def _normal_quantile(p: Real) -> Real:
    """Return the normal quantile of an upper tail of at most 1/2. Wichura 1988, Algorithm AS 241, Appl. Stat. 37(3)."""
    of = _of(p)
    if isinstance(p, float):
        if p >= CENTRAL:
            return (0.5 - p) * _rational(CENTRE, 0.425**2 - (0.5 - p) ** 2)
        root = math.sqrt(-math.log(p))
        return _rational(BESIDE, root - 1.6) if root <= 5 else _rational(OUTSIDE, root - 5.0)  # noqa: PLR2004
    q, root = 0.5 - p, of.sqrt(-of.log(p))
    regions = [
        (p >= CENTRAL, lambda q, _: q * _rational(CENTRE, 0.425**2 - q * q)),
        (root <= 5, lambda _, root: _rational(BESIDE, root - 1.6)),  # noqa: PLR2004
        (None, lambda _, root: _rational(OUTSIDE, root - 5.0)),
    ]
    return _by_region(regions, q, root)


def _rational(coefficients: tuple[tuple[float, float], ...], x: Real) -> Real:
    """Return a quotient of two polynomials, the coefficients of both from the highest power on."""
    above: Real = 0.0
    below: Real = 0.0
    for a, b in coefficients:
        above, below = above * x + a, below * x + b
    return above / below


def _error(side: Side, wanted: Real, upper: Real) -> tuple[Real, Real]:
    """Return how far the logarithm of a tail is above that wanted, and the tail's hazard rate, density over tail."""
    p = _finish(side, upper, log=False)
    if isinstance(side.high, float):
        over = math.log(p / wanted) if p > 1e-290 else _finish(side, upper, log=True) - math.log(wanted)  # noqa: PLR2004
        return over, side.density / side.ratio if side.upper == upper else math.exp(-side.high) * side.density / p
    over = np.log(p / wanted)
    if (small := ~(p > 1e-290)).any():  # noqa: PLR2004
        over = np.where(small, _finish(side, upper, log=True) - np.log(wanted), over)
    return over, np.where(side.upper == upper, side.density / side.ratio, np.exp(-side.high) * side.density / p)


def _quantile(
    p: Real,
    upper: bool,  # noqa: FBT001
    kernel: Callable[..., Side],
    start: Callable[..., Real],
    move: Callable[..., Real],
    bend: Callable[..., Real],
    ends: tuple[float, float],
    *parameters: Real,
) -> Real:
    """Solve log tail(x) = log p by Halley's method; ``bend`` is how fast the logarithm of the density falls.

    A log-concave density has log-concave tails (Prekopa 1973), and of a concave function's root Newton's method is on
    the right side after one step and never leaves it: no bracket is needed. Halley's steps are at most twice as long.
    """
    given: Any
    rest: list[Any]
    shape: tuple[int, ...] = ()
    if single := all(isinstance(each, float | int) for each in (p, *parameters)):
        given, rest = float(p), [float(each) for each in parameters]
        if not 0 < given < 1:
            return ends[int((_probability(p) == 0) == upper)] if given == given else math.nan  # noqa: PLR0124
    else:
        (given, *rest), shape = _flat(_probability(p), *parameters)
    if not single and given.size > BLOCK:
        cuts = range(0, given.size, BLOCK)
        parts = [[_where(each, slice(cut, cut + BLOCK)) for each in (given, *rest)] for cut in cuts]
        one = [_quantile(p, upper, kernel, start, move, bend, ends, *rest) for p, *rest in parts]
        return np.concatenate(one).reshape(shape)
    with np.errstate(all="ignore"):
        up = upper ^ (given > 0.5)  # noqa: PLR2004 - the smaller side has the more digits
        wanted = _pick(up == upper, given, 1 - given)
        if not single:
            wanted = np.where(np.isnan(wanted), 0.5, wanted)
        sign = _pick(up, 1.0, -1.0)
        least = TINIEST if ends[0] == 0 else -LARGEST
        x = _clip(start(wanted, sign, *rest), least, LARGEST)
        for _ in range(STEPS):
            over, hazard = _error(kernel(x, *rest), wanted, up)
            step = sign * over / hazard / _clip(1 + 0.5 * over * (1 - sign * bend(x, *rest) / hazard), 0.5, math.inf)
            step = _clip(_pick(abs(step) < math.inf, step, 0.0), -600.0, 600.0)
            before, x = x, _clip(move(x, step, *rest), least, LARGEST)
            going = (abs(over) > CLOSE) & (x != before)
            if not (going if single else going.any()):
                break
        return x if single else _ends(x, given, upper, ends).reshape(shape)[()]


def _search(
    p: Real,
    upper: bool,  # noqa: FBT001
    kernel: Callable[..., Side],
    ends: tuple[float, float],
    variable: Callable[..., tuple[Real, Callable[[Real], Real], Callable[[Real], Real]]],
    *parameters: Real,
) -> Real:
    """Solve log tail(x) = log p by Newton's method within a bracket, in the variable of the density."""
    (given, *rest), shape = _flat(_probability(p), *parameters)
    with np.errstate(all="ignore"):
        up = upper ^ (given > 0.5)  # noqa: PLR2004
        wanted = np.where(np.isnan(given), 0.5, np.where(given > 0.5, 1 - given, given))  # noqa: PLR2004
        centre, into, out = variable(*rest)
        u, limit = into(centre), 1.0
        low, high = np.full_like(u, -np.inf), np.full_like(u, np.inf)
        for _ in range(STEPS):
            over, hazard = _error(kernel(out(u), *rest), wanted, up)
            step = np.where(up, over, -over) / hazard
            right = (over > 0) == up
            low, high = np.where(right, u, low), np.where(right, high, u)
            new = u + np.clip(np.where(np.isfinite(step), step, np.where(right, limit, -limit)), -limit, limit)
            inside = (new >= low) & (new <= high)
            u = np.where(inside, new, np.where(np.isfinite(low + high), (low + high) / 2, u))
            u, limit = np.clip(u, -745, 710), 2 * limit
            if ((np.abs(over) <= 1e-9) | (high - low <= 1e-15 * np.abs(u))).all():  # noqa: PLR2004
                break
        return _ends(out(u), given, upper, ends).reshape(shape)[()]


def _ends(x: Vector, p: Vector, upper: bool, ends: tuple[float, float]) -> Vector:  # noqa: FBT001
    """Put the ends of the support where the probability is 0 or 1."""
    x = np.where(p == upper, ends[0], np.where(p == (not upper), ends[1], x))
    return np.where(np.isnan(p), np.nan, x)


def _flat(x: Real, *parameters: Real) -> tuple[list[Real], tuple[int, ...]]:
    """Broadcast, and lay out in one dimension; parameters that are numbers stay so."""
    if all(isinstance(each, float) for each in parameters):
        values = np.asarray(x, np.float64)
        return [values.reshape(-1), *parameters], values.shape
    given = [np.asarray(each, np.float64) for each in (x, *parameters)]
    shape = np.broadcast_shapes(*(each.shape for each in given))
    whole = [each.item() if k and not each.ndim else np.broadcast_to(each, shape) for k, each in enumerate(given)]
    return [each if isinstance(each, float) else each.reshape(-1) for each in whole], shape


def _as_given(found: NDArray[Any], *given: Real) -> Real:
    return found if any(np.ndim(each) for each in given) else float(found)


def _probability(p: Real) -> Vector:
    given = np.asarray(p, np.float64)
    if ((given < 0) | (given > 1)).any():
        msg = f"p reaches from {np.nanmin(given)} to {np.nanmax(given)}, must lie between 0 and 1"
        raise ValueError(msg)
    return given


def _degrees(dfn: Real, dfd: Real) -> tuple[Real, Real]:
    """Check the degrees of freedom of F; infinitely many are allowed."""
    _refuse_shape("dfn", dfn, endless=True)
    _refuse_shape("dfd", dfd, endless=True)
    single = isinstance(dfn, float | int) and isinstance(dfd, float | int)
    return (min(dfn, ENDLESS), min(dfd, ENDLESS)) if single else (np.minimum(dfn, ENDLESS), np.minimum(dfd, ENDLESS))


def _refuse_shape(name: str, value: Real, *, endless: bool = False) -> None:
    most = math.inf if endless else LARGEST
    if not (0 < value <= most if isinstance(value, float | int) else _within(np.asarray(value, float), most)):
        msg = f"{name} is {value}, must be positive{'' if endless else ' and finite'}"
        raise ValueError(msg)


def _within(given: Vector, most: float) -> bool:
    return bool(((given > 0) & (given <= most)).all())


def _refuse_infinite(nc: Real, least: float = -math.inf) -> None:
    given = np.asarray(nc, float)
    if not (np.isfinite(given) & (given >= least)).all():
        msg = f"nc is {nc}, must be finite{' and at least 0' if least == 0 else ''}"
        raise ValueError(msg)


def _refuse_trials(n: Vector, p: Vector) -> None:
    if not ((n >= 0) & (n == np.floor(n)) & np.isfinite(n)).all():
        msg = f"n is {n}, must be a whole number of at least 0"
        raise ValueError(msg)
    if not ((p >= 0) & (p <= 1)).all():
        msg = f"p is {p}, must lie between 0 and 1"
        raise ValueError(msg)
