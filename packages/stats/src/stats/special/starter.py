"""Your turn: replace each ``raise NotImplementedError``."""

import math

import numpy as np

from stats.special import Real


def norm_tail(x: Real, upper: bool, log: bool) -> Real:  # noqa: FBT001
    """Return a tail of the standard normal distribution, or its logarithm.

    Source: the tail by the trapezoidal rule with its pole, Matta and Reichel 1971, Math. Comp. 25(114).
    """
    if log:
        raise NotImplementedError("TODO 4 (stretch, about 3 lines): the logarithm, also where the tail underflows")
    raise NotImplementedError("TODO 1 (core, about 6 lines): erfc, which keeps the digits of a small tail")


def norm_quantile(p: Real, upper: bool) -> Real:  # noqa: FBT001
    """Return the x with probability ``p`` above it, or not above it. Raises ValueError for p outside [0, 1]."""
    raise NotImplementedError("TODO 5 (stretch, about 12 lines): Newton's method on the logarithm of the tail")


def t_tail(x: Real, upper: bool, log: bool, df: Real) -> Real:  # noqa: FBT001
    """Return a tail of Student's t distribution with ``df`` > 0 degrees of freedom, or its logarithm.

    Raises ValueError for a df that is not positive. Source: Temme 1979, SIAM J. Math. Anal. 10(4), specialised;
    DLMF 8.17.8 far out.
    """
    if log:
        raise NotImplementedError("TODO 4 (stretch, about 3 lines): the logarithm, also where the tail underflows")
    raise NotImplementedError("TODO 3 (core, about 20 lines): the incomplete beta function at df / (df + x**2)")


def t_quantile(p: Real, upper: bool, df: Real) -> Real:  # noqa: FBT001
    """Return the x with probability ``p`` above it, or not above it.

    Raises ValueError for p outside [0, 1] or a df that is not positive.
    """
    raise NotImplementedError("TODO 5 (stretch, about 4 lines): the same for t")


def chi2_tail(x: Real, upper: bool, log: bool, df: Real) -> Real:  # noqa: FBT001
    """Return a tail of the chi-square distribution with ``df`` > 0 degrees of freedom, or its logarithm.

    Raises ValueError for a df that is not positive. Source: as ``gammainc``.
    """
    if log:
        raise NotImplementedError("TODO 4 (stretch, about 3 lines): the logarithm, also where the tail underflows")
    raise NotImplementedError(
        "TODO 2 (core, about 20 lines): the series below the mean, the continued fraction above it"
    )


def chi2_quantile(p: Real, upper: bool, df: Real) -> Real:  # noqa: FBT001
    """Return the x with probability ``p`` above it, or not above it.

    Raises ValueError for p outside [0, 1] or a df that is not positive.
    """
    raise NotImplementedError("TODO 5 (stretch, about 4 lines): the same for chi-square")


def f_tail(x: Real, upper: bool, log: bool, dfn: Real, dfd: Real) -> Real:  # noqa: FBT001
    """Return a tail of Fisher's F distribution with ``dfn`` and ``dfd`` > 0 degrees of freedom, or its logarithm.

    Raises ValueError for degrees of freedom that are not positive. Source: as ``betainc``.
    """
    raise NotImplementedError("TODO 6 (stretch, about 4 lines): the incomplete beta function again")


def f_quantile(p: Real, upper: bool, dfn: Real, dfd: Real) -> Real:  # noqa: FBT001
    """Return the x with probability ``p`` above it, or not above it.

    Raises ValueError for p outside [0, 1] or degrees of freedom that are not positive.
    """
    raise NotImplementedError("TODO 5 (stretch, about 4 lines): the same for F")


def binom_tail(x: Real, upper: bool, log: bool, n: Real, p: Real) -> Real:  # noqa: FBT001
    """Return a tail of the binomial distribution of successes in ``n`` trials of chance ``p``, or its logarithm.

    Raises ValueError for an n that is no whole number of at least 0, or p outside [0, 1]. Source: DLMF 8.17.5.
    """
    raise NotImplementedError("TODO 6 (stretch, about 6 lines): the incomplete beta function once more")


def binom_quantile(q: Real, upper: bool, n: Real, p: Real) -> Real:  # noqa: FBT001
    """Return the smallest number k with ``cdf(k) >= q``, or with ``sf(k) <= q`` where ``upper``; -1 where that is none.

    Raises ValueError for q or p outside [0, 1], or an n that is no whole number.
    """
    raise NotImplementedError("TODO 5 (stretch, about 10 lines): the smallest whole number, by halving")


def nct_tail(x: Real, upper: bool, log: bool, df: Real, nc: Real) -> Real:  # noqa: FBT001
    """Return a tail of the noncentral t distribution, or its logarithm.

    The variate is (Z + nc) / sqrt(V / df) with Z standard normal and V chi-square with ``df`` > 0 degrees of freedom.
    Raises ValueError for a df that is not positive, or an nc that is not finite. Source: Johnson, Kotz and Balakrishnan
    1995, volume 2, eq. 31.10, integrated over log sqrt(V / df) with the trapezoidal rule.
    """
    raise NotImplementedError("TODO 7 (stretch, about 30 lines): an integral over log sqrt(V / df)")


def nct_quantile(p: Real, upper: bool, df: Real, nc: Real) -> Real:  # noqa: FBT001
    """Return the x with probability ``p`` above it, or not above it.

    Raises ValueError for p outside [0, 1], a df that is not positive, or an nc that is not finite.
    """
    raise NotImplementedError("TODO 7 (stretch, about 6 lines): Newton's method within a bracket")


def ncx2_tail(x: Real, upper: bool, log: bool, df: Real, nc: Real) -> Real:  # noqa: FBT001
    """Return a tail of the noncentral chi-square distribution, or its logarithm.

    With ``df`` > 0 degrees of freedom; ``nc`` >= 0 is the sum of the squared means. Raises ValueError for a df that is
    not positive, or an nc that is negative or not finite. Source: Helstrom 1978, IEEE Trans. AES-14(4): the inverse
    Laplace integral along a path of steepest descent.
    """
    raise NotImplementedError("TODO 7 (stretch, about 30 lines): a Poisson mixture, or an inverse Laplace integral")


def ncx2_quantile(p: Real, upper: bool, df: Real, nc: Real) -> Real:  # noqa: FBT001
    """Return the x with probability ``p`` above it, or not above it.

    Raises ValueError for p outside [0, 1], a df that is not positive, or an nc that is negative or not finite.
    """
    raise NotImplementedError("TODO 7 (stretch, about 4 lines): the same for the noncentral chi-square")


def betainc(a: Real, b: Real, x: Real) -> Real:
    """Return the regularised incomplete beta function I_x(a, b) for a, b > 0 and x in [0, 1].

    Raises ValueError for arguments out of range. Source: DLMF 8.17.8; the prefactor as in Loader 2000.
    """
    raise NotImplementedError("TODO 6 (stretch, about 30 lines): a series where it is short, else an integral")


def betaincc(a: Real, b: Real, x: Real) -> Real:
    """Return 1 - I_x(a, b), with all its digits where it is small. Raises ValueError for arguments out of range."""
    raise NotImplementedError("TODO 6 (stretch, about 2 lines): the other tail, not 1 - the first")


def gammainc(a: Real, x: Real) -> Real:
    """Return the regularised lower incomplete gamma function P(a, x) for a > 0 and x >= 0.

    Raises ValueError for arguments out of range. Source: DLMF 8.11.4; the prefactor as in Loader 2000.
    """
    raise NotImplementedError("TODO 6 (stretch, about 20 lines): series or integral, with the prefactor of Loader")


def gammaincc(a: Real, x: Real) -> Real:
    """Return Q(a, x) = 1 - P(a, x), with all its digits where it is small. Raises ValueError out of range."""
    raise NotImplementedError("TODO 6 (stretch, about 2 lines): the other tail, not 1 - the first")
