"""How fast experiments are analysed."""

import time
from typing import Any

import numpy as np
import pytest

from harness.race import Race


def metrics(n: int) -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng(n)
    x, y = generator.gamma(2.0, size=(2, n))
    return x + generator.standard_exponential(n) + 0.05, y + generator.standard_exponential(n), x, y


@pytest.mark.parametrize("n", [1_000, 10_000, 100_000])
def bench_cuped(race: Race, n: int) -> None:
    def check(found: Any, *_: Any) -> None:
        assert -0.5 < found.estimate < 0.5

    race(
        lambda impl, a, b, x, y: impl.cuped(a, b, x, y),
        inputs=lambda: metrics(n),
        check=check,
        clock=time.process_time,
        unit="units an arm",
    )


@pytest.mark.parametrize("arms", [2, 4, 16])
def bench_srm(race: Race, arms: int) -> None:
    counts = np.random.default_rng(arms).multinomial(100_000, [1 / arms] * arms).tolist()

    def check(found: Any) -> None:
        assert 0 < found.pvalue < 1

    race(lambda impl: impl.srm(counts, [1 / arms] * arms), check=check, clock=time.process_time, unit="arms")


@pytest.mark.parametrize("n", [100, 1_000, 10_000])
def bench_tost(race: Race, n: int) -> None:
    def check(found: Any, *_: Any) -> None:
        assert 0 <= found.pvalue < 1

    race(
        lambda impl, a, b, x, y: impl.tost(a, b, -0.3, 0.3),
        inputs=lambda: metrics(n),
        check=check,
        clock=time.process_time,
        unit="units an arm",
    )


@pytest.mark.parametrize("n", [1_000, 10_000, 100_000])
def bench_msprt(race: Race, n: int) -> None:
    generator = np.random.default_rng(n)
    y, arm = generator.normal(size=n), generator.random(n) < 0.5

    def check(found: Any) -> None:
        assert (found.low < 0.5).all()

    race(lambda impl: impl.msprt(y, arm), check=check, clock=time.process_time, unit="peeks")
