"""Your turn: replace each ``raise NotImplementedError``."""

import torch
from torch import Tensor

from kvcache.caches import View
from kvcache.paging import UNUSED


class BlockPool:
    """Blocks 0 to ``blocks - 1``, each free or held by one or more owners."""

    def __init__(self, blocks: int) -> None:
        """Start with all blocks free; ValueError unless ``blocks`` is positive."""
        raise NotImplementedError("TODO 1 (core, about 3 lines): a stack of free numbers, a count for each block")

    @property
    def free(self) -> int:
        """How many blocks are free."""
        raise NotImplementedError("TODO 1 (core, about 1 line): the height of the stack")

    def references(self, block: int) -> int:
        """Return how many owners a block has, 0 for a free one; ValueError for a block that is not there."""
        raise NotImplementedError("TODO 1 (core, about 1 line): the count")

    def alloc(self, count: int = 1) -> list[int]:
        """Take ``count`` free blocks, all or none.

        Raises ValueError for fewer than 0, or more than are free; it says how many are wanted and how many are free.
        """
        raise NotImplementedError("TODO 1 (core, about 6 lines): pop them")

    def share(self, block: int) -> int:
        """Add an owner to a held block and return the block; ValueError for a free one."""
        raise NotImplementedError("TODO 2 (core, about 3 lines): count up")

    def release(self, block: int) -> None:
        """Take an owner away, the last one frees the block; ValueError for a free one."""
        raise NotImplementedError("TODO 2 (core, about 4 lines): count down, push at zero")

    def writable(self, block: int) -> int:
        """Return a block that the caller owns alone: ``block`` itself, or a fresh one in exchange for its share of it.

        The caller copies the content where the number changed. ValueError where it is free or no other block is.
        """
        raise NotImplementedError("TODO 3 (core, about 5 lines): copy on write")


def slot_mapping(block_table: Tensor, positions: Tensor, block_size: int) -> Tensor:
    """Return the slot of each position, int64 (n,).

    ``block_table`` is (blocks,) int64, ``positions`` (n,) int64. Raises ValueError for a block_size below 1, for other
    shapes and for a position that the table has no block for, TypeError for other dtypes.
    """
    raise NotImplementedError("TODO 4 (core, about 3 lines): which block, which place in it")


def paged_attention(q: Tensor, k_pool: Tensor, v_pool: Tensor, block_tables: Tensor, lengths: Tensor) -> Tensor:
    """Attend from one query for each request to its own cached keys, (batch, heads, head_dim).

    ``q`` is (batch, heads, head_dim), the pools (kv_heads, blocks, block_size, head_dim), ``block_tables`` (batch,
    most) int64 filled up with UNUSED, ``lengths`` (batch,) int64 the number of cached positions. The result does not
    depend on where the blocks lie, not even in its last bit; a request without keys gets zeros. Raises ValueError for
    shapes that do not fit, mixed dtypes or devices, and lengths or blocks that are not there, TypeError for tables or
    lengths that are not int64. Source: Kwon et al. 2023, arXiv:2309.06180, section 4.1.
    """
    raise NotImplementedError("TODO 5 (core, about 10 lines): gather the blocks in order, then attend")


class PagedCache:
    """A ``KVCache`` over ``blocks`` blocks of ``block_size`` positions that its rows share."""

    def __init__(
        self,
        layers: int,
        batch: int,
        kv_heads: int,
        head_dim: int,
        blocks: int,
        block_size: int = 16,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Allocate the pool; ValueError for sizes that are not positive."""
        raise NotImplementedError("TODO 6 (stretch, about 8 lines): pools of keys and values, a table for each row")

    @property
    def length(self) -> int:
        """How many positions were appended."""
        raise NotImplementedError("TODO 6 (stretch, about 1 line): the length of the first layer")

    def update(self, layer: int, k: Tensor, v: Tensor, positions: Tensor) -> View:
        """Write the new columns, into fresh blocks where the old are full or shared, and gather all.

        Raises ValueError, before any block is taken, where the pool has too few: it says how many are wanted and free.
        """
        raise NotImplementedError("TODO 7 (stretch, about 25 lines): count what is needed before taking any")

    def crop(self, length: int) -> None:
        """Forget everything from position ``length`` on and release its blocks."""
        raise NotImplementedError("TODO 8 (stretch, about 6 lines): release what lies behind")

    def reorder(self, rows: Tensor) -> None:
        """Make row ``i`` share all blocks of row ``rows[i]``: no key is copied."""
        raise NotImplementedError("TODO 8 (stretch, about 6 lines): share first, then release")

    @property
    def nbytes(self) -> int:
        """How many bytes the blocks in use take."""
        raise NotImplementedError("TODO 6 (stretch, about 2 lines): blocks in use times their bytes")
