"""Vectors: what an index of embeddings weighs, and what making them costs.

Retrieval systems are sized twice: the index has to fit in memory, and every document has to go through an encoder
once, and again with every new version of it. Both are arithmetic, if one knows what an index keeps beside the
vectors: codebooks, centroids, ids, and the links of a graph.

What you write:

- ``index_bytes``: flat, scalar-quantized, product-quantized, inverted-file and HNSW indexes.
- ``embedding_hours`` and ``embedding_cost``: a corpus through an encoder.
- stretch: ``link_levels``, how many nodes of an HNSW graph reach each level; ``scanned_bytes``, what a query reads.
"""

from dataclasses import dataclass
from typing import Literal

FLOAT, ID, LINK = 4, 8, 4  # bytes of a float32, of a vector's id (int64), and of a link in a graph (int32)
NODE = 12  # bytes beside a node's links: how high it reaches (int32), and where its links begin (int64)


@dataclass(frozen=True, slots=True)
class Index:
    """How vectors are kept.

    ``codes`` says how a vector is stored: "flat" (float32), "sq8" (a byte for each dimension) or "pq" (``pieces``
    codes of ``bits`` bits). ``lists`` cells of an inverted file, 0 for none; ``links`` is HNSW's M, 0 for none.
    """

    codes: Literal["flat", "sq8", "pq"] = "flat"
    pieces: int = 0
    bits: int = 8
    lists: int = 0
    links: int = 0

    def __post_init__(self) -> None:
        """Refuse indexes that cannot be built."""
        if self.codes not in ("flat", "sq8", "pq"):
            msg = f"codes are flat, sq8 or pq, not {self.codes!r}"
            raise ValueError(msg)
        if self.codes == "pq" and (self.pieces < 1 or not 1 <= self.bits <= 16):  # noqa: PLR2004 - as in faiss
            msg = f"pq needs pieces of at least 1 and bits of 1 to 16, not {self.pieces} and {self.bits}"
            raise ValueError(msg)
        if self.lists < 0 or self.links < 0 or self.links == 1:
            msg = f"lists must not be negative and links be 0 or at least 2, not {self.lists} and {self.links}"
            raise ValueError(msg)
        if self.lists and self.links:
            msg = f"an index has lists ({self.lists}) or links ({self.links}), not both"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Weight:
    """Bytes of an index: ``codes`` (the vectors), ``tables`` (codebooks, centroids, ranges), ``ids`` and ``links``."""

    codes: int
    tables: int
    ids: int
    links: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.codes + self.tables + self.ids + self.links
