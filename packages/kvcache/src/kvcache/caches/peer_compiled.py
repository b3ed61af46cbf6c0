"""Peer in the race for tokens: transformers' StaticCache and compiled step, made anew for every length."""

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import CompileConfig, StaticCache


def generate(model: Any, prompt: Tensor, count: int) -> Tensor:  # noqa: ANN401 - transformers' models are untyped
    """Return ``count`` greedy tokens after ``prompt``, (batch, q_len)."""
    config = copy.copy(model.generation_config)
    config.eos_token_id, config.max_new_tokens, config.do_sample, config.pad_token_id = None, count, False, 0
    config.compile_config = CompileConfig()
    config.compile_config._compile_all_devices = True  # noqa: SLF001 - by default it compiles for CUDA only
    cache = StaticCache(model.config, prompt.shape[1] + count)
    out: Tensor = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), past_key_values=cache, generation_config=config
    )
    return out[:, prompt.shape[1] :]
