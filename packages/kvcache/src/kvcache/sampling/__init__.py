"""From logits to a token: filters, seeds that belong to a request, and beams.

A request must not notice its neighbours: with one generator for the whole batch, the text of a row changes when another
row joins or leaves. Here each row has a seed of its own, and the noise of a step is a function of seed and step alone.

What you write:

- ``top_k``, ``top_p``, ``min_p``: filters that set what may not be drawn to -inf.
- ``repetition_penalty``: makes what was said less likely, whatever the sign of its logit.
- ``sample``: draw from softmax(logits / temperature), each row by its own seed.
- stretch: ``beam_search`` over any function that scores continuations.

Logits are (rows, vocabulary), float.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Score = Callable[[Tensor], Tensor]
"""Logits (sequences, vocabulary) of the next token after each of ``tokens``, int64 (sequences, length)."""


@dataclass(frozen=True, slots=True)
class Beam:
    """A finished or longest sequence: ``tokens`` after the start, and its log probability over length**alpha."""

    tokens: tuple[int, ...]
    score: float
