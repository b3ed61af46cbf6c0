"""How long calibration and smoothing take beside the plain answer and torchao's observer."""

import copy
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.race import Race

HIDDEN = [256, 512, 1024]
TOKENS = 512


class Mlp(nn.Module):
    """A pre-norm gated MLP of a transformer's proportions."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(hidden)
        self.gate, self.up = (nn.Linear(hidden, 3 * hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(3 * hidden, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        z: Tensor = x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))
        return z


def model_of(hidden: int, device: str) -> nn.Module:
    torch.manual_seed(0)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.Sequential(*(Mlp(hidden) for _ in range(4)))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.blocks(x)
            return y

    return Model().to(device).eval()


@pytest.mark.parametrize("hidden", HIDDEN)
def bench_observe(race: Race, device: str, hidden: int) -> None:
    model = model_of(hidden, device)
    weights = sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, nn.Linear))

    def check(found: dict[str, Tensor], batch: dict[str, Tensor]) -> None:
        first = model.get_submodule("blocks.0.norm")(batch["x"]).abs().flatten(0, -2).amax(0)
        assert torch.allclose(found["blocks.0.gate"].to(first.device), first, rtol=1e-5)

    race(
        lambda impl, batch: impl.largest_inputs(model, [batch]),
        inputs=lambda: ({"x": torch.randn(1, TOKENS, hidden, device=device)},),
        check=check,
        flops=2 * TOKENS * weights,
        unit="four gated MLPs, 512 tokens",
    )


@pytest.mark.parametrize("hidden", HIDDEN)
def bench_smooth(race: Race, device: str, hidden: int) -> None:
    model = model_of(hidden, device)
    weights = sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, nn.Linear))

    def inputs() -> tuple[Any, ...]:
        return copy.deepcopy(model), [{"x": torch.randn(1, TOKENS, hidden, device=device)} for _ in range(2)]

    def check(smoothed: nn.Module, _given: nn.Module, batches: list[dict[str, Tensor]]) -> None:
        with torch.no_grad():
            wanted, found = model(**batches[0]), smoothed(**batches[0])
        assert torch.allclose(found, wanted, atol=1e-3), "the function has changed"
        assert not torch.equal(smoothed.get_parameter("blocks.0.norm.weight"), torch.ones(hidden, device=device))

    race(
        lambda impl, given, batches: impl.smooth(given, batches),
        inputs=inputs,
        check=check,
        flops=2 * TOKENS * weights * 2,
        unit="four gated MLPs, two batches of 512 tokens",
    )


@pytest.mark.parametrize("size", [768, 2048, 4096])
def bench_factors(race: Race, device: str, size: int) -> None:
    def inputs() -> tuple[Tensor, list[Tensor]]:
        return torch.rand(size, device=device) + 0.1, [torch.randn(size, size, device=device) for _ in range(3)]

    def call(impl: ModuleType, largest: Tensor, weights: list[Tensor]) -> Tensor:
        found: Tensor = impl.smoothing_factors(largest, weights)
        return found

    def check(found: Tensor, largest: Tensor, weights: list[Tensor]) -> None:
        wanted = (largest / torch.cat(weights).abs().amax(0)).sqrt()
        assert torch.allclose(found, wanted, rtol=1e-4)

    race(call, inputs=inputs, check=check, bytes=3 * 4 * size * size, unit="three weights")
