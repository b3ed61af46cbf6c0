"""How fast power and numbers of items are found."""

import time

import pytest

from harness.race import Race


@pytest.mark.parametrize("n", [10, 100, 2_000])
def bench_power_ttest(race: Race, n: int) -> None:
    def check(found: float) -> None:
        assert 0.05 < found < 1

    race(lambda impl: impl.power_ttest(0.1, n), check=check, clock=time.process_time, unit="items each, d = 0.1")


@pytest.mark.parametrize("d", [1.0, 0.3, 0.05])
def bench_solve_power(race: Race, d: float) -> None:
    def check(found: float) -> None:
        # The normal law's answer is short by less than 4 items of the exact one.
        assert 0 < found - 2 * ((1.959964 + 0.841621) / d) ** 2 < 4

    race(
        lambda impl: impl.solve_power("ttest", effect=d, power=0.8),
        check=check,
        clock=time.process_time,
        unit="standard deviations, 80 % power",
    )


@pytest.mark.parametrize("n", [20, 200, 2_000])
def bench_power_tost(race: Race, n: int) -> None:
    def check(found: float) -> None:
        assert 0.8 < found < 1

    margin = 3.2 * (2 / n) ** 0.5  # of 3.2 standard errors, so that the power is one that somebody plans for
    race(lambda impl: impl.power_tost(0.0, n, margin), check=check, clock=time.process_time, unit="items each")


@pytest.mark.parametrize("n", [100, 1_000, 100_000])
def bench_power_proportions(race: Race, n: int) -> None:
    def check(found: float) -> None:
        assert 0.05 < found <= 1

    race(
        lambda impl: impl.power_proportions(0.51, 0.5, n),
        check=check,
        clock=time.process_time,
        unit="items, 51 and 50 %",
    )
