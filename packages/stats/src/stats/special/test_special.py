"""What every implementation of ``stats.special`` has to do."""

import json
import math
import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.special import Distribution

Row = tuple[str, list[float], float, float, float, float]
TABLE: list[Row] = [tuple(row) for row in json.loads(Path(__file__).with_name("reference.json").read_text())]
ORDINARY = 1e-11  # what textbook series reach at a few hundred degrees of freedom
ROUNDED = 3e-14  # a rounded z / sqrt(2) alone moves a tail of 1e-20 by z**2 / 2**53, which is 1e-14
GOALS = {"norm": 1e-14, "t": 1e-13, "chi2": 1e-13} | dict.fromkeys(("f", "binom", "beta", "gamma"), 1e-12)
GOALS |= {"nct": 1e-10, "ncx2": 1e-11}
LAWS = ("norm", "t", "chi2", "f", "binom", "nct", "ncx2")
EXAMPLES: dict[str, tuple[float, ...]] = {
    "norm": (), "t": (4.5,), "chi2": (7.0,), "f": (3.0, 12.5), "nct": (9.0, 1.5), "ncx2": (4.0, 2.5)
}  # fmt: skip
OURS = pytest.mark.only("starter", "solution")


def law(impl: ModuleType, name: str) -> Distribution[Any]:
    return Distribution(getattr(impl, f"{name}_tail"), getattr(impl, f"{name}_quantile"))


def tail(impl: ModuleType, name: str, upper: bool, log: bool = False) -> Callable[..., Any]:
    """Return a tail as a function of the arguments of the table."""
    if name in ("beta", "gamma"):
        found: Callable[..., Any] = getattr(impl, f"{name}inc{'c' if upper else ''}")
        return found
    one = getattr(impl, f"{name}_tail")
    return lambda x, *parameters: one(x, upper, log, *parameters)


def assert_near(words: str, got: float, wanted: float, allowed: float) -> None:
    off = abs(got / wanted - 1) if wanted else abs(got)
    assert off <= allowed, f"{words} is {wanted:.17g}, got {got:.17g}: off by {off:.2g}, {allowed:.0e} is allowed"


def close(name: str, impl: ModuleType, rows: list[Row], allowed: float) -> None:
    assert rows
    for _, arguments, *tails in rows:
        for upper, wanted in enumerate(tails[:2]):
            if wanted > 1e-300:
                got = tail(impl, name, bool(upper))(*arguments)
                assert_near(f"{name}.{'sf' if upper else 'cdf'}{tuple(arguments)}", got, wanted, allowed)


def ordinary(name: str, most: float) -> list[Row]:
    return [row for row in TABLE if row[0] == name and min(row[2:4]) > 1e-20 and (row[1][1:] or [0])[0] <= most]


# The core: tails at ordinary arguments


def test_normal_tails(impl: ModuleType) -> None:
    assert impl.norm_tail(0.0, True, False) == 0.5
    assert_near("norm.sf(1)", impl.norm_tail(1.0, True, False), 0.15865525393145705, 1e-14)
    assert_near("norm.cdf(-6)", impl.norm_tail(-6.0, False, False), 9.865876450376981e-10, 1e-14)
    close("norm", impl, ordinary("norm", 0), ROUNDED)


def test_chi2_tails(impl: ModuleType) -> None:
    for x in (0.01, 1.0, 5.0, 40.0):
        assert_near(f"chi2.sf({x}, 2) = exp(-x / 2)", impl.chi2_tail(x, True, False, 2.0), math.exp(-x / 2), 1e-13)
        assert_near(f"chi2.cdf({x}, 2)", impl.chi2_tail(x, False, False, 2.0), -math.expm1(-x / 2), 1e-13)
        root = math.erfc(math.sqrt(x / 2))
        assert_near(f"chi2.sf({x}, 1), two normal tails", impl.chi2_tail(x, True, False, 1.0), root, 1e-13)
    close("chi2", impl, ordinary("chi2", 300), ORDINARY)


def test_t_tails(impl: ModuleType) -> None:
    for x in (-3.0, -0.2, 0.7, 5.0):
        cauchy = math.atan2(1, x) / math.pi
        assert_near(f"t.sf({x}, 1), Cauchy", impl.t_tail(x, True, False, 1.0), cauchy, 1e-13)
        two = 1 / (math.sqrt(2 + x * x) * (math.sqrt(2 + x * x) + abs(x)))
        assert_near(f"t.sf({x}, 2)", impl.t_tail(x, True, False, 2.0), two if x > 0 else 1 - two, 1e-13)
    close("t", impl, ordinary("t", 300), ORDINARY)


def test_tails_make_one(impl: ModuleType) -> None:
    for name in ("norm", "t", "chi2"):
        for x in (0.3, 2.0, 11.0):
            below, above = (tail(impl, name, upper)(x, *EXAMPLES[name]) for upper in (False, True))
            assert below + above == pytest.approx(1, abs=1e-13), f"{name} at {x}: {below} below, {above} above"


def test_the_symmetric_ones_are(impl: ModuleType) -> None:
    for x in (0.0, 0.4, 3.0):
        assert impl.norm_tail(x, True, False) == impl.norm_tail(-x, False, False)
        assert impl.t_tail(x, True, False, 3.5) == pytest.approx(impl.t_tail(-x, False, False, 3.5), rel=1e-13)


def test_small_tails_are_not_what_is_left_of_one(impl: ModuleType) -> None:
    assert_near("norm.sf(9)", impl.norm_tail(9.0, True, False), 1.1285884059538407e-19, 1e-13)
    assert_near("chi2.sf(100, 2)", impl.chi2_tail(100.0, True, False, 2.0), math.exp(-50), 1e-12)
    assert_near("t.sf(1e10, 2)", impl.t_tail(1e10, True, False, 2.0), 0.5e-20, 1e-12)


def test_arrays_broadcast(impl: ModuleType) -> None:
    x, df = np.array([[0.5], [2.0], [30.0]]), np.array([1.0, 4.0])
    for name in ("t", "chi2"):
        found = tail(impl, name, True)(x, df)
        assert found.shape == (3, 2), f"x of shape (3, 1) and df of shape (2,) give (3, 2), got {found.shape}"
        for i, j in np.ndindex(3, 2):
            one = tail(impl, name, True)(float(x[i, 0]), float(df[j]))
            assert found[i, j] == pytest.approx(one, rel=1e-13), f"{name} at {x[i, 0]}, {df[j]}: alone it is {one}"
    assert isinstance(float(impl.norm_tail(1.0, True, False)), float)
    assert list(impl.norm_tail([0.0, 1.0], True, False)) == [0.5, impl.norm_tail(1.0, True, False)]


def test_the_ends_are_certain(impl: ModuleType) -> None:
    assert impl.norm_tail(math.inf, True, False) == impl.norm_tail(-math.inf, False, False) == 0
    assert impl.chi2_tail(0.0, True, False, 3.0) == impl.chi2_tail(-2.0, True, False, 3.0) == 1
    assert impl.chi2_tail(0.0, False, False, 3.0) == 0


# The stretch: every tail there is


@pytest.mark.stretch
@OURS
@pytest.mark.parametrize("name", GOALS)
def test_every_tail_has_its_digits(impl: ModuleType, name: str) -> None:
    close(name, impl, [row for row in TABLE if row[0] == name], GOALS[name])


@pytest.mark.stretch
@OURS
@pytest.mark.parametrize("name", LAWS)
def test_logarithms_go_on_where_tails_underflow(impl: ModuleType, name: str) -> None:
    for row, arguments, *values in TABLE:
        if row == name:
            for upper, wanted in enumerate(values[2:]):
                got = tail(impl, name, bool(upper), log=True)(*arguments)
                words = f"{name}.{'logsf' if upper else 'logcdf'}{tuple(arguments)}"
                # A logarithm near 0 is the other tail, and that is near 0 to the goal.
                assert abs(got - wanted) <= GOALS[name] * max(abs(wanted), 1e-300), f"{words} is {wanted}, got {got}"


@pytest.mark.stretch
@OURS
@pytest.mark.parametrize("name", GOALS)
def test_arrays_are_as_good_as_numbers(impl: ModuleType, name: str) -> None:
    rows = [row for row in TABLE if row[0] == name and min(row[2:4]) > 1e-300]
    columns = np.array([row[1] for row in rows]).T
    for upper in (False, True):
        found, wanted = tail(impl, name, upper)(*columns), np.array([row[3 if upper else 2] for row in rows])
        worst = int(np.argmax(np.abs(found / wanted - 1)))
        assert_near(f"{name}, upper={upper}, {rows[worst][1]}", found[worst], wanted[worst], GOALS[name])


@pytest.mark.stretch
@pytest.mark.known("baseline", "peer_scipy", reason="the logarithm is taken of a tail that underflowed")
def test_the_logarithm_of_a_far_t_tail(impl: ModuleType) -> None:
    # For even df the tail is sqrt(1 - x) / 2 times what the series of 1 / sqrt(1 - x) in x = df / (df + t**2) has left
    # from x**(df / 2) on, Abramowitz and Stegun 26.7.4.
    x = Fraction(500, 500 + 200**2)
    rest = sum(math.comb(2 * k, k) * (x / 4) ** k for k in range(250, 270))
    wanted = math.log(rest.numerator) - math.log(rest.denominator) + math.log(math.sqrt(1 - x) / 2)
    got = impl.t_tail(200.0, True, True, 500.0)
    assert got == pytest.approx(wanted, rel=1e-13), f"t.logsf(200, 500) is {wanted}, got {got}"
    assert impl.t_tail(1e200, True, True, 2.0) == pytest.approx(-math.log(2) - 400 * math.log(10), rel=1e-13)


@pytest.mark.stretch
@pytest.mark.known("peer_scipy", reason="does not converge at 1e10 degrees of freedom")
def test_chi2_with_very_many_degrees_of_freedom(impl: ModuleType) -> None:
    # Wilson and Hilferty's cube root is normal to 1e-10 here.
    df, z = 1e10, -6.0
    x = df * (1 - 2 / (9 * df) + z * math.sqrt(2 / (9 * df))) ** 3
    assert_near("chi2.cdf 6 standard deviations below 1e10", impl.chi2_tail(x, False, False, df), 9.8659e-10, 1e-3)


@pytest.mark.stretch
@pytest.mark.known("peer_scipy", reason="returns -inf")
def test_the_quantile_of_a_tiny_tail(impl: ModuleType) -> None:
    # Far out P(T > t) = 2 sqrt(3) / (pi t**3) for 3 degrees of freedom.
    wanted = (2 * math.sqrt(3) / math.pi * 1e300) ** (1 / 3)
    assert_near("t.isf(1e-300, 3)", impl.t_quantile(1e-300, True, 3.0), wanted, 1e-12)


@pytest.mark.stretch
@OURS
@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("upper", [False, True])
def test_quantiles_invert_tails(impl: ModuleType, name: str, upper: bool) -> None:
    one, parameters = law(impl, name), EXAMPLES[name]
    p = np.array([1e-250, 1e-30, 1e-4, 0.025, 0.3, 0.5, 0.6, 0.975, 0.9999])
    x = (one.isf if upper else one.ppf)(p, *parameters)
    back = (one.sf if upper else one.cdf)(x, *parameters)
    assert np.all(np.diff(x) < 0 if upper else np.diff(x) > 0), f"quantiles of {p} are not in order: {x}"
    for share, where, again in zip(p, x, back, strict=True):
        words = f"{name}: {share} is the {'upper' if upper else 'lower'} tail at {where}"
        assert again == pytest.approx(share, rel=1e-10), f"{words}, whose tail is {again}"
        alone = (one.isf if upper else one.ppf)(float(share), *parameters)
        assert alone == pytest.approx(where, rel=1e-11), f"{name}: quantile {where} in an array, {alone} alone"


@pytest.mark.stretch
@OURS
@pytest.mark.parametrize("p", [5e-324, 1e-300, 1.3e-11, 1.4e-11, 1e-4, 0.074, 0.075, 0.3, 0.5 - 1e-9, 0.7, 0.999])
def test_normal_quantiles_have_their_digits(impl: ModuleType, p: float) -> None:
    from mpmath import mp  # noqa: PLC0415 - the oracle of few tests

    found = impl.norm_quantile(p, True)
    with mp.workdps(40):
        x = mp.mpf(found)
        for _ in range(3):  # Newton's steps from the answer to the truth
            x += (mp.erfc(x / mp.sqrt(2)) / 2 - mp.mpf(p)) / mp.npdf(x)
        assert_near(f"norm.isf({p})", found, float(x), GOALS["norm"])
    assert_near(f"norm.isf([{p}])", impl.norm_quantile(np.array([0.2, p, 0.9]), True)[1], found, 1e-15)


@pytest.mark.stretch
@OURS
@pytest.mark.parametrize(
    ("dfn", "dfd"), [(1.0, 1.0), (5.0, 40.0), (40.0, 5.0), (0.5, 2000.0), (700.0, 900.0), (9000.0, 9000.0)]
)
def test_many_values_of_one_f_are_as_good_as_one(impl: ModuleType, dfn: float, dfd: float) -> None:
    x = np.exp(np.linspace(-4, 4, 41) * math.sqrt(2 / dfn + 2 / dfd))  # on both sides of the mode
    for upper, log in ((True, False), (False, False), (True, True)):
        found = impl.f_tail(x, upper, log, dfn, dfd)
        for where, got in zip(x.tolist(), found.tolist(), strict=True):
            wanted = impl.f_tail(where, upper, log, dfn, dfd)
            assert_near(f"F({dfn}, {dfd}), upper={upper}, log={log} at {where}", got, wanted, GOALS["f"])


@pytest.mark.stretch
def test_quantiles_known_by_heart(impl: ModuleType) -> None:
    assert impl.norm_quantile(0.025, True) == pytest.approx(1.959963984540054, rel=1e-14)
    assert impl.norm_quantile(0.025, False) == pytest.approx(-1.959963984540054, rel=1e-14)
    assert impl.norm_quantile(0.5, True) == pytest.approx(0, abs=1e-15)
    assert impl.t_quantile(0.975, False, 1.0) == pytest.approx(1 / math.tan(math.pi * 0.025), rel=1e-12)
    assert impl.chi2_quantile(0.05, True, 2.0) == pytest.approx(-2 * math.log(0.05), rel=1e-12)
    assert impl.f_quantile(0.05, True, 2.0, 2.0) == pytest.approx(19, rel=1e-12)


@pytest.mark.stretch
def test_quantiles_of_certainty_are_the_ends(impl: ModuleType) -> None:
    assert impl.norm_quantile(0.0, True) == impl.t_quantile(1.0, False, 4.0) == math.inf
    assert impl.chi2_quantile(0.0, False, 4.0) == 0
    assert impl.f_quantile(1.0, True, 4.0, 5.0) == 0


@pytest.mark.stretch
def test_quantiles_from_far_away(impl: ModuleType) -> None:
    # 1e-254 of F lies 254 / 43.5 powers of ten down: Newton's first step goes much too far.
    for p in (1e-254, 1e-30):
        x = impl.f_quantile(p, False, 87.0, 27.0)
        assert_near(f"f.cdf(f.ppf({p}, 87, 27)) at {x}", impl.f_tail(x, False, False, 87.0, 27.0), p, 1e-10)


@pytest.mark.stretch
def test_logarithms_near_one_keep_their_digits(impl: ModuleType) -> None:
    # Of one degree of freedom: the lower tail of a small x is sqrt(2 x / pi) less a share of x / 6.
    x = 1e-9
    lower = math.sqrt(2 * x / math.pi) * (1 - x / 6)
    assert impl.chi2_tail(x, True, True, 1.0) == pytest.approx(math.log1p(-lower), rel=1e-14)


@pytest.mark.stretch
@pytest.mark.parametrize(("n", "p"), [(1, Fraction(1, 2)), (10, Fraction(1, 8)), (31, Fraction(7, 8))])
def test_binomial_tails_are_sums(impl: ModuleType, n: int, p: Fraction) -> None:
    terms = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    for k in range(-1, n + 1):
        above, below = float(sum(terms[k + 1 :])), float(sum(terms[: k + 1]))
        assert_near(f"more than {k} of {n} at {p}", impl.binom_tail(k, True, False, n, float(p)), above, 1e-12)
        assert_near(f"at most {k} of {n} at {p}", impl.binom_tail(k, False, False, n, float(p)), below, 1e-12)


@pytest.mark.stretch
@OURS
def test_binomial_quantiles_are_the_smallest(impl: ModuleType) -> None:
    for n, p in ((1, 0.5), (12, 0.3), (400, 0.02)):
        k = np.arange(n + 1)
        below, above = (impl.binom_tail(k, upper, False, n, p) for upper in (False, True))
        for q in (1e-9, 0.05, 0.5, 0.77, 1 - 1e-9):
            assert impl.binom_quantile(q, False, n, p) == np.argmax(below >= q), f"binom.ppf({q}, {n}, {p})"
            assert impl.binom_quantile(q, True, n, p) == np.argmax(above <= q), f"binom.isf({q}, {n}, {p})"
    assert impl.binom_quantile(0.2, False, 10, 0.0) == 0
    assert impl.binom_quantile(0.2, False, 10, 1.0) == 10


@pytest.mark.stretch
def test_f_in_closed_form(impl: ModuleType) -> None:
    for x in (0.01, 1.0, 70.0):
        for dfd in (2.0, 9.0):
            wanted = (1 + 2 * x / dfd) ** (-dfd / 2)
            assert_near(f"f.sf({x}, 2, {dfd})", impl.f_tail(x, True, False, 2.0, dfd), wanted, 1e-13)
            assert_near(f"f.cdf({1 / x}, {dfd}, 2)", impl.f_tail(1 / x, False, False, dfd, 2.0), wanted, 1e-13)


@pytest.mark.stretch
def test_incomplete_functions_in_closed_form(impl: ModuleType) -> None:
    for x in (1e-3, 0.3, 0.9):
        assert_near(f"betainc(2.5, 1, {x})", impl.betainc(2.5, 1.0, x), x**2.5, 1e-13)
        assert_near(f"betaincc(1, 2.5, {x})", impl.betaincc(1.0, 2.5, x), (1 - x) ** 2.5, 1e-13)
        assert_near(f"gammainc(1, {x})", impl.gammainc(1.0, x), -math.expm1(-x), 1e-13)
        assert_near(f"gammaincc(2, {x})", impl.gammaincc(2.0, x), (1 + x) * math.exp(-x), 1e-13)
    assert impl.betainc(2.0, 3.0, 0.0) == impl.gammainc(2.0, 0.0) == 0
    assert impl.betainc(2.0, 3.0, 1.0) == impl.gammaincc(2.0, 0.0) == 1


@pytest.mark.stretch
def test_without_a_shift_the_noncentral_ones_are_central(impl: ModuleType) -> None:
    for x in (0.2, 2.0, 9.0):
        t, chi2 = impl.t_tail(x, True, False, 6.0), impl.chi2_tail(x, True, False, 6.0)
        assert_near(f"nct.sf({x}, 6, 0)", impl.nct_tail(x, True, False, 6.0, 0.0), t, 1e-10)
        assert_near(f"ncx2.sf({x}, 6, 0)", impl.ncx2_tail(x, True, False, 6.0, 0.0), chi2, 1e-11)


@pytest.mark.stretch
def test_a_turned_noncentral_t_is_the_mirror(impl: ModuleType) -> None:
    for x, nc in ((3.0, 1.0), (-2.0, 5.0), (0.0, 2.0), (-1.0, 9.0)):
        one, two = impl.nct_tail(x, False, False, 12.0, nc), impl.nct_tail(-x, True, False, 12.0, -nc)
        assert_near(f"nct.cdf({x}, 12, {nc})", one, two, 1e-10)
    assert_near(
        "nct.cdf(0, 12, 9), which is norm.cdf(-9)", impl.nct_tail(0.0, False, False, 12.0, 9.0), 1.1285884e-19, 1e-7
    )


@pytest.mark.stretch
@OURS
def test_a_noncentral_t_far_out_is_a_power(impl: ModuleType) -> None:
    for df, nc in ((1.2, 5.6), (0.7, -40.0), (3.0, 60.0)):
        near, far = (impl.nct_tail(x, True, True, df, nc) for x in (1e40, 1e90))
        wanted = near - df * 50 * math.log(10)
        assert far == pytest.approx(wanted, rel=1e-12), f"nct.logsf(1e90, {df}, {nc}) is {wanted}, got {far}"


@pytest.mark.stretch
@OURS
def test_at_0_a_noncentral_t_is_normal(impl: ModuleType) -> None:
    nc = np.array([-11.3, -0.5, 0.2, 3.0, 40.0])
    for upper in (False, True):  # with an element far out beside them
        found = impl.nct_tail(
            np.append(np.zeros(5), 1e5), upper, True, np.append(np.full(5, 11.0), 0.6), np.append(nc, 9)
        )
        wanted = impl.norm_tail(-nc, upper, True)
        assert found[:5] == pytest.approx(wanted, rel=1e-10), f"at 0, shifted by {nc}: {wanted}, got {found}"


@pytest.mark.stretch
@OURS
@pytest.mark.parametrize(("df", "nc"), [(0.5, -95.0), (0.9, -130.0), (0.7, 100.0)])
def test_quantiles_of_few_degrees_far_off(impl: ModuleType, df: float, nc: float) -> None:
    p = np.array([1e-40, 1e-6, 0.1, 0.5, 0.8, 0.999])
    for upper in (False, True):
        back = impl.nct_tail(impl.nct_quantile(p, upper, df, nc), upper, False, df, nc)
        assert back == pytest.approx(p, rel=1e-10), f"nct with df {df} and nc {nc}: quantiles of {p} have tails {back}"


@pytest.mark.stretch
@OURS
def test_a_shifted_square_is_two_normal_tails(impl: ModuleType) -> None:
    for x, nc in ((4.0, 1.0), (100.0, 9.0), (0.5, 30.0)):
        one, two = math.sqrt(x) - math.sqrt(nc), math.sqrt(x) + math.sqrt(nc)
        above = impl.norm_tail(one, True, False) + impl.norm_tail(two, True, False)
        assert_near(f"ncx2.sf({x}, 1, {nc})", impl.ncx2_tail(x, True, False, 1.0, nc), above, 1e-11)
        below = impl.norm_tail(one, False, False) - impl.norm_tail(two, True, False)
        assert_near(f"ncx2.cdf({x}, 1, {nc})", impl.ncx2_tail(x, False, False, 1.0, nc), below, 1e-11)


@pytest.mark.stretch
@OURS
@settings(max_examples=40)
@given(st.floats(0.5, 1e10), st.floats(-30, 30), st.booleans())
def test_tails_fall_and_lie_between_their_neighbours(impl: ModuleType, df: float, z: float, upper: bool) -> None:
    x = max(df + z * math.sqrt(2 * df), 0.01 * df)
    for name, at in (("t", z), ("chi2", x)):
        step = 1e-6 * max(1.0, abs(at))
        log = tail(impl, name, upper, log=True)(np.array([at - step, at, at + step]), df)
        sign = -1 if upper else 1
        assert not np.isnan(log).any(), f"{name} with df {df} at {at}: {log}"
        assert (sign * np.diff(log) >= -1e-13 * np.abs(log[1:])).all(), f"{name}, df {df}: {log} around {at}"


@pytest.mark.stretch
@OURS
def test_nan_in_nan_out(impl: ModuleType) -> None:
    for name, parameters in EXAMPLES.items():
        one = law(impl, name)
        assert math.isnan(one.sf(math.nan, *parameters)), f"{name}.sf(nan)"
        assert math.isnan(one.ppf(math.nan, *parameters)), f"{name}.ppf(nan)"
        found = one.cdf([math.nan, 1.0], *parameters)
        assert math.isnan(found[0])
        assert 0 < found[1] < 1
    assert math.isnan(law(impl, "binom").cdf(math.nan, 3, 0.5))


@pytest.mark.stretch
@OURS
def test_empty_arrays_stay_empty(impl: ModuleType) -> None:
    for name, parameters in EXAMPLES.items():
        assert law(impl, name).sf([], *parameters).shape == (0,), name


@OURS
def test_bad_shapes_are_refused(impl: ModuleType) -> None:
    for df in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"df is {df}, must be positive"):
            impl.t_tail(1.0, True, False, df)
        with pytest.raises(ValueError, match=f"df is {df}, must be positive"):
            impl.chi2_tail(2.0, True, False, df)
    with pytest.raises(ValueError, match="df is"):
        impl.t_tail(1.0, True, False, np.array([3.0, -1.0]))


@pytest.mark.stretch
@OURS
def test_bad_input_is_refused(impl: ModuleType) -> None:
    for p in (-0.1, 1.5):
        with pytest.raises(ValueError, match="between 0 and 1"):
            impl.norm_quantile(p, True)
    with pytest.raises(ValueError, match="dfd is 0"):
        impl.f_tail(1.0, True, False, 3.0, 0.0)
    for n, chance, words in ((2.5, 0.5, "whole number"), (-1, 0.5, "whole number"), (3, 1.5, "between 0 and 1")):
        with pytest.raises(ValueError, match=words):
            impl.binom_tail(1, True, False, n, chance)
    with pytest.raises(ValueError, match="nc is inf"):
        impl.nct_tail(1.0, True, False, 3.0, math.inf)
    with pytest.raises(ValueError, match="at least 0"):
        impl.ncx2_tail(1.0, True, False, 3.0, -1.0)
    for a, b, x, words in ((0.0, 1.0, 0.5, "a is 0.0"), (1.0, -2.0, 0.5, "b is"), (1.0, 1.0, 1.5, "between 0 and 1")):
        with pytest.raises(ValueError, match=words):
            impl.betainc(a, b, x)
    with pytest.raises(ValueError, match="at least 0"):
        impl.gammainc(1.0, -1.0)


@pytest.mark.slow
@pytest.mark.only("solution")
@pytest.mark.parametrize("name", GOALS)
def test_fresh_arguments_have_their_digits(impl: ModuleType, name: str) -> None:
    from stats.special import _reference as reference  # noqa: PLC0415 - mpmath is the slow tests' alone

    rng = random.Random(name + "fresh")  # noqa: S311
    rows: list[Any] = []
    while len(rows) < 25:
        row = reference.row(name, reference.draw(name, rng))
        if min(row[2:4]) > 1e-300:
            rows.append(row)
    close(name, impl, rows, GOALS[name])
