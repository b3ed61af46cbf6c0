"""Filters and draws beside transformers' processors, on normal logits with a standard deviation of 4.

tinylm's have 3.7 on its held-out text.
"""

import pytest
import torch
from torch import Tensor

from harness.race import Race

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
