"""How fast an int8 layer is beside the float layer and the libraries' int8 layers, its weights out of the cache."""

import itertools
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.race import Race

SIZES = {"768x768": (768, 768), "3072x768": (3072, 768), "4096x4096": (4096, 4096)}
ROTATED = 100_000_000  # bytes of float weights that take turns: more than a core's caches hold


def layers(outputs: int, inputs: int, device: str) -> list[nn.Linear]:
    count = max(2, min(16, ROTATED // (4 * outputs * inputs)))
    torch.manual_seed(0)
    return [nn.Linear(inputs, outputs, device=device).eval() for _ in range(count)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rows", [1, 4, 32, 256], ids=["M=1", "M=4", "M=32", "M=256"])
def bench_linear(race: Race, device: str, rows: int, size: str) -> None:
    outputs, inputs = SIZES[size]
    floats = layers(outputs, inputs, device)

    def prepare(impl: ModuleType) -> Any:
        made = [impl.Int8Linear.from_float(linear) for linear in floats]
        for layer in made:
            layer(torch.ones(rows, inputs, device=device))  # packed before the clock starts
        return itertools.cycle(made)

    def check(y: Tensor, x: Tensor) -> None:
        wanted = torch.stack([linear(x) for linear in floats])
        off = (wanted - y).flatten(1).norm(dim=1).min() / wanted[0].norm()
        assert off < 0.03, f"the result is {off:.1%} off"

    with torch.inference_mode():
        race(
            lambda turn, x: next(turn)(x),
            inputs=lambda: (torch.randn(rows, inputs, device=device),),
            prepare=prepare,
            check=check,
            bytes=outputs * inputs + 4 * rows * (inputs + outputs),
            unit="weights rotated",
        )
