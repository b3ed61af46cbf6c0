"""From a model, a GPU and a load to replicas, latencies and money."""

from dataclasses import dataclass
from math import ceil, isfinite
from types import ModuleType

import numpy as np

import capacity.concurrency.solution
import capacity.costs.solution
import capacity.rooflines.solution
import capacity.serving.solution
from capacity.concurrency import Fit
from capacity.gpus import Gpu
from capacity.rooflines import BOUND, TYPICAL, Efficiency, Estimate
from capacity.rooflines.solution import smooth
from capacity.serving import Server, Trace, Workload
from capacity.weights import Model, Precision
from capacity.weights.solution import bytes_read

SEATS = 256  # requests that a server runs at most; vLLM's default on many cards
CHUNK = 2048  # prompt tokens a step
REQUESTS = 3000  # of a simulated run
MOST_REPLICAS = 4096
LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)


@dataclass(frozen=True, slots=True)
class Parts:
    """The exercises' implementations that a plan runs on."""

    concurrency: ModuleType = capacity.concurrency.solution
    rooflines: ModuleType = capacity.rooflines.solution
    serving: ModuleType = capacity.serving.solution
    costs: ModuleType = capacity.costs.solution


@dataclass(frozen=True, slots=True)
class Question:
    """A service: ``rate`` requests a second in all, ``prompt`` and ``output`` tokens, on servers of ``gpus`` GPUs.

    The 99th percentile of the time to the first token should be at most ``slo`` seconds, and that of a request's mean
    time between tokens ``itl`` (0: no limit).
    """

    model: Model
    gpu: Gpu
    precision: Precision
    gpus: int
    rate: float
    prompt: int
    output: int
    slo: float
    itl: float = 0.0
    seats: int = SEATS
    held: float = 0.1


@dataclass(frozen=True, slots=True)
class Speed:
    """One server under some constants, and how many of them the load needs.

    ``saturation`` is requests a second of a full one; seconds are percentiles of the simulated load. ``binding`` says
    what the number of replicas follows from: "throughput" (fewer cannot keep up) or "slo" (fewer are too slow).
    ``replicas`` is 0 where no number keeps the limits.
    """

    server: Server
    first: Estimate
    step: Estimate
    saturation: float
    replicas: int
    binding: str
    utilization: float
    ttft_p50: float
    ttft_p99: float
    itl_p99: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What fits, and the speed at the peaks (``bound``) and with usual or measured constants (``typical``).

    Both are None where the model does not fit: there is no speed then.
    """

    fit: Fit
    bound: Speed | None
    typical: Speed | None


def answer(asked: Question, efficiency: Efficiency = TYPICAL, parts: Parts = Parts()) -> Answer:
    """Answer a question with both sets of constants. Raises ValueError for rates and limits not above 0."""
    limits = (asked.rate, asked.slo, asked.itl)
    if not all(isfinite(limit) for limit in limits) or asked.rate <= 0 or asked.slo <= 0 or asked.itl < 0:
        msg = f"rate and slo must be above 0 and itl not negative, not {asked.rate}, {asked.slo} and {asked.itl}"
        raise ValueError(msg)
    fits: Fit = parts.concurrency.fit(
        asked.model,
        asked.gpu,
        asked.precision,
        asked.prompt,
        asked.output,
        asked.gpus,
        asked.held,
        seats=asked.seats,
    )
    if not fits.requests:
        return Answer(fits, None, None)
    return Answer(fits, _speed(asked, fits, BOUND, parts), _speed(asked, fits, efficiency, parts))


def server(asked: Question, seats: int, efficiency: Efficiency, parts: Parts = Parts(), beside: int = 0) -> Server:
    """Return the simulated server whose steps take what the roofline says for few requests and for ``seats`` of them.

    Between those two the step's time is taken as a straight line. Few is one, and a quarter of ``seats`` for a mixture
    of experts: from one request to some dozens it reads ever more experts, and a line from one would be too fast.
    A prompt is read in a step of its own, or in one that decodes ``beside`` requests.
    """
    decode, read = parts.rooflines.decode, parts.rooflines.prefill
    fixed = (asked.gpus, efficiency)
    context = asked.prompt + ceil(asked.output / 2)

    def step(batch: int, tokens: int) -> float:
        found: Estimate = decode(asked.model, asked.gpu, asked.precision, batch, tokens, *fixed)
        return found.seconds

    few = max(1, seats // 4) if asked.model.experts else 1
    token = (step(seats, 0) - step(few, 0)) / (seats - few) if seats > few else 0.0
    alone = max(step(few, 0) - token * (few - 1), token)
    cached = (step(seats, context) - step(seats, 0)) / seats / context
    first: Estimate = read(asked.model, asked.gpu, asked.precision, asked.prompt, 1, *fixed)
    if beside:
        other: Estimate = decode(asked.model, asked.gpu, asked.precision, beside, context, *fixed)
        added = _added(asked, first, other, beside, efficiency)
    else:
        added = max(0.0, first.seconds - alone)  # what reading adds to a step that runs anyway
    return Server(alone - token, token, cached, added / asked.prompt, seats=seats, chunk=CHUNK)


def _added(asked: Question, first: Estimate, other: Estimate, beside: int, efficiency: Efficiency) -> float:
    """Return the seconds that ``first``, reading a prompt, adds to ``other``, a step that decodes ``beside`` requests.

    One step does the work of both and reads the weights once, so that caches are read while the prompt's tokens are
    multiplied. Source: Agrawal et al. 2024, arXiv:2403.02310, section 3.
    """
    twice = bytes_read(asked.model, asked.precision, beside) / asked.gpus / other.bytes  # of the memory term of `other`
    compute, memory = first.compute + other.compute, first.memory + other.memory * (1 - twice)
    both = smooth(compute, memory) if efficiency.rounded else max(compute, memory)
    return max(0.0, both + first.link + other.link + other.overhead - other.seconds)


def _speed(asked: Question, fits: Fit, efficiency: Efficiency, parts: Parts) -> Speed:
    seats = fits.requests
    one = server(asked, seats, efficiency, parts)
    context = asked.prompt + ceil(asked.output / 2)
    fixed = (asked.gpus, efficiency)
    first = parts.rooflines.prefill(asked.model, asked.gpu, asked.precision, asked.prompt, 1, *fixed)
    step = parts.rooflines.decode(asked.model, asked.gpu, asked.precision, seats, context, *fixed)
    most: float = parts.serving.saturation(one, asked.prompt, asked.output, seats)

    def load(count: int) -> Trace:
        work = Workload(REQUESTS, asked.prompt, asked.output, rate=asked.rate / count)
        found: Trace = parts.serving.simulate(one, work, 0)
        return found

    def kept(trace: Trace) -> bool:
        ttft, itl = (float(np.percentile(values[trace.warm :], 99)) for values in (trace.ttft, trace.itl))
        return ttft <= asked.slo and (not asked.itl or itl <= asked.itl)

    least = max(1, ceil(asked.rate / most))
    low, high = least, least
    while not kept(load(high)):
        low, high = high + 1, 2 * high
        if high > max(MOST_REPLICAS, 4 * least) or asked.rate / high < 1 / (100 * first.seconds):
            return _report(asked, one, first, step, most, 0, "slo", load(high))
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if kept(load(middle)) else (middle + 1, high)
    return _report(asked, one, first, step, most, high, "throughput" if high == least else "slo", load(high))


def _report(
    asked: Question,
    one: Server,
    first: Estimate,
    step: Estimate,
    most: float,
    count: int,
    binding: str,
    trace: Trace,
) -> Speed:
    warm = slice(trace.warm, None)
    p50, p99 = np.percentile(trace.ttft[warm], [50, 99]).tolist()
    between = float(np.percentile(trace.itl[warm], 99))
    used = asked.rate / count / most if count else 0.0
    return Speed(one, first, step, most, count, binding, used, p50, p99, between)


def curve(asked: Question, one: Server, most: float, parts: Parts = Parts()) -> list[tuple[float, float, float, float]]:
    """Return (requests a second, TTFT p50, TTFT p99, ITL p99) of one server at shares of its saturation."""
    rows = []
    for share in LOADS:
        work = Workload(REQUESTS, asked.prompt, asked.output, rate=share * most)
        trace: Trace = parts.serving.simulate(one, work, 0)
        warm = slice(trace.warm, None)
        p50, p99 = np.percentile(trace.ttft[warm], [50, 99]).tolist()
        rows.append((share * most, p50, p99, float(np.percentile(trace.itl[warm], 99))))
    return rows
