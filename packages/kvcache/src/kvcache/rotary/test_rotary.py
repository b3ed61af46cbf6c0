"""What every implementation of ``kvcache.rotary`` has to do."""

import cmath
import math
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kvcache.rotary import Scaling

# Angles up to 301 radians known to float32, and one rounding of the result.
FP32 = 301 * torch.finfo(torch.float32).eps
STEP = {torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10, torch.float32: FP32, torch.float64: 1e-12}


def normal(*shape: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).to(device, dtype)


def exact(x: Tensor, positions: Tensor, freqs: Tensor, attention: float = 1.0) -> Tensor:
    """Turn every pair as one complex number, in Python's own floats."""
    out = x.cpu().double().clone()
    half = x.shape[-1] // 2
    rows = positions.cpu().expand(x.shape[0], -1)
    for b in range(x.shape[0]):
        for t in range(x.shape[2]):
            for i in range(half):
                factor = attention * cmath.exp(1j * int(rows[b, t]) * float(freqs[i]))
                for h in range(x.shape[1]):
                    pair = complex(out[b, h, t, i], out[b, h, t, i + half]) * factor
                    out[b, h, t, i], out[b, h, t, i + half] = pair.real, pair.imag
    return out


def test_frequencies_fall_from_one(impl: ModuleType, device: str) -> None:
    found = impl.frequencies(8, 10000.0)
    assert found.dtype == torch.float32
    wanted = [1.0, 0.1, 0.01, 0.001]
    assert found.tolist() == pytest.approx(wanted, rel=1e-6), f"head_dim 8: {found.tolist()}, expected {wanted}"


def test_another_base(impl: ModuleType, device: str) -> None:
    found = impl.frequencies(4, 500000.0)
    assert found.tolist() == pytest.approx([1.0, 500000**-0.5], rel=1e-6)


def test_positions_count_real_tokens(impl: ModuleType, device: str) -> None:
    mask = torch.tensor([[False, False, True, True, True], [True] * 5], device=device)
    found = impl.positions_of(mask)
    assert found.tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 3, 4]], f"two pads, then three tokens: {found[0].tolist()}"
    assert found.dtype == torch.int64


def test_positions_go_on_after_the_cache(impl: ModuleType, device: str) -> None:
    mask = torch.tensor([[False, True, True, True], [True] * 4], device=device)
    found = impl.positions_of(mask, 3)
    assert found.tolist() == [[2], [3]], f"after 3 cached columns: {found.tolist()}, expected [[2], [3]]"


def test_position_zero_changes_nothing(impl: ModuleType, device: str) -> None:
    x = normal(1, 2, 1, 8, device=device)
    assert torch.equal(impl.rotate(x, torch.zeros(1, dtype=torch.int64, device=device), impl.frequencies(8)), x)


def test_a_quarter_turn_swaps_the_halves(impl: ModuleType, device: str) -> None:
    x = torch.tensor([1.0, 2.0, 3.0, 4.0], device=device).view(1, 1, 1, 4)
    quarter = torch.tensor([math.pi / 2, 0.0])
    found = impl.rotate(x, torch.ones(1, dtype=torch.int64, device=device), quarter).flatten().tolist()
    wanted = [-3.0, 2.0, 1.0, 4.0]
    assert found == pytest.approx(wanted, abs=1e-6), f"(1, 3) turned by 90 degrees: {found}, expected {wanted}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_it_is_the_rotation(impl: ModuleType, device: str, dtype: torch.dtype) -> None:
    if device == "mps" and dtype == torch.float64:
        pytest.skip("MPS has no float64")
    if "peer" in impl.__name__ and dtype != torch.float32:
        pytest.skip("its tables have the dtype of the model or float32")
    x, positions = normal(2, 3, 4, 8, dtype=dtype, device=device), torch.tensor([0, 1, 7, 301], device=device)
    found = impl.rotate(x, positions, impl.frequencies(8))
    assert found.dtype == dtype
    error = (found.cpu().double() - exact(x, positions, impl.frequencies(8))).abs() / x.abs().max().cpu().double()
    worst = int(error.amax((0, 1, 3)).argmax())
    assert error.max() <= STEP[dtype], f"{dtype}: position {positions[worst]} is off by {error.max():.2g}"


def test_each_row_has_its_own_positions(impl: ModuleType, device: str) -> None:
    x = normal(2, 3, 2, 8, device=device)
    positions = torch.tensor([[0, 1], [5, 6]], device=device)
    found = impl.rotate(x, positions, impl.frequencies(8))
    for row in range(2):
        off = (found[row : row + 1].cpu().double() - exact(x[row : row + 1], positions[row], impl.frequencies(8))).abs()
        assert off.max() <= 4 * FP32, f"row {row} at positions {positions[row].tolist()} is off by {off.max():.2g}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [701, 1024])
def test_a_long_text_is_turned_as_its_parts_are(impl: ModuleType, device: str, length: int, dtype: torch.dtype) -> None:
    x, freqs = normal(2, 4, length, 128, dtype=dtype, device=device), impl.frequencies(128)
    positions = torch.stack([torch.arange(length), torch.arange(length).sub(5).clamp(min=0)]).to(device)
    whole = impl.rotate(x, positions, freqs)
    for start in range(0, length, 350):
        part = slice(start, start + 350)
        alone = impl.rotate(x[:, :, part], positions[:, part], freqs)
        different = (whole[:, :, part].float() - alone.float()).abs().amax().item()
        assert different <= STEP[dtype] * x.abs().amax().item(), f"positions {part}: differ by {different:.3g}"


def test_the_attention_factor_multiplies(impl: ModuleType, device: str) -> None:
    x, positions = normal(1, 1, 3, 4, device=device), torch.arange(3, device=device)
    once, twice = (impl.rotate(x, positions, impl.frequencies(4), factor) for factor in (1.0, 2.0))
    assert torch.allclose(twice, 2 * once), "attention 2 does not double the rotated vectors"


@settings(max_examples=20)
@given(m=st.integers(0, 500), n=st.integers(0, 500), shift=st.integers(0, 500))
def test_products_depend_on_distance_alone(impl: ModuleType, device: str, m: int, n: int, shift: int) -> None:
    q, k = normal(1, 1, 1, 16, device=device), normal(1, 1, 1, 16, device=device).flip(-1)
    freqs = impl.frequencies(16)

    def product(one: int, other: int) -> float:
        at = [torch.tensor([p], device=device) for p in (one, other)]
        return float((impl.rotate(q, at[0], freqs) * impl.rotate(k, at[1], freqs)).sum())

    here, there = product(m, n), product(m + shift, n + shift)
    assert here == pytest.approx(there, abs=2e-3), f"positions {m}, {n}: {here:.5f}; shifted by {shift}: {there:.5f}"


def test_views_and_input(impl: ModuleType, device: str) -> None:
    x = normal(2, 4, 3, 8, device=device).transpose(1, 2)
    before, positions = x.clone(), torch.arange(4, device=device)
    found = impl.rotate(x, positions, impl.frequencies(8))
    assert torch.equal(x, before), "x was changed in place"
    assert torch.allclose(found, impl.rotate(x.contiguous(), positions, impl.frequencies(8)))


SHAPE = r"[(\[]\d|shape|dim"  # printed, or named
BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "odd head_dim": ({"x": torch.ones(1, 1, 2, 5)}, ValueError, SHAPE),
    "three dimensions": ({"x": torch.ones(1, 2, 4)}, ValueError, SHAPE),
    "too few frequencies": ({"frequencies": torch.ones(1)}, ValueError, "frequencies"),
    "too few positions": ({"positions": torch.arange(1)}, ValueError, "positions"),
    "float positions": ({"positions": torch.ones(2)}, TypeError, "float32|int"),
}


@pytest.mark.only("starter", "solution")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(impl: ModuleType, device: str, case: str) -> None:
    bad, error, words = BAD[case]
    good = {"x": torch.ones(1, 1, 2, 4), "positions": torch.arange(2), "frequencies": torch.ones(2)}
    with pytest.raises(error, match=words):
        impl.rotate(**{name: value.to(device) for name, value in (good | bad).items()})


@pytest.mark.only("starter", "solution")
def test_bad_options_are_refused(impl: ModuleType, device: str) -> None:
    for head_dim in (0, -2, 7):
        with pytest.raises(ValueError, match="head_dim"):
            impl.frequencies(head_dim)
    with pytest.raises(ValueError, match="base"):
        impl.frequencies(8, 0.0)
    with pytest.raises(TypeError, match=r"int64|bool"):
        impl.positions_of(torch.ones(1, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="past"):
        impl.positions_of(torch.ones(1, 2, dtype=torch.bool), 3)


# Longer contexts

YARN = Scaling("yarn", 4.0, 2048)
LLAMA3 = Scaling("llama3", 8.0, 8192, low=1.0, high=4.0)


@pytest.mark.stretch
def test_linear_divides_all(impl: ModuleType, device: str) -> None:
    found = impl.scaled_frequencies(8, 10000.0, Scaling("linear", 4.0, 2048))
    assert found.frequencies.tolist() == pytest.approx([0.25, 0.025, 0.0025, 0.00025], rel=1e-5)
    assert found.attention == 1


@pytest.mark.stretch
def test_ntk_keeps_the_fastest_and_divides_the_slowest(impl: ModuleType, device: str) -> None:
    if "peer" in impl.__name__:
        pytest.skip("transformers has only the dynamic kind, whose factor depends on the length")
    found = impl.scaled_frequencies(16, 10000.0, Scaling("ntk", 4.0, 2048)).frequencies
    plain = impl.frequencies(16)
    assert found[0] == 1
    ratio = float(plain[-1] / found[-1])
    assert ratio == pytest.approx(4, rel=1e-5), f"the slowest frequency is divided by {ratio:.3f}, expected 4"


@pytest.mark.stretch
@pytest.mark.parametrize("scaling", [YARN, LLAMA3], ids=["yarn", "llama3"])
def test_blends_keep_the_fast_and_divide_the_slow(impl: ModuleType, device: str, scaling: Scaling) -> None:
    found, plain = impl.scaled_frequencies(128, 10000.0, scaling).frequencies, impl.frequencies(128)
    assert found[0] == plain[0], f"the fastest frequency became {found[0]}"
    assert float(plain[-1] / found[-1]) == pytest.approx(scaling.factor, rel=1e-5)
    ratio = plain / found
    assert bool((ratio[1:] >= ratio[:-1] * (1 - 1e-6)).all()), "a faster frequency is stretched more than a slower one"


@pytest.mark.stretch
def test_yarn_sharpens_attention(impl: ModuleType, device: str) -> None:
    found = impl.scaled_frequencies(64, 10000.0, YARN).attention
    assert found == pytest.approx(0.1 * math.log(4) + 1), f"attention factor {found}, expected 0.1 ln 4 + 1 = 1.1386"


@pytest.mark.stretch
def test_yarn_blends_between_known_indices(impl: ModuleType, device: str) -> None:
    found, plain = impl.scaled_frequencies(128, 10000.0, YARN).frequencies, impl.frequencies(128)
    # 32 and 1 turns over 2048 positions are at the real indices 16.12 and 40.20: the ramp runs from 16 to 41.
    for index in (10, 16, 20, 28, 40, 41, 50):
        kept = 1 - min(max((index - 16) / 25, 0), 1)
        wanted = float(plain[index]) * (kept + (1 - kept) / 4)
        assert float(found[index]) == pytest.approx(wanted, rel=1e-5), f"frequency {index}"


@pytest.mark.stretch
def test_llama3_blends_by_rotations(impl: ModuleType, device: str) -> None:
    found, plain = impl.scaled_frequencies(128, 500000.0, LLAMA3).frequencies, impl.frequencies(128, 500000.0)
    for index in range(64):
        turns = 8192 * float(plain[index]) / (2 * math.pi)
        kept = min(max((turns - 1) / 3, 0), 1)
        wanted = float(plain[index]) * (kept + (1 - kept) / 8)
        assert float(found[index]) == pytest.approx(wanted, rel=1e-4), f"frequency {index}, {turns:.2f} turns"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_bad_scaling_is_refused(impl: ModuleType, device: str) -> None:
    with pytest.raises(ValueError, match="factor"):
        impl.scaled_frequencies(8, 10000.0, Scaling("linear", 0.5, 2048))
    with pytest.raises(ValueError, match="head_dim"):
        impl.scaled_frequencies(2, 10000.0, Scaling("ntk", 2.0, 2048))
    for empty in (Scaling("yarn", 2.0, 0), Scaling("yarn", 2.0, 64, 0.0), Scaling("llama3", 2.0, 64, 4.0, 4.0)):
        with pytest.raises(ValueError, match=r"low|high|original|ramp|blend"):
            impl.scaled_frequencies(8, 10000.0, empty)
    with pytest.raises(ValueError, match=r"kind|other"):
        impl.scaled_frequencies(8, 10000.0, Scaling("other", 2.0, 2048))  # type: ignore[arg-type]
