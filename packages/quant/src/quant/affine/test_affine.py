"""What every implementation of ``quant.affine`` has to do."""

from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quant.affine import QParams

# Half a step from rounding, and the error of dividing, adding and multiplying in float32 on numbers of some 256 steps.
HALF_STEP = 0.5 + 256 * 4 * torch.finfo(torch.float32).eps
GROUPS = pytest.mark.known("peer_torch", reason="torch.ao observes tensors and channels, not groups")
TAIL = pytest.mark.known("peer_torchao", reason="blocks must divide the shape")
SLICES = [(kind, symmetric) for kind in ("tensor", "channel") for symmetric in (True, False)]


def normal(*shape: int, seed: int = 0, device: str = "cpu") -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)


def there_and_back(impl: ModuleType, x: Tensor, *args: Any) -> tuple[QParams, Tensor, Tensor]:
    qparams = impl.choose_qparams(x, *args)
    codes = impl.quantize(x, qparams)
    return qparams, codes, impl.dequantize(codes, qparams)


def per_column(qparams: QParams, values: Tensor, cols: int) -> Tensor:
    return values.repeat_interleave(qparams.group, dim=1)[:, :cols]


def assert_half_a_step(x: Tensor, qparams: QParams, back: Tensor) -> None:
    error = (back.double().cpu() - x.double().cpu()).abs()
    steps = error / per_column(qparams, qparams.scale.double().cpu(), x.shape[1])
    row, col = divmod(int(steps.argmax()), x.shape[1])
    assert steps.max() <= HALF_STEP, (
        f"{x[row, col].item():.6g} came back as {back[row, col].item():.6g}: {steps.max().item():.3g} steps away "
        f"(row {row}, column {col}), rounding to the nearest code costs at most 0.5"
    )


def assert_fine(x: Tensor, qparams: QParams, *, symmetric: bool, group: int, whole: bool = False) -> None:
    """No slice's step is coarser than its own range needs."""
    highest, steps = (1 << (qparams.bits - 1)) - 1, (1 << qparams.bits) - 1
    pieces = [x.flatten()[None]] if whole else list(x.cpu().double().split(group, dim=1))
    for number, piece in enumerate(pieces):
        low, high = piece.cpu().double().amin(1).clamp(max=0), piece.cpu().double().amax(1).clamp(min=0)
        needed = torch.maximum(-low, high) / highest if symmetric else (high - low) / steps
        chosen = qparams.scale[:, 0 if whole else number].cpu().double()
        excess = ((chosen - needed) / needed).max().item()
        row = int(((chosen - needed) / needed).argmax())
        assert excess <= 1e-5, (
            f"row {row}, group {number} spans [{low[row]:.4g}, {high[row]:.4g}]: its scale is {chosen[row]:.4g}, "
            f"{needed[row]:.4g} is enough"
        )


# The core: what is measured is the way there and back


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("granularity", "symmetric"), SLICES)
def test_the_round_trip_is_within_half_a_step(
    impl: ModuleType, device: str, granularity: str, symmetric: bool, bits: int
) -> None:
    x = normal(16, 48, device=device)
    qparams, codes, back = there_and_back(impl, x, bits, symmetric, granularity)
    assert codes.dtype == torch.int8
    assert codes.shape == x.shape
    assert qparams.lowest <= codes.min(), f"code {codes.min()} at {bits} bits, {qparams.lowest} is the lowest"
    assert codes.max() <= qparams.highest, f"code {codes.max()} at {bits} bits, {qparams.highest} is the highest"
    assert_half_a_step(x, qparams, back)


@pytest.mark.parametrize("bits", [3, 8])
@pytest.mark.parametrize(("granularity", "symmetric"), SLICES)
def test_no_step_is_coarser_than_its_slice_needs(
    impl: ModuleType, device: str, granularity: str, symmetric: bool, bits: int
) -> None:
    x = normal(8, 40, seed=1, device=device)
    qparams = impl.choose_qparams(x, bits, symmetric, granularity)
    assert_fine(x, qparams, symmetric=symmetric, group=x.shape[1], whole=granularity == "tensor")


@pytest.mark.parametrize("symmetric", [True, False])
def test_each_channel_has_its_own_scale(impl: ModuleType, device: str, symmetric: bool) -> None:
    x = normal(2, 64, device=device) * torch.tensor([[10.0], [0.001]], device=device)
    qparams, codes, _ = there_and_back(impl, x, 8, symmetric, "channel")
    assert qparams.scale.shape == (2, 1), f"2 rows want scales of shape (2, 1), got {tuple(qparams.scale.shape)}"
    used = codes[1].unique().numel()
    assert used > 30, f"row 1 spans {x[1].min():.2g} to {x[1].max():.2g} and got only {used} different codes"


def test_one_map_serves_the_whole_tensor(impl: ModuleType, device: str) -> None:
    qparams = impl.choose_qparams(normal(4, 8, device=device), 8, True, "tensor")
    assert qparams.scale.shape == qparams.zero_point.shape == (1, 1)


@GROUPS
@pytest.mark.parametrize("symmetric", [True, False])
def test_an_outlier_costs_its_group_only(impl: ModuleType, device: str, symmetric: bool) -> None:
    x = normal(4, 128, device=device)
    x[2, 5] = 1000.0
    qparams, _, back = there_and_back(impl, x, 8, symmetric, 32)
    assert qparams.scale.shape == (4, 4), f"128 columns in groups of 32 want (4, 4) scales, got {qparams.scale.shape}"
    assert_half_a_step(x, qparams, back)
    assert_fine(x, qparams, symmetric=symmetric, group=32)


@GROUPS
@TAIL
@pytest.mark.parametrize("cols", [33, 50, 95])
def test_a_tail_group_may_be_shorter(impl: ModuleType, device: str, cols: int) -> None:
    x = normal(3, cols, seed=cols, device=device)
    x[:, -1] *= 100
    qparams, _, back = there_and_back(impl, x, 4, False, 32)
    assert qparams.scale.shape == (3, -(-cols // 32))
    assert_half_a_step(x, qparams, back)
    assert_fine(x, qparams, symmetric=False, group=32)


@GROUPS
def test_a_group_wider_than_the_row_is_the_row(impl: ModuleType, device: str) -> None:
    x = normal(3, 7, device=device)
    qparams, _, back = there_and_back(impl, x, 8, True, 32)
    assert qparams.scale.shape == (3, 1)
    assert_half_a_step(x, qparams, back)


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
@pytest.mark.parametrize("shift", [-3.0, 0.0, 3.0])
def test_zero_comes_back_as_zero(impl: ModuleType, device: str, granularity: str, shift: float) -> None:
    x = normal(5, 31, device=device) + shift
    x[:, 7] = 0
    _, _, back = there_and_back(impl, x, 8, False, granularity)
    assert not back[:, 7].any(), f"0 came back as {back[:, 7].tolist()}: zero must be a code of its own"


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_smallest_floats_have_a_scale_too(impl: ModuleType, device: str, symmetric: bool) -> None:
    # 2**-149, over 255 or 127 steps, rounds to a scale of 0, and to a zero point of x / 0.
    x = torch.tensor([[2.0**-149, 0, 2.0**-149, 2.0**-149], [-1.0, 2, 3, 4]], device=device)
    qparams = impl.choose_qparams(x, 8, symmetric, "channel")
    assert (qparams.scale > 0).all(), f"scales are {qparams.scale.flatten().tolist()}"
    back = impl.dequantize(impl.quantize(x, qparams), qparams)
    assert (back[0].abs() <= 2.0**-126).all(), f"numbers of 2**-149 came back as {back[0].tolist()}"


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("value", [0.0, 5.0, -5.0, 1e-30])
def test_a_constant_slice_comes_back(impl: ModuleType, device: str, value: float, symmetric: bool) -> None:
    x = normal(3, 16, device=device)
    x[1] = value
    qparams, _, back = there_and_back(impl, x, 8, symmetric, "channel")
    assert bool(qparams.scale.isfinite().all()), f"a row of {value} got the scale {qparams.scale[1].item()}"
    assert bool((qparams.scale > 0).all()), f"a row of {value} got the scale {qparams.scale[1].item()}"
    # Without a symmetric map's other sign the range is the value itself, whose code is exact.
    allowed = HALF_STEP * qparams.scale[1].item() if symmetric and value else abs(value) * 1e-5
    off = (back[1] - value).abs().max().item()
    assert off <= allowed, f"a row of {value} came back as {back[1, 0].item()}"


def test_positive_slices_use_every_code(impl: ModuleType, device: str) -> None:
    x = torch.linspace(0, 6, 256, device=device)[None]
    qparams, codes, _ = there_and_back(impl, x, 8, False, "channel")
    assert codes.unique().numel() == 256, f"{codes.unique().numel()} of 256 codes used for a range of [0, 6]"
    assert qparams.zero_point.item() == -128


def test_zero_points_are_codes(impl: ModuleType, device: str) -> None:
    x = normal(6, 20, device=device) + torch.tensor([-50.0, -2, 0, 0, 2, 50], device=device)[:, None]
    qparams = impl.choose_qparams(x, 4, False, "channel")
    assert qparams.zero_point.dtype == torch.int32
    found = qparams.zero_point.flatten().tolist()
    assert all(-8 <= point <= 7 for point in found), f"zero points {found} at 4 bits, codes are -8 to 7"


def test_symmetric_maps_have_zero_point_zero(impl: ModuleType, device: str) -> None:
    assert not impl.choose_qparams(normal(4, 9, device=device) + 3, 8, True, "channel").zero_point.any()


@pytest.mark.known("peer_torch", "peer_torchao", reason="the range is subtracted before it is divided")
def test_the_largest_numbers_do_not_overflow(impl: ModuleType, device: str) -> None:
    x = torch.tensor([[-3e38, 1e37, 3e38]], device=device)
    qparams, codes, back = there_and_back(impl, x, 8, False, "channel")
    found = qparams.scale.item()
    assert found < 1e38, f"a range of [-3e38, 3e38] got the scale {found}"
    # The ends are 127 or 128 steps of a scale that is itself rounded: compare codes, not numbers near the largest
    # float.
    assert (codes[0, 0].item(), codes[0, 2].item()) in ((-127, 127), (-128, 127)), f"codes {codes.tolist()}"
    assert abs(back[0, 1].item() - 1e37) <= 0.51 * found


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_values_outside_the_range_saturate(impl: ModuleType, device: str, granularity: str) -> None:
    x = normal(4, 32, device=device)
    qparams = impl.choose_qparams(x, 8, False, granularity)
    codes = impl.quantize(x * 1000, qparams)
    assert codes.max() == 127, f"a value far above the range became {codes.max()}, the highest code is 127"
    assert codes.min() == -128, f"a value far below the range became {codes.min()}, the lowest code is -128"
    assert bool((codes[x > 0.1] == 127).all()), "a value above the range wrapped around"
    far = impl.quantize(torch.tensor([[1e12, -1e12, 0.0, 0.0]], device=device).repeat(4, 8), qparams)
    assert (int(far[:, 0::4].min()), int(far[:, 1::4].max())) == (127, -128), "1e12 steps do not fit an int32 either"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_read_exactly(impl: ModuleType, device: str, dtype: torch.dtype) -> None:
    if device == "mps" and dtype == torch.float64:
        pytest.skip("MPS has no float64")
    x = normal(8, 33, device=device).to(dtype)
    qparams, codes, back = there_and_back(impl, x, 8, False, "channel")
    _, expected, _ = there_and_back(impl, x.float(), 8, False, "channel")
    assert qparams.scale.dtype == back.dtype == torch.float32
    assert qparams.scale.device == codes.device == x.device
    changed = (codes.int() - expected.int()).abs().max().item()
    assert changed == 0 or dtype == torch.float64, f"{dtype} changed codes by up to {changed} against float32"
    assert_half_a_step(x, qparams, back)


def test_views_and_transposes_are_the_same_numbers(impl: ModuleType, device: str) -> None:
    x = normal(40, 24, device=device)
    for name, view in (
        ("a transpose", x.t()),
        ("every other column", x[:, ::2]),
        ("an expanded row", x[:1].expand(5, -1)),
    ):
        _, codes, _ = there_and_back(impl, view, 8, True, "channel")
        _, expected, _ = there_and_back(impl, view.contiguous(), 8, True, "channel")
        assert torch.equal(codes, expected), f"{name} got other codes than its copy"


def test_one_number_is_a_matrix_too(impl: ModuleType, device: str) -> None:
    for value in (2.5, -2.5):
        _, _, back = there_and_back(impl, torch.tensor([[value]], device=device), 8, False, "channel")
        assert back.item() == pytest.approx(value, rel=1e-6)


@pytest.mark.only("starter", "solution")
def test_a_parameter_is_quantized_without_a_gradient(impl: ModuleType, device: str) -> None:
    weight = torch.nn.Parameter(normal(4, 32, device=device))
    for symmetric in (True, False):
        assert not impl.choose_qparams(weight, 8, symmetric).scale.requires_grad, "the scale drags a graph along"


def test_the_input_is_left_alone(impl: ModuleType, device: str) -> None:
    x = normal(4, 16, device=device)
    before = x.clone()
    qparams = impl.choose_qparams(x, 8, False, "channel")
    codes = impl.quantize(x, qparams)
    kept = codes.clone()
    impl.dequantize(codes, qparams)
    assert torch.equal(x, before), "x was changed in place"
    assert torch.equal(codes, kept), "codes were changed in place"


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), bits=st.integers(2, 8), symmetric=st.booleans(), whole=st.booleans())
def test_codes_come_back_as_themselves(
    impl: ModuleType, device: str, seed: int, bits: int, symmetric: bool, whole: bool
) -> None:
    x = normal(3, 17, seed=seed, device=device) * 10 ** (seed % 13 - 6)
    qparams, codes, back = there_and_back(impl, x, bits, symmetric, "tensor" if whole else "channel")
    again = impl.quantize(back, qparams)
    assert torch.equal(again, codes), f"seed {seed}: quantizing what came back changed {(again != codes).sum()} codes"


# A refusal names the argument, what was given, or what is accepted.
SHAPE = r"(?i)\bx\b|codes|shape|dim|empty|[(\[]\d"  # named, or printed
NAN = r"(?i)nan|inf|finite"
DTYPE = r"(?i)\bu?int|dtype|float"  # what was given, or what is accepted
BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "one bit": ({"bits": 1}, ValueError, "bits"),
    "nine bits": ({"bits": 9}, ValueError, "bits"),
    "group 0": ({"granularity": 0}, ValueError, "granularity"),
    "group -32": ({"granularity": -32}, ValueError, "granularity"),
    "unknown granularity": ({"granularity": "row"}, ValueError, "granularity"),
    "integers": ({"x": torch.ones(2, 3, dtype=torch.int64)}, TypeError, DTYPE),
    "one dimension": ({"x": torch.ones(3)}, ValueError, SHAPE),
    "no columns": ({"x": torch.ones(2, 0)}, ValueError, SHAPE),
    "NaN": ({"x": torch.tensor([[1.0, float("nan")]])}, ValueError, NAN),
    "inf": ({"x": torch.tensor([[1.0, float("-inf")]])}, ValueError, NAN),
}


@pytest.mark.only("starter", "solution")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(impl: ModuleType, device: str, case: str) -> None:
    bad, error, words = BAD[case]
    arguments = {"x": torch.ones(2, 3)} | bad
    arguments["x"] = arguments["x"].to(device)
    with pytest.raises(error, match=words):
        impl.choose_qparams(**arguments)


@pytest.mark.only("starter", "solution")
def test_quantize_refuses_what_does_not_fit(impl: ModuleType, device: str) -> None:
    qparams = QParams(torch.ones(2, 1, device=device), torch.zeros(2, 1, dtype=torch.int32, device=device), 4, 8)
    with pytest.raises(ValueError, match=SHAPE):
        impl.quantize(torch.ones(3, 4, device=device), qparams)
    with pytest.raises(ValueError, match=SHAPE):
        impl.dequantize(torch.ones(2, 9, dtype=torch.int8, device=device), qparams)
    with pytest.raises(ValueError, match=NAN):
        impl.quantize(torch.full((2, 4), float("nan"), device=device), qparams)
    with pytest.raises(ValueError, match=NAN):
        impl.quantize(torch.tensor([[1.0, 2.0, 3.0, float("-inf")]] * 2, device=device), qparams)
    with pytest.raises(TypeError, match=DTYPE):
        impl.quantize(torch.ones(2, 4, dtype=torch.int32, device=device), qparams)
    whole = QParams(torch.ones(1, 1, device=device), torch.zeros(1, 1, dtype=torch.int32, device=device), 4, 8)
    codes = impl.quantize(torch.ones(0, 4, device=device), whole)
    assert (codes.shape, codes.dtype) == ((0, 4), torch.int8), "no rows fit a map of the whole tensor: no codes"
    assert impl.dequantize(codes, whole).shape == (0, 4)


# The eight-bit floats of the stretch


@pytest.mark.stretch
def test_e4m3_rounds_as_the_format_says(impl: ModuleType, device: str) -> None:
    cases = {0.0: 0.0, 1.0: 1.0, 1.0625: 1.0, 1.1875: 1.25, -3.3: -3.25, 17.0: 16.0, 460.0: 448.0, -1e9: -448.0}
    cases |= {2.0**-9: 2.0**-9, 2.0**-10: 0.0, 3 * 2.0**-10: 2.0**-8, 2.0**-6: 2.0**-6, 1e-30: 0.0}
    found = impl.round_e4m3(torch.tensor(list(cases), device=device)).tolist()
    for (given_, wanted), got in zip(cases.items(), found, strict=True):
        assert got == wanted, f"{given_} is {wanted} in E4M3, got {got}"


@pytest.mark.stretch
def test_e4m3_keeps_all_its_numbers_and_rounds_between_them(impl: ModuleType, device: str) -> None:
    codes = torch.arange(256, dtype=torch.int32).to(torch.uint8)
    numbers = codes.view(torch.float8_e4m3fn).float()
    numbers = numbers[numbers.isfinite()].unique()
    assert torch.equal(impl.round_e4m3(numbers.to(device)).cpu(), numbers)
    x = normal(4096, seed=3) * torch.logspace(-4, 2.5, 4096)
    nearest = (x[:, None] - numbers).abs().amin(1)
    off = (impl.round_e4m3(x.to(device)).cpu() - x).abs() - nearest
    assert off.max() <= 1e-9, f"{x[off.argmax()].item()} is not rounded to the nearest E4M3 number"


# The four-bit floats of the stretch


@pytest.mark.stretch
def test_mxfp4_codes_and_exponents(impl: ModuleType, device: str) -> None:
    x = torch.zeros(1, 32)
    x[0, :8] = torch.tensor([6.0, -3.0, 0.5, 0.24, 5.1, -1.25, 2.5, 3.5])
    mx = impl.quantize_mxfp4((x * 8).to(device))
    assert mx.exponents.tolist() == [[127 + 3]], f"a block up to 48 has the exponent 3, got {mx.exponents - 127}"
    got = [code if code != 8 else 0 for code in mx.codes[0, :8].tolist()]
    assert got == [7, 13, 1, 0, 7, 10, 4, 6], f"6, -3, .5, .24, 5.1, -1.25, 2.5, 3.5 are 7 13 1 0 7 10 4 6, got {got}"


@pytest.mark.stretch
def test_mxfp4_rounds_to_the_nearest_it_has(impl: ModuleType, device: str) -> None:
    x = normal(8, 96, seed=5) * torch.logspace(-20, 20, 8)[:, None]
    mx = impl.quantize_mxfp4(x.to(device))
    back = impl.dequantize_mxfp4(mx).cpu()
    largest = x.unflatten(1, (-1, 32)).abs().amax(2)
    scale = torch.exp2(torch.floor(torch.log2(largest)) - 2)[..., None]
    grid = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    wanted = (x.unflatten(1, (-1, 32)).abs()[..., None] / scale[..., None] - grid).abs().amin(-1)
    off = ((back - x).unflatten(1, (-1, 32)).abs() / scale - wanted).max().item()
    assert off <= 1e-5, f"a number is {off:.3g} of its block's unit farther than the nearest E2M1 number"


@pytest.mark.stretch
def test_mxfp4_of_zeros_is_zeros(impl: ModuleType, device: str) -> None:
    back = impl.dequantize_mxfp4(impl.quantize_mxfp4(torch.zeros(2, 64, device=device)))
    assert back.shape == (2, 64)
    assert not back.any(), f"zeros came back as {back.unique().tolist()}"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_float_formats_refuse_bad_input(impl: ModuleType, device: str) -> None:
    with pytest.raises(ValueError, match=r"33|32|cols|columns"):
        impl.quantize_mxfp4(torch.ones(1, 33, device=device))
    with pytest.raises(ValueError, match=NAN):
        impl.quantize_mxfp4(torch.full((1, 32), float("nan"), device=device))
    if device != "mps":  # which has no float64
        with pytest.raises(ValueError, match=NAN):
            impl.quantize_mxfp4(torch.full((1, 32), 1e39, dtype=torch.float64, device=device))
    with pytest.raises(ValueError, match=NAN):
        impl.round_e4m3(torch.tensor([float("inf")], device=device))
    with pytest.raises(TypeError, match=DTYPE):
        impl.round_e4m3(torch.ones(3, dtype=torch.int16, device=device))
