"""Every part of an index, counted."""

from math import ceil

from capacity.vectors import FLOAT, ID, LINK, NODE, Index, Weight

HOUR = 3600


def index_bytes(vectors: int, dim: int, index: Index) -> Weight:
    """Return what an index of ``vectors`` vectors of ``dim`` dimensions weighs.

    A PQ codebook has ``2**bits`` centroids for each piece; SQ keeps a range for each dimension; an inverted file a
    float32 centroid for each list and an id for each vector. HNSW has room for ``2 * links`` links of each node on
    level 0 and ``links`` on every level above that the node reaches, which is level l with probability ``links ** -l``,
    and ``NODE`` bytes beside them. faiss stores as much, but for some hundred bytes of headers.
    Raises ValueError for negative vectors, dim below 1, and pieces that do not divide dim. Source: Jegou et al. 2011,
    doi:10.1109/TPAMI.2010.57; Malkov and Yashunin 2018, arXiv:1603.09320, section 4.
    """
    if vectors < 0 or dim < 1:
        msg = f"vectors must not be negative and dim at least 1, not {vectors} and {dim}"
        raise ValueError(msg)
    if index.codes == "pq" and dim % index.pieces:
        msg = f"{index.pieces} pieces do not divide {dim} dimensions"
        raise ValueError(msg)
    each = {"flat": FLOAT * dim, "sq8": dim, "pq": ceil(index.pieces * index.bits / 8)}[index.codes]
    tables = {"flat": 0, "sq8": 2 * FLOAT * dim, "pq": FLOAT * dim * 2**index.bits}[index.codes]
    above = sum(link_levels(vectors, index.links)[1:]) if index.links else 0
    links = LINK * index.links * (2 * vectors + above) + NODE * vectors if index.links else 0
    return Weight(each * vectors, tables + FLOAT * dim * index.lists, ID * vectors if index.lists else 0, links)


def embedding_hours(documents: int, tokens: float, rate: float, gpus: int = 1) -> float:
    """Return the hours in which ``gpus`` GPUs embed ``documents`` of ``tokens`` tokens, ``rate`` tokens/s on each.

    Raises ValueError for negative documents or tokens, a rate not above 0, gpus below 1.
    """
    if documents < 0 or not tokens >= 0 or not rate > 0 or gpus < 1:
        given = f"{documents}, {tokens}, {rate} and {gpus}"
        msg = f"documents and tokens must not be negative, rate above 0 and gpus at least 1, not {given}"
        raise ValueError(msg)
    return documents * tokens / rate / gpus / HOUR


def embedding_cost(documents: int, tokens: float, rate: float, price: float, share: float = 0.0) -> float:
    """Return the money of embedding a corpus once, and ``share`` of it again, at ``price`` for an hour of a GPU.

    ``share`` is what changes: 0.1 for a tenth, 1 for a new encoder. The number of GPUs changes the time, not the
    money. Raises ValueError for a negative price or share, and what ``embedding_hours`` raises.
    """
    if not price >= 0 or not share >= 0:
        msg = f"price and share must not be negative, not {price} and {share}"
        raise ValueError(msg)
    return embedding_hours(documents, tokens, rate) * (1 + share) * price


def link_levels(vectors: int, links: int) -> list[int]:
    """Return how many of ``vectors`` nodes reach each level of an HNSW graph, from level 0 up, on average.

    ``vectors * links ** -level``, rounded, down to the last level that a node reaches. Raises ValueError for links
    below 2. Source: Malkov and Yashunin 2018, arXiv:1603.09320, section 4.1, with mL = 1 / ln(M).
    """
    if links < 2:  # noqa: PLR2004 - with 1 every node would reach every level
        msg = f"links must be at least 2, not {links}"
        raise ValueError(msg)
    levels = [vectors]
    while (higher := round(vectors / links ** len(levels))) > 0:
        levels.append(higher)
    return levels


def scanned_bytes(vectors: int, dim: int, index: Index, probes: int = 1, visited: int = 0) -> float:
    """Return the bytes that one query reads: codes, centroids, and links that it follows.

    An inverted file reads all centroids and ``probes`` lists of average length; a graph ``visited`` nodes with their
    links on level 0; anything else every vector. Raises ValueError for probes below 1 or beyond the lists, for visited
    beyond the vectors, and what ``index_bytes`` raises.
    """
    weight = index_bytes(vectors, dim, index)
    each = weight.codes / max(vectors, 1)
    if index.lists:
        if not 1 <= probes <= index.lists:
            msg = f"probes must lie between 1 and the {index.lists} lists, not {probes}"
            raise ValueError(msg)
        return FLOAT * dim * index.lists + (each + ID) * vectors * probes / index.lists
    if index.links:
        if not 0 < visited <= vectors:
            msg = f"visited must lie between 1 and the {vectors} vectors, not {visited}"
            raise ValueError(msg)
        return visited * (each + 2 * index.links * LINK)
    return float(weight.codes)
