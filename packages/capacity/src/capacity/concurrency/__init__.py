"""Concurrency: how many requests fit on a server at once, and what stands in the way of more.

What is left of a GPU's memory after weights and working space goes to the KV cache. The answer always names the
constraint that binds; and where the model does not fit at all there is no number of requests and no speed, only how
many bytes are short.

What you write:

- ``budget``: what a GPU's memory is spent on.
- ``fit``: requests at full length (a promise) and at average length (what to expect), and what binds.
- stretch: ``fewest_gpus`` for a number of requests.
"""

from dataclasses import dataclass
from typing import Literal

Binding = Literal["weights", "context", "seats", "memory"]


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes on each GPU: all that the driver shows, held back, weights, and what is left for the cache.

    ``held`` is for activations, the runtime and fragmentation; ``cache`` is below 0 where the weights do not fit.
    """

    total: int
    held: int
    weights: int
    cache: int


@dataclass(frozen=True, slots=True)
class Fit:
    """How many requests fit.

    ``requests`` can all grow to their full length at once; ``typical`` fit at the length that they have on average
    while they run, the prompt and half the output. ``binding`` names what stands in the way of more: "weights" (the
    model does not fit), "context" (a request is longer than the model can read), "seats" (the scheduler's limit) or
    "memory" (the cache). ``short`` is how many bytes are missing on each GPU for one request, 0 where one fits.
    """

    requests: int
    typical: int
    binding: Binding
    short: int
    budget: Budget
