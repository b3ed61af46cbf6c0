"""From the fields of a Hugging Face config.json to a Model."""

from collections.abc import Mapping
from typing import Any

from capacity.weights import Model

LLAMA, QWEN, GEMMA = ("llama", "mistral", "phi3"), ("qwen2", "qwen3", "qwen3_moe"), ("gemma2", "gemma3_text")
TYPES = (*LLAMA, *QWEN, *GEMMA, "mixtral", "starcoder2", "deepseek_v2", "deepseek_v3")
GEMMA3_PATTERN = 6  # five sliding layers, then a full one: Gemma 3 report, arXiv:2503.19786, section 2
DEFAULTS = {"gemma2": 256, "gemma3_text": 256}  # head_dim where the file leaves it out


def read(config: Mapping[str, Any]) -> Model:
    """Read a config; see ``Model.from_config``."""
    kind = config.get("model_type")
    if isinstance(config.get("text_config"), Mapping) and kind not in TYPES:  # a vision model around a language model
        return read({"model_type": kind, **config["text_config"]})
    if kind not in TYPES:
        msg = f"model_type {kind!r} is none of those whose parameters are counted here: {', '.join(TYPES)}"
        raise ValueError(msg)
    layers, hidden, heads = (
        _integer(config, name) for name in ("num_hidden_layers", "hidden_size", "num_attention_heads")
    )
    fields: dict[str, Any] = {
        "layers": layers,
        "hidden": hidden,
        "heads": heads,
        "kv_heads": _integer(config, "num_key_value_heads", heads),
        "head_dim": _integer(config, "head_dim", DEFAULTS.get(kind, hidden // heads)),
        "intermediate": _integer(config, "intermediate_size"),
        "vocab": _integer(config, "vocab_size"),
        "tied": bool(config.get("tie_word_embeddings", kind in GEMMA or kind == "starcoder2")),
        "context": _integer(config, "max_position_embeddings", 0),
        "layer_types": _layer_types(config, kind, layers),
        "window": _integer(config, "sliding_window", 4096 if kind in GEMMA else 0),
        "name": str(config.get("_name_or_path", "")),
    }
    attention_bias = bool(config.get("attention_bias", False))
    fields |= {"qkv_bias": attention_bias, "out_bias": attention_bias, "mlp_bias": bool(config.get("mlp_bias", False))}
    if kind == "qwen2":
        fields |= {"qkv_bias": True, "out_bias": False}
    if kind == "starcoder2":
        biased = bool(config.get("use_bias", True))
        fields |= {"gated": False, "qkv_bias": biased, "out_bias": biased, "mlp_bias": biased, "norm_bias": True}
    if kind in GEMMA:
        fields["norms"] = 4  # before and after attention, before and after the MLP
    fields["qk_norm"] = kind in ("qwen3", "qwen3_moe", "gemma3_text")
    if kind == "mixtral":
        fields |= {
            "experts": _integer(config, "num_local_experts"),
            "chosen": _integer(config, "num_experts_per_tok"),
            "expert_size": fields["intermediate"],
        }
    if kind == "qwen3_moe":
        if config.get("decoder_sparse_step", 1) != 1 or config.get("mlp_only_layers"):
            msg = "decoder_sparse_step other than 1 and mlp_only_layers are not counted here"
            raise ValueError(msg)
        fields |= {
            "experts": _integer(config, "num_experts"),
            "chosen": _integer(config, "num_experts_per_tok"),
            "expert_size": _integer(config, "moe_intermediate_size"),
        }
    if kind.startswith("deepseek"):
        fields |= _deepseek(config, v3=kind == "deepseek_v3")
    return Model(**fields)


def _deepseek(config: Mapping[str, Any], *, v3: bool) -> dict[str, Any]:
    """Read latent attention and fine-grained experts: DeepSeek-V2, arXiv:2405.04434, sections 2.1 and 2.2."""
    if config.get("moe_layer_freq", 1) != 1:
        msg = f"moe_layer_freq {config['moe_layer_freq']} is not counted here, only 1"
        raise ValueError(msg)
    return {
        "latent": _integer(config, "kv_lora_rank"),
        "query_latent": _integer(config, "q_lora_rank", 0),
        "head_dim": _integer(config, "qk_nope_head_dim"),
        "rope_dim": _integer(config, "qk_rope_head_dim"),
        "value_dim": _integer(config, "v_head_dim"),
        "experts": _integer(config, "n_routed_experts"),
        "chosen": _integer(config, "num_experts_per_tok"),
        "shared": _integer(config, "n_shared_experts", 0),
        "expert_size": _integer(config, "moe_intermediate_size"),
        "dense_layers": _integer(config, "first_k_dense_replace", 0),
        "router_bias": v3,  # the bias that balances the load: DeepSeek-V3, arXiv:2412.19437, section 2.1.2
    }


def _layer_types(config: Mapping[str, Any], kind: str, layers: int) -> tuple[str, ...]:
    """Say which layers look through a window; older files say it in other fields."""
    named = config.get("layer_types")
    if named is not None:
        return tuple(str(name) for name in named)
    if kind == "gemma2":
        return tuple("full_attention" if layer % 2 else "sliding_attention" for layer in range(layers))
    if kind == "gemma3_text":
        every = _integer(config, "sliding_window_pattern", GEMMA3_PATTERN)
        return tuple("sliding_attention" if (n + 1) % every else "full_attention" for n in range(layers))
    if kind in QWEN:  # they name a window, and use it only where told, above a number of full layers
        first = _integer(config, "max_window_layers", layers) if config.get("use_sliding_window") else layers
        return tuple("full_attention" if layer < first else "sliding_attention" for layer in range(layers))
    return ("sliding_attention",) * layers if config.get("sliding_window") else ()


def _integer(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = config.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        msg = f"{name} must be a whole number, not {value!r}" if name in config else f"the config has no {name}"
        raise ValueError(msg)
    return value
