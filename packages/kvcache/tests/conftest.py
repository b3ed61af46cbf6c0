"""The smallest Llama whose logits depend on every position, and kernels for processors with narrower vectors."""

import platform
from collections.abc import Callable, Iterator

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from harness import native
from kvcache import _attend, _step
from kvcache.decoder import Config, Decoder


@pytest.fixture
def decoder_of() -> Callable[..., Decoder]:
    """Return what makes a decoder with the same random weights at each call, in torch's kernels."""

    def make(
        *, deterministic: bool = False, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Decoder:
        torch.manual_seed(0)
        config = LlamaConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,  # of 8 numbers each, which the native step does not take
            num_key_value_heads=2,
            vocab_size=61,
            max_position_embeddings=128,
            initializer_range=0.5,  # large weights
        )
        model = LlamaForCausalLM(config).eval().requires_grad_(requires_grad=False)
        weights = {name: weight.to(dtype).to(device) for name, weight in model.state_dict().items()}
        return Decoder(Config.read(config.to_dict()), weights, deterministic=deterministic)

    return make


@pytest.fixture(
    params=[
        pytest.param((), id="native"),
        pytest.param(("-mno-avx512f",), id="AVX2", marks=pytest.mark.slow),
        pytest.param(("-mno-avx",), id="SSE", marks=pytest.mark.slow),
    ]
)
def vectors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Build the kernels as on a processor with vectors of another width."""
    if not request.param:
        yield
        return
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("options of compilers for x86")
    cached = (native.library, _attend._functions, _step._library)  # noqa: SLF001
    monkeypatch.setattr(native, "COMPILE", (*native.COMPILE, *request.param))
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()
