"""What every implementation of ``capacity.vectors`` has to do."""

from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity.vectors import Index


def expect(what: str, found: float, wanted: float) -> None:
    assert found == pytest.approx(wanted, rel=1e-12), f"{what}: {found:,} came back, {wanted:,} expected"


def test_flat_vectors(impl: ModuleType) -> None:
    found = impl.index_bytes(1000, 384, Index())
    expect("1,000 vectors of 384 float32", found.total, 1000 * 384 * 4)
    expect("of which vectors", found.codes, found.total)


def test_a_byte_for_each_dimension(impl: ModuleType) -> None:
    found = impl.index_bytes(1000, 384, Index("sq8"))
    expect("codes", found.codes, 384_000)
    expect("a range for each dimension", found.tables, 384 * 2 * 4)


@pytest.mark.parametrize(("pieces", "bits", "each"), [(48, 8, 48), (48, 4, 24), (3, 6, 3), (96, 10, 120)])
def test_product_quantization(impl: ModuleType, pieces: int, bits: int, each: int) -> None:
    found = impl.index_bytes(1000, 384, Index("pq", pieces, bits))
    expect(f"{pieces} codes of {bits} bits", found.codes, 1000 * each)
    expect(f"codebooks of {2**bits} centroids", found.tables, 2**bits * 384 * 4)


def test_inverted_lists(impl: ModuleType) -> None:
    found = impl.index_bytes(1000, 384, Index("pq", 48, lists=32))
    expect("ids", found.ids, 8000)
    expect("centroids and codebooks", found.tables, 32 * 384 * 4 + 256 * 384 * 4)
    expect("codes", found.codes, 48_000)
    expect("ids of a flat index", impl.index_bytes(1000, 384, Index()).ids, 0)


def test_a_graph_has_twice_the_links_on_level_zero(impl: ModuleType) -> None:
    # 1,024 nodes with M = 32: all on level 0 with 64 links, 32 on level 1 and 1 on level 2 with 32 each
    found = impl.index_bytes(1024, 384, Index(links=32))
    expect("links, and 12 bytes for each node", found.links, 4 * (1024 * 64 + 33 * 32) + 12 * 1024)
    expect("vectors", found.codes, 1024 * 384 * 4)


def test_a_billion_vectors(impl: ModuleType) -> None:
    flat, graph, small = (
        impl.index_bytes(10**9, 768, index).total / 1e12
        for index in (Index(), Index(links=32), Index("pq", 64, lists=65536))
    )
    assert 3.07 < flat < 3.08, f"flat: {flat:.3f} TB, 3.07 expected"
    assert 3.34 < graph < 3.35, f"HNSW, M = 32: {graph:.3f} TB, 3.34 expected"
    assert 0.072 < small < 0.073, f"IVF65536, PQ64: {small:.4f} TB, 0.072 expected"


# What faiss 1.15.1 writes (serialize_index) for 20,000 vectors of 64 dimensions, some hundred bytes of headers included
@pytest.mark.parametrize(
    ("index", "written"),
    [
        (Index(), 5_120_045),
        (Index("sq8"), 1_280_593),
        (Index("pq", 16), 385_622),
        (Index("pq", 16, 4), 164_182),
        (Index("pq", 16, lists=64), 562_612),
        (Index(lists=64), 5_297_035),
        (Index(links=32), 10_562_530),
        (Index("sq8", links=16), 4_164_382),
    ],
)
def test_what_faiss_writes(impl: ModuleType, index: Index, written: int) -> None:
    found = impl.index_bytes(20_000, 64, index).total
    # Headers: 1 kB. Random levels of a graph: the number of nodes above level 0 has a standard error of its root.
    slack = 1000 + 4 * (20_000 / max(index.links, 1)) ** 0.5 * 4 * index.links
    assert abs(found - written) <= slack, f"{index}: {found:,} bytes, faiss writes {written:,}"


def test_no_vectors_weigh_nothing(impl: ModuleType) -> None:
    expect("flat", impl.index_bytes(0, 384, Index()).total, 0)
    expect("links", impl.index_bytes(0, 384, Index(links=16)).links, 0)


@settings(max_examples=40)
@given(st.integers(1, 10**6), st.sampled_from([64, 384, 1024]), st.integers(2, 64))
def test_links_above_are_few(impl: ModuleType, vectors: int, dim: int, links: int) -> None:
    found = impl.index_bytes(vectors, dim, Index(links=links)).links
    least = vectors * (2 * links * 4 + 12)
    # a share 1/M + 1/M**2 + ... = 1 / (M - 1) of the nodes reaches above; rounding adds a node a level at most
    most = least + links * 4 * (vectors / (links - 1) + 25)
    assert least <= found <= most, f"{vectors} nodes, M = {links}: {found:,} bytes of links, {least:,} on level 0"


def test_hours(impl: ModuleType) -> None:
    expect("36 million tokens at 10,000/s", impl.embedding_hours(100_000, 360, 10_000), 1.0)
    expect("on 4 GPUs", impl.embedding_hours(100_000, 360, 10_000, 4), 0.25)


def test_money(impl: ModuleType) -> None:
    expect("once", impl.embedding_cost(100_000, 360, 10_000, 2.5), 2.5)
    expect("and a tenth again", impl.embedding_cost(100_000, 360, 10_000, 2.5, 0.1), 2.75)


@pytest.mark.only("starter", "solution")
def test_impossible_indexes(impl: ModuleType) -> None:
    with pytest.raises(ValueError, match="dim at least 1"):
        impl.index_bytes(1, 0, Index())
    with pytest.raises(ValueError, match="7 pieces do not divide 384 dimensions"):
        impl.index_bytes(1, 384, Index("pq", 7))
    with pytest.raises(ValueError, match="rate above 0"):
        impl.embedding_hours(1, 1, 0)
    with pytest.raises(ValueError, match="share must not be negative"):
        impl.embedding_cost(1, 1, 1, 1, -0.5)


# Stretch


@pytest.mark.stretch
def test_levels_thin_out(impl: ModuleType) -> None:
    assert impl.link_levels(10_000, 10) == [10_000, 1000, 100, 10, 1]
    assert impl.link_levels(5, 32) == [5]
    assert impl.link_levels(0, 32) == [0]


@pytest.mark.stretch
def test_what_a_query_reads(impl: ModuleType) -> None:
    expect("everything", impl.scanned_bytes(1000, 384, Index()), 1000 * 384 * 4)
    some = impl.scanned_bytes(1000, 384, Index("pq", 48, lists=10), probes=2)
    expect("centroids, 2 of 10 lists with ids", some, 10 * 384 * 4 + 200 * (48 + 8))
    graph = impl.scanned_bytes(1000, 384, Index("sq8", links=16), visited=50)
    expect("50 nodes with 32 links", graph, 50 * (384 + 32 * 4))


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_impossible_queries(impl: ModuleType) -> None:
    with pytest.raises(ValueError, match="links must be at least 2"):
        impl.link_levels(10, 1)
    with pytest.raises(ValueError, match="probes must lie between 1 and the 10 lists"):
        impl.scanned_bytes(1000, 384, Index(lists=10), probes=11)
    with pytest.raises(ValueError, match="visited must lie between 1 and the 1000 vectors"):
        impl.scanned_bytes(1000, 384, Index(links=16))
