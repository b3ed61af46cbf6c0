"""The simple answer: one slice at a time."""

import torch
from torch import Tensor

from quant.affine import Granularity, QParams


def choose_qparams(
    x: Tensor,
    bits: int = 8,
    symmetric: bool = True,  # noqa: FBT001, FBT002
    granularity: Granularity = "channel",
) -> QParams:
    """Choose the scale and zero point of each slice from its smallest and largest value."""
    x = x.float()
    lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    group = granularity if isinstance(granularity, int) else x.shape[1]
    rows = [x.flatten()] if granularity == "tensor" else list(x)
    scales, zero_points = [], []
    for row in rows:
        for piece in row.split(row.numel() if granularity == "tensor" else group):
            low, high = min(piece.min().item(), 0.0), max(piece.max().item(), 0.0)
            if symmetric:
                scale, zero_point = max(-low, high) / highest, 0
            else:
                scale = high / (highest - lowest) - low / (highest - lowest)
                zero_point = round(lowest - low / scale) if scale else 0
            scale = max(scale, torch.finfo(torch.float32).tiny) if high - low else 1.0
            scales.append(scale)
            zero_points.append(min(max(zero_point, lowest), highest))
    shape = (len(rows), -1)
    return QParams(
        torch.tensor(scales, device=x.device).view(shape),
        torch.tensor(zero_points, dtype=torch.int32, device=x.device).view(shape),
        group,
        bits,
    )


def quantize(x: Tensor, qparams: QParams) -> Tensor:
    """Map real numbers to the nearest code."""
    scale, zero_point = spread(qparams, x.shape[1])
    return torch.clamp(torch.round(x.float() / scale) + zero_point, qparams.lowest, qparams.highest).to(torch.int8)


def dequantize(codes: Tensor, qparams: QParams) -> Tensor:
    """Map codes back to real numbers."""
    scale, zero_point = spread(qparams, codes.shape[1])
    return (codes.float() - zero_point) * scale


def spread(qparams: QParams, cols: int) -> tuple[Tensor, Tensor]:
    """Repeat each group's scale and zero point for all of its columns."""
    scale = qparams.scale.repeat_interleave(qparams.group, dim=1)[:, :cols]
    zero_point = qparams.zero_point.repeat_interleave(qparams.group, dim=1)[:, :cols]
    return scale, zero_point
