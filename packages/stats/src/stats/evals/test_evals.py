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
    with pytest.raises(ValueError, match="bins is 0"):
        impl.calibration_error([0.5], [1], bins=0)
    with pytest.raises(ValueError, match="empty"):
        impl.calibration_error([], [])
