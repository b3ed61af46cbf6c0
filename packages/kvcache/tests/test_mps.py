"""On a device without float64, as MPS is: the numbers of the CPU, and nothing left on the wrong device.

No machine that runs these tests need have one. Its tensors are pretended: they say that they are on MPS, hold a tensor
of the CPU, refuse float64 and refuse company from the CPU.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import models
from kvcache import cli
from kvcache.attention.solution import attend, attend_grouped, attend_tiled
from kvcache.caches.solution import ContiguousCache, SlidingCache
from kvcache.decoder import Decoder
from kvcache.kivi.solution import QuantizedCache
from kvcache.paging.solution import PagedCache
from kvcache.race import Row, finish, read_bandwidth
from kvcache.sampler import Sampler
from kvcache.sampling._regex import automaton
from kvcache.sampling.solution import beam_search, constrain, repetition_penalty, sample, token_table
from kvcache.speculation.solution import ModelDrafter, NgramDrafter, accept, generate

DecoderOf = Callable[..., Decoder]
MPS = torch.device("mps", 0)  # without a number torch would ask the device which one is meant


class Pretended(Tensor):
    """A tensor that says it is on MPS."""

    held: Tensor
    device = MPS

    @staticmethod
    def __new__(cls: Any, held: Tensor) -> Any:
        """Wrap a tensor of the CPU."""
        strides, offset = held.stride(), held.storage_offset()
        make: Any = Tensor._make_wrapper_subclass  # noqa: SLF001
        made = make(cls, held.shape, strides=strides, storage_offset=offset, dtype=held.dtype)
        made.held = held
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: D105
        if func is Tensor.tolist:
            return args[0].held.tolist()
        if func not in (Tensor.to, Tensor.cpu):
            return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]
        found = args[0].held if isinstance(args[0], Pretended) else args[0]
        if func is Tensor.cpu:
            return found
        like = args[1] if isinstance(args[1], Tensor) else None
        parse: Any = torch._C._nn._parse_to  # noqa: SLF001
        device, dtype = (like.device, like.dtype) if like is not None else parse(*args[1:], **(kwargs or {}))[:2]
        found = found if dtype is None else found.to(dtype)
        return found if device and device.type == "cpu" else pretend(found, func)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]  # noqa: D105
        return run(func, args, kwargs or {})


class Operations(TorchDispatchMode):
    """Makes what is asked for on MPS, as by ``torch.zeros(2, device="mps")``."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: D105
        return run(func, args, kwargs or {})


class Functions(TorchFunctionMode):
    """The same for ``torch.tensor``, which is no operation."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: D105
        if func is torch.tensor and kwargs and getattr(kwargs.get("device"), "type", "") == "mps":
            return pretend(torch.tensor(*args, **{**kwargs, "device": "cpu"}), func)
        return func(*args, **(kwargs or {}))


class MixedError(RuntimeError):
    """What a machine with MPS says of tensors here and there: RuntimeError, told from that of an unwritten function."""


def pretend(found: Any, func: Any) -> Any:
    if not isinstance(found, Tensor):
        return found
    if found.dtype == torch.float64:
        msg = f"{func} makes a float64 tensor, which MPS does not have"
        raise TypeError(msg)
    return Pretended(found)


def run(func: Any, args: Any, kwargs: Any) -> Any:
    name, leaves = func.__name__.split(".")[0], tree_leaves((args, kwargs))
    there = any(isinstance(leaf, Pretended) for leaf in leaves)
    here = any(isinstance(leaf, Tensor) and leaf.ndim and not isinstance(leaf, Pretended) for leaf in leaves)
    if there and here and name not in ("copy_", "index"):
        msg = f"{func} of tensors on MPS and on the CPU"
        raise MixedError(msg)
    asked = [leaf.type for leaf in leaves if isinstance(leaf, torch.device)]
    args, kwargs = tree_map(on_the_cpu, (args, kwargs))
    found = func(*args, **kwargs)
    stays = "mps" in asked if asked else there and name != "_local_scalar_dense"
    return tree_map(lambda t: pretend(t, func), found) if stays else found


def on_the_cpu(given: Any) -> Any:
    if isinstance(given, Pretended):
        return given.held
    return torch.device("cpu") if isinstance(given, torch.device) else given


@pytest.fixture(autouse=True)
def mps() -> Iterator[None]:
    with torch.inference_mode(), Functions(), Operations():
        yield


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_what_is_pretended_is_refused_what_mps_refuses() -> None:
    x = normal(3).to(MPS)
    with pytest.raises(TypeError, match="float64"):
        x.double()
    with pytest.raises(TypeError, match="float64"):
        torch.ones(3, dtype=torch.float64).to(MPS)
    with pytest.raises(TypeError, match="float64"):
        torch.zeros(2, dtype=torch.float64, device=MPS)
    with pytest.raises(MixedError, match="on MPS and on the CPU"):
        x + normal(3)
    assert (x + 1).device == torch.arange(3, device=MPS).device == MPS
    assert x.cpu().double().device.type == "cpu"


def test_the_same_seeds_draw_the_same_tokens() -> None:
    logits, seeds = normal(200, 50) * 3, torch.arange(200)
    for step, temperature in ((0, 1.0), (3, 0.5), (4, 0.0)):
        found = sample(logits.to(MPS), seeds.to(MPS), step, temperature)
        assert found.device == MPS
        assert torch.equal(found.cpu(), sample(logits, seeds, step, temperature))
    sampler = Sampler(0.9, 20, 0.8, 0.01, seed=3)
    assert sampler(logits.to(MPS), 1).tolist() == sampler(logits, 1).tolist()
    said = torch.randint(50, (200, 4))
    found = repetition_penalty(logits.to(MPS), said.to(MPS), 1.3)
    assert torch.equal(found.cpu(), repetition_penalty(logits, said, 1.3))


def test_masks_and_beams() -> None:
    table = token_table(automaton("a{5}b*"), [b"", b"a", b"b", b"aaa"], 0)
    logits, states = normal(2, 4), torch.tensor([0, 1])
    found = constrain(logits.to(MPS), table, states.to(MPS), 6)
    assert torch.equal(found.cpu(), constrain(logits, table, states, 6))
    follows = normal(6, 6) * 2
    wanted = beam_search(lambda tokens: follows[tokens[:, -1]], torch.tensor([1]), 3, 5, 0)
    there = follows.to(MPS)
    assert beam_search(lambda tokens: there[tokens[:, -1]], torch.tensor([1]).to(MPS), 3, 5, 0) == wanted


def test_drafts_are_accepted_as_on_the_cpu() -> None:
    q, p = (normal(40, 4, 9, seed=seed).softmax(-1) for seed in (1, 2))
    drafted = q[:, :3].flatten(0, 1).multinomial(1, generator=torch.Generator().manual_seed(3)).view(40, 3)
    given = drafted, q[:, :3], p
    wanted = accept(*given, torch.Generator().manual_seed(4))
    there = drafted.to(MPS), q[:, :3].to(MPS), p.to(MPS)
    found = accept(*there, torch.Generator().manual_seed(4))
    assert found.device == MPS
    assert torch.equal(found.cpu(), wanted)


CACHES = {"contiguous": ContiguousCache, "paged": PagedCache, "sliding": SlidingCache, "kivi": QuantizedCache}
LAST: dict[str, tuple[int, ...]] = {"contiguous": (40,), "paged": (20, 4), "sliding": (9, 2), "kivi": (40, 8, 4)}


@pytest.mark.parametrize("kind", CACHES)
@pytest.mark.parametrize("deterministic", [False, True])
def test_logits_are_those_of_the_cpu(decoder_of: DecoderOf, kind: str, deterministic: bool) -> None:
    tokens = torch.randint(61, (2, 20), generator=torch.Generator().manual_seed(1))
    found = []
    for device in ("cpu", MPS):
        decoder = decoder_of(deterministic=deterministic, device=device)
        cache: Any = CACHES[kind](2, 2, 2, 8, *LAST[kind], torch.float32, decoder.device)
        pieces = [decoder.forward(piece, cache, every=True) for piece in tokens.split([9, 1, 3, 7], 1)]
        cache.reorder(torch.tensor([1, 0]).to(decoder.device))
        pieces.append(decoder.forward(tokens[:, :1], cache, every=True))
        assert pieces[-1].device == decoder.device
        found.append(torch.cat([piece.cpu() for piece in pieces], 1))
    assert torch.equal(*found)


def test_speculation_says_what_it_says_on_the_cpu(decoder_of: DecoderOf) -> None:
    warp, texts = Sampler(1.5, top_k=20).filtered, []
    for device in ("cpu", MPS):
        decoder = decoder_of(device=device)
        for drafts in (False, True):
            torch.manual_seed(5)
            drafter = ModelDrafter(decoder, decoder.contiguous(40), warp) if drafts else NgramDrafter()
            rounds = generate(decoder, decoder.contiguous(40), [1, 2, 1, 2], 20, drafter, 3, warp)
            texts.append([token for each in rounds for token in each.tokens])
    assert texts[:2] == texts[2:]


@pytest.mark.parametrize("way", [attend, attend_grouped, attend_tiled])
def test_attention(way: Any) -> None:
    q, k, v = normal(2, 4, 5, 16), normal(2, 2, 9, 16, seed=1), normal(2, 2, 9, 16, seed=2)
    padding = torch.arange(9) >= torch.tensor([[3], [0]])
    for window, mask in ((None, None), (4, None), (None, padding)):
        found = way(*(t.to(MPS) for t in (q, k, v)), window, None if mask is None else mask.to(MPS))
        assert found.device == MPS
        assert (found.cpu() - way(q, k, v, window, mask)).abs().max() <= 1e-6


def pretended_load(name: str, device: torch.device) -> Any:
    """Load a model whose weights are on ``device``; modules cannot move where tensors are pretended."""
    model, tokenizer = models.load(name)
    weights = {name: weight.to(device) for name, weight in model.state_dict().items()}
    return SimpleNamespace(model=SimpleNamespace(config=model.config, state_dict=lambda: weights), tokenizer=tokenizer)


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the tool a machine that has MPS."""
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: MPS)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda _device: None)
    monkeypatch.setattr(cli, "load", pretended_load)


@pytest.mark.usefixtures("tool")
@pytest.mark.parametrize(
    ("there", "options"),
    [
        ("auto", {"cache": "paged"}),
        ("auto", {"int8": True}),  # int8 weights are the CPU's
        ("mps", {"cache": "kivi8", "temperature": 1.5, "seed": 3, "regex": "[a-z]+(, [a-z]+)*\\."}),
    ],
)
def test_the_tool_writes_what_it_writes_on_the_cpu(
    capsys: pytest.CaptureFixture[str], there: str, options: dict[str, Any]
) -> None:
    said = []
    for device in ("cpu", there):
        cli.generate(prompt="x = ", tokens=5, device=device, **options)
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


@pytest.mark.usefixtures("tool")
def test_a_clock_waits_for_the_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waits.append)
    finish(torch.device("cpu"))
    assert not waits
    assert read_bandwidth(4000, MPS) > 0
    assert waits == [MPS] * 60


@pytest.mark.usefixtures("tool")
def test_the_tool_compares_on_the_accelerator(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    seen = []

    def race(_model: Any, ours: Any, prompt: Tensor, *_: Any) -> list[Row]:
        for decoder, make in ours.values():
            cache = make(decoder, 12)
            decoder.prefill(prompt, cache)
            seen.append((decoder.device, prompt.device))
        return [Row(name, 1.0, 1.0, (1.0, 1.0), 1, tokens_equal=True) for name in ours]

    monkeypatch.setattr(cli, "race", race)
    for device, where in (("auto", MPS), ("cpu", torch.device("cpu"))):
        cli.compare(contexts="8", tokens=2, out=tmp_path / "c.png", device=device)
        out = capsys.readouterr().out
        assert f"fp32, {where.type}" in out
        assert ("int8 weights" in out) == (where.type == "cpu"), "int8 weights are the CPU's"
        assert seen
        assert set(seen) == {(where, where)}
        seen.clear()
