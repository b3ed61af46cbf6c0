"""Peer: transformers' rotary functions."""

import torch
from torch import Tensor
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from kvcache.rotary import Scaled, Scaling


def frequencies(head_dim: int, base: float = 10000.0) -> Tensor:
    """Ask the embedding of a Llama model."""
    found: Tensor = LlamaRotaryEmbedding(_config(head_dim, base, {"rope_type": "default"})).inv_freq
    return found


def rotate(x: Tensor, positions: Tensor, frequencies: Tensor, attention: float = 1.0) -> Tensor:
    """Build the tables as its embedding does, and apply them."""
    angles = positions.view(-1, x.shape[2], 1).float() * frequencies.to(x.device)
    tables = torch.cat([angles, angles], -1)
    cos, sin = tables.cos() * attention, tables.sin() * attention
    turned, _ = apply_rotary_pos_emb(x, x[:, :1], cos.to(x.dtype), sin.to(x.dtype))
    result: Tensor = turned
    return result


def scaled_frequencies(head_dim: int, base: float, scaling: Scaling) -> Scaled:
    """Call the function that its configurations name."""
    rope: dict[str, object] = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "yarn":
        rope |= {"beta_slow": scaling.low, "beta_fast": scaling.high}
    if scaling.kind == "llama3":
        rope |= {"low_freq_factor": scaling.low, "high_freq_factor": scaling.high}
    rope["original_max_position_embeddings"] = scaling.original
    found, attention = ROPE_INIT_FUNCTIONS[scaling.kind](_config(head_dim, base, rope), torch.device("cpu"))
    return Scaled(found, float(attention))


def _config(head_dim: int, base: float, rope: dict[str, object]) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=4 * head_dim, num_attention_heads=4, rope_parameters=rope | {"rope_theta": base}, head_dim=head_dim
    )
