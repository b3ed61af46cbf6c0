"""Other people's numbers put to the test: what cannot be true of a sweep, and what one user says of the others."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

from capacity.caching.solution import request_bytes
from capacity.concurrency.solution import budget
from capacity.gpus import Gpu
from capacity.plan import Parts, Question, server
from capacity.rooflines import Efficiency
from capacity.rooflines.solution import ACTIVATION
from capacity.serving import Trace, Workload
from capacity.weights import Model, Precision

LITTLE = 0.05  # relative: what clocks and the ends of a run may add to Little's law
MOST_READ = 8192  # prompt tokens a step, the default of TensorRT-LLM (max_num_tokens) and of vLLM's server on an H100
BLOCK = 16  # tokens
ROUNDS = 16  # answers to each user of a replayed row
OURS = Parts()


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
class Sweep:
    """A sweep that comes with the package: what was measured, where that was published, and on what it ran."""

    title: str
    source: str
    config: str
    gpu: str
    gpus: int
    precision: str
    rows: tuple[Published, ...]


def names() -> list[str]:
    """Name the sweeps that come with the package, the default one first."""
    return list(_known())


def load(name: str) -> Sweep:
    """Return one of them. Raises ValueError, naming them, for another name."""
    if name not in _known():
        msg = f"no sweep {name!r}, only {', '.join(names())}"
        raise ValueError(msg)
    entry = _known()[name]
    tokens = {"prompt": entry["prompt"], "output": entry["output"]}
    rows = tuple(Published(users, *seen, **tokens) for users, *seen in entry["rows"])
    fields = ("title", "source", "config", "gpu", "gpus", "precision")
    return Sweep(**{field: entry[field] for field in fields}, rows=rows)


def _known() -> dict[str, dict[str, Any]]:
    return tomllib.loads(resources.files("capacity").joinpath("published.toml").read_text("utf-8"))


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
    rows: Sequence[Published],
    model: Model,
    gpu: Gpu,
    precision: Precision,
    gpus: int,
    parts: Parts = OURS,
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


@dataclass(frozen=True, slots=True)
class Predicted:
    """What the constants of one user say of a row: seconds, and output tokens a second over all requests."""

    row: Published
    ttft: float
    itl: float
    throughput: float


@dataclass(frozen=True, slots=True)
class Replay:
    """``constants`` that one user shows, and what follows from them for every row.

    ``measured`` is False where that user's prompt is so short that even at the peaks reading the weights takes longer
    than multiplying: then ``constants.compute`` is not what batches reach.
    """

    constants: Efficiency
    measured: bool
    rows: tuple[Predicted, ...]

    @property
    def worst(self) -> tuple[float, float]:
        """The largest relative errors, of the time between tokens and of the throughput."""
        itl = max(abs(each.itl / each.row.itl - 1) for each in self.rows)
        return itl, max(abs(each.throughput / each.row.throughput - 1) for each in self.rows)


def activations(model: Model, tokens: int, gpus: int = 1) -> int:
    """Return the bytes that a step over ``tokens`` tokens needs on each GPU beside weights and cache.

    They are the most at an MLP: the residual stream and its normalised copy, whole on each GPU, and gate, up and their
    product, shared out. Sources: Shazeer 2020, arXiv:2002.05202; Shoeybi et al. 2019, arXiv:1909.08053, section 3.
    """
    width = max(model.intermediate, (model.chosen + model.shared) * model.expert_size)
    return tokens * (2 * model.hidden + -(-3 * width // gpus)) * ACTIVATION


def replayed(
    rows: Sequence[Published],
    model: Model,
    gpu: Gpu,
    precision: Precision,
    gpus: int,
    parts: Parts = OURS,
    chunk: int = MOST_READ,
) -> Replay:
    """Fit constants to the row with concurrency 1, and from them alone predict all.

    Each row is simulated with its users, the blocks that memory has (a tenth of it held back), and steps that read at
    most ``chunk`` prompt tokens (0: all there are). The first half of the run is dropped, and the end, where users stop
    sending. Throughput then is Little's law: users times tokens over the seconds a request stays. Raises ValueError
    for a negative chunk, without such a row, where it is impossible, and where a request does not fit.
    """
    single = next((row for row in rows if row.concurrency == 1), None)
    if single is None:
        msg = "no row has concurrency 1, from which the constants are fitted"
        raise ValueError(msg)
    if chunk < 0:
        msg = f"chunk must be at least 1, or 0 for whole prompts, not {chunk}"
        raise ValueError(msg)
    given = parts.rooflines.calibrate(model, gpu, precision, single.prompt, single.ttft, single.itl, gpus)
    peak = parts.rooflines.prefill(model, gpu, precision, single.prompt, 1, gpus)
    found = []
    for row in rows:
        asked = Question(model, gpu, precision, gpus, 1.0, row.prompt, row.output, 1.0)
        room = budget(model, gpu, precision, gpus, asked.held).cache - activations(model, chunk or row.prompt, gpus)
        blocks = max(0, room) // request_bytes(model, BLOCK, BLOCK, precision.cache, gpus)
        fits = blocks // -(-(row.prompt + row.output) // BLOCK)
        if not fits:
            msg = f"a request of {row.prompt} + {row.output} tokens does not fit: there is no speed to predict"
            raise ValueError(msg)
        running = min(row.concurrency, fits)
        one = server(asked, running, given, parts, beside=running - 1)
        one = replace(one, blocks=blocks, block=BLOCK, seats=row.concurrency, chunk=chunk)
        work = Workload(ROUNDS * row.concurrency, row.prompt, row.output, concurrency=row.concurrency)
        trace: Trace = parts.serving.simulate(one, work, 0)
        steady = slice(work.requests // 2, work.requests - row.concurrency)
        stays = float((trace.finish - trace.arrival)[steady].mean())
        seen = (float(trace.ttft[steady].mean()), float(trace.itl[steady].mean()))
        found.append(Predicted(row, *seen, row.concurrency * row.output / stays))
    return Replay(given, peak.compute > peak.memory, tuple(found))
