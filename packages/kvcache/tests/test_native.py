"""The native kernels: the numbers of torch, the same bits in any company, and what happens without a compiler."""

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness import native
from kvcache import _attend
from kvcache.attention.solution import attend_grouped
from kvcache.paging.solution import PagedCache, paged_attention

pytestmark = pytest.mark.threads(2)  # each has a scratch of its own
needs_compiler = pytest.mark.skipif(native.library("kvcache", "_attend") is None, reason="no C compiler")


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have no compiler, whatever was loaded before."""
    monkeypatch.setenv("KVCACHE_NATIVE", "0")
    cached = (native.library, _attend._functions)  # noqa: SLF001
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def pools_of(keys: Tensor, tables: Tensor, blocks: int, size: int) -> Tensor:
    """Lay (batch, kv_heads, length, head_dim) into a pool of junk, (kv_heads, blocks, size, head_dim)."""
    batch, kv_heads, length, dim = keys.shape
    pool = normal(kv_heads, blocks, size, dim, seed=9, dtype=keys.dtype) * 100
    for row in range(batch):
        for p in range(length):
            pool[:, tables[row, p // size], p % size] = keys[row, :, p]
    return pool


def expected(q: Tensor, keys: Tensor, values: Tensor, window: int) -> Tensor:
    """Attend in float64, a query at a time."""
    group, (batch, heads, q_len, dim) = q.shape[1] // keys.shape[1], q.shape
    out, length = torch.zeros(q.shape, dtype=torch.float64), keys.shape[2]
    for b in range(batch):
        for h in range(heads):
            for i in range(q_len):
                stop = length - q_len + i + 1
                seen = slice(max(0, stop - window) if window else 0, stop)
                k, v = (t[b, h // group, seen].double() for t in (keys, values))
                out[b, h, i] = (k @ q[b, h, i].double() / math.sqrt(dim)).softmax(0) @ v
    return out


@needs_compiler
@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 2e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize(
    ("group", "q_len", "dim", "size", "length", "window"),
    [(1, 1, 16, 4, 1, 0), (4, 1, 64, 16, 77, 0), (6, 1, 80, 5, 41, 0), (3, 7, 32, 8, 40, 0), (2, 19, 48, 16, 33, 6)],
)
def test_the_kernel_gives_the_numbers_of_float64(
    dtype: torch.dtype, limit: float, group: int, q_len: int, dim: int, size: int, length: int, window: int
) -> None:
    blocks = -(-length // size)
    tables = torch.randperm(2 * blocks, generator=torch.Generator().manual_seed(3)).view(2, blocks)
    k, v = normal(2, 3, length, dim, seed=1, dtype=dtype), normal(2, 3, length, dim, seed=2, dtype=dtype)
    q = normal(2, 3 * group, q_len, dim, dtype=dtype)
    keys, values = (pools_of(t, tables, 2 * blocks, size) for t in (k, v))
    out = _attend.attend(q, keys, values, tables, torch.full((2,), length), length, window)
    assert out.dtype == dtype
    off = (out.double() - expected(q, k, v, window)).abs().max().item()
    # Averages of numbers around 1: float32 sums in double the rounding of one, bfloat16 rounds its result to 2**-8.
    assert off <= limit, f"off by {off:.2g}"


@needs_compiler
@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [0, 9])
def test_a_row_is_the_same_bits_in_any_company(window: int, dtype: torch.dtype) -> None:
    k, v, q = (normal(2, heads, 50, 32, seed=n, dtype=dtype) for n, heads in enumerate((2, 2, 6)))
    lengths = torch.tensor([50, 50])

    def attend(size: int, q_len: int, upto: int = 50, seed: int = 0) -> Tensor:
        blocks = -(-50 // size)
        tables = torch.randperm(2 * blocks, generator=torch.Generator().manual_seed(seed)).view(2, blocks)
        keys, values = (pools_of(t, tables, 2 * blocks, size) for t in (k, v))
        asked = q[:, :, upto - q_len : upto]
        return _attend.attend(asked, keys, values, tables, lengths - 50 + upto, upto, window)

    whole = attend(50, 50)
    for size, q_len, upto in ((50, 1, 50), (1, 50, 50), (4, 17, 50), (16, 5, 23), (7, 3, 3), (16, 1, 37)):
        found = attend(size, q_len, upto, seed=size)
        same = torch.equal(found, whole[:, :, upto - q_len : upto])
        assert same, f"blocks of {size}, {q_len} queries up to position {upto}: other bits than all at once"
    keys, values = (t[1:].transpose(0, 1) for t in (k, v))
    alone = _attend.attend(q[1:], keys, values, torch.tensor([[0]]), lengths[1:], 50, window)
    assert torch.equal(alone, whole[1:]), "a request alone, its keys in one piece: other bits than beside another"


@needs_compiler
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 2e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize(("q_len", "kv_len"), [(1, 90), (7, 33), (40, 40)])
def test_grouped_attention_is_the_kernel(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, limit: float, window: int | None, q_len: int, kv_len: int
) -> None:
    q, k, v = (normal(2, h, n, 32, seed=h + n, dtype=dtype) for h, n in ((6, q_len), (2, kv_len), (2, kv_len)))
    monkeypatch.delattr(F, "scaled_dot_product_attention")
    found = attend_grouped(q, k, v, window)
    assert found.dtype == dtype
    assert (found.double() - expected(q, k, v, window or 0)).abs().max() <= limit


@needs_compiler
@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize("dim", [16, 32, 80, 128])
def test_a_mean_is_rounded_to_bfloat16_as_torch_does(dim: int) -> None:
    """Of equal scores all weights are 1, and the sum of two values and its half are exact in float32."""
    v = normal(3, 1, 2, dim, seed=2, dtype=torch.bfloat16)
    v[1, 0, 1] = v[1, 0, 0].float().mul(1 + 2**-7).bfloat16()  # neighbours: the mean lies halfway between two numbers
    v[2, 0, 0, ::3], v[2, 0, 0, 1::3], v[2, 0, 1, 2::3] = math.nan, math.inf, -math.inf
    q, wanted = torch.zeros(3, 1, 1, dim, dtype=torch.bfloat16), v.float().mean(2, keepdim=True).bfloat16()
    found = _attend.attend_together(q, torch.ones_like(v), v)
    same = torch.isclose(found, wanted, rtol=0, atol=0, equal_nan=True)
    assert bool(same.all()), f"{int((~same).sum())} of {same.numel()} numbers are not the mean of their two"


@needs_compiler
def test_large_scores_and_long_contexts_stay_exact() -> None:
    k, v, q = normal(1, 1, 3000, 16, seed=1) * 30, normal(1, 1, 3000, 16, seed=2), normal(1, 1, 1, 16) * 30
    found = _attend.attend(q, k.transpose(0, 1), v.transpose(0, 1), torch.tensor([[0]]), torch.tensor([3000]), 3000)
    off = (found.double() - expected(q, k, v, 0)).abs().max().item()
    assert off <= 2e-3, f"scores in the thousands: off by {off:.2g}"  # float32 scores around 3000 are exact to 1e-4


def test_without_a_compiler_torch_does_it(without_kernels: None) -> None:
    assert native.library("kvcache", "_attend") is None
    k, v, q = normal(1, 2, 40, 16, seed=1), normal(1, 2, 40, 16, seed=2), normal(1, 4, 16)
    tables = torch.randperm(10, generator=torch.Generator().manual_seed(5))[None]
    keys, values = (pools_of(t, tables, 10, 4) for t in (k, v))
    out = paged_attention(q, keys, values, tables, torch.tensor([40]))
    assert (out[:, :, None].double() - expected(q[:, :, None], k, v, 0)).abs().max() <= 2e-6
    cache = PagedCache(1, 1, 2, 16, 10, 4)
    cache.append(0, k, v, torch.arange(40))
    assert cache.attend(0, q[:, :, None]) is None


@needs_compiler
def test_a_broken_compiler_is_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("CC", "false")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native.library.__wrapped__("kvcache", "_attend") is None
    monkeypatch.setenv("CC", "no-such-compiler")
    assert native.library.__wrapped__("kvcache", "_attend") is None


@needs_compiler
def test_a_cache_attends_without_gathering() -> None:
    k, v, q = normal(2, 2, 21, 16, seed=1), normal(2, 2, 21, 16, seed=2), normal(2, 4, 1, 16)
    cache = PagedCache(2, 2, 2, 16, 16, 4)
    for start, stop in ((0, 9), (9, 20), (20, 21)):
        for layer in (0, 1):
            cache.append(layer, k[:, :, start:stop] + layer, v[:, :, start:stop] + layer, torch.arange(start, stop))
    for layer in (0, 1):
        found = cache.attend(layer, q)
        assert found is not None
        assert (found.double() - expected(q, k + layer, v + layer, 0)).abs().max() <= 2e-6
    cache.reorder(torch.tensor([1, 1]))
    again = cache.attend(0, q)
    assert again is not None
    assert (again.double() - expected(q, k[[1, 1]], v[[1, 1]], 0)).abs().max() <= 2e-6, "after a reordering"
