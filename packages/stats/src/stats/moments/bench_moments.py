"""How fast a stream is summed up, beside keeping everything for numpy and scipy."""

import time
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from harness.race import Race


@pytest.mark.parametrize("n", [1_000, 30_000, 1_000_000], ids=["1e3", "3e4", "1e6"])
def bench_four_moments(race: Race, n: int) -> None:
    values = np.random.default_rng(0).gamma(2.0, size=n)

    def run(impl: ModuleType, values: np.ndarray) -> Any:
        moments = impl.Moments()
        moments.update(values)
        return moments.mean, moments.variance, moments.skewness, moments.kurtosis

    def check(found: Any, values: np.ndarray) -> None:
        assert abs(found[1] - values.var(ddof=1)) < 1e-9 * found[1]

    race(run, inputs=lambda: (values,), check=check, bytes=8 * n, clock=time.process_time, unit="values")


@pytest.mark.parametrize(
    ("n", "centre"),
    [(100_000, 0.0), (4_000_000, 0.0), (100_000_000, 0.0), (100_000_000, 10.0)],
    ids=["1e5", "4e6", "1e8", "1e8 distant"],
)
def bench_mean_and_variance(race: Race, n: int, centre: float) -> None:
    """Ask what a t-test asks: a stream in chunks of 1e6 beside ``ttest_1samp``, which gets the whole array at once."""
    values = np.random.default_rng(0).gamma(2.0, size=n)
    values += centre

    def prepare(impl: ModuleType) -> ModuleType:
        if impl.__name__.endswith("baseline"):
            pytest.skip("one value at a time, see the four moments")
        return impl

    def run(impl: ModuleType, values: np.ndarray) -> float:
        if impl.__name__.endswith("peer_scipy"):
            return float(impl.t_statistic(values))
        moments = impl.Moments(order=2)
        for start in range(0, n, 1_000_000):
            moments.update(values[start : start + 1_000_000])
        return float(moments.mean / (moments.variance / n) ** 0.5)

    def check(found: float, values: np.ndarray) -> None:
        assert abs(found * values.std(ddof=1) / n**0.5 - values.mean()) < 1e-12 * values.mean()

    race(
        run, inputs=lambda: (values,), check=check, prepare=prepare, bytes=8 * n, clock=time.process_time, unit="values"
    )
