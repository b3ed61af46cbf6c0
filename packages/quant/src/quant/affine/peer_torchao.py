"""Peer: torchao's quantization primitives."""

import torch
from torch import Tensor
from torchao.prototype.mx_formats.mx_tensor import to_dtype, to_mx
from torchao.quantization.quant_primitives import (
    MappingType,
    choose_qparams_affine,
    dequantize_affine,
    quantize_affine,
)

from quant.affine import MXFP4, Granularity, QParams


def choose_qparams(
    x: Tensor,
    bits: int = 8,
    symmetric: bool = True,  # noqa: FBT001, FBT002
    granularity: Granularity = "channel",
) -> QParams:
    """Choose with blocks of (rows, cols), (1, cols) or (1, group)."""
    block = list(x.shape) if granularity == "tensor" else [1, x.shape[1]]
    if isinstance(granularity, int):
        block[1] = min(granularity, x.shape[1])
    scale, zero_point = choose_qparams_affine(
        x.float(),
        MappingType.SYMMETRIC if symmetric else MappingType.ASYMMETRIC,
        tuple(block),
        torch.int8,
        quant_min=-(1 << (bits - 1)),
        quant_max=(1 << (bits - 1)) - 1,
        eps=torch.finfo(torch.float32).tiny,
        scale_dtype=torch.float32,
        zero_point_dtype=torch.int32,
    )
    shape = (x.shape[0] // block[0], -1)
    return QParams(scale.view(shape), zero_point.view(shape), block[1], bits)


def quantize(x: Tensor, qparams: QParams) -> Tensor:
    """Quantize block by block."""
    found: Tensor = quantize_affine(
        x.float(), _block(x, qparams), qparams.scale, qparams.zero_point, torch.int8, qparams.lowest, qparams.highest
    )
    return found


def dequantize(codes: Tensor, qparams: QParams) -> Tensor:
    """Dequantize block by block."""
    found: Tensor = dequantize_affine(
        codes,
        _block(codes, qparams),
        qparams.scale,
        qparams.zero_point,
        torch.int8,
        qparams.lowest,
        qparams.highest,
    )
    return found


def quantize_mxfp4(x: Tensor) -> MXFP4:
    """Quantize to MXFP4; torchao packs two codes in a byte, taken apart here."""
    exponents, packed = to_mx(x.float(), torch.float4_e2m1fn_x2, 32)
    packed = packed.view(torch.uint8)
    codes = torch.stack([packed & 15, packed >> 4], dim=-1).flatten(1)
    return MXFP4(codes, exponents.view(torch.uint8))


def dequantize_mxfp4(mx: MXFP4) -> Tensor:
    """Dequantize what ``quantize_mxfp4`` made."""
    packed = mx.codes[:, ::2] | (mx.codes[:, 1::2] << 4)
    scale = mx.exponents.view(torch.float8_e8m0fnu)
    found: Tensor = to_dtype(packed, scale, torch.float4_e2m1fn_x2, 32, torch.float32)
    return found


def _block(x: Tensor, qparams: QParams) -> tuple[int, int]:
    return (x.shape[0] // qparams.scale.shape[0], qparams.group)
