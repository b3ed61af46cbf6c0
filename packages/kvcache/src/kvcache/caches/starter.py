"""Your turn: replace each ``raise NotImplementedError``."""

import torch
from torch import Tensor

from kvcache.caches import EMPTY, View


def seen(queries: Tensor, keys: Tensor, window: int | None = None, sinks: int = 0) -> Tensor:
    """Tell which query sees which key, bool (q_len, kv_len).

    ``queries`` (q_len,) and ``keys`` (kv_len,) are int64 positions, EMPTY for slots that hold nothing. A query sees
    itself and what came before; with ``window`` only the latest ``window`` positions and those below ``sinks``.
    """
    raise NotImplementedError("TODO 1 (core, about 4 lines): compare positions, in whatever order the keys are")


class ContiguousCache:
    """A ``KVCache`` of ``capacity`` positions, allocated once."""

    def __init__(
        self,
        layers: int,
        batch: int,
        kv_heads: int,
        head_dim: int,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Allocate; ValueError for sizes that are not positive."""
        raise NotImplementedError("TODO 2 (core, about 6 lines): buffers and the length of each layer")

    @property
    def length(self) -> int:
        """How many positions were appended."""
        raise NotImplementedError("TODO 2 (core, about 1 line): the length of the first layer")

    def update(self, layer: int, k: Tensor, v: Tensor, positions: Tensor) -> View:
        """Write the new columns and return views of all so far."""
        raise NotImplementedError("TODO 3 (core, about 10 lines): write, return slices without a copy")

    def crop(self, length: int) -> None:
        """Forget everything from position ``length`` on; ValueError unless 0 <= length <= self.length."""
        raise NotImplementedError("TODO 4 (core, about 2 lines): nothing has to be erased")

    def reorder(self, rows: Tensor) -> None:
        """Make row ``i`` of the batch a copy of row ``rows[i]``; ValueError for rows that do not exist."""
        raise NotImplementedError("TODO 5 (core, about 3 lines): gather the rows of what is filled")

    @property
    def nbytes(self) -> int:
        """How many bytes the buffers take."""
        raise NotImplementedError("TODO 2 (core, about 1 line): elements times their size")


class SlidingCache:
    """A ``KVCache`` of the first ``sinks`` and the latest ``window`` positions: a ring that never grows."""

    def __init__(
        self,
        layers: int,
        batch: int,
        kv_heads: int,
        head_dim: int,
        window: int,
        sinks: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Allocate ``sinks + window`` slots; ValueError for sizes that are not positive (sinks may be 0)."""
        raise NotImplementedError("TODO 6 (stretch, about 8 lines): buffers, and the position of each slot")

    @property
    def length(self) -> int:
        """How many positions were appended, evicted ones among them."""
        raise NotImplementedError("TODO 6 (stretch, about 1 line): the length of the first layer")

    def update(self, layer: int, k: Tensor, v: Tensor, positions: Tensor) -> View:
        """Return what was kept and what is new, then let the new evict the oldest.

        Every query of a chunk finds its whole window in the view, even where a later one of the same chunk evicts it.
        """
        raise NotImplementedError(
            "TODO 6 (stretch, about 25 lines): position p >= sinks lives in slot sinks + (p - sinks) % window"
        )

    def crop(self, length: int) -> None:
        """Forget everything from ``length`` on; ValueError where the window before it was evicted already."""
        raise NotImplementedError("TODO 7 (stretch, about 8 lines): refuse what cannot be brought back")

    def reorder(self, rows: Tensor) -> None:
        """Make row ``i`` of the batch a copy of row ``rows[i]``; ValueError for rows that do not exist."""
        raise NotImplementedError("TODO 7 (stretch, about 3 lines): as above")

    @property
    def nbytes(self) -> int:
        """How many bytes the buffers take."""
        raise NotImplementedError("TODO 6 (stretch, about 1 line): as above")
