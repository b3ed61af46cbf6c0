"""How fast a prompt's time is estimated, as a planner that tries many lengths does."""

import pytest

from capacity import zoo
from capacity.gpus import gpu
from capacity.rooflines import Estimate
from capacity.weights import Precision
from harness.race import Race


@pytest.mark.parametrize("tokens", [128, 2_048, 32_768])
def bench_prefill(race: Race, tokens: int) -> None:
    model, card, plan = zoo.load("llama-3.1-8b"), gpu("h100"), Precision.named("bf16")

    def check(found: Estimate, tokens: int) -> None:
        body = 2 * tokens * (model.layers * (41_943_040 + 176_160_768)) + 2 * model.vocab * model.hidden
        wanted = body + 2 * model.layers * model.hidden * tokens * (tokens + 1)
        assert abs(found.flops / wanted - 1) < 1e-9

    race(
        lambda impl, tokens: impl.prefill(model, card, plan, tokens),
        inputs=lambda: (tokens,),
        check=check,
        unit="tokens",
    )
