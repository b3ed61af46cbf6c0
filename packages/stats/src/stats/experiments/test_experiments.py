"""What every implementation of ``stats.experiments`` has to do."""

import contextlib
import math
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import special
from scipy import stats as oracle

ARMS = {"control": 0.9, "treatment": 0.1}
# A right answer exceeds four standard errors once in 15,000 runs; seeds are fixed all the same.
ERRORS = 4
FEW = "(?i)units|at least|two|2"  # as few values may be told in any words of the docstring


def arms(impl: ModuleType, experiment: str, weights: object, n: int = 4000) -> list[Any]:
    return [impl.assign(f"user{i}", experiment, weights) for i in range(n)]


def test_a_unit_keeps_its_arm(impl: ModuleType) -> None:
    first, again = arms(impl, "button", ARMS, 200), arms(impl, "button", dict(ARMS), 200)
    assert first == again, "asked twice, some units changed their arm"
    assert impl.assign(17, "button", ARMS) == impl.assign("17", "button", ARMS), "a unit is its text: 17 is '17'"


@pytest.mark.parametrize("weights", [[0.5, 0.5], [0.2, 0.3, 0.5], [0.99, 0.01]])
def test_arms_get_their_shares(impl: ModuleType, weights: list[float]) -> None:
    found = np.bincount(arms(impl, "prices", weights), minlength=len(weights)) / 4000
    errors = [math.sqrt(w * (1 - w) / 4000) for w in weights]
    assert all(abs(s - w) < ERRORS * e for s, w, e in zip(found, weights, errors, strict=True)), (
        f"weights {weights} gave shares {found.round(3).tolist()}"
    )


def test_experiments_are_independent(impl: ModuleType) -> None:
    one, two = (np.array(arms(impl, name, [0.5, 0.5])) for name in ("search", "prices"))
    both = float(((one == 1) & (two == 1)).mean())
    assert abs(both - 0.25) < ERRORS * math.sqrt(0.25 * 0.75 / 4000), (
        f"a quarter of the units has the second arm of two experiments, here {both:.3f}: is the salt missing?"
    )


def test_arms_do_not_follow_the_order_of_units(impl: ModuleType) -> None:
    found = np.array(arms(impl, "order", [0.5, 0.5]))
    changes = float((found[1:] != found[:-1]).mean())
    assert abs(changes - 0.5) < ERRORS * 0.5 / math.sqrt(4000), f"neighbours differ in {changes:.3f} of cases"


def test_a_ramp_moves_units_one_way(impl: ModuleType) -> None:
    before = arms(impl, "ramp", ARMS)
    after = arms(impl, "ramp", {"control": 0.6, "treatment": 0.4})
    back = sum(b == "treatment" and a == "control" for b, a in zip(before, after, strict=True))
    assert back == 0, f"the treatment grew from 10 % to 40 %, and {back} units fell out of it"


def test_an_arm_without_weight_gets_nobody(impl: ModuleType) -> None:
    assert set(arms(impl, "off", {"a": 0.0, "b": 1.0, "c": 0.0}, 300)) == {"b"}


def test_the_log_keeps_first_exposures(impl: ModuleType) -> None:
    log = impl.ExposureLog()
    for unit, arm in ((1, "a"), (2, "b"), (1, "a"), (3, "a"), (2, "a")):
        log.record(unit, "x", arm)
    log.record(2, "y", "a")
    assert log.counts("x") == {"a": 2, "b": 1}, f"units 1 and 3 saw a first, unit 2 saw b: {log.counts('x')}"
    assert log.crossed("x") == {2}, f"unit 2 saw both arms of x: {log.crossed('x')}"
    assert log.crossed("y") == set(), "seeing a in y after b in x is no crossing"
    assert [(e.unit, e.experiment, e.arm) for e in log] == [(1, "x", "a"), (2, "x", "b"), (3, "x", "a"), (2, "y", "a")]
    assert log.counts("z") == {}


def test_assigning_can_log(impl: ModuleType) -> None:
    log = impl.ExposureLog()
    wanted = [impl.assign(i, "x", [0.5, 0.5], log=log) for i in range(50)]
    impl.assign(7, "x", [0.5, 0.5], log=log)
    assert [e.arm for e in log] == wanted, "one exposure a unit, with the arm that was assigned"


def test_a_mismatch_by_hand(impl: ModuleType) -> None:
    found = impl.srm([4900, 5100], [0.5, 0.5])
    assert found.statistic == pytest.approx(4), f"100 too few of 5000, twice: 4, got {found.statistic}"
    assert found.pvalue == pytest.approx(math.erfc(math.sqrt(2)), rel=1e-12)
    assert (found.df, found.n) == (1, 10_000)
    assert abs(found.estimate) == pytest.approx(0.01), "an arm's share is off by 0.01"
    assert found.standard_error == pytest.approx(0.005)


def test_a_mismatch_of_three_arms(impl: ModuleType) -> None:
    found = impl.srm({"a": 800, "b": 100, "c": 100}, {"c": 0.125, "a": 0.75, "b": 0.125})
    statistic = 50**2 / 750 + 2 * 25**2 / 125
    assert found.statistic == pytest.approx(statistic), "counts belong to their arms, not to their places"
    assert found.pvalue == pytest.approx(math.exp(-statistic / 2), rel=1e-12), "two degrees of freedom: exp(-x / 2)"
    assert found.estimate == pytest.approx(0.05), f"a has 80 % where 75 % was asked for: +0.05, got {found.estimate}"


def test_arms_off_and_arms_empty(impl: ModuleType) -> None:
    found = impl.srm({"a": 30, "b": 30}, {"a": 0.5, "b": 0.5, "off": 0.0})
    assert (found.statistic, found.df, found.pvalue) == (0, 1, 1), "an arm without weight and units counts for nothing"
    assert impl.srm({"a": 60}, {"a": 0.5, "b": 0.5}).statistic == pytest.approx(60), (
        "an arm missing in the counts has 0"
    )


@pytest.mark.known("baseline", "peer_scipy", reason="the p-value underflows before its logarithm is taken")
def test_the_logarithm_outlives_the_pvalue(impl: ModuleType) -> None:
    found = impl.srm([100_000, 0], [0.5, 0.5])
    assert found.log_pvalue == pytest.approx(-50_006.0, abs=1)


def two_arms(seed: int, n: int = 400, m: int = 300) -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng(seed)
    x, y = generator.normal(5, 2, n), generator.normal(5, 2, m)
    return 0.9 * x + generator.normal(0.3, 1, n), 0.9 * y + generator.normal(0, 1, m), x, y


def test_cuped_is_the_regression_on_the_arm_and_the_covariate(impl: ModuleType) -> None:
    a, b, x, y = two_arms(0)
    design = np.column_stack([np.ones(700), np.repeat([1, 0], [400, 300]), np.concatenate([x, y])])
    wanted = float(np.linalg.lstsq(design, np.concatenate([a, b]), rcond=None)[0][1])
    found = impl.cuped(a, b, x, y)
    assert found.estimate == pytest.approx(wanted, rel=1e-9), f"regression says {wanted:.6f}, got {found.estimate:.6f}"
    assert found.n == 700


def test_cuped_shortens_the_interval_by_what_is_explained(impl: ModuleType) -> None:
    a, b, x, y = two_arms(1)
    plain = math.sqrt(a.var(ddof=1) / 400 + b.var(ddof=1) / 300)
    found = impl.cuped(a, b, x, y).standard_error
    # Of the variance 0.81 * 4 + 1 the covariate explains all but 1. Both are estimated from 700 units.
    assert found / plain == pytest.approx(math.sqrt(1 / 4.24), rel=0.12), f"{found:.4f}, without it {plain:.4f}"
    rest = [values - 0.9 * before for values, before in ((a, x), (b, y))]
    known = math.sqrt(rest[0].var(ddof=1) / 400 + rest[1].var(ddof=1) / 300)
    assert found == pytest.approx(known, rel=0.01), f"with the true slope it is {known:.5f}, got {found:.5f}"


def test_cuped_with_a_shifted_covariate(impl: ModuleType) -> None:
    a, b, x, y = two_arms(2)
    one, two = impl.cuped(a, b, x, y), impl.cuped(a, b, 10 * x + 1000, 10 * y + 1000)
    assert one.estimate == pytest.approx(two.estimate, rel=1e-6), "the covariate's unit and origin change nothing"


def test_an_effect_is_no_part_of_the_slope(impl: ModuleType) -> None:
    a, b, x, y = two_arms(3)
    one, two = impl.cuped(a, b, x, y), impl.cuped(a + 2, b, x, y)
    moved = two.estimate - one.estimate
    assert moved == pytest.approx(2, rel=1e-9), f"2 more for each treated unit moved the estimate by {moved:.4f}"


def test_a_ratio_by_hand(impl: ModuleType) -> None:
    found = impl.ratio_metric([2, 0, 4, 3], [4, 1, 8, 2], [1, 1, 2], [5, 5, 5])
    assert found.estimate == pytest.approx(9 / 15 - 4 / 15), "sums over sums, not the mean of ratios"
    first, second = np.array([2, 0, 4, 3]) - 0.6 * np.array([4, 1, 8, 2]), np.array([1, 1, 2]) - 4 / 3
    wanted = math.sqrt(first.var(ddof=1) / 4 / 3.75**2 + second.var(ddof=1) / 3 / 25)
    assert found.standard_error == pytest.approx(wanted), (
        f"{wanted:.5f} by the delta method, {found.standard_error:.5f}"
    )


def test_a_ratio_with_denominators_of_one_is_a_mean(impl: ModuleType) -> None:
    a, b, _, _ = two_arms(4, 40, 30)
    found, wanted = impl.ratio_metric(a, np.ones(40), b, np.ones(30)), oracle.ttest_ind(a, b, equal_var=False)
    assert found.pvalue == pytest.approx(wanted.pvalue, rel=1e-9)
    assert found.statistic == pytest.approx(wanted.statistic, rel=1e-9)
    low, high = found.confidence_interval(0.9)
    right = wanted.confidence_interval(0.9)
    assert (low, high) == pytest.approx((right.low, right.high), rel=1e-9)


def test_a_ratio_has_the_spread_of_units(impl: ModuleType) -> None:
    generator = np.random.default_rng(5)
    views = generator.geometric(0.1, 3000).astype(float)
    taste = generator.beta(2, 8, 3000)
    clicks = generator.binomial(views.astype(int), taste).astype(float)
    found = impl.ratio_metric(clicks, views, clicks, views).standard_error
    picks = generator.integers(0, 3000, (1000, 3000))
    wanted = math.sqrt(2) * float((clicks[picks].sum(1) / views[picks].sum(1)).std())
    assert found == pytest.approx(wanted, rel=0.1), f"resampling users gives {wanted:.5f}, got {found:.5f}"


@pytest.mark.parametrize(("harm", "shift", "side"), [("fall", 0.5, "greater"), ("rise", -0.5, "less")])
def test_a_guardrail_is_a_test_against_the_margin(impl: ModuleType, harm: str, shift: float, side: Any) -> None:
    a, b, _, _ = two_arms(6, 50, 80)
    found = impl.guardrail(a, b, 0.5, harm=harm)
    wanted = oracle.ttest_ind(a + shift, b, equal_var=False, alternative=side)
    assert found.pvalue == pytest.approx(float(wanted.pvalue), rel=1e-9), (
        f"not worse by 0.5, harm is a {harm}: p {float(wanted.pvalue):.4g}, got {found.pvalue:.4g}"
    )
    assert found.statistic == pytest.approx(float(wanted.statistic), rel=1e-9)
    assert found.estimate == pytest.approx(a.mean() - b.mean())


def test_no_difference_seen_is_no_proof_of_safety(impl: ModuleType) -> None:
    few = impl.guardrail([1.0, 2.0, 3.0], [1.0, 2.0, 3.1], 0.1)
    many = impl.guardrail(np.tile([1.0, 2.0, 3.0], 900), np.tile([1.0, 2.0, 3.0], 900), 0.1)
    words = f"three units prove nothing ({few.pvalue:.3g}), 2700 do ({many.pvalue:.3g})"
    assert few.pvalue > 0.3, words
    assert many.pvalue < 0.01, words


@pytest.mark.only("starter", "solution")
def test_bad_input_is_refused(impl: ModuleType) -> None:
    for weights in ([0.5, 0.4], [1.5, -0.5], [], {"a": math.nan, "b": 1.0}):
        with pytest.raises(ValueError, match="weights"):
            impl.assign("u", "x", weights)
    with pytest.raises(ValueError, match="empty"):
        impl.assign("", "x", [1.0])
    with pytest.raises(ValueError, match="empty"):
        impl.assign("u", "", [1.0])
    for counts, weights, words in (
        ([0, 0], [0.5, 0.5], "(?i)counts|units"),
        ([5, -1], [0.5, 0.5], "(?i)negative|-1"),
        ([5, 1.5], [0.5, 0.5], "whole"),
        ([5, 5], [0.5, 0.6], "(?i)sum|weights"),
        ({"a": 5, "z": 5}, {"a": 0.5, "b": 0.5}, "z"),
        ([5, 5], [1.0, 0.0], "(?i)weight"),
        ([5], [1.0], "(?i)arms"),
    ):
        with pytest.raises(ValueError, match=words):
            impl.srm(counts, weights)
    good = [1.0, 2.0, 4.0]
    for values, words in (
        ([], FEW),
        ([1.0], FEW),
        ([1.0, math.nan], "(?i)nan|finite"),
        ([[1.0, 2.0]], "(?i)shape|units"),
    ):
        with pytest.raises(ValueError, match=words):
            impl.guardrail(values, good, 1.0)
        with pytest.raises(ValueError, match=words):
            impl.ratio_metric(good, good, values, good)
    with pytest.raises(ValueError, match=r"(?i)length|2"):
        impl.cuped(good, good, [1.0, 2.0], good)
    with pytest.raises(ValueError, match=r"(?i)covariate|spread|constant"):
        impl.cuped(good, good, [1.0] * 3, [2.0] * 3)
    with pytest.raises(ValueError, match=r"(?i)constant|spread"):
        impl.guardrail([1.0, 1.0], [2.0, 2.0], 0.1)
    tenth, fifth = [0.1] * 3, [0.2] * 3  # whose mean is not quite their value
    with pytest.raises(ValueError, match=r"(?i)constant|spread"):
        impl.guardrail(tenth, fifth, 0.05)
    with pytest.raises(ValueError, match=r"(?i)covariate|spread|constant"):
        impl.cuped(good, good, tenth, fifth)
    views, more = np.array([0.1, 0.7, 0.3]), np.array([0.2, 0.3, 0.9, 0.11])
    with pytest.raises(ValueError, match=r"(?i)constant|spread"):
        impl.cuped(3 * views, 3 * more, views, more)
    with pytest.raises(ValueError, match=r"(?i)constant|spread"):
        impl.ratio_metric(0.3 * views, views, 0.3 * more, more)
    with pytest.raises(ValueError, match="denominators"):
        impl.ratio_metric(good, [1.0, 2.0], good, good)
    with pytest.raises(ValueError, match=r"(?i)negative|-2"):
        impl.ratio_metric(good, [1.0, -2.0, 3.0], good, good)
    for margin in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="margin"):
            impl.guardrail(good, good, margin)
    with pytest.raises(ValueError, match="harm"):
        impl.guardrail(good, good, 1.0, harm="down")
    with pytest.raises(ValueError, match="95"):
        impl.guardrail(good, [1.0, 5.0], 1.0).confidence_interval(95)


@pytest.mark.only("starter", "solution")
def test_small_expected_counts_are_named(impl: ModuleType) -> None:
    with pytest.warns(UserWarning, match=r"2\.0 units expected"):
        impl.srm([18, 2], [0.9, 0.1])


def bernstein(x: list[float], level: float) -> list[tuple[float, float]]:
    """Theorem 2 of Waudby-Smith and Ramdas, word for word."""
    log = math.log(2 / (1 - level))
    found, low, high = [], 0.0, 1.0
    for last in range(1, len(x) + 1):
        top = bottom = price = 0.0
        for i in range(1, last + 1):
            means = [(0.5 + sum(x[:j])) / (j + 1) for j in range(i)]  # after j values
            variance = (0.25 + sum((x[j - 1] - means[j]) ** 2 for j in range(1, i))) / i
            bet = min(math.sqrt(2 * log / (variance * i * math.log(i + 1))), 0.5)
            top, bottom = top + bet * x[i - 1], bottom + bet
            price += 4 * (x[i - 1] - means[i - 1]) ** 2 * (-math.log(1 - bet) - bet) / 4
        low, high = max(low, (top - log - price) / bottom), min(high, (top + log + price) / bottom)
        found.append((low, high))
    return found


@pytest.mark.stretch
def test_the_sequence_is_the_theorem(impl: ModuleType) -> None:
    x = np.random.default_rng(0).beta(0.2, 0.2, 90).tolist()  # so wide that bets soon fall below their cap
    found = impl.ConfidenceSequence(level=0.9).update(x)
    wanted = bernstein(x, 0.9)
    off = int(np.argmax(np.abs(found - wanted).max(axis=1)))
    assert np.allclose(found, wanted, rtol=1e-12, atol=1e-12), (
        f"after {off + 1} values the interval is {wanted[off]}, got {found[off].tolist()}"
    )


@pytest.mark.stretch
def test_chunks_of_any_size_give_the_same_sequence(impl: ModuleType) -> None:
    x = np.sort(np.random.default_rng(1).random(400) * 10 - 5)  # rising, so that early intervals go on to exclude
    whole = impl.ConfidenceSequence(-5, 5).update(x)
    parts = impl.ConfidenceSequence(-5, 5)
    chunks: tuple[Any, ...] = (x[:1], x[1:7], [], x[7:200], x[200:201], x[201:])
    rows = [parts.update(chunk) for chunk in chunks]
    assert np.allclose(np.concatenate(rows), whole), "one, six, none, many, one and the rest are not all at once"
    assert parts.n == 400
    assert parts.estimate == pytest.approx(x.mean())
    assert parts.interval == pytest.approx(tuple(whole[-1]))
    assert parts.update(0.0).shape == (1, 2), "a single number is a value"


@pytest.mark.stretch
def test_the_sequence_shrinks_onto_the_mean(impl: ModuleType) -> None:
    x = (np.random.default_rng(2).random(20_000) < 0.3).astype(float)
    found = impl.ConfidenceSequence().update(x)
    assert (np.diff(found[:, 0]) >= 0).all(), "what was excluded once stays out"
    assert (np.diff(found[:, 1]) <= 0).all(), "what was excluded once stays out"
    width = float(found[-1, 1] - found[-1, 0])
    fixed = 2 * 1.96 * math.sqrt(0.21 / 20_000)
    assert fixed < width < 3 * fixed, f"{width:.4f} wide after 20,000 values; without peeking {fixed:.4f} would do"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_a_sequence_refuses_bad_input(impl: ModuleType) -> None:
    for low, high, level in ((1.0, 0.0, 0.95), (0.0, math.inf, 0.95), (0.0, 1.0, 1.0)):
        with pytest.raises(ValueError, match=r"(?i)bounds|level|low|high"):
            impl.ConfidenceSequence(low, high, level=level)
    for values in ([0.5, 1.5], [math.nan], [[0.5]]):
        with pytest.raises(ValueError, match=r"(?i)values|bounds|nan|shape"):
            impl.ConfidenceSequence().update(values)


def false_alarms(impl: ModuleType, law: str, runs: int, n: int) -> tuple[int, int]:
    """Count the runs in which some peek excludes the truth: of the sequence, and of the sequential test."""
    generator = np.random.default_rng(3)
    missed = refused = 0
    for _ in range(runs):
        x = generator.random(n) < 0.1 if law == "rare" else generator.beta(0.5, 2, n)
        truth = 0.1 if law == "rare" else 0.2
        low, high = impl.ConfidenceSequence(level=0.95).update(x)[-1]
        missed += not low <= truth <= high
        y = generator.standard_normal(n) if law == "rare" else generator.standard_exponential(n)
        refused += impl.msprt(y, generator.random(n) < 0.5).pvalue[-1] <= 0.05
    return missed, refused


@pytest.mark.stretch
@pytest.mark.parametrize("law", ["rare", "skewed"])
def test_peeking_at_each_value_is_allowed(impl: ModuleType, law: str) -> None:
    runs = 150
    allowed = 0.05 * runs + 3 * math.sqrt(0.05 * 0.95 * runs)
    missed, refused = false_alarms(impl, law, runs, 2000)
    assert missed <= allowed, f"the sequence lost the truth in {missed} of {runs} runs, at most 5 % were promised"
    assert refused <= allowed, f"p fell below 5 % at some peek in {refused} of {runs} runs without an effect"


@pytest.mark.slow
@pytest.mark.stretch
@pytest.mark.parametrize("law", ["rare", "skewed"])
def test_peeking_at_each_value_up_to_1e5_is_allowed(impl: ModuleType, law: str) -> None:
    runs = 1000
    allowed = 0.05 * runs + 3 * math.sqrt(0.05 * 0.95 * runs)
    missed, refused = false_alarms(impl, law, runs, 100_000)
    assert max(missed, refused) <= allowed, f"{missed} and {refused} false alarms in {runs} runs of 100,000 peeks"


@pytest.mark.stretch
def test_msprt_is_the_bayes_factor_of_each_peek(impl: ModuleType) -> None:
    generator = np.random.default_rng(4)
    arm = generator.random(40) < 0.4
    y = generator.normal(3, 2, 40) + 1.5 * arm
    found = impl.msprt(y, arm, scale=0.5, level=0.9)
    smallest = 1.0
    for n in range(1, 41):
        a, b = y[:n][arm[:n]], y[:n][~arm[:n]]
        if n > 2 and len(a) and len(b):
            size, within = len(a) * len(b) / n, ((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum()
            ratio, grown = size * (a.mean() - b.mean()) ** 2 / within, 1 + size * 0.25
            factor = ((1 + ratio) / (1 + ratio / grown)) ** ((n - 1) / 2) / math.sqrt(grown)
            smallest = min(smallest, 1 / factor)
        got = float(found.pvalue[n - 1])
        assert got == pytest.approx(smallest, rel=1e-9), f"after {n} values p is {smallest:.6g}, got {got:.6g}"


@pytest.mark.stretch
def test_msprt_excludes_0_when_p_says_so(impl: ModuleType) -> None:
    generator = np.random.default_rng(5)
    arm = generator.random(3000) < 0.5
    found = impl.msprt(generator.normal(10, 1, 3000) + 0.2 * arm, arm, scale=0.2, level=0.95)
    outside = (found.low > 0) | (found.high < 0)
    assert (outside == (found.pvalue <= 0.05)).all(), "the interval excludes 0 exactly when p is at most 5 %"
    assert outside[-1], "0.2 standard deviations between 1500 and 1500 units are found"
    assert (np.diff(found.pvalue) <= 0).all(), "p never rises again"
    assert found.low[-1] < 0.2 < found.high[-1]


@pytest.mark.stretch
def test_msprt_of_all_alike_says_nothing(impl: ModuleType) -> None:
    found = impl.msprt([1.0] * 10, [0, 1] * 5)
    assert (found.pvalue == 1).all()
    assert impl.msprt([2.0, 3.0, 9.0], [0, 0, 0]).pvalue.tolist() == [1, 1, 1], "one arm alone"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_msprt_refuses_bad_input(impl: ModuleType) -> None:
    for y, arm, words in (
        ([1.0], [0, 1], "(?i)shape|length|size"),
        ([], [], "(?i)values|shape|empty"),
        ([math.nan, 1.0], [0, 1], "(?i)finite|nan"),
        ([1.0, 2.0], [0, 2], "(?i)treated|0 (or|and) 1"),
    ):
        with pytest.raises(ValueError, match=words):
            impl.msprt(y, arm)
    with pytest.raises(ValueError, match=r"(?i)scale"):
        impl.msprt([1.0, 2.0], [0, 1], scale=0)


def beats(a: int, b: int, c: int, d: int) -> Fraction:
    """Return the chance that a share from Beta(a, b) is larger than one from Beta(c, d), whole parameters."""

    def beta(p: int, q: int) -> Fraction:
        return Fraction(math.factorial(p - 1) * math.factorial(q - 1), math.factorial(p + q - 1))

    return sum((beta(c + i, d + b) / ((b + i) * beta(1 + i, b) * beta(c, d)) for i in range(a)), Fraction(0))


@pytest.mark.stretch
@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (3, 10, 1, 9), (40, 50, 90, 100), (0, 200, 5, 20), (1, 1, 0, 60)])
def test_who_is_better_is_exact(impl: ModuleType, counts: tuple[int, int, int, int]) -> None:
    s, n, u, m = counts
    shape = (s + 1, n - s + 1, u + 1, m - u + 1)
    found = impl.ab_beta_binomial(*counts)
    # A second is beaten where the first is larger; P(X > Y) is a sum over the first's whole parameter.
    wanted = float(beats(*shape))
    assert found.first_better == pytest.approx(wanted, rel=1e-10), (
        f"{s} of {n} beats {u} of {m} with probability {wanted:.10g}, got {found.first_better:.10g}"
    )
    a, b, c, d = shape
    # E max(X - Y, 0) = E X * P(X' > Y) - E Y * P(X > Y'), with X' from Beta(a + 1, b) and Y' from Beta(c + 1, d).
    gain = float(Fraction(a, a + b) * beats(a + 1, b, c, d) - Fraction(c, c + d) * beats(a, b, c + 1, d))
    assert found.loss_second == pytest.approx(gain, rel=1e-10), f"loss {gain:.10g}, got {found.loss_second:.10g}"
    assert found.estimate == pytest.approx(a / (a + b) - c / (c + d))
    assert found.loss_second - found.loss_first == pytest.approx(found.estimate, abs=1e-12)


@pytest.mark.stretch
def test_a_prior_that_is_not_whole_and_large_counts(impl: ModuleType) -> None:
    found = impl.ab_beta_binomial(2, 7, 5, 9, prior=(0.5, 0.5))
    nodes, weights = np.polynomial.legendre.leggauss(400)
    angle = (nodes + 1) * math.pi / 4  # x = sin(angle)**2 makes Jeffreys' law smooth
    x = np.sin(angle) ** 2
    density = x**2 * (1 - x) ** 5 * 2 / special.beta(2.5, 5.5)
    wanted = float((weights * density * special.betainc(5.5, 4.5, x)).sum()) * math.pi / 4
    assert found.first_better == pytest.approx(wanted, rel=1e-9)
    many = impl.ab_beta_binomial(101_000, 10**6, 100_000, 10**6)
    z = 0.001 / math.sqrt(0.101 * 0.899 / 1e6 + 0.1 * 0.9 / 1e6)
    assert many.first_better == pytest.approx(float(special.ndtr(z)), abs=2e-4), "a million units: nearly normal"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_impossible_counts_are_refused(impl: ModuleType) -> None:
    for counts in ((5, 4, 1, 2), (-1, 4, 1, 2), (1, 4, 1.5, 2), (1, math.inf, 1, 2), (1, math.nan, 1, 2)):
        with pytest.raises(ValueError, match=r"(?i)whole|counts|successes|negative"):
            impl.ab_beta_binomial(*counts)
    for prior in ((0.0, 1.0), (1.0,)):
        with pytest.raises(ValueError, match="prior"):
            impl.ab_beta_binomial(1, 2, 1, 2, prior=prior)


@pytest.mark.stretch
@pytest.mark.parametrize(("low", "high"), [(-0.5, 0.5), (-0.2, 1.0), (0.1, 0.4)])
def test_equivalence_is_two_one_sided_tests(impl: ModuleType, low: float, high: float) -> None:
    a, b, _, _ = two_arms(7, 60, 90)
    found = impl.tost(a, b, low, high)
    wanted = max(
        oracle.ttest_ind(a - low, b, equal_var=False, alternative="greater").pvalue,
        oracle.ttest_ind(a - high, b, equal_var=False, alternative="less").pvalue,
    )
    assert found.pvalue == pytest.approx(float(wanted), rel=1e-9), (
        f"within {low} and {high}: p {float(wanted):.4g}, got {found.pvalue:.4g}"
    )
    assert found.estimate == pytest.approx(a.mean() - b.mean())


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
@pytest.mark.parametrize("seed", range(8))
def test_equivalence_is_an_interval_within_the_margins(impl: ModuleType, seed: int) -> None:
    a, b, _, _ = two_arms(seed, 60, 90)
    found = impl.tost(a, b, -0.5, 0.9)
    low, high = found.confidence_interval(0.9)
    assert (found.pvalue <= 0.05) == (low >= -0.5 and high <= 0.9), f"p {found.pvalue:.3g}, 90 % {low:.3g}, {high:.3g}"


@pytest.mark.only("starter", "solution")
def test_a_guardrail_has_an_interval_with_one_end(impl: ModuleType) -> None:
    a, b, _, _ = two_arms(9, 50, 80)
    low, high = impl.guardrail(a, b, 0.4).confidence_interval(0.95)
    assert high == math.inf
    edge = impl.guardrail(a, b, -low).pvalue
    assert edge == pytest.approx(0.05, rel=1e-9), f"a margin at the low end has p 0.05, got {edge:.6g}"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_margins_out_of_order_are_refused(impl: ModuleType) -> None:
    for low, high in ((0.5, -0.5), (0.0, 0.0), (-math.inf, 1.0)):
        with pytest.raises(ValueError, match=r"(?i)low|high"):
            impl.tost([1.0, 2.0], [1.0, 3.0], low, high)


def draw(law: str, generator: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    """Return two arms' metrics and what they were before, without an effect."""
    x, y = generator.normal(size=(2, n)) if law == "normal" else generator.gamma(2.0, size=(2, n))
    noise = generator.normal(size=(2, n)) if law == "normal" else generator.standard_exponential((2, n))
    a, b = x + noise[0], y + noise[1]
    if law == "ties":
        a, b, x, y = (np.minimum(np.floor(values), 4.0) for values in (a, b, x, y))
    return a, b, x, y


def alarms(impl: ModuleType, law: str, n: int, runs: int) -> dict[str, int]:
    """Count the rejections at 5 % on the border of what each test rejects."""
    generator = np.random.default_rng([n, len(law)])
    found = {"srm": 0, "cuped": 0, "ratio": 0, "guardrail": 0, "tost": 0}
    for _ in range(runs):
        a, b, x, y = draw(law, generator, n)
        with contextlib.suppress(ValueError):  # a few tied values may all be the same: refused, and no alarm
            found["cuped"] += impl.cuped(a, b, x, y).pvalue <= 0.05
        found["ratio"] += impl.ratio_metric(a, np.abs(x) + 1, b, np.abs(y) + 1).pvalue <= 0.05
        found["guardrail"] += impl.guardrail(a - 0.5, b, 0.5).pvalue <= 0.05
        found["tost"] += impl.tost(a + 1, b, -99, 1).pvalue <= 0.05
        found["srm"] += impl.srm(generator.multinomial(5 * n, [0.2, 0.3, 0.5]), [0.2, 0.3, 0.5]).pvalue <= 0.05
    return found


@pytest.mark.only("solution")
@pytest.mark.parametrize("law", ["normal", "skewed", "ties"])
@pytest.mark.parametrize("n", [200, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 20, 100, 1000))])
def test_false_alarms_are_as_rare_as_promised(impl: ModuleType, law: str, n: int) -> None:
    """Welch's law is nearly that of normal values at any n, and of others where they are many.

    With few units the guardrail and TOST err on the safe side in arms of one size and law; so does the ratio of
    skewed values, while CUPED takes its slope for known: 7 % instead of 5 with 5 units an arm. Of checks of 3
    standard errors 1 in 370 would fail with other seeds though all is well.
    """
    runs = 400 if n == 200 else 2000
    found, error = alarms(impl, law, n, runs), 3 * math.sqrt(0.05 * 0.95 * runs)
    told = f"{found} of {runs} at 5 %, n = {n}, {law}"
    assert abs(found["srm"] - 0.05 * runs) <= error, told
    for name in ("guardrail", "tost"):
        assert found[name] <= 0.05 * runs + error, told
    if n >= 100 or (law == "normal" and n >= 20):
        assert all(abs(count - 0.05 * runs) <= error for count in found.values()), told
