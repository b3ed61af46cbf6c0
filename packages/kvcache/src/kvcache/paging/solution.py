"""The production answer: constant-time blocks; a native kernel that reads them where they lie.

On a GPU kernels in Triton do the same. Without a compiler, and on other devices, one gather in block order and then
torch's kernel.
"""

import importlib
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kvcache import _attend
from kvcache.caches import Pages, View
from kvcache.caches.solution import refuse_crop, refuse_rows, refuse_sizes, refuse_update
from kvcache.paging import UNUSED

GPU = "cuda"  # the kind of device that Triton serves


@cache
def _gpu_kernels() -> Any:  # noqa: ANN401 - a module
    """Return the kernels for GPUs, or None where Triton is not installed: what only a GPU needs is imported for it."""
    try:
        return importlib.import_module("kvcache.paging._triton")
    except ImportError:
        return None


class BlockPool:
    """Blocks 0 to ``blocks - 1``, each free or held by one or more owners."""

    def __init__(self, blocks: int) -> None:
        """Start with all blocks free; ValueError unless ``blocks`` is positive."""
        refuse_sizes(blocks=blocks)
        self._free = list(range(blocks - 1, -1, -1))  # a stack: the block freed last is still in the processor's cache
        self._owners = [0] * blocks

    @property
    def free(self) -> int:
        """How many blocks are free."""
        return len(self._free)

    def references(self, block: int) -> int:
        """Return how many owners a block has, 0 for a free one; ValueError for a block that is not there."""
        if not 0 <= block < len(self._owners):
            msg = f"block {block} is not among the pool's {len(self._owners)}"
            raise ValueError(msg)
        return self._owners[block]

    def alloc(self, count: int = 1) -> list[int]:
        """Take ``count`` free blocks, all or none.

        Raises ValueError for fewer than 0, or more than are free; it says how many are wanted and how many are free.
        """
        if not 0 <= count <= len(self._free):
            msg = f"{count} blocks are needed, {len(self._free)} of {len(self._owners)} are free"
            raise ValueError(msg)
        found = [self._free.pop() for _ in range(count)]
        for block in found:
            self._owners[block] = 1
        return found

    def share(self, block: int) -> int:
        """Add an owner to a held block and return the block; ValueError for a free one."""
        self._refuse_free(block)
        self._owners[block] += 1
        return block

    def release(self, block: int) -> None:
        """Take an owner away, the last one frees the block; ValueError for a free one."""
        self._refuse_free(block)
        self._owners[block] -= 1
        if not self._owners[block]:
            self._free.append(block)

    def writable(self, block: int) -> int:
        """Return a block that the caller owns alone: ``block`` itself, or a fresh one in exchange for its share of it.

        The caller copies the content where the number changed. ValueError where it is free or no other block is.
        """
        self._refuse_free(block)
        if self._owners[block] == 1:
            return block
        [fresh] = self.alloc()
        self.release(block)
        return fresh

    def _refuse_free(self, block: int) -> None:
        if not 0 <= block < len(self._owners) or not self._owners[block]:
            msg = f"block {block} is not held by anyone"
            raise ValueError(msg)


def slot_mapping(block_table: Tensor, positions: Tensor, block_size: int) -> Tensor:
    """Return the slot of each position, int64 (n,).

    ``block_table`` is (blocks,) int64, ``positions`` (n,) int64. Raises ValueError for a block_size below 1, for other
    shapes and for a position that the table has no block for, TypeError for other dtypes.
    """
    refuse_sizes(block_size=block_size)
    _refuse_numbers(1, block_table=block_table, positions=positions)
    index = positions.div(block_size, rounding_mode="floor")
    if len(positions) and not 0 <= int(positions.min()) <= int(positions.max()) < len(block_table) * block_size:
        msg = f"positions {int(positions.min())} to {int(positions.max())} do not fit {len(block_table)} blocks of "
        msg += f"{block_size}"
        raise ValueError(msg)
    return block_table[index] * block_size + positions % block_size


def paged_attention(q: Tensor, k_pool: Tensor, v_pool: Tensor, block_tables: Tensor, lengths: Tensor) -> Tensor:
    """Attend from one query for each request to its own cached keys, (batch, heads, head_dim).

    ``q`` is (batch, heads, head_dim), the pools (kv_heads, blocks, block_size, head_dim), ``block_tables`` (batch,
    most) int64 filled up with UNUSED, ``lengths`` (batch,) int64 the number of cached positions. The result does not
    depend on where the blocks lie, not even in its last bit; a request without keys gets zeros. Raises ValueError for
    shapes that do not fit, mixed dtypes or devices, and lengths or blocks that are not there, TypeError for tables or
    lengths that are not int64. Source: Kwon et al. 2023, arXiv:2309.06180, section 4.1.
    """
    _refuse_misfit(q, k_pool, v_pool, block_tables, lengths)
    kernels = _gpu_kernels() if q.device.type == GPU else None
    if kernels and kernels.suits(k_pool, v_pool):
        found: Tensor = kernels.attend(q, k_pool, v_pool, block_tables, lengths)
        return found
    if _attend.suits(k_pool, v_pool):
        return _attend.attend(q[:, :, None], k_pool, v_pool, block_tables, lengths, int(lengths.max()))[:, :, 0]
    (kv_heads, blocks, size, head_dim), out = k_pool.shape, torch.zeros_like(q)
    heads = torch.arange(kv_heads, device=q.device)[:, None] * blocks
    for row, length in enumerate(lengths.tolist()):
        if not length:
            continue
        table = block_tables[row, : -(-length // size)]
        # As rows of one matrix blocks are gathered by all threads, and come out as (kv_heads, positions, head_dim).
        at = (heads + table).flatten()
        gathered = (pool.flatten(0, 1).flatten(1).index_select(0, at) for pool in (k_pool, v_pool))
        keys, values = (t.view(1, kv_heads, -1, head_dim)[:, :, :length] for t in gathered)
        folded = q[row].view(1, kv_heads, -1, head_dim)  # the group as query length
        out[row] = F.scaled_dot_product_attention(folded, keys, values).view(-1, head_dim)
    return out


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
        refuse_sizes(layers=layers, batch=batch, kv_heads=kv_heads, head_dim=head_dim, block_size=block_size)
        self.pool, self.block_size = BlockPool(blocks), block_size
        self.keys = torch.zeros(layers, kv_heads, blocks, block_size, head_dim, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.tables: list[list[int]] = [[] for _ in range(batch)]
        self._like = self.keys.new_empty(layers, batch, kv_heads, 0, head_dim)
        self._columns = torch.arange(blocks * block_size, device=device)
        self._lengths = [0] * layers
        self._laid_out: tuple[Tensor, Tensor, Tensor] | None = None  # what all layers of a step ask for, made once
        self._span = 0, 0

    @property
    def length(self) -> int:
        """How many positions were appended."""
        return self._lengths[0]

    def update(self, layer: int, k: Tensor, v: Tensor, positions: Tensor) -> View:
        """Write the new columns, into fresh blocks where the old are full or shared, and gather all.

        Raises ValueError, before any block is taken, where the pool has too few: it says how many are wanted and free.
        """
        self.append(layer, k, v, positions)
        tables, columns = self._lay_out()[0], self._columns[: self._lengths[layer]]
        keys, values = (self._gather(pool[layer], tables, len(columns)) for pool in (self.keys, self.values))
        return View(keys, values, columns, columns)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(layers, batch, kv_heads, head_dim)."""
        layers, kv_heads, _, _, head_dim = self.keys.shape
        return layers, len(self.tables), kv_heads, head_dim

    def reserve(self, count: int) -> Pages:
        """Append ``count`` positions to every layer; the caller writes them where the pages say."""
        start, stop = self.length, self.length + count
        self._reserve(start, stop)
        self._span, self._lengths = (start, stop), [stop] * len(self._lengths)
        return Pages(self.keys, self.values, torch.tensor(self.tables, dtype=torch.int64, device=self.keys.device))

    def append(self, layer: int, k: Tensor, v: Tensor, positions: Tensor) -> None:
        """Write the new columns as ``update`` does, and gather nothing."""
        refuse_update(self._like, self._lengths, layer, k, v, positions)
        start = self._lengths[layer]
        stop = start + k.shape[2]
        if stop > max(self._lengths):  # the first layer of a step makes room for all
            self._reserve(start, stop)
        if self._span != (start, stop):
            self._span, self._laid_out = (start, stop), None
        slots = self._lay_out()[2]
        for pool, new in ((self.keys, k), (self.values, v)):
            pool[layer].flatten(1, 2).index_copy_(1, slots, new.transpose(0, 1).flatten(1, 2))
        self._lengths[layer] = stop

    def attend(self, layer: int, q: Tensor) -> Tensor | None:
        """Attend from the latest positions, (batch, heads, q_len, head_dim), to what was appended, gathering nothing.

        Returns the shape of ``q``, or None where the native kernel does not take this pool.
        """
        if q.dtype != self.keys.dtype or not _attend.suits(self.keys[layer], self.values[layer]):
            return None
        tables, lengths, _ = self._lay_out()
        return _attend.attend(q, self.keys[layer], self.values[layer], tables, lengths, self._lengths[layer])

    def crop(self, length: int) -> None:
        """Forget everything from position ``length`` on and release its blocks."""
        refuse_crop(length, self.length)
        keep = -(-length // self.block_size)
        for table in self.tables:
            for block in table[keep:]:
                self.pool.release(block)
            del table[keep:]
        self._lengths = [length] * len(self._lengths)
        self._laid_out = None

    def reorder(self, rows: Tensor) -> None:
        """Make row ``i`` share all blocks of row ``rows[i]``: no key is copied."""
        refuse_rows(rows, len(self.tables))
        old = self.tables
        self.tables = [[self.pool.share(block) for block in old[row]] for row in rows.tolist()]
        for table in old:
            for block in table:
                self.pool.release(block)
        self._laid_out = None

    @property
    def nbytes(self) -> int:
        """How many bytes the blocks in use take."""
        used = self.keys.shape[2] - self.pool.free
        return used * 2 * self.keys.nbytes // self.keys.shape[2]

    def _reserve(self, start: int, stop: int) -> None:
        """Give every row blocks of its own for the positions from ``start`` to ``stop``; all or nothing."""
        first, count = start // self.block_size, -(-stop // self.block_size)
        shares: dict[int, int] = {}
        for table in self.tables:
            for block in table[first:]:
                shares[block] = shares.get(block, 0) + 1
        # Of the owners of a block that all write, the last one keeps it.
        copies = sum(n - (n == self.pool.references(block)) for block, n in shares.items())
        fresh = sum(count - len(table) for table in self.tables)
        if fresh + copies > self.pool.free:
            msg = f"{len(self.tables)} rows of {stop} positions need {fresh + copies} more blocks of "
            msg += f"{self.block_size}, {self.pool.free} of {self.keys.shape[2]} are free"
            raise ValueError(msg)
        for table in self.tables:
            for at in range(first, len(table)):
                block, table[at] = table[at], self.pool.writable(table[at])
                if block != table[at]:
                    self.keys[:, :, table[at]] = self.keys[:, :, block]
                    self.values[:, :, table[at]] = self.values[:, :, block]
            table.extend(self.pool.alloc(count - len(table)))
        self._laid_out = None

    def _lay_out(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the block tables, (batch, blocks of a row), the lengths, (batch,), and the slots being written."""
        if self._laid_out is None:
            tables = torch.tensor(self.tables, dtype=torch.int64, device=self.keys.device)
            start, stop = self._span
            new = self._columns[start:stop]
            slots = tables[:, new // self.block_size] * self.block_size + new % self.block_size
            self._laid_out = tables, torch.full_like(tables[:, 0], stop), slots.flatten()
        return self._laid_out

    @staticmethod
    def _gather(pool: Tensor, tables: Tensor, length: int) -> Tensor:
        kv_heads, _, _, head_dim = pool.shape
        found = pool.index_select(1, tables.flatten()).view(kv_heads, len(tables), -1, head_dim)
        return found.transpose(0, 1)[:, :, :length]  # (batch, kv_heads, length, head_dim)


def _refuse_numbers(dimensions: int, **given: Tensor) -> None:
    """Raise TypeError for what is not int64, ValueError for another number of dimensions."""
    for name, tensor in given.items():
        if tensor.dtype != torch.int64:
            msg = f"{name} are {tensor.dtype}, must be int64"
            raise TypeError(msg)
        if tensor.ndim != dimensions:
            msg = f"{name} have shape {tuple(tensor.shape)}, must have {dimensions} dimension{'s'[: dimensions - 1]}"
            raise ValueError(msg)


def _refuse_misfit(q: Tensor, k_pool: Tensor, v_pool: Tensor, block_tables: Tensor, lengths: Tensor) -> None:
    """Raise ValueError for shapes that do not fit, mixed dtypes or devices, and lengths or blocks not there."""
    shapes = f"q {tuple(q.shape)}, k_pool {tuple(k_pool.shape)}, v_pool {tuple(v_pool.shape)}"
    if q.ndim != 3 or k_pool.ndim != 4 or k_pool.shape != v_pool.shape or q.shape[2] != k_pool.shape[3]:  # noqa: PLR2004
        msg = f"shapes do not fit: {shapes}; wanted (batch, heads, head_dim), (kv_heads, blocks, block_size, head_dim)"
        raise ValueError(msg)
    if not k_pool.numel() or q.shape[1] % k_pool.shape[0]:
        msg = f"{q.shape[1]} query heads are not a multiple of {k_pool.shape[0]} key heads"
        raise ValueError(msg)
    devices = {t.device for t in (q, k_pool, v_pool, block_tables, lengths)}
    if len({t.dtype for t in (q, k_pool, v_pool)}) > 1 or len(devices) > 1:
        msg = f"q, k_pool and v_pool must have one dtype and everything one device: {q.dtype}, {k_pool.dtype}, "
        msg += f"{v_pool.dtype} on {', '.join(sorted(str(device) for device in devices))}"
        raise ValueError(msg)
    _refuse_numbers(2, block_tables=block_tables)
    _refuse_numbers(1, lengths=lengths)
    if not len(block_tables) == len(lengths) == len(q):
        msg = f"{len(q)} requests, block_tables {tuple(block_tables.shape)}, lengths {tuple(lengths.shape)}"
        raise ValueError(msg)
    if not len(q):
        msg = "q, block_tables and lengths are empty: no request"
        raise ValueError(msg)
    (_, blocks, size, _), most = k_pool.shape, block_tables.shape[1]
    # Blocks behind the last position may be anything: count them as block 0.
    unused = torch.arange(0, most * size, size, device=q.device) >= lengths[:, None]
    used = block_tables.masked_fill(unused, 0)
    bounds = [int(bound) for found in (used, lengths) if found.numel() for bound in found.aminmax()]
    if min(bounds) < 0 or bounds[-1] > most * size or max(bounds[:-2], default=0) >= blocks:
        bad = ((used < 0) | (used >= blocks)).any(1) | (lengths < 0) | (lengths > most * size)
        row = bad.tolist().index(True)
        msg = f"request {row} has {int(lengths[row])} positions, block table {block_tables[row, :8].tolist()} of "
        msg += f"{blocks} blocks of {size} does not hold them ({UNUSED} is no block)"
        raise ValueError(msg)
