"""What every implementation of ``kvcache.caches`` has to do."""

from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kvcache.caches import EMPTY, KVCache, View

LAYERS, BATCH, HEADS, DIM = 2, 2, 2, 4
NO_CROP = pytest.mark.known("peer_transformers", reason="a StaticCache cannot be cropped")


def normal(length: int, seed: int = 0, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH, HEADS, length, DIM, generator=generator).to(device, dtype)


def contiguous(impl: ModuleType, device: str, capacity: int = 16, dtype: torch.dtype = torch.float32) -> Any:
    return impl.ContiguousCache(LAYERS, BATCH, HEADS, DIM, capacity, dtype, device)


def sliding(impl: ModuleType, device: str, window: int, sinks: int = 0) -> Any:
    return impl.SlidingCache(LAYERS, BATCH, HEADS, DIM, window, sinks, torch.float32, device)


def feed(cache: KVCache, k: Tensor, v: Tensor, chunks: list[int], start: int = 0) -> list[list[View]]:
    """Append ``k`` and ``v`` in chunks, to layer 1 the negative; return copies of the views, chunk by chunk."""
    views, at = [], 0
    for size in chunks:
        piece, positions = slice(at, at + size), torch.arange(start + at, start + at + size, device=k.device)
        found = []
        for layer, sign in enumerate((1, -1)):
            view = cache.update(layer, sign * k[:, :, piece], sign * v[:, :, piece], positions)
            found.append(View(view.keys.clone(), view.values.clone(), view.positions.clone(), view.places.clone()))
        views.append(found)
        at += size
    return views


def assert_holds(view: View, k: Tensor, v: Tensor, wanted: list[int], what: str) -> None:
    """Check that the view holds exactly the columns ``wanted``, at whatever place, and maybe empty slots."""
    where = view.positions.tolist()
    found = sorted(p for p in where if p != EMPTY)
    assert found == wanted, f"{what}: positions {found}, expected {wanted}"
    for slot, position in enumerate(where):
        if position != EMPTY:
            same = torch.equal(view.keys[:, :, slot], k[:, :, position])
            assert same, f"{what}: the key at position {position} is not the one that was appended"
            same = torch.equal(view.values[:, :, slot], v[:, :, position])
            assert same, f"{what}: the value at position {position} is not the one that was appended"


def attention(q: Tensor, view: View, mask: Tensor) -> Tensor:
    q, keys, values = (t.cpu().double() for t in (q, view.keys, view.values))
    scores = (q @ keys.transpose(-1, -2)).masked_fill(~mask.cpu(), float("-inf"))
    return scores.softmax(-1) @ values


# The mask


def test_keys_may_stand_in_any_order(impl: ModuleType, device: str) -> None:
    keys = torch.tensor([4, EMPTY, 1, 3, 0, 2], device=device)
    found = impl.seen(torch.tensor([2, 4], device=device), keys)
    assert found.tolist() == [[False, False, True, False, True, True], [True, False, True, True, True, True]]


def test_window_and_sinks(impl: ModuleType, device: str) -> None:
    found = impl.seen(torch.tensor([7], device=device), torch.arange(9, device=device), 3, 2)
    wanted = [0, 1, 5, 6, 7]
    assert found[0].nonzero().flatten().tolist() == wanted, f"window 3, 2 sinks, position 7 sees {wanted}"


# The contiguous cache


@pytest.mark.parametrize("chunks", [[5], [1, 1, 1, 1, 1], [2, 3], [1, 3, 1]])
def test_everything_appended_is_there(impl: ModuleType, device: str, chunks: list[int]) -> None:
    k, v = normal(5, 1, device), normal(5, 2, device)
    cache = contiguous(impl, device)
    assert cache.length == 0
    views = feed(cache, k, v, chunks)
    done = 0
    for size, (first, second) in zip(chunks, views, strict=True):
        done += size
        assert_holds(first, k, v, list(range(done)), f"chunks {chunks}, layer 0")
        assert_holds(second, -k, -v, list(range(done)), f"chunks {chunks}, layer 1")
    assert cache.length == 5


def test_a_step_copies_nothing(impl: ModuleType, device: str) -> None:
    if impl.__name__.endswith("baseline"):
        pytest.skip("the baseline concatenates, and says so")
    k, v = normal(4, 1, device), normal(4, 2, device)
    cache = contiguous(impl, device)
    one = cache.update(0, k[:, :, :3], v[:, :, :3], torch.arange(3, device=device))
    two = cache.update(0, k[:, :, 3:], v[:, :, 3:], torch.tensor([3], device=device))
    assert one.keys.data_ptr() == two.keys.data_ptr(), "the second update returned a copy of the keys"


def test_bytes_are_those_of_the_buffers(impl: ModuleType, device: str) -> None:
    cache = contiguous(impl, device, 10, torch.bfloat16)
    k = normal(10, dtype=torch.bfloat16, device=device)
    feed(cache, k, k, [10])
    wanted = 2 * LAYERS * BATCH * HEADS * DIM * 10 * 2
    assert cache.nbytes == wanted, f"10 bf16 positions take {wanted} bytes, nbytes says {cache.nbytes}"


def test_a_full_cache_takes_no_more(impl: ModuleType, device: str) -> None:
    if impl.__name__.endswith("baseline"):
        pytest.skip("the baseline grows")
    if "peer" in impl.__name__:
        pytest.skip("its error is torch's")
    cache = contiguous(impl, device, 4)
    feed(cache, normal(4, device=device), normal(4, device=device), [3])
    with pytest.raises(ValueError, match=r"4|full|capacity"):
        feed(cache, normal(2, device=device), normal(2, device=device), [2], start=3)


@NO_CROP
def test_crop_and_go_on(impl: ModuleType, device: str) -> None:
    k, v = normal(6, 1, device), normal(6, 2, device)
    cache = contiguous(impl, device)
    feed(cache, normal(5, 8, device), normal(5, 9, device), [5])
    cache.crop(0)
    feed(cache, k, v, [4])
    cache.crop(2)
    assert cache.length == 2
    (first, second), *_ = feed(cache, k[:, :, 2:], v[:, :, 2:], [4], start=2)
    assert_holds(first, k, v, list(range(6)), "cropped to 2, then appended")
    assert_holds(second, -k, -v, list(range(6)), "cropped to 2, then appended")


@pytest.mark.parametrize("rows", [[1, 0], [0, 0], [1, 1], [0, 1]])
def test_reorder_moves_whole_rows(impl: ModuleType, device: str, rows: list[int]) -> None:
    k, v = normal(3, 1, device), normal(3, 2, device)
    cache = contiguous(impl, device)
    feed(cache, k, v, [3])
    cache.reorder(torch.tensor(rows, device=device))
    new_k, new_v = normal(1, 3, device), normal(1, 4, device)
    [[first, second]] = feed(cache, new_k, new_v, [1], start=3)
    k, v = torch.cat([k[rows], new_k], 2), torch.cat([v[rows], new_v], 2)
    assert_holds(first, k, v, [0, 1, 2, 3], f"rows {rows}, layer 0")
    assert_holds(second, -k, -v, [0, 1, 2, 3], f"rows {rows}, layer 1")


@settings(max_examples=20)
@given(chunks=st.lists(st.integers(1, 4), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_cached_attention_is_the_full_one(impl: ModuleType, device: str, chunks: list[int], seed: int) -> None:
    length = sum(chunks)
    q, k, v = (normal(length, seed + i, device) for i in range(3))
    columns = torch.arange(length, device=device)
    full = attention(q, View(k, v, columns, columns), impl.seen(columns, columns))
    cache, at = contiguous(impl, device, 20), 0
    for size in chunks:
        piece = slice(at, at + size)
        view = cache.update(0, k[:, :, piece], v[:, :, piece], columns[piece])
        out = attention(q[:, :, piece], view, impl.seen(columns[piece], view.positions))
        off = (out - full[:, :, piece]).abs().max().item()
        assert off <= 1e-12, f"chunks {chunks}: queries from {at} on are off by {off:.2g}"
        at += size


SHAPE = r"[(\[]\d|shape|dim|batch"  # printed, or named
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a gap": ({"positions": torch.tensor([1])}, "positions"),
    "positions in a square": ({"positions": torch.tensor([[0]])}, "positions"),
    "positions elsewhere": ({"positions": torch.zeros(1, dtype=torch.int64, device="meta")}, "device|meta"),
    "keys elsewhere": ({"k": torch.ones(BATCH, HEADS, 1, DIM, device="meta")}, "device|meta"),
    "too many positions": ({"positions": torch.tensor([0, 1])}, "positions"),
    "no such layer": ({"layer": 2}, "layer"),
    "negative layer": ({"layer": -1}, "layer"),
    "another batch": ({"k": torch.ones(1, HEADS, 1, DIM), "v": torch.ones(1, HEADS, 1, DIM)}, SHAPE),
    "values of another shape": ({"v": torch.ones(BATCH, HEADS, 2, DIM)}, SHAPE),
    "another dtype": ({"v": torch.ones(BATCH, HEADS, 1, DIM, dtype=torch.float16)}, "dtype|float16"),
}


@pytest.mark.only("starter", "solution")
@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("kind", ["contiguous", pytest.param("sliding", marks=pytest.mark.stretch)])
def test_bad_updates_are_refused(impl: ModuleType, device: str, kind: str, case: str) -> None:
    cache = contiguous(impl, device) if kind == "contiguous" else sliding(impl, device, 3)
    one = torch.ones(BATCH, HEADS, 1, DIM)
    bad, words = BAD[case]
    arguments: dict[str, Any] = {"layer": 0, "k": one, "v": one, "positions": torch.tensor([0])} | bad
    moved = {n: a.to(device) if isinstance(a, Tensor) and not a.is_meta else a for n, a in arguments.items()}
    with pytest.raises(ValueError, match=words):
        cache.update(**moved)
    with pytest.raises(TypeError, match=r"positions|int64"):
        cache.update(0, one.to(device), one.to(device), torch.zeros(1, device=device))
    assert cache.length == 0, "what was refused was appended"


@pytest.mark.only("starter", "solution")
def test_bad_sizes_crops_and_rows_are_refused(impl: ModuleType, device: str) -> None:
    with pytest.raises(ValueError, match="capacity"):
        impl.ContiguousCache(1, 1, 1, 4, 0)
    cache = contiguous(impl, device)
    for length in (-1, 1):
        with pytest.raises(ValueError, match=f"{length}|length"):
            cache.crop(length)
    for rows in ([0], [0, 2], [-1, 0]):
        with pytest.raises(ValueError, match="rows"):
            cache.reorder(torch.tensor(rows, device=device))
    with pytest.raises(TypeError, match=r"rows|int"):
        cache.reorder(torch.zeros(BATCH, device=device))


# The ring


@pytest.mark.stretch
@pytest.mark.parametrize("sinks", [0, 2])
@pytest.mark.parametrize("length", [2, 5, 6, 7, 8, 17])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 20])
def test_sliding_is_the_band(impl: ModuleType, device: str, sinks: int, length: int, size: int) -> None:
    window = 5
    q, k, v = (normal(length, i, device) for i in range(3))
    columns = torch.arange(length, device=device)
    full = attention(q, View(k, v, columns, columns), impl.seen(columns, columns, window, sinks))
    cache = sliding(impl, device, window, sinks)
    for at in range(0, length, size):
        piece = slice(at, at + size)
        view = cache.update(0, k[:, :, piece], v[:, :, piece], columns[piece])
        cache.update(1, -k[:, :, piece], -v[:, :, piece], columns[piece])
        out = attention(q[:, :, piece], view, impl.seen(columns[piece], view.positions, window, sinks))
        off = (out - full[:, :, piece]).abs().max().item()
        assert off <= 1e-12, f"chunks of {size}: queries from {at} on differ from the band mask by {off:.2g}"
    assert cache.length == length


@pytest.mark.stretch
def test_the_ring_never_grows(impl: ModuleType, device: str) -> None:
    cache = sliding(impl, device, 5, 2)
    before = cache.nbytes
    k = normal(40, device=device)
    views = feed(cache, k, k, [1] * 40)
    assert cache.nbytes == before == 2 * LAYERS * BATCH * HEADS * DIM * 7 * 4
    assert_holds(views[-1][0], k, k, [0, 1, 35, 36, 37, 38, 39], "position 39, window 5, 2 sinks")


@pytest.mark.stretch
def test_places_are_ages(impl: ModuleType, device: str) -> None:
    k = normal(12, device=device)
    view = feed(sliding(impl, device, 4, 2), k, k, [1] * 12)[-1][0]
    by_position = dict(zip(view.positions.tolist(), view.places.tolist(), strict=True))
    wanted = {0: 0, 1: 1, 8: 2, 9: 3, 10: 4, 11: 5}
    assert by_position == wanted, f"position: place {by_position}, expected {wanted}"


@pytest.mark.stretch
def test_the_ring_crops_while_nothing_is_lost(impl: ModuleType, device: str) -> None:
    k = normal(9, device=device)
    cache = sliding(impl, device, 5, 1)
    feed(cache, k[:, :, :6], k[:, :, :6], [6])
    cache.crop(3)
    view = feed(cache, k[:, :, 3:5], k[:, :, 3:5], [1, 1], start=3)[-1][0]
    assert_holds(view, k, k, [0, 1, 2, 3, 4], "cropped to 3, then two more")
    feed(cache, k[:, :, 5:], k[:, :, 5:], [4], start=5)
    with pytest.raises(ValueError, match=r"8|length"):
        cache.crop(8)


@pytest.mark.stretch
def test_the_ring_reorders(impl: ModuleType, device: str) -> None:
    k = normal(9, device=device)
    cache = sliding(impl, device, 3, 1)
    feed(cache, k[:, :, :8], k[:, :, :8], [8])
    cache.reorder(torch.tensor([1, 1], device=device))
    view = feed(cache, k[:, :, 8:], k[:, :, 8:], [1], start=8)[-1][0]
    wanted = torch.cat([k[[1, 1], :, :8], k[:, :, 8:]], 2)
    assert_holds(view, wanted, wanted, [0, 6, 7, 8], "rows [1, 1]")


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_bad_rings_are_refused(impl: ModuleType, device: str) -> None:
    with pytest.raises(ValueError, match="window"):
        sliding(impl, device, 0)
    with pytest.raises(ValueError, match="sinks"):
        sliding(impl, device, 4, -1)
