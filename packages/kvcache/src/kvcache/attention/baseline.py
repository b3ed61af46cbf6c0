"""The simple answer: keys repeated for every query head, masks built whole."""

import torch
from torch import Tensor


def visible(q_len: int, kv_len: int, window: int | None = None, padding_mask: Tensor | None = None) -> Tensor:
    """Tell which query may see which key."""
    query = torch.arange(kv_len - q_len, kv_len)[:, None]
    key = torch.arange(kv_len)[None]
    mask = key <= query
    if window is not None:
        mask &= query - key < window
    return mask if padding_mask is None else mask.to(padding_mask.device) & padding_mask[:, None, None]


def attend(q: Tensor, k: Tensor, v: Tensor, window: int | None = None, padding_mask: Tensor | None = None) -> Tensor:
    """Return softmax(q k^T / sqrt(head_dim)) v over the visible keys."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    mask = visible(q.shape[2], k.shape[2], window, padding_mask).to(q.device)
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5  # (batch, heads, q_len, kv_len)
    wide = torch.promote_types(q.dtype, torch.float32)
    weights = scores.to(wide).masked_fill(~mask, float("-inf")).softmax(-1)
    out: Tensor = weights.masked_fill(~mask, 0.0).to(q.dtype) @ v
    return out


def attend_grouped(
    q: Tensor, k: Tensor, v: Tensor, window: int | None = None, padding_mask: Tensor | None = None
) -> Tensor:
    """Fold the group of query heads into the query length."""
    batch, heads, q_len, head_dim = q.shape
    group = heads // k.shape[1]
    folded = q.reshape(batch, k.shape[1], group * q_len, head_dim)
    mask = visible(q_len, k.shape[2], window, padding_mask).to(q.device)
    mask = torch.cat([mask] * group, dim=-2)
    scores = folded @ k.transpose(-1, -2) / head_dim**0.5
    wide = torch.promote_types(q.dtype, torch.float32)
    weights = scores.to(wide).masked_fill(~mask, float("-inf")).softmax(-1)
    out: Tensor = weights.masked_fill(~mask, 0.0).to(q.dtype) @ v
    return out.view(q.shape)


def attend_tiled(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: int | None = None,
    padding_mask: Tensor | None = None,
    block: int = 128,
) -> Tensor:
    """Take one block of keys after the other."""
    group, wide = q.shape[1] // k.shape[1], torch.promote_types(q.dtype, torch.float32)
    mask = visible(q.shape[2], k.shape[2], window, padding_mask).to(q.device)
    largest = torch.full(q.shape[:3], float("-inf"), dtype=wide, device=q.device)  # (batch, heads, q_len)
    total, out = torch.zeros_like(largest), torch.zeros(q.shape, dtype=wide, device=q.device)
    for at in range(0, k.shape[2], block):
        keys = k[:, :, at : at + block].repeat_interleave(group, dim=1).to(wide)
        values = v[:, :, at : at + block].repeat_interleave(group, dim=1).to(wide)
        scores = q.to(wide) @ keys.transpose(-1, -2) / q.shape[-1] ** 0.5
        scores = scores.masked_fill(~mask[..., at : at + block], float("-inf"))
        new = torch.maximum(largest, scores.amax(-1))
        finite = new.masked_fill(new == float("-inf"), 0.0)
        shrink, weights = torch.exp(largest - finite), torch.exp(scores - finite[..., None])
        total = total * shrink + weights.sum(-1)
        out = out * shrink[..., None] + weights @ values
        largest = new
    return (out / total.masked_fill(total == 0, 1.0)[..., None]).to(q.dtype)
