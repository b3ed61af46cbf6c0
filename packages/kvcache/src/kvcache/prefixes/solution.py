"""The production answer: constant time for each block, least recently used leaves first, collisions compared."""

from collections import OrderedDict
from collections.abc import Sequence

from kvcache.caches.solution import refuse_sizes
from kvcache.paging.solution import BlockPool
from kvcache.prefixes import Digest, Hit, chained


class _Entry:
    """One cached block; its identity stands for all tokens up to its end."""

    __slots__ = ("block", "children", "key", "parent", "tokens")

    def __init__(self, key: int, parent: "_Entry | str", tokens: tuple[int, ...], block: int) -> None:
        self.key, self.parent, self.tokens, self.block, self.children = key, parent, tokens, block, 0


class HashChain:
    """Full blocks of ``pool`` found by a hash chained over the blocks of a prompt."""

    def __init__(self, pool: BlockPool, block_size: int = 16, digest: Digest = chained) -> None:
        """Start empty; ValueError for a block_size that is not positive."""
        refuse_sizes(block_size=block_size)
        self.pool, self.block_size, self.digest = pool, block_size, digest
        self._buckets: dict[int, list[_Entry]] = {}
        # Least recently used first. What an entry goes on from is always younger than the entry.
        self._order: OrderedDict[_Entry, None] = OrderedDict()

    @property
    def held(self) -> int:
        """How many blocks the cache holds."""
        return len(self._order)

    def match(self, tokens: Sequence[int], tenant: str = "") -> Hit:
        """Find the longest cached prefix of ``tokens`` that ``tenant`` computed, and hold its blocks for the caller.

        Raises ValueError for no tokens.
        """
        _refuse_empty(tokens)
        found = self._walk(tokens, tenant)
        self._touch(found)
        share = self.pool.share
        blocks = tuple([share(entry.block) for entry in found])
        return Hit(blocks, min(len(blocks) * self.block_size, len(tokens) - 1))

    def insert(self, tokens: Sequence[int], blocks: Sequence[int], tenant: str = "") -> int:
        """Offer the full blocks of ``tokens``, whose keys lie in ``blocks``; return how many the cache now holds more.

        A block whose tokens are known already is not taken. Raises ValueError for fewer blocks than full ones.
        """
        full = _refuse_short(tokens, blocks, self.block_size)
        found = self._walk(tokens, tenant)
        known = len(found)
        node: _Entry | str = found[-1] if found else tenant
        key = found[-1].key if found else self._root(tenant)
        for at in range(known, full):
            piece = tuple(tokens[at * self.block_size : (at + 1) * self.block_size])
            key = self.digest(key, piece)
            entry = _Entry(key, node, piece, self.pool.share(blocks[at]))
            self._buckets.setdefault(key, []).append(entry)
            if isinstance(node, _Entry):
                node.children += 1
            found.append(entry)
            self._order[entry] = None
            node = entry
        self._touch(found)
        return full - known

    def evict(self, count: int) -> int:
        """Give up to ``count`` blocks back to the pool, and return how many.

        The least recently used leaf goes first; a block that somebody else holds stays, and counts as used now.
        """
        freed = passed = 0
        while freed < count and passed < len(self._order):
            entry = next(iter(self._order))
            if entry.children or self.pool.references(entry.block) > 1:
                self._order.move_to_end(entry)
                passed += 1
                continue
            self._forget(entry)
            freed, passed = freed + 1, 0
        return freed

    def _walk(self, tokens: Sequence[int], tenant: str) -> list[_Entry]:
        size, digest, buckets = self.block_size, self.digest, self._buckets
        node: _Entry | str = tenant
        key, found = self._root(tenant), list[_Entry]()
        for stop in range(size, len(tokens) + 1, size):
            piece = tuple(tokens[stop - size : stop])
            key = digest(key, piece)
            for entry in buckets.get(key, ()):
                # A hash is a hint. Equal tokens behind the same entry are the same prefix.
                if entry.tokens == piece and entry.parent == node:
                    break
            else:
                break
            found.append(entry)
            node = entry
        return found

    def _root(self, tenant: str) -> int:
        return self.digest(0, tuple(tenant.encode()))

    def _touch(self, path: list[_Entry]) -> None:
        for entry in reversed(path):
            self._order.move_to_end(entry)

    def _forget(self, entry: _Entry) -> None:
        del self._order[entry]
        bucket = self._buckets[entry.key]
        bucket.remove(entry)
        if not bucket:
            del self._buckets[entry.key]
        if isinstance(entry.parent, _Entry):
            entry.parent.children -= 1
        self.pool.release(entry.block)


class _Node:
    """A run of blocks without a fork; ``children`` are found by their first block. A root's parent is its tenant."""

    __slots__ = ("blocks", "children", "parent", "tokens")

    def __init__(self, parent: "_Node | str", tokens: tuple[int, ...], blocks: list[int]) -> None:
        self.parent, self.tokens, self.blocks = parent, tokens, blocks
        self.children: dict[tuple[int, ...], _Node] = {}


class RadixTree:
    """Full blocks of ``pool`` found in a compressed tree of tokens. Source: Zheng et al. 2023, arXiv:2312.07104."""

    def __init__(self, pool: BlockPool, block_size: int = 16) -> None:
        """Start empty; ValueError for a block_size that is not positive."""
        refuse_sizes(block_size=block_size)
        self.pool, self.block_size = pool, block_size
        self._roots: dict[str, _Node] = {}
        self._order: OrderedDict[_Node, None] = OrderedDict()  # least recently used first, parents after children

    @property
    def held(self) -> int:
        """How many blocks the cache holds."""
        return sum(len(node.blocks) for node in self._order)

    def match(self, tokens: Sequence[int], tenant: str = "") -> Hit:
        """Find the longest cached prefix of ``tokens`` that ``tenant`` computed, and hold its blocks for the caller.

        Raises ValueError for no tokens.
        """
        _refuse_empty(tokens)
        path = self._walk(tokens, len(tokens), tenant)
        self._touch(path)
        share = self.pool.share
        blocks = tuple([share(block) for node in path for block in node.blocks])
        return Hit(blocks, min(len(blocks) * self.block_size, len(tokens) - 1))

    def insert(self, tokens: Sequence[int], blocks: Sequence[int], tenant: str = "") -> int:
        """Offer the full blocks of ``tokens``, whose keys lie in ``blocks``; return how many the cache now holds more.

        A block whose tokens are known already is not taken. Raises ValueError for fewer blocks than full ones.
        """
        full, size = _refuse_short(tokens, blocks, self.block_size), self.block_size
        path = self._walk(tokens, full * size, tenant)
        known = sum(len(node.blocks) for node in path)
        if known < full:
            taken = [self.pool.share(block) for block in blocks[known:full]]
            parent = path[-1] if path else self._roots.setdefault(tenant, _Node(tenant, (), []))
            leaf = _Node(parent, tuple(tokens[known * size : full * size]), taken)
            parent.children[leaf.tokens[:size]] = leaf
            self._order[leaf] = None
            path.append(leaf)
        self._touch(path)
        return full - known

    def evict(self, count: int) -> int:
        """Give up to ``count`` blocks back to the pool, and return how many.

        The least recently used leaf goes first, from its end; a block that somebody else holds stays, and counts as
        used now.
        """
        freed = passed = 0
        while freed < count and passed < len(self._order):
            node = next(iter(self._order))
            loose = self._loose(node, count - freed)
            if not loose:
                self._order.move_to_end(node)
                passed += 1
                continue
            for block in reversed(node.blocks[-loose:]):
                self.pool.release(block)
            del node.blocks[-loose:]
            if node.blocks:
                node.tokens = node.tokens[: len(node.blocks) * self.block_size]
            else:
                self._forget(node)
            freed, passed = freed + loose, 0
        return freed

    def _loose(self, node: _Node, most: int) -> int:
        """Count the blocks at the end of a leaf that nobody else holds."""
        if node.children:
            return 0
        ends = range(min(most, len(node.blocks)))
        return next((n for n in ends if self.pool.references(node.blocks[-1 - n]) > 1), len(ends))

    def _walk(self, tokens: Sequence[int], stop: int, tenant: str) -> list[_Node]:
        """Follow ``tokens`` up to ``stop``; an edge that agrees in part is cut in two."""
        path, at, size = list[_Node](), 0, self.block_size
        node = self._roots.get(tenant)
        while node is not None and at + size <= stop:
            node = node.children.get(tuple(tokens[at : at + size]))
            if node is None:
                break
            same = self._agree(node.tokens, tuple(tokens[at : min(at + len(node.tokens), stop)]))
            if same < len(node.tokens):
                node = self._cut(node, same)
            path.append(node)
            at += same
        return path

    def _agree(self, edge: tuple[int, ...], given: tuple[int, ...]) -> int:
        """Return how many tokens of whole blocks are the same."""
        if edge == given:
            return len(edge)
        pairs = enumerate(zip(edge, given, strict=False))
        same = next((i for i, (a, b) in pairs if a != b), min(len(edge), len(given)))
        return same - same % self.block_size

    def _cut(self, node: _Node, tokens: int) -> _Node:
        """Put the first ``tokens`` of an edge into a node of their own, and return it."""
        blocks, parent = tokens // self.block_size, node.parent
        upper = _Node(parent, node.tokens[:tokens], node.blocks[:blocks])
        node.tokens, node.blocks, node.parent = node.tokens[tokens:], node.blocks[blocks:], upper
        upper.children[node.tokens[: self.block_size]] = node
        if isinstance(parent, _Node):
            parent.children[upper.tokens[: self.block_size]] = upper
        self._order[upper] = None
        return upper

    def _touch(self, path: list[_Node]) -> None:
        for node in reversed(path):
            self._order.move_to_end(node)

    def _forget(self, node: _Node) -> None:
        del self._order[node]
        root = node.parent
        if isinstance(root, _Node):
            del root.children[node.tokens[: self.block_size]]
            if isinstance(root.parent, str) and not root.children:
                del self._roots[root.parent]


def _refuse_empty(tokens: Sequence[int]) -> None:
    if not len(tokens):
        msg = "a prompt needs at least one token"
        raise ValueError(msg)


def _refuse_short(tokens: Sequence[int], blocks: Sequence[int], size: int) -> int:
    """Return the number of full blocks."""
    full = len(tokens) // size
    if len(blocks) < full:
        msg = f"{len(tokens)} tokens fill {full} blocks of {size}, {len(blocks)} were given"
        raise ValueError(msg)
    return full
