"""Rooflines: how long a step takes at least, and what it waits for.

A step of a model multiplies (FLOPs over the peak) and reads (bytes over the bandwidth); the longer of the two is its
lower bound. Prefill has many tokens for each weight it reads and is bound by compute; decoding has one token a
request and is bound by memory, until the batch is large. On many GPUs what is fixed, launching kernels and
synchronising, comes to be most of a step: it is a term of its own here, and not hidden in an efficiency.

What you write:

- ``prefill`` and ``decode``: FLOPs, bytes and seconds of a step, and what bounds it.
- stretch: ``smooth``, a roofline without the corner that no machine has; ``all_reduce``, what tensor parallelism
  sends; ``calibrate``, the constants of a real server from two measurements.
"""

from dataclasses import dataclass
from typing import Literal

Bound = Literal["compute", "memory", "link", "overhead"]


@dataclass(frozen=True, slots=True)
class Efficiency:
    """How much of the published figures is reached.

    ``compute``, ``bandwidth`` and ``link`` are shares of the peaks, above 0 and at most 1; ``overhead`` is seconds for
    each step; ``rounded`` takes the smooth roofline instead of the one with a corner.
    """

    compute: float = 1.0
    bandwidth: float = 1.0
    link: float = 1.0
    overhead: float = 0.0
    rounded: bool = False

    def __post_init__(self) -> None:
        """Refuse what no machine does."""
        for name in ("compute", "bandwidth", "link"):
            if not 0 < getattr(self, name) <= 1:
                msg = f"{name} is a share of the peak, above 0 and at most 1, not {getattr(self, name)}"
                raise ValueError(msg)
        if not self.overhead >= 0:
            msg = f"overhead is in seconds, at least 0, not {self.overhead}"
            raise ValueError(msg)


BOUND = Efficiency()
"""Peaks and nothing else: nothing can be faster."""
TYPICAL = Efficiency(compute=0.5, bandwidth=0.8, link=0.7, overhead=2e-3, rounded=True)
"""An assumption for a server that nobody has measured; ``calibrate`` replaces it."""
READING = 0.9
"""Share of the bandwidth that a kernel reaches while it runs; what passes between kernels is overhead.

Decoding attention reads 3000 of an H800's 3350 GB/s. ``TYPICAL`` says less, since nobody has measured its overhead.
Source: the README of DeepSeek's FlashMLA, github.com/deepseek-ai/FlashMLA.
"""


@dataclass(frozen=True, slots=True)
class Estimate:
    """One step on each GPU: ``flops`` and ``bytes``, the seconds of each term, their sum and what bounds it.

    ``seconds`` is the roofline of ``compute`` and ``memory``, plus ``link``, plus ``overhead``; ``bound`` names the
    longest of the four.
    """

    flops: float
    bytes: float
    compute: float
    memory: float
    link: float
    overhead: float
    seconds: float
    bound: Bound
