"""How long an allocation takes: many layers, five formats, losses that fall about fourfold with each bit."""

import random
from types import ModuleType

import pytest

from harness.race import Race
from quant.allocation import Allocation, Candidate


def problem(layers: int, seed: int) -> dict[str, tuple[Candidate, ...]]:
    """Layers of a transformer's shapes with sensitivities over three orders of magnitude."""
    draw = random.Random(seed)  # noqa: S311
    given = {}
    for number in range(layers):
        weights = draw.choice([768 * 768, 768 * 3072, 768 * 2048])
        level = 10 ** draw.uniform(-4, -1)
        given[f"layer.{number}"] = tuple(
            Candidate(f"{bits} bits", weights * bits // 8 + weights // 16, level * 4.0**-bits * draw.uniform(0.7, 1.4))
            for bits in (2, 3, 4, 6, 8)
        )
    return given


@pytest.mark.parametrize("layers", [20, 80, 200])
def bench_allocate(race: Race, device: str, layers: int) -> None:
    seeds = iter(range(10**6))

    def inputs() -> tuple[dict[str, tuple[Candidate, ...]], int]:
        given = problem(layers, next(seeds))
        return given, sum(each[2].size for each in given.values())  # as much as 4 bits everywhere

    def check(found: Allocation, given: dict[str, tuple[Candidate, ...]], budget: int) -> None:
        assert found.size <= budget
        even = sum(each[2].loss for each in given.values())
        assert found.loss <= even, "worse than 4 bits everywhere"

    def call(impl: ModuleType, given: dict[str, tuple[Candidate, ...]], budget: int) -> Allocation:
        found: Allocation = impl.allocate_bits(given, budget)
        return found

    race(call, inputs=inputs, check=check, unit="five formats, the budget of 4 bits everywhere")
