"""What every implementation of ``quant.int4`` has to do."""

import copy
import importlib
import io
import json
import os
import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import native as loader
from quant.int4 import _native
from quant.int4 import solution as ours

OURS = pytest.mark.only("starter", "baseline", "solution")
# What a kernel may add to the error of the 4-bit weight, of the output's size. One that rounds activations and
# weights to eight bits adds steps of some 5 sigma / 255 in each, 0.6 % rms and 0.8 % together; the worst row of a few
# has twice that.
OFF = 0.02


@pytest.fixture(autouse=True)
def _quanto_in_python(impl: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare half a minute in every new environment: quanto compiles its unpacking, which only the race needs."""
    if impl.__name__.endswith("peer_quanto"):

        def unpack(packed: Tensor, bits: int) -> Tensor:
            return torch.cat([packed >> shift & (1 << bits) - 1 for shift in range(0, 8, bits)])

        extension = importlib.import_module("optimum.quanto.library.extensions.cpp").ext
        monkeypatch.setattr(extension, "_lib", SimpleNamespace(unpack=unpack))


def normal(*shape: int, seed: int = 0, device: str = "cpu") -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)


def layer(inputs: int, outputs: int, *, bias: bool = True, seed: int = 0, device: str = "cpu") -> nn.Linear:
    linear = nn.Linear(inputs, outputs, bias=bias)
    linear.weight.data = normal(outputs, inputs, seed=seed) * torch.logspace(-1, 1, outputs)[:, None]
    if bias:
        linear.bias.data = normal(outputs, seed=seed + 1)
    return linear.to(device).eval()


def compiled(architecture: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the native kernel, compiled for this processor or another that it can stand for."""
    if architecture == "haswell" and torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        pytest.skip("this processor has no AVX2")
    torch.set_num_threads(2)  # which share the outputs
    others = [option for option in loader.COMPILE if not option.startswith("-march")]
    monkeypatch.setattr(loader, "COMPILE", (f"-march={architecture}", *others))
    monkeypatch.setattr(loader, "library", loader.library.__wrapped__)
    found = _native.kernel.__wrapped__()
    if found is None:
        pytest.skip("no compiler here, or no dot product of bytes")
    return found


def distance(made: nn.Module, x: Tensor, bias: Tensor | None) -> float:
    """Return how far the layer's product is off that with the weight it says it has, of the latter's size."""
    weight = made.get_submodule("").dequantized().double().cpu()  # type: ignore[operator]
    wanted = x.double().cpu() @ weight.T + (0 if bias is None else bias.detach().double().cpu())
    return float((made(x).detach().double().cpu() - wanted).norm() / wanted.norm())


def assert_product(made: nn.Module, x: Tensor, bias: Tensor | None) -> None:
    """Check that the layer multiplies by the weight it says it has."""
    off, rows = distance(made, x, bias), x.numel() // x.shape[-1]
    assert off <= OFF, f"the product of {rows} rows is {off:.2%} off the one with the layer's own weight"


@OURS
def test_codes_share_bytes_and_groups_have_scales(impl: ModuleType, device: str) -> None:
    buffers = dict(impl.Int4Linear.from_float(layer(64, 16, device=device), 32).named_buffers())
    assert set(buffers) == {"packed", "scale", "zero_point", "bias"}, f"buffers {sorted(buffers)}"
    shapes = {name: (tuple(t.shape), t.dtype) for name, t in buffers.items()}
    assert shapes["packed"] == ((16, 32), torch.uint8), f"64 codes take 32 bytes, got {shapes['packed']}"
    assert shapes["scale"] == ((16, 2), torch.bfloat16)
    assert shapes["zero_point"] == ((16, 2), torch.int8)


@OURS
def test_the_state_is_what_a_weight_costs(impl: ModuleType, device: str) -> None:
    state = impl.Int4Linear.from_float(layer(128, 64, bias=False), 32).state_dict()
    held = sum(t.numel() * t.element_size() for t in state.values())
    assert 8 * held / (128 * 64) == 4.75, f"{8 * held / (128 * 64)} bits a weight, 4 + (16 + 8) / 32 are enough"


@OURS
@pytest.mark.parametrize("group", [16, 32, 64])
def test_each_weight_is_within_half_a_step(impl: ModuleType, device: str, group: int) -> None:
    linear = layer(128, 32, device=device)
    linear.weight.data[:, 40] *= 20  # an outlier, which only its group may feel
    made = impl.Int4Linear.from_float(linear, group)
    weight = linear.weight.detach().double().cpu()
    grouped = weight.unflatten(1, (-1, group))
    step = (grouped.amax(2).clamp(min=0) - grouped.amin(2).clamp(max=0)) / 15  # (rows, groups)
    off = (made.dequantized().double().cpu() - weight).abs().unflatten(1, (-1, group)).amax(2) / step
    row, number = divmod(int(off.argmax()), off.shape[1])
    # A scale rounded down by bfloat16's 2**-8 leaves the 15 steps of the range short by 0.06 of one; half of that is
    # more than enough for these weights.
    assert off.max() <= 0.5 + 16 * 2.0**-9, (
        f"row {row}, group {number}: a weight is {off.max():.2f} steps off; rounding costs 0.5, the scale 0.03 here"
    )


@OURS
def test_codes_are_chosen_for_the_scale_that_is_kept(impl: ModuleType, device: str) -> None:
    linear = layer(32, 64, bias=False, seed=3, device=device)
    made = impl.Int4Linear.from_float(linear, 32)
    weight, scale = linear.weight.detach().double().cpu(), made.scale.double().cpu()
    codes = (weight / scale).round() + made.zero_point.double().cpu()
    nearest = (codes.clamp(-8, 7) - made.zero_point.double().cpu()) * scale
    wrong = (made.dequantized().double().cpu() - nearest).abs() > scale / 2
    assert not wrong.any(), f"{int(wrong.sum())} weights have a code that is not the nearest for the 16-bit scale"


@OURS
@pytest.mark.parametrize("rows", [1, 3, 8, 9, 40])
@pytest.mark.parametrize("bias", [True, False])
def test_the_layer_multiplies_by_its_weight(impl: ModuleType, device: str, bias: bool, rows: int) -> None:
    linear = layer(64, 32, bias=bias, device=device)
    made = impl.Int4Linear.from_float(linear, 32)
    assert_product(made, normal(rows, 64, seed=rows, device=device), linear.bias.detach() if bias else None)


def kernels_of(native: bool, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the native kernel out, or skip where it is not to be had."""
    if native and (device != "cpu" or _native.kernel() is None):
        pytest.skip("no native kernel on this device and machine")
    if not native:
        monkeypatch.setattr(_native, "kernel", lambda: None)


@OURS
@pytest.mark.parametrize("native", [True, False], ids=["native", "torch"])
@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("group", [32, 64])
def test_a_large_group_does_not_drown_the_others(
    impl: ModuleType, device: str, group: int, rows: int, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWQ makes such weights: columns times 100, whose inputs are divided by it."""
    kernels_of(native, device, monkeypatch)
    linear, x = layer(256, 32, bias=False, device=device), normal(rows, 256, device=device)
    linear.weight.data[:, :group] *= 100
    x[:, :group] = 0  # what is left is the other groups' part
    assert_product(impl.Int4Linear.from_float(linear, group), x, None)


@OURS
@pytest.mark.parametrize("rows", [1, 40])
def test_an_outlier_among_the_inputs_costs_its_neighbours_only(impl: ModuleType, device: str, rows: int) -> None:
    if device == "cpu" and _native.kernel() is None:
        pytest.skip("without the native kernel the inputs of a row share a scale")
    made = impl.Int4Linear.from_float(layer(256, 32, bias=False, device=device), 32)
    x = normal(rows, 256, device=device)
    x[:, 7] *= 100
    assert_product(made, x, None)


@OURS
@pytest.mark.parametrize("native", [True, False], ids=["native", "torch"])
@pytest.mark.parametrize(
    ("inputs", "outputs", "group"),
    [
        (64, 5, 32),
        (50, 16, 32),
        (33, 7, 16),
        (64, 16, 48),
        (20, 16, 128),
        (96, 16, 64),
        (50, 7, 64),
        (70, 33, 32),
        (1, 1, 32),
    ],
)
def test_odd_shapes_work_too(
    impl: ModuleType,
    device: str,
    inputs: int,
    outputs: int,
    group: int,
    native: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernels_of(native, device, monkeypatch)
    linear = layer(inputs, outputs, device=device)
    made = impl.Int4Linear.from_float(linear, group)
    assert made.dequantized().shape == (outputs, inputs)
    for rows in (1, 12):
        assert_product(made, normal(rows, inputs, device=device), linear.bias.detach())


@pytest.mark.parametrize("rows", [1, 40])
def test_the_output_is_near_the_float_layers(impl: ModuleType, device: str, rows: int) -> None:
    linear = layer(256, 64, device=device)
    x = normal(rows, 256, device=device)
    with torch.no_grad():
        wanted = linear(x)
    off = (impl.Int4Linear.from_float(copy.deepcopy(linear))(x) - wanted).norm() / wanted.norm()
    assert off < 0.12, f"the output is {off:.1%} off the float layer's; 4 bits cost some 8 % on normal weights"


def test_leading_dimensions_are_kept(impl: ModuleType, device: str) -> None:
    linear = layer(32, 16, device=device)
    for shape in ((1, 32), (2, 3, 32), (2, 9, 2, 32)):
        y = impl.Int4Linear.from_float(copy.deepcopy(linear))(normal(*shape, device=device))
        assert y.shape == (*shape[:-1], 16), f"{shape} became {tuple(y.shape)}"


@OURS
def test_vectors_and_empty_batches(impl: ModuleType, device: str) -> None:
    made = impl.Int4Linear.from_float(layer(32, 16, device=device))
    for shape in ((32,), (0, 32), (2, 0, 32)):
        y = made(torch.ones(shape, device=device))
        assert y.shape == (*shape[:-1], 16), f"{shape} became {tuple(y.shape)}"


@OURS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_dtype_of_the_input_is_kept(impl: ModuleType, device: str, dtype: torch.dtype) -> None:
    made = impl.Int4Linear.from_float(layer(32, 16, device=device))
    assert made(normal(3, 32, device=device).to(dtype)).dtype == dtype


@OURS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_a_model_may_be_cast_before_and_after(impl: ModuleType, device: str, rows: int, dtype: torch.dtype) -> None:
    """Whether ``model.half()`` casts the scales or leaves them, every kernel has to read them as what they are then."""
    if device == "mps" and dtype == torch.float64:
        pytest.skip("MPS has no float64")
    linear = layer(64, 32, device=device)
    x = normal(rows, 64, device=device)
    before = impl.Int4Linear.from_float(copy.deepcopy(linear).to(dtype))
    assert_product(before, x, linear.bias.detach().to(dtype))
    after = impl.Int4Linear.from_float(linear).to(dtype)
    assert_product(after, x, linear.bias.detach().to(dtype))


@OURS
@pytest.mark.parametrize("rows", [2, 20])
def test_a_state_dict_brings_everything(impl: ModuleType, device: str, rows: int) -> None:
    first = impl.Int4Linear.from_float(layer(64, 16, seed=1, device=device))
    second = impl.Int4Linear.from_float(layer(64, 16, seed=2, device=device))
    x = normal(rows, 64, device=device)
    second(x)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(x), first(x)), "after load_state_dict the layer still answers with its old weights"


@OURS
@pytest.mark.parametrize("rows", [2, 20])
def test_other_scales_are_taken_up(impl: ModuleType, device: str, rows: int) -> None:
    made = impl.Int4Linear.from_float(layer(64, 16, bias=False, device=device))
    x = normal(rows, 64, device=device)
    for _ in range(5):
        made(x)
        for _ in range(2):  # the second may lie where the first one's predecessor lay
            made.scale = made.scale * 2
        assert_product(made, x, None)


@pytest.mark.only("solution")
def test_tensors_without_memory_are_not_read(impl: ModuleType) -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        impl.Int4Linear.from_float(layer(64, 16)).to("meta")(torch.ones(2, 64))


@OURS
def test_copies_and_files_bring_everything(impl: ModuleType, device: str) -> None:
    made = impl.Int4Linear.from_float(layer(64, 16, device=device))
    x = normal(3, 64, device=device)
    wanted = made(x)
    twin = copy.deepcopy(made)
    made.packed.zero_()
    assert torch.equal(twin(x), wanted), "a deepcopy shares its weights with the original"
    file = io.BytesIO()
    torch.save(twin, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), wanted)


@pytest.mark.only("solution")
@pytest.mark.parametrize("native", [True, False], ids=["native", "torch"])
def test_every_kernel_multiplies_alike(
    impl: ModuleType, device: str, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels_of(native, device, monkeypatch)
    linear = layer(96, 48, device=device)
    made = impl.Int4Linear.from_float(linear, 32)
    for rows in (1, 3, 4, 5, 8, 9, 40):
        assert_product(made, normal(rows, 96, seed=rows, device=device), linear.bias.detach())
        for dtype in (torch.float16, torch.float32):
            cast = copy.deepcopy(made).to(dtype)
            assert_product(cast, normal(rows, 96, seed=rows, device=device), linear.bias.detach())
    assert not made(torch.zeros(2, 96, device=device)).sub(linear.bias).abs().max() > 1e-6


@pytest.mark.only("solution")
@pytest.mark.parametrize("architecture", ["native", "haswell"])
def test_the_native_kernel_sums_whole_numbers(
    impl: ModuleType, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = compiled(architecture, monkeypatch)
    monkeypatch.setattr(_native, "kernel", lambda: function)
    generator = torch.Generator().manual_seed(0)
    codes, zero_point = (torch.randint(-8, 8, (48, n), generator=generator, dtype=torch.int8) for n in (96, 3))
    scale = 2.0 ** torch.randint(-3, 4, (48, 3), generator=generator)
    weight = (codes.unflatten(1, (3, 32)).double() - zero_point[..., None]) * scale[..., None].double()
    made = _native.Weight(_native.records(codes, scale.bfloat16(), zero_point), 96, 48)
    x = torch.randint(-127, 128, (7, 96), generator=generator).float()
    x[:, ::32] = (
        127  # each row is its own codes, so that the result is exact: 96 * 15 * 127 * 8 in eighths fits 24 bits
    )
    bias = torch.arange(48.0)
    found = made.product(x, bias)
    off = (found.double() - (x.double() @ weight.flatten(1).T + bias)).abs().max()
    assert off == 0, f"whole numbers times powers of two came out {off} off"
    x = normal(7, 96) * torch.logspace(-20, 20, 7)[:, None]
    rows = torch.cat([made.product(row[None], bias) for row in x])
    assert torch.equal(made.product(x, bias), rows), "a row's result depends on the rows beside it"
    x[1, 2], x[3, 4], x[5] = float("nan"), float("-inf"), 0
    lost = made.product(x, None).isnan().float().mean(1).tolist()
    assert lost == [0, 1, 0, 1, 0, 0, 0], f"shares of NaN where rows 1 and 3 hold NaN and inf: {lost}"
    assert not made.product(x[5:6], None).any()


@pytest.mark.only("starter", "solution")
def test_buffers_are_no_parameters(impl: ModuleType, device: str) -> None:
    linear = layer(32, 16, device=device)
    made = impl.Int4Linear.from_float(linear)
    assert not [name for name, buffer in made.named_buffers() if buffer.requires_grad], "a buffer is trained"
    assert not list(made.parameters())


@pytest.mark.only("starter", "solution")
def test_bad_input_is_refused(impl: ModuleType, device: str) -> None:
    made = impl.Int4Linear.from_float(layer(32, 16, device=device))
    with pytest.raises(ValueError, match=r"\b3[12]\b|in_features"):
        made(torch.ones(2, 31, device=device))
    with pytest.raises(TypeError, match=r"(?i)int|float|dtype"):
        made(torch.ones(2, 32, dtype=torch.int64, device=device))
    with pytest.raises(TypeError, match=r"Embedding|Linear|linear"):
        impl.Int4Linear.from_float(nn.Embedding(3, 4))
    with pytest.raises(ValueError, match=r"group|granularity|\b0\b"):
        impl.Int4Linear.from_float(layer(32, 16, device=device), 0)
    with pytest.raises(ValueError, match=r"(?i)shape|empty|\b0\b"):
        impl.Int4Linear.from_float(nn.Linear(32, 0, device=device))
    broken = layer(32, 16, device=device)
    broken.weight.data[0, 0] = float("inf")
    with pytest.raises(ValueError, match=r"(?i)nan|inf|finite"):
        impl.Int4Linear.from_float(broken)
    with pytest.raises(ValueError, match=r"(?i)shape|scale|[(\[]\d"):
        impl.Int4Linear(made.packed, made.scale[:, :0], made.zero_point, None, 32, 32)
    with pytest.raises(ValueError, match=r"(?i)shape|packed|[(\[]\d"):
        impl.Int4Linear(made.packed[:, :3], made.scale, made.zero_point, None, 32, 32)
    with pytest.raises(ValueError, match=r"(?i)shape|zero|[(\[]\d"):
        impl.Int4Linear(made.packed, made.scale, made.zero_point[:2], None, 32, 32)
    with pytest.raises(ValueError, match=r"(?i)shape|bias|[(\[]\d"):
        impl.Int4Linear(made.packed, made.scale, made.zero_point, torch.ones(3, device=device), 32, 32)


@pytest.mark.only("solution")
def test_a_gpu_kernel_gets_the_buffers_as_they_are(
    impl: ModuleType, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, calls = impl.Int4Linear.from_float(layer(64, 16, device=device)), []

    def product(x: Tensor, *given: Any) -> Tensor:
        calls.append(given)
        twin = impl.Int4Linear(*given[:4], x.shape[-1], given[4])
        return F.linear(x, twin.dequantized(), twin.bias)

    stand_in = SimpleNamespace(suits=lambda dtype, rows, group: (dtype, group) == (torch.float32, 32) and rows < 9)
    stand_in.product = product
    monkeypatch.setattr(impl, "GPU", device)
    monkeypatch.setattr(impl, "_gpu_kernels", lambda: stand_in)
    for shape in ((64,), (2, 4, 64)):
        assert_product(made, normal(*shape, device=device), made.bias)
    assert len(calls) == 2, f"two products went through the GPU's kernel {len(calls)} times"
    for given in calls:
        assert all(a is b for a, b in zip(given, made.buffers(), strict=False)), "a weight was copied"
    assert_product(made, normal(9, 64, device=device), made.bias)
    assert len(calls) == 2, "the kernel was called for rows that it does not take"
    with pytest.raises(ValueError, match=r"\b6[34]\b|in_features"):
        made(torch.ones(2, 63, device=device))


# The kernels for GPUs without one; on a GPU the tests above go through them.
NAMES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}  # torch's, Triton's
# Tail groups, odd sizes, pieces of 4 to 64 columns, and more of them than the kernel for a few rows takes at once.
SHAPES = [(50, 5, 32), (33, 7, 16), (64, 16, 48), (20, 16, 128), (192, 37, 128), (1090, 2, 64)]


def interpreted() -> list[tuple[str, str, float, float]]:
    """Run the solution's layer on CPU tensors as if they lay on a GPU: case, kernel, how far it is off, the bound."""
    kernels: Any = importlib.import_module("quant.int4._triton")
    ours.GPU, found = "cpu", []
    plan, asked = kernels.plan, [""]

    def watched(*args: Any, **options: Any) -> Any:
        asked.append(plan(*args, **options)[0].__name__)
        return plan(*args, **options)

    kernels.plan = watched
    for inputs, outputs, group in SHAPES:
        linear = layer(inputs, outputs, bias=outputs != 7).requires_grad_(requires_grad=False)
        made = ours.Int4Linear.from_float(linear, group)
        for dtype, rows in (("float32", 3), ("float32", 5), ("float16", 1), ("float16", 16), ("bfloat16", 5)):
            x = normal(rows, inputs, seed=rows).to(getattr(torch, dtype))
            off = distance(made, x, linear.bias)
            # Sums in float32 and one rounding of the result, which the interpreter does towards zero.
            bound = torch.finfo(x.dtype).eps + inputs * torch.finfo(torch.float32).eps
            found.append((f"{rows} rows of {dtype}, {inputs} x {outputs} in {group}s", asked.pop(), off, bound))
    return found


@pytest.mark.only("solution")
def test_the_gpu_kernels_multiply_alike_in_the_interpreter(impl: ModuleType) -> None:
    pytest.importorskip("triton", reason="Triton, which compiles for GPUs, is not installed")
    # Triton decides when it is imported whether it interprets: in a process of its own.
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cases = json.loads(done.stdout)
    bad = [f"{case}: {name or 'no kernel'}, {off:.2g} off" for case, name, off, bound in cases if not off <= bound]
    assert not bad, "\n".join(bad)
    assert len(cases) == 5 * len(SHAPES)
    assert {name for _, name, _, _ in cases} == {"few_rows", "many_rows"}, "not every kernel was called each time"


@pytest.mark.only("solution")
@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize(
    ("dtype", "rows", "group", "precision"),
    [
        ("float32", 4, 32, "ieee"),
        ("bfloat16", 1, 128, "ieee"),
        ("bfloat16", 16, 32, "ieee"),
        ("float16", 256, 128, "ieee"),
        ("float32", 64, 32, "ieee"),
        ("float32", 64, 32, "tf32"),
    ],
)
def test_the_gpu_kernels_compile(
    impl: ModuleType,
    dtype: str,
    rows: int,
    group: int,
    precision: str,
    architecture: int,
) -> None:
    triton = pytest.importorskip("triton", reason="Triton, which compiles for GPUs, is not installed")
    kernels = importlib.import_module("quant.int4._triton")
    kernel, constants = kernels.plan(getattr(torch, dtype), rows, 4096, group, has_bias=True)
    constants |= {"PRECISION": precision} if "PRECISION" in constants else {}
    options = {name: constants.pop(name) for name in ("num_warps", "num_stages") if name in constants}
    pointers = dict.fromkeys(("x", "bias", "y"), f"*{NAMES[dtype]}")
    pointers |= {"packed": "*u8", "scale": "*bf16", "zero_point": "*i8"}
    kinds = {n: "constexpr" if n in constants else pointers.get(n, "i32") for n in kernel.arg_names}
    even = [["tt.divisibility", 16]]  # what Triton would find out of such sizes
    attributes = {(i,): even for i, name in enumerate(kinds) if kinds[name] != "constexpr" and name != "rows"}
    source = triton.compiler.ASTSource(kernel, kinds, constexprs=constants, attrs=attributes)
    target = triton.backends.compiler.GPUTarget("cuda", architecture, 32)
    found = triton.compile(source, target=target, options=options).asm
    assert found["cubin"], "no machine code"
    tensor_cores = rows > kernels.FEW and (dtype, precision) != ("float32", "ieee")
    assert ("mma" in found["ptx"]) == tensor_cores, f"tensor cores are {'not ' * tensor_cores}used"


if __name__ == "__main__":
    json.dump(interpreted(), sys.stdout)
