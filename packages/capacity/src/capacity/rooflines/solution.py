"""Count what a step multiplies, reads and sends; divide each by what the machine does in a second."""

from math import hypot, sqrt

from capacity.caching import SLIDING
from capacity.caching.solution import kv_bytes_per_token
from capacity.gpus import Gpu
from capacity.rooflines import BOUND, READING, Efficiency, Estimate
from capacity.weights import Model, Precision
from capacity.weights.solution import bytes_read, matrices

ACTIVATION = 2  # bytes of a number that is sent between GPUs, in bf16
EVERYTHING = 1 << 60  # tokens: the window of full attention
ROUNDS = 20  # of the fixed point in calibrate; each shrinks the error by decode's share of compute, under a tenth


def prefill(
    model: Model,
    gpu: Gpu,
    precision: Precision,
    tokens: int,
    batch: int = 1,
    gpus: int = 1,
    efficiency: Efficiency = BOUND,
) -> Estimate:
    """Return what it takes to read ``batch`` prompts of ``tokens`` tokens and to give each its first token.

    FLOPs are two for each weight and token, in the head only for each prompt's last token, and in attention
    ``4 * heads * head_dim`` for each query and key that it may see (causal, within a window where there is one).
    Bytes are the weights that the tokens need and the cache that they write. Raises ValueError for tokens, batch or
    gpus below 1, and for arithmetic that the GPU does not have. Source: Kaplan et al. 2020, arXiv:2001.08361, table 1.
    """
    _check(tokens=tokens, batch=batch, gpus=gpus)
    body, head = _weights_touched(model)
    flops = 2 * batch * (tokens * body + head)
    for window, layers in _windows(model):
        seen = min(tokens, window)  # the first `seen` tokens see all before them, later ones a whole window
        pairs = seen * (seen + 1) / 2 + (tokens - seen) * window
        flops += layers * batch * pairs * _flops_per_pair(model)
    read = bytes_read(model, precision, batch * tokens) / gpus
    written = batch * tokens * kv_bytes_per_token(model, precision.cache, gpus)
    return _estimate(model, gpu, precision, flops / gpus, read + written, batch * tokens, gpus, efficiency)


def decode(
    model: Model,
    gpu: Gpu,
    precision: Precision,
    batch: int,
    context: int,
    gpus: int = 1,
    efficiency: Efficiency = BOUND,
) -> Estimate:
    """Return what it takes to give each of ``batch`` requests one more token after ``context`` tokens.

    Bytes are the weights that the batch needs, each request's cache (within the window where a layer has one), and
    the token that is added to it. Raises ValueError for batch or gpus below 1, a negative context, and for arithmetic
    that the GPU does not have. Source: Pope et al. 2022, arXiv:2211.05102, section 2.1.
    """
    _check(batch=batch, gpus=gpus)
    if context < 0:
        msg = f"context must be at least 0, not {context}"
        raise ValueError(msg)
    body, head = _weights_touched(model)
    flops = 2.0 * batch * (body + head)
    cached = 0.0  # token slots read or written, averaged over the layers
    for window, layers in _windows(model):
        seen = min(context + 1, window)
        flops += layers * batch * seen * _flops_per_pair(model)
        cached += (min(context, window) + 1) * layers / model.layers
    read = bytes_read(model, precision, batch) / gpus
    read += batch * cached * kv_bytes_per_token(model, precision.cache, gpus)
    return _estimate(model, gpu, precision, flops / gpus, read, batch, gpus, efficiency)


def _check(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            msg = f"{name} must be at least 1, not {count}"
            raise ValueError(msg)


def _weights_touched(model: Model) -> tuple[float, float]:
    """Return how many weights multiply each token, and how many more the head has."""
    body = 0.0
    for matrix in matrices(model):
        if matrix.kind == "expert":
            body += matrix.size * (model.chosen + model.shared) / (model.experts + model.shared)
        elif matrix.kind not in ("embedding", "head"):
            body += matrix.size
    return body, model.vocab * model.hidden


def _windows(model: Model) -> list[tuple[int, int]]:
    """Pair how far attention looks back with how many layers look so far."""
    sliding = model.layer_types.count(SLIDING)
    return [(EVERYTHING, model.layers - sliding), (model.window, sliding)]


def _flops_per_pair(model: Model) -> int:
    """Two for each number of a key and of a value, in every head."""
    keys, values = (model.head_dim + model.rope_dim, model.value_dim) if model.latent else (model.head_dim,) * 2
    return 2 * model.heads * (keys + values)


def _estimate(
    model: Model,
    gpu: Gpu,
    precision: Precision,
    flops: float,
    amount: float,
    tokens: int,
    gpus: int,
    efficiency: Efficiency,
) -> Estimate:
    compute = flops / (gpu.peak(precision.compute) * efficiency.compute)
    memory = amount / (gpu.bandwidth * efficiency.bandwidth)
    link = 0.0
    if gpus > 1:  # after attention and after the MLP of every layer
        link = 2 * model.layers * all_reduce(tokens * model.hidden * ACTIVATION, gpus, gpu.link * efficiency.link)
    seconds = smooth(compute, memory) if efficiency.rounded else max(compute, memory)
    terms = {"compute": compute, "memory": memory, "link": link, "overhead": efficiency.overhead}
    bound = max(terms, key=lambda name: terms[name])
    total = seconds + link + efficiency.overhead
    return Estimate(flops, amount, compute, memory, link, efficiency.overhead, total, bound)  # type: ignore[arg-type]


def smooth(compute: float, memory: float) -> float:
    """Return the seconds of a roofline whose corner is rounded: the root of the sum of squares.

    Far from the corner it is the longer of the two, as in the plain roofline; where both are equal it is the root of
    two times longer, since no machine overlaps them perfectly.
    """
    return hypot(compute, memory)


def all_reduce(amount: float, gpus: int, link: float) -> float:
    """Return the seconds in which ``gpus`` GPUs add up ``amount`` bytes over links of ``link`` bytes/s each way.

    A ring sends ``2 * (gpus - 1) / gpus`` of the bytes through each link, whatever the number of GPUs; its latency is
    part of the step's overhead. Source: Patarasuk and Yuan 2009, doi:10.1016/j.jpdc.2008.09.002.
    """
    return 2 * (gpus - 1) / gpus * amount / link


def calibrate(
    model: Model,
    gpu: Gpu,
    precision: Precision,
    prompt: int,
    ttft: float,
    itl: float,
    gpus: int = 1,
    bandwidth: float = READING,
    link: float = 0.7,
) -> Efficiency:
    """Return the constants of a server from two measurements of a single request, both in seconds.

    ``ttft`` is the time to the first token after a prompt of ``prompt`` tokens, ``itl`` the time between tokens right
    after it. Given the shares of ``bandwidth`` and ``link``, the two fix the overhead of a step and the share of
    compute, under the smooth roofline. Raises ValueError, saying which measurement is impossible, where no constants
    above 0 and at most 1 explain them.
    """
    overhead, compute = 0.0, 1.0
    for _ in range(ROUNDS):
        given = Efficiency(compute, bandwidth, link, 0.0, rounded=True)
        overhead = itl - decode(model, gpu, precision, 1, prompt, gpus, given).seconds
        if overhead < 0:
            msg = f"itl of {itl:.6g} s is impossible: at {bandwidth:.0%} of bandwidth a step takes {itl - overhead:.6g}"
            raise ValueError(msg)
        first = prefill(model, gpu, precision, prompt, 1, gpus, given)
        busy = ttft - overhead - first.link
        if busy <= first.memory:
            other = overhead + first.link + first.memory
            msg = f"ttft of {ttft:.6g} s leaves no time to compute: {other:.6g} s go elsewhere"
            raise ValueError(msg)
        share = first.compute * compute / sqrt(busy**2 - first.memory**2)
        if share > 1:
            msg = f"ttft of {ttft:.6g} s is impossible: it takes {share:.0%} of the peak"
            raise ValueError(msg)
        compute = share
    return Efficiency(compute, bandwidth, link, overhead, rounded=True)
