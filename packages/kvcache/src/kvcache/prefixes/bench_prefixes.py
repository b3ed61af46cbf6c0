"""Blocks found per second, and the time to the first token of a prompt of which a part is cached."""

from functools import cache
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from harness.race import Race
from kvcache.decoder import Decoder
from kvcache.paging.solution import BlockPool
from kvcache.shared import SharedMemory

BLOCK, PROMPT = 16, 1024
# 5.2 M parameters, 21 MB in fp32.
MODEL = LlamaConfig(
    hidden_size=256,
    intermediate_size=768,
    num_hidden_layers=6,
    num_attention_heads=8,
    num_key_value_heads=4,
    vocab_size=2048,
    max_position_embeddings=2048,
    tie_word_embeddings=True,
    eos_token_id=None,
)


@pytest.mark.parametrize("kind", ["HashChain", "RadixTree"])
@pytest.mark.parametrize("tokens", [256, 1024, 8192])
def bench_match(race: Race, tokens: int, kind: str) -> None:
    """Find a whole prompt among 64 others that begin with the same block, and release it."""
    blocks = tokens // BLOCK
    prompt = [7] * BLOCK + list(range(tokens - BLOCK))

    def prepare(impl: ModuleType) -> tuple[Any, BlockPool]:
        pool = BlockPool(blocks + 256)
        index = getattr(impl, kind)(pool, BLOCK)
        for other in range(64):
            index.insert([7] * BLOCK + [other] * BLOCK, pool.alloc(2))
        index.insert(prompt, pool.alloc(blocks))
        return index, pool

    def run(state: tuple[Any, BlockPool]) -> int:
        index, pool = state
        found = index.match(prompt).blocks
        for block in found:
            pool.release(block)
        return len(found)

    def check(found: int) -> None:
        assert found == blocks

    race(run, prepare=prepare, check=check, unit=f"of {blocks} blocks", budget=0.7)


@pytest.mark.parametrize("turn", [16, 64, 256])
def bench_turns(race: Race, turn: int) -> None:
    """Serve conversations of 16 turns of ``turn`` tokens, in a pool that holds two of them."""
    blocks = 16 * turn // BLOCK

    def prepare(impl: ModuleType) -> tuple[Any, BlockPool]:
        pool = BlockPool(2 * blocks)
        return impl.HashChain(pool, BLOCK), pool

    def run(state: tuple[Any, BlockPool], words: list[int]) -> int:
        index, pool = state
        hits = 0
        for stop in range(turn, len(words) + 1, turn):
            hit = index.match(words[:stop])
            hits += len(hit.blocks)
            missing = stop // BLOCK - len(hit.blocks)
            if missing > pool.free:
                index.evict(missing - pool.free)
            table = [*hit.blocks, *pool.alloc(missing)]
            index.insert(words[:stop], table)
            for block in table:
                pool.release(block)
        return hits

    def check(hits: int, words: list[int]) -> None:
        assert hits >= blocks * 15 // 2

    race(
        run,
        inputs=lambda: (torch.randint(30_000, (16 * turn,)).tolist(),),
        prepare=prepare,
        check=check,
        unit=f"tokens a turn, {16 * 17 // 2 * turn // BLOCK} blocks",
        budget=0.7,
    )


@cache
def models() -> tuple[LlamaForCausalLM, Decoder]:
    torch.manual_seed(0)
    model = LlamaForCausalLM(MODEL).eval().requires_grad_(requires_grad=False)
    return model, Decoder.from_model(model)


@pytest.mark.parametrize("percent", [0, 50, 90])
def bench_first_token(race: Race, device: str, percent: int) -> None:
    """Prefill a prompt of 1024 tokens, of which others computed some; the rest is new in every round."""
    if device != "cpu":
        pytest.skip("the model of this race is on the CPU")
    model, decoder = models()
    known = PROMPT * percent // 100 // BLOCK * BLOCK
    prefix = torch.randint(2048, (known,), generator=torch.Generator().manual_seed(1))

    def prepare(impl: ModuleType) -> Any:
        if hasattr(impl, "first_logits"):
            given = model if impl.__name__.endswith("transformers") else decoder
            return lambda prompt: impl.first_logits(given, prompt, known)
        memory = SharedMemory(decoder, 2 * PROMPT // BLOCK, BLOCK, impl.HashChain)
        if known:
            _, cache = memory.prefill(prefix)
            memory.finish(cache, prefix)

        def run(prompt: Tensor) -> Tensor:
            logits, cache = memory.prefill(prompt)
            cache.crop(0)
            # What this prompt added goes, so that every call finds the same.
            memory.index.evict(memory.index.held - known // BLOCK)
            return logits

        return run

    def check(found: Tensor, prompt: Tensor) -> None:
        wanted = decoder.forward(prompt[None], decoder.contiguous(PROMPT))
        assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()

    race(
        lambda run, prompt: run(prompt),
        inputs=lambda: (torch.cat([prefix, torch.randint(2048, (PROMPT - known,))]),),
        prepare=prepare,
        check=check,
        flops=2 * (PROMPT - known) * 4_720_000,
        unit="% of 1024 tokens cached, 21 MB fp32",
    )
