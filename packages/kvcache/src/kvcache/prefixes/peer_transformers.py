"""Peer: how transformers' documentation reuses a prompt: prefill a cache once, copy it for each request.

It copies what paging shares. There is no index, so the tests pass it by; it runs in the race for the first token.
"""

import copy
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, LlamaForCausalLM


@cache
def prefilled(model: LlamaForCausalLM, prefix: tuple[int, ...]) -> Any:  # noqa: ANN401 - untyped
    """Compute the common prefix once."""
    past = DynamicCache()
    if prefix:
        model(torch.tensor([prefix]), past_key_values=past, logits_to_keep=1)
    return past


@torch.inference_mode()
def first_logits(model: LlamaForCausalLM, prompt: Tensor, known: int) -> Tensor:
    """Copy the prefilled cache and go on from it."""
    past = copy.deepcopy(prefilled(model, tuple(prompt[:known].tolist())))
    logits: Tensor = model(prompt[None, known:], past_key_values=past, logits_to_keep=1).logits
    return logits[:, -1]
