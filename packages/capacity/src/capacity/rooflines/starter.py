"""Your turn: replace each ``raise NotImplementedError``."""

from capacity.gpus import Gpu
from capacity.rooflines import BOUND, READING, Efficiency, Estimate
from capacity.weights import Model, Precision


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
    raise NotImplementedError("TODO 1 (core, about 12 lines): FLOPs, bytes and time of prompts")


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
    raise NotImplementedError("TODO 2 (core, about 12 lines): FLOPs, bytes and time of a step")


def smooth(compute: float, memory: float) -> float:
    """Return the seconds of a roofline whose corner is rounded: the root of the sum of squares.

    Far from the corner it is the longer of the two, as in the plain roofline; where both are equal it is the root of
    two times longer, since no machine overlaps them perfectly.
    """
    raise NotImplementedError("TODO 3 (stretch, about 1 line): round the corner")


def all_reduce(amount: float, gpus: int, link: float) -> float:
    """Return the seconds in which ``gpus`` GPUs add up ``amount`` bytes over links of ``link`` bytes/s each way.

    A ring sends ``2 * (gpus - 1) / gpus`` of the bytes through each link, whatever the number of GPUs; its latency is
    part of the step's overhead. Source: Patarasuk and Yuan 2009, doi:10.1016/j.jpdc.2008.09.002.
    """
    raise NotImplementedError("TODO 4 (stretch, about 1 line): what a ring sends")


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
    raise NotImplementedError("TODO 5 (stretch, about 14 lines): overhead and compute from two measurements")
