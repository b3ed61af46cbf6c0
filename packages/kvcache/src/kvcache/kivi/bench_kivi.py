"""Appending tokens to a quantized history, beside quanto, which quantizes the history again."""

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.race import Race

KV_HEADS, HEAD_DIM, GROUP = 8, 64, 32


@pytest.mark.parametrize("length", [256, 1024, 4096])
def bench_append_a_group(race: Race, device: str, length: int) -> None:
    """Append ``GROUP`` tokens one by one: each contestant quantizes once on the way."""

    def inputs() -> tuple[Tensor, Tensor]:
        shape = (1, KV_HEADS, length + GROUP, HEAD_DIM)
        return torch.randn(shape, device=device), torch.randn(shape, device=device)

    def run(impl: ModuleType, k: Tensor, v: Tensor) -> Any:
        cache = impl.QuantizedCache(1, 1, KV_HEADS, HEAD_DIM, length + GROUP, 4, GROUP, torch.float32, device)
        cache.update(0, k[:, :, :length], v[:, :, :length], torch.arange(length, device=device))
        for at in range(length, length + GROUP):
            piece = slice(at, at + 1)
            view = cache.update(0, k[:, :, piece], v[:, :, piece], torch.tensor([at], device=device))
        return view

    def check(view: Any, k: Tensor, v: Tensor) -> None:
        assert (view.keys - k).norm() / k.norm() < 0.15
        assert (view.values - v).norm() / v.norm() < 0.15

    race(run, inputs=inputs, check=check, unit="int4, prompt and 32 tokens", budget=1.0)


@pytest.mark.parametrize("bits", [2, 4, 8])
def bench_quantize(race: Race, device: str, bits: int) -> None:
    def check(found: Any, x: Tensor) -> None:
        assert int(found.codes.max()) == 2**bits - 1

    race(
        lambda impl, x: impl.quantize(x, bits, 2),
        inputs=lambda: (torch.randn(8, 64, 32, 64, device=device),),
        check=check,
        bytes=5 * 8 * 64 * 32 * 64,
        unit="fp32 to codes",
        budget=0.5,
    )
