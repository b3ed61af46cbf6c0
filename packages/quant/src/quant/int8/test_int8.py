"""What every implementation of ``quant.int8`` has to do."""

import copy
import ctypes
import io
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness import native
from quant.int8 import Policy, _kernels

OURS = pytest.mark.only("starter", "baseline", "solution")
ONE_SCALE = pytest.mark.known("peer_torch", reason="one activation scale for all rows")
BITS = {torch.float32: 24, torch.float16: 11, torch.bfloat16: 8}


def normal(*shape: int, seed: int = 0, device: str = "cpu") -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)


def layer(inputs: int, outputs: int, *, bias: bool = True, seed: int = 0, device: str = "cpu") -> nn.Linear:
    linear = nn.Linear(inputs, outputs, bias=bias)
    linear.weight.data = normal(outputs, inputs, seed=seed) * torch.logspace(-2, 1, outputs)[:, None]
    if bias:
        linear.bias.data = normal(outputs, seed=seed + 1)
    return linear.to(device).eval()


def exact(linear: nn.Linear, x: Tensor) -> Tensor:
    y = x.double().cpu() @ linear.weight.detach().double().cpu().T
    return y + linear.bias.detach().double().cpu() if "bias" in dict(linear.named_parameters()) else y


def assert_close(linear: nn.Linear, x: Tensor, y: Tensor, step: Tensor | None = None) -> None:
    """Hold a result to what rounding weights and activations to the nearest code can cost, term by term.

    With x off by at most half its step and w by half its scale, each product is off by at most |x| * scale / 2 + |w|
    * step / 2 + step * scale / 4. The step is that of seven bits: processors whose 8-bit sums would saturate lose one
    bit of the activations.
    """
    w, x64 = linear.weight.detach().double().cpu(), x.double().cpu().reshape(-1, linear.in_features)
    scale = w.abs().amax(1) / 127  # (out,)
    steps = x64.abs().amax(1) / 63.5 if step is None else step.double().cpu().expand(len(x64))  # (rows,)
    k = linear.in_features
    bound = (x64.abs().sum(1)[:, None] * scale + w.abs().sum(1) * steps[:, None]) / 2 + k * steps[:, None] * scale / 4
    wanted = exact(linear, x).reshape(-1, linear.out_features)
    bound = bound + 4 * wanted.abs() * 2.0 ** -BITS[x.dtype] + 1e-5 * (wanted.abs() + 1)
    error = (y.detach().double().cpu().reshape(wanted.shape) - wanted).abs()
    worst = int((error / bound).nan_to_num(nan=float("inf")).argmax())
    row, col = divmod(worst, wanted.shape[1])
    assert error[row, col] <= bound[row, col], (
        f"row {row} of {len(x64)} (largest input {x64[row].abs().max():.3g}), output {col}: "
        f"{y.reshape(wanted.shape)[row, col].item():.6g}, exact {wanted[row, col]:.6g}; "
        f"8-bit rounding explains at most {bound[row, col]:.3g}"
    )


@OURS
def test_the_weight_is_codes_and_one_scale_for_each_output(impl: ModuleType, device: str) -> None:
    linear = layer(40, 6, device=device)
    buffers = dict(impl.Int8Linear.from_float(linear).named_buffers())
    assert set(buffers) == {"codes", "scale", "bias"}, f"buffers {sorted(buffers)}"
    assert buffers["codes"].dtype == torch.int8
    assert buffers["codes"].shape == (6, 40)
    assert buffers["scale"].shape == (6,), f"6 outputs want 6 scales, got {tuple(buffers['scale'].shape)}"
    largest = buffers["codes"].int().abs().amax(1).tolist()
    assert largest == [127] * 6, f"each row's largest weight is the code 127; the largest codes are {largest}"
    back = buffers["codes"].double().cpu() * buffers["scale"].double().cpu()[:, None]
    off = ((back - linear.weight.detach().double().cpu()).abs().amax(1) / buffers["scale"].double().cpu()).max()
    assert off <= 0.501, f"a weight is {off:.3g} of its scale from its code, rounding costs at most 0.5"


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 15, 16, 40])
def test_the_product_is_within_rounding(impl: ModuleType, device: str, rows: int, bias: bool) -> None:
    linear = layer(72, 24, bias=bias, device=device)
    x = normal(rows, 72, seed=rows, device=device)
    assert_close(linear, x, impl.Int8Linear.from_float(copy.deepcopy(linear))(x))


@ONE_SCALE
@pytest.mark.parametrize("rows", [3, 40])
def test_each_token_has_a_scale_of_its_own(impl: ModuleType, device: str, rows: int) -> None:
    linear = layer(64, 16, device=device)
    x = normal(rows, 64, device=device) * torch.logspace(-3, 3, rows, device=device)[:, None]
    assert_close(linear, x, impl.Int8Linear.from_float(copy.deepcopy(linear))(x))


@ONE_SCALE
def test_each_token_of_a_batch_has_a_scale_of_its_own(impl: ModuleType, device: str) -> None:
    linear = layer(64, 16, device=device)
    x = normal(2, 3, 64, device=device) * torch.logspace(-3, 3, 6, device=device).view(2, 3, 1)
    assert_close(linear, x, impl.Int8Linear.from_float(copy.deepcopy(linear))(x))


@OURS
@pytest.mark.parametrize("rows", [1, 3, 20])
def test_activations_are_rounded_to_codes_too(impl: ModuleType, device: str, rows: int) -> None:
    linear = nn.Linear(2, 1, bias=False).to(device)
    linear.weight.data = torch.tensor([[0.0, 1.0]], device=device)
    y = impl.Int8Linear.from_float(linear)(torch.tensor([[127.0, 0.4]], device=device).repeat(rows, 1))
    # Codes for 0 to 127 are half a step or more apart from 0.4: 0 and 0.498, or 0 and 1.
    assert (y - 0.4).abs().min() > 0.05, "0.4 beside 127 has no code of its own, yet it came through: no rounding"


@OURS
@pytest.mark.parametrize("rows", [1, 5, 32])
def test_rounding_leans_to_no_side(impl: ModuleType, device: str, rows: int) -> None:
    linear = nn.Linear(4096, 1, bias=False).to(device).eval()
    nn.init.ones_(linear.weight)
    x = torch.rand(rows, 4096, generator=torch.Generator().manual_seed(0)).to(device)
    off = (impl.Int8Linear.from_float(linear)(x)[:, 0] - x.sum(1)).abs().max().item()
    # 4096 roundings of 1 / 127 / sqrt(12): 0.15 where they go up and down, 16 where all go down.
    assert off < 1, f"a sum of 4096 numbers from 0 to 1 is {off:.1f} off: codes are cut off, not rounded"


@pytest.mark.parametrize("rows", [1, 5, 32])
def test_long_sums_do_not_overflow(impl: ModuleType, device: str, rows: int) -> None:
    linear = nn.Linear(4096, 8, bias=False).to(device).eval()
    nn.init.ones_(linear.weight)
    y = impl.Int8Linear.from_float(linear)(torch.ones(rows, 4096, device=device))
    low, high = y.min().item(), y.max().item()
    assert 4000 < low <= high < 4200, f"4096 products of 1 and 1 summed to between {low} and {high}"


@pytest.mark.parametrize("rows", [1, 4, 20])
def test_a_row_of_zeros_gives_the_bias(impl: ModuleType, device: str, rows: int) -> None:
    linear = layer(32, 8, device=device)
    x = normal(rows, 32, device=device)
    x[-1] = 0
    y = impl.Int8Linear.from_float(copy.deepcopy(linear))(x)[-1]
    assert torch.allclose(y, linear.bias, atol=1e-6), f"a row of zeros gave {y[:3].tolist()}..., not the bias"


@pytest.mark.parametrize("rows", [1, 4, 20])
def test_a_row_may_end_half_way_between_codes(impl: ModuleType, device: str, rows: int) -> None:
    linear = layer(32, 8, device=device)
    x = torch.tensor([1.0, -1.0], device=device).repeat(rows, 16)  # 127.5 steps of 2 / 255 on both sides of zero
    assert_close(linear, x, impl.Int8Linear.from_float(copy.deepcopy(linear))(x))


@pytest.mark.parametrize("shape", [(1, 32), (2, 3, 32), (2, 9, 2, 32)])
def test_leading_dimensions_are_kept(impl: ModuleType, device: str, shape: tuple[int, ...]) -> None:
    linear = layer(32, 5, device=device)
    x = normal(*shape, device=device)
    y = impl.Int8Linear.from_float(copy.deepcopy(linear))(x)
    assert y.shape == (*shape[:-1], 5), f"{shape} became {tuple(y.shape)}"
    assert_close(linear, x, y)


@pytest.mark.known("peer_torch", reason="takes two dimensions or more")
def test_a_vector_is_one_row(impl: ModuleType, device: str) -> None:
    linear = layer(32, 5, device=device)
    x = normal(32, device=device)
    y = impl.Int8Linear.from_float(copy.deepcopy(linear))(x)
    assert y.shape == (5,)
    assert_close(linear, x, y)


@pytest.mark.known("peer_torchao", reason="fails on an empty batch")
@pytest.mark.parametrize("shape", [(0, 32), (2, 0, 32)])
def test_an_empty_batch_is_no_error(impl: ModuleType, device: str, shape: tuple[int, ...]) -> None:
    y = impl.Int8Linear.from_float(layer(32, 5, device=device))(torch.zeros(shape, device=device))
    assert y.shape == (*shape[:-1], 5), f"{shape} became {tuple(y.shape)}"


@pytest.mark.known("peer_torch", "peer_quanto", "peer_fp32", reason="a float32 layer takes float32 only")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_dtype_of_the_input_is_kept(impl: ModuleType, device: str, dtype: torch.dtype) -> None:
    linear = layer(32, 8, device=device)
    x = normal(6, 32, device=device).to(dtype)
    y = impl.Int8Linear.from_float(copy.deepcopy(linear))(x)
    assert y.dtype == dtype
    assert_close(linear, x, y)


@OURS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_a_model_may_be_cast_before_and_after(impl: ModuleType, device: str, rows: int, dtype: torch.dtype) -> None:
    """``model.half()`` casts the bias, perhaps the scale, and a layer of a model in 16 bits has its bias in 16 bits."""
    if device == "mps" and dtype == torch.float64:
        pytest.skip("MPS has no float64")
    linear = layer(32, 8, device=device)
    x = normal(rows, 32, device=device)
    before = impl.Int8Linear.from_float(copy.deepcopy(linear).to(dtype))
    assert_close(copy.deepcopy(linear).to(dtype), x, before(x))
    after = impl.Int8Linear.from_float(copy.deepcopy(linear))
    wanted = after(x)
    off = float(((after.to(dtype)(x) - wanted).norm() / wanted.norm()).detach())
    assert off < 0.01, f"the cast to {dtype} changed the product of {rows} rows by {off:.1%}"


def test_views_are_read_right_and_left_alone(impl: ModuleType, device: str) -> None:
    linear = layer(16, 8, device=device)
    x = normal(16, 20, device=device).t()  # (20, 16), strided
    before = x.clone()
    y = impl.Int8Linear.from_float(copy.deepcopy(linear))(x)
    assert torch.equal(x, before), "the input was changed in place"
    assert_close(linear, x, y)


@OURS
@pytest.mark.parametrize("rows", [2, 20])
def test_a_state_dict_brings_everything(impl: ModuleType, device: str, rows: int) -> None:
    first = impl.Int8Linear.from_float(layer(24, 8, seed=1, device=device))
    second = impl.Int8Linear.from_float(layer(24, 8, seed=2, device=device))
    x = normal(rows, 24, device=device)
    second(x)  # whatever it keeps for speed is made now, and must not outlive the weights
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(x), first(x)), "after load_state_dict the layer still answers with its old weights"


@OURS
@pytest.mark.parametrize("rows", [2, 40])
def test_codes_that_are_written_to_are_taken_up(impl: ModuleType, device: str, rows: int) -> None:
    made, x = impl.Int8Linear.from_float(layer(32, 8, bias=False, device=device)), normal(rows, 32, device=device)
    before = made(x)
    made.codes.neg_()
    assert torch.allclose(made(x), -before, atol=1e-5), "the layer still answers with its old codes"
    made.scale = made.scale * 2
    assert torch.allclose(made(x), -2 * before, atol=1e-5), "the layer still answers with its old scales"


@OURS
def test_copies_and_files_bring_everything(impl: ModuleType, device: str) -> None:
    layer_ = impl.Int8Linear.from_float(layer(24, 8, device=device))
    x = normal(3, 24, device=device)
    wanted = layer_(x)
    twin = copy.deepcopy(layer_)
    layer_.codes.zero_()
    assert torch.equal(twin(x), wanted), "a deepcopy shares its weights with the original"
    file = io.BytesIO()
    torch.save(twin, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), wanted)


@OURS
def test_the_state_is_a_quarter_of_the_bytes(impl: ModuleType, device: str) -> None:
    linear = layer(256, 256, bias=False)
    state = impl.Int8Linear.from_float(linear).state_dict()
    held = sum(t.numel() * t.element_size() for t in state.values())
    assert held == 256 * 256 + 256 * 4, f"{held} bytes for 256 x 256 weights: a byte each, and 4 for each row's scale"


class Block(nn.Module):
    """A model with everything that makes swapping hard."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(50, 32)
        self.up = nn.Linear(32, 64)
        self.down = nn.Linear(64, 32)
        self.again = self.down  # one layer under two names
        self.inner = nn.ModuleDict({"mix": nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 32))})
        self.head = nn.Linear(32, 50, bias=False)
        self.head.weight = self.embed.weight  # tied

    def forward(self, ids: Tensor) -> Tensor:
        x: Tensor = self.embed(ids)
        x = x + self.down(torch.relu(self.up(x)))
        x = x + self.again(torch.relu(self.up(x)))
        y: Tensor = self.head(self.inner["mix"](x))
        return y


def swapped_names(impl: ModuleType, model: nn.Module) -> list[str]:
    kinds = (impl.Int8Linear, impl.StaticInt8Linear)
    return [name for name, module in model.named_modules(remove_duplicate=False) if isinstance(module, kinds)]


@OURS
def test_every_linear_layer_is_swapped(impl: ModuleType, device: str) -> None:
    model = Block().to(device)
    assert impl.quantize_model(model, Policy()) is model, "the model comes back itself, changed in place"
    found = swapped_names(impl, model)
    assert found == ["up", "down", "again", "inner.mix.1"], f"swapped {found}"


@OURS
@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        (Policy(include=("up", "inner.*")), ["up", "inner.mix.1"]),
        (Policy(skip=("inner.*",)), ["up", "down", "again"]),
        (Policy(include=("*",), skip=("down", "again", "inner*")), ["up"]),
        (Policy(include=("*mix*",)), ["inner.mix.1"]),
    ],
    ids=["include", "skip", "both", "middle"],
)
def test_patterns_choose_the_layers(impl: ModuleType, device: str, policy: Policy, wanted: list[str]) -> None:
    found = swapped_names(impl, impl.quantize_model(Block().to(device), policy))
    assert found == wanted, f"{policy} swapped {found}, wanted {wanted}"


@OURS
def test_a_layer_under_two_names_stays_one_layer(impl: ModuleType, device: str) -> None:
    model = impl.quantize_model(Block().to(device), Policy())
    assert model.down is model.again, "one layer became two: twice the memory, and they can drift apart"


@OURS
def test_a_tied_embedding_stays_tied(impl: ModuleType, device: str) -> None:
    model = impl.quantize_model(Block().to(device), Policy())
    assert model.head.weight is model.embed.weight


@OURS
def test_a_weight_shared_with_a_layer_that_stays_is_left_alone(impl: ModuleType, device: str) -> None:
    model = nn.ModuleDict({"first": layer(16, 16), "second": layer(16, 16), "third": layer(16, 16)}).to(device)
    model["second"].weight = model["first"].weight
    impl.quantize_model(model, Policy(skip=("second",)))
    assert swapped_names(impl, model) == ["third"], "a copy in int8 beside the float weight saves nothing"


def test_a_quantized_model_says_nearly_the_same(impl: ModuleType, device: str) -> None:
    model = Block().to(device).eval()
    ids = torch.arange(50, device=device).view(5, 10)
    with torch.no_grad():
        wanted = model(ids)
        found = impl.quantize_model(model, Policy(skip=("head",)))(ids)
    off = (found - wanted).norm() / wanted.norm()
    assert off < 0.02, f"the model's output changed by {off:.1%}"


@OURS
def test_a_model_that_is_one_layer(impl: ModuleType, device: str) -> None:
    found = impl.quantize_model(layer(8, 4, device=device), Policy())
    assert isinstance(found, impl.Int8Linear)


@OURS
def test_the_gradient_stops_quietly(impl: ModuleType, device: str) -> None:
    x = normal(3, 16, device=device).requires_grad_()
    y = impl.Int8Linear.from_float(layer(16, 4, device=device))(x)
    assert y.shape == (3, 4)


@pytest.mark.only("starter", "solution")
def test_the_result_has_no_gradient_and_buffers_are_no_parameters(impl: ModuleType, device: str) -> None:
    made = impl.Int8Linear.from_float(layer(16, 4, device=device))
    assert not made(normal(3, 16, device=device).requires_grad_()).requires_grad
    assert not [name for name, buffer in made.named_buffers() if buffer.requires_grad], "a buffer is trained"


@pytest.mark.only("starter", "solution")
@pytest.mark.parametrize("size", [1e-8, 1e-20])
def test_the_smallest_rows_have_scales_too(impl: ModuleType, device: str, size: float) -> None:
    linear = layer(64, 16, bias=False, device=device)
    x = normal(3, 64, device=device)
    assert_close(linear, x, impl.Int8Linear.from_float(copy.deepcopy(linear))(x * size) / size)


@pytest.mark.only("starter", "solution")
def test_attention_that_reads_its_weights_is_left_alone(impl: ModuleType, device: str) -> None:
    model = nn.ModuleDict({"attention": nn.MultiheadAttention(16, 2), "mlp": nn.Linear(16, 16)}).to(device)
    impl.quantize_model(model, Policy())
    x = normal(3, 1, 16, device=device)
    assert model["attention"](x, x, x)[0].shape == (3, 1, 16)
    assert swapped_names(impl, model) == ["mlp"], "attention's out_proj is a subclass, whose weight attention reads"


@pytest.mark.only("starter", "solution")
def test_bad_layers_are_refused(impl: ModuleType, device: str) -> None:
    with pytest.raises(TypeError, match=r"Conv1d|Linear|linear"):
        impl.Int8Linear.from_float(nn.Conv1d(3, 3, 1))
    with pytest.raises(ValueError, match=r"(?i)shape|empty|\b0\b|out_features|no (outputs|inputs)"):
        impl.Int8Linear.from_float(nn.Linear(8, 0, device=device))
    broken = layer(8, 4, device=device)
    broken.weight.data[1, 1] = float("nan")
    with pytest.raises(ValueError, match=r"(?i)nan|inf|finite"):
        impl.Int8Linear.from_float(broken)
    with pytest.raises(TypeError, match=r"float|int8|codes"):
        impl.Int8Linear(torch.ones(4, 8), torch.ones(4), None)
    with pytest.raises(ValueError, match=r"(?i)shape|scale|[(\[]\d"):
        impl.Int8Linear(torch.ones(4, 8, dtype=torch.int8), torch.ones(8), None)
    with pytest.raises(ValueError, match=r"(?i)shape|bias|[(\[]\d"):
        impl.Int8Linear(torch.ones(4, 8, dtype=torch.int8), torch.ones(4), torch.ones(3))
    with pytest.raises(ValueError, match=r"(?i)shape|codes|dim|[(\[]\d"):
        impl.Int8Linear(torch.ones(4, dtype=torch.int8), torch.ones(4), None)


def test_a_policy_refuses_what_is_no_tuple_and_other_words() -> None:
    with pytest.raises(TypeError, match="tuple"):
        Policy(skip="*0")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Static"):
        Policy(activations="Static")  # type: ignore[arg-type]


@pytest.mark.only("solution")
def test_tensors_without_memory_are_not_read(impl: ModuleType) -> None:
    made = impl.Int8Linear.from_float(layer(32, 8))
    assert made.to("meta")(torch.empty(2, 32, device="meta")).device.type == "meta"
    with pytest.raises((RuntimeError, NotImplementedError)):
        impl.Int8Linear.from_float(layer(32, 8))(torch.empty(2, 32, device="meta"))


@pytest.mark.only("starter", "solution")
def test_bad_inputs_are_refused(impl: ModuleType, device: str) -> None:
    found = impl.Int8Linear.from_float(layer(8, 4, device=device))
    with pytest.raises(ValueError, match=r"\b[89]\b"):
        found(torch.ones(2, 9, device=device))
    with pytest.raises(TypeError, match=r"(?i)int|float|dtype"):
        found(torch.ones(2, 8, dtype=torch.int64, device=device))


@pytest.mark.only("starter", "solution")
def test_a_model_without_layers_to_swap_is_refused(impl: ModuleType, device: str) -> None:
    for model, policy in (
        (nn.LayerNorm(4), Policy()),
        (Block(), Policy(include=("nothing",))),
        (Block(), Policy(("head",))),
    ):
        with pytest.raises(ValueError, match=r"(?i)layer|linear|include|policy"):
            impl.quantize_model(model, policy)


@OURS
@pytest.mark.stretch
def test_calibration_sees_all_batches(impl: ModuleType, device: str) -> None:
    model = Block().to(device)
    batches = [{"ids": torch.tensor([[start, start + 1]], device=device)} for start in (0, 10, 20)]
    ranges = impl.calibrate(model, batches)
    assert set(ranges) == {"up", "down", "again", "inner.mix.1", "head"}
    table = model.embed.weight[[0, 1, 10, 11, 20, 21]]
    after = table + model.down(torch.relu(model.up(table)))
    seen = torch.cat([table, after])
    wanted = seen.min().item(), seen.max().item()
    assert ranges["up"] == pytest.approx(wanted, rel=1e-5), f"up met {wanted} over 3 batches, calibrated {ranges['up']}"
    left = [name for name, module in model.named_modules() if module._forward_pre_hooks]  # noqa: SLF001
    assert not left, f"the hooks of {left} are still there"


@OURS
@pytest.mark.stretch
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_a_static_layer_is_within_rounding(impl: ModuleType, device: str, rows: int) -> None:
    linear = layer(48, 12, device=device)
    x = normal(rows, 48, seed=rows, device=device).clamp(-1, 3)
    found = impl.StaticInt8Linear.from_float(linear, (-1.0, 3.0))(x)
    assert_close(linear, x, found, torch.tensor(4 / 255))


@OURS
@pytest.mark.stretch
@pytest.mark.parametrize("rows", [2, 30])
def test_a_static_layer_clips_to_its_range(impl: ModuleType, device: str, rows: int) -> None:
    linear = layer(48, 12, device=device)
    x = normal(rows, 48, device=device) * 5
    found = impl.StaticInt8Linear.from_float(linear, (-1.0, 3.0))(x)
    assert_close(linear, x.clamp(-1, 3), found, torch.tensor(4 / 255))


@OURS
@pytest.mark.stretch
def test_a_range_always_holds_zero(impl: ModuleType, device: str) -> None:
    linear = layer(16, 4, device=device)
    for span in ((2.0, 3.0), (-3.0, -2.0), (0.0, 0.0)):
        made = impl.StaticInt8Linear.from_float(linear, span)
        y = made(torch.zeros(2, 16, device=device))
        assert torch.allclose(y, linear.bias.expand(2, -1), atol=1e-6), f"with the range {span}, zeros gave {y[0]}"
        x = torch.empty(2, 16, device=device).uniform_(*span)
        assert_close(linear, x, made(x), torch.tensor((max(*span, 0.0) - min(*span, 0.0)) / 255))


@OURS
@pytest.mark.stretch
def test_a_static_model(impl: ModuleType, device: str) -> None:
    model = Block().to(device).eval()
    batch = {"ids": torch.arange(50, device=device).view(5, 10)}
    with torch.no_grad():
        wanted = model(**batch)
        ranges = impl.calibrate(model, [batch])
        quantized = impl.quantize_model(model, Policy(activations="static"), ranges)
        found = quantized(**batch)
    assert isinstance(quantized.up, impl.StaticInt8Linear)
    off = (found - wanted).norm() / wanted.norm()
    assert off < 0.03, f"the model's output changed by {off:.1%}"
    assert torch.equal(copy.deepcopy(quantized)(**batch), found)


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_calibration_runs_the_model_as_in_use(impl: ModuleType, device: str) -> None:
    model = nn.Sequential(nn.Dropout(0.9), nn.Linear(8, 4), nn.Dropout(0.1)).to(device)
    model[2].eval()
    ones = torch.ones(4, 8, device=device)
    assert impl.calibrate(model, [{"input": ones}]) == {"1": (1.0, 1.0)}, "dropout was on"
    assert [module.training for module in model] == [True, True, False], "modes are not what they were"
    with pytest.raises(ValueError, match=r"(?i)nan|inf|finite|\b1\b"):
        impl.calibrate(model, [{"input": ones}, {"input": ones * float("nan")}])


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_bad_ranges_are_refused(impl: ModuleType, device: str) -> None:
    linear = layer(8, 4, device=device)
    for span in ((1.0, -1.0), (float("-inf"), 1.0), (0.0, float("nan"))):
        with pytest.raises(ValueError, match="range"):
            impl.StaticInt8Linear.from_float(linear, span)
    with pytest.raises(ValueError, match=r"again|range"):
        impl.quantize_model(Block(), Policy(activations="static"), {"down": (0.0, 1.0)})
    with pytest.raises(ValueError, match="batch"):
        impl.calibrate(Block(), [])


@pytest.mark.stretch
@pytest.mark.only("solution")
def test_every_kernel_gives_the_integer_sum(impl: ModuleType, device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    codes, weight = (torch.randint(-127, 128, (n, 64), generator=generator, dtype=torch.int8) for n in (19, 16))
    scale = torch.rand(16, generator=generator)
    wanted = (codes.double() - 3) @ weight.double().T * scale.double()
    packed = _kernels.Weight(weight.to(device), scale.to(device))
    found: dict[str, Any] = {"product": _kernels.product(codes.to(device), packed, 3)}
    if device != "mps":
        sums = _kernels.int_mm(codes.to(device), weight.to(device)).cpu().double()
        found["int_mm"] = (sums - 3 * weight.double().sum(1)) * scale
    for name, y in found.items():
        assert torch.allclose(y.double().cpu(), wanted, rtol=1e-5), f"{name} is not the sum of the codes' products"


@pytest.mark.stretch
@pytest.mark.only("solution")
@pytest.mark.skipif(not _kernels.has_onednn(), reason="oneDNN multiplies no codes here")
def test_onednn_has_a_kernel_for_the_codes(impl: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    codes = torch.randint(-128, 128, (19, 64), dtype=torch.int8)
    weight = _kernels.Weight(codes[:16].contiguous(), torch.ones(16))
    for zero_point in (0, 3):
        with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
            _kernels.product(codes, weight, zero_point)
        said = [line.split(",") for line in capfd.readouterr().out.splitlines() if "exec,cpu,matmul" in line]
        used = [line[line.index("matmul") + 1] for line in said]
        assert used, "oneDNN's log names no product"
        assert not any(name.startswith("ref") for name in used), f"oneDNN took {used}: the slow way to be sure"


@pytest.fixture(params=["-march=native", "-march=native -mno-amx-tile -mno-amx-int8", "-march=haswell"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ctypes.CDLL:
    """Return the native kernels, compiled for this processor and for others that it can stand for."""
    options: list[str] = request.param.split()
    capability = torch.backends.cpu.get_cpu_capability()
    if options != ["-march=native"] and capability not in ("AVX2", "AVX512"):
        pytest.skip("this processor has no AVX2")
    torch.set_num_threads(2)  # which share the rows, and then the outputs
    monkeypatch.setattr(native, "COMPILE", (*(o for o in native.COMPILE if not o.startswith("-march")), *options))
    found = native.library.__wrapped__("quant.int8", "_w8a8")
    if found is None:
        pytest.skip("no compiler here, or no dot product of bytes")
    return found


@pytest.mark.stretch
@pytest.mark.only("solution")
@pytest.mark.parametrize(("inputs", "outputs"), [(64, 16), (192, 48), (1, 1), (3, 5), (100, 33), (640, 34), (517, 67)])
def test_the_native_kernel_gives_the_whole_sum(
    impl: ModuleType, library: ctypes.CDLL, inputs: int, outputs: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-127, 128, (outputs, inputs), generator=generator, dtype=torch.int8)
    scale, bias = 2.0 ** torch.randint(-3, 4, (outputs,), generator=generator), torch.arange(float(outputs))
    kernel = _kernels.Native(library, weight, scale)
    for rows in (*range(1, 20), 33, 70):
        x = torch.randint(-100, 156, (rows, inputs), generator=generator).float()
        x[:, 0], x[:, -1] = -100, 155  # a range of 255, so that a row is its own codes
        for y in (kernel(x, bias), kernel(x, bias, 1.0, 100)) if inputs > 1 else (kernel(x, bias, 1.0, 100),):
            off = (y.double() - (x.double() @ weight.double().T * scale + bias)).abs().max()
            assert off == 0, f"{rows} rows of {inputs}: whole numbers came out {off} off"


@pytest.mark.stretch
@pytest.mark.only("solution")
@pytest.mark.parametrize("weight", [-128, 127])
@pytest.mark.parametrize("end", [-100.0, 155.0])
def test_the_largest_products_are_summed_whole(impl: ModuleType, library: ctypes.CDLL, weight: int, end: float) -> None:
    kernel = _kernels.Native(library, torch.full((20, 200), weight, dtype=torch.int8), torch.ones(20))
    for rows in (1, 2, 4, 9, 40):
        found = kernel(torch.full((rows, 200), end), None, 1.0, 100).unique().tolist()
        assert found == [200 * end * weight], f"{rows} rows of 200 products of {end} and {weight} came out as {found}"


@pytest.mark.stretch
@pytest.mark.only("solution")
def test_a_row_is_the_same_bits_in_any_company(impl: ModuleType, library: ctypes.CDLL) -> None:
    weight = torch.randint(-127, 128, (48, 192), generator=torch.Generator().manual_seed(0), dtype=torch.int8)
    kernel = _kernels.Native(library, weight, torch.rand(48))
    x, bias = normal(40, 192) * torch.logspace(-30, 30, 40)[:, None], normal(48)
    rows = torch.cat([kernel(row[None], bias) for row in x])
    for count in (2, 5, 16, 40):
        assert torch.equal(kernel(x[:count], bias), rows[:count]), f"a row alone and among {count} differ"


@pytest.mark.stretch
@pytest.mark.only("solution")
def test_the_native_kernel_leaves_the_processor_as_it_was(impl: ModuleType, library: ctypes.CDLL) -> None:
    kernel = _kernels.Native(library, torch.ones(64, 64, dtype=torch.int8), torch.ones(64))
    a = normal(64, 96).bfloat16()  # torch's kernels for bfloat16 use the same tiles, shaped otherwise
    before = a @ a.t()
    kernel(normal(40, 64), None)
    assert torch.equal(a @ a.t(), before)


@pytest.mark.stretch
@pytest.mark.only("solution")
@pytest.mark.parametrize("rows", [4, 20])
def test_nan_stays_in_its_row(impl: ModuleType, library: ctypes.CDLL, rows: int) -> None:
    kernel = _kernels.Native(library, torch.ones(16, 64, dtype=torch.int8), torch.ones(16))
    x = normal(rows, 64)
    x[1, 5], x[2, 7], x[3] = float("nan"), float("inf"), 3e38
    lost = kernel(x, None).isnan().all(1).nonzero().flatten().tolist()
    assert lost == [1, 2], f"rows 1 and 2 hold NaN and inf; rows {lost} came out as NaN"
    lost = kernel(x, None, 0.1, 128).isnan().all(1).nonzero().flatten().tolist()
    assert lost == [1], f"with a range given, inf is clipped and NaN is not: rows {lost} came out as NaN"


@pytest.mark.stretch
@pytest.mark.only("solution")
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_without_a_native_kernel_torchs_serve(
    impl: ModuleType, device: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "library", lambda *_: None)
    linear = layer(72, 24, device=device)
    x = normal(rows, 72, device=device) * torch.logspace(-3, 3, rows, device=device)[:, None]
    assert_close(linear, x, impl.Int8Linear.from_float(linear)(x))
    x = torch.tensor([1.0, -1.0], device=device).repeat(rows, 36)
    assert_close(linear, x, impl.Int8Linear.from_float(linear)(x))
    static = impl.StaticInt8Linear.from_float(linear, (-1.0, 3.0))
    assert_close(linear, x, static(x), torch.tensor(4 / 255))
    for made in (impl.Int8Linear.from_float(linear), static):
        wanted = made(x)
        for dtype in (torch.float16, torch.bfloat16):  # scale and bias, which torch's kernels take in float32 only
            assert torch.allclose(copy.deepcopy(made).to(dtype)(x), wanted, rtol=0.02, atol=0.02 * float(wanted.std()))


@pytest.mark.stretch
@pytest.mark.only("solution")
@pytest.mark.parametrize("rows", [1, 4, 20])
@pytest.mark.parametrize("kernel", ["native", "torch"])
def test_nan_loses_its_row_and_no_other(
    impl: ModuleType, device: str, kernel: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel == "torch":
        monkeypatch.setattr(native, "library", lambda *_: None)
    linear = layer(64, 16, device=device)
    dynamic, static = impl.Int8Linear.from_float(linear), impl.StaticInt8Linear.from_float(linear, (-3.0, 3.0))
    for value in (float("nan"), float("inf"), float("-inf"), 3e38):
        x = normal(rows, 64, device=device)
        x[-1, 5:7] = torch.tensor([value, -value])
        for made, bad in ((dynamic, value != 3e38), (static, value != value)):  # noqa: PLR0124 - NaN
            y = made(x)
            lost = y.isnan().all(1).tolist()
            assert lost == [False] * (rows - 1) + [bad], f"{value} in the last of {rows} rows: rows of NaN {lost}"
            assert torch.allclose(y[:-1], made(x[:-1]), atol=1e-5), f"{value} in the last row changed others"
