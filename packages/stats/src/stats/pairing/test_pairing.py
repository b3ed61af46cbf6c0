"""What every implementation of ``stats.pairing`` has to do."""

import math
from fractions import Fraction
from functools import cache
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
    total = ways = 1
    for i in range(k):
        ways = ways * (n - i) // (i + 1)
        total += ways
    return Fraction(total, 2**n)


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


@cache
def sixty_items() -> tuple[np.ndarray, float]:
    """Return differences, and the share of 200,000 sign patterns whose sum is as large as theirs."""
    generator = np.random.default_rng(5)
    d = generator.gamma(2.0, size=60) - 1.6
    signs = generator.choice((-1.0, 1.0), (200_000, 60))
    return d, float(np.mean(np.abs(signs @ d) >= abs(d.sum())))


def test_many_items_are_sampled(impl: ModuleType) -> None:
    d, wanted = sixty_items()
    found = impl.permutation_test(d, np.zeros(60), resamples=4000, seed=1).pvalue
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
    items = np.random.default_rng(4).normal(0, 100, 20)  # hard and easy items, the same for both models
    low, high = impl.bootstrap_ci(items + np.tile([1, 1.5], 10), items, resamples=500)
    assert 1 - 1e-9 < low < high < 1.5 + 1e-9, f"differences are 1 and 1.5, the interval is {low:.3f} to {high:.3f}"


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


@pytest.mark.only("starter", "solution")
def test_results_say_what_an_interval_needs(impl: ModuleType) -> None:
    first, second = table(300, 60, 40, 100)
    found = impl.mcnemar(first, second)
    d = first - second
    assert found.standard_error == pytest.approx(d.std() / math.sqrt(500))
    low, high = found.confidence_interval(0.9)
    assert (low, high) == pytest.approx((0.04 - 1.645 * found.standard_error, 0.08 - low), rel=1e-3)
    found = impl.permutation_test(d + 0.5, second * 0)
    assert found.standard_error == pytest.approx(d.std(ddof=1) / math.sqrt(500))


@pytest.mark.only("solution")
@pytest.mark.parametrize(
    ("values", "shares"),
    [((0, 1), (0.8, 0.2)), ((-1, 0, 1), (0.1, 0.7, 0.2)), ((1, 2, 5), (0.5, 0.2, 0.3)), ((0, 1), (0.98, 0.02))],
)
@pytest.mark.parametrize("n", [2, 7, 50, 333])
def test_laws_on_a_grid_are_those_of_infinitely_many_resamples(
    impl: ModuleType, values: tuple[int, ...], shares: tuple[float, ...], n: int
) -> None:
    counts = np.round(np.cumsum(shares) * n).astype(int)
    d = np.repeat(values, np.diff(counts, prepend=0))
    law = np.ones(1)
    one = np.bincount(d - d.min()) / n
    for _ in range(n):
        law = np.convolve(law, one)
    for level in (0.5, 0.95, 0.999):
        cuts = [(1 - level) / 2, (1 + level) / 2]
        wanted = np.searchsorted(np.cumsum(law), np.array(cuts) - 1e-12) / n + d.min()
        got = impl.bootstrap_ci(d + 3, np.full(n, 3), level=level)
        assert got == pytest.approx(tuple(wanted)), f"{level}: the law's ends are {wanted}, got {got}"
        assert impl.bootstrap_ci(d, level=level) == got, "the mean of one model's scores"


@pytest.mark.only("solution")
@pytest.mark.parametrize(("n", "step"), [(3, 1), (20, 1), (45, 2), (100, 9), (500, 83)])
def test_right_and_wrong_have_the_same_law_by_either_way(
    impl: ModuleType, monkeypatch: pytest.MonkeyPatch, n: int, step: int
) -> None:
    wide = impl.WINDOWS
    tables = [(up, down) for up in range(0, n + 1, step) for down in range(0, n - up + 1, step)]
    for up, down in tables:
        first, second = table(0, up, down, n - up - down)
        for level, method in ((0.95, "percentile"), (0.5, "bca"), (0.999, "bca")):
            monkeypatch.setattr(impl, "WINDOWS", wide)
            found = impl.bootstrap_ci(first, second, level=level, method=method)
            monkeypatch.setattr(impl, "WINDOWS", (0,))
            wanted = impl.bootstrap_ci(first, second, level=level, method=method)
            assert found == wanted, f"{up} up and {down} down of {n}, {method} at {level}: {found} and {wanted}"
            assert down or found[0] >= 0, f"{found[0]}: no resampled mean is below 0 where no difference is"
            assert found == impl.bootstrap_ci(first * 1.0, second * 1.0, level=level, method=method)


@pytest.mark.only("solution")
@pytest.mark.parametrize("outlier", [0, 2500], ids=["smooth", "one outlier"])
@pytest.mark.parametrize("n", [32, 100])
def test_laws_of_any_scores_are_those_of_infinitely_many_resamples(impl: ModuleType, n: int, outlier: int) -> None:
    from scipy import special  # noqa: PLC0415 - the oracle of this test alone

    # Whole numbers too far apart for the grid, whose exact law is at hand all the same.
    d = np.floor(np.random.default_rng(n).exponential(60, n)).astype(int)
    d[0] = outlier or d[0]
    one = np.bincount(d) / n
    size = n * (one.size - 1) + 1  # of all sums: the transform folds nothing over
    law = np.fft.irfft(np.fft.rfft(one, size) ** n, size)
    error = d.std() / math.sqrt(n)
    steps = np.arange(law.size) / n
    assert d.max() - d.min() > 64
    for level in (0.5, 0.95, 0.999):
        ends = impl.bootstrap_ci(d + 3, np.full(n, 3), level=level)
        for cut, end in zip(((1 - level) / 2, (1 + level) / 2), ends, strict=True):
            share = float(law @ special.ndtr((end - steps) * 120 / error))  # with the deviation that is documented
            assert share == pytest.approx(cut, abs=2e-6), f"{share} of the means lie below {end}"
        assert impl.bootstrap_ci(d, level=level) == pytest.approx(np.array(ends)), "the mean of one model's scores"
        tiny = impl.bootstrap_ci(d * 1e-200, level=level)
        assert tiny == pytest.approx(np.array(ends) * 1e-200, rel=1e-9), "scores of any size"


@pytest.mark.only("starter", "solution")
@pytest.mark.parametrize("n", [3, 64, 99, 400, 40_000])
def test_resampled_means_spread_as_they_should(impl: ModuleType, n: int) -> None:
    d = np.random.default_rng(n).normal(size=n)
    runs = 200 if n > 1000 else 4000
    low, high = impl.bootstrap_ci(d, level=0.6827, resamples=runs)
    wanted = 2 * d.std() / math.sqrt(n)
    # A quantile at one deviation of `runs` means is off by sqrt(0.16 * 0.84 / runs) / 0.24 deviations.
    slack = ERRORS * math.sqrt(2 * 0.16 * 0.84 / runs) / 0.24 / 2
    slack += 0.15 if n == 3 else 0  # 27 samples make no bell
    assert abs((high - low) / wanted - 1) < slack, f"{n} items: {high - low:.4g} wide, expected {wanted:.4g}"


@pytest.mark.stretch
@pytest.mark.only("starter", "baseline", "solution")
def test_clustered_errors_by_hand(impl: ModuleType) -> None:
    # Sums of deviations from 2.5: -3, -1, 4; three clusters of two, so each counts 1 / (1 - 1 / 3).
    found = impl.cluster_se([1.0, 1.0, 1.0, 3.0, 4.0, 5.0], ["a", "a", "b", "b", "c", "c"])
    assert found == pytest.approx(math.sqrt(1.5 * (9 + 1 + 16)) / 6), f"got {found}"
    shuffled = impl.cluster_se([5.0, 1.0, 3.0, 1.0, 4.0, 1.0], [9, 0, 7, 0, 9, 7])
    assert shuffled == pytest.approx(found), "neither the order of the items nor the clusters' names matter"


@pytest.mark.stretch
@pytest.mark.only("starter", "baseline", "solution")
def test_a_cluster_for_each_item_is_the_usual_error(impl: ModuleType) -> None:
    x = np.random.default_rng(1).normal(size=40)
    assert impl.cluster_se(x, np.arange(40)) == pytest.approx(x.std(ddof=1) / math.sqrt(40))
    doubled = impl.cluster_se(np.repeat(x, 5), np.repeat(np.arange(40), 5))
    assert doubled == pytest.approx(x.std(ddof=1) / math.sqrt(40)), "five copies of an item say no more than one"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_clustered_differences(impl: ModuleType) -> None:
    from scipy import stats  # noqa: PLC0415 - the oracle of this test alone

    generator = np.random.default_rng(2)
    d, names = generator.normal(0.3, 1, 25), np.repeat(np.arange(25), 4)
    found = impl.clustered_difference(np.repeat(d, 4) + 2, np.full(100, 2.0), names)
    wanted = stats.ttest_1samp(d, 0)
    assert (found.statistic, found.pvalue, found.df) == pytest.approx((wanted.statistic, wanted.pvalue, 24))
    assert found.confidence_interval(0.9) == pytest.approx(tuple(wanted.confidence_interval(0.9)))
    sizes = np.array([40, *[2] * 19])
    uneven = impl.clustered_difference(generator.normal(size=78), np.zeros(78), np.repeat(np.arange(20), sizes))
    assert 1 < uneven.df < 8, f"one cluster has half the items: df of {uneven.df:.1f} claims more than that"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_alike_clusters_have_no_error(impl: ModuleType) -> None:
    with pytest.warns(UserWarning, match="all clusters differ alike"):
        found = impl.clustered_difference([1.1] * 6, [1.0] * 6, [0, 0, 1, 1, 2, 2])
    assert math.isnan(found.pvalue)
    assert found.estimate == pytest.approx(0.1)
    for clusters, words in (([1, 1, 1], "1 cluster, at least two"), ([1, 2], "clusters of shape")):
        with pytest.raises(ValueError, match=words):
            impl.cluster_se([1.0, 2.0, 3.0], clusters)
    with pytest.raises(ValueError, match="NaN"):
        impl.clustered_difference([1.0, math.nan], [0.0, 0.0], [1, 2])


def coverage(impl: ModuleType, clusters: int, runs: int, seed: int) -> tuple[int, int]:
    """Count how often 95 % intervals hold the difference, of right and wrong and of normal scores."""
    generator, hits = np.random.default_rng(seed), [0, 0]
    for _ in range(runs):
        sizes = generator.integers(5, 16, clusters)
        names = np.repeat(np.arange(clusters), sizes)
        hard = generator.beta(2, 2, clusters)[names]  # the chance to be right, shared by the questions to a document
        gain = np.where(hard < 0.5, 0.1, -0.1)
        a, b = generator.random((2, names.size)) < np.stack([hard + gain, hard]).clip(0, 1)
        d = generator.normal(size=clusters)[names] + generator.normal(size=names.size)
        for place, (first, second) in enumerate(((a, b), (d, np.zeros(d.size)))):
            low, high = impl.clustered_difference(first, second, names).confidence_interval(0.95)
            hits[place] += low <= 0 <= high
    return hits[0], hits[1]


@pytest.mark.stretch
@pytest.mark.only("solution")
@pytest.mark.parametrize(
    ("clusters", "runs"),
    [(20, 1200), *(pytest.param(n, 10_000, marks=pytest.mark.slow) for n in (20, 30, 100))],
)
def test_cluster_intervals_cover(impl: ModuleType, clusters: int, runs: int) -> None:
    allowed = 3 * math.sqrt(0.95 * 0.05 / runs)  # false alarms: below 1 in 300 a side, were the coverage on the edge
    for kind, hits in zip(("right and wrong", "scores"), coverage(impl, clusters, runs, 7), strict=True):
        share = hits / runs
        assert 0.93 - allowed <= share <= 0.97 + allowed, f"{kind}, {clusters} clusters: {share:.2%} covered"


@pytest.mark.stretch
@pytest.mark.only("starter", "baseline", "solution")
def test_areas_by_hand(impl: ModuleType) -> None:
    # Of 3 x 2 pairs 4 are in order and one is a tie. Parts: 1, 1, 0.25 and 2/3, 5/6.
    found = impl.delong([1, 1, 1, 0, 0], [5.0, 4.0, 2.0, 3.0, 2.0])
    assert found.estimate == pytest.approx(4.5 / 6), f"4 pairs of 6 in order and one tied: 0.75, got {found.estimate}"
    error = math.sqrt(0.1875 / 3 + (1 / 6) ** 2 / 2 / 2)
    assert found.standard_error == pytest.approx(error), f"the error is {error:.6f}, got {found.standard_error:.6f}"
    assert found.statistic == pytest.approx(0.25 / error)


@pytest.mark.stretch
@pytest.mark.only("starter", "baseline", "solution")
def test_two_areas_are_compared_on_the_same_items(impl: ModuleType) -> None:
    generator = np.random.default_rng(3)
    y = generator.integers(0, 2, 400)
    signal = y + generator.normal(size=400)
    a, b = signal, signal + generator.normal(0, 0.3, 400)
    found, one, two = impl.delong(y, a, b), impl.delong(y, a), impl.delong(y, b)
    assert found.estimate == pytest.approx(one.estimate - two.estimate)
    apart = math.hypot(one.standard_error, two.standard_error)
    assert found.standard_error < 0.5 * apart, "the scores go together, so their difference is surer than two areas"
    assert impl.delong(y, b, a).pvalue == pytest.approx(found.pvalue)
    monotone = impl.delong(y, np.exp(a), b)
    assert monotone.pvalue == pytest.approx(found.pvalue), "only the order of the scores matters"


@pytest.mark.stretch
@pytest.mark.only("solution")
def test_areas_of_many_items_agree_with_all_pairs(impl: ModuleType) -> None:
    from stats.pairing import baseline  # noqa: PLC0415 - the oracle of this test alone

    generator = np.random.default_rng(4)
    y = generator.integers(0, 2, 700)
    a, b = np.round(y + generator.normal(size=(2, 700)), 1)  # with ties
    found, wanted = impl.delong(y, a, b), baseline.delong(y, a, b)
    assert found.estimate == pytest.approx(wanted.estimate, abs=1e-13)
    assert found.standard_error == pytest.approx(wanted.standard_error, rel=1e-10)
    assert found.pvalue == pytest.approx(wanted.pvalue, rel=1e-9)


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_areas_that_say_nothing(impl: ModuleType) -> None:
    with pytest.warns(UserWarning, match="no spread"):
        found = impl.delong([1, 1, 0, 0], [4.0, 3.0, 2.0, 1.0])
    assert (found.estimate, math.isnan(found.pvalue)) == (1.0, True)
    for labels, words in (([1, 1, 1, 0], "two of each"), ([2, 0, 1, 0], "0 or 1"), ([1, 0], "shapes")):
        with pytest.raises(ValueError, match=words):
            impl.delong(labels, [1.0, 2.0, 3.0, 4.0])


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_two_samples_are_shared_out_in_all_ways(impl: ModuleType) -> None:
    found = impl.permutation_test([7.0, 5.0, 9.0], [1.0, 2.0, 6.0, 0.5], paired=False)
    # Four of them sum to 9.5, 7.93 below what is expected: so do 0.5 1 2 5, and, above, 5 6 7 9 with 27.
    assert found.pvalue == pytest.approx(3 / 35), f"3 of 35 ways are as far apart, got {found.pvalue * 35:.2f}"
    assert found.estimate == pytest.approx(7 - 2.375)
    assert found.n == 7


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_two_samples_of_right_and_wrong_are_fishers(impl: ModuleType) -> None:
    from scipy import stats  # noqa: PLC0415 - the oracle of this test alone

    for m, up, k, down in ((10, 9, 10, 3), (40, 17, 40, 29), (3, 0, 5, 5), (50, 20, 50, 20)):
        a, b = np.arange(m) < up, np.arange(k) < down
        found = impl.permutation_test(a, b, paired=False).pvalue
        law = stats.hypergeom(m + k, up + down, m)
        far = abs(up - m * (up + down) / (m + k)) - 1e-9
        x = np.arange(m + 1)
        wanted = law.pmf(x[np.abs(x - m * (up + down) / (m + k)) >= far]).sum()
        assert found == pytest.approx(wanted, rel=1e-9), f"{up} of {m} and {down} of {k}: {wanted:.6g}, got {found:.6g}"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
@pytest.mark.parametrize(("m", "k"), [(30, 30), (12, 60), (70, 9)])
def test_two_samples_are_sampled(impl: ModuleType, m: int, k: int) -> None:
    generator = np.random.default_rng(m)
    a, b = generator.gamma(2.0, size=m) + 0.4, generator.gamma(2.0, size=k)
    found = impl.permutation_test(a, b, paired=False, resamples=4000, seed=1).pvalue
    z = generator.permuted(np.tile(np.concatenate([a, b]), (40_000, 1)), axis=1)
    wanted = float(np.mean(np.abs(z[:, :m].mean(1) - z[:, m:].mean(1)) >= abs(a.mean() - b.mean()) - 1e-12))
    error = math.sqrt(wanted * (1 - wanted) * (1 / 4000 + 1 / 40_000))
    assert abs(found - wanted) <= ERRORS * error + 1 / 4000, f"p is {wanted:.4f} +- {error:.4f}, got {found:.4f}"


@pytest.mark.only("solution")
def test_subsets_are_all_equally_likely(impl: ModuleType) -> None:
    for n, m in ((9, 4), (8, 1), (10, 9), (5, 3)):
        runs, ways = 30_000, math.comb(n, m)
        bits = np.unpackbits(impl._subsets(n, m, runs, np.random.default_rng(n)), axis=0)  # noqa: SLF001
        assert (bits[:n].sum(0) == m).all()
        assert not bits[n:].any()
        counts = np.bincount((1 << np.arange(n)) @ bits[:n])
        seen = counts[counts > 0]
        assert seen.size == ways
        # Chi-square with ways - 1 degrees of freedom: five deviations above its mean come once in a million runs or so.
        gap = float(((seen - runs / ways) ** 2).sum() * ways / runs)
        assert gap < ways - 1 + 5 * math.sqrt(2 * (ways - 1)) + 10, f"{m} of {n}: chi-square {gap:.1f}"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
@pytest.mark.parametrize("n", [14, 16])
def test_the_saddlepoint_is_near_the_exact_tail(impl: ModuleType, n: int) -> None:
    generator = np.random.default_rng(n)
    for shift in (0.0, 0.4, 0.8, 1.5):
        d, zeros = generator.normal(shift, 1, n), np.zeros(n)
        exact = impl.permutation_test(d, zeros, resamples=2**n).pvalue
        found = impl.permutation_test(d, zeros, method="saddlepoint").pvalue
        # Relative error of the order of 1 / n, or where few patterns are left, one of them.
        assert abs(found - exact) <= exact / n + 2 / 2**n, f"the exact p is {exact:.5g}, got {found:.5g}"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_the_saddlepoint_reaches_where_no_sample_does(impl: ModuleType) -> None:
    d = np.arange(1.0, 41.0)
    found = impl.permutation_test(d, np.zeros(40), method="saddlepoint").log_pvalue
    assert found == pytest.approx(-39 * math.log(2)), "one pattern and its mirror of 2**40"
    d[0] = -1.0
    found = impl.permutation_test(d, np.zeros(40), method="saddlepoint").log_pvalue
    wanted = math.log(4) - 40 * math.log(2)  # all plus, all but the 1, and their mirrors
    assert found == pytest.approx(wanted, abs=0.5), f"log p is {wanted:.2f}, got {found:.2f}"
    large = np.random.default_rng(0).normal(1, 1, 5000)
    assert -4000 < impl.permutation_test(large, np.zeros(5000), method="saddlepoint").log_pvalue < -1000
    even = impl.permutation_test([1.0, -2.0, 3.0, -2.0], [0.0] * 4, method="saddlepoint").pvalue
    assert even == pytest.approx(1.0), "a sum of 0 is no evidence at all"
    for options in ({"method": "exact"}, {"method": "saddlepoint", "paired": False}):
        with pytest.raises(ValueError, match="method"):
            impl.permutation_test([1.0, 2.0], [0.0, 0.0], **options)


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
