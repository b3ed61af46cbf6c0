"""Attention through a block table beside attention over one piece, and blocks per second."""

from types import ModuleType

import pytest
import torch
from torch import Tensor

from harness.race import Race

HEADS, KV_HEADS, HEAD_DIM, BLOCK = 32, 8, 64, 16


@pytest.mark.parametrize("length", [512, 2048, 8192])
def bench_paged_attention(race: Race, device: str, length: int) -> None:
    """Race with a table that counts up, so that the contiguous contestant may run; nobody else looks."""
    table = torch.arange(length // BLOCK, device=device)[None]
    lengths = torch.tensor([length], device=device)

    def inputs() -> tuple[Tensor, Tensor, Tensor]:
        k = torch.randn(KV_HEADS, length // BLOCK, BLOCK, HEAD_DIM, device=device)
        return torch.randn(1, HEADS, HEAD_DIM, device=device), k, torch.randn_like(k)

    def check(out: Tensor, q: Tensor, k: Tensor, v: Tensor) -> None:
        keys, values = (t.flatten(1, 2).repeat_interleave(HEADS // KV_HEADS, 0) for t in (k, v))
        weights = (keys @ q[0, :, :, None] / HEAD_DIM**0.5).softmax(1)
        assert (out[0] - (weights * values).sum(1)).abs().max() < 1e-4

    race(
        lambda impl, q, k, v: impl.paged_attention(q, k, v, table, lengths),
        inputs=inputs,
        check=check,
        bytes=2 * KV_HEADS * length * HEAD_DIM * 4,
        unit="fp32, blocks of 16",
        budget=1.0,
    )


@pytest.mark.parametrize("blocks", [256, 1024, 4096])
def bench_blocks(race: Race, device: str, blocks: int) -> None:
    def run(impl: ModuleType) -> int:
        pool = impl.BlockPool(blocks)
        held = [pool.alloc()[0] for _ in range(blocks)]
        for block in held:
            pool.share(block)
            pool.release(block)
            pool.release(block)
        return int(pool.free)

    def check(free: int) -> None:
        assert free == blocks

    race(run, check=check, unit=f"{4 * blocks} operations", budget=0.5)
