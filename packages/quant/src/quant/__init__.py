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

__all__ = [
    "MXFP4",
    "Granularity",
    "QParams",
    "choose_qparams",
    "dequantize",
    "dequantize_mxfp4",
    "quantize",
    "quantize_mxfp4",
    "round_e4m3",
]
