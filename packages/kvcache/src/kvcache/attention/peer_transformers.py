"""Peer: what transformers' models call, ``repeat_kv`` and then either the formula or torch's kernel."""

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.llama.modeling_llama import eager_attention_forward


class Layer(nn.Module):
    """What the functions ask of the layer that calls them."""

    def __init__(self, group: int) -> None:
        """Remember how many query heads share a key head."""
        super().__init__()
        self.num_key_value_groups, self.is_causal = group, True
        self.eval()


def _module(q: Tensor, k: Tensor) -> Layer:
    return Layer(q.shape[1] // k.shape[1])


def _mask(q: Tensor, kv_len: int, window: int | None, padding_mask: Tensor | None) -> Tensor:
    query = torch.arange(kv_len - q.shape[2], kv_len, device=q.device)[:, None]
    key = torch.arange(kv_len, device=q.device)
    mask = (key <= query) & (key > query - (window or kv_len))
    return mask[None, None] if padding_mask is None else mask & padding_mask[:, None, None]


def attend(q: Tensor, k: Tensor, v: Tensor, window: int | None = None, padding_mask: Tensor | None = None) -> Tensor:
    """Call the eager attention of the Llama model with an additive mask."""
    mask = _mask(q, k.shape[2], window, padding_mask)
    added = torch.zeros(mask.shape, dtype=q.dtype, device=q.device).masked_fill_(~mask, torch.finfo(q.dtype).min)
    out, _ = eager_attention_forward(_module(q, k), q, k, v, added, scaling=q.shape[-1] ** -0.5)
    result: Tensor = out.transpose(1, 2)
    return result


def attend_grouped(
    q: Tensor, k: Tensor, v: Tensor, window: int | None = None, padding_mask: Tensor | None = None
) -> Tensor:
    """Call the attention that its models choose by default."""
    mask = _mask(q, k.shape[2], window, padding_mask)
    out, _ = sdpa_attention_forward(_module(q, k), q, k, v, mask, scaling=q.shape[-1] ** -0.5)
    result: Tensor = out.transpose(1, 2)
    return result
