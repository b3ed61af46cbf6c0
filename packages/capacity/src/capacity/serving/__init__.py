"""Serving: a discrete-event simulation of a server with continuous batching.

A formula gives the throughput of a full server and the latency of an empty one; everything between is queueing, and
there a simulation of a few dozen lines is more honest than a formula with five assumptions. Time goes by in steps. In
each, the server decodes one token for every request that has its prompt read, and reads prompt tokens of those that
have not, ``chunk`` of them at most. Requests are admitted in the order of arrival, between two steps, once a seat and
the blocks for their full length are free.

What you write:

- ``step_seconds``: how long a step takes.
- ``simulate``: every request's admission, first token and end.
- ``warm_up``: how many requests of a run belong to its start, by a rule and not by eye.
- ``saturation``: the throughput of a full server in closed form, which the simulation has to meet.
- stretch: ``simulate_split``, with prompts read on servers of their own; ``simulate_prefix``, with a prefix that all
  share; ``simulate_preempting``, which reserves nothing ahead.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Server:
    """What a step costs, in seconds, and what there is room for.

    A step takes ``step``, and ``prompt`` for each prompt token that it reads, ``token`` for each request that it
    decodes and ``context`` for each token that such a request has so far. The cache has ``blocks`` of ``block``
    tokens; at most ``seats`` requests run; a step reads at most ``chunk`` prompt tokens, all there are where it is 0.
    """

    step: float
    token: float = 0.0
    context: float = 0.0
    prompt: float = 0.0
    blocks: int = 1 << 40
    block: int = 16
    seats: int = 256
    chunk: int = 0

    def __post_init__(self) -> None:
        """Refuse what no server is."""
        if min(self.step, self.token, self.context, self.prompt) < 0 or self.step + self.token + self.prompt <= 0:
            msg = "step, token, context and prompt are seconds, not below 0, and a step takes time"
            raise ValueError(msg)
        if min(self.blocks, self.block, self.seats) < 1 or self.chunk < 0:
            msg = (
                f"blocks, block and seats must be at least 1 and chunk 0, not {self.blocks}, {self.block}, {self.seats}"
            )
            raise ValueError(msg + f" and {self.chunk}")


@dataclass(frozen=True, slots=True)
class Workload:
    """``requests`` requests of ``prompt`` and ``output`` tokens each.

    They arrive at random, ``rate`` a second (Poisson), or, where ``concurrency`` is not 0, that many users send them,
    each the next one as soon as the last is answered. ``lengths`` says whether prompt and output are "fixed" or means
    of a "geometric" distribution, the whole numbers' exponential.
    """

    requests: int
    prompt: int
    output: int
    rate: float = 0.0
    concurrency: int = 0
    lengths: Literal["fixed", "geometric"] = "fixed"

    def __post_init__(self) -> None:
        """Refuse what cannot be sent."""
        if min(self.requests, self.prompt, self.output) < 1:
            msg = f"requests, prompt and output must be at least 1, not {self.requests}, {self.prompt}, {self.output}"
            raise ValueError(msg)
        if (self.rate > 0) == (self.concurrency > 0) or self.rate < 0 or self.concurrency < 0:
            msg = f"give a rate or a concurrency above 0, not {self.rate} and {self.concurrency}"
            raise ValueError(msg)
        if self.lengths not in ("fixed", "geometric"):
            msg = f"lengths are fixed or geometric, not {self.lengths!r}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Trace:
    """What happened: for each request, in the order of arrival, seconds and tokens; and sums over the run.

    ``tokens`` were produced in ``steps``, which took ``busy`` seconds; ``area`` is the number of requests in the
    system, waiting and running, integrated over time; ``peak`` is the most blocks ever held, ``held`` those at the
    end, ``most`` the most requests that ran at once. The first ``warm`` requests belong to the start of the run.
    """

    arrival: Floats
    admitted: Floats
    first: Floats
    finish: Floats
    prompts: Ints
    outputs: Ints
    tokens: int
    steps: int
    busy: float
    area: float
    peak: int
    held: int
    most: int
    warm: int

    @property
    def ttft(self) -> Floats:
        """Seconds from arrival to the first token."""
        return self.first - self.arrival

    @property
    def itl(self) -> Floats:
        """Mean seconds between a request's tokens; 0 where there is only one."""
        return (self.finish - self.first) / np.maximum(self.outputs - 1, 1)

    @property
    def throughput(self) -> float:
        """Output tokens a second, from the warm part's first end to the last."""
        ends = np.sort(self.finish)[self.warm :]
        if len(ends) < 2 or ends[-1] <= ends[0]:  # noqa: PLR2004 - a rate needs two moments
            return float(self.outputs.sum() / self.finish.max())
        return float((len(ends) - 1) / (ends[-1] - ends[0]) * self.outputs.mean())


def draw(workload: Workload, seed: int) -> tuple[Floats, Ints, Ints]:
    """Draw arrival times (inf for those that wait for an answer first), prompts and outputs."""
    rng = np.random.default_rng(seed)
    if workload.concurrency:
        arrivals = np.where(np.arange(workload.requests) < workload.concurrency, 0.0, np.inf)
    else:
        arrivals = np.cumsum(rng.exponential(1 / workload.rate, workload.requests))
    lengths = []
    for mean in (workload.prompt, workload.output):
        fixed = np.full(workload.requests, mean, np.int64)
        lengths.append(fixed if workload.lengths == "fixed" else rng.geometric(1 / mean, workload.requests))
    return arrivals, lengths[0], lengths[1]
