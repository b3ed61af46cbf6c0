"""Peer: the observers and kernels of ``torch.ao.quantization`` and torch's own FP8 type."""

import warnings

import torch
from torch import Tensor
from torch.ao.quantization import observer

from quant.affine import Granularity, QParams


def choose_qparams(
    x: Tensor,
    bits: int = 8,
    symmetric: bool = True,  # noqa: FBT001, FBT002
    granularity: Granularity = "channel",
) -> QParams:
    """Ask an observer that has seen ``x`` once; torch has none for groups of columns."""
    if isinstance(granularity, int):
        msg = "torch.ao.quantization observes tensors and channels, not groups"
        raise NotImplementedError(msg)
    kind = observer.MinMaxObserver if granularity == "tensor" else observer.PerChannelMinMaxObserver
    scheme = {
        ("tensor", True): torch.per_tensor_symmetric,
        ("tensor", False): torch.per_tensor_affine,
        ("channel", True): torch.per_channel_symmetric,
        ("channel", False): torch.per_channel_affine,
    }[granularity, symmetric]
    span = {"quant_min": -(1 << (bits - 1)), "quant_max": (1 << (bits - 1)) - 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated in favour of torchao, and still what most code uses
        watching = kind(dtype=torch.qint8, qscheme=scheme, eps=torch.finfo(torch.float32).tiny, **span)
    watching.to(x.device)(x.float())
    scale, zero_point = watching.calculate_qparams()
    return QParams(scale.float().view(-1, 1), zero_point.to(torch.int32).view(-1, 1), x.shape[1], bits)


def quantize(x: Tensor, qparams: QParams) -> Tensor:
    """Call torch's quantizing kernels; they know 8 bits only, so narrower codes are clamped afterwards."""
    scale, zero_point = qparams.scale.flatten(), qparams.zero_point.flatten()
    if len(scale) == 1:
        codes = torch.quantize_per_tensor(x.float(), scale[0], zero_point[0], torch.qint8)
    else:
        codes = torch.quantize_per_channel(x.float(), scale, zero_point, 0, torch.qint8)
    found = codes.int_repr()
    return found if qparams.bits == 8 else found.clamp_(qparams.lowest, qparams.highest)  # noqa: PLR2004


def dequantize(codes: Tensor, qparams: QParams) -> Tensor:
    """Subtract and multiply: torch has no kernel that takes codes and scales apart."""
    return (codes.float() - qparams.zero_point) * qparams.scale


def round_e4m3(x: Tensor) -> Tensor:
    """Cast to FP8 and back; the cast makes NaN of what is too large, so clamp first."""
    return x.float().clamp(-448, 448).to(torch.float8_e4m3fn).float()
