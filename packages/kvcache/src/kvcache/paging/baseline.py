"""The simple answer: one block after the other."""

import torch
from torch import Tensor


class BlockPool:
    """Counts owners in a list and searches it for free blocks."""

    def __init__(self, blocks: int) -> None:
        """Start with all blocks free."""
        self.counts = [0] * blocks

    @property
    def free(self) -> int:
        """How many blocks are free."""
        return self.counts.count(0)

    def references(self, block: int) -> int:
        """Return how many owners a block has."""
        return self.counts[block]

    def alloc(self, count: int = 1) -> list[int]:
        """Take the first free blocks."""
        found = [block for block, owners in enumerate(self.counts) if not owners][:count]
        if len(found) < count:
            msg = f"{count} blocks are needed, {self.free} of {len(self.counts)} are free"
            raise ValueError(msg)
        for block in found:
            self.counts[block] = 1
        return found

    def share(self, block: int) -> int:
        """Add an owner."""
        self._held(block)
        self.counts[block] += 1
        return block

    def release(self, block: int) -> None:
        """Take an owner away."""
        self._held(block)
        self.counts[block] -= 1

    def writable(self, block: int) -> int:
        """Exchange a shared block for a fresh one."""
        self._held(block)
        if self.counts[block] == 1:
            return block
        [fresh] = self.alloc()
        self.release(block)
        return fresh

    def _held(self, block: int) -> None:
        if not 0 <= block < len(self.counts) or not self.counts[block]:
            msg = f"block {block} is not held by anyone"
            raise ValueError(msg)


def slot_mapping(block_table: Tensor, positions: Tensor, block_size: int) -> Tensor:
    """Look every position up."""
    slots = [int(block_table[p // block_size]) * block_size + p % block_size for p in positions.tolist()]
    return torch.tensor(slots, dtype=torch.int64, device=positions.device)


def paged_attention(q: Tensor, k_pool: Tensor, v_pool: Tensor, block_tables: Tensor, lengths: Tensor) -> Tensor:
    """Concatenate the blocks of each request, repeat the keys for every head."""
    out = torch.zeros_like(q)
    group, size = q.shape[1] // k_pool.shape[0], k_pool.shape[2]
    for row, length in enumerate(lengths.tolist()):
        blocks = block_tables[row, : -(-length // size)].tolist()
        if not blocks:
            continue
        keys = torch.cat([k_pool[:, block] for block in blocks], 1)[:, :length].repeat_interleave(group, 0)
        values = torch.cat([v_pool[:, block] for block in blocks], 1)[:, :length].repeat_interleave(group, 0)
        scores = (keys @ q[row, :, :, None])[..., 0] / q.shape[-1] ** 0.5  # (heads, length)
        out[row] = (scores.softmax(-1)[:, None] @ values)[:, 0]
    return out
