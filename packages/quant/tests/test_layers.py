"""Layers with codes in models that are cast, moved, loaded, and that look at their layers."""

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from transformers import T5Config, T5EncoderModel
from transformers.modeling_outputs import CausalLMOutput

from quant import Int4Linear, Int8Linear, Policy, StaticInt8Linear, calibrate, quantize_model
from quant.layers import CodedLinear
from quant.schemes import SOLUTIONS, Tokens, _rounded, find, layers, ranges

Make = Callable[[nn.Linear], CodedLinear]
KINDS: dict[str, Make] = {
    "int8": Int8Linear.from_float,
    "static": lambda linear: StaticInt8Linear.from_float(linear, (-4.0, 4.0)),
    "int4": Int4Linear.from_float,
    "packed": lambda linear: _rounded(linear, 5, 32, SOLUTIONS),
}


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Make:
    return KINDS[request.param]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def linear(size: float = 1.0) -> nn.Linear:
    made = nn.Linear(64, 32)
    made.weight.data = normal(32, 64) * size
    made.bias.data = normal(32, seed=1) * size
    return made.eval()


def off(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).detach().norm() / wanted.detach().norm())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("rows", [1, 20])
def test_a_cast_leaves_small_scales_what_they_are(make: Make, rows: int, dtype: torch.dtype) -> None:
    """A weight of 1e-4 has a scale of 1e-6, of which float16 holds four bits."""
    made, x = make(linear(1e-4)), normal(rows, 64)
    wanted = made(x)
    assert off(made.to(dtype).float()(x), wanted) < 0.01
    assert made.bias.dtype == torch.float32


def test_what_is_loaded_in_inference_mode_counts(make: Make) -> None:
    with torch.inference_mode():
        first, second, x = make(linear()), make(linear(2.0)), normal(20, 64)
        wanted = second(x)
        first(x)
        first.load_state_dict(second.state_dict())
        assert torch.equal(first(x), wanted), "the layer answers with the weights that it had before"


def test_whoever_looks_sees_a_float_layer(make: Make) -> None:
    float_layer = linear()
    made = make(float_layer)
    assert (made.in_features, made.out_features) == (64, 32)
    assert made.weight.shape == (32, 64)
    assert off(made.weight, float_layer.weight) < 0.12
    assert torch.equal(made.weight, made.dequantized())
    assert made.half().weight.dtype == torch.float16
    assert "weight" not in made.state_dict()


class Two(nn.Module):
    """Two layers of one kind, so that a graph has to tell them apart."""

    def __init__(self, make: Make) -> None:
        super().__init__()
        self.first = make(linear())
        self.second = make(nn.Linear(32, 64))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(torch.relu(self.first(x)))
        return y


@pytest.mark.parametrize("rows", [1, 40])
def test_a_compiled_model_is_one_graph_with_the_same_kernels(make: Make, rows: int) -> None:
    torch.compiler.reset()
    model, x = Two(make).eval(), normal(rows, 64)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    wanted = model(x)
    assert torch.equal(compiled(x), wanted)
    assert torch.equal(compiled(x.clone().requires_grad_()), wanted)
    twin = copy.deepcopy(model)
    bias: Any = twin.first.bias
    twin.first.bias = bias + 1
    changed = torch.compile(twin, fullgraph=True, backend="aot_eager")(x)
    assert torch.equal(changed, twin(x))
    assert not torch.equal(changed, wanted), "the copy's graph calls the layers of the original"


def test_an_exported_model_needs_nothing_of_ours(make: Make) -> None:
    model, x = Two(make).eval(), normal(5, 64)
    exported = torch.export.export(model, (x,))
    assert not [node for node in exported.graph.nodes if "quant." in str(node.target)]
    assert off(exported.module()(x), model(x)) < 0.02


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("rows", [1, 20])
def test_what_has_no_memory_is_not_read(make: Make, rows: int) -> None:
    """A kernel that takes addresses would end the process, or leave what was in memory by chance in a trace."""
    made, x, other = make(linear()), normal(rows, 64), normal(rows, 64, seed=3)
    made(x)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert isinstance(made(mode.from_tensor(x)), FakeTensor)
    for name, found in {
        "make_fx": make_fx(made)(x)(other),
        "functionalize": torch.func.functionalize(made)(other),
        "vmap": torch.vmap(made)(other),
        "negative view": made(torch._neg_view(-other)),  # noqa: SLF001
    }.items():
        assert off(found, made(other)) < 0.02, name
    with contextlib.suppress(RuntimeError):  # torch's own, for codes that are looked at as other bytes
        assert off(torch.jit.trace(made, x)(other), made(other)) < 0.02, "jit.trace"
    assert torch.allclose(made(torch._efficientzerotensor((rows, 64))), made.bias.expand(rows, -1), atol=1e-6)  # noqa: SLF001


def test_t5_asks_for_the_dtype_of_a_weight() -> None:
    torch.manual_seed(0)
    config = T5Config(vocab_size=50, d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2)
    model, ids = T5EncoderModel(config).eval(), torch.arange(10)[None]
    with torch.no_grad():
        wanted = model(ids).last_hidden_state
        assert off(find("int8-dynamic")(model, [])(ids).last_hidden_state, wanted) < 0.02


def test_torchs_encoder_reads_the_weights_itself() -> None:
    torch.manual_seed(0)
    model, x = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True).eval(), normal(2, 5, 32)
    with torch.no_grad():
        wanted = model(x)
        quantize_model(model, Policy())
        assert isinstance(model.get_submodule("linear1"), Int8Linear)
        assert off(model(x), wanted) < 0.02


class Twice(nn.Module):
    """A layer under two names, attention that reads a weight, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.LayerNorm(32)
        self.first = nn.Linear(32, 32)
        self.attention = nn.MultiheadAttention(32, 2, batch_first=True)
        self.drop = nn.Dropout(0.5)
        self.second = self.first
        self.last = nn.Linear(32, 32)

    def forward(self, x: Tensor) -> CausalLMOutput:
        x = x + self.first(self.norm(x))
        x = x + self.attention(x, x, x)[0]
        return CausalLMOutput(logits=self.last(self.drop(self.second(self.norm(x)))))


SCHEMES = ("int8-dynamic", "int8-static", "smooth-dynamic", "int4-g32", "rtn4-g32", "gptq4-g32", "awq4-g32", "mixed-5")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_swaps_whole_layers_and_leaves_attention_alone(scheme: str) -> None:
    batches: list[Tokens] = [{"x": normal(2, 8, 32, seed=seed)} for seed in range(3)]
    model = Twice().eval()
    with torch.no_grad():
        wanted = model(**batches[0]).logits
        made = find(scheme)(model, batches)
        found = made(**batches[0]).logits
    assert made.first is made.second, "one layer has become two"
    assert not isinstance(made.first, nn.Linear)
    assert type(made.last) is type(made.first)
    assert isinstance(made.get_submodule("attention.out_proj"), nn.Linear)
    assert off(found, wanted) < 0.15


def test_layers_keep_their_mode() -> None:
    model = Twice()
    model.last.eval()
    quantize_model(model, Policy())
    assert model.first.training
    assert not model.last.training


def test_two_layers_of_one_weight_go_on_sharing_it() -> None:
    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32, bias=False))
    model[1].weight = model[0].weight
    quantize_model(model, Policy())
    first, second = (model.get_submodule(name) for name in "01")
    assert first.codes is second.codes
    assert second.bias is None


@pytest.mark.parametrize("watch", [calibrate, ranges])
def test_inputs_are_watched_as_in_use(watch: Any) -> None:
    model = Twice()
    model.norm.eval()
    found = watch(model, [{"x": normal(2, 8, 32)}])
    assert set(found) >= {"first", "second", "last"}
    assert model.drop.training
    assert not model.norm.training, "modes are not what they were"
    model.eval()
    assert found == watch(model, [{"x": normal(2, 8, 32)}]), "dropout was on"


@pytest.mark.parametrize("at", [0, 1])
def test_nan_in_a_batch_is_refused(at: int) -> None:
    batches = [{"x": normal(2, 8, 32)} for _ in range(2)]
    batches[at]["x"][0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"first.*NaN"):
        calibrate(Twice(), batches)


def test_layers_are_named_once_and_subclasses_left_out() -> None:
    assert list(layers(Twice())) == ["first", "last"]
    with pytest.raises(ValueError, match="no linear layer to quantize: 1 are subclasses"):
        layers(nn.MultiheadAttention(8, 2))


def test_a_layer_that_cannot_be_quantized_is_named() -> None:
    model = Twice()
    model.last.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"last.*NaN"):
        quantize_model(model, Policy())


class Experts(nn.Module):
    """Tokens go to the first or the second of two layers; the third is never asked, the fourth has one output."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.experts = nn.ModuleList(nn.Linear(32, 32) for _ in range(3))
        self.gate = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> CausalLMOutput:
        where = x[:, 0] > 0
        y = torch.zeros_like(x)
        y[where], y[~where] = self.experts[0](x[where]), self.experts[1](x[~where])
        self.experts[2](x[:0])
        return CausalLMOutput(logits=y * torch.sigmoid(self.gate(x)))


@pytest.mark.parametrize("scheme", ["int8-static", "gptq4-g32", "gptq3-g32-refit", "mixed-5"])
def test_experts_without_tokens_and_layers_of_one_output(scheme: str) -> None:
    batches: list[Tokens] = [{"x": normal(20, 32, seed=seed)} for seed in range(3)]
    batches.append({"x": normal(20, 32).abs()})  # nothing for the second
    model = Experts().eval()
    if scheme == "int8-static":
        with pytest.raises(ValueError, match=r"no range.*experts\.2"):
            find(scheme)(model, batches)
        return
    with torch.no_grad():
        wanted = model(**batches[0]).logits
        assert off(find(scheme)(model, batches)(**batches[0]).logits, wanted) < 0.25


def test_widths_of_a_classifier_are_chosen_by_its_divergence() -> None:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.body, self.head = nn.Linear(32, 32), nn.Linear(32, 5)

        def forward(self, x: Tensor) -> CausalLMOutput:
            return CausalLMOutput(logits=4 * self.head(torch.relu(self.body(x))))

    batches: list[Tokens] = [{"x": normal(20, 32, seed=seed)} for seed in range(3)]
    with torch.no_grad():
        wanted = Classifier()(**batches[0]).logits
        lost = [
            off(find(name)(Classifier(), batches)(**batches[0]).logits, wanted) for name in ("mixed-9.2", "mixed-4.7")
        ]
    assert lost[0] < 0.02, f"with room for 8 bits everywhere {lost[0]:.1%} are lost"
    assert lost[0] < lost[1]


def test_buffers_that_move_under_the_layer_are_noticed(make: Make) -> None:
    """Sharing memory and ``.data`` keep the tensor and its count of writes, and the old place is somebody else's."""
    made, x = make(linear()), normal(5, 64)
    wanted = made(x)
    made.share_memory()
    junk = [torch.full((2048,), 77, dtype=torch.int8) for _ in range(32)] + [torch.full((32,), 77.0) for _ in range(32)]
    assert torch.equal(made(x), wanted)
    del junk
    other: Any = make(linear(2.0))
    for name, buffer in made.named_buffers():
        buffer.data = getattr(other, name)
    assert torch.equal(made(x), other(x)), "the layer answers with what its buffers were"


def test_what_was_made_is_dropped_when_the_layer_moves(make: Make) -> None:
    made = make(linear())
    made(normal(5, 64))
    made.to("meta")
    assert not made._made, "layouts of weights that are elsewhere are kept"  # noqa: SLF001


def test_codes_are_never_cast(make: Make) -> None:
    made, x = make(linear()), normal(5, 64)
    wanted = made(x)
    assert off(made.type(torch.float16)(x), wanted) < 0.01
    assert {t.dtype for n, t in made.named_buffers() if n in ("codes", "packed")} <= {torch.int8, torch.uint8}


def test_codes_that_are_loaded_as_something_else_are_refused() -> None:
    made = Int8Linear.from_float(linear())
    made.load_state_dict({n: t.int() if n == "codes" else t for n, t in made.state_dict().items()}, assign=True)
    with pytest.raises(TypeError, match="int32"):
        made(normal(2, 64))


def test_zero_points_may_be_any_byte() -> None:
    made = Int4Linear.from_float(linear())
    made.zero_point.fill_(-20)
    for rows in (1, 20):
        assert off(made(normal(rows, 64)), made.in_floats(normal(rows, 64))) < 0.02


def test_integers_and_other_widths_are_refused(make: Make) -> None:
    with pytest.raises(TypeError, match="int64"):
        make(linear())(torch.ones(2, 64, dtype=torch.int64))
    with pytest.raises(ValueError, match="64"):
        make(linear())(torch.ones(2, 63))


def test_a_bias_may_become_a_parameter(make: Make) -> None:
    made, x = make(linear()), normal(3, 64)
    wanted = made(x)
    made.bias = nn.Parameter(made.bias + 1)
    found = made(x)
    assert torch.allclose(found, wanted + 1, atol=1e-5)
    assert not found.requires_grad


def test_a_replica_has_a_graph_of_its_own(make: Make) -> None:
    torch.compiler.reset()
    made, x = make(linear()), normal(3, 64)
    replica = made._replicate_for_data_parallel()  # noqa: SLF001
    replica._buffers["bias"] = made.bias + 1  # noqa: SLF001
    assert torch.equal(torch.compile(replica, backend="aot_eager")(x), replica(x))


def test_blocks_that_are_compiled_one_by_one_share_a_graph(make: Make) -> None:
    torch.compiler.reset()
    blocks = [nn.Sequential(make(nn.Linear(32, 32)), nn.ReLU()) for _ in range(12)]
    wanted = found = normal(3, 32)
    for each in blocks:
        wanted = each(wanted)
    for each in blocks:
        each.compile(fullgraph=True, backend="aot_eager")
        found = each(found)
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_floats_are_exported(make: Make, dtype: torch.dtype) -> None:
    made, x = make(linear()).to(dtype), normal(5, 64).to(dtype)
    found = torch.export.export(made, (x,)).module()(x)
    assert found.dtype == dtype
    assert off(found.float(), made(x).float()) < 0.02
