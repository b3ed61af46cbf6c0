"""Peer: a trie from pygtrie, with blocks of tokens as its letters; it has no eviction, so a scan does it."""

from collections.abc import Sequence

import pygtrie

from kvcache.paging.solution import BlockPool
from kvcache.prefixes import Digest, Hit, chained


class HashChain:
    """Keys are (tenant, first block, second block, ...)."""

    def __init__(self, pool: BlockPool, block_size: int = 16, digest: Digest = chained) -> None:
        """Start empty."""
        self.pool, self.size, self.time, self.trie = pool, block_size, 0, pygtrie.Trie()

    @property
    def held(self) -> int:
        """How many blocks the cache holds."""
        return len(self.trie)

    def match(self, tokens: Sequence[int], tenant: str = "") -> Hit:
        """Ask for all prefixes that have a value."""
        self.time += 1
        found = []
        for step in self.trie.prefixes(self._key(tokens, tenant)):
            step.value[1] = self.time
            found.append(self.pool.share(step.value[0]))
        return Hit(tuple(found), min(len(found) * self.size, len(tokens) - 1))

    def insert(self, tokens: Sequence[int], blocks: Sequence[int], tenant: str = "") -> int:
        """Set what is not there."""
        self.time += 1
        key, known = self._key(tokens, tenant), 0
        for step in self.trie.prefixes(key):
            step.value[1] = self.time
            known += 1
        for at in range(known, len(key) - 1):
            self.trie[key[: at + 2]] = [self.pool.share(blocks[at]), self.time]
        return len(key) - 1 - known

    def evict(self, count: int) -> int:
        """Look for the oldest leaf, again and again."""
        for freed in range(count):
            loose = [
                (value[1], key)
                for key, value in self.trie.items()
                if not self.trie.has_subtrie(key) and self.pool.references(value[0]) == 1
            ]
            if not loose:
                return freed
            self.pool.release(self.trie.pop(min(loose)[1])[0])
        return count

    def _key(self, tokens: Sequence[int], tenant: str) -> tuple[object, ...]:
        full = len(tokens) - len(tokens) % self.size
        return (tenant, *(tuple(tokens[at : at + self.size]) for at in range(0, full, self.size)))
