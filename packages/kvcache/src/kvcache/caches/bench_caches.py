"""One appended token, beside concatenation and transformers' StaticCache."""

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.race import Race
from kvcache.caches import View

LAYERS, KV_HEADS, HEAD_DIM = 4, 8, 64


@pytest.mark.parametrize("length", [256, 2048, 8192])
def bench_append(race: Race, device: str, length: int) -> None:
    """Crop is not every contestant's, so each append is undone by a new cache's state: the length grows by one."""
    grown: dict[int, int] = {}

    def prepare(impl: ModuleType) -> Any:
        cache = impl.ContiguousCache(LAYERS, 1, KV_HEADS, HEAD_DIM, length + 50_000, torch.float32, device)
        k = torch.randn(1, KV_HEADS, length, HEAD_DIM, device=device)
        for layer in range(LAYERS):
            cache.update(layer, k, k, torch.arange(length, device=device))
        grown[id(cache)] = length
        return cache

    def run(cache: Any, k: Tensor, v: Tensor) -> View:
        at = torch.tensor([grown[id(cache)]], device=device)
        grown[id(cache)] += 1
        for layer in range(LAYERS):
            view: View = cache.update(layer, k, v, at)
        return view

    def check(view: View, k: Tensor, v: Tensor) -> None:
        last = int(view.positions.argmax())
        assert torch.equal(view.keys[:, :, last : last + 1], k)

    race(
        run,
        inputs=lambda: (torch.randn(1, KV_HEADS, 1, HEAD_DIM, device=device),) * 2,
        check=check,
        prepare=prepare,
        bytes=2 * LAYERS * KV_HEADS * HEAD_DIM * 4,
        unit="fp32, 4 layers, 8 heads of 64",
        budget=0.5,
    )
