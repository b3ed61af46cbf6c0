"""What every implementation of ``stats.students`` has to do."""

import math
import warnings
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from stats.special.solution import t as law

SIDES = ("two-sided", "less", "greater")
CLOSE = 1e-10  # scipy's own tails have about 11 digits
OURS = pytest.mark.only("starter", "solution")
HAS_AXIS = pytest.mark.only("starter", "baseline", "solution", "peer_scipy")
FIRST = [3.1, 4.0, 2.2, 5.7, 4.4, 3.9]
SECOND = [2.0, 3.8, 2.5, 3.3]


def samples(seed: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.normal(0.3, 1, shape), generator.normal(0, 2, shape)


def same(what: str, found: object, wanted: object) -> None:
    """Compare with scipy's result."""
    for name in ("statistic", "pvalue", "df"):
        got, right = np.asarray(getattr(found, name), float), np.asarray(getattr(wanted, name), float)
        assert got.shape == right.shape, f"{what}: {name} has shape {got.shape}, should be {right.shape}"
        assert np.allclose(got, right, rtol=CLOSE, equal_nan=True), f"{what}: {name} is {right}, got {got}"


def test_one_sample_by_hand(impl: ModuleType) -> None:
    found = impl.ttest_1samp([1.0, 2.0, 3.0, 4.0], 1.0)
    assert found.statistic == pytest.approx(1.5 / math.sqrt(5 / 12)), "mean 2.5, variance 5/3 with n - 1, of 4 values"
    assert found.df == 3
    assert found.estimate == pytest.approx(2.5), "the estimate is the mean"
    # The tail of t with 3 degrees of freedom is elementary.
    x = 1.5 / math.sqrt(5 / 12) / math.sqrt(3)
    wanted = 1 - 2 / math.pi * (math.atan(x) + x / (1 + x * x))
    assert found.pvalue == pytest.approx(wanted, rel=1e-10), f"two-sided p is {wanted:.6f}, got {found.pvalue:.6f}"
    statistic, pvalue = found
    assert (statistic, pvalue) == (found.statistic, found.pvalue)


def test_two_samples_by_hand(impl: ModuleType) -> None:
    found = impl.ttest_ind([1.0, 2.0, 3.0], [4.0, 8.0])
    assert found.estimate == pytest.approx(-4)
    assert found.df == 3
    pooled = (2 + 8) / 3
    wanted = -4 / math.sqrt(pooled * (1 / 3 + 1 / 2))
    assert found.statistic == pytest.approx(wanted), (
        f"pooled variance 10/3: t is {wanted:.4f}, got {found.statistic:.4f}"
    )
    found = impl.ttest_ind([1.0, 2.0, 3.0], [4.0, 8.0], equal_var=False)
    assert found.statistic == pytest.approx(-4 / math.sqrt(1 / 3 + 8 / 2)), "Welch: variances 1 and 8 of 3 and 2 values"
    assert found.df == pytest.approx((1 / 3 + 4) ** 2 / (1 / 18 + 16)), f"Welch's df, got {found.df:.4f}"


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("n", [2, 5, 30, 100, 1000])
def test_two_samples(impl: ModuleType, n: int, side: Any) -> None:
    a, b = samples(n, n)
    for equal_var in (True, False):
        found = impl.ttest_ind(a, b[: max(2, n // 2)], equal_var=equal_var, alternative=side)
        wanted = oracle.ttest_ind(a, b[: max(2, n // 2)], equal_var=equal_var, alternative=side)
        same(f"n = {n}, equal_var={equal_var}, {side}", found, wanted)
        assert found.log_pvalue == pytest.approx(math.log(wanted.pvalue), abs=1e-9)
        assert found.standard_error == pytest.approx(abs(found.estimate / wanted.statistic))


@pytest.mark.parametrize("side", SIDES)
def test_one_sample_and_pairs(impl: ModuleType, side: Any) -> None:
    for n in (2, 9, 100):
        a, b = samples(n, n)
        same(
            f"one sample of {n}, {side}",
            impl.ttest_1samp(a, 0.4, alternative=side),
            oracle.ttest_1samp(a, 0.4, alternative=side),
        )
        found = impl.ttest_rel(a, b, alternative=side)
        same(f"{n} pairs, {side}", found, oracle.ttest_rel(a, b, alternative=side))
        assert found.estimate == pytest.approx((a - b).mean()), "first minus second"


@pytest.mark.parametrize("side", SIDES)
def test_from_stats(impl: ModuleType, side: Any) -> None:
    summary = [each for x in (FIRST, SECOND) for each in (np.mean(x), np.std(x, ddof=1), len(x))]
    for equal_var in (True, False):
        found = impl.ttest_from_stats(*summary, equal_var, side)
        wanted = oracle.ttest_ind(FIRST, SECOND, equal_var=equal_var, alternative=side)
        assert found.statistic == pytest.approx(wanted.statistic), "means and deviations say all that t needs"
        assert found.pvalue == pytest.approx(wanted.pvalue)
    found = impl.ttest_from_stats(np.array([1.0, 2.0]), 1.0, 10, np.zeros(2), 1.0, np.array([10, 20]))
    assert np.shape(found.pvalue) == (2,), "arrays broadcast"


@pytest.mark.parametrize("side", SIDES)
def test_the_interval_is_what_the_test_does_not_refuse(impl: ModuleType, side: Any) -> None:
    if not hasattr(impl, "ttest_1samp"):
        pytest.skip("has no one-sample test")
    low, high = impl.ttest_1samp(FIRST, 3.0, alternative=side).confidence_interval(0.9)
    ends = [end for end in (low, high) if math.isfinite(end)]
    assert len(ends) == (2 if side == "two-sided" else 1), f"{side}: {low} to {high}"
    for end in ends:
        assert impl.ttest_1samp(FIRST, end, alternative=side).pvalue == pytest.approx(0.1, rel=1e-8)


@HAS_AXIS
@pytest.mark.parametrize("axis", [0, 1, -1, None])
def test_many_at_once_are_one_by_one(impl: ModuleType, axis: int | None) -> None:
    a, b = samples(3, 7, 5, 4)
    for equal_var in (True, False):
        found = impl.ttest_ind(a, b, axis=axis, equal_var=equal_var)
        same(f"axis {axis}", found, oracle.ttest_ind(a, b, axis=axis, equal_var=equal_var))
    same(f"pairs, axis {axis}", impl.ttest_rel(a, b, axis), oracle.ttest_rel(a, b, axis))
    same(f"one sample, axis {axis}", impl.ttest_1samp(a, 0.2, axis), oracle.ttest_1samp(a, 0.2, axis))
    assert np.shape(impl.ttest_rel(a, b, axis).confidence_interval()[0]) == np.shape(found.pvalue)


@OURS
def test_long_and_strided_input(impl: ModuleType) -> None:
    a, b = samples(4, 3000, 40)
    for x, y, axis in ((a, b, 1), (a.T, b.T, 0), (a[::3, ::2], b[::3, ::2], 1), (a[::-1], b[::-1], 0)):
        same(f"shape {x.shape} strides {x.strides}", impl.ttest_ind(x, y, axis=axis), oracle.ttest_ind(x, y, axis=axis))
    same(
        "float32",
        impl.ttest_ind(a[0].astype(np.float32), [1, 2, 4]),
        oracle.ttest_ind(a[0].astype(np.float32).astype(float), [1, 2, 4]),
    )


def exact(a: list[float], b: list[float]) -> float:
    """Return Student's t of binary64 data, from rational arithmetic."""
    x, y = ([Fraction(value) for value in values] for values in (a, b))
    means = [sum(values) / len(values) for values in (x, y)]
    squares = sum((v - m) ** 2 for values, m in zip((x, y), means, strict=True) for v in values)
    variance = squares / (len(x) + len(y) - 2) * (Fraction(1, len(x)) + Fraction(1, len(y)))
    return float(means[0] - means[1]) / math.sqrt(variance)


@pytest.mark.known(
    "baseline", "peer_scipy", "peer_statsmodels", "peer_pingouin", reason="means are rounded before they are subtracted"
)
def test_a_large_mean_costs_no_digits(impl: ModuleType) -> None:
    for offset in (1e6, 1e9, 1e12):
        a, b = [offset + value for value in FIRST], [offset + value for value in SECOND]
        wanted, found = exact(a, b), impl.ttest_ind(a, b).statistic
        assert found == pytest.approx(wanted, rel=1e-13), f"values about {offset:g}: t is {wanted!r}, got {found!r}"


@OURS
def test_an_outlier_in_the_first_place_costs_no_digits(impl: ModuleType) -> None:
    a = [1e8, *(FIRST * 20)]
    for axis, x in ((0, a), (1, [a] * 3)):
        found = np.ravel(impl.ttest_ind(x, [SECOND] * 3 if axis else SECOND, axis=axis).statistic)[0]
        assert found == pytest.approx(exact(a, SECOND), rel=1e-13)


@OURS
@pytest.mark.parametrize("repeats", [1, 30])
def test_each_test_keeps_its_digits_wherever_the_others_lie(impl: ModuleType, repeats: int) -> None:
    base = [x - 4 for x in FIRST] * repeats
    rows = [
        [scale * x + offset for x in base] for scale, offset in ((1, 0), (1, 1e6), (1e-3, 1e9), (1, 1e12), (-2, -7))
    ]
    rows += [[1e8, *row[1:]] for row in rows[:2]]
    wanted = [exact(row, SECOND) for row in rows]
    for start in range(2):  # the first test lies about 0, or far from it
        order = [*range(start, len(rows)), *range(start)]
        values = np.array([rows[k] for k in order])
        for x, axis in ((values, 1), (values.T, 0), (np.repeat(values, 2, 1)[:, ::2], 1)):
            found = impl.ttest_ind(x, np.array([SECOND] * len(rows)).swapaxes(1, axis), axis=axis).statistic
            assert found == pytest.approx([wanted[k] for k in order], rel=1e-13), f"order {order}, axis {axis}"
    with pytest.warns(RuntimeWarning, match="all values are the same"):
        found = impl.ttest_1samp([base[:6], [0.1] * 6, [0.7] * 6], 0.1, 1)
    assert list(found.statistic[1:]) == pytest.approx([math.nan, math.inf], nan_ok=True), (
        "constant values beside others"
    )


@pytest.mark.known(
    "peer_scipy", "peer_statsmodels", "peer_pingouin", "baseline", reason="the logarithm of 0, taken after the fact"
)
def test_the_logarithm_outlives_the_pvalue(impl: ModuleType) -> None:
    a, b = samples(5, 3000)
    found = impl.ttest_ind(a + 50, b)
    assert found.pvalue == 0
    wanted = law.logsf(found.statistic, 5998) + math.log(2)
    assert found.log_pvalue == pytest.approx(wanted, rel=1e-12), f"log p is {wanted:.3f}, got {found.log_pvalue}"


@OURS
def test_cheap_tails_are_the_exact_ones(impl: ModuleType) -> None:
    generator = np.random.default_rng(6)
    for _ in range(300):
        df, z = int(10 ** generator.uniform(0, 5)) + 1, generator.normal(0, 6)
        for side, sign, factor in (("two-sided", 0, 2), ("less", -1, 1), ("greater", 1, 1)):
            found = impl.ttest_from_stats(z, 1.0, df + 1, 0.0, 0.0, 1, True, side)
            size = found.statistic * sign if sign else abs(found.statistic)
            wanted = factor * law.sf(size, float(df))
            words = f"t = {found.statistic}, df = {df}, {side}: {wanted!r}, got {found.pvalue!r}"
            assert found.pvalue == pytest.approx(wanted, rel=1e-13), words


@settings(max_examples=40)
@given(
    st.lists(st.integers(-50, 50), min_size=3, max_size=9), st.integers(-1000, 1000), st.sampled_from([2.0, 0.25, -4.0])
)
def test_unit_and_origin_change_nothing(impl: ModuleType, values: list[int], shift: int, scale: float) -> None:
    if not hasattr(impl, "ttest_ind") or len(set(values)) == 1:
        return
    x = np.array(values, float)
    one, two = impl.ttest_ind(x, FIRST), impl.ttest_ind(x * scale + shift, np.array(FIRST) * scale + shift)
    assert one.pvalue == pytest.approx(two.pvalue, rel=1e-8), f"{values} times {scale} plus {shift}"
    assert one.statistic == pytest.approx(math.copysign(1, scale) * two.statistic, rel=1e-8, abs=1e-12)
    assert impl.ttest_ind(FIRST, x).statistic == pytest.approx(-one.statistic), "samples exchanged, sign turned"


@OURS
def test_constant_data_say_so(impl: ModuleType) -> None:
    for x, y, wanted in (
        ([1.0] * 3, [1.0] * 3, math.nan),
        ([0.1] * 10, [0.1] * 7, math.nan),
        ([1.0] * 3, [2.0] * 4, -math.inf),
    ):
        for equal_var in (True, False):
            with pytest.warns(RuntimeWarning, match="all values are the same"):
                found = impl.ttest_ind(x, y, equal_var=equal_var)
            assert found.statistic == pytest.approx(wanted, nan_ok=True), f"{x} and {y}"
            assert found.pvalue == pytest.approx(0.0 if wanted == -math.inf else math.nan, nan_ok=True)
    with pytest.warns(RuntimeWarning, match="all values are the same"):
        many = impl.ttest_1samp([[1.0, 2.0], [1.0, 3.0]], 1.0)
    assert math.isnan(many.pvalue[0])
    assert many.pvalue[1] == pytest.approx(oracle.ttest_1samp([2.0, 3.0], 1.0).pvalue)


@OURS
def test_too_few_values_say_so(impl: ModuleType) -> None:
    calls: tuple[Any, ...] = (
        lambda: impl.ttest_1samp([], 0.0),
        lambda: impl.ttest_1samp([1.0], 0.0),
        lambda: impl.ttest_rel([1.0], [2.0]),
        lambda: impl.ttest_ind([1.0], [2.0]),
        lambda: impl.ttest_ind([], [2.0, 3.0]),
        lambda: impl.ttest_ind([1.0], [2.0, 3.0], equal_var=False),
    )
    for call in calls:
        with pytest.warns(RuntimeWarning, match="too few"):
            found = call()
        assert math.isnan(found.pvalue)
        assert math.isnan(found.statistic)
    assert impl.ttest_ind([1.0], [2.0, 3.0]).df == 1, "Student's pools: one value and two are enough"


@OURS
def test_nan_goes_on_or_is_refused(impl: ModuleType) -> None:
    bad = [*FIRST, math.nan]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(impl.ttest_ind(bad, SECOND).pvalue)
        assert math.isnan(impl.ttest_ind(bad, SECOND, equal_var=False).pvalue)
        assert math.isnan(impl.ttest_1samp(bad, 1.0).pvalue)
        assert math.isnan(impl.ttest_ind([math.inf, 1.0], SECOND).pvalue)
    calls: tuple[Any, ...] = (
        lambda: impl.ttest_ind(bad, SECOND, nan_policy="raise"),
        lambda: impl.ttest_ind(SECOND, [bad, bad], axis=None, nan_policy="raise"),
        lambda: impl.ttest_rel(bad, bad, nan_policy="raise"),
        lambda: impl.ttest_1samp(bad, 0.0, nan_policy="raise"),
    )
    for call in calls:
        with pytest.raises(ValueError, match="NaN"):
            call()


@OURS
def test_bad_input_is_refused(impl: ModuleType) -> None:
    with pytest.raises(ValueError, match="alternative is 'both'"):
        impl.ttest_ind(FIRST, SECOND, alternative="both")
    with pytest.raises(ValueError, match="nan_policy 'drop'"):
        impl.ttest_1samp(FIRST, 0.0, nan_policy="drop")
    with pytest.raises(ValueError, match="unequal lengths"):
        impl.ttest_rel(FIRST, SECOND)
    with pytest.raises(ValueError, match="popmean has length 2"):
        impl.ttest_1samp([[1.0, 2.0], [3.0, 5.0], [2.0, 2.0]], [[0.0, 0.0], [1.0, 1.0]])
    for std, n in ((-1.0, 5), (1.0, -5)):
        with pytest.raises(ValueError, match="negative"):
            impl.ttest_from_stats(1.0, std, n, 0.0, 1.0, 5)
    with pytest.raises(ValueError, match="level is 95"):
        impl.ttest_1samp(FIRST, 0.0).confidence_interval(95)


@pytest.mark.stretch
@pytest.mark.only("starter", "solution", "peer_scipy")
def test_missing_values_are_left_out(impl: ModuleType) -> None:
    a, b = samples(8, 12, 6)
    a[np.random.default_rng(0).random(a.shape) < 0.3] = math.nan
    a[0, 1] = math.nan
    for equal_var in (True, False):
        for axis in (0, 1, None):
            found = impl.ttest_ind(a, b, axis=axis, equal_var=equal_var, nan_policy="omit")
            wanted = oracle.ttest_ind(a, b, axis=axis, equal_var=equal_var, nan_policy="omit")
            same(f"axis {axis}, NaN left out", found, wanted)
    same("pairs", impl.ttest_rel(a, b, nan_policy="omit"), oracle.ttest_rel(a, b, nan_policy="omit"))
    found = impl.ttest_1samp(a[:, 0], 0.1, nan_policy="omit")
    same("one sample", found, oracle.ttest_1samp(a[~np.isnan(a[:, 0]), 0], 0.1))


@pytest.mark.stretch
@OURS
def test_nothing_but_missing_values(impl: ModuleType) -> None:
    a = np.array([[1.0, math.nan], [2.0, math.nan], [4.0, 3.0]])
    with pytest.warns(RuntimeWarning, match="too few"):
        found = impl.ttest_1samp(a, 0.0, nan_policy="omit")
    assert list(found.n) == [3, 1]
    assert math.isnan(found.pvalue[1])
    assert found.pvalue[0] == pytest.approx(oracle.ttest_1samp([1.0, 2.0, 4.0], 0.0).pvalue)


def nist(offset: str, replicates: int) -> list[list[float]]:
    """Return the data of NIST's SmLs sets: nine treatments about offset + 0.4, each 0.1 above and below its mean."""
    whole, tenths = Fraction(offset), [4, 3, 5, 3, 5, 3, 5, 3, 5]
    return [
        [float(whole + Fraction(mean + (-1 if i % 2 else 1 if i else 0), 10)) for i in range(replicates)]
        for mean in tenths
    ]


@pytest.mark.stretch
@OURS
@pytest.mark.parametrize("replicates", [21, 201, 2001])
@pytest.mark.parametrize("offset", ["1", "1000000", "1000000000000"])
def test_anova_of_nist(impl: ModuleType, offset: str, replicates: int) -> None:
    data = nist(offset, replicates)
    groups = [{value: values.count(value) for value in set(values)} for values in data]
    means = [sum(Fraction(value) * count for value, count in group.items()) / replicates for group in groups]
    grand = sum(means) / 9
    between = replicates * sum((mean - grand) ** 2 for mean in means) / 8
    within = sum(
        count * (Fraction(value) - mean) ** 2
        for group, mean in zip(groups, means, strict=True)
        for value, count in group.items()
    ) / (9 * replicates - 9)
    wanted = float(between / within)
    if offset == "1":
        assert wanted == pytest.approx(replicates, rel=1e-13), "NIST certifies 21, 201 and 2001"
    found = impl.f_oneway(*data)
    assert found.statistic == pytest.approx(wanted, rel=1e-13), f"F is {wanted!r}, got {found.statistic!r}"
    assert found.df == (8, 9 * replicates - 9)


@pytest.mark.stretch
@pytest.mark.only("starter", "solution", "peer_scipy")
def test_anova(impl: ModuleType) -> None:
    groups = [FIRST, SECOND, [7.0, 1.0, 2.5]]
    found, wanted = impl.f_oneway(*groups), oracle.f_oneway(*groups)
    assert found.statistic == pytest.approx(wanted.statistic, rel=1e-12)
    assert found.pvalue == pytest.approx(wanted.pvalue, rel=CLOSE)
    between = sum(len(x) * (np.mean(x) - np.mean(np.concatenate(groups))) ** 2 for x in groups)
    assert found.estimate == pytest.approx(between / np.var(np.concatenate(groups)) / 13), "eta squared"
    two = impl.f_oneway(FIRST, SECOND)
    assert two.statistic == pytest.approx(oracle.ttest_ind(FIRST, SECOND).statistic ** 2), (
        "of two samples F is t squared"
    )


@pytest.mark.stretch
@OURS
def test_anova_refuses_and_warns(impl: ModuleType) -> None:
    for groups in ([FIRST], [FIRST, []], [[1.0], [2.0]], [[FIRST], SECOND]):
        with pytest.raises(ValueError, match="at least two"):
            impl.f_oneway(*groups)
    with pytest.warns(RuntimeWarning, match="constant"):
        assert impl.f_oneway([1.0, 1.0], [2.0, 2.0]).pvalue == 0
    with pytest.warns(RuntimeWarning, match="constant"):
        assert impl.f_oneway([0.1] * 10, [0.3] * 7, [0.7] * 13).statistic == math.inf
    with pytest.warns(RuntimeWarning, match="constant"):
        assert math.isnan(impl.f_oneway([0.1, 0.1, 0.1], [0.1, 0.1]).pvalue)


def draw(law: str, generator: np.random.Generator, runs: int, n: int) -> np.ndarray:
    if law == "skewed":
        return generator.standard_exponential((runs, n)) - 1
    values = generator.standard_normal((runs, n))
    return np.round(2 * values) / 2 if law == "ties" else values


def alarms(impl: ModuleType, law: str, n: int, runs: int) -> dict[str, float]:
    """Return how far the false alarms at 5 % lie from 5 %, in standard errors."""
    generator, found = np.random.default_rng([n, runs]), {}
    a, b = draw(law, generator, runs, n), draw(law, generator, runs, n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ties: five equal values do come
        tests = {
            "pairs": impl.ttest_rel(a, b, 1),
            "Student": impl.ttest_ind(a, b, axis=1),
            "Student, greater": impl.ttest_ind(a, b, axis=1, alternative="greater"),
        }
        if n >= 20:  # Welch's degrees of freedom are an approximation
            tests["Welch"] = impl.ttest_ind(a, 2 * b[:, : n // 2], axis=1, equal_var=False)
        if law != "skewed":
            tests["one sample"] = impl.ttest_1samp(a, 0.0, 1)
    for name, result in tests.items():
        found[name] = (float((result.pvalue <= 0.05).mean()) - 0.05) / math.sqrt(0.05 * 0.95 / runs)
    return found


@pytest.mark.only("solution")
@pytest.mark.parametrize(("kind", "n"), [("normal", 5), ("normal", 20), ("ties", 50), ("normal", 200)])
def test_false_alarms_are_as_rare_as_promised(impl: ModuleType, kind: str, n: int) -> None:
    found = alarms(impl, kind, n, 4000)
    assert max(map(abs, found.values())) <= 3, f"{kind}, n = {n}: standard errors from 5 %: {found}"


@pytest.mark.slow
@pytest.mark.only("solution")
@pytest.mark.parametrize(
    ("kind", "n"),
    [("normal", 5), ("normal", 20), ("normal", 100), ("ties", 20), ("ties", 100), ("ties", 1000), ("skewed", 1000)],
)
def test_false_alarms_of_many_runs(impl: ModuleType, kind: str, n: int) -> None:
    found = alarms(impl, kind, n, 20_000)
    assert max(map(abs, found.values())) <= 3, f"{kind}, n = {n}: standard errors from 5 %: {found}"
