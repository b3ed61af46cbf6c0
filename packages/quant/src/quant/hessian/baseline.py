"""The simple answer: one column after another, every later column moved at once."""

import torch
from torch import Tensor

from quant.affine import QParams
from quant.affine.solution import choose_qparams
from quant.hessian import Hessian


def accumulate(hessian: Hessian | None, x: Tensor) -> Hessian:
    """Return the Hessian of the inputs so far and of a batch ``x`` (..., cols)."""
    rows = x.flatten(0, -2).float()
    total = rows.T @ rows
    count = len(rows)
    if hessian is not None:
        total += hessian.matrix * hessian.count / 2
        count += hessian.count
    return Hessian(total * 2 / count, count)


def gptq(
    weight: Tensor, hessian: Hessian, bits: int = 4, group: int = 32, damping: float = 0.01
) -> tuple[Tensor, QParams]:
    """Round a weight to codes of ``bits`` bits so that the layer's output changes little."""
    w, h = weight.double().clone(), hessian.matrix.double().clone()
    diagonal = h.diagonal()  # a view
    dead = diagonal == 0
    if not bool(dead.all()):
        diagonal += damping * diagonal[~dead].mean()
    diagonal[dead] = 1
    moves = torch.linalg.cholesky(torch.linalg.inv(h), upper=True)  # (cols, cols)
    lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    codes = torch.empty(w.shape, dtype=torch.int8, device=w.device)
    scales, zero_points = [], []
    for at in range(w.shape[1]):
        if at % group == 0:
            chosen = choose_qparams(w[:, at : at + group].float(), bits, False, group)  # noqa: FBT003
            scales.append(chosen.scale.bfloat16().float())
            zero_points.append(chosen.zero_point)
        scale, zero_point = scales[-1][:, 0].double(), zero_points[-1][:, 0]
        code = (torch.round(w[:, at] / scale) + zero_point).clamp(lowest, highest)
        error = (w[:, at] - scale * (code - zero_point)) / moves[at, at]
        w[:, at + 1 :] -= error[:, None] * moves[at, at + 1 :]
        codes[:, at] = code.to(torch.int8)
    return codes, QParams(torch.cat(scales, 1), torch.cat(zero_points, 1), min(group, w.shape[1]), bits)
