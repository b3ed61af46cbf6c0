"""What every implementation of ``capacity.caching`` has to do."""

from dataclasses import replace
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity import zoo
from capacity.caching import FULL, SLIDING
from capacity.weights import Model

SMALL = Model(layers=4, hidden=64, heads=8, kv_heads=2, head_dim=8, intermediate=100, vocab=1000)
EACH = 2 * 4 * 2 * 8 * 2  # bytes of a token of SMALL in 16 bits
MIXED = replace(SMALL, layer_types=(SLIDING, SLIDING, SLIDING, FULL), window=64)
LATENT = replace(SMALL, latent=32, rope_dim=4, value_dim=6)
PLAIN = pytest.mark.known("baseline", reason="full attention on one GPU only")


def expect(what: str, found: float, wanted: float) -> None:
    assert found == wanted, f"{what}: {found:,} came back, {wanted:,} expected"


@pytest.mark.parametrize(
    ("name", "wanted"), [("llama-3.1-8b", 131_072), ("llama-3.1-70b", 327_680), ("qwen2.5-7b", 57_344)]
)
def test_bytes_of_a_token(impl: ModuleType, name: str, wanted: int) -> None:
    expect(f"{name} in fp16", impl.kv_bytes_per_token(zoo.load(name)), wanted)


def test_keys_and_values_of_kv_heads(impl: ModuleType) -> None:
    expect("4 layers, 2 KV heads of 8", impl.kv_bytes_per_token(SMALL), EACH)
    expect("a head of 16", impl.kv_bytes_per_token(replace(SMALL, head_dim=16)), 2 * EACH)


def test_bits_of_the_cache(impl: ModuleType) -> None:
    expect("8 bits", impl.kv_bytes_per_token(SMALL, 8), EACH // 2)
    expect("4.5 bits, which 4-bit codes with scales take", impl.kv_bytes_per_token(SMALL, 4.5), EACH * 4.5 / 16)


@pytest.mark.parametrize(("tokens", "slots"), [(0, 0), (1, 16), (16, 16), (17, 32), (1000, 1008)])
def test_requests_take_whole_blocks(impl: ModuleType, tokens: int, slots: int) -> None:
    expect(f"{tokens} tokens in blocks of 16", impl.request_bytes(SMALL, tokens), slots * EACH)


def test_the_size_of_a_block(impl: ModuleType) -> None:
    expect("100 tokens in blocks of 64", impl.request_bytes(SMALL, 100, 64), 128 * EACH)
    expect("100 tokens in blocks of 1", impl.request_bytes(SMALL, 100, 1), 100 * EACH)
    expect("100 tokens of 8 bits", impl.request_bytes(SMALL, 100, 16, 8), 112 * EACH // 2)


def test_full_attention_may_be_spelt_out(impl: ModuleType) -> None:
    expect("named layers", impl.kv_bytes_per_token(replace(SMALL, layer_types=(FULL,) * 4)), EACH)


@settings(max_examples=50)
@given(st.integers(0, 5000), st.integers(1, 256))
def test_less_than_a_block_is_wasted(impl: ModuleType, tokens: int, block: int) -> None:
    slots = impl.request_bytes(SMALL, tokens, block) / EACH
    assert slots % block == 0, f"{tokens} tokens in blocks of {block} got {slots} slots"
    assert tokens <= slots < tokens + block, f"{tokens} tokens in blocks of {block} got {slots} slots"


@pytest.mark.only("starter", "solution")
def test_unknown_attention_is_named(impl: ModuleType) -> None:
    strange = replace(SMALL, layer_types=(FULL, FULL, FULL, "linear_attention"))
    with pytest.raises(ValueError, match=r"layer_types: .*linear_attention"):
        impl.kv_bytes_per_token(strange)
    with pytest.raises(ValueError, match=r"layer_types: .*linear_attention"):
        impl.request_bytes(strange, 10)
    with pytest.raises(ValueError, match="sliding_window is 0"):
        impl.request_bytes(replace(MIXED, window=0), 10)


@pytest.mark.only("starter", "solution")
@pytest.mark.parametrize("options", [{"tokens": -1}, {"tokens": 1, "block": 0}, {"tokens": 1, "bits": 0}])
def test_impossible_requests(impl: ModuleType, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        impl.request_bytes(SMALL, **options)


# Stretch


@pytest.mark.stretch
@pytest.mark.parametrize(
    ("tokens", "wanted"),
    [(10, 16), (64, 64), (65, 80), (66, 80), (10_000, 80)],
)
def test_a_window_holds_one_block_more_than_it_fills(impl: ModuleType, tokens: int, wanted: int) -> None:
    expect(f"window 64, blocks of 16, {tokens} tokens", impl.layer_tokens(tokens, 64, 16), wanted)


@pytest.mark.stretch
def test_windows_and_blocks_that_do_not_divide(impl: ModuleType) -> None:
    for window in (1, 2, 16, 17, 18, 33):
        needed = max(len({(end - i) // 16 for i in range(window)}) for end in range(200, 232))
        expect(f"window {window}", impl.layer_tokens(1000, window, 16), needed * 16)


@PLAIN
@pytest.mark.stretch
def test_only_full_layers_grow(impl: ModuleType) -> None:
    expect("3 layers stop at 80 tokens", impl.request_bytes(MIXED, 1000), (3 * 80 + 1008) * EACH // 4)
    expect("before the window fills", impl.request_bytes(MIXED, 32), 32 * EACH)


@PLAIN
@pytest.mark.stretch
def test_gemma_keeps_a_sixth(impl: ModuleType) -> None:
    gemma = zoo.load("gemma-3-1b")
    ratio = impl.request_bytes(gemma, 32768) / (32768 * impl.kv_bytes_per_token(gemma))
    assert 0.16 < ratio < 0.18, f"4 of 26 layers are full: {ratio:.3f} of a full cache, 0.17 expected"


@PLAIN
@pytest.mark.stretch
def test_latent_attention(impl: ModuleType) -> None:
    expect("latent and rope", impl.kv_bytes_per_token(LATENT), 4 * (32 + 4) * 2)
    expect("DeepSeek-V3", impl.kv_bytes_per_token(zoo.load("deepseek-v3")), 61 * 576 * 2)
    expect("8 GPUs hold a copy each", impl.kv_bytes_per_token(LATENT, gpus=8), 4 * 36 * 2)


@PLAIN
@pytest.mark.stretch
@pytest.mark.parametrize(("gpus", "share"), [(2, 2), (4, 2), (8, 2)])
def test_more_gpus_than_kv_heads_save_nothing(impl: ModuleType, gpus: int, share: int) -> None:
    expect(f"2 KV heads on {gpus} GPUs", impl.kv_bytes_per_token(SMALL, gpus=gpus), EACH // share)
    expect(f"32 tokens on {gpus} GPUs", impl.request_bytes(SMALL, 32, gpus=gpus), 32 * EACH // share)


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
@pytest.mark.parametrize(("heads", "kv_heads", "gpus"), [(8, 2, 3), (12, 4, 6), (8, 2, 16)])
def test_heads_that_cannot_be_shared_out(impl: ModuleType, heads: int, kv_heads: int, gpus: int) -> None:
    with pytest.raises(ValueError, match=f"cannot be shared out over {gpus} GPUs"):
        impl.kv_bytes_per_token(replace(SMALL, heads=heads, kv_heads=kv_heads), gpus=gpus)
