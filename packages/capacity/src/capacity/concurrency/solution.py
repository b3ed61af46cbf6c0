"""Subtract what is spent, divide what is left."""

from math import ceil

from capacity.caching.solution import request_bytes
from capacity.concurrency import Budget, Fit
from capacity.gpus import Gpu
from capacity.weights import Model, Precision
from capacity.weights.solution import weight_bytes

MOST_GPUS = 64


def budget(model: Model, gpu: Gpu, precision: Precision, gpus: int = 1, held: float = 0.1) -> Budget:
    """Return what the memory of each of ``gpus`` GPUs is spent on.

    ``held`` is the share of the memory that neither weights nor cache may use; 0.1 is vLLM's default. Weights are
    sharded evenly, rounded up to whole bytes. Raises ValueError for gpus below 1 and a share outside 0 to 1.
    """
    if gpus < 1 or not 0 <= held < 1:
        msg = f"gpus must be at least 1 and held at least 0 and below 1, not {gpus} and {held}"
        raise ValueError(msg)
    kept = ceil(gpu.memory * held)
    weights = ceil(weight_bytes(model, precision) / gpus)
    return Budget(gpu.memory, kept, weights, gpu.memory - kept - weights)


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
    """Return how many requests of ``prompt`` and ``output`` tokens run at once on ``gpus`` GPUs that share one model.

    ``seats`` is the most that the scheduler admits; None means no limit of its own. Raises ValueError for tokens
    below 1, seats below 1, and what ``budget`` and ``request_bytes`` raise.
    """
    if prompt < 1 or output < 1 or (seats is not None and seats < 1):
        msg = f"prompt, output and seats must be at least 1, not {prompt}, {output} and {seats}"
        raise ValueError(msg)
    spent = budget(model, gpu, precision, gpus, held)
    whole = request_bytes(model, prompt + output, block, precision.cache, gpus)
    short = max(0, whole - spent.cache)
    if model.context and prompt + output > model.context:
        return Fit(0, 0, "context", short, spent)
    if short:
        return Fit(0, 0, "weights" if spent.cache < 0 else "memory", short, spent)
    half = request_bytes(model, prompt + ceil(output / 2), block, precision.cache, gpus)
    requests, typical = spent.cache // whole, spent.cache // half
    if seats is not None and seats <= requests:
        return Fit(seats, seats, "seats", 0, spent)
    return Fit(requests, typical if seats is None else min(typical, seats), "memory", 0, spent)


def fewest_gpus(
    model: Model, gpu: Gpu, precision: Precision, prompt: int, output: int, requests: int, held: float = 0.1
) -> int:
    """Return the fewest GPUs on which ``requests`` fit at full length, among the numbers that can share the heads.

    More GPUs hold smaller shares of the weights, but no smaller a cache once each has a single KV head. Raises
    ValueError where no number up to 64 does, naming what binds.
    """
    found = None
    for gpus in range(1, MOST_GPUS + 1):
        if model.heads % gpus or (not model.latent and model.kv_heads % gpus and gpus % model.kv_heads):
            continue
        found = fit(model, gpu, precision, prompt, output, gpus, held)
        if found.requests >= requests:
            return gpus
        if found.binding == "context":
            break
    why = found.binding if found else "heads"
    msg = f"{requests} requests of {prompt} + {output} tokens fit on no number of {gpu.name} up to {MOST_GPUS}: {why}"
    raise ValueError(msg)
