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
from quant.allocation import Allocation, Candidate, Format
from quant.allocation.solution import allocate_bits, prune, prune_2_4, sensitivity
from quant.hessian import Hessian
from quant.hessian.solution import (
    accumulate,
    gptq,
    gptq_act_order,
    gptq_both,
    gptq_model,
    gptq_refit,
    output_hessians,
    refit_codes,
    refit_scales,
    retarget,
    search_qparams,
)
from quant.int4.solution import Int4Linear
from quant.int8 import Policy
from quant.int8.solution import Int8Linear, StaticInt8Linear, calibrate, quantize_model
from quant.observers.solution import (
    HistogramObserver,
    MinMaxObserver,
    MovingAverageObserver,
    entropy_range,
    mse_range,
    percentile_range,
)
from quant.packing.solution import bits_per_weight, pack, pack_dense, unpack, unpack_dense
from quant.smoothing.solution import awq, fold, smooth, smoothing_factors

__all__ = [
    "MXFP4",
    "Allocation",
    "Candidate",
    "Format",
    "Granularity",
    "Hessian",
    "HistogramObserver",
    "Int4Linear",
    "Int8Linear",
    "MinMaxObserver",
    "MovingAverageObserver",
    "Policy",
    "QParams",
    "StaticInt8Linear",
    "accumulate",
    "allocate_bits",
    "awq",
    "bits_per_weight",
    "calibrate",
    "choose_qparams",
    "dequantize",
    "dequantize_mxfp4",
    "entropy_range",
    "fold",
    "gptq",
    "gptq_act_order",
    "gptq_both",
    "gptq_model",
    "gptq_refit",
    "mse_range",
    "output_hessians",
    "pack",
    "pack_dense",
    "percentile_range",
    "prune",
    "prune_2_4",
    "quantize",
    "quantize_model",
    "quantize_mxfp4",
    "refit_codes",
    "refit_scales",
    "retarget",
    "round_e4m3",
    "search_qparams",
    "sensitivity",
    "smooth",
    "smoothing_factors",
    "unpack",
    "unpack_dense",
]
