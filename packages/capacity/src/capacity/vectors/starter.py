"""Your turn: replace each ``raise NotImplementedError``."""

from capacity.vectors import Index, Weight


def index_bytes(vectors: int, dim: int, index: Index) -> Weight:
    """Return what an index of ``vectors`` vectors of ``dim`` dimensions weighs.

    A PQ codebook has ``2**bits`` centroids for each piece; SQ keeps a range for each dimension; an inverted file a
    float32 centroid for each list and an id for each vector. HNSW has room for ``2 * links`` links of each node on
    level 0 and ``links`` on every level above that the node reaches, which is level l with probability ``links ** -l``,
    and ``NODE`` bytes beside them. faiss stores as much, but for some hundred bytes of headers.
    Raises ValueError for negative vectors, dim below 1, and pieces that do not divide dim. Source: Jegou et al. 2011,
    doi:10.1109/TPAMI.2010.57; Malkov and Yashunin 2018, arXiv:1603.09320, section 4.
    """
    raise NotImplementedError("TODO 1 (core, about 10 lines): codes, tables, ids and links")


def embedding_hours(documents: int, tokens: float, rate: float, gpus: int = 1) -> float:
    """Return the hours in which ``gpus`` GPUs embed ``documents`` of ``tokens`` tokens, ``rate`` tokens/s on each.

    Raises ValueError for negative documents or tokens, a rate not above 0, gpus below 1.
    """
    raise NotImplementedError("TODO 2 (core, about 2 lines): tokens over tokens a second")


def embedding_cost(documents: int, tokens: float, rate: float, price: float, share: float = 0.0) -> float:
    """Return the money of embedding a corpus once, and ``share`` of it again, at ``price`` for an hour of a GPU.

    ``share`` is what changes: 0.1 for a tenth, 1 for a new encoder. The number of GPUs changes the time, not the
    money. Raises ValueError for a negative price or share, and what ``embedding_hours`` raises.
    """
    raise NotImplementedError("TODO 3 (core, about 2 lines): hours, and some again")


def link_levels(vectors: int, links: int) -> list[int]:
    """Return how many of ``vectors`` nodes reach each level of an HNSW graph, from level 0 up, on average.

    ``vectors * links ** -level``, rounded, down to the last level that a node reaches. Raises ValueError for links
    below 2. Source: Malkov and Yashunin 2018, arXiv:1603.09320, section 4.1, with mL = 1 / ln(M).
    """
    raise NotImplementedError("TODO 4 (stretch, about 4 lines): a share of 1 / M goes higher")


def scanned_bytes(vectors: int, dim: int, index: Index, probes: int = 1, visited: int = 0) -> float:
    """Return the bytes that one query reads: codes, centroids, and links that it follows.

    An inverted file reads all centroids and ``probes`` lists of average length; a graph ``visited`` nodes with their
    links on level 0; anything else every vector. Raises ValueError for probes below 1 or beyond the lists, for visited
    beyond the vectors, and what ``index_bytes`` raises.
    """
    raise NotImplementedError("TODO 5 (stretch, about 6 lines): what a query reads")
