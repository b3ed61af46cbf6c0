"""What every implementation of ``stats.sample_size`` has to do."""

import math
from functools import cache
from statistics import NormalDist
from types import ModuleType
from typing import Any

import numpy as np
import pytest

OURS = pytest.mark.only("starter", "solution")
SOLVES = pytest.mark.known("peer_statsmodels", reason="solves for arcsine effects only")
CLOSE = 1e-7  # what Simpson's rule with 200 cuts reaches
SOLVED = 1e-5  # what a root search of the field leaves of the power asked for; ours is held to EXACT
EXACT = 1e-11  # the goal
FALSE_ALARM = 4  # standard errors: a right answer is further off once in 15,000 simulations


@cache  # for all implementations
def exact_power(shift: float, df: float, cut_share: float) -> tuple[Any, Any]:
    """Return the tails above the critical value and below minus it, by mpmath with 30 digits."""
    from mpmath import mp, mpf  # noqa: PLC0415 - the oracle of few tests

    with mp.workdps(30):
        nu, nc = mpf(df), mpf(shift)

        def central(x: Any) -> Any:
            return mp.betainc(nu / 2, mpf(1) / 2, 0, nu / (nu + x * x), regularized=True) / 2 - mpf(cut_share)

        cut = mp.findroot(central, (1.5, 4), solver="anderson")
        front = mp.log(2) - nu / 2 * mp.log(2) - mp.loggamma(nu / 2)

        def tail(sign: int) -> Any:
            def integrand(s: Any) -> Any:
                density = mp.exp(front + (nu - 1) * mp.log(s) - s * s / 2)
                return density * mp.erfc((cut * s / mp.sqrt(nu) - sign * nc) / mp.sqrt(2)) / 2

            centre = mp.sqrt(nu)
            return mp.quad(integrand, [max(mpf(10) ** -12, centre + k) for k in range(-12, 13, 2) if centre + k > -2])

        return tail(1), tail(-1)


def test_power_without_an_effect_is_alpha(impl: ModuleType) -> None:
    for alpha in (0.01, 0.05, 0.2):
        for n in (4, 30):
            got = impl.power_ttest(0.0, n, alpha=alpha)
            assert got == pytest.approx(alpha, rel=CLOSE), f"no effect, n={n}: alpha={alpha} of tests reject, got {got}"
        got = impl.power_proportions(0.3, 0.3, 50, alpha=alpha)
        assert got == pytest.approx(alpha, rel=CLOSE), f"no effect: alpha={alpha} of tests reject, got {got}"


def test_half_a_standard_deviation_needs_64(impl: ModuleType) -> None:
    # Cohen 1988, table 2.3.5: d = 0.5 with 64 in each sample has power 0.80 two-sided.
    got = impl.power_ttest(0.5, 64)
    assert round(got, 2) == 0.80, f"d = 0.5, n = 64: Cohen's table has 0.80, got {got:.4f}"


@pytest.mark.parametrize("kind", ["one-sample", "two-sample"])
@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_power_is_the_share_of_experiments_that_reject(impl: ModuleType, kind: str, alternative: str) -> None:
    from stats.special.solution import t  # noqa: PLC0415 - the test whose power it is

    generator, runs, n, d, ratio = np.random.default_rng(5), 20_000, 12, 0.6, 2.0
    a = generator.normal(d, 1, (runs, n))
    if kind == "one-sample":
        statistic, df = a.mean(1) / (a.std(1, ddof=1) / math.sqrt(n)), n - 1
    else:
        b = generator.normal(0, 1, (runs, int(n * ratio)))
        df = n + b.shape[1] - 2
        pooled = np.sqrt(((n - 1) * a.var(1, ddof=1) + (b.shape[1] - 1) * b.var(1, ddof=1)) / df)
        statistic = (a.mean(1) - b.mean(1)) / (pooled * math.sqrt(1 / n + 1 / b.shape[1]))
    cut = t.isf(0.05 / (2 if alternative == "two-sided" else 1), df)
    outside = {"two-sided": np.abs(statistic) > cut, "greater": statistic > cut, "less": statistic < -cut}[alternative]
    share, got = outside.mean(), impl.power_ttest(d, n, kind=kind, alternative=alternative, ratio=ratio)
    error = math.sqrt(max(got * (1 - got), 1 / runs) / runs)
    words = f"{kind}, {alternative}: {share:.4f} of {runs} experiments reject, power is said to be {got:.4f}"
    assert abs(share - got) <= FALSE_ALARM * error, words


def test_both_tails_count(impl: ModuleType) -> None:
    both = impl.power_ttest(0.1, 10, alpha=0.2)
    sides = [impl.power_ttest(0.1, 10, alpha=0.1, alternative=side) for side in ("greater", "less")]
    assert both == pytest.approx(sum(sides), rel=CLOSE), f"the two sides have {sides}, both together {both}"
    assert impl.power_ttest(-0.4, 20) == pytest.approx(impl.power_ttest(0.4, 20), rel=CLOSE)


def test_more_items_have_more_power(impl: ModuleType) -> None:
    for values in (
        [impl.power_ttest(0.3, n) for n in (5, 20, 80, 200)],
        [impl.power_ttest(d, 30) for d in (0.0, 0.2, 0.5, 1.0)],
        [impl.power_proportions(0.6, 0.5, n) for n in (20, 100, 500)],
        [impl.power_ttest(0.3, 30, ratio=ratio) for ratio in (0.5, 1.0, 3.0)],
    ):
        assert np.all(np.diff(values) > 0), f"power should grow: {values}"


def test_proportions_by_hand(impl: ModuleType) -> None:
    # Pooled 0.55 and 0.55: null error sqrt(2 * 0.2475 / 200), the difference's sqrt((0.24 + 0.25) / 200).
    null, spread, normal = math.sqrt(2 * 0.2475 / 200), math.sqrt((0.24 + 0.25) / 200), NormalDist()
    cut = normal.inv_cdf(0.975) * null
    wanted = normal.cdf((0.1 - cut) / spread) + normal.cdf((-0.1 - cut) / spread)
    got = impl.power_proportions(0.6, 0.5, 200)
    assert got == pytest.approx(wanted, rel=1e-9), f"0.6 against 0.5, 200 each: {wanted:.6f}, got {got:.6f}"
    pooled = (0.6 + 3 * 0.5) / 4
    cut = normal.inv_cdf(0.95) * math.sqrt(pooled * (1 - pooled) * (1 / 200 + 1 / 600))
    wanted = normal.cdf((0.1 - cut) / math.sqrt(0.24 / 200 + 0.25 / 600))
    got = impl.power_proportions(0.6, 0.5, 200, ratio=3.0, alternative="greater")
    assert got == pytest.approx(wanted, rel=1e-9), f"200 against 600, one-sided: {wanted:.6f}, got {got:.6f}"
    less = impl.power_proportions(0.5, 0.6, 600, ratio=1 / 3, alternative="less")
    assert less == pytest.approx(wanted, rel=1e-9), f"turned around it is the same {wanted:.6f}, got {less:.6f}"


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_solving_for_n_inverts_the_power(impl: ModuleType, alternative: str) -> None:
    d = -0.45 if alternative == "less" else 0.45
    n = impl.solve_power("ttest", effect=d, power=0.9, alternative=alternative)
    back = impl.power_ttest(d, n, alternative=alternative)
    assert back == pytest.approx(0.9, abs=SOLVED), f"n = {n:.3f} has power {back:.6f}, 0.9 was asked for"


@SOLVES
def test_solving_for_shares_inverts_the_power(impl: ModuleType) -> None:
    n = impl.solve_power("proportions", effect=0.03, base=0.8, power=0.8)
    back = impl.power_proportions(0.83, 0.8, n)
    assert back == pytest.approx(0.8, abs=SOLVED), f"n = {n:.1f} has power {back:.6f}, 0.8 was asked for"
    effect = impl.solve_power("proportions", n=500, base=0.8, power=0.8)
    back = impl.power_proportions(0.8 + effect, 0.8, 500)
    assert back == pytest.approx(0.8, abs=SOLVED), f"a difference of {effect:.4f} has power {back:.6f}"


def test_solving_for_the_effect_inverts_the_power(impl: ModuleType) -> None:
    for alternative, sign in (("two-sided", 1), ("greater", 1), ("less", -1)):
        d = impl.solve_power("ttest", n=25, power=0.8, alternative=alternative, kind="one-sample")
        assert d * sign > 0, f"the effect after {alternative!r} is {'positive' if sign > 0 else 'negative'}, got {d}"
        back = impl.power_ttest(d, 25, alternative=alternative, kind="one-sample")
        assert back == pytest.approx(0.8, abs=SOLVED), f"d = {d:.4f} has power {back:.6f}"


def test_solving_for_the_power_is_the_power(impl: ModuleType) -> None:
    assert impl.solve_power("ttest", effect=0.3, n=40, ratio=2.0) == impl.power_ttest(0.3, 40, ratio=2.0)


@OURS
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"effect": 0.0, "power": 0.8}, "not reached by any n"),
        ({"effect": -0.3, "power": 0.8, "alternative": "greater"}, "not reached by any n"),
        ({"effect": 0.5, "power": 0.05}, "between alpha"),
        ({"effect": 0.5, "power": 0.01}, "between alpha"),
        ({"effect": 0.5, "power": 1.0}, "and 1"),
        ({"effect": 0.5, "power": math.nan}, "power is nan"),
        ({"effect": 1e9, "power": 0.2}, "smallest n"),
    ],
)
def test_what_cannot_be_reached_is_refused(impl: ModuleType, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        impl.solve_power("ttest", **options)


@OURS
def test_shares_end_at_one(impl: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"not reached by any effect up to 0\.1"):
        impl.solve_power("proportions", n=20, base=0.9, power=0.95)
    with pytest.raises(ValueError, match="not reached by any effect up to 0"):
        impl.solve_power("proportions", n=20, base=1.0, power=0.95)


@OURS
def test_bad_input_is_refused(impl: ModuleType) -> None:
    for arguments, options, words in (
        ((0.5, 1), {}, "degrees of freedom"),
        ((0.5, -3), {}, "n is -3"),
        ((math.nan, 10), {}, "d is nan"),
        ((0.5, 10), {"alpha": 0.0}, "alpha is"),
        ((0.5, 10), {"alpha": 1.5}, "alpha is"),
        ((0.5, 10), {"ratio": 0.0}, "ratio is"),
        ((0.5, 10), {"kind": "three"}, "kind is 'three'"),
        ((0.5, 10), {"alternative": "larger"}, "alternative is 'larger'"),
    ):
        with pytest.raises(ValueError, match=words):
            impl.power_ttest(*arguments, **options)
    for shares, words in (((1.2, 0.5, 10), "p1 is 1.2"), ((0.5, -0.1, 10), "p2 -0.1"), ((0.5, 0.4, 0), "n is 0")):
        with pytest.raises(ValueError, match=words):
            impl.power_proportions(*shares)
    for given in ({"n": 10}, {"n": 10, "effect": 1.0, "power": 0.5}):
        with pytest.raises(ValueError, match="exactly one"):
            impl.solve_power("ttest", **given)
    for given, words in (
        ({"n": 10, "power": 0.8, "ratio": 0.0}, "ratio is 0"),
        ({"n": 10, "power": 0.8, "base": 1.2}, "base is 1.2"),
        ({"effect": math.nan, "power": 0.8}, "is nan"),
    ):
        with pytest.raises(ValueError, match=words):
            impl.solve_power("proportions", **given)
    with pytest.raises(ValueError, match="test is 'f'"):
        impl.solve_power("f", n=10, effect=1.0)


@pytest.mark.stretch
@OURS
def test_certain_shares(impl: ModuleType) -> None:
    assert impl.power_proportions(1.0, 0.0, 30) == 1.0
    assert impl.power_proportions(0.0, 0.0, 30) == 0.0
    assert impl.power_proportions(0.0, 1.0, 30, alternative="greater") == 0.0


@pytest.mark.stretch
@pytest.mark.parametrize(("d", "n", "alpha"), [(0.3, 20, 0.05), (-0.8, 7, 0.01), (0.05, 150, 0.1), (1.5, 4, 0.001)])
@pytest.mark.only("starter", "solution", "peer_statsmodels")
def test_power_has_eleven_digits(impl: ModuleType, d: float, n: int, alpha: float) -> None:
    got = impl.power_ttest(d, n, alpha=alpha)
    above, below = exact_power(d * math.sqrt(n / 2), 2 * n - 2, alpha / 2)
    wanted = float(above + below)
    assert abs(got / wanted - 1) <= EXACT, f"d={d}, n={n}, alpha={alpha}: {wanted:.13g}, got {got:.13g}"


@pytest.mark.stretch
@OURS
def test_answers_have_eleven_digits(impl: ModuleType) -> None:
    for options in ({"effect": 0.02}, {"effect": 0.5}, {"n": 4}, {"n": 1e5}):
        for power in (0.06, 0.5, 0.999):
            found = impl.solve_power("ttest", **options, power=power)
            effect, n = options.get("effect", found), options.get("n", found)
            back = impl.power_ttest(effect, n)
            assert back == pytest.approx(power, abs=EXACT), f"{options}: {found} has power {back}, not {power}"


@pytest.mark.stretch
@OURS
def test_a_small_effect_in_many_items(impl: ModuleType) -> None:
    # The shift is 10 and the cut 1.96: what is missing is a normal tail beyond 8.04, to 5e-17 of the whole.
    got = impl.power_ttest(0.2, 5000)
    assert got == pytest.approx(1 - 4.5e-16, abs=4e-16), f"d = 0.2, n = 5000: all but 4.5e-16, got {got}"
    for d, n in ((0.01, 5000), (0.02, 20_000), (1e-3, 1e7)):
        shift, normal = d * math.sqrt(n / 2), NormalDist()
        wanted = normal.cdf(shift - normal.inv_cdf(0.975)) + normal.cdf(-shift - normal.inv_cdf(0.975))
        got = impl.power_ttest(d, n)
        assert got == pytest.approx(wanted, rel=3 / n), f"d={d}, n={n}: nearly normal, {wanted:.6f}, got {got:.6f}"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution", "peer_statsmodels")
def test_chi2_of_one_degree_is_two_normal_tails(impl: ModuleType) -> None:
    normal = NormalDist()
    for w, n, alpha in ((0.1, 200, 0.05), (0.3, 40, 0.01), (0.0, 10, 0.1)):
        cut, shift = normal.inv_cdf(1 - alpha / 2), w * math.sqrt(n)
        wanted = normal.cdf(shift - cut) + normal.cdf(-shift - cut)
        got = impl.power_chi2(w, n, 1, alpha=alpha)
        assert got == pytest.approx(wanted, rel=1e-10), f"w={w}, n={n}: {wanted:.10f}, got {got:.10f}"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution", "peer_statsmodels")
def test_solving_chi2_inverts_the_power(impl: ModuleType) -> None:
    n = impl.solve_power("chi2", effect=0.15, power=0.85, df=4)
    assert impl.power_chi2(0.15, n, 4) == pytest.approx(0.85, abs=SOLVED), f"n = {n:.2f}"
    w = impl.solve_power("chi2", n=300, power=0.85, df=4)
    assert impl.power_chi2(w, 300, 4) == pytest.approx(0.85, abs=SOLVED), f"w = {w:.4f}"


@cache  # for all implementations
def exact_tost(d: float, n: int, margin: float, alpha: float) -> Any:
    """Return the power of two one-sided tests of pairs, by mpmath over the spread."""
    from mpmath import mp, mpf  # noqa: PLC0415 - the oracle of few tests

    with mp.workdps(30):
        df = mpf(n - 1)

        def central(x: Any) -> Any:
            return mp.betainc(df / 2, mpf(1) / 2, 0, df / (df + x * x), regularized=True) / 2 - mpf(alpha)

        cut, root = mp.findroot(central, (1, 4), solver="anderson"), mp.sqrt(n)
        front = mp.log(2) + df / 2 * mp.log(df / 2) - mp.loggamma(df / 2)

        def integrand(w: Any) -> Any:
            ends = (mpf(margin) - mpf(d)) * root - cut * w, (-mpf(margin) - mpf(d)) * root + cut * w
            return mp.exp(front + (df - 1) * mp.log(w) - df * w * w / 2) * (mp.ncdf(ends[0]) - mp.ncdf(ends[1]))

        last = mpf(margin) * root / cut
        return mp.quad(integrand, mp.linspace(0, min(last, 1 + 20 / mp.sqrt(df)), 9))


@pytest.mark.stretch
@OURS
@pytest.mark.parametrize(
    ("d", "n", "margin", "alpha"),
    [(0.0, 12, 0.7, 0.05), (0.3, 30, 0.6, 0.05), (-0.1, 5, 1.5, 0.1), (0.05, 150, 0.2, 0.01)],
)
def test_tost_has_eleven_digits(impl: ModuleType, d: float, n: int, margin: float, alpha: float) -> None:
    got, wanted = impl.power_tost(d, n, margin, alpha=alpha, kind="one-sample"), float(exact_tost(d, n, margin, alpha))
    assert abs(got / wanted - 1) <= EXACT, f"d={d}, n={n}, margin={margin}: {wanted:.13g}, got {got:.13g}"


@pytest.mark.stretch
@OURS
def test_tost_is_the_share_of_experiments_that_pass_both(impl: ModuleType) -> None:
    from stats.special.solution import t  # noqa: PLC0415 - the tests whose power it is

    generator, runs, n, d, margin, ratio = np.random.default_rng(6), 20_000, 10, 0.2, 1.1, 1.5
    a, b = generator.normal(d, 1, (runs, n)), generator.normal(0, 1, (runs, int(n * ratio)))
    df = n + b.shape[1] - 2
    pooled = np.sqrt(((n - 1) * a.var(1, ddof=1) + (b.shape[1] - 1) * b.var(1, ddof=1)) / df)
    reach = t.isf(0.05, df) * pooled * math.sqrt(1 / n + 1 / b.shape[1])
    share = (np.abs(a.mean(1) - b.mean(1)) + reach < margin).mean()
    got = impl.power_tost(d, n, margin, ratio=ratio)
    words = f"{share:.4f} of {runs} experiments pass both, power is said to be {got:.4f}"
    assert abs(share - got) <= FALSE_ALARM * math.sqrt(got * (1 - got) / runs), words


@pytest.mark.stretch
@OURS
def test_tost_grows_to_one_and_may_be_hopeless(impl: ModuleType) -> None:
    values = [impl.power_tost(0.1, n, 0.3) for n in (5, 100, 400, 1000)]
    assert values[0] < 1e-3, f"5 items show nothing: {values[0]}"
    assert np.all(np.diff(values) > 0), f"power should grow: {values}"
    assert impl.power_tost(0.1, 1e7, 0.3) == pytest.approx(1, abs=EXACT)
    assert impl.power_tost(0.3, 1e6, 0.3) == pytest.approx(0.05, rel=1e-3), "on the margin alpha of tests pass"
    assert impl.power_tost(-0.1, 80, 0.4) == pytest.approx(impl.power_tost(0.1, 80, 0.4), rel=EXACT)


@pytest.mark.stretch
@OURS
def test_solving_tost_inverts_the_power(impl: ModuleType) -> None:
    for d, margin, power in ((0.0, 0.5, 0.8), (0.1, 0.3, 0.9), (-0.2, 0.25, 0.5)):
        n = impl.solve_power("tost", effect=d, margin=margin, power=power)
        assert impl.power_tost(d, n, margin) == pytest.approx(power, abs=EXACT), f"n = {n:.2f}"
    assert impl.solve_power("tost", effect=0.1, n=50, margin=0.5) == impl.power_tost(0.1, 50, 0.5)
    with pytest.raises(ValueError, match="not reached by any n"):
        impl.solve_power("tost", effect=0.5, margin=0.4, power=0.8)
    with pytest.raises(ValueError, match="both have to be given"):
        impl.solve_power("tost", n=50, margin=0.4, power=0.8)
    with pytest.raises(ValueError, match="margin is 0"):
        impl.power_tost(0.1, 50, 0.0)


@pytest.mark.stretch
@OURS
def test_bad_chi2_is_refused(impl: ModuleType) -> None:
    for arguments, words in (((-0.1, 10, 1), "w is -0.1"), ((0.1, 0, 1), "n is 0"), ((0.1, 10, 0), "df is 0")):
        with pytest.raises(ValueError, match=words):
            impl.power_chi2(*arguments)
