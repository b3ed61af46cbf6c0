"""Rotating queries, beside complex numbers and transformers' half-by-half formula."""

import pytest
import torch
from torch import Tensor

from harness.race import Race
from kvcache.rotary.solution import frequencies


@pytest.mark.parametrize("length", [1, 512, 4096])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def bench_rotate(race: Race, device: str, length: int, dtype: torch.dtype) -> None:
    freqs = frequencies(64)

    def check(out: Tensor, x: Tensor, positions: Tensor) -> None:
        assert (out.float().norm(dim=-1) - x.float().norm(dim=-1)).abs().max() < 0.2

    race(
        lambda impl, x, positions: impl.rotate(x, positions, freqs),
        inputs=lambda: (
            torch.randn(1, 32, length, 64, dtype=dtype, device=device),
            torch.arange(length, device=device),
        ),
        check=check,
        bytes=2 * 32 * length * 64 * dtype.itemsize,
        unit="32 heads of 64",
        budget=1.0,
    )
