"""Memory that many requests share: one pool of blocks, and what their prompts begin with computed once."""

import copy
from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from kvcache.decoder import Decoder
from kvcache.paging.solution import BlockPool, PagedCache
from kvcache.prefixes import Hit
from kvcache.prefixes.solution import RadixTree


class Index(Protocol):
    """What ``HashChain`` and ``RadixTree`` have in common."""

    @property
    def held(self) -> int:
        """How many blocks the cache holds."""

    def match(self, tokens: Sequence[int], tenant: str = "") -> Hit:
        """Find the longest cached prefix and hold its blocks for the caller."""

    def insert(self, tokens: Sequence[int], blocks: Sequence[int], tenant: str = "") -> int:
        """Offer the full blocks of ``tokens``."""

    def evict(self, count: int) -> int:
        """Give up to ``count`` blocks back."""


class RequestCache(PagedCache):
    """One request's ``KVCache`` in shared memory: cached prefixes that nobody uses make room for it."""

    index: Index

    def begin(self, hit: Hit) -> "RequestCache":
        """Return a cache over the same pool that begins with the blocks of ``hit``."""
        new = copy.copy(self)
        new.adopt(hit)
        return new

    def adopt(self, hit: Hit) -> None:
        """Take over the blocks of ``hit``, whose last one is copied before it is written."""
        self.tables = [list(hit.blocks)]
        self._lengths = [hit.length] * len(self._lengths)

    def _reserve(self, start: int, stop: int) -> None:
        [table] = self.tables
        shared = sum(self.pool.references(block) > 1 for block in table[start // self.block_size :])
        missing = -(-stop // self.block_size) - len(table) + shared - self.pool.free
        if missing > 0:
            self.index.evict(missing)
        super()._reserve(start, stop)


class SharedMemory:
    """Caches for the requests to one decoder; a prompt's cached beginning is not computed again."""

    def __init__(
        self,
        decoder: Decoder,
        blocks: int,
        block_size: int = 16,
        index: Callable[[BlockPool, int], Index] = RadixTree,
    ) -> None:
        """Allocate ``blocks`` blocks of ``block_size`` positions; ValueError for sizes that are not positive."""
        c = decoder.config
        sizes = c.layers, 1, c.kv_heads, c.head_dim, blocks, block_size
        self.decoder, self._empty = decoder, RequestCache(*sizes, decoder.dtype, decoder.device)
        self.pool = self._empty.pool
        self.index = self._empty.index = index(self.pool, block_size)

    def prefill(self, tokens: Tensor, tenant: str = "", chunk: int = 512) -> tuple[Tensor, RequestCache]:
        """Compute what is not cached of a prompt, (n,) int64, and offer it to those that come.

        Returns the logits of its last token, (1, vocabulary), and the request's cache, to be handed to ``finish``.
        Raises ValueError as ``Decoder.forward`` does; a refused request leaves nothing behind.
        """
        words = tokens.tolist()
        cache = self._empty.begin(self.index.match(words, tenant))
        try:
            logits = self.decoder.prefill(tokens[None, cache.length :], cache, chunk)
        except ValueError:
            cache.crop(0)
            raise
        self.index.insert(words, cache.tables[0], tenant)
        return logits, cache

    def finish(self, cache: RequestCache, tokens: Tensor, tenant: str = "") -> None:
        """Release a request's blocks; ``tokens``, (n,), what its cache holds, can begin the next turn's prompt."""
        self.index.insert(tokens.tolist()[: cache.length], cache.tables[0], tenant)
        cache.crop(0)
