"""Requests that share memory: the same logits, fewer tokens computed, nothing lost."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kvcache.decoder import Decoder
from kvcache.prefixes.solution import HashChain, RadixTree
from kvcache.shared import SharedMemory

DecoderOf = Callable[..., Decoder]
INDEXES = pytest.mark.parametrize("index", [HashChain, RadixTree])


def text(length: int, seed: int = 1) -> Tensor:
    return torch.randint(61, (length,), generator=torch.Generator().manual_seed(seed))


class Counting:
    """Counts the tokens that a decoder computes."""

    def __init__(self, decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tokens, forward = 0, decoder.forward

        def counted(tokens: Tensor, *arguments: Any, **options: Any) -> Tensor:
            self.tokens += tokens.numel()
            return forward(tokens, *arguments, **options)

        monkeypatch.setattr(decoder, "forward", counted)


@INDEXES
@pytest.mark.parametrize(("shared", "computed"), [(0, 50), (16, 34), (20, 34), (49, 2), (50, 2)])
def test_a_cached_prefix_is_not_computed_again(
    decoder_of: DecoderOf, monkeypatch: pytest.MonkeyPatch, index: Any, shared: int, computed: int
) -> None:
    decoder = decoder_of(dtype=torch.float64)
    memory = SharedMemory(decoder, 16, 8, index)
    first, second = text(50), torch.cat([text(50)[:shared], text(50 - shared, seed=2)])
    second[shared : shared + 1] = (first[shared : shared + 1] + 1) % 61
    _, cache = memory.prefill(first)
    memory.finish(cache, first)
    count = Counting(decoder, monkeypatch)
    found, cache = memory.prefill(second)
    assert count.tokens == computed, f"50 tokens of which {shared} were known: {count.tokens} computed"
    wanted = decoder.forward(second[None], decoder.contiguous(50))
    assert (found - wanted).abs().max() <= 1e-11
    for token in text(5, seed=3):
        step = decoder.forward(token.view(1, 1), cache)
        second = torch.cat([second, token[None]])
    wanted = decoder.forward(second[None], decoder.contiguous(55))
    assert (step - wanted).abs().max() <= 1e-11, "steps after a hit"


@INDEXES
def test_a_full_hit_computes_one_token_and_copies_one_block(
    decoder_of: DecoderOf, monkeypatch: pytest.MonkeyPatch, index: Any
) -> None:
    decoder = decoder_of()
    memory, prompt = SharedMemory(decoder, 8, 8, index), text(32)
    logits, cache = memory.prefill(prompt)
    count = Counting(decoder, monkeypatch)
    again, other = memory.prefill(prompt)
    assert count.tokens == 1
    assert (again - logits).abs().max() <= 1e-4 * logits.abs().max()
    assert [a == b for a, b in zip(cache.tables[0], other.tables[0], strict=True)] == [True, True, True, False]


@INDEXES
def test_deterministic_logits_do_not_notice_a_hit(decoder_of: DecoderOf, index: Any) -> None:
    decoder = decoder_of(deterministic=True)
    prompt = text(60)
    wanted = decoder.forward(prompt[None], decoder.contiguous(60))
    memory = SharedMemory(decoder, 32, 8, index)
    for known in (24, 40, 60, 60):
        found, cache = memory.prefill(prompt[:known])
        memory.finish(cache, prompt[:known])
    assert torch.equal(found, wanted), f"after a hit off by {(found - wanted).abs().max():.2g}"


def test_an_answer_begins_the_next_turn(decoder_of: DecoderOf, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = decoder_of()
    memory, prompt, answer = SharedMemory(decoder, 16, 8), text(20), text(11, seed=2)
    _, cache = memory.prefill(prompt)
    for token in answer:
        decoder.forward(token.view(1, 1), cache)
    said = torch.cat([prompt, answer])
    memory.finish(cache, said)
    count = Counting(decoder, monkeypatch)
    memory.prefill(torch.cat([said, text(5, seed=3)]))
    assert count.tokens == 36 - 24, f"31 tokens fill 3 blocks of 8, then {count.tokens} of 36 were computed"


@INDEXES
def test_cached_prefixes_make_room(decoder_of: DecoderOf, index: Any) -> None:
    memory = SharedMemory(decoder_of(), 8, 8, index)
    for seed in range(6):
        prompt = text(40, seed)
        _, cache = memory.prefill(prompt)
        memory.finish(cache, prompt)
    _, busy = memory.prefill(text(30, 9))
    with pytest.raises(ValueError, match="need 5 more blocks of 8, 4 of 8 are free"):
        memory.prefill(text(40, 10))
    assert memory.pool.free == 4, "a refused request left blocks behind"
    busy.crop(0)
    assert memory.index.evict(99) == 3
    assert memory.pool.free == 8


def test_tenants_share_memory_and_nothing_else(decoder_of: DecoderOf, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = decoder_of()
    memory, count = SharedMemory(decoder, 16, 8), Counting(decoder, monkeypatch)
    for tenant in ("ann", "bob", "ann"):
        memory.prefill(text(24), tenant)
    assert count.tokens == 24 + 24 + 1


def test_a_prompt_beyond_the_limit_is_refused(decoder_of: DecoderOf) -> None:
    memory = SharedMemory(decoder_of(), 32, 8)
    with pytest.raises(ValueError, match="the model's limit is 128"):
        memory.prefill(text(129), chunk=200)
    with pytest.raises(ValueError, match="at least one token"):
        memory.prefill(text(0))
    assert memory.pool.free == 32
