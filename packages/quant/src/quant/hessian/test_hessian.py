"""What every implementation of ``quant.hessian`` has to do."""

import copy
from functools import cache
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from quant.affine import QParams
from quant.affine.solution import choose_qparams, dequantize, quantize
from quant.hessian import SHRINK, Hessian

# A refusal names the argument, what was given, or what is accepted.
SHAPE = r"\bx\b|weight|[Hh]essian|[Ss]hape|dim|empty|no inputs|[(\[]\d"  # named, or printed
NAN = r"[Nn]a[Nn]|inf|finite"
DTYPE = r"\bu?int|dtype|float"  # what was given, or what is accepted
SINGULAR = r"definite|singular|damping"
OURS = pytest.mark.only("starter", "solution")
SHAPES = [(7, 140, 32), (5, 150, 144), (4, 37, 10), (3, 5, 8), (1, 1, 4), (6, 40, 1)]  # rows, cols, group


def inputs(tokens: int, cols: int, seed: int = 0) -> Tensor:
    """Correlated inputs of different size, as layers have."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.eye(cols) + torch.randn(cols, cols, generator=generator) / cols**0.5
    x: Tensor = torch.randn(tokens, cols, generator=generator) @ mix
    return x * torch.rand(cols, generator=generator).add(0.1)


def hessian_of(x: Tensor) -> Hessian:
    return Hessian((2 / len(x) * x.double().T @ x.double()).float(), len(x))


def case(rows: int, cols: int, seed: int = 0) -> tuple[Tensor, Hessian]:
    generator = torch.Generator().manual_seed(seed + 1)
    return torch.randn(rows, cols, generator=generator), hessian_of(inputs(4 * cols + 8, cols, seed))


def damped(hessian: Hessian, damping: float) -> Tensor:
    h = hessian.matrix.cpu().double()
    return h + damping * h.diagonal().mean() * torch.eye(len(h)).double()


def kept(qparams: QParams) -> tuple[Tensor, Tensor]:
    return qparams.scale.bfloat16().double(), qparams.zero_point.double()


def defined(
    weight: Tensor, hessian: Hessian, bits: int, group: int, damping: float = 0.01, *, by_size: bool = False
) -> Tensor:
    """Round as the definition has it: for every column the inverse of what is left of H, float64 throughout."""
    w, h = weight.double().clone(), damped(hessian, damping)
    inverse = torch.linalg.inv(h)
    cols = w.shape[1]
    order = h.diagonal().argsort(descending=True, stable=True).tolist() if by_size else list(range(cols))
    maps = {at: kept(choose_qparams(weight[:, at : at + group], bits, False, group)) for at in range(0, cols, group)}
    done = torch.empty_like(w)
    for column in order:
        first = column // group * group
        if not by_size and column == first:
            maps[first] = kept(choose_qparams(w[:, first : first + group].float(), bits, False, group))
        scale, zero_point = (part[:, 0] for part in maps[first])
        code = (torch.round(w[:, column] / scale) + zero_point).clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        done[:, column] = scale * (code - zero_point)
        # Optimal brain surgeon: one column fixed, the others free. Without it the inverse is smaller by a product.
        moves = inverse[column] / inverse[column, column]
        w -= torch.outer(w[:, column] - done[:, column], moves)
        inverse -= torch.outer(inverse[:, column], moves)
    return done


@cache
def definition(rows: int, cols: int, bits: int, group: int, *, by_size: bool = False) -> Tensor:
    """Return what ``defined`` makes of a case, once for all implementations."""
    return defined(*case(rows, cols), bits, group, by_size=by_size)


def nearest(weight: Tensor, bits: int, group: int) -> Tensor:
    chosen = choose_qparams(weight, bits, False, group)
    qparams = QParams(chosen.scale.bfloat16().float(), chosen.zero_point, chosen.group, bits)
    return dequantize(quantize(weight, qparams), qparams)


def lost(found: Tensor, weight: Tensor, hessian: Hessian) -> float:
    change = found.cpu().double() - weight.double()
    return float(((change @ hessian.matrix.double()) * change).sum())


def on(device: str, hessian: Hessian) -> Hessian:
    return Hessian(hessian.matrix.to(device), hessian.count)


def rounded(function: object, device: str, weight: Tensor, hessian: Hessian, *options: float) -> Tensor:
    assert callable(function)
    codes, qparams = function(weight.to(device), on(device, hessian), *options)
    assert codes.dtype == torch.int8, f"codes are {codes.dtype}"
    assert codes.shape == weight.shape
    assert codes.min() >= qparams.lowest and codes.max() <= qparams.highest  # noqa: PT018
    assert torch.equal(qparams.scale, qparams.scale.bfloat16().float()), "scales that bfloat16 does not hold"
    found: Tensor = dequantize(codes, qparams).cpu()
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_hessian_is_twice_the_mean_of_outer_products(impl: ModuleType, device: str, dtype: torch.dtype) -> None:
    x = inputs(50, 9).to(dtype)
    found = impl.accumulate(None, x.to(device))
    wanted = 2 / 50 * x.double().T @ x.double()
    assert found.count == 50
    assert found.matrix.dtype == torch.float32
    assert torch.allclose(found.matrix.cpu().double(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cuts", [(50,), (1, 49), (30, 15, 5), (10,) * 5])
def test_however_the_stream_is_cut_the_hessian_is_one(impl: ModuleType, device: str, cuts: tuple[int, ...]) -> None:
    x = inputs(50, 9)
    found: Any = None
    for part in x.to(device).split(list(cuts)):
        found = impl.accumulate(found, part)
    assert found.count == 50, f"50 inputs in batches of {cuts}, counted {found.count}"
    wanted = hessian_of(x).matrix
    assert torch.allclose(found.matrix.cpu(), wanted, rtol=1e-4, atol=1e-5), f"batches of {cuts} give another mean"


def test_batches_of_sequences_count_tokens(impl: ModuleType, device: str) -> None:
    x = inputs(60, 6)
    found = impl.accumulate(None, x.view(3, 20, 6).to(device))
    assert found.count == 60, f"3 sequences of 20 tokens, counted {found.count}"
    assert torch.allclose(found.matrix.cpu(), hessian_of(x).matrix, rtol=1e-4, atol=1e-5)
    turned = impl.accumulate(None, x.T.contiguous().to(device).T)  # the same numbers, not contiguous
    assert torch.allclose(turned.matrix, found.matrix, rtol=1e-4, atol=1e-5)


def test_accumulating_leaves_the_hessian_before_alone(impl: ModuleType, device: str) -> None:
    first = impl.accumulate(None, inputs(20, 5).to(device))
    before = first.matrix.clone()
    impl.accumulate(first, inputs(20, 5, seed=1).to(device))
    assert torch.equal(first.matrix, before), "the Hessian of the first batch was written to"


@pytest.mark.stretch
def test_the_largest_input_is_rounded_as_it_stands(impl: ModuleType, device: str) -> None:
    weight, hessian = case(24, 12)
    size = torch.linspace(1, 3, 12)  # the largest last, in another group than the first
    hessian = Hessian(hessian.matrix * size * size[:, None], hessian.count)
    found = rounded(impl.gptq_act_order, device, weight, hessian, 3, 4)
    first = int(hessian.matrix.diagonal().argmax())
    assert first >= 4, "the case is wrong, not the answer"
    off = int((found[:, first] != nearest(weight, 3, 4)[:, first]).sum())
    assert not off, f"column {first} has the largest input and is first, yet {off} of its 24 weights had moved"


@pytest.mark.stretch
def test_the_rows_that_matter_most_have_the_maps_of_their_search(impl: ModuleType, device: str) -> None:
    weight, hessian = case(6, 12)
    outputs = hessian_of(inputs(32, 6, seed=5))
    codes, qparams = impl.gptq_both(weight.to(device), on(device, hessian), on(device, outputs), 3, 4, at_once=3)
    first = int(outputs.matrix.diagonal().argmax())
    wanted = torch.cat([scale for scale, _ in searched(weight[[first]], hessian.matrix.diagonal(), 3, 4)])
    assert codes.shape == (6, 12)
    assert torch.equal(qparams.scale[first].cpu(), wanted), f"row {first} is first and has not moved: {wanted} are best"


@pytest.mark.parametrize(("rows", "cols", "group"), SHAPES)
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_every_column_moves_those_behind_it(
    impl: ModuleType, device: str, rows: int, cols: int, group: int, bits: int
) -> None:
    weight, hessian = case(rows, cols)
    found = rounded(impl.gptq, device, weight, hessian, bits, group)
    wanted = definition(rows, cols, bits, group)
    wrong = (~torch.isclose(found.double(), wanted, rtol=1e-5, atol=1e-6)).sum(0).nonzero().flatten().tolist()
    assert not wrong, (
        f"{rows} x {cols} in groups of {group}, {bits} bits: column {wrong[0]} is the first of {len(wrong)} "
        "that are not as the definition rounds them"
    )


@pytest.mark.parametrize(("bits", "group", "at_most"), [(4, 32, 0.75), (3, 16, 0.75), (4, 1 << 20, 0.75)])
def test_the_output_changes_less_than_with_rounding_to_nearest(
    impl: ModuleType, device: str, bits: int, group: int, at_most: float
) -> None:
    weight, hessian = case(24, 96)
    found = lost(rounded(impl.gptq, device, weight, hessian, bits, group), weight, hessian)
    plain = lost(nearest(weight, bits, group), weight, hessian)
    assert found < at_most * plain, f"squared error of the output {found:.3g}, rounded to nearest {plain:.3g}"


def test_inputs_that_are_not_correlated_leave_rounding_to_nearest(impl: ModuleType, device: str) -> None:
    weight, _ = case(6, 20)
    hessian = Hessian(torch.diag(torch.arange(1.0, 21.0)), 100)
    found = rounded(impl.gptq, device, weight, hessian, 4, 8)
    assert torch.equal(found, nearest(weight, 4, 8)), "nothing can make up for an error here, yet weights moved"


def test_a_dead_column_is_rounded_to_nearest_and_moves_nothing(impl: ModuleType, device: str) -> None:
    weight, _ = case(6, 16)
    x = inputs(100, 16)
    x[:, [3, 10]] = 0
    hessian = hessian_of(x)
    found = rounded(impl.gptq, device, weight, hessian, 4, 1)  # groups of one column: each has a map of its own
    alive = [column for column in range(16) if column not in (3, 10)]
    fewer = Hessian(hessian.matrix[alive][:, alive].contiguous(), 100)
    alone = rounded(impl.gptq, device, weight[:, alive].contiguous(), fewer, 4, 1)
    assert torch.equal(found[:, [3, 10]], nearest(weight, 4, 1)[:, [3, 10]]), "columns 3 and 10 had no input"
    assert torch.equal(found[:, alive], alone), "columns 3 and 10, whose input was always 0, moved others"


def test_dead_columns_have_no_part_in_the_damping(impl: ModuleType, device: str) -> None:
    weight, _ = case(6, 16)
    dead = [0, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15]
    alive = [column for column in range(16) if column not in dead]
    x = 8 * inputs(100, 16)
    x[:, dead] = 0
    found = rounded(impl.gptq, device, weight, hessian_of(x), 4, 1, 0.3)
    fewer = hessian_of(x[:, alive].contiguous())
    alone = rounded(impl.gptq, device, weight[:, alive].contiguous(), fewer, 4, 1, 0.3)
    assert torch.equal(found[:, alive], alone), "12 columns without input changed what was added to the diagonal"


def test_a_layer_without_input_is_rounded_to_nearest(impl: ModuleType, device: str) -> None:
    weight, _ = case(4, 12)
    found = rounded(impl.gptq, device, weight, Hessian(torch.zeros(12, 12), 10), 4, 5)
    assert torch.equal(found, nearest(weight, 4, 5))


def test_more_columns_than_inputs_need_the_damping(impl: ModuleType, device: str) -> None:
    weight, _ = case(5, 40)
    hessian = hessian_of(inputs(10, 40))
    found = rounded(impl.gptq, device, weight, hessian, 4, 8)
    wanted = defined(weight, hessian, 4, 8)
    off = (~torch.isclose(found.double(), wanted, rtol=1e-5, atol=1e-6)).float().mean()
    assert off < 0.02, f"{off:.0%} of the weights are not as the definition has them"
    assert lost(found, weight, hessian) < 0.2 * lost(nearest(weight, 4, 8), weight, hessian)


def test_damping_is_relative_to_the_mean_of_the_diagonal(impl: ModuleType, device: str) -> None:
    weight, hessian = case(6, 30)
    larger = Hessian(hessian.matrix * 1024, hessian.count)
    for damping in (0.01, 1.0):
        a, b = (rounded(impl.gptq, device, weight, each, 3, 8, damping) for each in (hessian, larger))
        assert torch.equal(a, b), f"inputs 32 times larger, damping {damping}: other codes"
        assert torch.allclose(a.double(), defined(weight, hessian, 3, 8, damping), rtol=1e-5, atol=1e-6)


def test_rounding_leaves_weight_and_hessian_alone(impl: ModuleType, device: str) -> None:
    weight, hessian = case(4, 20)
    before = weight.clone(), hessian.matrix.clone()
    rounded(impl.gptq, device, weight, hessian, 4, 8)
    assert torch.equal(weight, before[0])
    assert torch.equal(hessian.matrix, before[1])


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), rows=st.integers(1, 6), cols=st.integers(1, 24), group=st.integers(1, 30))
def test_every_code_has_a_map_and_lies_in_range(
    impl: ModuleType, device: str, seed: int, rows: int, cols: int, group: int
) -> None:
    weight, hessian = case(rows, cols, seed)
    found = rounded(impl.gptq, device, weight, hessian, 4, group)
    assert bool(found.isfinite().all())


@OURS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights(impl: ModuleType, device: str, dtype: torch.dtype) -> None:
    weight, hessian = case(6, 40)
    found = rounded(impl.gptq, device, weight.to(dtype), hessian, 4, 8)
    wanted = rounded(impl.gptq, device, weight.to(dtype).float(), hessian, 4, 8)
    assert torch.equal(found, wanted)


@OURS
@pytest.mark.parametrize(
    ("weight", "matrix", "options", "error", "words"),
    [
        (torch.ones(2, 4), torch.eye(4), (1, 4), ValueError, "bits"),
        (torch.ones(2, 4), torch.eye(4), (9, 4), ValueError, "bits"),
        (torch.ones(2, 4), torch.eye(4), (4, 0), ValueError, r"group|granularity"),
        (torch.ones(2, 4), torch.eye(4), (4, 4, -0.1), ValueError, "damping"),
        (torch.ones(2, 4), torch.eye(4), (4, 4, float("nan")), ValueError, "damping"),
        (torch.ones(2, 4), torch.eye(3), (4, 4), ValueError, SHAPE),
        (torch.ones(4), torch.eye(4), (4, 4), ValueError, SHAPE),
        (torch.ones(0, 4), torch.eye(4), (4, 4), ValueError, SHAPE),
        (torch.full((2, 4), float("nan")), torch.eye(4), (4, 4), ValueError, NAN),
        (torch.ones(2, 4), torch.full((4, 4), float("nan")), (4, 4), ValueError, rf"{SINGULAR}|{NAN}"),
        (torch.ones(2, 4), torch.ones(4, 4), (4, 4, 0.0), ValueError, SINGULAR),
        (torch.ones(2, 4, dtype=torch.int8), torch.eye(4), (4, 4), TypeError, DTYPE),
    ],
)
def test_what_cannot_be_rounded_is_refused(
    impl: ModuleType,
    device: str,
    weight: Tensor,
    matrix: Tensor,
    options: tuple[float, ...],
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        impl.gptq(weight.to(device), Hessian(matrix.to(device), 10), *options)


@OURS
def test_what_cannot_be_accumulated_is_refused(impl: ModuleType, device: str) -> None:
    first = impl.accumulate(None, torch.ones(3, 4, device=device))
    for x in (torch.ones(0, 4), torch.ones(3, 5), torch.ones(())):
        with pytest.raises(ValueError, match=SHAPE):
            impl.accumulate(first, x.to(device))
    for value in ("nan", "inf", "1e30"):
        with pytest.raises(ValueError, match=NAN):
            impl.accumulate(first, torch.full((3, 4), float(value), device=device))
    with pytest.raises(TypeError, match=DTYPE):
        impl.accumulate(first, torch.ones(3, 4, dtype=torch.int64, device=device))


@pytest.mark.stretch
@pytest.mark.parametrize(("rows", "cols", "group"), SHAPES)
def test_large_inputs_go_first(impl: ModuleType, device: str, rows: int, cols: int, group: int) -> None:
    weight, hessian = case(rows, cols)
    found = rounded(impl.gptq_act_order, device, weight, hessian, 3, group)
    wanted = definition(rows, cols, 3, group, by_size=True)
    wrong = int((~torch.isclose(found.double(), wanted, rtol=1e-5, atol=1e-6)).sum())
    assert not wrong, f"{rows} x {cols} in groups of {group}: {wrong} weights are not as the definition has them"


@pytest.mark.stretch
def test_the_order_helps_where_inputs_differ_in_size(impl: ModuleType, device: str) -> None:
    weight, hessian = case(24, 96)
    size = torch.logspace(-1, 1, 96)  # the largest last, where nothing is left to make up for them
    hessian = Hessian(hessian.matrix * size * size[:, None], hessian.count)
    as_they_stand, by_size = (
        lost(rounded(each, device, weight, hessian, 3, 32), weight, hessian)
        for each in (impl.gptq, impl.gptq_act_order)
    )
    assert by_size < 0.7 * as_they_stand, f"squared error {by_size:.3g} with the order, {as_they_stand:.3g} without"


@pytest.mark.stretch
def test_the_target_is_the_least_squares_solution(impl: ModuleType, device: str) -> None:
    weight, _ = case(5, 12)
    x = inputs(200, 12)
    y = x + 0.3 * inputs(200, 12, seed=3)
    drift = (2 / 200 * (y - x).double().T @ x.double()).float()
    found = impl.retarget(weight.to(device), on(device, hessian_of(x)), drift.to(device), 0.0)
    wanted = torch.linalg.lstsq(x.double(), y.double() @ weight.double().T).solution.T
    assert found.dtype == torch.float32
    assert torch.allclose(found.cpu().double(), wanted, rtol=1e-3, atol=1e-4)
    same = impl.retarget(weight.to(device), on(device, hessian_of(x)), torch.zeros(12, 12, device=device))
    assert torch.equal(same.cpu(), weight), "nothing has drifted, yet the weight moved"


@pytest.mark.stretch
@OURS
def test_a_drift_of_another_shape_is_refused(impl: ModuleType, device: str) -> None:
    weight, hessian = case(3, 4)
    with pytest.raises(ValueError, match=rf"drift|{SHAPE}"):
        impl.retarget(weight.to(device), on(device, hessian), torch.zeros(4, 3, device=device))
    with pytest.raises(ValueError, match="damping"):
        impl.retarget(weight.to(device), on(device, hessian), torch.zeros(4, 4, device=device), -1)


class Small(nn.Module):
    """Attention-like: three layers read one tensor, one runs twice, the head is tied, one never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 24)
        self.q, self.k, self.v = (nn.Linear(24, 24) for _ in range(3))
        self.twice = nn.Linear(24, 24)
        self.drop = nn.Dropout(0.2)
        self.last = nn.Linear(24, 16)
        self.never = nn.Linear(24, 24)
        self.head = nn.Linear(24, 30, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        x = x + torch.tanh(self.q(x)) * self.k(x) + self.v(x)
        x = torch.tanh(self.twice(self.drop(x)))
        y: Tensor = self.last(torch.relu(self.twice(x)))
        return torch.cat([y, self.head(x)], -1)


def small(device: str) -> tuple[nn.Module, list[dict[str, Tensor]]]:
    torch.manual_seed(0)
    model = Small().to(device).eval()
    return model, [{"ids": torch.randint(30, (8, 16), device=device)} for _ in range(3)]


NAMES = ["q", "k", "v", "twice", "last"]


@pytest.mark.stretch
@pytest.mark.parametrize("rounding", ["gptq", "gptq_act_order"])
def test_a_model_is_rounded_layer_after_layer(impl: ModuleType, device: str, rounding: str) -> None:
    model, batches = small(device)
    original = copy.deepcopy(model)
    heard: list[tuple[int, int]] = []

    def listening(weight: Tensor, hessian: Hessian, bits: int, group: int) -> tuple[Tensor, QParams]:
        heard.append((bits, group))
        done: tuple[Tensor, QParams] = getattr(impl, rounding)(weight, hessian, bits, group)
        return done

    found = impl.gptq_model(model, batches, 4, 8, listening)
    assert heard == [(4, 8)] * len(NAMES), f"rounded with the bits and groups {heard}"
    assert list(found) == NAMES, f"layers in the order in which they run: {list(found)}"
    for name, (codes, qparams) in found.items():
        weight = model.get_parameter(f"{name}.weight")
        assert torch.equal(weight, dequantize(codes, qparams)), f"{name}: the weight is not what its codes stand for"
    for name in ("never", "head"):
        wanted = original.get_parameter(f"{name}.weight")
        assert torch.equal(model.get_parameter(f"{name}.weight"), wanted), f"{name} was changed"


@pytest.mark.stretch
def test_later_layers_make_up_for_earlier_ones(impl: ModuleType, device: str) -> None:
    """On inputs of a quantized model, aimed at the float model's outputs: repeated here for one layer by hand."""
    model, batches = small(device)
    original, seen = copy.deepcopy(model), copy.deepcopy(model)
    found = impl.gptq_model(model, batches, 3, 8)
    for name in ("q", "k", "v"):
        seen.get_parameter(f"{name}.weight").data = dequantize(*found[name])
    grown: dict[str, list[Tensor]] = {"x": [], "y": []}
    for key, each in (("x", seen), ("y", original)):
        # Its own output is the second input of ``twice``: the float layer's while it is not yet rounded.
        hook = each.get_submodule("twice").register_forward_pre_hook(
            lambda _, args, key=key: grown[key].append(args[0].flatten(0, -2))
        )
        with torch.no_grad():
            for batch in batches:
                each(**batch)
        hook.remove()
    x, y = (torch.cat(grown[key]).cpu() for key in ("x", "y"))
    drift = (2 / len(x) * (y - x).double().T @ x.double()).float()
    weight = original.get_parameter("twice.weight").detach().cpu()
    aim = impl.retarget(weight, hessian_of(x), drift)
    wanted = dequantize(*impl.gptq(aim, hessian_of(x), 3, 8))
    got = dequantize(*found["twice"]).cpu()
    off = (~torch.isclose(got, wanted, rtol=1e-3, atol=1e-3)).float().mean()
    assert off < 0.05, f"{off:.0%} of the weights of the second stage are not for the inputs that it gets"


@pytest.mark.stretch
def test_the_whole_model_is_nearer_than_rounded_to_nearest(impl: ModuleType, device: str) -> None:
    model, batches = small(device)
    plain = copy.deepcopy(model)
    judged = torch.randint(30, (32, 16), device=device)
    with torch.no_grad():
        wanted = model(judged)
        for name in NAMES:
            plain.get_parameter(f"{name}.weight").data = nearest(plain.get_parameter(f"{name}.weight").data, 3, 8)
        impl.gptq_model(model, batches, 3, 8)
        ours, theirs = (float((each(judged) - wanted)[..., :16].square().mean()) for each in (model, plain))
    assert ours < 0.6 * theirs, f"mean squared error on other text {ours:.3g}, rounded to nearest {theirs:.3g}"


@pytest.mark.stretch
def test_a_model_keeps_its_modes_and_has_no_hooks_left(impl: ModuleType, device: str) -> None:
    model, batches = small(device)
    wanted = impl.gptq_model(copy.deepcopy(model), batches, 4, 8)
    model.train()
    model.get_submodule("last").eval()
    found = impl.gptq_model(model, batches, 4, 8)
    assert model.training
    assert not model.get_submodule("last").training
    assert all(torch.equal(found[name][0], codes) for name, (codes, _) in wanted.items()), "dropout was on"
    left = [name for name, module in model.named_modules() if module._forward_pre_hooks]  # noqa: SLF001
    assert not left, f"the hooks of {left} are still there"


@pytest.mark.stretch
@OURS
def test_a_model_that_cannot_be_rounded_is_refused(impl: ModuleType, device: str) -> None:
    model, batches = small(device)
    with pytest.raises(ValueError, match="batch"):
        impl.gptq_model(model, [])
    with pytest.raises(ValueError, match=r"(?i)layer|linear"):
        impl.gptq_model(nn.Sequential(nn.ReLU()), [{"input": torch.ones(1, 3)}])
    with pytest.raises(ValueError, match="bits"):
        impl.gptq_model(model, batches, 1)


def searched(weight: Tensor, diagonal: Tensor, bits: int, group: int) -> list[tuple[Tensor, Tensor]]:
    """Return scale and zero point of each group by trying every candidate on every row alone."""
    found = []
    for start in range(0, weight.shape[1], group):
        part = weight[:, start : start + group]
        whole = choose_qparams(part, bits, False, group)
        scale = torch.empty(len(part))
        for row in range(len(part)):
            costs = []
            for shrink in (1.0, *SHRINK):
                s = (whole.scale[row, 0] * shrink).bfloat16().double()
                z = whole.zero_point[row, 0]
                code = (torch.round(part[row].double() / s) + z).clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
                error = part[row].double() - s * (code - z)
                costs.append((float((error.square() * diagonal[start : start + group].double()).sum()), float(s)))
            scale[row] = min(costs, key=lambda cost: cost[0])[1]
        found.append((scale, whole.zero_point[:, 0]))
    return found


@pytest.mark.stretch
@pytest.mark.parametrize(("rows", "cols", "group"), [(5, 40, 16), (3, 21, 8), (2, 3, 8), (1, 1, 4)])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_range_that_costs_least_is_kept(
    impl: ModuleType, device: str, rows: int, cols: int, group: int, bits: int
) -> None:
    weight, hessian = case(rows, cols)
    found = impl.search_qparams(weight.to(device), on(device, hessian), bits, group)
    wanted = searched(weight, hessian.matrix.diagonal(), bits, group)
    scale, zero_point = (torch.stack(parts, 1) for parts in zip(*wanted, strict=True))
    assert torch.equal(found.zero_point.cpu(), zero_point), "the zero points are not those of the whole range"
    off = (found.scale.cpu() != scale).nonzero().tolist()
    assert not off, f"row and group {off[0]} is the first of {len(off)} whose scale is not the one that costs least"


@pytest.mark.stretch
def test_inputs_that_are_large_decide_the_range(impl: ModuleType, device: str) -> None:
    weight = torch.cat([torch.tensor([[4.0]]), torch.linspace(0, 1, 31)[None]], 1)
    hessian = Hessian(torch.diag(torch.tensor([1e-6, *[1.0] * 31])), 10)
    narrow = impl.search_qparams(weight.to(device), on(device, hessian), 4, 32)
    whole = choose_qparams(weight, 4, False, 32).scale.bfloat16().float()
    assert float(narrow.scale) < 0.7 * float(whole), "the outlier meets inputs near zero, yet decides the step"
    dead = impl.search_qparams(weight.to(device), on(device, Hessian(torch.zeros(32, 32), 10)), 4, 32)
    assert torch.equal(dead.scale.cpu(), whole), "all cost the same without inputs: the widest stays"


def started(weight: Tensor, bits: int, group: int, device: str, shift: float = 0.3) -> tuple[Tensor, QParams]:
    """Codes rounded to nearest and maps, of another weight than the one that they are to stand for."""
    other = weight + shift * torch.randn(weight.shape, generator=torch.Generator().manual_seed(9)) * weight.abs().mean()
    chosen = choose_qparams(other, bits, False, group)
    qparams = QParams(chosen.scale.bfloat16().float(), chosen.zero_point, chosen.group, bits)
    codes = quantize(other, qparams)
    home = QParams(qparams.scale.to(device), qparams.zero_point.to(device), qparams.group, bits)
    return codes.to(device), home


@pytest.mark.stretch
@pytest.mark.parametrize(("rows", "cols", "group"), SHAPES)
@pytest.mark.parametrize("bits", [3, 4])
def test_scales_solve_the_least_squares_of_their_row(
    impl: ModuleType, device: str, rows: int, cols: int, group: int, bits: int
) -> None:
    weight, hessian = case(rows, cols)
    codes, qparams = started(weight, bits, group, device)
    before = qparams.scale.clone()
    found = impl.refit_scales(weight.to(device), on(device, hessian), codes, qparams)
    assert torch.equal(qparams.scale, before), "the maps that were given were written to"
    assert torch.equal(found.zero_point, qparams.zero_point)
    assert (found.group, found.bits) == (qparams.group, bits)
    root = torch.linalg.cholesky(damped(hessian, 0.01))
    steps = dequantize(codes, QParams(torch.ones_like(before), qparams.zero_point, qparams.group, bits)).cpu().double()
    for row in range(rows):
        parts = [F.pad(part, (at * group, 0)) for at, part in enumerate(steps[row].split(group))]
        matrix = torch.stack([F.pad(part, (0, cols - len(part))) for part in parts], 1)  # (cols, groups)
        wanted = torch.linalg.lstsq(root.T @ matrix, root.T @ weight[row].double()[:, None], driver="gelsd").solution
        # gelsd has 0 where nothing depends on a scale
        wanted = torch.where(matrix.abs().sum(0) > 0, wanted[:, 0], before[row].cpu().double())
        if bool((wanted <= 0).any()):  # the scales of a row are kept or replaced together
            wanted = before[row].cpu().double()
        off = (found.scale[row].cpu().double() - wanted).abs() / wanted
        assert off.max() < 2**-8, f"row {row}: scales {found.scale[row].tolist()}, least squares {wanted.tolist()}"
    assert torch.equal(found.scale, found.scale.bfloat16().float()), "scales that bfloat16 does not hold"


@pytest.mark.stretch
def test_scales_that_would_be_worse_are_not_taken(impl: ModuleType, device: str) -> None:
    """Where they are best, or where the best would be negative: whole rows stay, others do not."""
    weight, hessian = case(4, 24)
    codes, qparams = started(weight, 3, 8, device)
    first = impl.refit_scales(weight.to(device), on(device, hessian), codes, qparams)
    again = impl.refit_scales(weight.to(device), on(device, hessian), codes, first)
    assert torch.equal(again.scale, first.scale), "the best scales were changed"
    weight[1] = -dequantize(codes, qparams).cpu()[1]
    turned = impl.refit_scales(weight.to(device), on(device, hessian), codes, qparams)
    assert torch.equal(turned.scale[1], qparams.scale[1]), "the weight of row 1 has the other sign: no scale fits"
    assert torch.equal(turned.scale[[0, 2, 3]], first.scale[[0, 2, 3]])
    near = QParams((first.scale * (1 + 2**-7)).bfloat16().float(), first.zero_point, first.group, 3)
    for maps in (qparams, near):
        after = impl.refit_scales(weight.to(device), on(device, hessian), codes, maps)
        for row in range(4):
            old, new = (
                lost(dequantize(codes, each)[[row]], weight[[row]], Hessian(damped(hessian, 0.01), 1))
                for each in (maps, after)
            )
            assert new <= old * (1 + 1e-9), f"row {row}: the loss went from {old:.6g} to {new:.6g}"


@pytest.mark.stretch
def test_the_best_scales_that_bfloat16_holds_stay(impl: ModuleType, device: str) -> None:
    """Least squares rounded number by number are not always the best of what can be kept: the neighbours are tried."""
    weight, _ = case(12, 12)
    x = inputs(100, 12)
    hessian = hessian_of(x + 3 * x[:, :1])  # correlated, so that what one scale is off others could make up for
    codes, qparams = started(weight, 3, 4, device)
    fitted = impl.refit_scales(weight.to(device), on(device, hessian), codes, qparams).scale.cpu()
    factors = torch.tensor([1 - 2**-8, 1, 1 + 2**-7])  # to the bfloat16 below, itself, and above
    near = torch.stack(torch.meshgrid([factors] * 3, indexing="ij"), -1).view(-1, 3)
    tried = (fitted[:, None] * near).bfloat16().float()  # (rows, 27, groups)
    steps = dequantize(codes, QParams(torch.ones_like(qparams.scale), qparams.zero_point, 4, 3)).cpu().double()
    error = steps[:, None] * tried.double().repeat_interleave(4, 2) - weight.double()[:, None]
    best = ((error @ damped(hessian, 0.01)) * error).sum(2).argmin(1)
    scale = tried[torch.arange(12), best]
    assert int((scale != fitted).any(1).sum()) >= 2, "the case is wrong, not the answer"
    found = impl.refit_scales(
        weight.to(device), on(device, hessian), codes, QParams(scale.to(device), qparams.zero_point, 4, 3)
    )
    worse = (found.scale.cpu() != scale).any(1).nonzero().flatten().tolist()
    assert not worse, f"rows {worse} had the best scales of all near the least squares, and were given others"


@pytest.mark.stretch
def test_columns_without_input_have_no_say_in_scales(impl: ModuleType, device: str) -> None:
    weight, _ = case(5, 24)
    x = inputs(200, 24) * 0.01  # far smaller than the 1 that stands for no input in rounding
    x[:, 2] = 0
    x[:, 16:] = 0
    hessian = hessian_of(x)
    codes, qparams = started(weight, 4, 8, device)
    found = impl.refit_scales(weight.to(device), on(device, hessian), codes, qparams)
    weight[:, 2] += 5
    weight[:, 16:] -= 5
    other = impl.refit_scales(weight.to(device), on(device, hessian), codes, qparams)
    assert torch.equal(found.scale[:, 2], qparams.scale[:, 2]), "the last group has no input: nothing to fit"
    assert torch.equal(found.scale, other.scale), "weights that meet no input changed a scale"
    assert not torch.equal(found.scale[:, :2], qparams.scale[:, :2])


@pytest.mark.stretch
@pytest.mark.parametrize(("rows", "cols", "group"), SHAPES)
def test_each_column_is_chosen_again_given_all_others(
    impl: ModuleType, device: str, rows: int, cols: int, group: int
) -> None:
    weight, hessian = case(rows, cols)
    codes, qparams = started(weight, 3, group, device, shift=1.0)
    before = codes.clone()
    found = impl.refit_codes(weight.to(device), on(device, hessian), codes, qparams)
    assert torch.equal(codes, before), "the codes that were given were written to"
    assert found.dtype == torch.int8
    h, now = damped(hessian, 0.01), codes.cpu().double()
    scale, zero_point = (part.cpu().double() for part in (qparams.scale, qparams.zero_point))
    every = torch.arange(-4, 4).double()  # the codes of 3 bits
    for column in range(cols):
        tried = now[:, None].repeat(1, len(every), 1)  # (rows, codes, cols)
        tried[:, :, column] = every
        owner = torch.arange(cols) // group
        error = (tried - zero_point[:, owner][:, None]) * scale[:, owner][:, None] - weight.double()[:, None]
        now[:, column] = every[((error @ h) * error).sum(2).argmin(1)]
    wrong = (found.cpu().double() != now).any(0).nonzero().flatten().tolist()
    assert not wrong, f"{rows} x {cols} in groups of {group}: column {wrong[:1]} is not the best of all 8 codes"
    assert rows * cols < 8 or bool((found != codes).any()), "the case is wrong, not the answer"


@pytest.mark.stretch
def test_refitting_lowers_what_rounding_leaves(impl: ModuleType, device: str) -> None:
    weight, hessian = case(24, 96)
    losses = []
    for rounds in (0, 1, 3):
        found = rounded(lambda w, h, n=rounds: impl.gptq_refit(w, h, 3, 16, rounds=n), device, weight, hessian)
        losses.append(lost(found, weight, Hessian(damped(hessian, 0.01), 1)))
    assert losses[0] > losses[1] > losses[2], f"after 0, 1 and 3 rounds the loss is {losses}"
    alone = lost(
        rounded(impl.gptq_act_order, device, weight, hessian, 3, 16), weight, Hessian(damped(hessian, 0.01), 1)
    )
    assert losses[2] < 0.85 * alone, f"refitted {losses[2]:.3g}, as first rounded {alone:.3g}"
    _, qparams = impl.gptq_refit(weight.to(device), on(device, hessian), 3, 16, rounds=0)
    wanted = torch.stack([scale for scale, _ in searched(weight, hessian.matrix.diagonal(), 3, 16)], 1)
    assert torch.equal(qparams.scale.cpu(), wanted), "before any round the maps are those of the search"


@pytest.mark.stretch
@OURS
def test_what_cannot_be_refitted_is_refused(impl: ModuleType, device: str) -> None:
    weight, hessian = case(3, 8)
    codes, qparams = started(weight, 4, 4, device)
    for function in (impl.refit_scales, impl.refit_codes):
        with pytest.raises(ValueError, match=rf"codes|{SHAPE}"):
            function(weight[:, :4].to(device), on(device, hessian), codes, qparams)
        with pytest.raises(ValueError, match=rf"codes|{SHAPE}"):
            function(weight[:2].to(device), on(device, hessian), codes[:2], qparams)
        with pytest.raises(ValueError, match=SHAPE):
            function(weight.to(device), Hessian(torch.eye(4, device=device), 9), codes, qparams)
        with pytest.raises(ValueError, match="damping"):
            function(weight.to(device), on(device, hessian), codes, qparams, -1)
    lost = Hessian(hessian.matrix.clone().fill_diagonal_(float("nan")).to(device), 9)
    for name, more in (
        ("search_qparams", ()),
        ("refit_scales", (codes, qparams)),
        ("refit_codes", (codes, qparams)),
        ("retarget", (hessian.matrix.to(device),)),
    ):
        with pytest.raises(ValueError, match=rf"{SINGULAR}|{NAN}"):
            getattr(impl, name)(weight.to(device), lost, *more)
    with pytest.raises(ValueError, match="rounds"):
        impl.gptq_refit(weight.to(device), on(device, hessian), rounds=-1)
    with pytest.raises(ValueError, match="bits"):
        impl.gptq_refit(weight.to(device), on(device, hessian), 9)


@pytest.mark.stretch
@pytest.mark.only("solution")
def test_a_parameter_may_be_rounded_and_no_graph_is_kept(impl: ModuleType, device: str) -> None:
    weight, hessian = case(4, 16)
    parameter, given = nn.Parameter(weight.to(device)), on(device, hessian)
    for function in (impl.gptq, impl.gptq_act_order, impl.gptq_refit):
        codes, qparams = function(parameter, given, 4, 8)
        wanted = function(weight.to(device), given, 4, 8)
        assert torch.equal(codes, wanted[0])
        assert not qparams.scale.requires_grad
    assert not impl.search_qparams(parameter, given).scale.requires_grad
    assert not impl.retarget(parameter, given, given.matrix).requires_grad


def eliminated(weight: Tensor, hessian: Hessian, outputs: Hessian, bits: int, group: int, at_once: int) -> Tensor:
    """Round weight by weight as the definition has it: the Hessian of all weights is the Kronecker product of two."""
    h, g = damped(hessian, 0.01), damped(outputs, 0.01)
    rows, cols = weight.shape
    whole = torch.kron(g, h)
    columns = h.diagonal().argsort(descending=True, stable=True).tolist()
    turns = g.diagonal().argsort(descending=True, stable=True).tolist()
    w, done = weight.double().flatten(), torch.empty(rows * cols).double()
    for at in range(0, rows, at_once):
        block, after = turns[at : at + at_once], turns[at + at_once :]
        moved = w.clone()
        for row in block:
            part = moved.view(rows, cols)[row : row + 1].float()
            maps = searched(part, hessian.matrix.diagonal(), bits, group)
            for turn, column in enumerate(columns):
                scale, zero_point = (float(value) for value in maps[column // group])
                here = row * cols + column
                code = (torch.round(moved[here] / scale) + zero_point).clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
                done[here] = scale * (code - zero_point)
                left = [row * cols + each for each in columns[turn:]]  # of the block only this row moves
                inverse = torch.linalg.inv(whole[left][:, left])
                moved[left] -= (moved[here] - done[here]) / inverse[0, 0] * inverse[0]
        fixed = [row * cols + column for row in block for column in range(cols)]
        free = [row * cols + column for row in after for column in range(cols)]
        if free:  # where the quadratic form is least for what is fixed now
            w[free] -= torch.linalg.solve(whole[free][:, free], whole[free][:, fixed] @ (done[fixed] - w[fixed]))
    return done.view(rows, cols)


@pytest.mark.stretch
@pytest.mark.parametrize(
    ("rows", "cols", "group", "at_once"), [(5, 9, 4, 1), (7, 6, 6, 3), (4, 10, 3, 16), (1, 1, 4, 1)]
)
def test_rows_move_those_that_are_left(
    impl: ModuleType, device: str, rows: int, cols: int, group: int, at_once: int
) -> None:
    weight, hessian = case(rows, cols)
    outputs = hessian_of(inputs(4 * rows + 8, rows, seed=5))
    found = rounded(
        lambda w, h: impl.gptq_both(w, h, on(device, outputs), 3, group, at_once=at_once), device, weight, hessian
    )
    wanted = eliminated(weight, hessian, outputs, 3, group, at_once)
    wrong = (~torch.isclose(found.double(), wanted, rtol=1e-5, atol=1e-6)).any(1).nonzero().flatten().tolist()
    assert not wrong, f"{rows} x {cols}, {at_once} rows at once: rows {wrong} are not as the definition rounds them"


@pytest.mark.stretch
def test_the_loss_changes_less_when_rows_make_up_for_each_other(impl: ModuleType, device: str) -> None:
    weight, hessian = case(48, 96)
    outputs = hessian_of(inputs(300, 48, seed=5))

    def loss(found: Tensor) -> float:
        change = found.double() - weight.double()
        return float(((outputs.matrix.double() @ change) * (change @ hessian.matrix.double())).sum())

    alone = loss(rounded(impl.gptq_act_order, device, weight, hessian, 4, 32))
    both = loss(rounded(lambda w, h: impl.gptq_both(w, h, on(device, outputs)), device, weight, hessian))
    assert both < 0.7 * alone, f"the loss grows by {both:.3g}, by {alone:.3g} when only columns make up for each other"


@pytest.mark.stretch
@OURS
def test_what_rows_cannot_do_is_refused(impl: ModuleType, device: str) -> None:
    weight, hessian = case(3, 4)
    with pytest.raises(ValueError, match=SHAPE):
        impl.gptq_both(weight.to(device), on(device, hessian), on(device, hessian))
    with pytest.raises(ValueError, match="at_once"):
        impl.gptq_both(weight.to(device), on(device, hessian), Hessian(torch.eye(3, device=device), 9), at_once=0)
    for call in (impl.gptq_both, lambda w, h, _g, bits: impl.search_qparams(w, h, bits)):
        with pytest.raises(ValueError, match="bits"):
            call(weight.to(device), on(device, hessian), Hessian(torch.eye(3, device=device), 9), 9)
    with pytest.raises(ValueError, match=SHAPE):
        impl.search_qparams(weight.to(device), Hessian(torch.eye(3, device=device), 9))


@pytest.mark.stretch
def test_gradients_of_drawn_answers_have_the_hessian_of_the_divergence(impl: ModuleType, device: str) -> None:
    """At the logits it is diag(p) - p p^T, known without a draw; 20 000 draws come within 5 standard errors."""
    count = 20_000
    torch.manual_seed(1)
    layer = nn.Linear(4, 6).to(device)
    model = nn.Sequential(layer).requires_grad_(requires_grad=False)
    parts = [{"input": torch.zeros(2, count // 8, 4, device=device)} for _ in range(4)]
    found = impl.output_hessians(model, parts, lambda output: output, seed=3)
    assert list(found) == ["0"]
    assert found["0"].count == count, f"{count} tokens, {found['0'].count} counted"
    p = layer.bias.double().softmax(0).cpu()
    wanted = 2 * (p.diag() - p.outer(p))  # twice the mean, as every Hessian here
    g = torch.eye(6).double() - p  # the gradients that the 6 answers give, up to their sign
    products = 2 * g[:, :, None] * g[:, None, :]
    spread = ((p[:, None, None] * products.square()).sum(0) - wanted.square()).clamp(min=0).sqrt() / count**0.5
    one, two = (impl.output_hessians(model, parts[:1] * n, lambda output: output, seed=3)["0"].matrix for n in (1, 2))
    assert not torch.allclose(one, two), "two batches were given the same draws"
    far = ((found["0"].matrix.cpu().double() - wanted).abs() / (spread + 1e-6)).max()
    assert far < 5, f"an entry is {far:.1f} standard errors off diag(p) - p p^T"


@pytest.mark.stretch
def test_gradients_reach_every_layer_that_matters(impl: ModuleType, device: str) -> None:
    model, batches = small(device)
    before = copy.deepcopy(model.state_dict())
    found = impl.output_hessians(model, batches, lambda output: output[..., :16])
    assert list(found) == NAMES, f"layers that the loss depends on, without the tied head: {list(found)}"
    tokens = 3 * 8 * 16
    counted = {name: hessian.count for name, hessian in found.items()}
    assert counted == {**dict.fromkeys(NAMES, tokens), "twice": 2 * tokens}, f"{counted}: ``twice`` runs twice"
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters()), "gradients are left on the weights"
    left = [name for name, module in model.named_modules() if module._forward_hooks]  # noqa: SLF001
    assert not left, f"the hooks of {left} are still there"
    with pytest.raises(ValueError, match="batch"):
        impl.output_hessians(model, [], lambda output: output)


@pytest.mark.stretch
def test_a_model_is_rounded_for_its_predictions(impl: ModuleType, device: str) -> None:
    """The layers that read the embedding see no drift, so that what they become can be repeated by hand."""
    model, batches = small(device)
    original = copy.deepcopy(model)
    outputs = impl.output_hessians(model, batches, lambda output: output)
    found = impl.gptq_model(model, batches, 3, 8, logits=lambda output: output)
    assert list(found) == NAMES
    with torch.no_grad():
        hessian = hessian_of(
            torch.cat([original.get_submodule("embed")(batch["ids"]).cpu() for batch in batches]).flatten(0, 1)
        )
    for name in ("q", "k", "v"):
        weight = original.get_parameter(f"{name}.weight").detach()
        wanted = dequantize(*impl.gptq_both(weight, on(device, hessian), outputs[name], 3, 8))
        off = (~torch.isclose(dequantize(*found[name]), wanted, rtol=1e-3, atol=1e-3)).float().mean()
        assert off < 0.05, f"{off:.0%} of the weights of {name} are not as gptq_both rounds them"


# The figures that the follow-ups in exercise.toml quote of tinylm: `nox -s slow-quant -- hessian -s` measures and
# prints them again. Another machine sums in another order, which moves the second digit by one.
NEAR = 0.015


@cache
def tinylm(device: str) -> tuple[Any, Tensor, Tensor]:
    """Return the model and its training and held-out text in windows, (windows, 512) each."""
    from models import corpus, load  # noqa: PLC0415
    from models.train import encode  # noqa: PLC0415

    loaded = load("tinylm", device=device)
    texts = [encode(loaded.tokenizer, corpus(part)) for part in ("train", "heldout")]
    train, heldout = (text[: len(text) // 512 * 512].view(-1, 512).to(device) for text in texts)
    return loaded.model, train, heldout


def spread(windows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return ``count`` windows, evenly from the first to the last, and those half way between two of them."""
    at = torch.linspace(0, len(windows) - 1, count)
    return windows[at.long()], windows[((at[1:] + at[:-1]) / 2).long()]


@torch.inference_mode()
def divergence(model: Any, reference: Any, windows: Tensor) -> float:
    """Return the sum of the KL divergence from the reference's predictions over all tokens, in nats."""
    total = 0.0
    for ids in windows.split(4):
        found, wanted = (each(input_ids=ids).logits.log_softmax(-1) for each in (model, reference))
        total += float(F.kl_div(found, wanted, log_target=True, reduction="sum"))
    return total


def left(ours: nn.Module, names: list[str], bits: int, model: nn.Module, windows: Tensor) -> float:
    """Return the divergence of a model as a share of that where the layers named are rounded to nearest."""
    plain = copy.deepcopy(model)
    for name in names:
        weight = plain.get_parameter(f"{name}.weight")
        weight.data = nearest(weight.data, bits, 32)
    return divergence(ours, model, windows) / divergence(plain, model, windows)


def batches(windows: Tensor) -> list[dict[str, Tensor]]:
    return [{"input_ids": part} for part in windows.split(4)]


@pytest.mark.stretch
@pytest.mark.slow
@pytest.mark.only("solution")
@pytest.mark.parametrize(("count", "quoted"), [(4, 0.67), (16, 0.51), (64, 0.47)])
def test_more_text_leaves_less_of_the_divergence(impl: ModuleType, device: str, count: int, quoted: float) -> None:
    model, train, heldout = tinylm(device)
    ours = copy.deepcopy(model)
    names = list(impl.gptq_model(ours, batches(spread(train, count)[0]), 4, 32))
    found = left(ours, names, 4, model, heldout[::12])
    print(f"gptq, {512 * count} tokens: {found:.3f} of plain rounding's divergence")  # noqa: T201 - with -s
    assert abs(found - quoted) < NEAR


@torch.inference_mode()
def losses(model: Any, windows: Tensor) -> Tensor:
    """Return the loss of each token, (tokens,) nats."""
    found = (
        F.cross_entropy(model(input_ids=ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        for ids in windows.split(4)
    )
    return torch.cat(list(found)).cpu().double()


@pytest.mark.stretch
@pytest.mark.slow
@pytest.mark.only("solution")
def test_what_a_difference_of_perplexities_shows(impl: ModuleType, device: str) -> None:
    model, train, heldout = tinylm(device)
    ours, plain = copy.deepcopy(model), copy.deepcopy(model)
    for name in impl.gptq_model(ours, batches(spread(train, 16)[0]), 4, 32):
        weight = plain.get_parameter(f"{name}.weight")
        weight.data = nearest(weight.data, 4, 32)
    judged = heldout[::12]
    text, rounded_, better = (losses(each, judged) for each in (model, plain, ours))
    root = len(text) ** 0.5
    found = {
        "tokens": len(text),
        "plain": float((rounded_ - text).mean()),
        "gptq": float((better - text).mean()),
        "paired error": float((rounded_ - better).std()) / root,
        "unpaired error": float(rounded_.var() + better.var()) ** 0.5 / root,
    }
    print({name: round(value, 4) for name, value in found.items()})  # noqa: T201 - with -s
    quoted = {"tokens": 9709, "plain": 0.029, "gptq": 0.015, "paired error": 0.0032, "unpaired error": 0.040}
    off = {name: value for name, value in quoted.items() if abs(found[name] - value) > 0.1 * value}
    assert not off, f"the follow-up quotes {off}"


@pytest.mark.stretch
@pytest.mark.slow
@pytest.mark.only("solution")
def test_where_the_divergence_is_left(impl: ModuleType, device: str) -> None:
    model, train, _ = tinylm(device)
    seen, kept_back = spread(train, 16)
    linears = {n: m for n, m in model.named_modules() if type(m) is nn.Linear and "lm_head" not in n}
    hessians: dict[str, Hessian] = {}

    def watch(name: str, x: Tensor) -> None:
        hessians[name] = impl.accumulate(hessians.get(name), x)

    hooks = [m.register_forward_pre_hook(lambda _, args, n=n: watch(n, args[0])) for n, m in linears.items()]
    with torch.no_grad():
        for batch in batches(seen):
            model(**batch)
    for hook in hooks:
        hook.remove()
    found = {}
    for part in (".0.", ".4.", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"):
        ours, names = copy.deepcopy(model), [name for name in linears if part in name]
        for name in names:
            weight = ours.get_parameter(f"{name}.weight")
            weight.data = dequantize(*impl.gptq(weight.data, hessians[name], 4, 32))
        found[part] = left(ours, names, 4, model, kept_back)

    def evenness(hessian: Hessian) -> float:
        """Return the geometric over the arithmetic mean of the eigenvalues."""
        values = torch.linalg.eigvalsh(damped(hessian, 0.01))
        return float(values.log().mean().exp() / values.mean())

    outputs = impl.output_hessians(model, batches(seen), lambda output: output.logits)
    both = [outputs[name] for name in linears if "gate_proj" in name or "up_proj" in name]
    found |= {f"inputs{n}gate": evenness(hessians[f"model.layers{n}mlp.gate_proj"]) for n in (".0.", ".4.")}
    found |= {"outputs, least": min(map(evenness, both)), "outputs, most": max(map(evenness, both))}
    print({name: round(value, 3) for name, value in found.items()})  # noqa: T201 - with -s
    quoted = {".0.": 0.31, ".4.": 0.84, "v_proj": 0.36, "o_proj": 0.46, "gate_proj": 0.66, "up_proj": 0.66}
    quoted |= {"down_proj": 0.70, "inputs.0.gate": 0.33, "inputs.4.gate": 0.70, "outputs, least": 0.43}
    quoted |= {"outputs, most": 0.65}
    off = {name: value for name, value in quoted.items() if abs(found[name] - value) > NEAR}
    assert not off, f"the follow-up quotes {off}"


@pytest.mark.stretch
@pytest.mark.slow
@pytest.mark.parametrize(
    ("bits", "rounding", "most"),
    [
        (4, "gptq", 0.6),
        (3, "gptq_act_order", 0.6),
        (4, "refit", 0.5),
        (3, "refit", 0.5),
        (4, "both", 0.5),
        (3, "both", 0.5),
    ],
)
def test_tinylm_stays_nearer_to_float32(impl: ModuleType, device: str, bits: int, rounding: str, most: float) -> None:
    model, train, heldout = tinylm(device)
    ours = copy.deepcopy(model)
    how = {"both": {"logits": lambda output: output.logits}, "refit": {"rounding": impl.gptq_refit}}
    options = how.get(rounding) or {"rounding": getattr(impl, rounding)}
    names = list(impl.gptq_model(ours, batches(spread(train, 16)[0]), bits, 32, **options))
    found = left(ours, names, bits, model, heldout[::12])
    print(f"{bits} bits, {rounding}: {found:.3f} of plain rounding's divergence")  # noqa: T201 - with -s
    assert found < most, f"{bits} bits: the divergence is {found:.3f} of plain rounding's, wanted under {most}"


class Trained(nn.Module):
    """A linear layer whose codes and scales follow gradients: on the way back, rounding counts as the identity."""

    def __init__(self, weight: Tensor, codes: Tensor, qparams: QParams) -> None:
        super().__init__()
        self.qparams = qparams
        self.zero_point = self.wide(qparams.zero_point.float(), codes)
        self.logs = nn.Parameter(qparams.scale.log())
        steps = codes - self.zero_point
        # As near the float weight as each code allows: small moves flip some, and none flips at once.
        self.steps = nn.Parameter(steps + (weight / self.wide(qparams.scale, codes) - steps).clamp(-0.45, 0.45))

    def wide(self, of_groups: Tensor, like: Tensor) -> Tensor:
        return of_groups.repeat_interleave(self.qparams.group, 1)[:, : like.shape[1]]

    def forward(self, x: Tensor) -> Tensor:
        codes = (self.steps + self.zero_point).round().clamp(self.qparams.lowest, self.qparams.highest)
        steps = self.steps + (codes - self.zero_point - self.steps).detach()
        return F.linear(x, steps * self.wide(self.logs.exp(), steps))


@pytest.mark.stretch
@pytest.mark.slow
@pytest.mark.only("solution")
def test_what_training_the_codes_would_bring(impl: ModuleType, device: str) -> None:
    """Quantization-aware training from where refitting ends, towards the float model's predictions."""
    model, train, heldout = tinylm(device)
    ours = copy.deepcopy(model)
    found = impl.gptq_model(ours, batches(spread(train, 64)[0]), 4, 32, impl.gptq_refit)
    before = left(ours, list(found), 4, model, heldout[::12])
    ours.requires_grad_(requires_grad=False)
    for name, (codes, qparams) in found.items():
        ours.set_submodule(name, Trained(model.get_parameter(f"{name}.weight").data, codes, qparams))
    layers = [module for module in ours.modules() if isinstance(module, Trained)]
    adam = torch.optim.Adam(
        [{"params": [m.steps for m in layers], "lr": 2e-3}, {"params": [m.logs for m in layers], "lr": 1e-4}],
        betas=(0.9, 0.95),
    )
    count = 300
    rate = torch.optim.lr_scheduler.LambdaLR(adam, lambda at: min(1, (at + 1) / 20) * (1 - at / count))
    draw = torch.Generator().manual_seed(0)
    for _ in range(count):
        ids = train[torch.randint(len(train), (4,), generator=draw).to(train.device)]
        with torch.no_grad():
            wanted = model(input_ids=ids).logits.log_softmax(-1)
        lost = F.kl_div(ours(input_ids=ids).logits.log_softmax(-1), wanted, log_target=True, reduction="sum")
        adam.zero_grad()
        (lost / ids.numel()).backward()
        adam.step()
        rate.step()
    after = left(ours, list(found), 4, model, heldout[::12])
    print(f"refitted {before:.3f}, trained on {count * 2048} tokens {after:.3f}")  # noqa: T201 - with -s
    assert abs(before - 0.43) < NEAR
    assert abs(after - 0.37) < NEAR
