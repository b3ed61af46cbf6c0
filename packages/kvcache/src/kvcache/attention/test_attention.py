"""What every implementation of ``kvcache.attention`` has to do."""

import math
from functools import cache
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

WAYS = ("attend", "attend_grouped", "attend_tiled")
WAY = pytest.mark.parametrize("way", WAYS)
# A softmax average of numbers around 1: the rounding of head_dim + kv_len products and sums, generously counted.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 4 * 2.0**-8, torch.float16: 4 * 2.0**-11}


class Largest(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation makes; views make none."""

    def __init__(self, *given: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.elements = 0
        self.known = {t.untyped_storage().data_ptr() for t in given}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: D105
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in self.known:
                self.elements = max(self.elements, tensor.numel())
        return out


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


def qkv(
    q_len: int,
    kv_len: int,
    heads: int = 4,
    kv_heads: int = 2,
    *,
    batch: int = 2,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    head_dim: int = 8,
) -> tuple[Tensor, Tensor, Tensor]:
    q = normal(batch, heads, q_len, head_dim, seed=1, dtype=dtype, device=device)
    k = normal(batch, kv_heads, kv_len, head_dim, seed=2, dtype=dtype, device=device)
    return q, k, normal(batch, kv_heads, kv_len, head_dim, seed=3, dtype=dtype, device=device)


def expected(q: Tensor, k: Tensor, v: Tensor, window: int | None = None, padding_mask: Tensor | None = None) -> Tensor:
    """Compute the formula row by row in float64."""
    q, k, v = (t.cpu().double() for t in (q, k, v))
    batch, heads, q_len, head_dim = q.shape
    kv_len, group = k.shape[2], heads // k.shape[1]
    out = torch.zeros_like(q)
    for b in range(batch):
        for i in range(q_len):
            at = kv_len - q_len + i
            low = 0 if window is None else max(0, at - window + 1)
            seen = [j for j in range(low, at + 1) if padding_mask is None or bool(padding_mask[b, j])]
            if seen:
                own = [h // group for h in range(heads)]  # the key head of each query head
                scores = (k[b, own][:, seen] @ q[b, :, i, :, None])[..., 0] / math.sqrt(head_dim)  # (heads, seen)
                out[b, :, i] = (scores.softmax(1)[:, None] @ v[b, own][:, seen])[:, 0]
    return out


def assert_close(found: Tensor, wanted: Tensor, dtype: torch.dtype, what: str) -> None:
    assert found.dtype == dtype, f"{what}: {dtype} in, {found.dtype} out"
    assert found.shape == wanted.shape, f"{what}: shape {tuple(found.shape)}, expected {tuple(wanted.shape)}"
    error = (found.cpu().double() - wanted).abs().amax((1, 3))  # (batch, q_len)
    assert not bool(error.isnan().any()), f"{what}: NaN for queries {error.isnan().any(0).nonzero().flatten().tolist()}"
    worst = int(error.amax(0).argmax()) if error.numel() else 0
    limit = TOLERANCE[dtype]
    assert not error.numel() or error.max() <= limit, (
        f"{what}: query {worst} of {error.shape[1]} is off by {error.max():.2g}, {limit:.1g} is allowed"
    )


# The mask


@pytest.mark.parametrize(("q_len", "kv_len"), [(1, 1), (4, 4), (1, 5), (3, 7)])
def test_the_last_query_sees_every_key(impl: ModuleType, device: str, q_len: int, kv_len: int) -> None:
    mask = impl.visible(q_len, kv_len)
    assert mask.shape == (q_len, kv_len)
    assert mask.dtype == torch.bool
    for i in range(q_len):
        found, wanted = int(mask[i].sum()), kv_len - q_len + i + 1
        assert found == wanted, f"query {i} of {q_len} sees {found} of {kv_len} keys, expected the first {wanted}"
        assert bool(mask[i, :wanted].all()), f"query {i} of {q_len} does not see the first {wanted} keys"


@pytest.mark.parametrize("window", [1, 3, 6, 7, 100])
def test_a_window_keeps_the_latest_keys(impl: ModuleType, device: str, window: int) -> None:
    mask = impl.visible(3, 7, window)
    for i, at in enumerate((4, 5, 6)):
        wanted = list(range(max(0, at - window + 1), at + 1))
        found = mask[i].nonzero().flatten().tolist()
        assert found == wanted, f"window {window}, position {at}: sees {found}, expected {wanted}"


def test_padding_is_seen_by_nobody(impl: ModuleType, device: str) -> None:
    padding = torch.tensor([[False, False, True, True], [True, True, True, True]], device=device)
    mask = impl.visible(2, 4, None, padding)
    assert mask.shape == (2, 1, 2, 4)
    assert mask.device.type == torch.device(device).type
    assert mask[0, 0].tolist() == [[False, False, True, False], [False, False, True, True]]
    assert mask[1, 0].tolist() == [[True, True, True, False], [True, True, True, True]]


# Three ways to the same numbers


@WAY
@pytest.mark.parametrize(("q_len", "kv_len"), [(5, 5), (1, 9), (3, 9)])
def test_it_is_the_formula(impl: ModuleType, device: str, way: str, q_len: int, kv_len: int) -> None:
    given_ = qkv(q_len, kv_len, device=device)
    assert_close(getattr(impl, way)(*given_), expected(*given_), torch.float32, f"{q_len} queries, {kv_len} keys")


@WAY
@pytest.mark.parametrize("window", [None, 40])
def test_a_long_prompt_is_the_formula(impl: ModuleType, device: str, way: str, window: int | None) -> None:
    given_, wanted = long_prompt(window)
    found = getattr(impl, way)(*(t.to(device) for t in given_), window)
    assert_close(found, wanted, torch.float32, f"150 queries, 170 keys, {window=}")


@cache
def long_prompt(window: int | None) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Return q, k and v and what attention makes of them, row by row but once."""
    given_ = qkv(150, 170, 2, 1, batch=1, head_dim=16)
    return given_, expected(*given_, window)


@WAY
def test_a_query_without_keys_gets_zeros(impl: ModuleType, device: str, way: str) -> None:
    if impl.__name__.endswith("peer_transformers") and way == "attend":
        pytest.skip("the additive mask of the eager path has no empty row")
    given_ = qkv(4, 6, device=device)
    padding = torch.ones(2, 6, dtype=torch.bool, device=device)
    padding[0, :4] = False
    out = getattr(impl, way)(*given_, None, padding)
    found = out[0, :, :2].abs().max().item()
    assert found == 0, f"queries 0 and 1 of row 0 see only padding, and got {found} instead of zeros"
    assert_close(out, expected(*given_, None, padding), torch.float32, "left padding")


@WAY
def test_a_query_without_keys_in_every_block_gets_zeros(impl: ModuleType, device: str, way: str) -> None:
    if impl.__name__.endswith("peer_transformers") and way == "attend":
        pytest.skip("the additive mask of the eager path has no empty row")
    given_ = qkv(1, 6, device=device)
    padding = torch.zeros(2, 6, dtype=torch.bool, device=device)
    out = getattr(impl, way)(*given_, None, padding)
    assert_close(out, expected(*given_, None, padding), torch.float32, "nothing but padding")


@WAY
@pytest.mark.parametrize("window", [1, 3, 8, 20])
@pytest.mark.parametrize("padded", [False, True])
def test_windows_and_padding_go_together(impl: ModuleType, device: str, way: str, window: int, padded: bool) -> None:
    given_ = qkv(5, 9, device=device)
    padding = torch.ones(2, 9, dtype=torch.bool, device=device) if padded else None
    if padding is not None:
        padding[1, :3] = False
    assert_close(
        getattr(impl, way)(*given_, window, padding), expected(*given_, window, padding), torch.float32, f"{window=}"
    )


@WAY
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 1), (6, 3), (1, 1)])
def test_query_heads_share_key_heads(impl: ModuleType, device: str, way: str, heads: int, kv_heads: int) -> None:
    given_ = qkv(3, 7, heads, kv_heads, device=device)
    what = f"{heads} query heads on {kv_heads} key heads"
    assert_close(getattr(impl, way)(*given_), expected(*given_), torch.float32, what)


@WAY
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes(impl: ModuleType, device: str, way: str, dtype: torch.dtype) -> None:
    if device == "mps" and dtype == torch.float64:
        pytest.skip("MPS has no float64")
    if impl.__name__.endswith("peer_transformers") and dtype == torch.float64 and way == "attend":
        pytest.skip("its softmax is float32 always")
    given_ = qkv(4, 40, dtype=dtype, device=device)
    assert_close(getattr(impl, way)(*given_), expected(*given_), dtype, str(dtype))


@pytest.mark.parametrize("block", [1, 3, 4, 7, 100])
@pytest.mark.parametrize("window", [None, 2, 5])
def test_any_block_gives_the_same(impl: ModuleType, device: str, block: int, window: int | None) -> None:
    given_ = qkv(6, 11, device=device)
    out = impl.attend_tiled(*given_, window, None, block)
    assert_close(out, expected(*given_, window), torch.float32, f"{block=} {window=}")


@WAY
def test_large_scores_do_not_overflow(impl: ModuleType, device: str, way: str) -> None:
    q, k, v = qkv(3, 8, device=device)
    q = q * 300
    k[:, :, -1] *= 10  # the largest score comes last: what was summed before has to shrink
    out = getattr(impl, way)(q, k, v)
    wanted = expected(q, k, v)
    assert bool(out.isfinite().all()), f"scores up to {(q[0, 0] @ k[0, 0].T).max():.0f} overflow"
    # A score of 1e4 is known to 1e4 * eps only, and so is the weight.
    assert (out.cpu().double() - wanted).abs().max() <= 0.02


@WAY
def test_bfloat16_softmax_sums_to_one(impl: ModuleType, device: str, way: str) -> None:
    q, k, v = qkv(1, 4096, dtype=torch.bfloat16, device=device, batch=1)
    out = getattr(impl, way)(q * 0, k, torch.ones_like(v))
    found = out.float().mean().item()
    assert found == pytest.approx(1, abs=2.0**-7), f"4096 equal weights sum to {found:.4f}: softmax needs float32"
    scores = torch.full_like(k, 0)
    scores[..., 0] = torch.linspace(8, 16, 4096, device=device).to(torch.bfloat16)
    ones = torch.zeros_like(q)
    ones[..., 0] = 8
    ramp = torch.linspace(-1, 1, 4096, device=device).to(torch.bfloat16)[None, None, :, None].expand_as(v)
    wanted = expected(ones, scores, ramp)
    assert_close(getattr(impl, way)(ones, scores, ramp.contiguous()), wanted, torch.bfloat16, "scores around 30")


@WAY
def test_views_are_the_same_numbers(impl: ModuleType, device: str, way: str) -> None:
    q, k, v = (t.transpose(1, 2).contiguous().transpose(1, 2) for t in qkv(3, 7, device=device))
    assert_close(getattr(impl, way)(q, k, v), expected(q, k, v), torch.float32, "transposed memory")


@WAY
def test_the_input_is_left_alone(impl: ModuleType, device: str, way: str) -> None:
    given_ = qkv(3, 7, device=device)
    before = [t.clone() for t in given_]
    getattr(impl, way)(*given_)
    for name, now, old in zip("qkv", given_, before, strict=True):
        assert torch.equal(now, old), f"{name} was changed in place"


@WAY
def test_no_queries_give_nothing(impl: ModuleType, device: str, way: str) -> None:
    if "peer" in impl.__name__:
        pytest.skip("not asked of a peer")
    assert getattr(impl, way)(*qkv(0, 5, device=device)).shape == (2, 4, 0, 8)


# What is made on the way


@pytest.mark.only("starter", "baseline", "solution")  # what a kernel does inside is not seen from here
def test_grouped_queries_copy_no_keys(impl: ModuleType, device: str) -> None:
    q, k, v = qkv(1, 512, 8, 2, batch=1, head_dim=32, device=device)
    with Largest(q, k, v) as largest:
        impl.attend_grouped(q, k, v)
    assert largest.elements < k.numel(), (
        f"a tensor of {largest.elements} numbers was made, the keys are {k.numel()}: they must not be copied"
    )


def test_tiles_bound_the_scores(impl: ModuleType, device: str) -> None:
    q, k, v = qkv(256, 256, 4, 2, batch=1, head_dim=16, device=device)
    with Largest(q, k, v) as largest:
        impl.attend_tiled(q, k, v, None, None, 32)
    allowed = 4 * 256 * 32
    # The baseline's mask is a whole square of one byte for all heads; the scores of all heads are four times that.
    allowed = max(allowed, 256 * 256) if impl.__name__.endswith("baseline") else allowed
    assert largest.elements <= allowed, (
        f"a tensor of {largest.elements} numbers was made; 4 heads x 256 queries x block 32 are {4 * 256 * 32}"
    )


@settings(max_examples=25)
@given(
    q_len=st.integers(1, 6),
    past=st.integers(0, 9),
    window=st.none() | st.integers(1, 12),
    block=st.integers(1, 9),
    group=st.integers(1, 3),
    pads=st.integers(0, 5),
)
def test_the_three_agree(
    impl: ModuleType, device: str, q_len: int, past: int, window: int | None, block: int, group: int, pads: int
) -> None:
    q, k, v = qkv(q_len, past + q_len, 2 * group, 2, device=device)
    padding = torch.ones(2, past + q_len, dtype=torch.bool, device=device)
    padding[0, : min(pads, past)] = False
    one = impl.attend(q, k, v, window, padding)
    for name, other in (
        ("attend_grouped", impl.attend_grouped(q, k, v, window, padding)),
        ("attend_tiled", impl.attend_tiled(q, k, v, window, padding, block)),
    ):
        off = (one - other).abs().max().item()
        assert off <= 1e-5, f"{name} differs from attend by {off:.2g}"


SHAPE = r"[(\[]\d|shape|dim|batch|length"  # printed, or named
BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "more queries than keys": ({"q": torch.ones(2, 4, 6, 8)}, ValueError, "6"),
    "heads that do not divide": ({"q": torch.ones(2, 5, 3, 8)}, ValueError, r"\b5\b|heads"),
    "another batch": ({"q": torch.ones(1, 4, 3, 8)}, ValueError, SHAPE),
    "another head_dim": ({"q": torch.ones(2, 4, 3, 16)}, ValueError, SHAPE),
    "values of another length": ({"v": torch.ones(2, 2, 4, 8)}, ValueError, SHAPE),
    "three dimensions": ({"q": torch.ones(4, 3, 8)}, ValueError, SHAPE),
    "another dtype": ({"v": torch.ones(2, 2, 5, 8, dtype=torch.float64)}, ValueError, "dtype|float64"),
    "another device": ({"v": torch.ones(2, 2, 5, 8, device="meta")}, ValueError, "device|meta"),
    "integers": ({name: torch.ones(2, 4, 3, 8, dtype=torch.int64) for name in "qkv"}, TypeError, "int64|float"),
    "no key heads": ({"k": torch.ones(2, 0, 5, 8), "v": torch.ones(2, 0, 5, 8)}, ValueError, "heads|shape"),
    "heads of nothing": ({name: torch.ones(2, 4, 3, 0) for name in "qkv"}, ValueError, "head_dim|shape"),
    "padding elsewhere": (
        {"padding_mask": torch.ones(2, 5, dtype=torch.bool, device="meta")},
        ValueError,
        "padding_mask|device|meta",
    ),
    "window 0": ({"window": 0}, ValueError, "window"),
    "a float padding mask": ({"padding_mask": torch.ones(2, 5)}, TypeError, "bool"),
    "a short padding mask": ({"padding_mask": torch.ones(2, 4, dtype=torch.bool)}, ValueError, "padding_mask"),
    "a padding mask for one": ({"padding_mask": torch.ones(1, 5, dtype=torch.bool)}, ValueError, "padding_mask"),
}


@pytest.mark.only("starter", "solution")
@WAY
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(impl: ModuleType, device: str, way: str, case: str) -> None:
    bad, error, words = BAD[case]
    good = {"q": torch.ones(2, 4, 3, 8), "k": torch.ones(2, 2, 5, 8), "v": torch.ones(2, 2, 5, 8)}
    arguments = {
        name: value.to(device)
        if isinstance(value, Tensor) and value.dtype != torch.float64 and not value.is_meta
        else value
        for name, value in (good | bad).items()
    }
    with pytest.raises(error, match=words):
        getattr(impl, way)(**arguments)


@pytest.mark.only("starter", "solution")
def test_bad_blocks_and_masks_are_refused(impl: ModuleType, device: str) -> None:
    with pytest.raises(ValueError, match="block"):
        impl.attend_tiled(*qkv(1, 2, device=device), None, None, 0)
    with pytest.raises(ValueError, match="3"):
        impl.visible(3, 2)
    with pytest.raises(ValueError, match="-1"):
        impl.visible(-1, 2)
    with pytest.raises(ValueError, match="window"):
        impl.visible(2, 2, -1)
