"""Whole requests by our decoder over each cache, beside transformers' ``generate``: the same model, the same tokens."""

from collections.abc import Callable
from functools import cache, partial
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from harness.race import Race
from kvcache.decoder import Decoder

PROMPT, TOKENS = 32, 64
# Random weights, fp32: 5.2 M and 26.2 M parameters.
MODELS: dict[str, dict[str, Any]] = {
    "21 MB": {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6},
    "107 MB": {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "vocab_size": 3136},
}


@cache
def models(name: str) -> tuple[Any, dict[str, Decoder]]:
    torch.manual_seed(0)
    config = LlamaConfig(
        **{"vocab_size": 2048} | MODELS[name],
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=None,
        initializer_range=0.05,
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(requires_grad=False)
    return model, {"fp32": Decoder.from_model(model), "int8": Decoder.from_model(model, int8=True)}


def by_us(decoder: Decoder, impl: ModuleType, prompt: Tensor) -> Tensor:
    """Decode over the cache of an implementation of this exercise."""
    c = decoder.config
    held = impl.ContiguousCache(c.layers, len(prompt), c.kv_heads, c.head_dim, PROMPT + TOKENS)
    return torch.stack(list(decoder.generate(prompt, held, TOKENS)), 1)


@pytest.mark.parametrize("weights", ["fp32", "int8"])
@pytest.mark.parametrize("size", MODELS)
def bench_step(race: Race, device: str, size: str, weights: str) -> None:
    """One token of one request. A part of these bytes stays in the processor's caches, for both contestants.

    The limit is that of memory that is in no cache, so that the ratio to reading is the harder measure.
    """
    if device != "cpu":
        pytest.skip("the models of this race are on the CPU")
    decoder = models(size)[1][weights]
    read = decoder.nbytes + decoder.config.bytes_per_token(4) * PROMPT
    token = torch.ones(1, 1, dtype=torch.int64)

    def prepare(impl: ModuleType) -> Callable[[], Tensor]:
        if hasattr(impl, "read"):
            return partial(impl.read, torch.ones(read // 4))
        if not hasattr(impl.ContiguousCache, "crop"):
            pytest.skip("its cache cannot go back to where it was")
        c = decoder.config
        held = impl.ContiguousCache(c.layers, 1, c.kv_heads, c.head_dim, PROMPT + 1)
        decoder.prefill(torch.ones(1, PROMPT, dtype=torch.int64), held)

        def run() -> Tensor:
            logits = decoder.forward(token, held)
            held.crop(PROMPT)
            return logits

        return run

    race(lambda run: run(), prepare=prepare, bytes=read, unit="weights, a step")


@pytest.mark.parametrize("weights", ["fp32", "int8"])
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("size", MODELS)
def bench_decode(race: Race, device: str, size: str, batch: int, weights: str) -> None:
    """Greedy tokens after a prompt; with int8 it is our weights that are int8, the others' stay fp32."""
    if device != "cpu":
        pytest.skip("the models of this race are on the CPU")
    model, decoders = models(size)
    decoder = decoders[weights]

    def prepare(impl: ModuleType) -> Callable[[Tensor], Tensor]:
        if hasattr(impl, "ContiguousCache") and not hasattr(impl, "generate"):
            return partial(by_us, decoder, impl)
        if impl.__name__.endswith("compiled") and (batch, weights) != (1, "fp32"):
            pytest.skip("compiled for one request only: every shape costs 20 s")
        return partial(impl.generate, model, count=TOKENS)

    def check(found: Tensor, prompt: Tensor) -> None:
        decoder = decoders["fp32"]
        whole = torch.cat([prompt, found], 1)
        logits = decoder.forward(whole[:, :-1], decoder.contiguous(whole.shape[1], batch), every=True)[:, PROMPT - 1 :]
        # Greedy by the logits of one pass over the whole text; equal but for ties, or for what int8 rounds away.
        behind = logits.amax(-1) - logits.gather(-1, found[..., None])[..., 0]
        allowed = 0.05 if weights == "int8" else 1e-4
        assert (behind <= allowed * logits.abs().max()).all(), f"a token is {behind.max():.3g} behind the best"

    # Every token reads all weights once and, on average, half of the keys and values that there will be.
    held = batch * decoder.config.bytes_per_token(4) * (PROMPT + TOKENS // 2)
    race(
        lambda state, prompt: state(prompt),
        inputs=lambda: (torch.randint(2048, (batch, PROMPT)),),
        prepare=prepare,
        check=check,
        bytes=TOKENS * (decoder.nbytes + held),
        unit=f"weights, {PROMPT} + {TOKENS} tokens",
    )
