"""What every implementation of ``kvcache.paging`` has to do."""

import importlib
import json
import math
import os
import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from torch import Tensor

from kvcache.paging import UNUSED
from kvcache.paging import solution as ours

ORDER = pytest.mark.known("peer_contiguous", reason="it reads no block table")
# A softmax average of numbers around 1 in float32.
CLOSE = 1e-5


def normal(*shape: int, seed: int = 0, device: str = "cpu") -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)


def expected(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attend from (heads, head_dim) to (kv_heads, length, head_dim) in float64."""
    q, keys, values = (t.cpu().double() for t in (q, keys, values))
    group = q.shape[0] // keys.shape[0]
    rows = []
    for head in range(q.shape[0]):
        scores = keys[head // group] @ q[head] / math.sqrt(q.shape[1])
        rows.append(scores.softmax(0) @ values[head // group])
    return torch.stack(rows)


def paged(keys: Tensor, table: list[int], blocks: int, size: int) -> Tensor:
    """Lay (kv_heads, length, head_dim) into a pool full of junk, in the blocks of ``table``."""
    pool = normal(keys.shape[0], blocks, size, keys.shape[2], seed=99).to(keys.device) * 100
    for position in range(keys.shape[1]):
        pool[:, table[position // size], position % size] = keys[:, position]
    return pool


# Blocks


def test_all_blocks_are_handed_out_once(impl: ModuleType) -> None:
    pool = impl.BlockPool(5)
    assert pool.free == 5
    found = pool.alloc(2) + pool.alloc() + pool.alloc(2)
    assert sorted(found) == [0, 1, 2, 3, 4], f"five blocks were taken: {found}"
    assert pool.free == 0
    assert [pool.references(block) for block in range(5)] == [1] * 5


def test_an_empty_pool_refuses_with_the_numbers(impl: ModuleType) -> None:
    pool = impl.BlockPool(3)
    pool.alloc(2)
    with pytest.raises(ValueError, match=r"2\D+1|1\D+2"):
        pool.alloc(2)
    assert pool.free == 1, f"a refused request changed the pool: {pool.free} free, expected 1"
    assert len(pool.alloc(1)) == 1


def test_the_last_owner_frees(impl: ModuleType) -> None:
    pool = impl.BlockPool(2)
    [block] = pool.alloc()
    assert pool.share(block) == block
    pool.release(block)
    assert (pool.references(block), pool.free) == (1, 1), "one of two owners let go: the block must stay held"
    pool.release(block)
    assert (pool.references(block), pool.free) == (0, 2), "no owner is left: the block must be free"
    assert sorted(pool.alloc(2)) == [0, 1]


def test_copy_on_write(impl: ModuleType) -> None:
    pool = impl.BlockPool(3)
    [block] = pool.alloc()
    assert pool.writable(block) == block, "a block with one owner needs no copy"
    pool.share(block)
    fresh = pool.writable(block)
    assert fresh != block, "a block with two owners must not be written"
    assert (pool.references(block), pool.references(fresh), pool.free) == (1, 1, 1)


def test_free_blocks_are_refused(impl: ModuleType) -> None:
    pool = impl.BlockPool(2)
    for action in (pool.share, pool.release, pool.writable):
        for block in (0, 5, -1):
            with pytest.raises(ValueError, match=f"{block}|block"):
                action(block)


def test_a_pool_without_room_to_copy_refuses(impl: ModuleType) -> None:
    pool = impl.BlockPool(1)
    [block] = pool.alloc()
    pool.share(block)
    with pytest.raises(ValueError, match=r"free|0"):
        pool.writable(block)
    assert pool.references(block) == 2, "a refused copy changed the owners"


def test_any_sequence_of_operations_adds_up(impl: ModuleType) -> None:
    total = 6

    class Machine(RuleBasedStateMachine):
        """Requests hold blocks; the oracle is the list of all holdings."""

        def __init__(self) -> None:
            super().__init__()
            self.pool, self.held = impl.BlockPool(total), list[int]()

        @rule(count=st.integers(0, 4))
        def alloc(self, count: int) -> None:
            if count <= total - len(set(self.held)):
                fresh = self.pool.alloc(count)
                assert not set(fresh) & set(self.held), f"{fresh} handed out while held: {self.held}"
                self.held += fresh

        @precondition(lambda self: self.held)
        @rule(pick=st.integers(0, 99))
        def share(self, pick: int) -> None:
            self.held.append(self.pool.share(self.held[pick % len(self.held)]))

        @precondition(lambda self: self.held)
        @rule(pick=st.integers(0, 99))
        def release(self, pick: int) -> None:
            self.pool.release(self.held.pop(pick % len(self.held)))

        @precondition(lambda self: self.held and len(set(self.held)) < total)
        @rule(pick=st.integers(0, 99))
        def write(self, pick: int) -> None:
            block = self.held.pop(pick % len(self.held))
            fresh = self.pool.writable(block)
            assert fresh not in self.held, f"block {fresh} was to be written while {self.held} are held"
            self.held.append(fresh)

        @invariant()
        def adds_up(self) -> None:
            assert self.pool.free + len(set(self.held)) == total, f"{self.pool.free} free, held {self.held}"
            for block in range(total):
                found, wanted = self.pool.references(block), self.held.count(block)
                assert found == wanted, f"block {block} has {found} references, {wanted} owners"

    run_state_machine_as_test(Machine, settings=settings(max_examples=25, stateful_step_count=20))


# Slots and attention


def test_slots(impl: ModuleType, device: str) -> None:
    table = torch.tensor([7, 2, 5], device=device)
    found = impl.slot_mapping(table, torch.tensor([0, 3, 4, 9, 11], device=device), 4)
    assert found.tolist() == [28, 31, 8, 21, 23], f"blocks [7, 2, 5] of 4: {found.tolist()}"
    assert found.dtype == torch.int64


@pytest.mark.parametrize("length", [1, 3, 4, 5, 12])
def test_one_request_in_order(impl: ModuleType, device: str, length: int) -> None:
    q, k, v = normal(1, 4, 8, device=device), normal(2, length, 8, seed=1), normal(2, length, 8, seed=2)
    table = [0, 1, 2]
    pools = [paged(t.to(device), table, 3, 4) for t in (k, v)]
    out = impl.paged_attention(q, *pools, torch.tensor([table], device=device), torch.tensor([length], device=device))
    assert out.shape == q.shape
    off = (out[0].cpu().double() - expected(q[0], k, v)).abs().max().item()
    assert off <= CLOSE, f"{length} positions in blocks of 4: off by {off:.2g}"


@ORDER
@pytest.mark.parametrize("dim", [8, 16, 48])  # what a kernel's vectors do not divide, and what they do
def test_blocks_in_any_order_and_requests_of_any_length(impl: ModuleType, device: str, dim: int) -> None:
    q, tables, lengths = normal(3, 4, dim, device=device), [[5, 0, 3], [4, UNUSED, UNUSED], [2, 1, UNUSED]], [9, 2, 8]
    k, v = normal(3, 2, 9, dim, seed=1, device=device), normal(3, 2, 9, dim, seed=2, device=device)
    pools = []
    for source in (k, v):
        pool = normal(2, 6, 4, dim, seed=9, device=device) * 100
        for row, (table, length) in enumerate(zip(tables, lengths, strict=True)):
            for p in range(length):
                pool[:, table[p // 4], p % 4] = source[row, :, p]
        pools.append(pool)
    out = impl.paged_attention(q, *pools, torch.tensor(tables, device=device), torch.tensor(lengths, device=device))
    for row, length in enumerate(lengths):
        off = (out[row].cpu().double() - expected(q[row], k[row, :, :length], v[row, :, :length])).abs().max().item()
        assert off <= CLOSE, f"request {row}, {length} positions in blocks {tables[row]}: off by {off:.2g}"


@ORDER
@settings(max_examples=15)
@given(order=st.permutations(range(6)), length=st.integers(1, 24), dim=st.sampled_from([8, 16]))
def test_the_order_of_blocks_changes_no_bit(
    impl: ModuleType, device: str, order: list[int], length: int, dim: int
) -> None:
    q, k, v = normal(1, 4, dim, device=device), normal(2, length, dim, seed=1), normal(2, length, dim, seed=2)
    results = []
    for table in (list(range(6)), list(order)):
        pools = [paged(t.to(device), table, 6, 4) for t in (k, v)]
        where = torch.tensor([table], device=device), torch.tensor([length], device=device)
        results.append(impl.paged_attention(q, *pools, *where))
    assert torch.equal(*results), f"{length} positions in blocks {order} and in order differ"


@ORDER
def test_a_request_without_keys_gets_zeros(impl: ModuleType, device: str) -> None:
    tables = torch.tensor([[UNUSED], [1]], device=device)
    for dim in (8, 16):
        q, pool = normal(2, 4, dim, device=device), normal(2, 3, 4, dim, device=device)
        out = impl.paged_attention(q, pool, pool, tables, torch.tensor([0, 4], device=device))
        assert not out[0].any(), "a request of length 0 got something"
        assert out[1].any()


SHAPE = r"[(\[]\d|shape|dim|batch"  # printed, or named
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a length beyond the table": ({"lengths": torch.tensor([9])}, "9|lengths"),
    "an unused block": ({"block_tables": torch.tensor([[0, UNUSED]])}, "request|block"),
    "a block that is not there": ({"block_tables": torch.tensor([[0, 3]])}, "request|block|3"),
    "a negative length": ({"lengths": torch.tensor([-5])}, "request|length|-5"),
    "nobody": (
        {
            "q": torch.ones(0, 4, 8),
            "block_tables": torch.ones(0, 2, dtype=torch.int64),
            "lengths": torch.ones(0, dtype=torch.int64),
        },
        "no|empty|0",
    ),
    "lengths for two": ({"lengths": torch.tensor([1, 1])}, f"lengths|request|{SHAPE}"),
    "heads that do not divide": ({"q": torch.ones(1, 3, 8)}, r"\b3\b|heads"),
    "another head_dim": ({"q": torch.ones(1, 4, 16)}, SHAPE),
    "values of another shape": ({"v_pool": torch.ones(2, 3, 5, 8)}, SHAPE),
    "another dtype": ({"q": torch.ones(1, 4, 8, dtype=torch.float16)}, "dtype|float16"),
    "tables elsewhere": ({"block_tables": torch.zeros(1, 2, dtype=torch.int64, device="meta")}, "device|meta"),
    "no key heads": ({name: torch.ones(0, 3, 4, 8) for name in ("k_pool", "v_pool")}, "heads|shape"),
    "lengths in a square": ({"lengths": torch.tensor([[8]])}, f"lengths|{SHAPE}"),
}


@pytest.mark.only("starter", "solution")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(impl: ModuleType, device: str, case: str) -> None:
    bad, words = BAD[case]
    pool = torch.ones(2, 3, 4, 8)
    good = {"q": torch.ones(1, 4, 8), "k_pool": pool, "v_pool": pool}
    good |= {"block_tables": torch.tensor([[0, 1]]), "lengths": torch.tensor([8])}
    with pytest.raises(ValueError, match=words):
        impl.paged_attention(**{n: t if t.is_meta else t.to(device) for n, t in (good | bad).items()})


@pytest.mark.only("starter", "solution")
@pytest.mark.parametrize("name", ["block_tables", "lengths"])
@pytest.mark.parametrize("dtype", [torch.int32, torch.float32])
def test_numbers_of_another_width_are_refused(impl: ModuleType, device: str, name: str, dtype: torch.dtype) -> None:
    pool = torch.ones(2, 3, 4, 16, device=device)  # a kernel that reads int32 as int64 reads what is not there
    good = {"block_tables": torch.tensor([[0, 1]], device=device), "lengths": torch.tensor([8], device=device)}
    good[name] = good[name].to(dtype)
    with pytest.raises(TypeError, match=f"{name}|int64"):
        impl.paged_attention(torch.ones(1, 4, 16, device=device), pool, pool, **good)


@pytest.mark.only("starter", "solution")
def test_bad_sizes_are_refused(impl: ModuleType, device: str) -> None:
    with pytest.raises(ValueError, match="blocks"):
        impl.BlockPool(0)
    table = torch.tensor([0, 1], device=device)
    with pytest.raises(ValueError, match="block_size"):
        impl.slot_mapping(table, torch.tensor([0], device=device), 0)
    for position in (8, -1):
        with pytest.raises(ValueError, match=f"{position}|position"):
            impl.slot_mapping(table, torch.tensor([position], device=device), 4)
    with pytest.raises(TypeError, match=r"positions|int64"):
        impl.slot_mapping(table, torch.zeros(1, device=device), 4)
    with pytest.raises(ValueError, match=f"block_table|{SHAPE}"):
        impl.slot_mapping(table[None], torch.tensor([0], device=device), 4)
    pool = impl.BlockPool(3)
    with pytest.raises(ValueError, match=r"-1|count"):
        pool.alloc(-1)
    for block in (-1, 3):
        with pytest.raises(ValueError, match=f"{block}|block"):
            pool.references(block)
    for size in (0, -4):
        with pytest.raises(ValueError, match="block_size"):
            impl.PagedCache(1, 1, 1, 8, 3, size)


# The cache over a pool


def cache_of(impl: ModuleType, device: str, blocks: int = 12, batch: int = 2, size: int = 4) -> Any:
    return impl.PagedCache(2, batch, 2, 8, blocks, size, torch.float32, device)


def append(cache: Any, k: Tensor, v: Tensor) -> list[Any]:
    at = cache.length
    positions = torch.arange(at, at + k.shape[2], device=k.device)
    return [cache.update(layer, sign * k, sign * v, positions) for layer, sign in enumerate((1, -1))]


@pytest.mark.stretch
@pytest.mark.parametrize("chunks", [[9], [1] * 9, [3, 4, 2]])
def test_the_cache_returns_what_was_appended(impl: ModuleType, device: str, chunks: list[int]) -> None:
    k, v, cache, at = normal(2, 2, 9, 8, device=device), normal(2, 2, 9, 8, seed=1, device=device), None, 0
    cache = cache_of(impl, device)
    for size in chunks:
        views = append(cache, k[:, :, at : at + size], v[:, :, at : at + size])
        at += size
        for sign, view in zip((1, -1), views, strict=True):
            assert torch.equal(view.keys, sign * k[:, :, :at]), f"keys after {at} positions"
            assert torch.equal(view.values, sign * v[:, :, :at]), f"values after {at} positions"
            assert view.positions.tolist() == list(range(at))
    assert cache.length == 9
    per_block = 2 * 2 * 2 * 4 * 8 * 4
    assert cache.nbytes == 6 * per_block, (
        f"2 rows of 9 positions use 6 blocks, nbytes counts {cache.nbytes / per_block}"
    )


@pytest.mark.stretch
def test_reorder_shares_and_writes_copy(impl: ModuleType, device: str) -> None:
    k, v = normal(2, 2, 6, 8, device=device), normal(2, 2, 6, 8, seed=1, device=device)
    cache = cache_of(impl, device)
    append(cache, k, v)
    before = cache.nbytes
    cache.reorder(torch.tensor([1, 1], device=device))
    assert cache.nbytes == before // 2, f"two equal rows take {cache.nbytes} bytes, one took {before // 2}"
    more = normal(2, 2, 1, 8, seed=5, device=device)
    for _ in range(2):
        first, second = append(cache, more, more)
    wanted_k = torch.cat([k[[1, 1]], more, more], 2)
    wanted_v = torch.cat([v[[1, 1]], more, more], 2)
    for sign, view in ((1, first), (-1, second)):
        assert torch.equal(view.keys, sign * wanted_k), "a row wrote into a block that it shared"
        assert torch.equal(view.values, sign * wanted_v), "a row wrote into a block that it shared"
    assert cache.nbytes == before // 2 * 3 // 2, "the full first block stays shared, the second is copied once"


@pytest.mark.stretch
def test_crop_gives_blocks_back(impl: ModuleType, device: str) -> None:
    k = normal(2, 2, 9, 8, device=device)
    cache = cache_of(impl, device, blocks=6)
    append(cache, k, k)
    cache.crop(3)
    assert cache.length == 3
    assert cache.nbytes == 2 * 2 * 2 * 2 * 4 * 8 * 4
    view = append(cache, k[:, :, 3:], k[:, :, 3:])[1]
    assert torch.equal(view.keys, -k)


@pytest.mark.stretch
def test_a_request_larger_than_the_pool_is_refused(impl: ModuleType, device: str) -> None:
    cache = cache_of(impl, device, blocks=5)
    k = normal(2, 2, 13, 8, device=device)
    append(cache, k[:, :, :8], k[:, :, :8])
    with pytest.raises(ValueError, match=r"\b2\b.*\b1\b|\b1\b.*\b2\b"):
        append(cache, k[:, :, :1], k[:, :, :1])
    assert cache.length == 8
    cache.crop(7)
    assert torch.equal(append(cache, k[:, :, 7:8], k[:, :, 7:8])[0].keys, k[:, :, :8]), "refused, then cropped"


# The kernels for GPUs without one; on a GPU the tests above go through them.
NAMES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}  # torch's, Triton's


def shuffled(k: Tensor, v: Tensor, lengths: list[int], size: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Lay (batch, kv_heads, length, head_dim) into pools of junk in a random order: keys, values, block tables."""
    most = -(-max(lengths) // size)
    order = torch.randperm(len(lengths) * most, generator=torch.Generator().manual_seed(seed))
    tables = torch.full((len(lengths), most), UNUSED)
    for row, length in enumerate(lengths):
        tables[row, : -(-length // size)] = order.view(len(lengths), most)[row, : -(-length // size)]
    pools = []
    for source in (k, v):
        pool = (normal(k.shape[1], len(order), size, k.shape[3], seed=99) * 100).to(k.dtype)
        for row, length in enumerate(lengths):
            p = torch.arange(length)
            pool[:, tables[row, p // size], p % size] = source[row, :, :length]
        pools.append(pool)
    return pools[0], pools[1], tables


@pytest.mark.only("solution")
def test_a_gpu_kernel_reads_the_pools_as_they_are(
    impl: ModuleType, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, v = normal(2, 4, 8, device=device), normal(2, 2, 9, 8, seed=1), normal(2, 2, 9, 8, seed=2)
    pools = [t.to(device) for t in shuffled(k, v, [9, 6], 4, 0)]
    lengths, calls = torch.tensor([9, 6], device=device), []

    def attend(*given: Tensor) -> Tensor:
        calls.append(given)
        return given[0]

    for takes in (True, False):
        kernels = SimpleNamespace(suits=lambda *pools, takes=takes: takes, attend=attend)
        with monkeypatch.context() as patch:
            patch.setattr(impl, "GPU", device)
            patch.setattr(impl, "_gpu_kernels", lambda kernels=kernels: kernels)
            out = impl.paged_attention(q, *pools, lengths)
        assert (out is q) == takes, (
            "the kernel was called for pools that it does not take" if out is q else "not called"
        )
    [given] = calls
    assert all(a is b for a, b in zip(given, (q, *pools, lengths), strict=True)), "the kernel got something else"


def interpreted() -> list[tuple[str, float, float, list[bool]]]:
    """Run the solution on CPU tensors as if they lay on a GPU.

    Lists a case, how far it is off, the bound, and whether it is the same bits as with the blocks in another order, of
    another size, and each request alone.
    """
    ours.GPU, found = "cpu", []
    kernels: Any = importlib.import_module("kvcache.paging._triton")
    kernels.SPAN, kernels.TILE, kernels.JOINED = 32, 16, 2  # few positions, and still all loops turn several times
    for dtype, dim, heads, kv_heads, size, lengths in (
        ("float32", 16, 4, 2, 4, [9, 0, 33]),
        ("float32", 48, 3, 1, 16, [40]),
        ("float32", 8, 2, 1, 5, [132, 1]),
        ("float16", 64, 2, 2, 16, [32]),
        ("bfloat16", 32, 20, 1, 3, [40]),
    ):
        shape, kind = (len(lengths), kv_heads, max(lengths), dim), getattr(torch, dtype)
        q, k, v = (normal(*s, seed=n).to(kind) for n, s in enumerate(((len(lengths), heads, dim), shape, shape)))
        both = torch.tensor(lengths)
        k_pool, v_pool, tables = shuffled(k, v, lengths, size, 0)
        out = ours.paged_attention(q, k_pool, v_pool, tables, both)
        others = [
            ours.paged_attention(q, *shuffled(k, v, lengths, size, 1), both),
            ours.paged_attention(q, *shuffled(k, v, lengths, 2 * size + 1, 1), both),
        ]
        if len(lengths) > 1:
            ones = [slice(i, i + 1) for i in range(len(lengths))]
            alone = [ours.paged_attention(q[i], k_pool, v_pool, tables[i], both[i]) for i in ones]
            others.append(torch.cat(alone))
        off = max(
            (out[i].double() - expected(q[i], k[i, :, :n], v[i, :, :n])).abs().max().item()
            if n
            else out[i].any().item()
            for i, n in enumerate(lengths)
        )
        # In 16 bits weights and result are rounded, which the interpreter does towards zero.
        bound = CLOSE + (0.0 if dtype == "float32" else 2 * torch.finfo(kind).eps * v.abs().max().item())
        found.append(
            (f"{lengths} positions of {dtype}, {dim} channels", off, bound, [torch.equal(out, o) for o in others])
        )
    return found


@pytest.mark.only("solution")
def test_the_gpu_kernels_attend_alike_in_the_interpreter(impl: ModuleType) -> None:
    pytest.importorskip("triton", reason="Triton, which compiles for GPUs, is not installed")
    # Triton decides when it is imported whether it interprets: in a process of its own.
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cases = json.loads(done.stdout)
    assert len(cases) == 5
    for case, off, bound, equal in cases:
        assert off <= bound, f"{case}: {off:.2g} off"
        assert all(equal), f"{case}: other bits with blocks in another order, of another size, alone: {equal}"


@pytest.mark.only("solution")
@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize(("dtype", "dim"), [("float32", 64), ("bfloat16", 128), ("float16", 80)])
def test_the_gpu_kernels_compile(impl: ModuleType, dtype: str, dim: int, architecture: int) -> None:
    triton = pytest.importorskip("triton", reason="Triton, which compiles for GPUs, is not installed")
    kernels = importlib.import_module("kvcache.paging._triton")
    pointers = dict.fromkeys(("q", "k_pool", "v_pool", "out"), f"*{NAMES[dtype]}")
    pointers |= dict.fromkeys(("block_tables", "lengths"), "*i64")
    pointers |= dict.fromkeys(("sums", "peaks", "totals"), "*fp32") | {"scale": "fp32"}
    target = triton.backends.compiler.GPUTarget("cuda", architecture, 32)
    both = zip((kernels.attend_spans, kernels.join_spans), kernels.plan(getattr(torch, dtype), 4, dim), strict=True)
    for kernel, constants in both:
        options = {"num_warps": constants.pop("num_warps")}
        kinds = {n: "constexpr" if n in constants else pointers.get(n, "i32") for n in kernel.arg_names}
        even = [["tt.divisibility", 16]]  # what Triton would find out of such pointers, widths and strides
        names = {"dim", "k_head", "k_block", "k_slot", "v_head", "v_block", "v_slot"}
        strided = [i for i, name in enumerate(kinds) if kinds[name].startswith("*") or name in names]
        source = triton.compiler.ASTSource(kernel, kinds, constexprs=constants, attrs={(i,): even for i in strided})
        found = triton.compile(source, target=target, options=options).asm
        assert found["cubin"], "no machine code"
        tensor_cores = kernel is kernels.attend_spans and dtype != "float32"
        assert ("mma" in found["ptx"]) == tensor_cores, f"tensor cores are {'not ' * tensor_cores}used"


if __name__ == "__main__":
    json.dump(interpreted(), sys.stdout)
