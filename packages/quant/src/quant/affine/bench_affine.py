"""How fast a matrix is quantized, beside torch.ao and torchao."""

import pytest
import torch
from torch import Tensor

from harness.race import Race
from quant.affine import Granularity, QParams
from quant.affine.solution import choose_qparams
from quant.affine.solution import dequantize as back
from quant.affine.solution import quantize as there

SIZES = [(768, 768), (3072, 768), (4096, 4096)]
SIZED = pytest.mark.parametrize(("rows", "cols"), SIZES, ids=["768x768", "3072x768", "4096x4096"])
GRANULARITIES = pytest.mark.parametrize("granularity", ["channel", 32], ids=["per channel", "groups of 32"])


def normal(rows: int, cols: int, device: str) -> Tensor:
    return torch.randn(rows, cols, device=device)


@SIZED
@GRANULARITIES
def bench_choose_qparams(race: Race, device: str, granularity: Granularity, rows: int, cols: int) -> None:
    def check(found: QParams, x: Tensor) -> None:
        group = cols if granularity == "channel" else 32
        wanted = x.view(rows, -1, group).abs().amax(2) / 127
        assert found.scale.shape == wanted.shape
        assert ((found.scale - wanted).abs() / wanted).max() < 0.01

    race(
        lambda impl, x: impl.choose_qparams(x, 8, True, granularity),
        inputs=lambda: (normal(rows, cols, device),),
        check=check,
        bytes=4 * rows * cols,
        unit="fp32",
    )


@SIZED
@GRANULARITIES
def bench_quantize(race: Race, device: str, granularity: Granularity, rows: int, cols: int) -> None:
    x = normal(rows, cols, device)
    qparams = choose_qparams(x, 8, False, granularity)

    def check(codes: Tensor, x: Tensor) -> None:
        assert (codes.int() - there(x, qparams).int()).abs().max() <= 1  # ties may go either way

    race(
        lambda impl, x: impl.quantize(x, qparams),
        inputs=lambda: (x.clone(),),
        check=check,
        bytes=5 * rows * cols,
        unit="fp32 to int8",
    )


@SIZED
def bench_dequantize(race: Race, device: str, rows: int, cols: int) -> None:
    x = normal(rows, cols, device)
    qparams = choose_qparams(x)
    codes = there(x, qparams)

    def check(values: Tensor, codes: Tensor) -> None:
        assert torch.allclose(values, back(codes, qparams))

    race(
        lambda impl, codes: impl.dequantize(codes, qparams),
        inputs=lambda: (codes.clone(),),
        check=check,
        bytes=5 * rows * cols,
        unit="int8 to fp32",
    )


@pytest.mark.parametrize(("rows", "cols"), SIZES[1:], ids=["3072x768", "4096x4096"])
def bench_round_e4m3(race: Race, device: str, rows: int, cols: int) -> None:
    def check(values: Tensor, x: Tensor) -> None:
        assert (values - x).abs().max() <= x.abs().max() / 16

    race(
        lambda impl, x: impl.round_e4m3(x),
        inputs=lambda: (normal(rows, cols, device),),
        check=check,
        bytes=8 * rows * cols,
        unit="fp32 to the grid of E4M3",
    )
