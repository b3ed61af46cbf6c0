"""Filters and draws beside transformers' processors, on normal logits with a standard deviation of 4.

tinylm's have 3.7 on its held-out text. Then masks of a pattern, beside trying every token.
"""

import random
import string
from functools import cache
from types import ModuleType

import pytest
import torch
from torch import Tensor

from harness.race import Race
from kvcache.sampling import DEAD, TokenTable
from kvcache.sampling._regex import automaton
from kvcache.sampling.solution import token_table

PATTERN = automaton(r"-?\d{1,3}(, -?\d{1,3})*")  # few states: the baseline tries every token in each
SIZED = pytest.mark.parametrize("vocabulary", [2048, 32_000, 128_256])


def logits_of(rows: int, vocabulary: int, device: str) -> Tensor:
    return torch.randn(rows, vocabulary, device=device) * 4


@SIZED
def bench_top_p(race: Race, device: str, vocabulary: int) -> None:
    def check(found: Tensor, logits: Tensor) -> None:
        mass = (logits.softmax(-1) * (found > float("-inf"))).sum(-1)
        assert mass.min() >= 0.9 - 1e-4

    race(
        lambda impl, logits: impl.top_p(logits, 0.9),
        inputs=lambda: (logits_of(8, vocabulary, device),),
        check=check,
        bytes=8 * vocabulary * 8,
        unit="8 rows, p = 0.9",
        budget=1.0,
    )


@SIZED
def bench_sample(race: Race, device: str, vocabulary: int) -> None:
    seeds = torch.arange(8, device=device)

    def check(found: Tensor, logits: Tensor) -> None:
        assert found.shape == (8,)
        assert int(found.max()) < vocabulary

    race(
        lambda impl, logits: impl.sample(logits, seeds, 1, 0.7),
        inputs=lambda: (logits_of(8, vocabulary, device),),
        check=check,
        bytes=8 * vocabulary * 4,
        unit="8 rows; transformers' rows share a generator",
        budget=1.0,
    )


@cache
def vocabulary_of(size: int) -> list[bytes]:
    """Return an end of text, all bytes, and random words, numbers and signs, some with a space before them."""
    generator, found = random.Random(0), dict.fromkeys([b"", *(bytes([byte]) for byte in range(256))])  # noqa: S311
    while len(found) < size:
        letters, longest = generator.choices(
            ((string.ascii_lowercase, 9), (string.digits, 3), ("-,.:{}[]", 3)), (8, 1, 1)
        )[0]
        word = "".join(generator.choices(letters, k=generator.randint(2, longest)))
        found[(generator.choice(("", " ")) + word).encode()] = None
    return list(found)


@pytest.mark.parametrize("vocabulary", [4096, 32_000, 128_256])
def bench_token_table(race: Race, device: str, vocabulary: int) -> None:
    """Build the table of a pattern, once for all texts; the least is to write it."""
    tokens = vocabulary_of(vocabulary)
    states = len(PATTERN.step) + 1

    def check(found: TokenTable) -> None:
        assert found.after.shape == (states, vocabulary)
        begun = {tokens[i][:1] for i in (found.after[0] != DEAD).nonzero()[:, 0].tolist()}
        assert begun == {bytes([byte]) for byte in b"-0123456789"}

    race(
        lambda impl: impl.token_table(PATTERN, tokens, 0),
        check=check,
        bytes=4 * states * vocabulary,
        unit=f"{states} states",
        budget=1.0,
    )


@pytest.mark.parametrize("vocabulary", [4096, 32_000, 128_256])
def bench_constrain(race: Race, device: str, vocabulary: int) -> None:
    """Mask a row of logits within a budget of tokens, once a step; the least is a row in, its states in, a row out."""
    table = token_table(PATTERN, vocabulary_of(vocabulary), 0)
    states = torch.zeros(1, dtype=torch.int64, device=device)

    def run(impl: ModuleType, logits: Tensor) -> Tensor:
        found: Tensor = impl.constrain(logits, table, states, 20)
        return found

    def check(found: Tensor, logits: Tensor) -> None:
        assert torch.equal(found[0].cpu() > float("-inf"), table.after[0] != DEAD)

    race(
        run,
        inputs=lambda: (logits_of(1, vocabulary, device),),
        check=check,
        bytes=12 * vocabulary,
        unit="a row",
        budget=1.0,
    )
