"""Peer: ``torch.nn.functional.scaled_dot_product_attention`` with its own grouping."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right


def attend(q: Tensor, k: Tensor, v: Tensor, window: int | None = None, padding_mask: Tensor | None = None) -> Tensor:
    """Call it with ``enable_gqa``; windows and padding need a mask built by hand."""
    q_len, kv_len, grouped = q.shape[2], k.shape[2], q.shape[1] != k.shape[1]
    if q_len == 1 and window is None and padding_mask is None:
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=grouped)
    if window is None and padding_mask is None and not grouped:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=causal_lower_right(q_len, kv_len))
    mask = torch.ones(q_len, kv_len, dtype=torch.bool, device=q.device).tril(kv_len - q_len)
    if window is not None:
        mask = mask.triu(kv_len - q_len - window + 1)
    if padding_mask is not None:
        mask = mask & padding_mask[:, None, None]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=grouped)


def attend_grouped(
    q: Tensor, k: Tensor, v: Tensor, window: int | None = None, padding_mask: Tensor | None = None
) -> Tensor:
    """Do the same: ``enable_gqa`` is torch's answer."""
    return attend(q, k, v, window, padding_mask)
