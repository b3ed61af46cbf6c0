"""Admit one request after another until the memory is full."""

from math import ceil

from capacity.caching.solution import request_bytes
from capacity.concurrency import Budget, Fit
from capacity.gpus import Gpu
from capacity.weights import Model, Precision
from capacity.weights.solution import weight_bytes


def budget(model: Model, gpu: Gpu, precision: Precision, gpus: int = 1, held: float = 0.1) -> Budget:
    """Subtract."""
    kept = ceil(gpu.memory * held)
    weights = ceil(weight_bytes(model, precision) / gpus)
    return Budget(total=gpu.memory, held=kept, weights=weights, cache=gpu.memory - kept - weights)


def fit(
    model: Model,
    gpu: Gpu,
    precision: Precision,
    prompt: int,
    output: int,
    gpus: int = 1,
    held: float = 0.1,
    block: int = 16,
    seats: int | None = None,
) -> Fit:
    """Count requests up."""
    spent = budget(model, gpu, precision, gpus, held)
    needed = request_bytes(model, prompt + output, block, precision.cache, gpus)
    short = max(0, needed - spent.cache)
    if model.context and prompt + output > model.context:
        return Fit(0, 0, "context", short, spent)
    if spent.cache < 0:
        return Fit(0, 0, "weights", short, spent)
    counts = []
    for tokens in (prompt + output, prompt + ceil(output / 2)):
        left, count = spent.cache, 0
        each = request_bytes(model, tokens, block, precision.cache, gpus)
        while each <= left and count != seats:
            left -= each
            count += 1
        counts.append(count)
    if short:
        counts = [0, 0]
    return Fit(counts[0], counts[1], "seats" if counts[0] == seats else "memory", short, spent)
