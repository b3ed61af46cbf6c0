"""The simple answer: every prefix is a key of its own, and eviction looks at all of them."""

from collections.abc import Sequence

from kvcache.paging.solution import BlockPool
from kvcache.prefixes import Digest, Hit, chained


class HashChain:
    """A dict from (tenant, all tokens up to the end of a block) to the block."""

    def __init__(self, pool: BlockPool, block_size: int = 16, digest: Digest = chained) -> None:  # noqa: ARG002 - keys are whole prefixes
        """Start empty."""
        self.pool, self.size, self.time = pool, block_size, 0
        self.blocks: dict[tuple[str, tuple[int, ...]], int] = {}
        self.used: dict[tuple[str, tuple[int, ...]], int] = {}

    @property
    def held(self) -> int:
        """How many blocks the cache holds."""
        return len(self.blocks)

    def match(self, tokens: Sequence[int], tenant: str = "") -> Hit:
        """Try one block more as long as there is one."""
        self.time += 1
        found = []
        for stop in range(self.size, len(tokens) + 1, self.size):
            key = tenant, tuple(tokens[:stop])
            if key not in self.blocks:
                break
            self.used[key] = self.time
            found.append(self.pool.share(self.blocks[key]))
        return Hit(tuple(found), min(len(found) * self.size, len(tokens) - 1))

    def insert(self, tokens: Sequence[int], blocks: Sequence[int], tenant: str = "") -> int:
        """Take what is not there."""
        self.time += 1
        fresh = 0
        for at in range(len(tokens) // self.size):
            key = tenant, tuple(tokens[: (at + 1) * self.size])
            self.used[key] = self.time
            if key not in self.blocks:
                self.blocks[key] = self.pool.share(blocks[at])
                fresh += 1
        return fresh

    def evict(self, count: int) -> int:
        """Look for the oldest leaf, again and again."""
        for freed in range(count):
            parents = {(tenant, tokens[: -self.size]) for tenant, tokens in self.blocks}
            free = [key for key in self.blocks if key not in parents and self.pool.references(self.blocks[key]) == 1]
            if not free:
                return freed
            oldest = min(free, key=lambda key: self.used[key])
            self.pool.release(self.blocks.pop(oldest))
            del self.used[oldest]
        return count
