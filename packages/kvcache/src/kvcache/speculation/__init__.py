"""Speculative decoding: guess a few tokens cheaply, check them all in one step.

A decode step reads every weight to compute one token; with five tokens it reads the same weights. So let something
cheap draft tokens, feed them all at once, and keep those that the model would have said itself. What comes out is what
the model alone would have said: the same tokens where it is greedy, the same distribution where it draws.

What you write:

- ``NgramDrafter``: the last words were said before; propose what followed them then.
- ``accept_greedy``: how far the drafted tokens are the model's own.
- ``accept``: the same for drawn tokens: accept with probability min(1, p / q), else draw from what q lacked.
- ``generate``: draft, check, take back what was wrong from the cache.
- stretch: ``ModelDrafter``: a small model drafts for a large one, from a cache of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from kvcache.caches import KVCache

REJECTED = -1
"""What fills a row behind its last token."""

Warp = Callable[[Tensor], Tensor]
"""From logits (n, vocabulary) to those that are drawn from, as ``kvcache.sampler.Sampler.filtered``."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Proposed ``tokens``, and the distributions that they were drawn from, (tokens, vocabulary).

    None stands for a drafter that does not draw: it gave each token probability 1.
    """

    tokens: tuple[int, ...]
    probabilities: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """What one step of the model brought: ``tokens``, of which the first ``accepted`` of ``drafted`` were guessed."""

    tokens: tuple[int, ...]
    drafted: int
    accepted: int


class Drafter(Protocol):
    """What guesses."""

    def propose(self, tokens: Sequence[int], count: int) -> Draft:
        """Guess up to ``count`` tokens that follow ``tokens``."""


class Model(Protocol):
    """What is asked of a language model; ``kvcache.decoder.Decoder`` is one."""

    def forward(self, tokens: Tensor, cache: KVCache, *, every: bool = False) -> Tensor:
        """Append ``tokens``, (1, n), and return the last logits, (1, vocabulary), or all, (1, n, vocabulary)."""
