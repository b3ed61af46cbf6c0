"""How fast a batch is looked at, and how fast a range is chosen."""

import pytest
import torch
from torch import Tensor

from harness.race import Race
from quant.observers import Histogram


def everything(histogram: Histogram) -> tuple[float, float]:
    return histogram.low, histogram.high


@pytest.mark.parametrize("tokens", [16, 256, 4096])
def bench_update_minmax(race: Race, device: str, tokens: int) -> None:
    race(
        lambda observer, x: (observer.update(x), observer.range())[1],
        inputs=lambda: (torch.randn(tokens, 4096, device=device),),
        prepare=lambda impl: impl.MinMaxObserver(),
        check=_assert_holds,
        bytes=4 * tokens * 4096,
    )


@pytest.mark.parametrize("tokens", [16, 256, 4096])
def bench_update_histogram(race: Race, device: str, tokens: int) -> None:
    race(
        lambda observer, x: (observer.update(x), observer.range())[1],
        inputs=lambda: (torch.randn(tokens, 4096, device=device),),
        prepare=lambda impl: impl.HistogramObserver(everything),
        check=_assert_holds,
        bytes=4 * tokens * 4096,
    )


@pytest.mark.parametrize("bits", [4, 6, 8])
def bench_mse_range(race: Race, bits: int) -> None:
    def inputs() -> tuple[Histogram]:
        x = torch.randn(100_000) * 2
        index = (x * 2048 / 16).floor().long() + 2048
        return (Histogram(torch.bincount(index, minlength=4096), 4, x.min().item(), x.max().item()),)

    def check(found: tuple[float, float], _histogram: Histogram) -> None:
        assert 2 < found[1] < 12, f"the range of normal numbers with sigma 2 ends at {found[1]:.3g}"

    race(lambda impl, histogram: impl.mse_range(histogram, bits), inputs=inputs, check=check)


def _assert_holds(found: tuple[float, float], x: Tensor) -> None:
    low, high = x.min().item(), x.max().item()
    assert found[0] <= low <= high <= found[1], f"{found} does not hold [{low:.4g}, {high:.4g}]"
