"""Post-training quantization: the solutions of the exercises, as a library."""

from quant.affine import MXFP4, Granularity, QParams
from quant.affine.solution import (
    choose_qparams,
    dequantize,
    dequantize_mxfp4,
    quantize,
    quantize_mxfp4,
    round_e4m3,
)
from quant.hessian import Hessian
from quant.hessian.solution import accumulate, gptq, gptq_act_order, gptq_model, retarget
from quant.int4.solution import Int4Linear
from quant.int8 import Policy
from quant.int8.solution import Int8Linear, StaticInt8Linear, calibrate, quantize_model
from quant.packing.solution import bits_per_weight, pack, pack_dense, unpack, unpack_dense

__all__ = [
    "MXFP4",
    "Granularity",
    "Hessian",
    "Int4Linear",
    "Int8Linear",
    "Policy",
    "QParams",
    "StaticInt8Linear",
    "accumulate",
    "bits_per_weight",
    "calibrate",
    "choose_qparams",
    "dequantize",
    "dequantize_mxfp4",
    "gptq",
    "gptq_act_order",
    "gptq_model",
    "pack",
    "pack_dense",
    "quantize",
    "quantize_model",
    "quantize_mxfp4",
    "retarget",
    "round_e4m3",
    "unpack",
    "unpack_dense",
]
