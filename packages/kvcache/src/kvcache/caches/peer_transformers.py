"""Peer: transformers' StaticCache, preallocated like ours, and its mask; in the race for tokens, its ``generate``."""

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, LlamaConfig, StaticCache

from kvcache.caches import View


class ContiguousCache:
    """Wraps ``StaticCache``, which returns its whole buffer and leaves the rest to the mask."""

    def __init__(
        self,
        layers: int,
        batch: int,
        kv_heads: int,
        head_dim: int,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Make its configuration."""
        config = LlamaConfig(
            num_hidden_layers=layers,
            num_attention_heads=kv_heads,
            num_key_value_heads=kv_heads,
            head_dim=head_dim,
            hidden_size=kv_heads * head_dim,
        )
        self.cache: Any = StaticCache(config, capacity)
        self.cache.early_initialization(batch, kv_heads, head_dim, dtype, torch.device(device))
        self.columns = torch.arange(capacity, device=device)

    @property
    def length(self) -> int:
        """How many positions were appended."""
        return int(self.cache.get_seq_length())

    def update(self, layer: int, k: Tensor, v: Tensor, positions: Tensor) -> View:
        """Return everything, empty columns among them."""
        keys, values = self.cache.update(k, v, layer)
        filled = int(self.cache.get_seq_length(layer))
        where = torch.where(self.columns < filled, self.columns, -1)
        return View(keys, values, where, where)

    def reorder(self, rows: Tensor) -> None:
        """Make row ``i`` of the batch a copy of row ``rows[i]``."""
        self.cache.reorder_cache(rows)

    @property
    def nbytes(self) -> int:
        """How many bytes the buffers take."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.cache.layers)


def generate(model: Any, prompt: Tensor, count: int) -> Tensor:  # noqa: ANN401 - transformers' models are untyped
    """Return ``count`` greedy tokens after ``prompt``, (batch, q_len), over a DynamicCache."""
    config = copy.copy(model.generation_config)
    config.eos_token_id, config.max_new_tokens, config.do_sample, config.pad_token_id = None, count, False, 0
    out: Tensor = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), past_key_values=DynamicCache(), generation_config=config
    )
    return out[:, prompt.shape[1] :]
