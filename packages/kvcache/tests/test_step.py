"""The native step: one call for all layers, the numbers of float64, the same bits in any company."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from harness import native
from kvcache import _step
from kvcache.caches.solution import ContiguousCache, SlidingCache
from kvcache.decoder import Decoder, Int8Linear, Linear
from kvcache.kivi.solution import QuantizedCache
from kvcache.paging.solution import PagedCache

pytestmark = [
    pytest.mark.skipif(not _step.available(), reason="no C compiler"),
    pytest.mark.threads(2),  # each has a scratch of its own
]


def model_of(layers: int = 2, heads: int = 4, kv_heads: int = 2, head_dim: int = 16, **more: Any) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=48,
        intermediate_size=72,  # no multiple of a vector, let alone of a panel
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=61,
        max_position_embeddings=2048,
        initializer_range=0.3,
        **more,
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(requires_grad=False)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):  # born as zeros
            weight.normal_()
    return model


def text(length: int, seed: int = 1, batch: int = 1) -> Tensor:
    return torch.randint(61, (batch, length), generator=torch.Generator().manual_seed(seed))


def paged(decoder: Decoder, size: int, batch: int = 1, positions: int = 128) -> PagedCache:
    c = decoder.config
    blocks = batch * -(-positions // size)
    cache = PagedCache(c.layers, batch, c.kv_heads, c.head_dim, blocks, size)
    for block in [cache.pool.alloc()[0] for _ in range(blocks)][::-1][1::2]:  # every other block first, backwards
        cache.pool.release(block)
    for block in range(blocks):
        if cache.pool.references(block):
            cache.pool.release(block)
    return cache


class Operations(TorchDispatchMode):
    """Counts what torch is asked to do."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: D105
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim"), [(4, 2, 16), (6, 2, 32), (3, 3, 80), (2, 1, 64), (1, 1, 128)]
)
@pytest.mark.parametrize("chunks", [[70], [1] * 9, [33, 1, 30, 6]])
def test_its_logits_are_those_of_float64(heads: int, kv_heads: int, head_dim: int, chunks: list[int]) -> None:
    model = model_of(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
    decoder, tokens = Decoder.from_model(model), text(sum(chunks), batch=2)
    exact = Decoder.from_model(model.double())
    wanted = exact.forward(tokens, exact.contiguous(tokens.shape[1], 2), every=True)
    for cache in (decoder.contiguous(80, 2), paged(decoder, 16, 2), paged(decoder, 5, 2)):
        found = torch.cat([decoder.forward(t, cache, every=True) for t in tokens.split(chunks, 1)], 1)
        assert found.dtype == torch.float32
        off = ((found - wanted).abs().max() / wanted.abs().max()).item()
        assert off <= 1e-5, f"{type(cache).__name__}, chunks {chunks}: logits are off by {off:.2g} of the largest"


def test_the_number_of_operations_does_not_grow_with_the_layers() -> None:
    counts = []
    for layers in (1, 5):
        decoder = Decoder.from_model(model_of(layers))
        for cache in (decoder.contiguous(80), paged(decoder, 16)):
            decoder.prefill(text(9), cache)
            with Operations() as seen:
                decoder.forward(text(1), cache)
            counts.append(len(seen.names))
            assert not [name for name in seen.names if "mm" in name or "attention" in name], seen.names
    assert counts[:2] == counts[2:], f"torch's operations in a step of 1 layer {counts[:2]}, of 5 {counts[2:]}"
    assert max(counts) <= 40, f"{counts} operations of torch in a step"


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("int8", [False, True])
def test_a_request_is_the_same_bits_in_any_company(int8: bool, biased: bool) -> None:
    decoder = Decoder.from_model(model_of(attention_bias=biased, mlp_bias=biased), int8=int8, deterministic=True)
    tokens = text(120)
    alone = decoder.forward(tokens, decoder.contiguous(120), every=True)[0]
    for rows in range(1, 18):  # torch's products change their bits between these
        others = [text(1, seed=9)[0]] * (rows - 1)
        held = [decoder.contiguous(120) for _ in range(rows)]
        found = decoder.forward_ragged([*others, tokens[0, :rows]], held, every=True)
        assert torch.equal(found[rows - 1 :], alone[:rows]), f"beside {rows - 1} others"
    for size in (1, 7, 16):
        cache = paged(decoder, size, positions=120 + size)
        pieces = [decoder.forward(t, cache, every=True)[0] for t in tokens.split([50, 1, 1, 29, 39], 1)]
        assert torch.equal(torch.cat(pieces), alone), f"in chunks, over blocks of {size}"
        cache.crop(64)
        assert torch.equal(decoder.forward(tokens[:, 64:], cache, every=True)[0], alone[64:]), "after a prefix hit"
    sliding = SlidingCache(2, 1, 2, 16, 40, 2)
    mixed = decoder.forward_ragged([text(5, 4)[0], tokens[0]], [sliding, decoder.contiguous(120)], every=True)
    assert torch.equal(mixed[5:], alone), "beside a request over a cache that the kernel does not read"


def test_threads_change_no_bit() -> None:
    decoder, tokens, before = Decoder.from_model(model_of()), text(100), torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(decoder.forward(tokens, decoder.contiguous(100), every=True))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_angles_are_computed_once() -> None:
    """A decoder's table of angles grows, and no row of it changes: bits do not depend on what was served before."""
    decoder, tokens = Decoder.from_model(model_of()), text(600)
    short = decoder.forward(tokens[:, :30], decoder.contiguous(30))
    cache = decoder.contiguous(1400)
    decoder.prefill(torch.cat([tokens, tokens], 1), cache)
    assert torch.equal(decoder.forward(tokens[:, :30], decoder.contiguous(30)), short)


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (7, 33), (64, 64), (40, 200)])
def test_a_packed_map_is_the_map(int8: bool, gated: bool, biased: bool, inputs: int, outputs: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(outputs, inputs, generator=generator) for _ in range(2)]
    biases = [torch.randn(outputs, generator=generator) for _ in range(2)] if biased else []
    packed, plain = (
        _step.PackedLinear(*weights, biases=biases, int8=int8, gated=gated),
        Linear(*(w.double() for w in weights), biases=[b.double() for b in biases], gated=gated),
    )
    for rows in (1, 2, 3, 5, 6, 7, 13, 100):
        x = torch.randn(rows, inputs, generator=generator)
        found, wanted = packed(x), plain(x.double())
        assert found.shape == wanted.shape
        off = ((found - wanted).norm() / wanted.norm()).item()
        # A weight is off by 1 / sqrt(12) of a step, its row's largest / 127: 0.7 % of normal numbers, twice if gated.
        assert off <= (0.02 if int8 else 1e-6), f"{rows} rows of {inputs}: off by {off:.2g}"


def test_int8_weights_keep_their_activations() -> None:
    """Only weights are rounded; fbgemm rounds activations to 7 bits besides."""
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(96, 128, generator=generator), torch.randn(20, 128, generator=generator)
    wanted = x.double() @ weight.double().T
    ours, theirs = (
        ((linear(x) - wanted).norm() / wanted.norm()).item()
        for linear in (_step.PackedLinear(weight, int8=True), Int8Linear(weight))
    )
    assert ours <= 0.6 * theirs, f"relative errors {ours:.4f} and {theirs:.4f}"
    assert _step.PackedLinear(weight, int8=True).nbytes <= 0.3 * _step.PackedLinear(weight).nbytes


def test_a_full_cache_stops_nobody_else() -> None:
    decoder = Decoder.from_model(model_of())
    each = [decoder.contiguous(10), decoder.contiguous(3)]
    with pytest.raises(ValueError, match="holds 3 positions"):
        decoder.forward_ragged([text(4)[0], text(4)[0]], each)
    assert [cache.length for cache in each] == [0, 0]
    again = decoder.forward_ragged([text(4)[0], text(2)[0]], each)
    alone = decoder.forward(text(4), decoder.contiguous(4))
    assert torch.equal(again[:1], alone)


def test_other_caches_are_attended_by_torch() -> None:
    decoder = Decoder.from_model(model_of())
    tokens = text(40)
    wanted = decoder.forward(tokens, decoder.contiguous(40), every=True)
    for cache in (SlidingCache(2, 1, 2, 16, 40), QuantizedCache(2, 1, 2, 16, 40, 8, 41)):
        off = (decoder.forward(tokens, cache, every=True) - wanted).abs().max().item()
        assert off <= 1e-4, f"{type(cache).__name__}: off by {off:.2g}"
    with pytest.raises(ValueError, match=r"must be \(2, 2, q_len, 16\)"):
        decoder.forward(tokens, decoder.contiguous(40, 2))


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("KVCACHE_NATIVE", "0")
    for function in (native.library, _step._library):  # noqa: SLF001
        function.cache_clear()
    yield
    for function in (native.library, _step._library):  # noqa: SLF001
        function.cache_clear()


def test_without_a_compiler_torch_gives_the_same_numbers(without_kernels: None) -> None:
    model = model_of()
    decoder, tokens = Decoder.from_model(model), text(30)
    assert isinstance(decoder.head, Linear)
    found = decoder.forward(tokens, decoder.contiguous(30), every=True)
    wanted = model(tokens).logits
    assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()
    assert isinstance(decoder.contiguous(30), ContiguousCache)
