"""How fast t-tests are, beside scipy, statsmodels and pingouin, with the whole result."""

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.race import Race


def pairs(*shape: int, mean: float = 0.0) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    """Return what draws two fresh samples each time."""
    seeds = itertools.count()

    def draw() -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(next(seeds))
        return generator.normal(mean + 0.2, 1, shape), generator.normal(mean, 1.3, shape)

    return draw


def sound(found: Any, *_: Any) -> None:
    statistic, pvalue = found
    assert np.shape(statistic) == np.shape(found.log_pvalue)
    assert ((np.asarray(pvalue) > 0) & (np.asarray(pvalue) <= 1)).all()


@pytest.mark.parametrize("equal_var", [True, False], ids=["Student", "Welch"])
@pytest.mark.parametrize("n", [10, 100, 10_000])
def bench_ttest_ind(race: Race, n: int, equal_var: bool) -> None:
    race(
        lambda impl, a, b: impl.ttest_ind(a, b, equal_var=equal_var),
        inputs=pairs(n),
        check=sound,
        clock=time.process_time,
        unit="values a sample",
    )


@pytest.mark.parametrize("n", [10, 100, 10_000])
def bench_ttest_rel(race: Race, n: int) -> None:
    race(lambda impl, a, b: impl.ttest_rel(a, b), inputs=pairs(n), check=sound, clock=time.process_time, unit="pairs")


@pytest.mark.parametrize("n", [10, 100, 10_000])
def bench_ttest_1samp(race: Race, n: int) -> None:
    race(
        lambda impl, a, _: impl.ttest_1samp(a, 0.1),
        inputs=pairs(n),
        check=sound,
        clock=time.process_time,
        unit="values",
    )


@pytest.mark.parametrize("tests", [100, 1_000, 10_000])
def bench_many(race: Race, tests: int) -> None:
    race(
        lambda impl, a, b: impl.ttest_ind(a, b, axis=1),
        inputs=pairs(tests, 100),
        check=sound,
        clock=time.process_time,
        unit="tests of 100 against 100 values",
    )


@pytest.mark.parametrize("tests", [1_000, 10_000])
def bench_many_about_a_hundred(race: Race, tests: int) -> None:
    race(
        lambda impl, a, b: impl.ttest_ind(a, b, axis=1),
        inputs=pairs(tests, 100, mean=100.0),
        check=sound,
        clock=time.process_time,
        unit="tests of 100 against 100 values",
    )


@pytest.mark.parametrize("n", [10, 100, 10_000])
def bench_f_oneway(race: Race, n: int) -> None:
    race(
        lambda impl, a, b: impl.f_oneway(a, b, a - b),
        inputs=pairs(n),
        check=sound,
        clock=time.process_time,
        unit="values in each of 3 samples",
    )
