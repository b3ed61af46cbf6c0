"""Your turn: replace each ``raise NotImplementedError``."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from kvcache.caches import KVCache
from kvcache.speculation import Draft, Drafter, Model, Round, Warp


class NgramDrafter:
    """Proposes what followed the latest earlier occurrence of the last few tokens (prompt lookup)."""

    def __init__(self, longest: int = 3, shortest: int = 1) -> None:
        """Match the last ``longest`` tokens, else fewer, at least ``shortest``; ValueError unless 1 <= both in order.

        Source: Saxena 2023, prompt lookup decoding; Yang et al. 2023, arXiv:2304.04487.
        """
        raise NotImplementedError("TODO 1 (core, about 2 lines): remember the sizes, longest first")

    def propose(self, tokens: Sequence[int], count: int) -> Draft:
        """Return ``count`` tokens, or none where no n-gram was there before.

        A copy may run into what it copies: after "la la" it goes on with "la" for as long as is wanted.
        """
        raise NotImplementedError(
            "TODO 1 (core, about 8 lines): look backwards for the end of the text, copy from there"
        )


def accept_greedy(drafted: Sequence[int], logits: Tensor) -> list[int]:
    """Return the tokens that greedy decoding gives: drafted ones as far as they are right, and one of the model's own.

    ``logits`` is (drafted + 1, vocabulary), after the last known token and after each drafted one. Raises ValueError
    for another number of rows, and for NaN.
    """
    raise NotImplementedError(
        "TODO 2 (core, about 5 lines): compare until the first difference, keep the model's token"
    )


def accept(drafted: Tensor, draft: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
    """Accept or replace drafted tokens so that each row is distributed as if drawn from ``target`` alone.

    ``drafted`` is (rows, k) int64, each token drawn from ``draft``, (rows, k, vocabulary); ``target`` is (rows, k + 1,
    vocabulary); both are probabilities. Returns (rows, k + 1) int64: the accepted tokens, one more, then REJECTED. The
    generator is the CPU's, so that every device draws the same. Where rounding leaves nothing of target - draft, the
    token comes from target. Raises ValueError for shapes or devices that do not fit, NaN, tokens outside the
    vocabulary, and a drafted token of probability 0, TypeError for tokens that are not int64.
    Source: Leviathan et al. 2023, arXiv:2211.17192, algorithm 1; Chen et al. 2023, arXiv:2302.01318.
    """
    raise NotImplementedError("TODO 3 (core, about 15 lines): u < p / q accepts, a rejection draws from (p - q)+")


def generate(
    model: Model,
    cache: KVCache,
    tokens: Sequence[int],
    count: int,
    drafter: Drafter,
    ahead: int = 4,
    warp: Warp | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Round]:
    """Yield ``count`` tokens after ``tokens``, some for each step of ``model``, as it alone would say them.

    Greedy without ``warp``; with it tokens are drawn from softmax(warp(logits)) with ``generator``. ``cache`` may hold
    the beginning of ``tokens`` already, but not the last one; in the end it holds all but the last token said. Every
    step checks up to ``ahead`` tokens of ``drafter``. Raises ValueError for no tokens, count or ahead out of range,
    and whatever ``model`` and ``cache`` refuse.
    """
    raise NotImplementedError("TODO 4 (core, about 15 lines): draft, one forward over all, accept, crop the cache")


class ModelDrafter:
    """A small model that drafts from a cache of its own."""

    def __init__(
        self, model: Model, cache: KVCache, warp: Warp | None = None, generator: torch.Generator | None = None
    ) -> None:
        """Draft greedily without ``warp``, else draw; ``cache`` is empty and belongs to the drafter.

        ``generator`` must not repeat the numbers of the one that ``generate`` gets: what is drafted and what is
        accepted have to be independent. By default both go on with torch's own.
        """
        raise NotImplementedError("TODO 5 (stretch, about 2 lines): remember what the cache was fed")

    def propose(self, tokens: Sequence[int], count: int) -> Draft:
        """Return ``count`` tokens; only what the cache does not hold yet is computed."""
        raise NotImplementedError(
            "TODO 5 (stretch, about 14 lines): crop to what still agrees, then one token at a time"
        )
