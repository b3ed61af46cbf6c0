"""How fast an index is weighed, as one does for every choice of its pieces."""

import pytest

from capacity.vectors import Index, Weight
from harness.race import Race


@pytest.mark.parametrize("pieces", [8, 96, 768])
def bench_index_bytes(race: Race, pieces: int) -> None:
    index = Index("pq", pieces)

    def check(found: Weight, vectors: int) -> None:
        assert found.total == vectors * pieces + 256 * 768 * 4

    race(lambda impl, n: impl.index_bytes(n, 768, index), inputs=lambda: (10**9,), check=check, unit="pieces")
