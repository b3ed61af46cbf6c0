"""What every implementation of ``kvcache.kivi`` has to do."""

import importlib
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

BITS = pytest.mark.parametrize("bits", [2, 4, 8])
# Half a step, and scale and low rounded to the 8 bits of bfloat16: at the far end of 255 steps half a unit in the last
# place of the scale is half a step more, and the low costs up to 2**-9 of itself.
LAST_PLACE = 2.0**-8


def normal(*shape: int, seed: int = 0, device: str = "cpu") -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)


def keys_with_outliers(length: int, batch: int = 1, seed: int = 0, device: str = "cpu", head_dim: int = 16) -> Tensor:
    """Keys as models have them: a few channels are large and one-sided for every token."""
    k = normal(batch, 2, length, head_dim, seed=seed, device=device)
    k[..., 3] = k[..., 3] + 12
    k[..., 11] = k[..., 11] - 20
    return k


# There and back


@BITS
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_the_round_trip_is_within_half_a_step(impl: ModuleType, device: str, bits: int, dim: int) -> None:
    x = normal(24, 20, 16, device=device) + 3
    found = impl.quantize(x, bits, dim)
    assert found.codes.dtype == torch.uint8
    assert found.codes.shape == x.shape
    assert found.scale.shape == found.low.shape == x.amin(dim, keepdim=True).shape, "one scale for each slice"
    assert found.scale.dtype == torch.bfloat16
    assert int(found.codes.max()) <= 2**bits - 1, f"code {found.codes.max()} at {bits} bits"
    low, high = x.amin(dim, keepdim=True), x.amax(dim, keepdim=True)
    step = (high - low) / (2**bits - 1)
    allowed = step * 0.5 + (high - low) * LAST_PLACE + low.abs() * LAST_PLACE
    excess = ((impl.dequantize(found) - x).abs() / allowed).max().item()
    assert excess <= 1, f"{bits} bits along {dim}: an error of {excess:.2f} times what rounding can cost"


@BITS
def test_codes_are_nearest_for_the_stored_scale(impl: ModuleType, device: str, bits: int) -> None:
    x = normal(40, 32, seed=1, device=device) * 5 + 40.3
    found = impl.quantize(x, bits, 1)
    exact = (x.cpu().double() - found.low.cpu().double()) / found.scale.cpu().double()
    off = (found.codes.cpu().double() - exact.clamp(0, 2**bits - 1)).abs().max().item()
    assert off <= 0.5 + 1e-4, f"a code is {off:.3f} steps from its number: scale and low count as stored, in bfloat16"


@BITS
def test_symmetric_codes_need_no_low(impl: ModuleType, device: str, bits: int) -> None:
    x = normal(40, 32, seed=2, device=device) + torch.linspace(-3, 3, 32, device=device)
    found = impl.quantize(x, bits, 0, symmetric=True)
    half = 2 ** (bits - 1)
    assert torch.equal(found.low, -half * found.scale), "the low follows from the scale, exactly"
    most, codes = x.abs().amax(0, keepdim=True), found.codes.cpu().int() - half
    assert int(codes.abs().max()) == half - 1, f"at {bits} bits symmetric codes go from {1 - half} to {half - 1}"
    assert (found.scale.float() * (half - 1) - most).abs().le(most * LAST_PLACE).all(), "a scale of the largest number"
    error = (impl.dequantize(found) - x).abs() / found.scale.float()
    assert error.max() <= 0.5 + (half - 1) * LAST_PLACE, f"{error.max():.3f} steps off"
    zeros = impl.dequantize(impl.quantize(x * 0, bits, 0, symmetric=True))
    assert torch.equal(zeros, torch.zeros_like(x)), "0 comes back as 0"


def test_a_constant_slice_comes_back(impl: ModuleType, device: str) -> None:
    x = torch.tensor([[2.5] * 4, [0.0] * 4, [-1.0, 0.0, 0.0, 2.0]], device=device)
    back = impl.dequantize(impl.quantize(x, 4, 1))
    assert torch.equal(back[:2], x[:2]), f"rows of 2.5 and of 0 came back as {back[:2].tolist()}"
    assert torch.allclose(back[2], x[2], atol=0.11)


def test_dtypes(impl: ModuleType, device: str) -> None:
    x = normal(4, 8, device=device)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        codes = impl.quantize(x.to(dtype), 8, 1)
        assert impl.dequantize(codes, dtype).dtype == dtype
        assert (impl.dequantize(codes) - x).abs().max() < 0.05


def test_keys_want_their_own_dimension(impl: ModuleType, device: str) -> None:
    k = keys_with_outliers(32, device=device)
    errors = [(impl.dequantize(impl.quantize(k, 4, dim)) - k).norm().item() for dim in (2, 3)]
    assert errors[0] * 3 < errors[1], f"along tokens {errors[0]:.2f}, along channels {errors[1]:.2f}"


# Packing


@BITS
def test_packing_is_undone(impl: ModuleType, device: str, bits: int) -> None:
    generator = torch.Generator().manual_seed(bits)
    codes = torch.randint(2**bits, (3, 5, 16), generator=generator).to(device, torch.uint8)
    packed = impl.pack(codes, bits)
    assert packed.shape == (3, 5, 16 * bits // 8), f"16 codes of {bits} bits take {16 * bits // 8} bytes"
    assert packed.dtype == torch.uint8
    assert torch.equal(impl.unpack(packed, bits), codes)


def test_the_first_code_is_lowest(impl: ModuleType, device: str) -> None:
    codes = torch.tensor([1, 2, 3, 0, 3, 3, 0, 1], dtype=torch.uint8, device=device)
    assert impl.pack(codes, 2).tolist() == [0b00111001, 0b01001111]
    assert impl.pack(codes, 4).tolist() == [0x21, 0x03, 0x33, 0x10]
    assert impl.unpack(torch.tensor([0xE4], dtype=torch.uint8, device=device), 2).tolist() == [0, 1, 2, 3]


@pytest.mark.only("starter", "solution")
def test_bad_input_is_refused(impl: ModuleType, device: str) -> None:
    x = torch.ones(2, 4, device=device)
    for bits in (0, 3, 16):
        with pytest.raises(ValueError, match="bits"):
            impl.quantize(x, bits, 1)
        with pytest.raises(ValueError, match="bits"):
            impl.pack(x.to(torch.uint8), bits)
        with pytest.raises(ValueError, match="bits"):
            impl.unpack(x.to(torch.uint8), bits)
    for dim in (2, -3):
        with pytest.raises(ValueError, match="dim"):
            impl.quantize(x, 4, dim)
    for call in (impl.pack, impl.unpack):
        with pytest.raises(TypeError, match="uint8"):
            call(x, 4)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"(?i)nan|inf"):
            impl.quantize(x * bad, 4, 1)
    with pytest.raises(ValueError, match=r"shape|empty|0"):
        impl.quantize(x[:0], 4, 1)
    with pytest.raises(TypeError, match=r"int64|float"):
        impl.quantize(x.long(), 4, 1)
    with pytest.raises(ValueError, match=r"3|dim"):
        impl.pack(torch.zeros(3, dtype=torch.uint8, device=device), 4)
    with pytest.raises(ValueError, match=r"code|4"):
        impl.pack(torch.full((4,), 4, dtype=torch.uint8, device=device), 2)


# The cache


def planes(packed: Tensor, bits: int) -> Tensor:
    """Undo quanto's packing: the lowest bits of all bytes first, then the next."""
    return torch.cat([(packed >> (bits * i)) & (2**bits - 1) for i in range(8 // bits)])


def cache_of(
    impl: ModuleType, device: str, capacity: int, bits: int = 4, group: int = 8, batch: int = 1, head_dim: int = 16
) -> Any:
    if impl.__name__.endswith("peer_quanto"):
        # quanto compiles a kernel at its first use, for 40 s; this is the same.
        cpp = importlib.import_module("optimum.quanto.library.extensions.cpp")
        cpp.ext._lib = cpp.ext._lib or SimpleNamespace(unpack=planes)  # noqa: SLF001
    return impl.QuantizedCache(2, batch, 2, head_dim, capacity, bits, group, torch.float32, device)


def feed(cache: Any, k: Tensor, v: Tensor, chunks: list[int]) -> Any:
    for size in chunks:
        at = cache.length
        positions = torch.arange(at, at + size, device=k.device)
        piece = slice(at, at + size)
        view = cache.update(0, k[:, :, piece], v[:, :, piece], positions)
        cache.update(1, -k[:, :, piece], v[:, :, piece], positions)
    return view


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
@pytest.mark.parametrize("chunks", [[20], [1] * 20, [5, 11, 4], [8, 8, 4]])
def test_groups_are_quantized_and_the_rest_waits(impl: ModuleType, device: str, chunks: list[int]) -> None:
    k, v = keys_with_outliers(20, device=device), normal(1, 2, 20, 16, seed=5, device=device)
    view = feed(cache_of(impl, device, 32), k, v, chunks)
    assert view.keys.shape == k.shape
    assert torch.equal(view.keys[:, :, 16:], k[:, :, 16:]), "the last 4 of 20 wait in full precision"
    assert torch.equal(view.values[:, :, 16:], v[:, :, 16:]), "the last 4 of 20 wait in full precision"
    grouped = k[:, :, :16].unflatten(2, (2, 8))
    wanted = impl.dequantize(impl.quantize(grouped, 4, 3)).flatten(2, 3)
    assert torch.equal(view.keys[:, :, :16], wanted), "keys: a scale for each channel of each group of 8 tokens"
    wanted = impl.dequantize(impl.quantize(v[:, :, :16], 4, 3))
    assert torch.equal(view.values[:, :, :16], wanted), "values: a scale for each token"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
@settings(max_examples=15)
@given(chunks=st.lists(st.integers(1, 13), min_size=2, max_size=8), bits=st.sampled_from([2, 4, 8]))
def test_what_is_quantized_never_changes(impl: ModuleType, device: str, chunks: list[int], bits: int) -> None:
    total = sum(chunks)
    k, v = keys_with_outliers(total, device=device), normal(1, 2, total, 16, seed=5, device=device)
    cache = cache_of(impl, device, total, bits)
    first = feed(cache, k, v, chunks[:1])
    done = chunks[0] - chunks[0] % 8
    keys, values = first.keys[:, :, :done].clone(), first.values[:, :, :done].clone()
    last = feed(cache, k, v, chunks[1:])
    assert torch.equal(last.keys[:, :, :done], keys), f"chunks {chunks}: old keys changed under later appends"
    assert torch.equal(last.values[:, :, :done], values), f"chunks {chunks}: old values changed under later appends"
    once = feed(cache_of(impl, device, total, bits), k, v, [total])
    assert torch.equal(last.keys, once.keys), f"chunks {chunks} at {bits} bits: other keys than all at once"
    assert torch.equal(last.values, once.values), f"chunks {chunks} at {bits} bits: other values than all at once"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("head_dim", "positions", "group"), [(64, 4096, 64), (16, 100, 32)])
def test_every_byte_is_accounted_for(
    impl: ModuleType, device: str, bits: int, head_dim: int, positions: int, group: int
) -> None:
    heads, whole, dtype = 2 * 3, positions // group * group, torch.float32  # 2 layers of 3 heads
    maps = {2: 4, 4: 4, 8: 2}[bits]  # bytes of a scale, and of a low where the codes are not symmetric
    parts = {
        "codes": 2 * heads * whole * head_dim * bits // 8,
        "maps of keys": heads * whole // group * head_dim * maps,  # for each channel of a group
        "maps of values": heads * whole * maps,  # for each position
        "centres": heads * (head_dim + 1) * 2 if bits == 8 else 0,
        "waiting": 2 * heads * group * head_dim * dtype.itemsize,
    }
    cache = impl.QuantizedCache(2, 1, 3, head_dim, positions, bits, group, dtype, device)
    assert cache.nbytes <= sum(parts.values()), f"{cache.nbytes} bytes at {bits} bits; needed are {parts}"
    assert cache.nbytes >= parts["codes"]


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
@pytest.mark.parametrize(("bits", "most"), [(8, 0.27), (4, 0.16)])
def test_it_is_small(impl: ModuleType, device: str, bits: int, most: float) -> None:
    # Beside codes of bits / 32 there are 32 positions that may wait in full precision, 0.8 % of 4096, and the maps.
    cache = impl.QuantizedCache(1, 1, 8, 64, 4096, bits, 32, torch.float32, device)
    share = cache.nbytes / (2 * 8 * 64 * 4096 * 4)
    assert share <= most, f"int{bits} takes {share:.3f} of full precision, {most} is allowed"


@pytest.mark.stretch
@pytest.mark.known("peer_quanto", reason="its default scales are shared by channels of different size")
@pytest.mark.parametrize(("bits", "most"), [(8, 0.01), (4, 0.15)])
@pytest.mark.parametrize("head_dim", [16, 64])
def test_attention_over_it_is_close(impl: ModuleType, device: str, head_dim: int, bits: int, most: float) -> None:
    k = keys_with_outliers(256, device=device, head_dim=head_dim)
    v, q = (normal(1, 2, n, head_dim, seed=seed, device=device) for n, seed in ((256, 5), (16, 6)))
    view = feed(cache_of(impl, device, 256, bits, 32, head_dim=head_dim), k, v, [255, 1])
    wanted = (q @ k.mT / head_dim**0.5).softmax(-1) @ v
    found = (q @ view.keys.mT / head_dim**0.5).softmax(-1) @ view.values
    error = ((found - wanted).norm() / wanted.norm()).item()
    assert error <= most, f"int{bits}: relative attention error {error:.4f}, {most} is allowed"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
@pytest.mark.parametrize("outliers", [True, False])
@pytest.mark.parametrize("bits", [2, 4])
def test_a_number_is_quantized_once_and_loses_no_more_than_in_quanto(
    impl: ModuleType, device: str, bits: int, outliers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device != "cpu":
        pytest.skip("quanto's kernels are compared on the CPU")
    pytest.importorskip("optimum.quanto")
    quanto = importlib.import_module("kvcache.kivi.peer_quanto")
    v, q = normal(1, 2, 320, 16, seed=2), normal(1, 2, 8, 16, seed=3)
    k = keys_with_outliers(320, seed=1) if outliers else normal(1, 2, 320, 16, seed=1)
    wanted, errors, counts = (q @ k.mT / 4).softmax(-1) @ v, {}, {"ours": 0, "quanto": 0}

    def counting(name: str, function: Any, which: int) -> Any:
        def counted(*arguments: Any, **options: Any) -> Any:
            counts[name] += arguments[which].numel()
            return function(*arguments, **options)

        return counted

    monkeypatch.setattr(impl, "quantize", counting("ours", impl.quantize, 0))
    again = quanto.QuantoQuantizedLayer._quantize  # noqa: SLF001
    monkeypatch.setattr(quanto.QuantoQuantizedLayer, "_quantize", counting("quanto", again, 1))
    for name, module in (("ours", impl), ("quanto", quanto)):
        view = feed(cache_of(module, device, 320, bits, 32), k, v, [64] + [1] * 256)
        found = (q @ view.keys.mT / 4).softmax(-1) @ view.values
        errors[name] = ((found - wanted).norm() / wanted.norm()).item()
    assert counts["ours"] == 2 * (k.numel() + v.numel()), f"every number of 2 layers is quantized once: {counts}"
    assert counts["quanto"] >= 3 * counts["ours"], f"numbers quantized: {counts}"
    # Its groups do not mix what was quantized apart, so that doing it again changes little; what costs is that channels
    # of different size share a scale. Where no channel is large, both lose the same.
    most = 1 / 3 if outliers else 1.1
    assert errors["ours"] <= most * errors["quanto"], f"int{bits}, {outliers=}: relative attention errors {errors}"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
@BITS
def test_crop_and_reorder(impl: ModuleType, device: str, bits: int) -> None:
    k, v = keys_with_outliers(21, 2, device=device), normal(2, 2, 21, 16, seed=5, device=device)
    cache = cache_of(impl, device, 40, bits, batch=2)
    feed(cache, k[:, :, :20], v[:, :, :20], [20])
    with pytest.raises(ValueError, match=r"12|length"):
        cache.crop(12)
    cache.crop(18)
    feed(cache, k, v, [2])
    cache.reorder(torch.tensor([1, 1], device=device))
    view = feed(cache, k, v, [1])
    both = feed(cache_of(impl, device, 40, bits, batch=2), k, v, [21])
    assert torch.equal(view.keys[:, :, :20], both.keys[[1, 1], :, :20]), "rows [1, 1] after a crop to 18"
    assert torch.equal(view.values[:, :, :20], both.values[[1, 1], :, :20])
    cache.crop(8)
    assert torch.equal(feed(cache, k, v, [1]).keys[0, :, :8], both.keys[1, :, :8]), "cropped to a whole group"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_a_bad_cache_is_refused(impl: ModuleType, device: str) -> None:
    for arguments, words in (
        ((1, 1, 1, 16, 8, 3), "bits"),
        ((1, 1, 1, 5, 8, 4), "head_dim"),
        ((1, 1, 1, 16, 8, 4, 0), "group"),
        ((1, 1, 1, 16, 0), "capacity"),
    ):
        with pytest.raises(ValueError, match=words):
            impl.QuantizedCache(*arguments)
    cache = cache_of(impl, device, 4)
    with pytest.raises(ValueError, match=r"4|full|capacity"):
        feed(cache, normal(1, 2, 5, 16, device=device), normal(1, 2, 5, 16, device=device), [5])


@pytest.mark.slow
@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
@BITS
def test_ten_thousand_appends_do_not_drift(impl: ModuleType, device: str, bits: int) -> None:
    k, v = keys_with_outliers(10_000, device=device), normal(1, 2, 10_000, 16, seed=5, device=device)
    one = feed(cache_of(impl, device, 10_000, bits), k, v, [1] * 10_000)
    at_once = feed(cache_of(impl, device, 10_000, bits), k, v, [10_000])
    assert torch.equal(one.keys, at_once.keys), "one token at a time and all at once differ"
    assert torch.equal(one.values, at_once.values), "one token at a time and all at once differ"
