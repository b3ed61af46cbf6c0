"""Key-value caches: what a decoder keeps so that a step computes one token and not all of them.

Every cache of this package follows ``KVCache``: a layer hands its new keys and values over and gets everything that it
may attend to, together with the positions at which those keys stand. Keys may come in any order; attention does not
care, only the mask does.

What you write:

- ``seen``: the mask of queries at some positions over keys at others.
- ``ContiguousCache``: one buffer for each layer, allocated once; a step writes one column and copies nothing.
- stretch: ``SlidingCache``, a ring of the latest ``window`` positions that never grows, and the first ``sinks``
  positions beside it: models pour attention into the first tokens and break without them (StreamingLLM).
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

EMPTY = -1
"""The position of a slot that holds nothing."""


@dataclass(frozen=True, slots=True)
class View:
    """What a layer may attend to; valid until the next update.

    ``keys`` and ``values`` are (batch, kv_heads, kv_len, head_dim), ``positions`` (kv_len,) int64: where each key
    stands in the text. ``places`` is (kv_len,) int64: where it stands among what was kept, by age; it differs from
    ``positions`` only where a cache evicts, and is what a model with sinks rotates by, for it was trained on no
    larger positions.
    """

    keys: Tensor
    values: Tensor
    positions: Tensor
    places: Tensor


@dataclass(frozen=True, slots=True)
class Pages:
    """Where a kernel finds the memory of a cache, of all layers at once.

    ``keys`` and ``values`` are (layers, kv_heads, blocks, block_size, head_dim), the last two dimensions in one piece;
    ``tables`` is (batch, most) int64: the block of each ``block_size`` positions of a row.
    """

    keys: Tensor
    values: Tensor
    tables: Tensor


class KVCache(Protocol):
    """What a decoder asks of a cache."""

    @property
    def length(self) -> int:
        """How many positions were appended; all layers agree between steps."""

    def update(self, layer: int, k: Tensor, v: Tensor, positions: Tensor) -> View:
        """Append ``k`` and ``v``, (batch, kv_heads, q_len, head_dim), and return what may be attended to.

        ``positions`` is (q_len,) int64 and goes on where the layer stopped: ValueError otherwise, for another shape,
        dtype, device or layer, and where the cache is full; TypeError for positions that are not int64.
        """

    def crop(self, length: int) -> None:
        """Forget everything from position ``length`` on; ValueError where that is not possible."""

    def reorder(self, rows: Tensor) -> None:
        """Make row ``i`` of the batch a copy of row ``rows[i]``, (batch,) int64, as beam search asks."""

    @property
    def nbytes(self) -> int:
        """How many bytes the cache holds."""
