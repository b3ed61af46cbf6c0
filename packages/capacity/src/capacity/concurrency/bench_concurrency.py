"""How fast concurrency is found, as a planner that tries many servers does."""

import pytest

from capacity import zoo
from capacity.concurrency import Fit
from capacity.gpus import gpu
from capacity.weights import Precision
from harness.race import Race


@pytest.mark.parametrize("tokens", [64, 1_000, 16_000])
def bench_fit(race: Race, tokens: int) -> None:
    model, card, plan = zoo.load("llama-3.1-8b"), gpu("h100"), Precision.named("bf16")

    def check(found: Fit, tokens: int) -> None:
        assert found.requests == found.budget.cache // (2 * tokens * 131_072)

    race(
        lambda impl, tokens: impl.fit(model, card, plan, tokens, tokens, block=1),
        inputs=lambda: (tokens,),
        check=check,
        unit="tokens in, as many out",
    )
