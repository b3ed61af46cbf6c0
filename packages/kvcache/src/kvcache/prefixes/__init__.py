"""Prefix caching: what a thousand requests begin with is computed once.

System prompts, few-shot examples and the earlier turns of a chat come again and again. Keys and values depend on
nothing but the tokens up to them, so full blocks that one request computed can serve the next one with the same
beginning. A request then computes only the rest of its prompt.

The cache is an index over a ``BlockPool``: it holds one reference to each block that it knows, and hands further ones
out. Nobody has to lock anything: a block that somebody beside the cache holds is in use, and its count says so.

What you write:

- ``HashChain``: one entry for each block, found by a hash of its tokens and of all before it.
- stretch: ``RadixTree``: the same answers from a tree whose edges are runs of blocks; one comparison follows an edge.

Both find the longest cached prefix, forget the least recently used leaf first and never a block in use, and keep
tenants apart: whether somebody else has asked the same is nobody's business, and time to first token would tell.
"""

from collections.abc import Callable
from dataclasses import dataclass

Digest = Callable[[int, tuple[int, ...]], int]
"""The hash of a block from the hash of the block before it and its own tokens."""


@dataclass(frozen=True, slots=True)
class Hit:
    """What a prompt finds in the cache.

    ``blocks`` begin its block table; each is held once for the caller, who releases it. ``length`` positions need not
    be computed: all of ``blocks``, but never the whole prompt, for the logits of its last token are wanted.
    """

    blocks: tuple[int, ...]
    length: int


def chained(parent: int, tokens: tuple[int, ...]) -> int:
    """Hash a block with Python's own hash: fast, and easy to collide on purpose; entries are compared anyway."""
    return hash((parent, tokens))
