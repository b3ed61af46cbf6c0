"""What every implementation of ``capacity.canary`` has to do."""

from math import inf
from statistics import NormalDist
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity.canary import Test


def power(before: float, after: float, canary: float, control: float, test: Test) -> float:
    """Return the chance to see the shift, by the definition."""
    pooled = (after * canary + before * control) / (canary + control)
    null = (pooled * (1 - pooled) * (1 / canary + 1 / control)) ** 0.5
    real = (after * (1 - after) / canary + before * (1 - before) / control) ** 0.5
    alarm = NormalDist().inv_cdf(1 - test.alpha / (2 if test.two_sided else 1))
    return 1 - NormalDist(abs(after - before), real).cdf(alarm * null)


@pytest.mark.parametrize(
    ("before", "after", "share", "test"),
    [
        (0.02, 0.03, 0.5, Test()),
        (0.02, 0.03, 0.05, Test()),
        (0.03, 0.02, 0.5, Test(two_sided=True)),
        (0.5, 0.6, 0.2, Test(0.01, 0.95)),
        (0.001, 0.004, 0.5, Test(0.05, 0.5)),
    ],
)
def test_just_enough_power(impl: ModuleType, before: float, after: float, share: float, test: Test) -> None:
    n = impl.samples_needed(before, after, share, test)
    more, less = (power(before, after, m, m * (1 - share) / share, test) for m in (n, n - 1))
    assert less < test.power <= more + 1e-12, (
        f"{before} to {after} with {share:.0%}: {n} requests have power {more:.6f}, one less {less:.6f}, "
        f"{test.power} is asked for"
    )


def test_a_real_experiment_sees_it_as_often(impl: ModuleType) -> None:
    # 4,000 experiments: the share that sees it has a standard error of 0.0063; 4 of them, once in 16,000 seeds
    n, rng = impl.samples_needed(0.10, 0.13), np.random.default_rng(0)
    canary, control = rng.binomial(n, 0.13, 4000) / n, rng.binomial(n, 0.10, 4000) / n
    pooled = (canary + control) / 2
    seen = float(((canary - control) / np.sqrt(pooled * (1 - pooled) * 2 / n) > 1.6449).mean())
    assert abs(seen - 0.8) < 4 * 0.0063 + 0.01, (
        f"{n} requests see 10 % to 13 % in {seen:.1%} of experiments, 80 % asked"
    )


def test_a_small_canary_needs_fewer_of_its_own(impl: ModuleType) -> None:
    # Nearly equal variances: the canary needs 1 + 1 / k, where the control is k times as large
    half, twentieth = impl.samples_needed(0.50, 0.52, 0.5), impl.samples_needed(0.50, 0.52, 0.05)
    wanted = (1 + 1 / 19) / 2
    assert twentieth / half == pytest.approx(wanted, rel=0.01), (
        f"{twentieth} at 5 %, {half} at 50 %: a control 19 times as large makes it {wanted:.3f} times as many"
    )


def test_days(impl: ModuleType) -> None:
    assert impl.days_needed(86_400, 1.0, 1.0) == pytest.approx(1.0)
    assert impl.days_needed(86_400, 10.0, 0.05) == pytest.approx(2.0)
    assert impl.days_needed(86_400, 10.0, 0.05, 0.02) == pytest.approx(100.0)
    assert impl.days_needed(1, 0.0) == inf
    assert impl.days_needed(0, 0.0) == 0


@pytest.mark.parametrize(("requests", "confidence", "wanted"), [(100, 0.95, 0.029513), (1, 0.95, 0.95), (0, 0.9, 1.0)])
def test_no_failure_proves_little(impl: ModuleType, requests: int, confidence: float, wanted: float) -> None:
    found = impl.rule_of_three(requests, confidence)
    assert found == pytest.approx(wanted, rel=1e-4), (
        f"none of {requests} failed: at most {found:.6f}, {wanted} expected"
    )


@settings(max_examples=30)
@given(st.integers(30, 100_000))
def test_the_rule_of_three(impl: ModuleType, requests: int) -> None:
    found = impl.rule_of_three(requests)
    assert 0.93 * 3 / requests < found <= 3 / requests, f"{found} is not about 3 / {requests}"


@pytest.mark.parametrize(("rate", "confidence", "wanted"), [(0.01, 0.95, 299), (0.5, 0.75, 2), (0.1, 0.99, 44)])
def test_so_many_without_failure(impl: ModuleType, rate: float, confidence: float, wanted: int) -> None:
    found = impl.requests_without_failure(rate, confidence)
    assert found == wanted, f"to rule out {rate}: {found} without failure, {wanted} expected"


@pytest.mark.only("starter", "solution")
def test_impossible_canaries(impl: ModuleType) -> None:
    with pytest.raises(ValueError, match="two different rates"):
        impl.samples_needed(0.1, 0.1)
    with pytest.raises(ValueError, match="different rates between 0 and 1, not"):
        impl.samples_needed(0.1, 1.2)
    with pytest.raises(ValueError, match="share must lie between 0 and 1, not 1"):
        impl.samples_needed(0.1, 0.2, 1.0)
    with pytest.raises(ValueError, match="must not be negative"):
        impl.days_needed(-1, 1.0)
    with pytest.raises(ValueError, match="confidence lie between 0 and 1"):
        impl.rule_of_three(1, 1.0)
    with pytest.raises(ValueError, match="rate and confidence"):
        impl.requests_without_failure(0.0)


# Stretch


@pytest.mark.stretch
@pytest.mark.parametrize(
    ("deviation", "shift", "share", "test", "wanted"),
    [
        (1.0, 0.1, 0.5, Test(two_sided=True), 1570),  # 2 * ((1.96 + 0.8416) / 0.1) ** 2
        (1.0, -0.1, 0.5, Test(), 1237),
        (2.0, 0.1, 0.5, Test(), 4947),
        (1.0, 0.1, 0.05, Test(), 651),
    ],
)
def test_means(impl: ModuleType, deviation: float, shift: float, share: float, test: Test, wanted: int) -> None:
    found = impl.samples_for_mean(deviation, shift, share, test)
    assert found == wanted, f"deviation {deviation}, shift {shift}, share {share}: {found}, {wanted} expected"


# Pocock 1977, table 1, two-sided 0.05 and 0.01 are one-sided 0.025 and 0.005 (but for walks that cross both ends)
@pytest.mark.stretch
@pytest.mark.parametrize(
    ("looks", "alpha", "wanted"), [(1, 0.05, 1.645), (2, 0.025, 2.178), (5, 0.025, 2.413), (5, 0.005, 2.986)]
)
def test_looking_often_costs(impl: ModuleType, looks: int, alpha: float, wanted: float) -> None:
    found = impl.looks_boundary(looks, alpha)
    assert found == pytest.approx(wanted, abs=2e-3), f"{looks} looks, {alpha}: z above {found:.4f}, {wanted} published"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_impossible_looks(impl: ModuleType) -> None:
    with pytest.raises(ValueError, match="shift not 0"):
        impl.samples_for_mean(1.0, 0.0)
    with pytest.raises(ValueError, match="looks must lie between 1 and 50"):
        impl.looks_boundary(0)
