"""How fast paired tests are, beside scipy."""

import time
from typing import Any

import numpy as np
import pytest

from harness.race import Race


def scores(n: int, *, binary: bool) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(n)
    skill = generator.normal(size=n)
    first, second = skill + generator.normal(0.15, 1, n), skill + generator.normal(0, 1, n)
    return ((first > 0).astype(int), (second > 0).astype(int)) if binary else (first, second)


@pytest.mark.parametrize("n", [100, 1_000, 10_000])
def bench_mcnemar(race: Race, n: int) -> None:
    def check(found: Any, a: Any, b: Any) -> None:
        assert 0 < found.pvalue <= 1

    race(
        lambda impl, a, b: impl.mcnemar(a, b),
        inputs=lambda: scores(n, binary=True),
        check=check,
        clock=time.process_time,
        unit="items",
    )


@pytest.mark.parametrize("n", [50, 200, 1_000])
def bench_permutation_test(race: Race, n: int) -> None:
    def check(found: Any, a: Any, b: Any) -> None:
        assert 0 < found.pvalue <= 1

    race(
        lambda impl, a, b: impl.permutation_test(a, b, resamples=10_000),
        inputs=lambda: scores(n, binary=False),
        check=check,
        clock=time.process_time,
        unit="items, 10,000 patterns",
    )


@pytest.mark.parametrize("binary", [True, False], ids=["right or wrong", "scores"])
@pytest.mark.parametrize("n", [100, 1_000, 3_000])
def bench_bootstrap_ci(race: Race, n: int, binary: bool) -> None:
    def check(found: Any, a: Any, b: Any) -> None:
        assert found[0] < (a - b).mean() < found[1]

    race(
        lambda impl, a, b: impl.bootstrap_ci(a, b, resamples=10_000),
        inputs=lambda: scores(n, binary=binary),
        check=check,
        clock=time.process_time,
        unit="items, 10,000 resamples",
    )


@pytest.mark.parametrize("n", [50, 200, 1_000])
def bench_two_samples(race: Race, n: int) -> None:
    def check(found: Any, a: Any, b: Any) -> None:
        assert 0 < found.pvalue <= 1
        assert found.n == a.size + b.size, "only those who share the scores out may race"

    race(
        lambda impl, a, b: impl.permutation_test(a, b, paired=False, resamples=10_000),
        inputs=lambda: (scores(n, binary=False)[0], scores(n + 7, binary=False)[1]),
        check=check,
        clock=time.process_time,
        unit="items each, 10,000 ways",
    )


@pytest.mark.parametrize("n", [200, 1_000, 5_000])
def bench_delong(race: Race, n: int) -> None:
    labels = np.arange(n) % 2

    def check(found: Any, y: Any, a: Any, b: Any) -> None:
        assert found.standard_error > 0

    race(
        lambda impl, y, a, b: impl.delong(y, a, b),
        inputs=lambda: (labels, *(labels + x for x in scores(n, binary=False))),
        check=check,
        clock=time.process_time,
        unit="items",
    )
