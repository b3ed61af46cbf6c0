"""Your turn: replace each ``raise NotImplementedError``."""

from collections import OrderedDict
from collections.abc import Sequence

from kvcache.paging.solution import BlockPool
from kvcache.prefixes import Digest, Hit, chained


class HashChain:
    """Full blocks of ``pool`` found by a hash chained over the blocks of a prompt."""

    def __init__(self, pool: BlockPool, block_size: int = 16, digest: Digest = chained) -> None:
        """Start empty; ValueError for a block_size that is not positive."""
        raise NotImplementedError("TODO 1 (core, about 4 lines): what is known about a block, and in which order used")

    @property
    def held(self) -> int:
        """How many blocks the cache holds."""
        raise NotImplementedError("TODO 1 (core, about 1 line): count them")

    def match(self, tokens: Sequence[int], tenant: str = "") -> Hit:
        """Find the longest cached prefix of ``tokens`` that ``tenant`` computed, and hold its blocks for the caller.

        Raises ValueError for no tokens.
        """
        raise NotImplementedError("TODO 3 (core, about 12 lines): walk block by block, compare, share, touch")

    def insert(self, tokens: Sequence[int], blocks: Sequence[int], tenant: str = "") -> int:
        """Offer the full blocks of ``tokens``, whose keys lie in ``blocks``; return how many the cache now holds more.

        A block whose tokens are known already is not taken. Raises ValueError for fewer blocks than full ones.
        """
        raise NotImplementedError("TODO 2 (core, about 12 lines): go to where the known ends, share what is new")

    def evict(self, count: int) -> int:
        """Give up to ``count`` blocks back to the pool, and return how many.

        The least recently used leaf goes first; a block that somebody else holds stays, and counts as used now.
        """
        raise NotImplementedError("TODO 4 (core, about 10 lines): oldest first, if it is a leaf and nobody else's")


class RadixTree:
    """Full blocks of ``pool`` found in a compressed tree of tokens. Source: Zheng et al. 2023, arXiv:2312.07104."""

    def __init__(self, pool: BlockPool, block_size: int = 16) -> None:
        """Start empty; ValueError for a block_size that is not positive."""
        raise NotImplementedError("TODO 5 (stretch, about 4 lines): a root for each tenant")

    @property
    def held(self) -> int:
        """How many blocks the cache holds."""
        raise NotImplementedError("TODO 5 (stretch, about 1 line): count them")

    def match(self, tokens: Sequence[int], tenant: str = "") -> Hit:
        """Find the longest cached prefix of ``tokens`` that ``tenant`` computed, and hold its blocks for the caller.

        Raises ValueError for no tokens.
        """
        raise NotImplementedError("TODO 6 (stretch, about 30 lines): follow edges; cut one that agrees in part")

    def insert(self, tokens: Sequence[int], blocks: Sequence[int], tenant: str = "") -> int:
        """Offer the full blocks of ``tokens``, whose keys lie in ``blocks``; return how many the cache now holds more.

        A block whose tokens are known already is not taken. Raises ValueError for fewer blocks than full ones.
        """
        raise NotImplementedError("TODO 5 (stretch, about 10 lines): one new leaf for all that is new")

    def evict(self, count: int) -> int:
        """Give up to ``count`` blocks back to the pool, and return how many.

        The least recently used leaf goes first, from its end; a block that somebody else holds stays, and counts as
        used now.
        """
        raise NotImplementedError("TODO 7 (stretch, about 15 lines): trim the oldest leaf from its end")
