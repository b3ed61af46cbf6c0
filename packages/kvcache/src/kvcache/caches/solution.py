"""The production answer: memory allocated once, a step writes one column and copies nothing."""

import torch
from torch import Tensor

from kvcache.caches import EMPTY, Pages, View


def seen(queries: Tensor, keys: Tensor, window: int | None = None, sinks: int = 0) -> Tensor:
    """Tell which query sees which key, bool (q_len, kv_len).

    ``queries`` (q_len,) and ``keys`` (kv_len,) are int64 positions, EMPTY for slots that hold nothing. A query sees
    itself and what came before; with ``window`` only the latest ``window`` positions and those below ``sinks``.
    """
    column = queries[:, None]
    mask = (keys <= column) & (keys != EMPTY)
    return mask if window is None else mask & ((keys > column - window) | (keys < sinks))


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
        refuse_sizes(layers=layers, batch=batch, kv_heads=kv_heads, head_dim=head_dim, capacity=capacity)
        self.keys = torch.zeros(layers, batch, kv_heads, capacity, head_dim, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.capacity = capacity
        self._columns = torch.arange(capacity, device=device)
        self._lengths = [0] * layers
        # A row is a block of its own, as long as the cache.
        self._pages = Pages(self.keys.transpose(1, 2), self.values.transpose(1, 2), torch.arange(batch)[:, None])

    @property
    def length(self) -> int:
        """How many positions were appended."""
        return self._lengths[0]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(layers, batch, kv_heads, head_dim)."""
        layers, batch, kv_heads, _, head_dim = self.keys.shape
        return layers, batch, kv_heads, head_dim

    def reserve(self, count: int) -> Pages:
        """Append ``count`` positions to every layer; the caller writes them where the pages say."""
        stop = self._stop(0, count)
        self._lengths = [stop] * len(self._lengths)
        return self._pages

    def update(self, layer: int, k: Tensor, v: Tensor, positions: Tensor) -> View:
        """Write the new columns and return views of all so far."""
        refuse_update(self.keys, self._lengths, layer, k, v, positions)
        start, stop = self._lengths[layer], self._stop(layer, k.shape[2])
        self.keys[layer, :, :, start:stop] = k
        self.values[layer, :, :, start:stop] = v
        self._lengths[layer] = stop
        columns = self._columns[:stop]
        return View(self.keys[layer, :, :, :stop], self.values[layer, :, :, :stop], columns, columns)

    def _stop(self, layer: int, count: int) -> int:
        start = self._lengths[layer]
        if start + count > self.capacity:
            msg = f"the cache holds {self.capacity} positions, {start} are taken and {count} more were given"
            raise ValueError(msg)
        return start + count

    def crop(self, length: int) -> None:
        """Forget everything from position ``length`` on; ValueError unless 0 <= length <= self.length."""
        refuse_crop(length, self.length)
        self._lengths = [length] * len(self._lengths)

    def reorder(self, rows: Tensor) -> None:
        """Make row ``i`` of the batch a copy of row ``rows[i]``; ValueError for rows that do not exist."""
        refuse_rows(rows, self.keys.shape[1])
        for buffer in (self.keys, self.values):
            filled = buffer[:, :, :, : self.length]
            filled.copy_(filled.index_select(1, rows))

    @property
    def nbytes(self) -> int:
        """How many bytes the buffers take."""
        return self.keys.nbytes + self.values.nbytes


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
        refuse_sizes(layers=layers, batch=batch, kv_heads=kv_heads, head_dim=head_dim, window=window, sinks=sinks + 1)
        self.window, self.sinks = window, sinks
        self.keys = torch.zeros(layers, batch, kv_heads, sinks + window, head_dim, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self._positions = torch.full((layers, sinks + window), EMPTY, device=device)
        self._lengths = [0] * layers

    @property
    def length(self) -> int:
        """How many positions were appended, evicted ones among them."""
        return self._lengths[0]

    def update(self, layer: int, k: Tensor, v: Tensor, positions: Tensor) -> View:
        """Return what was kept and what is new, then let the new evict the oldest.

        Every query of a chunk finds its whole window in the view, even where a later one of the same chunk evicts it.
        """
        refuse_update(self.keys, self._lengths, layer, k, v, positions)
        held = self._positions[layer]
        filled = min(self._lengths[layer], len(held))
        # A single query evicts only what has left its own window; more of them need what the last ones evict.
        before = () if k.shape[2] == 1 else (self.keys[layer, :, :, :filled], self.values[layer, :, :, :filled])
        where = held[:filled]
        parts = [torch.cat([old, new], 2) for old, new in zip(before, (k, v), strict=True)] if before else []
        where = torch.cat([where, positions]) if before else where
        # Of positions that share a slot the last one stays.
        kept = (positions < self.sinks) | (positions >= positions[-1:] + 1 - self.window)
        slots = self._slots(positions[kept])
        self.keys[layer].index_copy_(2, slots, k[:, :, kept])
        self.values[layer].index_copy_(2, slots, v[:, :, kept])
        held[slots] = positions[kept]
        self._lengths[layer] += k.shape[2]
        if not before:
            filled = min(self._lengths[layer], len(held))
            parts, where = [self.keys[layer, :, :, :filled], self.values[layer, :, :, :filled]], held[:filled]
        return View(parts[0], parts[1], where, where.argsort().argsort())

    def crop(self, length: int) -> None:
        """Forget everything from ``length`` on; ValueError where the window before it was evicted already."""
        refuse_crop(length, self.length)
        if length < self.length and self.length > self.sinks + self.window:
            lost = self.length - self.window
            msg = f"cannot crop to {length}: positions {self.sinks} to {lost - 1} are evicted, and it would see them"
            raise ValueError(msg)
        self._positions[self._positions >= length] = EMPTY
        self._lengths = [length] * len(self._lengths)

    def reorder(self, rows: Tensor) -> None:
        """Make row ``i`` of the batch a copy of row ``rows[i]``; ValueError for rows that do not exist."""
        refuse_rows(rows, self.keys.shape[1])
        self.keys, self.values = self.keys.index_select(1, rows), self.values.index_select(1, rows)

    @property
    def nbytes(self) -> int:
        """How many bytes the buffers take."""
        return self.keys.nbytes + self.values.nbytes

    def _slots(self, positions: Tensor) -> Tensor:
        ring = self.sinks + (positions - self.sinks) % self.window
        return torch.where(positions < self.sinks, positions, ring)


def refuse_sizes(**sizes: int) -> None:
    """Raise ValueError for a size below 1."""
    for name, size in sizes.items():
        if size < 1:
            msg = (
                f"{name} is {size}, must be positive" if name != "sinks" else f"sinks is {size - 1}, must be 0 or more"
            )
            raise ValueError(msg)


def refuse_update(buffers: Tensor, lengths: list[int], layer: int, k: Tensor, v: Tensor, positions: Tensor) -> None:
    """Raise ValueError for what does not fit ``buffers``, (layers, batch, kv_heads, any, head_dim), or the order.

    TypeError for positions that are not int64.
    """
    layers, batch, kv_heads, _, head_dim = buffers.shape
    if not 0 <= layer < layers:
        msg = f"layer is {layer}, the cache has {layers}"
        raise ValueError(msg)
    if k.shape != v.shape or k.ndim != 4 or (*k.shape[:2], k.shape[3]) != (batch, kv_heads, head_dim):  # noqa: PLR2004
        msg = f"k {tuple(k.shape)} and v {tuple(v.shape)} must be ({batch}, {kv_heads}, q_len, {head_dim})"
        raise ValueError(msg)
    for name, tensor in (("k", k), ("v", v)):
        if (tensor.dtype, tensor.device) != (buffers.dtype, buffers.device):
            msg = f"{name} is {tensor.dtype} on {tensor.device}, the cache {buffers.dtype} on {buffers.device}"
            raise ValueError(msg)
    start = lengths[layer]
    if positions.dtype != torch.int64:
        msg = f"positions are {positions.dtype}, must be int64"
        raise TypeError(msg)
    if positions.ndim != 1 or positions.device != buffers.device:
        msg = (
            f"positions have shape {tuple(positions.shape)} on {positions.device}, must be (q_len,) on {buffers.device}"
        )
        raise ValueError(msg)
    if positions.tolist() != list(range(start, start + k.shape[2])):
        msg = (
            f"positions {positions.tolist()[:5]} are out of order: layer {layer} goes on at {start}, {k.shape[2]} long"
        )
        raise ValueError(msg)


def refuse_crop(length: int, have: int) -> None:
    """Raise ValueError unless ``length`` is between 0 and ``have``."""
    if not 0 <= length <= have:
        msg = f"cannot crop to {length}: the cache has {have} positions"
        raise ValueError(msg)


def refuse_rows(rows: Tensor, batch: int) -> None:
    """Raise ValueError unless ``rows`` are ``batch`` numbers below ``batch``, TypeError unless they are integers."""
    if rows.is_floating_point() or rows.dtype == torch.bool:
        msg = f"rows are {rows.dtype}, must be integers"
        raise TypeError(msg)
    if tuple(rows.shape) != (batch,) or not all(0 <= row < batch for row in rows.tolist()):
        msg = f"rows {rows.tolist()} must be {batch} numbers from 0 to {batch - 1}"
        raise ValueError(msg)
