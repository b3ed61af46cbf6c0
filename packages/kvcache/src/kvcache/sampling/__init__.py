"""From logits to a token: filters, seeds that belong to a request, and beams.

A request must not notice its neighbours: with one generator for the whole batch, the text of a row changes when another
row joins or leaves. Here each row has a seed of its own, and the noise of a step is a function of seed and step alone.

What you write:

- ``top_k``, ``top_p``, ``min_p``: filters that set what may not be drawn to -inf.
- ``repetition_penalty``: makes what was said less likely, whatever the sign of its logit.
- ``sample``: draw from softmax(logits / temperature), each row by its own seed.
- stretch: ``beam_search`` over any function that scores continuations.
- stretch: ``token_table`` and ``constrain``: only texts that a regular expression (or a JSON schema) matches.

Logits are (rows, vocabulary), float.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Score = Callable[[Tensor], Tensor]
"""Logits (sequences, vocabulary) of the next token after each of ``tokens``, int64 (sequences, length)."""


DEAD = -1
"""Where a byte or a token leads that no accepted text goes on with."""


@dataclass(frozen=True, slots=True)
class Automaton:
    """The texts that ``pattern`` matches, byte by byte; state 0 is the start, and from each state a text can end well.

    ``step`` is (states, 256) int64: the state after each byte, or DEAD. ``final`` is (states,) bool: may a text end?
    """

    pattern: str
    step: Tensor
    final: Tensor


@dataclass(frozen=True, slots=True)
class TokenTable:
    """The same over tokens. State 0 is the start; the last state is behind the end, and only the end follows there.

    ``after`` is (states, vocabulary) int32: the state after each token, or DEAD. ``needed`` is (states,) int64: the
    fewest tokens that still have to come, the end among them.
    """

    after: Tensor
    needed: Tensor


@dataclass(frozen=True, slots=True)
class Beam:
    """A finished or longest sequence: ``tokens`` after the start, and its log probability over length**alpha."""

    tokens: tuple[int, ...]
    score: float
