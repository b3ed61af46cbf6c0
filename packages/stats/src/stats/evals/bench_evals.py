"""How fast evaluations are summed up."""

import time
from typing import Any

import numpy as np
import pytest

from harness.race import Race


@pytest.mark.parametrize("tasks", [100, 1_000, 10_000])
def bench_pass_at_k(race: Race, tasks: int) -> None:
    correct = np.random.default_rng(0).integers(0, 101, tasks)

    def check(found: Any) -> None:
        assert ((found >= 0) & (found <= 1)).all()

    race(lambda impl: impl.pass_at_k(100, correct, 10), check=check, clock=time.process_time, unit="tasks, n=100, k=10")


@pytest.mark.parametrize("n", [100, 300, 1_000])
def bench_cohens_kappa(race: Race, n: int) -> None:
    generator = np.random.default_rng(0)
    first = generator.integers(0, 5, n)
    second = np.where(generator.random(n) < 0.7, first, generator.integers(0, 5, n))

    def check(found: float) -> None:
        assert 0.4 < found < 0.95

    race(lambda impl: impl.cohens_kappa(first, second), check=check, clock=time.process_time, unit="items, 5 labels")


@pytest.mark.parametrize("n", [1_000, 10_000, 100_000])
def bench_calibration_error(race: Race, n: int) -> None:
    generator = np.random.default_rng(0)
    confidence = generator.random(n)
    correct = generator.random(n) < confidence

    def check(found: float) -> None:
        assert 0 <= found < 0.1

    race(lambda impl: impl.calibration_error(confidence, correct), check=check, clock=time.process_time, unit="items")


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize("items", [30, 100, 300])
def bench_krippendorff_alpha(race: Race, items: int, level: str) -> None:
    generator = np.random.default_rng(0)
    ratings = np.clip(generator.integers(1, 6, items) + generator.integers(-1, 2, (4, items)), 1, 5).astype(float)
    ratings[generator.random(ratings.shape) < 0.2] = np.nan

    def check(found: float) -> None:
        assert 0.1 < found < 0.95

    race(
        lambda impl: impl.krippendorff_alpha(ratings, level=level),
        check=check,
        clock=time.process_time,
        unit="items, 4 raters",
    )
