"""One kind of index after the other; HNSW node by node, with the average number of levels."""

from capacity.vectors import Index, Weight


def index_bytes(vectors: int, dim: int, index: Index) -> Weight:
    """Go through the kinds."""
    codes = tables = ids = links = 0
    if index.codes == "flat":
        codes = vectors * dim * 4
    elif index.codes == "sq8":
        codes = vectors * dim
        tables = 2 * dim * 4
    else:
        codes = vectors * -(-index.pieces * index.bits // 8)
        for _ in range(index.pieces):
            tables += 2**index.bits * (dim // index.pieces) * 4
    if index.lists:
        tables += index.lists * dim * 4
        ids = vectors * 8
    if index.links:
        links = vectors * (2 * index.links * 4 + 12)
        level, reached = 1, vectors
        while reached:
            reached = round(vectors / index.links**level)
            links += reached * index.links * 4
            level += 1
    return Weight(codes, tables, ids, links)


def embedding_hours(documents: int, tokens: float, rate: float, gpus: int = 1) -> float:
    """Divide."""
    return documents * tokens / (rate * gpus) / 3600


def embedding_cost(documents: int, tokens: float, rate: float, price: float, share: float = 0.0) -> float:
    """Pay for the hours."""
    return (embedding_hours(documents, tokens, rate) + embedding_hours(documents, tokens, rate) * share) * price
