"""What every implementation of ``stats.pairing`` has to do."""

import math
from fractions import Fraction
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

NO_MIDP = pytest.mark.known("peer_scipy", reason="scipy has no mid-p")
# A bound that a right answer of 10,000 random patterns exceeds once in 15,000 runs: four standard errors.
ERRORS = 4


def table(both: int, only_first: int, only_second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [both, only_first, only_second, neither]
    return np.repeat([1, 1, 0, 0], counts), np.repeat([1, 0, 1, 0], counts)


def fair_tail(n: int, k: int) -> Fraction:
    return Fraction(sum(math.comb(n, i) for i in range(k + 1)), 2**n)


@pytest.mark.parametrize(("up", "down"), [(9, 1), (1, 9), (6, 5), (0, 3), (40, 22), (300, 250)])
def test_mcnemar_is_an_exact_binomial_tail(impl: ModuleType, up: int, down: int) -> None:
    found = impl.mcnemar(*table(100, up, down, 7))
    wanted = min(1.0, float(2 * fair_tail(up + down, min(up, down))))
    words = f"{up} items only the first has right, {down} only the second: p is {wanted:.6g}, got {found.pvalue:.6g}"
    assert found.pvalue == pytest.approx(wanted, rel=1e-11), words
    assert found.statistic == up
    assert found.estimate == pytest.approx((up - down) / (107 + up + down))
    assert found.n == 107 + up + down


@pytest.mark.only("starter", "solution")
def test_mcnemar_takes_scores_of_any_type(impl: ModuleType) -> None:
    first, second = table(3, 9, 1, 2)
    kinds = (bool, np.int8, np.uint64, np.float32, ">i4", object)
    wanted = impl.mcnemar(first.tolist(), second.tolist())
    for kind in kinds:
        for other in kinds:
            found = impl.mcnemar(first.astype(kind), second.astype(other))
            assert found == wanted, f"{kind} and {other} give p {found.pvalue}, lists {wanted.pvalue}"
    assert impl.mcnemar(first[::2], second[::2]).n == 8, "a strided view"


@pytest.mark.only("starter", "solution")
@pytest.mark.parametrize("n", [199, 201, 999, 5_000])
def test_tails_are_exact_at_any_size(impl: ModuleType, n: int) -> None:
    for k in {0, 1, 5, 19, 20, 41, n // 3, n // 2 - 3}:
        found = impl.mcnemar(*table(0, n - k, k, 0)).log_pvalue
        tail = 2 * fair_tail(n, k)
        wanted = math.log(tail.numerator) - math.log(tail.denominator)
        assert abs(found - wanted) <= 1e-12 * max(1, abs(wanted)), f"{k} of {n}: log p {wanted:.15g}, got {found:.15g}"


@pytest.mark.parametrize(("agree", "more"), [(0, 0), (5, 500)])
def test_items_on_which_both_agree_do_not_count(impl: ModuleType, agree: int, more: int) -> None:
    few, many = impl.mcnemar(*table(agree, 8, 2, agree)), impl.mcnemar(*table(agree + more, 8, 2, agree + more))
    assert few.pvalue == pytest.approx(many.pvalue), "items that both have right or wrong changed the p-value"


def test_no_discordant_items_say_nothing(impl: ModuleType) -> None:
    assert impl.mcnemar([1, 0, 1], [1, 0, 1]).pvalue == 1.0
    assert impl.mcnemar(*table(3, 4, 4, 3)).pvalue == pytest.approx(1.0), "4 against 4 is no evidence at all: p is 1"


@NO_MIDP
@pytest.mark.parametrize(("up", "down"), [(9, 1), (2, 8), (6, 5), (4, 4), (0, 3), (0, 0)])
def test_the_midp_counts_the_observed_table_half(impl: ModuleType, up: int, down: int) -> None:
    found = impl.mcnemar(*table(5, up, down, 5), midp=True).pvalue
    n, k = up + down, min(up, down)
    wanted = float(2 * fair_tail(n, k) - Fraction(math.comb(n, k), 2**n))
    assert found == pytest.approx(wanted, rel=1e-11), f"{up} against {down}: the mid-p is {wanted:.6g}, got {found:.6g}"


@pytest.mark.known("baseline", "peer_scipy", reason="the p-value underflows before its logarithm is taken")
def test_the_logarithm_outlives_the_pvalue(impl: ModuleType) -> None:
    found = impl.mcnemar(*table(0, 3000, 0, 0))
    assert found.pvalue == 0.0
    assert found.log_pvalue == pytest.approx(math.log(2) - 3000 * math.log(2), rel=1e-12)


def test_few_items_are_counted_through(impl: ModuleType) -> None:
    first, second = np.array([3.0, 1.5, 2.0, 4.0, 6.5]), np.array([1.0, 2.0, 1.0, 1.0, 2.0])
    found = impl.permutation_test(first, second)
    # Differences 2, -0.5, 1, 3, 4.5 sum to 10 of at most 11: only all positive, all but 0.5, and their mirrors reach
    # it.
    assert found.pvalue == pytest.approx(4 / 32), f"4 of the 32 sign patterns reach the sum of 10, got {found.pvalue}"
    assert found.estimate == pytest.approx(2.0)
    statistic, pvalue = found
    assert (statistic, pvalue) == (found.statistic, found.pvalue)


def test_ties_with_the_observed_sum_count(impl: ModuleType) -> None:
    found = impl.permutation_test([0.1, 0.2, 0.3], [0.0, 0.0, 0.0]).pvalue
    assert found == pytest.approx(2 / 8), f"of 8 patterns 2 reach 0.6, the observed one among them; got {found}"


def test_many_items_are_sampled(impl: ModuleType) -> None:
    generator = np.random.default_rng(5)
    d = generator.gamma(2.0, size=60) - 1.6
    found = impl.permutation_test(d, np.zeros(60), resamples=4000, seed=1).pvalue
    signs = generator.choice((-1.0, 1.0), (200_000, 60))
    wanted = float(np.mean(np.abs(signs @ d) >= abs(d.sum())))
    error = math.sqrt(wanted * (1 - wanted) * (1 / 4000 + 1 / 200_000))
    assert abs(found - wanted) <= ERRORS * error, f"p is {wanted:.4f} +- {error:.4f}, got {found:.4f}"


@pytest.mark.known("peer_scipy", reason="doubles the smaller one-sided p-value")
def test_a_sampled_pvalue_is_never_zero(impl: ModuleType) -> None:
    d = np.linspace(1, 2, 40)
    found = impl.permutation_test(d, np.zeros(40), resamples=500).pvalue
    assert found == pytest.approx(1 / 501), f"none of 500 patterns reaches all plus: p is (0 + 1) / 501, got {found}"


def test_the_seed_decides(impl: ModuleType) -> None:
    d, zeros = np.random.default_rng(0).normal(0.2, 1, 50), np.zeros(50)
    same = {impl.permutation_test(d, zeros, resamples=300, seed=3).pvalue for _ in range(2)}
    assert len(same) == 1, f"the same seed gave {same}"
    same_ci = {impl.bootstrap_ci(d, zeros, resamples=300, seed=3) for _ in range(2)}
    assert len(same_ci) == 1, f"the same seed gave {same_ci}"


def test_swapping_the_models_turns_the_sign(impl: ModuleType) -> None:
    a, b = np.array([1.0, 3.0, 2.5, 7.0]), np.array([2.0, 1.0, 1.0, 3.0])
    one, two = impl.permutation_test(a, b), impl.permutation_test(b, a)
    assert one.pvalue == two.pvalue
    assert one.estimate == -two.estimate


def test_the_interval_is_that_of_the_mean(impl: ModuleType) -> None:
    d = np.random.default_rng(2).normal(1.0, 2.0, 400)
    low, high = impl.bootstrap_ci(d + 5, np.full(400, 5.0), resamples=2000)
    error = d.std() / 20
    # Quantiles of 2000 resamples are themselves off by some 0.06 standard errors at the 2.5 % point.
    assert low == pytest.approx(d.mean() - 1.96 * error, abs=0.35 * error), f"low end {low:.3f}"
    assert high == pytest.approx(d.mean() + 1.96 * error, abs=0.35 * error), f"high end {high:.3f}"


def test_a_higher_level_is_a_wider_interval(impl: ModuleType) -> None:
    d = np.random.default_rng(3).normal(size=50)
    (a, b), (c, e) = (impl.bootstrap_ci(d, np.zeros(50), level=level, resamples=1000) for level in (0.8, 0.99))
    assert c < a < b < e, f"80 %: {a:.3f} to {b:.3f}; 99 %: {c:.3f} to {e:.3f}"


def test_pairs_stay_together(impl: ModuleType) -> None:
    items = np.random.default_rng(4).normal(0, 100, 200)  # hard and easy items, the same for both models
    low, high = impl.bootstrap_ci(items + 1, items, resamples=500)
    assert low == pytest.approx(1, abs=1e-9), f"every difference is 1, the interval begins at {low:.3f}"
    assert high == pytest.approx(1, abs=1e-9)


def test_right_and_wrong_have_the_binomial_spread(impl: ModuleType) -> None:
    first, second = table(300, 60, 40, 100)
    low, high = impl.bootstrap_ci(first, second, resamples=2000)
    error = math.sqrt((100 - 20**2 / 500) / 500**2)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.12), f"the interval is {high - low:.4f} wide"


P = [0.01, 0.02, 0.03, 0.04, 0.05]
ADJUSTED = {
    "holm": [0.05, 0.08, 0.09, 0.09, 0.09],
    "bh": [0.05, 0.05, 0.05, 0.05, 0.05],
    "by": [0.05 * 137 / 60] * 5,
}


@pytest.mark.known("peer_scipy", reason="scipy has no Holm")
def test_holm_by_hand(impl: ModuleType) -> None:
    found = impl.adjust_pvalues(P, "holm")
    assert np.allclose(found, ADJUSTED["holm"]), f"Holm makes {P} {ADJUSTED['holm']}, got {np.round(found, 4).tolist()}"
    found = impl.adjust_pvalues([0.3, 0.001, 0.02], "holm")
    assert np.allclose(found, [0.3, 0.003, 0.04]), f"0.3 0.001 0.02 become 0.3 0.003 0.04, got {found.tolist()}"


@pytest.mark.parametrize("method", ["bh", "by"])
def test_false_discoveries_by_hand(impl: ModuleType, method: str) -> None:
    found = impl.adjust_pvalues(P, method)
    assert np.allclose(found, ADJUSTED[method]), f"{method} makes {P} {ADJUSTED[method]}, got {found.tolist()}"
    found = impl.adjust_pvalues([0.9, 0.001, 0.01, 0.2], method)
    factor = 25 / 12 if method == "by" else 1
    wanted = np.minimum(1, np.array([0.9, 0.004, 0.02, 0.2 * 4 / 3]) * factor)
    assert np.allclose(found, wanted), f"0.9 0.001 0.01 0.2 become {wanted.round(4).tolist()}, got {found.tolist()}"


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.sampled_from(["bh", "by"]))
def test_adjusting_keeps_the_order_and_never_shrinks(impl: ModuleType, pvalues: list[float], method: str) -> None:
    found = impl.adjust_pvalues(pvalues, method)
    p = np.array(pvalues)
    assert (found >= p - 1e-12).all(), f"{pvalues} became smaller: {found.tolist()}"
    assert (found <= 1).all()
    assert (np.diff(found[np.argsort(p, kind="stable")]) >= -1e-12).all(), f"the order changed: {found.tolist()}"


@pytest.mark.only("starter", "baseline", "solution")
def test_adjusting_keeps_the_shape(impl: ModuleType) -> None:
    assert impl.adjust_pvalues([[0.01, 0.5], [0.02, 0.9]], "bh").shape == (2, 2)
    assert impl.adjust_pvalues([], "holm").shape == (0,)


@pytest.mark.only("starter", "solution")
def test_bad_input_is_refused(impl: ModuleType) -> None:
    for first, second, words in (
        ([1, 0], [1], "shapes"),
        ([], [], "0 items"),
        ([1, 2], [1, 0], "0 or 1"),
        ([0, 1], [1, -1], "0 or 1"),
        ([0, 0.5], [1, 0], "0 or 1"),
        ([1.0, math.nan], [1, 0], "NaN"),
        ([[1, 0]], [[1, 0]], "shapes"),
    ):
        with pytest.raises(ValueError, match=words):
            impl.mcnemar(first, second)
    with pytest.raises(ValueError, match="shapes"):
        impl.permutation_test([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="resamples is 0"):
        impl.permutation_test([1.0, 3.0], [0.0, 1.0], resamples=0)
    with pytest.raises(ValueError, match="inf"):
        impl.permutation_test([math.inf, 1.0], [0.0, 1.0])
    with pytest.raises(ValueError, match="1 items"):
        impl.bootstrap_ci([1.0], [0.0])
    for level in (0.0, 1.0, 95.0):
        with pytest.raises(ValueError, match="level"):
            impl.bootstrap_ci([1.0, 2.0], [0.0, 0.0], level=level)
    with pytest.raises(ValueError, match="method"):
        impl.bootstrap_ci([1.0, 2.0], [0.0, 0.0], method="normal")
    for bad in ([0.5, 1.1], [-0.1], [math.nan]):
        with pytest.raises(ValueError, match="between 0 and 1"):
            impl.adjust_pvalues(bad)
    with pytest.raises(ValueError, match="method"):
        impl.adjust_pvalues([0.5], "bonferroni-holm")


@pytest.mark.stretch
@pytest.mark.only("starter", "solution", "peer_scipy")
def test_bca_moves_the_interval_of_skewed_data(impl: ModuleType) -> None:
    d = np.random.default_rng(6).lognormal(0, 1.2, 80)
    plain = impl.bootstrap_ci(d, np.zeros(80), resamples=20_000)
    moved = impl.bootstrap_ci(d, np.zeros(80), resamples=20_000, method="bca")
    from scipy import stats  # noqa: PLC0415 - the oracle of this test alone

    rng = np.random.default_rng(1)
    wanted = stats.bootstrap((d,), np.mean, n_resamples=50_000, method="BCa", batch=2000, rng=rng).confidence_interval
    error = d.std() / math.sqrt(80)
    assert moved[0] > plain[0], "data skewed to the right want both ends moved to the right"
    assert moved[1] > plain[1], "data skewed to the right want both ends moved to the right"
    for name, got, right in (("low", moved[0], wanted.low), ("high", moved[1], wanted.high)):
        assert abs(got - right) < 0.1 * error, f"the {name} end is {right:.4f} +- {0.1 * error:.4f}, got {got:.4f}"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_bca_of_constant_differences(impl: ModuleType) -> None:
    assert impl.bootstrap_ci([3.0, 4.0, 5.0], [1.0, 2.0, 3.0], method="bca") == (2.0, 2.0)


@pytest.mark.only("solution")
def test_equal_steps_need_no_resamples(impl: ModuleType) -> None:
    first, second = table(10, 30, 12, 10)
    found = impl.permutation_test(first, second, resamples=10)
    assert found.pvalue == pytest.approx(float(2 * fair_tail(42, 12)), rel=1e-12)


@pytest.mark.slow
@pytest.mark.only("solution")
@pytest.mark.parametrize("n", [5, 20, 100])
def test_false_alarms_are_as_rare_as_promised(impl: ModuleType, n: int) -> None:
    generator = np.random.default_rng(n)
    runs, alarms = 2000, {"mcnemar": 0, "permutation": 0}
    for _ in range(runs):
        a, b = generator.integers(0, 2, (2, n))
        alarms["mcnemar"] += impl.mcnemar(a, b).pvalue <= 0.05
        d = generator.gamma(1.0, size=n) * generator.choice((-1, 1), n)
        alarms["permutation"] += impl.permutation_test(d, np.zeros(n), resamples=999).pvalue <= 0.05
    allowed = 0.05 * runs + 3 * math.sqrt(0.05 * 0.95 * runs)
    assert max(alarms.values()) <= allowed, f"false alarms {alarms} in {runs} runs at 5 %, n = {n}"
