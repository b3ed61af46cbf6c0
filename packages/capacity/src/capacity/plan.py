"""From a model, a GPU and a load to replicas, latencies and money; and other people's numbers put to the test."""

from dataclasses import dataclass, replace
from math import ceil
from types import ModuleType

import numpy as np

import capacity.concurrency.solution
import capacity.costs.solution
import capacity.rooflines.solution
import capacity.serving.solution
from capacity.concurrency import Fit
from capacity.gpus import Gpu
from capacity.rooflines import BOUND, TYPICAL, Efficiency, Estimate
from capacity.serving import Server, Trace, Workload
from capacity.weights import Model, Precision

SEATS = 256  # requests that a server runs at most; vLLM's default on many cards
CHUNK = 2048  # prompt tokens a step
REQUESTS = 3000  # of a simulated run
MOST_REPLICAS = 4096
LITTLE = 0.05  # relative: what clocks and the ends of a run may add to Little's law
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
    if not asked.rate > 0 or not asked.slo > 0 or asked.itl < 0:
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


def server(asked: Question, seats: int, efficiency: Efficiency, parts: Parts = Parts()) -> Server:
    """Return the simulated server whose steps take what the roofline says for few requests and for ``seats`` of them.

    Between those two the step's time is taken as a straight line. Few is one, and a quarter of ``seats`` for a mixture
    of experts: from one request to some dozens it reads ever more experts, and a line from one would be too fast.
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
    prompt = max(0.0, first.seconds - alone) / asked.prompt  # what reading adds to a step that runs anyway
    return Server(alone - token, token, cached, prompt, seats=seats, chunk=CHUNK)


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


@dataclass(frozen=True, slots=True)
class Published:
    """A row of somebody's sweep: seconds, and output tokens a second over all requests."""

    concurrency: int
    ttft: float
    itl: float
    throughput: float
    prompt: int
    output: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What Little's law and the roofline say of a row: ``impossible`` and ``odd`` name what is wrong."""

    row: Published
    in_system: float
    least_ttft: float
    least_itl: float
    most_throughput: float
    impossible: tuple[str, ...]
    odd: tuple[str, ...]


def _ceiling(row: Published, model: Model, gpu: Gpu, precision: Precision, gpus: int, parts: Parts) -> float:
    """Return the output tokens a second that no server exceeds: all it computes, or all it reads, at the peaks."""
    first = parts.rooflines.prefill(model, gpu, precision, row.prompt, 1, gpus)
    step = parts.rooflines.decode(model, gpu, precision, row.concurrency, row.prompt, gpus)
    compute = first.compute / row.output + step.compute / row.concurrency
    found: float = 1 / max(compute, step.memory / row.concurrency)  # reading prompts may share the weights of steps
    return found


def audit(
    rows: list[Published],
    model: Model,
    gpu: Gpu,
    precision: Precision,
    gpus: int,
    parts: Parts = Parts(),
) -> list[Verdict]:
    """Put each row to the test; peaks only, so that what is called impossible is.

    By Little's law the requests in the system are the request rate times the seconds that each stays: not more than
    were sent at once, and not much fewer, or the load was not what the row says. No prompt is read and no step made
    faster than the roofline, and no server computes or reads more in a second than the peaks. All of it is for servers
    without speculative decoding and without prompts that are cached already.
    """
    found = []
    for row in rows:
        rate = row.throughput / row.output
        stays = row.ttft + row.itl * (row.output - 1)
        inside = rate * stays
        first = parts.rooflines.prefill(model, gpu, precision, row.prompt, 1, gpus).seconds
        step = parts.rooflines.decode(model, gpu, precision, 1, row.prompt, gpus).seconds
        most = _ceiling(row, model, gpu, precision, gpus, parts)
        fits = parts.concurrency.fit(model, gpu, precision, row.prompt, 1, gpus, 0.0)
        wrong, odd = [], []
        if inside > row.concurrency * (1 + LITTLE):
            wrong.append(f"Little's law: {inside:.1f} requests in the system, {row.concurrency} were sent")
        elif inside < row.concurrency * (1 - 4 * LITTLE):
            odd.append(f"Little's law: only {inside:.1f} of {row.concurrency} requests in the system")
        if row.ttft < first:
            wrong.append(f"first token after {row.ttft * 1e3:.1f} ms, the peaks need {first * 1e3:.1f}")
        if row.itl < step:
            wrong.append(f"{row.itl * 1e3:.2f} ms between tokens, the peaks need {step * 1e3:.2f}")
        if row.throughput > most:
            wrong.append(f"{row.throughput:.0f} tokens/s, the peaks allow {most:.0f}")
        if not fits.requests:
            wrong.append(f"the model does not fit: {fits.short / 1e9:.1f} GB short on each GPU")
        found.append(Verdict(row, inside, first, step, most, tuple(wrong), tuple(odd)))
    return found


def replayed(
    rows: list[Published],
    model: Model,
    gpu: Gpu,
    precision: Precision,
    gpus: int,
    parts: Parts = Parts(),
) -> tuple[Efficiency, list[tuple[Published, float, float]]]:
    """Fit constants to the row with concurrency 1 and predict the others: (row, seconds between tokens, tokens/s).

    Raises ValueError without such a row, or where it is impossible.
    """
    single = next((row for row in rows if row.concurrency == 1), None)
    if single is None:
        msg = "no row has concurrency 1, from which the constants are fitted"
        raise ValueError(msg)
    given = parts.rooflines.calibrate(model, gpu, precision, single.prompt, single.ttft, single.itl, gpus)
    found = []
    for row in rows:
        asked = Question(model, gpu, precision, gpus, 1.0, row.prompt, row.output, 1.0)
        one = replace(server(asked, row.concurrency, given, parts), chunk=0)
        work = Workload(max(20, 4 * row.concurrency), row.prompt, row.output, concurrency=row.concurrency)
        trace: Trace = parts.serving.simulate(one, work, 0)
        found.append((row, float(trace.itl.mean()), trace.tokens / float(trace.finish.max())))
    return given, found
