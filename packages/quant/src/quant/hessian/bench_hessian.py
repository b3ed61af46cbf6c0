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


@pytest.mark.parametrize(("rows", "cols"), [(256, 256), (640, 768), (1024, 1024)])
def bench_gptq(race: Race, device: str, rows: int, cols: int) -> None:
    x = torch.randn(2 * cols, cols, device=device)
    x[:, 1:] += 0.5 * x[:, :-1].clone()
    hessian = Hessian(x.T @ x * (1 / cols), 2 * cols)

    def lost(found: Tensor, weight: Tensor) -> Tensor:
        change = found - weight
        return ((change @ hessian.matrix) * change).sum()

    def check(found: tuple[Tensor, QParams], weight: Tensor) -> None:
        plain = choose_qparams(weight, 4, False, 32)
        nearest = dequantize(quantize(weight, plain), plain)
        assert lost(dequantize(*found), weight) < 0.9 * lost(nearest, weight)

    race(
        lambda impl, weight: impl.gptq(weight, hessian),
        inputs=lambda: (torch.randn(rows, cols, device=device),),
        check=check,
        flops=rows * cols * cols + cols**3,
        unit="4 bits in groups of 32",
    )
