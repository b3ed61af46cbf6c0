"""How fast an int4 layer is beside the float layer and optimum-quanto's, its weights out of the cache."""

import itertools
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.race import Race

SIZES = {"768x768": (768, 768), "3072x768": (3072, 768), "4096x4096": (4096, 4096)}
ROTATED = 100_000_000  # bytes of float weights that take turns: more than a core's caches hold


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rows", [1, 4, 32, 256], ids=["M=1", "M=4", "M=32", "M=256"])
def bench_linear(race: Race, device: str, rows: int, size: str) -> None:
    outputs, inputs = SIZES[size]
    torch.manual_seed(0)
    count = max(2, min(16, ROTATED // (4 * outputs * inputs)))
    floats = [nn.Linear(inputs, outputs, device=device).eval() for _ in range(count)]

    def prepare(impl: ModuleType) -> Any:
        made = [impl.Int4Linear.from_float(linear) for linear in floats]
        for layer in made:
            layer(torch.ones(rows, inputs, device=device))  # laid out before the clock starts
        return itertools.cycle(made)

    def check(y: Tensor, x: Tensor) -> None:
        wanted = torch.stack([linear(x) for linear in floats])
        off = (wanted - y).flatten(1).norm(dim=1).min() / wanted[0].norm()
        assert off < 0.15, f"the result is {off:.1%} off"

    with torch.inference_mode():
        race(
            lambda turn, x: next(turn)(x),
            inputs=lambda: (torch.randn(rows, inputs, device=device),),
            prepare=prepare,
            check=check,
            bytes=int(outputs * inputs * 4.75 / 8) + 4 * rows * (inputs + outputs),
            unit="weights rotated",
        )
