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
