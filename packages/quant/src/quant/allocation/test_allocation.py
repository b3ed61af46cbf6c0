"""What every implementation of ``quant.allocation`` has to do."""

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from types import ModuleType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from quant.allocation import Allocation, Candidate, Format, rounded

OURS = pytest.mark.only("starter", "solution")
GREEDY = pytest.mark.known("baseline", reason="greedy steps are not always the best")
Problem = Mapping[str, Sequence[Candidate]]
EPS = 1e-9  # of the sum of the losses' magnitudes: HiGHS works in tolerances of its own


def problem(seed: int, layers: int, formats: int, most: int = 50) -> Problem:
    draw = random.Random(seed)  # noqa: S311

    def candidate(number: int) -> Candidate:
        return Candidate(f"{number + 2} bits", draw.randint(1, most), draw.choice([draw.random(), draw.randint(0, 4)]))

    return {f"layer.{i}": tuple(candidate(j) for j in range(formats)) for i in range(layers)}


def best(given: Problem, budget: int) -> tuple[float, int]:
    """Try everything."""
    sums = ((sum(c.loss for c in each), sum(c.size for c in each)) for each in itertools.product(*given.values()))
    return min(each for each in sums if each[1] <= budget)


def assert_consistent(found: Allocation, given: Problem, budget: int) -> None:
    assert set(found.chosen) == set(given), f"layers {sorted(found.chosen)}, wanted {sorted(given)}"
    picked = [next(c for c in given[name] if c.name == title) for name, title in found.chosen.items()]
    assert found.size == sum(c.size for c in picked), f"says {found.size} bytes, takes {sum(c.size for c in picked)}"
    assert found.loss == pytest.approx(sum(c.loss for c in picked), abs=1e-9)
    assert found.size <= budget, f"takes {found.size} bytes of {budget}"


@GREEDY
def test_greedy_is_not_always_best(impl: ModuleType) -> None:
    """The step that saves most per byte leaves 4 bytes that nothing fits."""
    given = {
        "a": (Candidate("small", 1, 10.0), Candidate("large", 7, 3.0)),
        "b": (Candidate("small", 1, 10.0), Candidate("large", 6, 4.5)),
        "c": (Candidate("small", 1, 10.0), Candidate("large", 6, 4.5)),
    }
    found = impl.allocate_bits(given, 13)
    assert_consistent(found, given, 13)
    assert found.loss == 19.0, f"b and c large lose 10 + 4.5 + 4.5 = 19 in 13 bytes, not {found.loss}: {found.chosen}"


@GREEDY
@pytest.mark.parametrize("layers", [3, 4, 5])
def test_nothing_is_better(impl: ModuleType, layers: int) -> None:
    for seed, tight in itertools.product(range(30), (0.15, 0.4, 0.7)):
        given = problem(seed, layers, 4)
        least, most = (sum(side(c.size for c in each) for each in given.values()) for side in (min, max))
        budget = int(least + tight * (most - least))
        found = impl.allocate_bits(given, budget)
        assert_consistent(found, given, budget)
        wanted = best(given, budget)[0]
        assert found.loss <= wanted + EPS * 4 * layers, (
            f"seed {seed}, {layers} layers, {budget} bytes: loses {found.loss:.6g}, {wanted:.6g} is possible"
        )


@pytest.mark.parametrize("seed", range(4))
def test_everything_fits_or_only_the_smallest(impl: ModuleType, seed: int) -> None:
    given = problem(seed, 6, 3)
    least = sum(min(c.size for c in each) for each in given.values())
    tight, loose = impl.allocate_bits(given, least), impl.allocate_bits(given, 10**12)
    assert_consistent(tight, given, least)
    assert tight.size == least
    assert loose.loss == pytest.approx(sum(min(c.loss for c in each) for each in given.values()), abs=1e-9)


def test_one_layer_one_candidate(impl: ModuleType) -> None:
    found = impl.allocate_bits({"only": [Candidate("4 bits", 12, 0.5)]}, 12)
    assert (found.chosen, found.size, found.loss) == ({"only": "4 bits"}, 12, 0.5)


def test_losses_may_be_negative_and_tiny(impl: ModuleType) -> None:
    """A rounded layer may happen to do better than the float one; and KL is often 1e-6."""
    given = {
        "a": (Candidate("2 bits", 1, 3e-9), Candidate("4 bits", 2, -2e-9)),
        "b": (Candidate("2 bits", 1, 5e-9), Candidate("4 bits", 2, 1e-9), Candidate("8 bits", 4, 2e-9)),
    }
    found = impl.allocate_bits(given, 100)
    assert found.chosen == {"a": "4 bits", "b": "4 bits"}, f"chose {found.chosen}"


@pytest.mark.only("starter", "solution", "peer_scipy")
@given(seed=st.integers(0, 10**6), layers=st.integers(1, 5), formats=st.integers(1, 4), tight=st.floats(0, 1))
def test_any_problem_is_solved_exactly(impl: ModuleType, seed: int, layers: int, formats: int, tight: float) -> None:
    some = problem(seed, layers, formats)
    least, most = (sum(side(c.size for c in each) for each in some.values()) for side in (min, max))
    budget = int(least + tight * (most - least))
    found = impl.allocate_bits(some, budget)
    assert_consistent(found, some, budget)
    assert found.loss <= best(some, budget)[0] + EPS * 4 * layers


@OURS
def test_of_equally_good_ones_the_smallest(impl: ModuleType) -> None:
    given = {"a": (Candidate("large", 9, 1.0), Candidate("small", 3, 1.0)), "b": (Candidate("x", 1, 0.0),)}
    found = impl.allocate_bits(given, 50)
    assert (found.chosen, found.size, found.loss) == ({"a": "small", "b": "x"}, 4, 1.0)


@OURS
def test_a_hundred_layers_are_exact_where_the_sum_tells(impl: ModuleType) -> None:
    """Losses that are powers of two fall with the bits: a budget between two grid points has one best answer."""
    given = {f"layer.{i}": tuple(Candidate(str(b), 1000 * b, 4.0**-b) for b in (2, 3, 4, 6, 8)) for i in range(100)}
    found = impl.allocate_bits(given, 350_000)
    wanted = 50 * 4.0**-3 + 50 * 4.0**-4  # the losses are convex in the bytes, so as even as can be
    assert found.loss == pytest.approx(wanted)


@OURS
@pytest.mark.parametrize(
    ("given", "budget", "words"),
    [
        ({}, 10, "layer"),
        ({"a": ()}, 10, r"\ba\b|candidates"),
        ({"a": (Candidate("x", -1, 0.0),)}, 10, r"size|-1"),
        ({"a": (Candidate("x", 1, float("nan")),)}, 10, r"loss|nan"),
        ({"a": (Candidate("x", 1, float("inf")),)}, 10, r"loss|inf"),
        ({"a": (Candidate("x", 6, 0.0),), "b": (Candidate("x", 5, 0.0),)}, 10, r"budget|\b1[01]\b"),
    ],
)
def test_what_cannot_be_allocated_is_refused(impl: ModuleType, given: Problem, budget: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        impl.allocate_bits(given, budget)


@pytest.mark.only("solution")
def test_any_number_is_a_budget_but_nan(impl: ModuleType) -> None:
    given = {"a": (Candidate("large", 9, 0.5), Candidate("small", 3, 1.0))}
    for budget in (10**30, float("inf")):
        assert impl.allocate_bits(given, budget).chosen == {"a": "large"}
    with pytest.raises(ValueError, match=r"budget.*nan"):
        impl.allocate_bits(given, float("nan"))


def test_a_budget_that_is_just_too_small(impl: ModuleType) -> None:
    if impl.__name__.endswith("baseline"):
        pytest.skip("a baseline need not refuse")
    given = problem(0, 3, 2)
    least = sum(min(c.size for c in each) for each in given.values())
    words = "infeasible" if impl.__name__.endswith("peer_scipy") else rf"budget|\b{least - 1}\b|\b{least}\b"
    with pytest.raises(ValueError, match=words):
        impl.allocate_bits(given, least - 1)


class OutOfTextError(Exception):
    """What a measure of loss raises: nothing that an unwritten function raises."""


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.first = nn.Linear(8, 6)
        self.last = nn.Linear(6, 8, bias=False)
        self.head = nn.Linear(8, 10, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        y: Tensor = self.head(self.last(torch.relu(self.first(self.embed(ids)))))
        return y


def small(device: str) -> nn.Module:
    torch.manual_seed(0)
    return Small().to(device).eval()


def squares(model: nn.Module) -> float:
    """Return a loss with which a change of each layer can be told by hand."""
    first, last, head = (model.get_parameter(f"{name}.weight").detach() for name in ("first", "last", "head"))
    return float(first.square().sum() + 10 * last.square().sum() + 100 * head.square().sum())


FORMATS = {
    "half": Format(lambda weight: weight / 2, lambda rows, cols: rows * cols),
    "none": Format(lambda weight: weight * 0, lambda rows, cols: rows),
}


def test_each_layer_alone_and_what_it_adds(impl: ModuleType, device: str) -> None:
    model = small(device)
    first, last = (float(model.get_parameter(f"{name}.weight").detach().square().sum()) for name in ("first", "last"))
    found = impl.sensitivity(model, squares, FORMATS)
    assert list(found) == ["first", "last"], f"measured {list(found)}; the head shares its weight with the embedding"
    for name, rows, square in (("first", 6, first), ("last", 8, 10 * last)):
        assert [c.name for c in found[name]] == ["half", "none"]
        assert [c.size for c in found[name]] == [48, rows], f"{name}: bytes {[c.size for c in found[name]]}"
        losses = [c.loss for c in found[name]]
        assert losses == pytest.approx([-0.75 * square, -square], rel=1e-3), f"{name}: losses {losses}"
    turned = impl.sensitivity(model, squares, dict(reversed(FORMATS.items())))
    assert [c.name for c in turned["last"]] == ["none", "half"], "candidates come in the order of the formats"


@OURS
def test_layers_that_share_a_weight_are_not_measured(impl: ModuleType, device: str) -> None:
    model = nn.ModuleDict({name: nn.Linear(6, 6) for name in ("first", "second", "third")}).to(device)
    model["second"].weight = model["first"].weight
    found = impl.sensitivity(model, lambda _: 0.0, FORMATS)
    assert list(found) == ["third"], f"measured {list(found)}: to shrink one of two that share a weight saves nothing"


def test_the_model_comes_back_as_it_was(impl: ModuleType, device: str) -> None:
    model = small(device)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parameters = [id(p) for p in model.parameters()]
    impl.sensitivity(model, squares, FORMATS)
    changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert not changed, f"{changed} were changed"
    assert [id(p) for p in model.parameters()] == parameters


@OURS
def test_a_failed_measurement_leaves_the_model_as_it_was(impl: ModuleType, device: str) -> None:
    model, calls = small(device), []
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def failing(_: nn.Module) -> float:
        calls.append(1)
        if len(calls) == 3:
            msg = "out of text"
            raise OutOfTextError(msg)
        return 0.0

    with pytest.raises(OutOfTextError, match="out of text"):
        impl.sensitivity(model, failing, FORMATS)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@OURS
def test_what_cannot_be_measured_is_refused(impl: ModuleType, device: str) -> None:
    with pytest.raises(ValueError, match="format"):
        impl.sensitivity(small(device), squares, {})
    with pytest.raises(ValueError, match=r"(?i)layer|linear"):
        impl.sensitivity(nn.Sequential(nn.ReLU()), lambda _: 0.0, FORMATS)
    with pytest.raises(ValueError, match=r"(?i)loss|nan"):
        impl.sensitivity(small(device), lambda model: float("nan"), FORMATS)
    with pytest.raises(ValueError, match=r"(?i)loss|nan"):  # of one layer in one format
        impl.sensitivity(small(device), lambda m: 0.0 if m.get_parameter("last.weight").any() else math.nan, FORMATS)


def test_more_bits_cost_more_and_lose_less(impl: ModuleType, device: str) -> None:
    model = small(device)
    ids = torch.arange(10, device=device)[None]
    wanted = model(ids).detach()
    formats = {f"{bits} bits": rounded(bits, 4) for bits in (2, 4, 8)}
    found = impl.sensitivity(model, lambda each: float((each(ids).detach() - wanted).square().mean()), formats)
    for name, candidates in found.items():
        sizes, losses = [c.size for c in candidates], [c.loss for c in candidates]
        assert sizes == sorted(sizes), f"{name}: {sizes} bytes"
        assert losses == sorted(losses, reverse=True), f"{name}: {losses}"


@pytest.mark.parametrize("shape", [(6, 8), (5,), (3, 7)])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_the_smallest_magnitudes_of_the_whole_matrix_go(
    impl: ModuleType, device: str, shape: tuple[int, ...], share: float
) -> None:
    torch.manual_seed(1)
    weight = torch.randn(shape, device=device)
    weight[0] *= 100  # one scale for the whole matrix: a row may stay whole
    before = weight.clone()
    found = impl.prune(weight, share)
    gone = found == 0
    assert int(gone.sum()) == int(share * weight.numel()), f"{share} of {weight.numel()}: {int(gone.sum())} are 0"
    assert torch.equal(weight, before), "the weight given was changed"
    assert torch.equal(found[~gone], weight[~gone])
    if bool(gone.any()) and not bool(gone.all()):
        assert weight[gone].abs().max() <= weight[~gone].abs().min(), "a larger one went and a smaller one stayed"


def test_of_equal_magnitudes_as_many_go_as_asked(impl: ModuleType, device: str) -> None:
    weight = torch.ones(6, 4, device=device)
    weight[::2] = -1
    gone = int((impl.prune(weight, 0.5) == 0).sum())
    assert gone == 12, f"half of 24 equal magnitudes are 12, {gone} went"


@OURS
def test_what_cannot_be_pruned_is_refused(impl: ModuleType, device: str) -> None:
    weight = torch.ones(2, 4, device=device)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="share"):
            impl.prune(weight, share)
    with pytest.raises(ValueError, match=r"(?i)nan|inf|finite"):
        impl.prune(weight * float("inf"), 0.5)
    with pytest.raises(TypeError, match=r"(?i)int|float|dtype"):
        impl.prune(weight.long(), 0.5)


@pytest.mark.stretch
def test_two_of_four_neighbours_stay(impl: ModuleType, device: str) -> None:
    weight = torch.tensor([[1.0, -3.0, 2.0, 0.5, 9.0, 8.0, 7.0, -10.0], [1, 1, 1, 1, 0, 0, 0, -1]], device=device)
    wanted = [[0.0, -3.0, 2.0, 0.0, 9.0, 0.0, 0.0, -10.0], [1, 1, 0, 0, 0, 0, 0, -1]]
    assert impl.prune_2_4(weight).tolist() == wanted, f"from {weight.tolist()} stayed {impl.prune_2_4(weight).tolist()}"


@pytest.mark.stretch
def test_of_equal_neighbours_the_left_ones_stay(impl: ModuleType, device: str) -> None:
    kept = (impl.prune_2_4(torch.ones(64, 256, device=device)) != 0).view(-1, 4)
    wrong = kept != torch.tensor([True, True, False, False], device=device)
    assert not wrong.any(), f"of {len(kept)} fours of equal numbers {int(wrong.any(1).sum())} did not keep the left two"


@pytest.mark.stretch
@OURS
def test_what_has_no_fours_is_refused(impl: ModuleType, device: str) -> None:
    for shape in ((2, 6), (8,)):
        with pytest.raises(ValueError, match=r"(?i)\b4\b|cols|columns|shape"):
            impl.prune_2_4(torch.ones(shape, device=device))
    with pytest.raises(TypeError, match=r"(?i)int|float|dtype"):
        impl.prune_2_4(torch.ones(2, 4, dtype=torch.int64, device=device))
