"""What every implementation of ``stats.evals`` has to do."""

import math
from fractions import Fraction
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("n", "c", "k", "wanted"),
    [
        (10, 3, 1, Fraction(3, 10)),
        (10, 3, 5, Fraction(11, 12)),
        (10, 0, 5, 0),
        (10, 10, 1, 1),
        (10, 6, 5, 1),
        (5, 2, 5, 1),
    ],
)
def test_pass_at_k_draws_without_replacement(impl: ModuleType, n: int, c: int, k: int, wanted: Fraction) -> None:
    found = float(impl.pass_at_k(n, c, k))
    words = f"{c} of {n} samples are right: one of {k} is with chance {float(wanted):.6g}, got {found:.6g}"
    assert found == pytest.approx(float(wanted), abs=1e-12), words


def test_pass_at_k_of_many_tasks(impl: ModuleType) -> None:
    found = impl.pass_at_k([10, 20, 5], [0, 10, 5], 2)
    assert found.shape == (3,)
    wanted = [0, 1 - (10 * 9) / (20 * 19), 1]
    assert np.allclose(found, wanted), f"three tasks want {wanted}, got {found.tolist()}"
    assert impl.pass_at_k(8, [[1, 2], [3, 4]], 3).shape == (2, 2)


def test_pass_at_k_of_many_samples_neither_overflows_nor_rounds_to_nothing(impl: ModuleType) -> None:
    wanted = float(1 - Fraction(math.comb(1999, 1000), math.comb(2000, 1000)))
    assert float(impl.pass_at_k(2000, 1, 1000)) == pytest.approx(wanted, rel=1e-9)


@settings(max_examples=40)
@given(st.integers(1, 60), st.integers(0, 60), st.integers(1, 60))
def test_pass_at_k_is_the_exact_ratio(impl: ModuleType, n: int, c: int, k: int) -> None:
    c, k = min(c, n), min(k, n)
    wanted = float(1 - Fraction(math.comb(n - c, k), math.comb(n, k)))
    assert float(impl.pass_at_k(n, c, k)) == pytest.approx(wanted, abs=1e-12)


def test_kappa_by_hand(impl: ModuleType) -> None:
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    found = impl.cohens_kappa(first, second)
    assert found == pytest.approx(0.4), f"35 of 50 agree where habits give 25: kappa is 0.4, got {found:.4g}"


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_weighted_kappa_by_hand(impl: ModuleType, weights: str) -> None:
    # Chance is every label of one judge against every label of the other.
    first, second = [1, 2, 3, 3], [1, 1, 2, 3]
    power = {"none": 0, "linear": 1, "quadratic": 2}[weights]

    def cost(x: int, y: int) -> int:
        return int(abs(x - y) ** power) if x != y else 0

    observed = sum(cost(x, y) for x, y in zip(first, second, strict=True)) / 4
    expected = sum(cost(x, y) for x in first for y in second) / 16
    found = impl.cohens_kappa(first, second, weights=weights)
    assert found == pytest.approx(1 - observed / expected), (
        f"{weights}: kappa is {1 - observed / expected}, got {found}"
    )


def test_full_agreement_and_habit_alone(impl: ModuleType) -> None:
    assert impl.cohens_kappa([0, 1, 2, 1], [0, 1, 2, 1]) == pytest.approx(1.0)
    assert impl.cohens_kappa([0, 0, 1, 1], [0, 1, 0, 1]) == pytest.approx(0.0)
    assert impl.cohens_kappa([0, 1, 0, 1], [1, 0, 1, 0]) == pytest.approx(-1.0)


def test_one_label_throughout_says_nothing(impl: ModuleType) -> None:
    assert math.isnan(impl.cohens_kappa(["a"] * 5, ["a"] * 5))


def test_labels_that_one_judge_never_gives(impl: ModuleType) -> None:
    found = impl.cohens_kappa([0, 0, 0, 0], [0, 0, 1, 2])
    assert found == pytest.approx(0.0), f"a judge who always says 0 agrees by chance only: kappa is 0, got {found}"


def test_calibration_by_hand(impl: ModuleType) -> None:
    found = impl.calibration_error([0.95, 0.95, 0.95, 0.95, 0.65, 0.65], [1, 1, 1, 0, 1, 0])
    wanted = 4 / 6 * 0.2 + 2 / 6 * 0.15
    assert found == pytest.approx(wanted), f"bins off by 0.2 and 0.15 with 4 and 2 items: {wanted:.4g}, got {found:.4g}"


def test_perfect_and_worst_calibration(impl: ModuleType) -> None:
    assert impl.calibration_error([0.5, 0.5], [1, 0]) == pytest.approx(0)
    assert impl.calibration_error([1.0, 1.0], [0, 0]) == pytest.approx(1)
    assert impl.calibration_error([0.0, 1.0], [0, 1]) == pytest.approx(0), "0 and 1 belong to the first and last bin"


def test_errors_in_one_bin_cancel_and_across_bins_do_not(impl: ModuleType) -> None:
    assert impl.calibration_error([0.72, 0.78], [1, 0], bins=10) == pytest.approx(0.25)
    assert impl.calibration_error([0.72, 0.78], [1, 0], bins=100) == pytest.approx((0.28 + 0.78) / 2)


def test_a_bin_holds_its_upper_edge(impl: ModuleType) -> None:
    # 0.2 lies with 0.15 and not with 0.25: apart they would cost (0.35 + 0.55) / 3, or so.
    found = impl.calibration_error([0.15, 0.2, 0.25], [1, 0, 0], bins=5)
    assert found == pytest.approx((abs(0.35 - 1) + 0.25) / 3), f"0.2 is the upper edge of the first of 5 bins: {found}"


_ = math.nan
# Krippendorff 2011, section D: four raters, twelve items, the last of which has one rating only.
FOUR_RATERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
    [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
]


@pytest.mark.parametrize(("level", "wanted"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_krippendorffs_example(impl: ModuleType, level: str, wanted: float) -> None:
    found = impl.krippendorff_alpha(FOUR_RATERS, level=level)
    assert found == pytest.approx(wanted, abs=5e-4), f"{level}: published as {wanted}, got {found:.4f}"


def test_alpha_by_hand(impl: ModuleType) -> None:
    # Items aa, ab, bb, b: the last counts nowhere. Of 6 ratings 3 are a: 2 / 6 disagree where 18 / 30 do by chance.
    found = impl.krippendorff_alpha([["a", "a", "b", "b"], ["a", "b", "b", None]])
    assert found == pytest.approx(1 - (2 / 6) / (18 / 30)), f"alpha is {1 - (2 / 6) / (18 / 30):.4f}, got {found:.4f}"


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from(["nominal", "ordinal", "interval"]))
def test_alpha_is_one_minus_observed_over_expected_disagreement(impl: ModuleType, seed: int, level: str) -> None:
    generator = np.random.default_rng(seed)
    ratings = generator.choice([1.0, 2.0, 4.0, 7.0], (4, 8))
    ratings[generator.random((4, 8)) < 0.3] = math.nan
    ratings[:2, 0] = 1, 2  # at least one item with two ratings, and two values
    items = [[x for x in column if x == x] for column in ratings.T]  # noqa: PLR0124
    items = [item for item in items if len(item) > 1]
    pooled = [x for item in items for x in item]

    def cost(x: float, y: float) -> float:
        between = [z for z in pooled if min(x, y) <= z <= max(x, y)]
        ranks = len(between) - (pooled.count(x) + pooled.count(y)) / 2
        return {"nominal": float(x != y), "ordinal": ranks**2 * (x != y), "interval": (x - y) ** 2}[level]

    observed = sum(sum(cost(x, y) for x in item for y in item) / (len(item) - 1) for item in items)
    expected = sum(cost(x, y) for x in pooled for y in pooled) / (len(pooled) - 1)
    found = impl.krippendorff_alpha(ratings, level=level)
    assert found == pytest.approx(1 - observed / expected, abs=1e-12), f"{level}: {ratings.tolist()}"


def test_alpha_of_full_agreement_and_of_one_value(impl: ModuleType) -> None:
    assert impl.krippendorff_alpha([[1, 2, 3], [1, 2, 3], [1, 2, 3]], level="ordinal") == pytest.approx(1)
    assert impl.krippendorff_alpha([[0, 1], [1, 0]]) == pytest.approx(-0.5), "two raters who always disagree"


@pytest.mark.known("peer_krippendorff", reason="raises where all ratings are alike")
def test_alpha_of_one_value_throughout_says_nothing(impl: ModuleType) -> None:
    assert math.isnan(impl.krippendorff_alpha([[3, 3], [3, 3]]))


def test_a_judge_that_always_takes_the_first(impl: ModuleType) -> None:
    found = impl.position_bias([1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0])
    assert (found.first_share, found.consistency, found.win_rate, found.n) == (1, 0, 0.5, 6)
    assert found.pvalue == pytest.approx(2 / 2**6), f"six duels changed with the order, all one way: {found.pvalue}"


def test_a_judge_without_a_bias(impl: ModuleType) -> None:
    found = impl.position_bias([1, 0, 1, 0.5, 1], [1, 0, 1, 0.5, 1])
    assert (found.first_share, found.consistency, found.pvalue) == (0.5, 1, 1)
    assert found.win_rate == pytest.approx(0.7), f"A wins 3 of 5 and half of one: 0.7, got {found.win_rate}"


def test_position_bias_by_hand(impl: ModuleType) -> None:
    # 50 duels that A wins in both orders, 12 that go to the first place in both, 3 that go to the second.
    forward, swapped = [1] * 50 + [1] * 12 + [0] * 3, [1] * 50 + [0] * 12 + [1] * 3
    found = impl.position_bias(forward, swapped)
    assert found.first_share == pytest.approx((65 + 9) / 130), f"74 of 130 verdicts for the first, {found.first_share}"
    assert found.consistency == pytest.approx(50 / 65)
    assert found.win_rate == pytest.approx((62 + 53) / 130)
    wanted = 2 * sum(math.comb(15, i) for i in range(4)) / 2**15
    assert found.pvalue == pytest.approx(wanted), f"12 against 3 is p {wanted:.4f}, got {found.pvalue:.4f}"


@pytest.mark.stretch
def test_two_models_have_the_log_odds(impl: ModuleType) -> None:
    found = impl.bradley_terry([[0, 30], [10, 0]])
    assert found[0] - found[1] == pytest.approx(math.log(3), abs=1e-7), f"30 to 10 are log odds of log 3, got {found}"
    assert found.sum() == pytest.approx(0, abs=1e-9), "the mean of the strengths is 0"


@pytest.mark.stretch
def test_ratings_give_the_wins_that_were_seen(impl: ModuleType) -> None:
    wins = np.random.default_rng(0).integers(1, 30, (6, 6)).astype(float)
    s = impl.bradley_terry(wins)
    np.fill_diagonal(wins, 0)
    chance = 1 / (1 + np.exp(s[None, :] - s[:, None]))
    expected = ((wins + wins.T) * chance).sum(1)
    assert np.allclose(expected, wins.sum(1), atol=1e-5), "at the most likely ratings each wins as often as it did"


@pytest.mark.stretch
def test_ratings_of_models_that_never_met_follow_from_others(impl: ModuleType) -> None:
    wins = np.zeros((3, 3))
    wins[0, 1], wins[1, 0], wins[1, 2], wins[2, 1] = 20, 10, 20, 10
    found = impl.bradley_terry(wins)
    assert found[0] - found[2] == pytest.approx(2 * math.log(2), abs=1e-6)


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_ratings_that_do_not_exist_are_refused(impl: ModuleType) -> None:
    for wins in (
        [[0, 5], [0, 0]],
        [[0, 3, 1], [2, 0, 1], [0, 0, 0]],
        [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]],
    ):
        with pytest.raises(ValueError, match="no finite ratings"):
            impl.bradley_terry(wins)
    with pytest.raises(ValueError, match="shape"):
        impl.bradley_terry([[0, 1]])
    with pytest.raises(ValueError, match="negative"):
        impl.bradley_terry([[0, -1], [1, 0]])


@pytest.mark.only("starter", "solution")
def test_bad_input_is_refused(impl: ModuleType) -> None:
    for n, c, k, words in (
        (5, 6, 1, "whole"),
        (5, -1, 1, "whole"),
        (5, 2.5, 1, "whole"),
        (5, 2, 0, "k is 0"),
        (5, 2, 6, "k is 6"),
    ):
        with pytest.raises(ValueError, match=words):
            impl.pass_at_k(n, c, k)
    with pytest.raises(ValueError, match="shapes"):
        impl.cohens_kappa([1, 2], [1])
    with pytest.raises(ValueError, match="empty"):
        impl.cohens_kappa([], [])
    with pytest.raises(ValueError, match="weights"):
        impl.cohens_kappa([1, 2], [1, 2], weights="cubic")
    for p, right in (([1.1], [1]), ([-0.1], [0]), ([math.nan], [1]), ([0.5], [2])):
        with pytest.raises(ValueError, match="between 0 and 1"):
            impl.calibration_error(p, right)
    for ratings, words in (
        ([1, 2, 3], "shape"),
        ([[1, 2], [_, _]], "no item has two"),
        ([[]], "no item has two"),
    ):
        with pytest.raises(ValueError, match=words):
            impl.krippendorff_alpha(ratings)
    with pytest.raises(ValueError, match="level"):
        impl.krippendorff_alpha([[1, 2], [1, 2]], level="ratio")
    with pytest.raises(ValueError, match="no order"):
        impl.krippendorff_alpha([["good", "bad"], ["good", "bad"]], level="ordinal")
    with pytest.raises(ValueError, match="inf"):
        impl.krippendorff_alpha([[1, math.inf], [1, 2]], level="interval")
    with pytest.raises(ValueError, match="verdicts must be"):
        impl.position_bias([1, 2], [0, 1])
    with pytest.raises(ValueError, match="shapes"):
        impl.position_bias([1], [0, 1])
    with pytest.raises(ValueError, match="empty"):
        impl.position_bias([], [])
    with pytest.raises(ValueError, match="bins is 0"):
        impl.calibration_error([0.5], [1], bins=0)
    with pytest.raises(ValueError, match="empty"):
        impl.calibration_error([], [])


@pytest.mark.stretch
def test_the_interval_of_a_duel_is_that_of_the_log_odds(impl: ModuleType) -> None:
    low, high = impl.rating_intervals([[0, 30], [10, 0]])[0]
    # The difference of both strengths has variance 1 / 30 + 1 / 10; a strength is half of it.
    error = math.sqrt(1 / 30 + 1 / 10) / 2
    wanted = math.log(3) / 2 - 1.959964 * error, math.log(3) / 2 + 1.959964 * error
    assert (low, high) == pytest.approx(wanted, abs=1e-5), f"30 to 10: {wanted}, got {(low, high)}"


@pytest.mark.stretch
def test_rating_intervals_hold_the_truth_as_often_as_promised(impl: ModuleType) -> None:
    truth = np.array([0.8, 0.2, 0.0, -0.3, -0.7])
    chance = 1 / (1 + np.exp(truth[None, :] - truth[:, None]))
    generator, runs, held = np.random.default_rng(0), 200, 0
    for _run in range(runs):
        won = np.triu(generator.binomial(60, chance), 1)
        ends = impl.rating_intervals(won + np.tril(60 - won.T, -1), level=0.9)
        held += int(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).sum())
    # The ratings of a run are dependent: runs are the unit, so the bound is that of `runs` draws, four errors wide.
    share, error = held / (5 * runs), math.sqrt(0.09 / runs)
    assert abs(share - 0.9) < 4 * error, f"90 % intervals hold the truth in {share:.3f} of cases"


@pytest.mark.stretch
def test_the_bias_of_one_bin_is_that_of_a_coin(impl: ModuleType) -> None:
    n = 20
    wanted = sum(abs(k - n / 2) * math.comb(n, k) for k in range(n + 1)) / 2**n / n
    found = impl.calibration_bias([0.5] * n, bins=1, resamples=4000)
    # |k - 10| has mean 1.762 and variance 5 - 1.762**2: four errors of 4000 draws.
    assert abs(found - wanted) < 4 * math.sqrt(5 - (n * wanted) ** 2) / n / math.sqrt(4000), (
        f"20 fair coins look off by {wanted:.4f} on average, got {found:.4f}"
    )
    twice = impl.calibration_bias([0.25] * n + [0.75] * n, bins=2, resamples=4000)
    assert twice > found / math.sqrt(2) * 1.1, "errors of different bins do not cancel"
    assert impl.calibration_bias([0.0, 1.0], resamples=5) == 0, "sure and right: nothing to be off by"


@pytest.mark.stretch
@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_the_squared_error_is_right_on_average(impl: ModuleType, shift: float) -> None:
    generator = np.random.default_rng(1)
    found = []
    for _run in range(400):
        p = generator.uniform(0.2, 0.8, 60)
        found.append(impl.squared_calibration_error(p, generator.random(60) < p + shift, bins=5))
    mean, error = float(np.mean(found)), float(np.std(found) / 20)
    assert abs(mean - shift**2) < 4 * error, f"off by {shift}: squared {shift**2:.4f}, on average {mean:.4f}"


@pytest.mark.stretch
def test_the_squared_error_by_hand(impl: ModuleType) -> None:
    # Differences 0.9, -0.1, -0.1 of one bin; the products of different items are -0.09, -0.09 and 0.01.
    found = impl.squared_calibration_error([0.9, 0.9, 0.9, 0.3], [0, 1, 1, 1])
    assert found == pytest.approx(-0.17 / 3), f"the mean of -0.09, -0.09, 0.01 is -0.0567, got {found:.4f}"
    assert math.isnan(impl.squared_calibration_error([0.1, 0.9], [0, 1])), "one item a bin says nothing"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_bad_options_are_refused(impl: ModuleType) -> None:
    with pytest.raises(ValueError, match="level"):
        impl.rating_intervals([[0, 1], [1, 0]], level=95)
    with pytest.raises(ValueError, match="resamples is 0"):
        impl.calibration_bias([0.5], resamples=0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        impl.calibration_bias([1.5])
    with pytest.raises(ValueError, match="bins is 0"):
        impl.squared_calibration_error([0.5], [1], bins=0)
