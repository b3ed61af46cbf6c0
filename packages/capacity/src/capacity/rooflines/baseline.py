"""The two formulas of a whiteboard: dense, full attention, one GPU."""

from capacity.caching.solution import kv_bytes_per_token
from capacity.gpus import Gpu
from capacity.rooflines import BOUND, Efficiency, Estimate
from capacity.weights import Model, Precision
from capacity.weights.solution import bytes_read, matrices


def _time(gpu: Gpu, precision: Precision, flops: float, amount: float, efficiency: Efficiency) -> Estimate:
    compute = flops / gpu.peak(precision.compute) / efficiency.compute
    memory = amount / gpu.bandwidth / efficiency.bandwidth
    longer = max(compute, memory)
    bound = "overhead" if efficiency.overhead > longer else "compute" if compute >= memory else "memory"
    total = longer + efficiency.overhead
    return Estimate(flops, amount, compute, memory, 0.0, efficiency.overhead, total, bound)  # type: ignore[arg-type]


def _refuse(model: Model, gpus: int) -> None:
    if gpus != 1 or model.experts or model.latent or model.layer_types:
        msg = "the baseline knows dense models with full attention on one GPU"
        raise ValueError(msg)


def prefill(
    model: Model,
    gpu: Gpu,
    precision: Precision,
    tokens: int,
    batch: int = 1,
    gpus: int = 1,
    efficiency: Efficiency = BOUND,
) -> Estimate:
    """Count token by token."""
    _refuse(model, gpus)
    weights = sum(m.size for m in matrices(model) if m.kind not in ("embedding", "head"))
    flops = 2.0 * model.vocab * model.hidden
    for position in range(tokens):
        flops += 2 * weights + 4 * model.layers * model.heads * model.head_dim * (position + 1)
    amount = bytes_read(model, precision, batch * tokens) + batch * tokens * kv_bytes_per_token(model, precision.cache)
    return _time(gpu, precision, batch * flops, amount, efficiency)


def decode(
    model: Model,
    gpu: Gpu,
    precision: Precision,
    batch: int,
    context: int,
    gpus: int = 1,
    efficiency: Efficiency = BOUND,
) -> Estimate:
    """One token a request."""
    _refuse(model, gpus)
    weights = sum(m.size for m in matrices(model) if m.kind not in ("embedding", "head")) + model.vocab * model.hidden
    flops = batch * (2.0 * weights + 4 * model.layers * model.heads * model.head_dim * (context + 1))
    amount = bytes_read(model, precision, batch) + batch * (context + 1) * kv_bytes_per_token(model, precision.cache)
    return _time(gpu, precision, flops, amount, efficiency)
