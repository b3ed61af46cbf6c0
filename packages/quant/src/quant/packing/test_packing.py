"""What every implementation of ``quant.packing`` has to do."""

from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor


def codes_of(rows: int, cols: int, bits: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(1 << (bits - 1)), 1 << (bits - 1), (rows, cols), generator=generator).to(torch.int8)


def assert_same(found: Tensor, codes: Tensor, bits: int) -> None:
    assert found.dtype == torch.int8
    assert found.shape == codes.shape, f"{tuple(codes.shape)} came back as {tuple(found.shape)}"
    wrong = (found.cpu() != codes.cpu()).nonzero()
    if len(wrong):
        row, col = wrong[0].tolist()
        words = f"at {bits} bits the code {codes[row, col]} came back as {found[row, col]} (row {row}, column {col})"
        pytest.fail(f"{words}; {len(wrong)} of {codes.numel()} codes are wrong", pytrace=False)


def test_the_first_code_is_in_the_lowest_bits(impl: ModuleType, device: str) -> None:
    four = impl.pack(torch.tensor([[1, 2, -1, -8]], dtype=torch.int8, device=device), 4)
    assert four.dtype == torch.uint8
    assert four.tolist() == [[0x21, 0x8F]], f"1 2 -1 -8 at 4 bits is 0x21 0x8f, got {four.tolist()}"
    two = impl.pack(torch.tensor([[1, -1, 0, -2]], dtype=torch.int8, device=device), 2)
    assert two.tolist() == [[0b10_00_11_01]], f"1 -1 0 -2 at 2 bits is 0b10001101, got {two.tolist()}"


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_codes_come_back(impl: ModuleType, device: str, bits: int) -> None:
    codes = codes_of(6, 32, bits).to(device)
    packed = impl.pack(codes, bits)
    assert packed.shape == (6, 32 * bits // 8), f"32 codes of {bits} bits took {packed.shape[1]} bytes a row"
    assert_same(impl.unpack(packed, bits, 32), codes, bits)


@pytest.mark.parametrize("bits", [2, 4])
def test_negative_codes_keep_their_sign(impl: ModuleType, device: str, bits: int) -> None:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    codes = torch.tensor([[low, -1, 0, high] * 2], dtype=torch.int8, device=device)
    assert_same(impl.unpack(impl.pack(codes, bits), bits, 8), codes, bits)


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("cols", [1, 2, 3, 5, 7, 31])
def test_odd_counts_fill_their_last_byte_with_zeros(impl: ModuleType, device: str, cols: int, bits: int) -> None:
    codes = codes_of(3, cols, bits, seed=cols).to(device)
    packed = impl.pack(codes, bits)
    assert packed.shape == (3, -(-cols * bits // 8)), f"{cols} codes of {bits} bits took {packed.shape[1]} bytes"
    free = 8 * packed.shape[1] - cols * bits
    assert not (packed[:, -1].int() >> (8 - free)).any(), "the bits that no code fills are not zero"
    assert_same(impl.unpack(packed, bits, cols), codes, bits)


@pytest.mark.parametrize("bits", [2, 4])
def test_rows_do_not_flow_into_each_other(impl: ModuleType, device: str, bits: int) -> None:
    codes = codes_of(4, 8, bits).to(device)
    packed = impl.pack(codes, bits)
    for row in range(4):
        assert torch.equal(impl.pack(codes[row : row + 1], bits)[0], packed[row]), (
            f"row {row} depends on its neighbours"
        )


@pytest.mark.parametrize("shape", [(0, 8), (4, 0), (1, 1)])
def test_small_and_empty(impl: ModuleType, device: str, shape: tuple[int, int]) -> None:
    codes = torch.zeros(shape, dtype=torch.int8, device=device)
    for bits in (2, 4):
        packed = impl.pack(codes, bits)
        assert packed.shape == (shape[0], -(-shape[1] * bits // 8))
        assert_same(impl.unpack(packed, bits, shape[1]), codes, bits)


def test_views_are_read_right_and_left_alone(impl: ModuleType, device: str) -> None:
    codes = codes_of(16, 8, 4).to(device)
    before = codes.clone()
    for name, view in (("a transpose", codes.t()), ("every other row", codes[::2])):
        assert torch.equal(impl.pack(view, 4), impl.pack(view.contiguous(), 4)), f"{name} is packed unlike its copy"
    packed = impl.pack(codes, 4)
    kept = packed.clone()
    impl.unpack(packed, 4, 8)
    assert torch.equal(codes, before), "pack changed its input"
    assert torch.equal(packed, kept), "unpack changed its input"


@settings(max_examples=40)
@given(rows=st.integers(1, 5), cols=st.integers(1, 70), bits=st.sampled_from([2, 4, 8]), seed=st.integers(0, 99))
def test_any_matrix_comes_back(impl: ModuleType, device: str, rows: int, cols: int, bits: int, seed: int) -> None:
    codes = codes_of(rows, cols, bits, seed).to(device)
    packed = impl.pack(codes, bits)
    assert packed.shape == (rows, -(-cols * bits // 8))
    assert_same(impl.unpack(packed, bits, cols), codes, bits)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ((4096, 4096, 4, 32), 4.5),
        ((4096, 4096, 4, 128), 4.125),
        ((4096, 4096, 4, 128, 16, 4), 4 + 20 / 128),
        ((4096, 4096, 8, 4096, 32), 8 + 32 / 4096),
        ((10, 3, 4, 32), 16 / 3 + 16 / 3),
        ((10, 5, 2, 4, 16, 8), (16 + 2 * 24) / 5),
        ((2, 8, 3, 8, 0), 3.0),
        ((3, 7, 5, 3, 16, 5), (40 + 3 * 21) / 7),
    ],
    ids=["g32", "g128", "zero points", "channel", "padding", "tail group", "three bits", "odd"],
)
def test_what_a_weight_costs(impl: ModuleType, arguments: tuple[int, ...], wanted: float) -> None:
    found = impl.bits_per_weight(*arguments)
    assert found == pytest.approx(wanted, rel=1e-12), f"bits_per_weight{arguments} is {wanted:.6g}, got {found:.6g}"


def test_what_a_weight_costs_is_what_packing_takes(impl: ModuleType, device: str) -> None:
    for cols, bits in ((64, 4), (33, 4), (7, 2)):
        taken = 8 * impl.pack(codes_of(5, cols, bits).to(device), bits).numel() / (5 * cols)
        found = impl.bits_per_weight(5, cols, bits, cols, 0)
        assert found == pytest.approx(taken), f"{cols} codes of {bits} bits take {taken:.4g} bits each, not {found:.4g}"


@pytest.mark.only("starter", "solution")
def test_bad_input_is_refused(impl: ModuleType, device: str) -> None:
    codes = torch.zeros(2, 4, dtype=torch.int8, device=device)
    for bits in (0, 3, 16):
        with pytest.raises(ValueError, match="bits"):
            impl.pack(codes, bits)
        with pytest.raises(ValueError, match="bits"):
            impl.unpack(codes.view(torch.uint8), bits, 4)
    with pytest.raises(ValueError, match=r"codes|-8|\b[78]\b|bits"):
        impl.pack(codes + 8, 4)
    with pytest.raises(ValueError, match=r"codes|-[23]|\b1\b|bits"):
        impl.pack(codes - 3, 2)
    with pytest.raises(ValueError, match=r"(?i)codes|shape|dim|[(\[]\d"):
        impl.pack(codes[0], 4)
    with pytest.raises(TypeError, match=r"int(32|8)|codes|dtype"):
        impl.pack(codes.int(), 4)
    with pytest.raises(TypeError, match=r"int8|packed|dtype"):
        impl.unpack(codes, 4, 8)
    with pytest.raises(ValueError, match=r"\b[945]\b|cols|packed"):
        impl.unpack(codes.view(torch.uint8), 4, 9)
    with pytest.raises(ValueError, match=r"\b[345]\b|cols|packed"):
        impl.unpack(torch.zeros(2, 3, dtype=torch.uint8, device=device), 4, 4)
    with pytest.raises(ValueError, match=r"(?i)packed|shape|dim|[(\[]\d"):
        impl.unpack(torch.zeros(2, dtype=torch.uint8, device=device), 4, 4)
    for arguments in ((0, 4, 4, 32), (4, -4, 4, 32), (4, 4, 4, 0), (4, 4, 4, 32, -1), (4, 4, 4, 32, 16, -1)):
        with pytest.raises(ValueError, match=r"rows|cols|group|scale_bits|zero|-[14]|\b0\b|positive"):
            impl.bits_per_weight(*arguments)
    with pytest.raises(ValueError, match="bits"):
        impl.bits_per_weight(4, 4, 1, 32)


@pytest.mark.stretch
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
def test_any_width_comes_back_without_a_gap(impl: ModuleType, device: str, bits: int) -> None:
    for cols in (1, 3, 8, 11, 64):
        codes = codes_of(3, cols, bits, seed=cols).to(device)
        packed = impl.pack_dense(codes, bits)
        assert packed.dtype == torch.uint8
        assert packed.shape == (3, -(-cols * bits // 8)), f"{cols} codes of {bits} bits took {packed.shape[1]} bytes"
        assert_same(impl.unpack_dense(packed, bits, cols), codes, bits)


@pytest.mark.stretch
@pytest.mark.parametrize("bits", [3, 8])
def test_views_are_packed_without_a_gap_like_their_copies(impl: ModuleType, device: str, bits: int) -> None:
    codes = codes_of(16, 8, bits).to(device)
    for name, view in (("a transpose", codes.t()), ("every other row", codes[::2])):
        packed = impl.pack_dense(view, bits)
        assert torch.equal(packed, impl.pack_dense(view.contiguous(), bits)), f"{name} is packed unlike its copy"
        turned = packed.t().contiguous().t()  # the same bytes, not contiguous
        assert_same(impl.unpack_dense(turned, bits, view.shape[1]), view, bits)


@pytest.mark.stretch
@pytest.mark.parametrize("shape", [(0, 8), (4, 0), (0, 0), (1, 1)])
@pytest.mark.parametrize("bits", [3, 8])
def test_small_and_empty_without_a_gap(impl: ModuleType, device: str, shape: tuple[int, int], bits: int) -> None:
    codes = torch.zeros(shape, dtype=torch.int8, device=device)
    packed = impl.pack_dense(codes, bits)
    assert packed.shape == (shape[0], -(-shape[1] * bits // 8))
    assert_same(impl.unpack_dense(packed, bits, shape[1]), codes, bits)


@pytest.mark.stretch
def test_codes_straddle_bytes(impl: ModuleType, device: str) -> None:
    packed = impl.pack_dense(torch.tensor([[1, 2, -1]], dtype=torch.int8, device=device), 3)
    assert packed.tolist() == [[0b11_010_001, 0b1]], f"1 2 -1 at 3 bits is 0b11010001 0b1, got {packed.tolist()}"
    codes = codes_of(2, 9, 4).to(device)
    assert torch.equal(impl.pack_dense(codes, 4), impl.pack(codes, 4)), "at 4 bits both packings are the same"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_dense_packing_refuses_bad_input(impl: ModuleType, device: str) -> None:
    codes = torch.zeros(2, 4, dtype=torch.int8, device=device)
    with pytest.raises(ValueError, match="bits"):
        impl.pack_dense(codes, 9)
    with pytest.raises(ValueError, match=r"codes|-4|\b[34]\b|bits"):
        impl.pack_dense(codes + 4, 3)
    with pytest.raises(ValueError, match=r"\b[42]\b|cols|packed"):
        impl.unpack_dense(codes.view(torch.uint8), 3, 4)
