"""What every implementation of ``quant.smoothing`` has to do."""

import copy
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quant.affine.solution import choose_qparams, dequantize, quantize
from quant.int8 import Policy
from quant.int8.solution import calibrate, quantize_model
from quant.smoothing import Group, Rescaled

OURS = pytest.mark.only("starter", "solution")
HIDDEN, PLANTED = 32, (3, 17)


class RMSNorm(nn.Module):
    """As in the Llama family; with ``offset`` as in Gemma's, whose output is not linear in its weight."""

    def __init__(self, size: int, *, offset: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size) - offset)
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * (self.offset + self.weight)


class Block(nn.Module):
    """One transformer block; ``post`` puts the norms behind the residuals, as BERT does."""

    def __init__(self, norm: Callable[[int], nn.Module], *, post: bool, tied: bool) -> None:
        super().__init__()
        self.post = post
        self.embed = nn.Embedding(40, HIDDEN)
        self.attention_norm, self.mlp_norm, self.last_norm = (norm(HIDDEN) for _ in range(3))
        self.q, self.k, self.v = (nn.Linear(HIDDEN, HIDDEN) for _ in range(3))
        self.o = nn.Linear(HIDDEN, HIDDEN)
        self.gate, self.up = (nn.Linear(HIDDEN, 48, bias=False) for _ in range(2))
        self.drop = nn.Dropout(0.1)
        self.down = nn.Linear(48, HIDDEN)
        self.head = nn.Linear(HIDDEN, 40, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def attend(self, x: Tensor) -> Tensor:
        y: Tensor = self.o(F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x)))
        return y

    def mlp(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(self.drop(F.silu(self.gate(x)) * self.up(x)))
        return y

    def forward(self, ids: Tensor) -> Tensor:
        x: Tensor = self.embed(ids)
        if self.post:
            x = self.attention_norm(x)
            x = self.mlp_norm(x + self.attend(x))
            x = self.last_norm(x + self.mlp(x))
        else:
            x = x + self.attend(self.attention_norm(x))
            x = self.last_norm(x + self.mlp(self.mlp_norm(x)))
        y: Tensor = self.head(x)
        return y


def block(
    norm: Callable[[int], nn.Module] = nn.LayerNorm, *, post: bool = False, tied: bool = False, planted: float = 40.0
) -> Block:
    """Make a block whose norms write two channels ``planted`` times larger, and whose layers weigh them as much less.

    Those layers compute what they would have computed without.
    """
    torch.manual_seed(0)
    model = Block(norm, post=post, tied=tied).eval()
    with torch.no_grad():
        for each in (model.attention_norm, model.mlp_norm):
            for parameter in each.parameters():
                parameter.add_(torch.randn(HIDDEN) / 10)
                parameter[list(PLANTED)] *= planted
        for layer in (model.q, model.k, model.v, model.gate, model.up):
            layer.weight[:, list(PLANTED)] /= planted
    return model


def batches(count: int = 3, device: str = "cpu") -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [{"ids": torch.randint(0, 40, (4, 10), generator=generator).to(device)} for _ in range(count)]


@torch.no_grad()
def answers(model: nn.Module, some: list[dict[str, Tensor]]) -> Tensor:
    return torch.cat([model(**batch) for batch in some])


def far(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def assert_same_function(model: nn.Module, wanted: Tensor, some: list[dict[str, Tensor]], what: str) -> None:
    off = far(answers(model, some), wanted)
    assert off < 1e-5, f"{what} changed the model's output by {off:.2g} of its size; float32 rounding explains 1e-5"


def test_the_largest_input_of_each_channel(impl: ModuleType, device: str) -> None:
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 4)).to(device)
    model[0].weight.data = torch.tensor([[1.0, 0.0, 0.0], [0.0, -2.0, 0.0]], device=device)
    some = [
        {"input": torch.tensor([[[1.0, -5.0, 0.5]], [[-3.0, 2.0, 0.1]]], device=device)},
        {"input": torch.tensor([[[2.0, 1.0, -0.25]]], device=device)},
    ]
    found = {name: values.tolist() for name, values in impl.largest_inputs(model, some).items()}
    assert found == {"0": [3.0, 5.0, 0.5], "1": [3.0, 10.0]}, f"largest magnitudes over both batches: {found}"


def test_watching_leaves_no_hooks(impl: ModuleType, device: str) -> None:
    model = block().to(device)
    impl.largest_inputs(model, batches(1, device))
    left = [name for name, module in model.named_modules() if module._forward_pre_hooks]  # noqa: SLF001
    assert not left, f"the hooks of {left} are still there"


@pytest.mark.parametrize(("alpha", "wanted"), [(0.5, [4.0, 0.5]), (1.0, [8.0, 0.25]), (0.0, [2.0, 1.0])])
def test_factors_split_the_range(impl: ModuleType, device: str, alpha: float, wanted: list[float]) -> None:
    weight = torch.tensor([[0.25, -1.0], [-0.5, 0.5], [0.1, 0.0]], device=device)
    found = impl.smoothing_factors(torch.tensor([8.0, 0.25], device=device), [weight], alpha)
    assert found.dtype == torch.float32
    assert torch.allclose(found.cpu(), torch.tensor(wanted)), (
        f"inputs up to 8 and 0.25, columns up to 0.5 and 1, alpha {alpha}: {found.tolist()}, wanted {wanted}"
    )


def test_layers_that_share_an_input_share_factors(impl: ModuleType, device: str) -> None:
    small, large = torch.full((2, 2), 0.01, device=device), torch.tensor([[4.0, 0.0], [0.0, 1.0]], device=device)
    found = impl.smoothing_factors(torch.tensor([1.0, 1.0], device=device), [small, large])
    assert torch.allclose(found.cpu(), torch.tensor([0.5, 1.0])), f"columns up to 4 and 1 in either: {found.tolist()}"


@pytest.mark.known("peer_torchao", reason="a dead channel gets a factor near zero or far above one")
def test_a_dead_channel_is_left_alone(impl: ModuleType, device: str) -> None:
    weight = torch.tensor([[1.0, 0.0, 1.0, 1.0]], device=device)
    largest = torch.tensor([0.0, 1.0, 4.0, 1e-9], device=device)
    found = impl.smoothing_factors(largest, [weight]).tolist()
    assert found == [1.0, 1.0, 2.0, 1.0], f"dead inputs 0 and 3, dead column 1: factors {found}"


@pytest.mark.parametrize("previous", [nn.LayerNorm, RMSNorm, lambda n: nn.Linear(5, n)], ids=["layer", "rms", "linear"])
def test_a_fold_moves_range_and_changes_nothing(
    impl: ModuleType, device: str, previous: Callable[[int], nn.Module]
) -> None:
    torch.manual_seed(0)
    before = previous(6)
    for parameter in before.parameters():
        parameter.data += torch.rand(parameter.shape)
    before, layers = before.to(device), [nn.Linear(6, 4).to(device), nn.Linear(6, 3, bias=False).to(device)]
    x = torch.randn(7, 5 if isinstance(before, nn.Linear) else 6, device=device)
    factors = torch.tensor([0.5, 3.0, 1.0, 7.0, 0.1, 2.0], device=device)
    with torch.no_grad():
        written, wanted = before(x), [layer(before(x)) for layer in layers]
        impl.fold(before, layers, factors)
        assert torch.allclose(before(x), written / factors, atol=1e-6), "what comes before is not divided"
        for layer, y in zip(layers, wanted, strict=True):
            assert torch.allclose(layer(before(x)), y, atol=1e-5), "the layer's output has changed"


@pytest.mark.parametrize("norm", [nn.LayerNorm, RMSNorm])
def test_a_norm_before_its_layers_is_found(impl: ModuleType, device: str, norm: Callable[[int], nn.Module]) -> None:
    found = impl.find_groups(block(norm).to(device), batches(1, device)[0])
    by_norm = {group.previous: (set(group.layers), group.shared) for group in found if "norm" in group.previous}
    wanted = {
        "attention_norm": ({"q", "k", "v"}, False),
        "mlp_norm": ({"gate", "up"}, False),
        "last_norm": ({"head"}, False),
    }
    assert by_norm == wanted, f"found {by_norm}"


def test_a_norm_that_a_residual_reads_is_shared(impl: ModuleType, device: str) -> None:
    found = impl.find_groups(block(post=True).to(device), batches(1, device)[0])
    shared = {group.previous: group.shared for group in found if "norm" in group.previous}
    wanted = {"attention_norm": True, "mlp_norm": True, "last_norm": False}
    assert shared == wanted, f"a residual reads what the first two norms write; found shared: {shared}"


class Answers(nn.Module):
    """A norm and a layer that reads it, and whatever ``answer`` makes of both outputs."""

    def __init__(self, answer: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.up, self.answer = nn.LayerNorm(16), nn.Linear(16, 8), answer

    def forward(self, x: Tensor) -> object:
        h = self.norm(x)
        return self.answer(self.up(h), h)


QUIET: dict[str, Callable[[Tensor, Tensor], object]] = {
    "a ten-thousandth of it": lambda y, h: torch.cat([y, 1e-4 * h], 1),
    "its first channel": lambda y, h: torch.cat([y, h[:, :1]], 1),
    "its last channel": lambda y, h: torch.cat([y, h[:, -1:]], 1),
}


@pytest.mark.parametrize("what", QUIET)
def test_whoever_reads_a_norm_however_quietly_shares_it(impl: ModuleType, device: str, what: str) -> None:
    batch = {"x": torch.randn(4, 16, generator=torch.Generator().manual_seed(0)).to(device)}
    found = impl.find_groups(Answers(QUIET[what]).to(device).eval(), batch)
    assert found == [Group("norm", ("up",), shared=True)], f"the model answers with {what} too; found {found}"


@pytest.mark.only("solution")
@pytest.mark.parametrize("answer", [lambda y, h: (y, h), lambda y, h: {"up": y, "norm": h}], ids=["tuple", "dict"])
def test_every_tensor_of_an_answer_counts(impl: ModuleType, device: str, answer: Callable[..., object]) -> None:
    found = impl.find_groups(Answers(answer).to(device).eval(), {"x": torch.randn(4, 16, device=device)})
    assert found == [Group("norm", ("up",), shared=True)]


def test_a_tied_head_is_in_no_group(impl: ModuleType, device: str) -> None:
    found = impl.find_groups(block(tied=True).to(device), batches(1, device)[0])
    assert all("head" not in group.layers for group in found), "scaling the head would scale the embedding"


def test_a_norm_that_adds_one_to_its_weight_is_not_folded(impl: ModuleType, device: str) -> None:
    model = block(lambda size: RMSNorm(size, offset=1.0), planted=1.0).to(device)
    found = impl.find_groups(model, batches(1, device)[0])
    foldable = [group.previous for group in found if "norm" in group.previous and not group.shared]
    assert not foldable, f"dividing the weight of {foldable} does not divide the output: it is x * (1 + weight)"


@pytest.mark.only("solution")
def test_a_model_that_fails_has_no_hooks_left(impl: ModuleType, device: str) -> None:
    model = block().to(device)
    for call in (impl.largest_inputs, impl.smooth, lambda model, some: impl.find_groups(model, some[0])):
        with pytest.raises(TypeError, match="wrong"):
            call(model, [{"wrong": batches(1, device)[0]["ids"]}])
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())  # noqa: SLF001
        assert not any(module.training for module in model.modules()) or model.training


def test_looking_for_groups_changes_nothing(impl: ModuleType, device: str) -> None:
    model = block(post=True).to(device)
    before = copy.deepcopy(model.state_dict())
    impl.find_groups(model, batches(1, device)[0])
    changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert not changed, f"{changed} were changed"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())  # noqa: SLF001


@pytest.mark.parametrize("post", [False, True], ids=["pre-norm", "post-norm"])
@pytest.mark.parametrize("norm", [nn.LayerNorm, RMSNorm])
def test_smoothing_keeps_the_function(
    impl: ModuleType, device: str, norm: Callable[[int], nn.Module], post: bool
) -> None:
    model, some = block(norm, post=post).to(device), batches(device=device)
    wanted = answers(model, some)
    for alpha in (0.5, 0.8):
        smoothed = copy.deepcopy(model)
        assert impl.smooth(smoothed, some, alpha) is smoothed, "the model comes back itself, changed in place"
        assert_same_function(smoothed, wanted, some, f"smoothing with alpha {alpha}")
    assert isinstance(smoothed.q, Rescaled if post else nn.Linear)


@pytest.mark.parametrize("post", [False, True], ids=["pre-norm", "post-norm"])
def test_planted_outliers_cost_little_after_smoothing(impl: ModuleType, device: str, post: bool) -> None:
    """An 8-bit model with outliers in two of 32 channels comes close to one that never had them."""
    some = batches(6, device)
    seen, judged = some[:4], some[4:]
    errors: dict[tuple[str, str], float] = {}
    for kind in ("dynamic", "static"):
        for what, planted in (("plain", 40.0), ("smoothed", 40.0), ("never", 1.0)):
            model = block(post=post, planted=planted).to(device)
            wanted = answers(model, judged)
            if what == "smoothed":
                impl.smooth(model, seen)
            policy = Policy(skip=("head",), activations=kind)
            done = quantize_model(model, policy, calibrate(model, seen))
            errors[what, kind] = far(answers(done, judged), wanted)
        gain = errors["plain", kind] / errors["smoothed", kind]
        assert gain > 4, f"{kind} W8A8 with outliers of 40x: smoothing divides the error by {gain:.2g}, wanted over 4"
    if not post:
        left = errors["smoothed", "dynamic"] / errors["never", "dynamic"]
        assert left < 2, f"smoothed, the error is {left:.2g} times that of a model that never had outliers"


def test_more_alpha_moves_more(impl: ModuleType, device: str) -> None:
    some = batches(device=device)
    spread = []
    for alpha in (0.0, 0.5, 1.0):
        model = impl.smooth(block().to(device), some, alpha)
        largest = impl.largest_inputs(model, some)["q"]
        spread.append(float(largest.max() / largest.min()))
    assert spread[2] == pytest.approx(1, rel=1e-3), f"with alpha 1 all channels have one range, not {spread[2]:.3g}:1"
    assert spread[0] > spread[1] > spread[2], f"range of channels for alpha 0, 0.5 and 1: {spread}"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_models_keep_their_dtype(impl: ModuleType, device: str, dtype: torch.dtype) -> None:
    model, some = block().to(device), batches(device=device)
    wanted = answers(model, some)
    model = impl.smooth(model.to(dtype), some)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    off = far(answers(model, some).float(), wanted)
    assert off < 0.03, f"the output of the {dtype} model is {off:.2g} off"


@OURS
def test_a_model_in_training_mode_stays_so_and_is_watched_without_dropout(impl: ModuleType, device: str) -> None:
    model = block().to(device).train()
    found = impl.find_groups(model, batches(1, device)[0])
    assert sum(not group.shared for group in found) >= 3, f"{found}: dropout made the output change"
    assert all(module.training for module in model.modules())


@OURS
def test_inputs_are_watched_without_dropout_and_each_mode_comes_back(impl: ModuleType, device: str) -> None:
    model = block().to(device).eval()
    wanted = impl.largest_inputs(model, batches(1, device))
    model.train()
    model.mlp_norm.eval()
    found = impl.largest_inputs(model, batches(1, device))
    assert all(torch.equal(found[name], wanted[name]) for name in wanted), "dropout changed what was seen"
    still = [name for name, module in model.named_children() if not module.training]
    assert still == ["mlp_norm"], f"in training mode but mlp_norm before; now {still} are not"


@OURS
def test_batches_may_come_one_by_one(impl: ModuleType, device: str) -> None:
    model = block().to(device)
    some = batches(3, device)
    once = impl.smooth(copy.deepcopy(model), iter(some))
    wanted = impl.smooth(model, some).state_dict()
    for name, tensor in once.state_dict().items():
        assert torch.equal(tensor, wanted[name]), f"{name} depends on whether batches are a list or an iterator"


@OURS
def test_bad_input_is_refused(impl: ModuleType, device: str) -> None:
    largest, weight = torch.ones(3, device=device), torch.ones(2, 3, device=device)
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="alpha"):
            impl.smoothing_factors(largest, [weight], alpha)
    for given in ([], [weight[:, :2]], [weight[0]]):
        with pytest.raises(ValueError, match=r"(?i)shape|dim|weight|largest|[(\[]\d"):
            impl.smoothing_factors(largest, given)
    with pytest.raises(ValueError, match=r"(?i)nan|inf|finite"):
        impl.smoothing_factors(largest * float("inf"), [weight])
    layer = nn.Linear(3, 2, device=device)
    for previous, factors in ((nn.LayerNorm(4, device=device), largest), (nn.ReLU(), largest)):
        with pytest.raises(ValueError, match=r"(?i)factors|shape|weight|\b[34]\b"):
            impl.fold(previous, [layer], factors)
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"(?i)positive|factor"):
            impl.fold(nn.LayerNorm(3, device=device), [layer], largest * wrong)
    with pytest.raises(ValueError, match="batch"):
        impl.smooth(block(), [])
    with pytest.raises(ValueError, match="batch"):
        impl.largest_inputs(block(), [])
    with pytest.raises(ValueError, match="alpha"):
        impl.smooth(block(), batches(1), 2)
    with pytest.raises(ValueError, match=r"(?i)group|layer|norm"):
        impl.smooth(nn.Sequential(nn.Linear(4, 4)), [{"input": torch.ones(1, 4)}])


@pytest.mark.stretch
@pytest.mark.known("baseline", reason="looks at norms only")
def test_a_linear_layer_before_another_is_found(impl: ModuleType, device: str) -> None:
    found = impl.find_groups(block().to(device), batches(1, device)[0])
    pairs = [group for group in found if "norm" not in group.previous]
    wanted = [Group("v", ("o",), shared=False), Group("up", ("down",), shared=False)]
    assert pairs == wanted, f"v and o, up and down have only products and weighted sums between them; found {pairs}"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_a_bound_that_the_batch_does_not_reach_is_no_place_to_fold(impl: ModuleType, device: str) -> None:
    """Other text would reach it."""
    model = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16), nn.Hardtanh(-50, 50), nn.Linear(16, 4)).to(device).eval()
    batch = {"input": torch.randn(8, 16, generator=torch.Generator().manual_seed(0)).to(device)}
    folded = [group.previous for group in impl.find_groups(model, batch)]
    assert folded == ["0"], f"{folded} are folded; what 1 writes would be clipped elsewhere"


@pytest.mark.stretch
@OURS
def test_a_linear_layer_before_a_gelu_is_not(impl: ModuleType, device: str) -> None:
    relu, gelu = (
        nn.Sequential(nn.Linear(8, 8), between, nn.Linear(8, 4)).to(device) for between in (nn.ReLU(), nn.GELU())
    )
    batch = {"input": torch.randn(50, 8, device=device)}
    assert impl.find_groups(relu, batch) == [Group("0", ("2",), shared=False)], "ReLU lets a positive factor through"
    assert impl.find_groups(gelu, batch) == [], "GELU lets no factor through"


def rounded(model: nn.Module, bits: int) -> nn.Module:
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and name != "head":
            qparams = choose_qparams(layer.weight.data, bits, False, 16)
            layer.weight.data = dequantize(quantize(layer.weight.data, qparams), qparams)
    return model


@pytest.mark.stretch
@pytest.mark.parametrize("post", [False, True], ids=["pre-norm", "post-norm"])
@pytest.mark.parametrize("bits", [3, 4])
def test_awq_protects_the_channels_that_matter(impl: ModuleType, device: str, bits: int, post: bool) -> None:
    some = batches(6, device)
    model = block(post=post, planted=8.0).to(device)
    for layer in (model.q, model.k, model.v, model.gate, model.up):
        layer.weight.data[:, list(PLANTED)] *= 8  # large inputs that meet weights as large as all others
    wanted = answers(model, some[4:])
    plain = far(answers(rounded(copy.deepcopy(model), bits), some[4:]), wanted)
    found = copy.deepcopy(model)
    assert impl.awq(found, some[:4], bits, 16) is found
    assert_same_function(found, wanted, some[4:], "awq")
    helped = far(answers(rounded(found, bits), some[4:]), wanted)
    assert helped < 0.8 * plain, (
        f"{bits} bits: {plain:.3g} off when rounded, {helped:.3g} after awq: less than a fifth better"
    )


@pytest.mark.stretch
@pytest.mark.parametrize("planted", [4.0, 30.0, 100.0])
def test_awq_takes_the_best_exponent_of_the_grid(impl: ModuleType, device: str, planted: float) -> None:
    """For one norm and one layer the whole search can be repeated by hand, with the activations kept."""
    torch.manual_seed(5)
    norm, linear = nn.LayerNorm(16, device=device), nn.Linear(16, 8, device=device)
    norm.weight.data[2] = planted
    x = torch.randn(64, 16, device=device)
    weight, written = linear.weight.data.clone(), norm(x).detach()
    errors = []
    for step in range(10):
        factors = written.abs().sum(0) ** (step / 10)
        factors = factors / (factors.max() * factors.min()).sqrt()
        qparams = choose_qparams(weight * factors, 3, False, 8)
        change = dequantize(quantize(weight * factors, qparams), qparams) / factors - weight
        errors.append((float((written @ change.T).square().sum()), factors))
    best, factors = min(errors, key=lambda pair: pair[0])
    assert errors[0][0] > 1.1 * best, "the case is too easy: exponent 0 is as good"
    impl.awq(nn.Sequential(norm, linear), [{"input": x}], bits=3, group=8, grid=10)
    found = (linear.weight.data / weight).median(0).values
    assert torch.allclose(found, factors, rtol=1e-3), "these are not the factors of the exponent that loses least"


@pytest.mark.stretch
def test_awq_without_a_choice_changes_nothing(impl: ModuleType, device: str) -> None:
    model = block().to(device)
    before = copy.deepcopy(model.state_dict())
    impl.awq(model, batches(1, device), grid=1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.stretch
@OURS
def test_bad_options_of_awq_are_refused(impl: ModuleType, device: str) -> None:
    for bits, group, grid in ((1, 8, 20), (9, 8, 20), (4, 0, 20), (4, 8, 0)):
        with pytest.raises(ValueError, match=r"bits|group|grid"):
            impl.awq(block(), batches(1), bits, group, grid)
    with pytest.raises(ValueError, match="batch"):
        impl.awq(block(), [])
