"""Peer: what torchao's prototype of SmoothQuant observes and computes.

It neither looks for norms nor folds: its quantized layers multiply their input by ``1 / factors`` each time they run,
so that there is no float model to compare. Its AWQ is tied to its own weight formats in the same way.
"""

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torchao.prototype.smoothquant import RunningAbsMaxSmoothQuantObserver, SmoothQuantConfig, SmoothQuantObservedLinear
from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
from torchao.quantization.quantize_.common.quantization_step import QuantizationStep

from quant.smoothing import Batch


def largest_inputs(model: nn.Module, calibration: Iterable[Batch]) -> dict[str, Tensor]:
    """Return the largest magnitude of each input channel of every linear layer."""
    observed = copy.deepcopy(model)
    config = SmoothQuantConfig(Int8DynamicActivationInt8WeightConfig(), QuantizationStep.PREPARE, 0.5, True)  # noqa: FBT003
    quantize_(observed, config)
    with torch.no_grad():
        for batch in calibration:
            observed(**batch)
    layers = {name: m for name, m in observed.named_modules() if isinstance(m, SmoothQuantObservedLinear)}
    return {name: layer.obs.x_abs_max for name, layer in layers.items()}


def smoothing_factors(largest: Tensor, weights: Sequence[Tensor], alpha: float = 0.5) -> Tensor:
    """Return how much of each input channel moves into the weights that share it."""
    observer = RunningAbsMaxSmoothQuantObserver(torch.cat(list(weights)), alpha)
    observer(largest[None])
    found: Tensor = observer.compute_smoothing_factor()
    return found
