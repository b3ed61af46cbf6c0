"""The decoder over every cache: the numbers of transformers, and the same bits in any company."""

import json
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, MistralConfig

import models
from kvcache.adapter import TransformersCache
from kvcache.attention.solution import attend_grouped
from kvcache.caches import KVCache
from kvcache.caches.solution import ContiguousCache, SlidingCache
from kvcache.decoder import Config, Decoder, Int8Linear
from kvcache.kivi.solution import QuantizedCache
from kvcache.paging.solution import PagedCache

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 61,
    "max_position_embeddings": 640,
    "eos_token_id": None,
    "initializer_range": 0.5,  # large weights: attention and logits that depend on every position
}
ROPES: dict[str, dict[str, Any]] = {
    "plain": {"rope_type": "default", "rope_theta": 500.0},
    "linear": {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0},
    "yarn": {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 160},
    "yarn with a factor of its own": {
        "rope_type": "yarn",
        "rope_theta": 500.0,
        "factor": 4.0,
        "original_max_position_embeddings": 160,
        "attention_factor": 0.7,
    },
    "dynamic": {"rope_type": "dynamic", "rope_theta": 500.0, "factor": 4.0},
    "llama3": {
        "rope_type": "llama3",
        "rope_theta": 500.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 80,
    },
}
BIASES: dict[str, Any] = {"attention_bias": True, "mlp_bias": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "biases around attention": {"attention_bias": True},
    "biases between": {"mlp_bias": True},
    "biases, tied": BIASES | {"tie_word_embeddings": True},
    "biases, wide heads": BIASES | {"head_dim": 16},  # which the native step takes
    "wide heads": {"head_dim": 12},
    "no groups": {"num_key_value_heads": None},
    "trained in slices": {"pretraining_tp": 2},  # the same map, told in another order
}


def model_of(rope: str = "plain", **more: Any) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(**(SIZES | {"rope_parameters": ROPES[rope], "tie_word_embeddings": False} | more))
    model = LlamaForCausalLM(config).eval().requires_grad_(requires_grad=False)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):  # born as zeros
            weight.normal_()
    return model


def exact(model: Any) -> Any:
    """Make a model float64 throughout; transformers' norms and angles are float32 in any model."""
    rotary = model.double().model.rotary_emb

    def angles(_: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        half = position_ids[..., None] * rotary.inv_freq
        both = torch.cat([half, half], -1)
        return both.cos() * rotary.attention_scaling, both.sin() * rotary.attention_scaling

    rotary.forward = angles
    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            sizes = module.weight.shape, module.weight, module.variance_epsilon
            module.forward = partial(lambda shape, weight, eps, x: F.rms_norm(x, shape, weight, eps), *sizes)
    return model


def text(length: int, batch: int = 1, seed: int = 1) -> Tensor:
    return torch.randint(61, (batch, length), generator=torch.Generator().manual_seed(seed))


def caches(decoder: Decoder, batch: int, capacity: int = 96) -> dict[str, KVCache]:
    c, dtype = decoder.config, decoder.dtype
    shape = (c.layers, batch, c.kv_heads, c.head_dim)
    return {
        "contiguous": ContiguousCache(*shape, capacity, dtype),
        "paged": PagedCache(*shape, batch * 24, 4, dtype),
        "sliding": SlidingCache(*shape, capacity, 0, dtype),
        "sinks": SlidingCache(*shape, capacity, 4, dtype),
    }


@pytest.mark.parametrize("rope", ROPES)
def test_logits_are_those_of_transformers(rope: str) -> None:
    model = model_of(rope).double()
    decoder = Decoder.from_model(model)
    tokens = text(40, 2)
    wanted = model(tokens).logits
    found = decoder.forward(tokens, decoder.contiguous(64, 2), every=True)
    off = (found - wanted).abs().max().item()
    # transformers rotates in float32 whatever the model's dtype.
    assert off <= 1e-4 * wanted.abs().max(), f"{rope}: off by {off:.2g} of {wanted.abs().max():.3g}"


@pytest.mark.parametrize("variant", VARIANTS)
def test_any_llama_s_logits_are_those_of_transformers(variant: str) -> None:
    model = model_of(**VARIANTS[variant])
    single, tokens = Decoder.from_model(model), text(40, 2)
    assert single.config.parameters == sum(p.numel() for p in model.parameters())
    wanted = exact(model)(tokens).logits
    double, rotary = Decoder.from_model(model), model.model.rotary_emb
    assert (double._frequencies / rotary.inv_freq - 1).abs().max() <= 1e-6  # noqa: SLF001 - float32 in both
    double._frequencies = single._frequencies = rotary.inv_freq  # noqa: SLF001
    for decoder, limit in ((double, 1e-12), (single, 1e-5)):
        found = decoder.forward(tokens, decoder.contiguous(64, 2), every=True)
        off = ((found - wanted).abs().max() / wanted.abs().max()).item()
        assert off <= limit, f"{variant}, {found.dtype}: off by {off:.2g} of the largest logit"


@pytest.mark.parametrize("kind", ["contiguous", "paged", "sliding", "sinks"])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("chunks", [[1] * 12, [5, 7], [9, 1, 1, 1]])
def test_a_step_with_a_cache_is_the_full_pass(kind: str, dtype: torch.dtype, limit: float, chunks: list[int]) -> None:
    decoder = Decoder.from_model(model_of(**BIASES).to(dtype))
    tokens = text(12, 2)
    full = decoder.forward(tokens, decoder.contiguous(12, 2), every=True)
    cache, at = caches(decoder, 2)[kind], 0
    for size in chunks:
        found = decoder.forward(tokens[:, at : at + size], cache, every=True)
        off = ((found - full[:, at : at + size]).abs().max() / full.abs().max()).item()
        assert off <= limit, f"{kind}, chunks {chunks}: logits from position {at} on are off by {off:.2g}"
        at += size


def test_a_window_is_the_band_mask_of_every_layer() -> None:
    decoder, tokens = Decoder.from_model(model_of().double()), text(30)
    c = decoder.config
    shape = (c.layers, 1, c.kv_heads, c.head_dim)

    def run(chunk: int) -> Tensor:
        cache = SlidingCache(*shape, 7, 0, torch.float64)
        return torch.cat([decoder.forward(piece, cache, every=True) for piece in tokens.split(chunk, 1)], 1)

    whole = run(30)
    for chunk in (1, 3, 7, 8, 11):
        assert (run(chunk) - whole).abs().max() <= 1e-11, f"chunks of {chunk} across the wrap change the logits"
    unlimited = decoder.forward(tokens, decoder.contiguous(30), every=True)
    assert (whole[:, :7] - unlimited[:, :7]).abs().max() <= 1e-11, "within the window nothing may change"
    assert (whole[:, 20:] - unlimited[:, 20:]).abs().max() > 1e-3, "beyond the window something must change"


def test_sinks_never_grow_and_go_beyond_the_limit() -> None:
    decoder = Decoder.from_model(model_of(max_position_embeddings=16))
    c = decoder.config
    cache = SlidingCache(c.layers, 1, c.kv_heads, c.head_dim, 8, 2)
    before = cache.nbytes
    for token in text(50)[0]:
        logits = decoder.forward(token.view(1, 1), cache)
    assert cache.nbytes == before
    assert bool(logits.isfinite().all())


@pytest.mark.parametrize("batch", [1, 3])
def test_greedy_tokens_are_those_of_generate(batch: int) -> None:
    model = model_of()
    decoder, tokens = Decoder.from_model(model), text(10, batch)
    wanted = model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=20,
        min_new_tokens=20,
        do_sample=False,
        pad_token_id=0,
        past_key_values=DynamicCache(),
    )[:, 10:]
    for kind, cache in caches(decoder, batch).items():
        found = torch.stack(list(decoder.generate(tokens, cache, 20, chunk=4)), 1)
        assert torch.equal(found, wanted), f"{kind}: {found.tolist()}, transformers gives {wanted.tolist()}"


@pytest.mark.parametrize("kind", ["contiguous", "paged"])
@pytest.mark.parametrize("beams", [1, 3])
def test_generate_runs_on_our_caches(kind: str, beams: int) -> None:
    model, tokens = model_of(), text(9)
    options = {"attention_mask": torch.ones_like(tokens), "max_new_tokens": 15, "do_sample": False, "pad_token_id": 0}
    wanted = model.generate(tokens, num_beams=beams, **options)
    cache = caches(Decoder.from_model(model), beams)[kind]
    found = model.generate(tokens, num_beams=beams, past_key_values=TransformersCache(cache, 2), **options)
    assert torch.equal(found, wanted), f"{kind}, {beams} beams: {found.tolist()}, expected {wanted.tolist()}"
    assert cache.length >= 9


def test_requests_of_any_length_share_a_step() -> None:
    decoder = Decoder.from_model(model_of().double())
    prompts = [text(n, seed=n)[0] for n in (3, 11, 1)]
    each = [decoder.contiguous(32) for _ in prompts]
    found = decoder.forward_ragged(prompts, each)
    for i, prompt in enumerate(prompts):
        alone = decoder.forward(prompt[None], decoder.contiguous(32))
        assert (found[i] - alone[0]).abs().max() <= 1e-11, f"request {i} of {len(prompt)} tokens"


@pytest.mark.parametrize("biases", [{}, BIASES], ids=["plain", "biased"])
@pytest.mark.parametrize("head_dim", [8, 16])  # torch's linear maps at a fixed shape, and the native step
def test_deterministic_logits_do_not_depend_on_company(head_dim: int, biases: dict[str, Any]) -> None:
    decoder = Decoder.from_model(model_of(head_dim=head_dim, **biases), deterministic=True)
    tokens = text(600)
    alone = decoder.forward(tokens, decoder.contiguous(600), every=True)[0]
    cache = decoder.contiguous(600)
    chunked = torch.cat([decoder.forward(p, cache, every=True)[0] for p in tokens.split([1, 2, 500, 3, 13, 81], 1)])
    assert torch.equal(chunked, alone), f"in chunks: off by {(chunked - alone).abs().max():.2g}"
    prompts = [text(5, seed=5)[0], tokens[0, :530], text(70, seed=6)[0]]
    beside = decoder.forward_ragged(prompts, [decoder.contiguous(600) for _ in prompts], every=True)
    assert torch.equal(beside[5:535], alone[:530]), "in a batch of other requests"
    cache.crop(64)
    after = decoder.forward(tokens[:, 64:], cache, every=True)[0]
    assert torch.equal(after, alone[64:]), "after a prefix of 64 that was there already"
    paged = caches(decoder, 1)["paged"]
    assert torch.equal(decoder.forward(tokens[:, :90], paged, every=True)[0], alone[:90]), "over pages"


@pytest.mark.parametrize("biases", [{}, BIASES], ids=["plain", "biased"])
@pytest.mark.parametrize("head_dim", [8, 16])  # fbgemm, and the native step
def test_int8_weights_are_close_and_small(head_dim: int, biases: dict[str, Any]) -> None:
    model = model_of(initializer_range=0.1, head_dim=head_dim, **biases)
    plain, small = Decoder.from_model(model), Decoder.from_model(model, int8=True)
    assert isinstance(small.head, Int8Linear) == (head_dim == 8)
    tokens = text(30)
    wanted = plain.forward(tokens, plain.contiguous(30), every=True)
    found = small.forward(tokens, small.contiguous(30), every=True)
    error = ((found - wanted).norm() / wanted.norm()).item()
    assert error <= 0.05, f"relative error of the logits {error:.3f}"  # 7-bit activations: about 1 % a layer
    assert small.nbytes <= 0.4 * plain.nbytes


def test_an_int8_cache_of_a_real_model_is_close() -> None:
    model, tokenizer = models.load("tinylm")
    decoder, at = Decoder.from_model(model), 448
    c, asked = decoder.config, list[Tensor]()

    def attending(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        asked.append(q)
        return attend_grouped(q, k, v)

    decoder.attend_by(attending)
    tokens = torch.tensor([tokenizer(models.corpus("heldout")[:10_000])["input_ids"][:at]])
    plain, small = decoder.contiguous(at), QuantizedCache(c.layers, 1, c.kv_heads, c.head_dim, at, 8)
    decoder.forward(tokens, plain)
    for layer, q in enumerate(asked):  # 448 positions are 14 whole groups: nothing waits
        k, v = plain.keys[layer, :, :, :at], plain.values[layer, :, :, :at]
        view = small.update(layer, k, v, torch.arange(at))
        wanted, found = (attend_grouped(q[:, :, -64:], *kv) for kv in ((k, v), (view.keys, view.values)))
        error = ((found - wanted).norm() / wanted.norm()).item()
        assert error <= 0.01, f"layer {layer}: relative attention error {error:.4f}"


def test_a_checkpoint_on_disk(tmp_path: Any) -> None:
    model = model_of(tie_word_embeddings=True)
    model.save_pretrained(tmp_path)
    decoder = Decoder.load(tmp_path)
    off = (decoder.forward(text(9), decoder.contiguous(9), every=True) - model(text(9)).logits).abs().max()
    assert off <= 1e-4
    assert decoder.config.parameters == sum(p.numel() for p in model.parameters())


def test_a_checkpoint_as_transformers_4_wrote_it(tmp_path: Any) -> None:
    """Rotary settings stand at the top and under other names, and what has a default may be missing."""
    model_of("linear", num_key_value_heads=4).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    for name in ("rope_parameters", "num_key_value_heads", "head_dim", "tie_word_embeddings", "attention_bias"):
        del config[name]
    old = {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 4.0}, "pretraining_tp": 1}
    (tmp_path / "config.json").write_text(json.dumps(config | old), "utf-8")
    wanted = LlamaForCausalLM.from_pretrained(tmp_path)(text(30)).logits
    decoder = Decoder.load(tmp_path)
    off = (decoder.forward(text(30), decoder.contiguous(30), every=True) - wanted).abs().max()
    assert off <= 1e-5 * wanted.abs().max(), f"off by {off:.2g} of {wanted.abs().max():.3g}"


def test_bad_input_is_refused(tmp_path: Any) -> None:
    decoder = Decoder.from_model(model_of())
    with pytest.raises(ValueError, match="no Llama checkpoint"):
        Decoder.load(tmp_path)
    with pytest.raises(ValueError, match="unknown architecture"):
        Config.read(MistralConfig().to_dict())
    with pytest.raises(ValueError, match="outside the vocabulary of 61"):
        decoder.forward(torch.tensor([[61]]), decoder.contiguous(4))
    with pytest.raises(ValueError, match="641 tokens, the model's limit is 640"):
        decoder.prefill(text(641), decoder.contiguous(700), chunk=640)
    with pytest.raises(TypeError, match="tokens are"):
        decoder.forward(text(3).float(), decoder.contiguous(4))
    with pytest.raises(ValueError, match="count is 0"):
        next(decoder.generate(text(3), decoder.contiguous(4), 0))
    with pytest.raises(ValueError, match=r"tokens have shape \(1, 0\)"):
        decoder.forward(text(0), decoder.contiguous(4))
    with pytest.raises(ValueError, match="holds 4 positions"):
        decoder.forward(text(5), decoder.contiguous(4))
    with pytest.raises(ValueError, match="exclude each other without the native kernel"):
        Decoder.from_model(model_of(), int8=True, deterministic=True)  # heads of 8 are none of the kernel's
    with pytest.raises(ValueError, match="out of order, which transformers"):
        TransformersCache(SlidingCache(2, 1, 2, 8, 4), 2)
    with pytest.raises(ValueError, match="2 requests and 1 caches"):
        decoder.forward_ragged([text(2)[0]] * 2, [decoder.contiguous(4)])


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "no layers": ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
    "no limit": ({"max_position_embeddings": None}, "max_position_embeddings is None"),
    "a size in words": ({"hidden_size": "many"}, "hidden_size is 'many'"),
    "key heads that do not divide": ({"num_key_value_heads": 3}, "4 query heads are not a multiple of 3"),
    "heads that do not divide": ({"hidden_size": 30}, "heads of 7.5"),
    "an odd head": ({"head_dim": 7}, "head_dim is 7"),
    "another activation": ({"hidden_act": "gelu"}, "with gelu"),
    "weights in codes": ({"quantization_config": {"quant_method": "fp8"}}, "weights are quantized"),
    "scaling unknown": ({"rope_parameters": {"rope_type": "longrope"}}, "'longrope' is not one of"),
    "half a rotation": ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5 is not built"),
    "scaling of scores": ({"rope_scaling": {"type": "yarn", "factor": 2.0, "mscale": 0.7}}, "mscale 0.7 is not built"),
    "scaling by nothing": ({"rope_parameters": {"rope_type": "linear"}}, "the factor None"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_bad_configs_are_refused(case: str) -> None:
    more, words = CONFIGS[case]
    good = LlamaConfig(**SIZES).to_dict() | {"head_dim": None}
    assert Config.read(good).head_dim == 8
    with pytest.raises(ValueError, match=words):
        Config.read(good | more)
    with pytest.raises(ValueError, match="a config is an object, not list"):
        Config.read([])  # type: ignore[arg-type]


def test_biases_are_those_of_the_config() -> None:
    plain, biased = model_of(), model_of(mlp_bias=True)
    with pytest.raises(ValueError, match=r"no model\.layers\.0\.mlp\.gate_proj\.bias"):
        Decoder(Config.read(biased.config.to_dict()), plain.state_dict())
    with pytest.raises(ValueError, match=r"has model\.layers\.0\.mlp\.gate_proj\.bias, by the config there is none"):
        Decoder(Config.read(plain.config.to_dict()), biased.state_dict())


@pytest.mark.parametrize("name", ["model.embed_tokens", "model.norm", "lm_head", "model.layers.1.self_attn.k_proj"])
def test_weights_that_do_not_fit_are_refused(name: str) -> None:
    """What the native step was told of shapes it believes."""
    model = model_of(head_dim=16)
    config, weights, key = Config.read(model.config.to_dict()), model.state_dict(), f"{name}.weight"
    Decoder(config, weights)
    with pytest.raises(ValueError, match=f"{name}.weight has shape .* by the config it must be"):
        Decoder(config, weights | {key: weights[key][:-1]})
    with pytest.raises(ValueError, match=f"has no {name}.weight"):
        Decoder(config, {other: weight for other, weight in weights.items() if other != key})
    if name != "model.embed_tokens":
        for bad in (weights[key].half(), weights[key].to("meta")):
            with pytest.raises(ValueError, match=f"{name}.weight is {bad.dtype} on {bad.device}, the embedding"):
                Decoder(config, weights | {key: bad})


def test_int8_weights_are_made_of_float32() -> None:
    with pytest.raises(ValueError, match="made of float32 on the CPU, not of"):
        Decoder.from_model(model_of().bfloat16(), int8=True)


def test_deterministic_over_a_cache_of_any_size() -> None:
    decoder = Decoder.from_model(model_of(), deterministic=True)  # heads of 8: torch's kernels at a fixed width
    c, tokens = decoder.config, text(20)
    small = ContiguousCache(c.layers, 1, c.kv_heads, c.head_dim, 20)
    assert torch.equal(
        decoder.forward(tokens, small, every=True), decoder.forward(tokens, decoder.contiguous(20), every=True)
    )
