"""How long gathering a Hessian and rounding by it take, beside the plain answer and torchao's observer."""

import pytest
import torch
from torch import Tensor

from harness.race import Race
from quant.affine import QParams
from quant.affine.solution import choose_qparams, dequantize, quantize
from quant.hessian import Hessian


@pytest.mark.parametrize("cols", [256, 768, 2048])
def bench_accumulate(race: Race, device: str, cols: int) -> None:
    first = torch.randn(2048, cols, device=device)
    before = Hessian(first.T @ first * (2 / 2048), 2048)

    def check(found: Hessian, x: Tensor) -> None:
        wanted = (before.matrix * 2048 + 2 * x.T @ x) / 4096
        assert found.count == 4096
        assert torch.allclose(found.matrix, wanted, rtol=1e-3, atol=1e-3)

    race(
        lambda impl, x: impl.accumulate(before, x),
        inputs=lambda: (torch.randn(2048, cols, device=device),),
        check=check,
        flops=2 * 2048 * cols * cols,
        unit="2048 tokens",
    )


SIZES = pytest.mark.parametrize(("rows", "cols"), [(256, 256), (640, 768), (1024, 1024)])


def correlated(cols: int, device: str) -> Hessian:
    x = torch.randn(2 * cols, cols, device=device)
    x[:, 1:] += 0.5 * x[:, :-1].clone()
    return Hessian(x.T @ x * (1 / cols), 2 * cols)


def share(found: tuple[Tensor, QParams], weight: Tensor, hessian: Hessian) -> float:
    """Return what is lost as a share of what rounding to nearest loses."""
    plain = choose_qparams(weight, 4, False, 32)
    changes = (each - weight for each in (dequantize(*found), dequantize(quantize(weight, plain), plain)))
    ours, nearest = (float(((change @ hessian.matrix) * change).sum()) for change in changes)
    return ours / nearest


@SIZES
def bench_gptq(race: Race, device: str, rows: int, cols: int) -> None:
    hessian = correlated(cols, device)

    def check(found: tuple[Tensor, QParams], weight: Tensor) -> None:
        assert share(found, weight, hessian) < 0.9

    race(
        lambda impl, weight: impl.gptq(weight, hessian),
        inputs=lambda: (torch.randn(rows, cols, device=device),),
        check=check,
        flops=rows * cols * cols + cols**3,
        unit="4 bits in groups of 32",
    )


@SIZES
def bench_gptq_refit(race: Race, device: str, rows: int, cols: int) -> None:
    """Race what loses least at the sizes of ``gptq``: what its rounds cost is the difference, since no peer has it."""
    hessian = correlated(cols, device)

    def check(found: tuple[Tensor, QParams], weight: Tensor) -> None:
        assert share(found, weight, hessian) < 0.8

    race(
        lambda impl, weight: impl.gptq_refit(weight, hessian),
        inputs=lambda: (torch.randn(rows, cols, device=device),),
        check=check,
        flops=19 * rows * cols * cols + cols**3,  # three rounds of three products with the Hessian
        unit="4 bits in groups of 32",
    )
