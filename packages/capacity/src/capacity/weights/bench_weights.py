"""How fast parameters are counted, as a planner that tries many models does."""

from dataclasses import replace

import pytest

from capacity import zoo
from capacity.weights import Model, Precision
from capacity.weights.solution import weight_bytes
from harness.race import Race


@pytest.mark.parametrize("layers", [16, 32, 126])
def bench_weight_bytes(race: Race, layers: int) -> None:
    model = replace(zoo.load("llama-3.1-8b"), layers=layers)
    plan = Precision.named("int4")

    def check(found: int, model: Model) -> None:
        assert found == weight_bytes(model, plan)

    race(lambda impl, model: impl.weight_bytes(model, plan), inputs=lambda: (model,), check=check, unit="layers, int4")
