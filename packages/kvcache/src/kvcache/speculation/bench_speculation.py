"""Prompt lookup on held-out source code, greedy, beside one token at a time; n-grams found; drafts judged."""

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import models
from harness.race import Race
from kvcache.decoder import Decoder
from kvcache.speculation import REJECTED

COUNT, AHEAD = 128, 4
SIZED = pytest.mark.parametrize("vocabulary", [2048, 32_000, 128_256])


@cache
def tinylm() -> tuple[Any, Decoder, list[int]]:
    model, tokenizer = models.load("tinylm")
    return model, Decoder.from_model(model), tokenizer(models.corpus("heldout")[:60_000], verbose=False)["input_ids"]


@pytest.mark.parametrize("prompt", [64, 128, 256])
def bench_lookup(race: Race, device: str, prompt: int) -> None:
    """Generate 128 tokens after a prompt, another one in every round."""
    if device != "cpu":
        pytest.skip("the model of this race is on the CPU")
    model, decoder, text = tinylm()
    starts = iter(range(0, len(text) - prompt, 331))

    def prepare(impl: ModuleType) -> Callable[[list[int]], list[int]]:
        if hasattr(impl, "assisted"):
            given = model if impl.__name__.endswith("transformers") else decoder
            return lambda tokens: impl.assisted(given, tokens, COUNT, AHEAD)

        def run(tokens: list[int]) -> list[int]:
            memory = decoder.contiguous(prompt + COUNT)
            rounds = impl.generate(decoder, memory, tokens, COUNT, impl.NgramDrafter(), AHEAD)
            return [token for each in rounds for token in each.tokens]

        return run

    def inputs() -> tuple[list[int]]:
        start = next(starts)
        return (text[start : start + prompt],)

    def check(found: list[int], tokens: list[int]) -> None:
        wanted = decoder.generate(torch.tensor([tokens]), decoder.contiguous(prompt + COUNT), COUNT)
        assert found == [int(token) for token in wanted], "not the tokens of the model alone"

    unit = f"tokens and {COUNT} more, up to {AHEAD} drafted; tinylm fp32"
    race(lambda run, tokens: run(tokens), inputs=inputs, prepare=prepare, check=check, unit=unit, budget=8.0)


@pytest.mark.parametrize("tokens", [256, 1024, 8192])
def bench_propose(race: Race, tokens: int) -> None:
    """Draft 4 tokens after each of the last 64 of a text of source code, as generation does."""
    text = (tinylm()[2] * 2)[:tokens]

    def run(impl: ModuleType) -> int:
        drafter = impl.NgramDrafter()
        return sum(len(drafter.propose(text[:stop], AHEAD).tokens) for stop in range(tokens - 63, tokens + 1))

    def check(found: int) -> None:
        assert found > 0

    race(run, check=check, unit="tokens, 64 drafts", budget=0.7)


@SIZED
def bench_accept(race: Race, device: str, vocabulary: int) -> None:
    def inputs() -> tuple[Tensor, Tensor, Tensor]:
        q = (torch.randn(8, AHEAD, vocabulary, device=device) * 4).softmax(-1)
        p = (torch.randn(8, AHEAD + 1, vocabulary, device=device) * 4).softmax(-1)
        drafted = q.flatten(0, 1).cpu().multinomial(1).view(8, AHEAD).to(device)
        return drafted, q, (p + torch.cat([q, q[:, :1]], 1)) / 2  # half of what is drafted is right

    def check(found: Tensor, drafted: Tensor, q: Tensor, p: Tensor) -> None:
        assert bool((found[:, 0] != REJECTED).all())
        assert int(found.max()) < vocabulary

    race(
        lambda impl, *given: impl.accept(*given, torch.Generator().manual_seed(0)),
        inputs=inputs,
        check=check,
        bytes=8 * vocabulary * 4 * 2,
        unit=f"8 rows of {AHEAD} drafts; transformers: row by row",
        budget=1.0,
    )
