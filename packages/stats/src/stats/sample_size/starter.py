"""Your turn: replace each ``raise NotImplementedError``."""

from stats.sample_size import Alternative, Kind, Test


def power_ttest(
    d: float,
    n: float,
    *,
    alpha: float = 0.05,
    alternative: Alternative = "two-sided",
    kind: Kind = "two-sample",
    ratio: float = 1.0,
) -> float:
    """Return the power of Student's t-test for Cohen's ``d``, a difference of means in standard deviations.

    ``n`` is the number of values in the first sample, ``ratio * n`` that in the second; a "one-sample" test, or one of
    paired differences, has n alone. Two-sided power counts both tails. Numbers need not be whole, but leave more than 0
    degrees of freedom. Raises ValueError for other n, d that is not finite, alpha outside (0, 1), a ratio that is
    not positive, or unknown words. Source: Cohen 1988, Statistical Power Analysis, chapter 2; the exact law is
    noncentral t, Johnson, Kotz and Balakrishnan 1995, section 31.2.
    """
    raise NotImplementedError("TODO 1 (core, about 10 lines): the noncentral tail beyond the critical value")


def power_proportions(
    p1: float,
    p2: float,
    n: float,
    *,
    alpha: float = 0.05,
    alternative: Alternative = "two-sided",
    ratio: float = 1.0,
) -> float:
    """Return the power of the z test that two shares, ``p1`` of n items and ``p2`` of ``ratio * n``, differ.

    The test divides by the standard error of pooled shares, while the difference has that of shares apart; normal
    approximation, both tails. "greater" means p1 > p2. Raises ValueError for shares outside [0, 1], n or ratio that are
    not positive, alpha outside (0, 1), or unknown words. Source: Fleiss, Levin and Paik 2003, Statistical Methods
    for Rates and Proportions, eq. 4.14 turned around.
    """
    raise NotImplementedError("TODO 2 (core, about 8 lines): one spread under the null, another under the effect")


def power_chi2(w: float, n: float, df: float, *, alpha: float = 0.05) -> float:
    """Return the power of a chi-square test with ``df`` degrees of freedom on ``n`` items for Cohen's effect ``w``.

    Raises ValueError for w that is negative or not finite, n or df that is not positive, or alpha outside (0, 1).
    Source: Cohen 1988, chapter 7.
    """
    raise NotImplementedError("TODO 4 (stretch, about 3 lines): the noncentral chi-square tail")


def power_tost(
    d: float,
    n: float,
    margin: float,
    *,
    alpha: float = 0.05,
    kind: Kind = "two-sample",
    ratio: float = 1.0,
) -> float:
    """Return the power of two one-sided t-tests to show that a difference lies within ``margin``, where it is ``d``.

    Both are in standard deviations; ``n``, ``ratio`` and ``kind`` as in ``power_ttest``. It is exact: both tests share
    one estimate of the spread. Raises ValueError for a margin that is not positive, and as ``power_ttest``. Source:
    Schuirmann 1987, J. Pharmacokinet. Biopharm. 15; Owen 1965, Biometrika 52.
    """
    raise NotImplementedError("TODO 5 (stretch, about 15 lines): given the spread, a normal law between two ends")


def solve_power(
    test: Test,
    *,
    effect: float | None = None,
    n: float | None = None,
    power: float | None = None,
    alpha: float = 0.05,
    alternative: Alternative = "two-sided",
    kind: Kind = "two-sample",
    ratio: float = 1.0,
    base: float = 0.5,
    df: float = 1.0,
    margin: float | None = None,
) -> float:
    """Return the one of ``effect``, ``n`` and ``power`` that is None, from the other two.

    "ttest" solves ``power_ttest`` with its ``kind`` (the effect is d); "proportions" ``power_proportions`` with p1 =
    base + effect against p2 = ``base``; "chi2" (stretch) ``power_chi2`` with ``df``; "tost" (stretch) ``power_tost``
    with ``margin``, for n or the power. n is that of the first sample, a real number: round it up. An effect asked for
    is the positive one, the negative one after "less". Raises ValueError unless exactly one is None, and for what no n
    or effect achieves, such as a power not above alpha.
    """
    if test == "chi2":
        raise NotImplementedError("TODO 4 (stretch, about 3 lines): the same for chi-square")
    if test == "tost":
        raise NotImplementedError("TODO 5 (stretch, about 3 lines): the same for two one-sided tests")
    raise NotImplementedError("TODO 3 (core, about 20 lines): bracket the root, then close in on it")
