"""The production answer: no expanded keys, no row of scores longer than needed, blocks nobody sees never touched."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kvcache import _attend

FAR = float("-inf")
CHUNK = 32  # queries whose scores are in memory at a time


def visible(q_len: int, kv_len: int, window: int | None = None, padding_mask: Tensor | None = None) -> Tensor:
    """Tell which query may see which key: bool (q_len, kv_len), or (batch, 1, q_len, kv_len) with a padding mask.

    The queries are the last ``q_len`` of ``kv_len`` positions; each sees itself and what came before, with ``window``
    only the latest ``window`` positions, itself among them. ``padding_mask`` is (batch, kv_len) bool, False where a key
    is padding. The result is on the device of the padding mask, else on the CPU. Raises ValueError for q_len > kv_len,
    a window below 1 or a padding mask of another shape, TypeError for one that is not bool.
    """
    _refuse(q_len, kv_len, window, padding_mask)
    device = padding_mask.device if padding_mask is not None else torch.device("cpu")
    return _mask((kv_len - q_len, kv_len), (0, kv_len), window, padding_mask, device)


def attend(q: Tensor, k: Tensor, v: Tensor, window: int | None = None, padding_mask: Tensor | None = None) -> Tensor:
    """Return softmax(q k^T / sqrt(head_dim)) v over the visible keys, (batch, heads, q_len, head_dim).

    Softmax is computed in at least float32, the result has the dtype of ``q``; a query that sees no key gets zeros.
    Raises ValueError for shapes that do not fit, head counts that do not divide, mixed dtypes or devices, TypeError for
    integers, and whatever ``visible`` refuses. Source: Vaswani et al. 2017, eq. 1.
    """
    _refuse_misfit(q, k, v, window, padding_mask)
    q_len, offset, found = q.shape[2], k.shape[2] - q.shape[2], []
    for first in range(0, max(q_len, 1), CHUNK):  # keys that none of some queries sees are not multiplied for them
        last = min(first + CHUNK, q_len)
        low = 0 if window is None else max(0, offset + first - window + 1)
        keys, values = k[:, :, low : offset + last], v[:, :, low : offset + last]
        folded = fold(q[:, :, first:last], k.shape[1])
        scores = (folded * q.shape[-1] ** -0.5) @ keys.transpose(-1, -2)  # (batch, kv_heads, group * queries, keys)
        scores = scores.to(torch.promote_types(q.dtype, torch.float32))
        # All see the keys before the chunk, unless window or padding hide them: a pass over few scores, not over all.
        start = offset + first if window is None and padding_mask is None else low
        mask = _mask((offset + first, offset + last), (start, offset + last), window, padding_mask, q.device)
        mask = _fold_mask(mask, q.shape[1] // k.shape[1])
        scores[..., start - low :].masked_fill_(~mask, FAR)
        weights = scores.softmax(-1)
        if padding_mask is not None:  # a row without keys has softmax NaN; zeros can be added and normalised
            weights = weights.masked_fill_(~mask.any(-1, keepdim=True), 0.0)
        out: Tensor = weights.to(q.dtype) @ values
        found.append(out.view(*q.shape[:2], last - first, q.shape[3]))
    return torch.cat(found, 2)


def attend_grouped(
    q: Tensor, k: Tensor, v: Tensor, window: int | None = None, padding_mask: Tensor | None = None
) -> Tensor:
    """Do as ``attend`` without a copy of the keys: the group becomes part of the query length.

    On a CPU with a C compiler a native kernel does it where nothing is padded, in float32 and bfloat16. Source:
    Ainslie et al. 2023, arXiv:2305.13245, section 2.2.
    """
    _refuse_misfit(q, k, v, window, padding_mask)
    (_, heads, q_len, head_dim), (_, kv_heads, kv_len, _) = q.shape, k.shape
    if padding_mask is None and q_len and _attend.suits(k, v):
        return _attend.attend_together(q, k, v, window or 0)
    folded = fold(q, kv_heads)
    if q_len == 1 and window is None and padding_mask is None:  # a decode step sees everything: no mask to read
        return F.scaled_dot_product_attention(folded, k, v, scale=head_dim**-0.5).view(q.shape)
    mask = _mask((kv_len - q_len, kv_len), (0, kv_len), window, padding_mask, q.device)
    mask = _fold_mask(mask, heads // kv_heads)
    out = F.scaled_dot_product_attention(folded, k, v, attn_mask=mask, scale=head_dim**-0.5)
    if padding_mask is not None:  # without padding every query sees itself
        out = out.masked_fill(~mask.any(-1, keepdim=True), 0.0)
    return out.view(q.shape)


def attend_tiled(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: int | None = None,
    padding_mask: Tensor | None = None,
    block: int = 128,
) -> Tensor:
    """Do as ``attend`` with at most heads * q_len * block scores in memory: one block of keys after the other.

    Raises ValueError for a block below 1, and whatever ``attend`` refuses. Source: Milakov and Gimelshein 2018,
    arXiv:1805.02867, algorithm 3; Dao et al. 2022, arXiv:2205.14135, algorithm 1.
    """
    _refuse_misfit(q, k, v, window, padding_mask)
    if block < 1:
        msg = f"block is {block}, must be at least 1"
        raise ValueError(msg)
    (batch, heads, q_len, head_dim), (_, kv_heads, kv_len, _) = q.shape, k.shape
    group, offset = heads // kv_heads, kv_len - q_len
    wide = torch.promote_types(q.dtype, torch.float32)
    queries = q.to(wide).mul(head_dim**-0.5).view(batch, kv_heads, group, q_len, head_dim)
    out = torch.zeros_like(queries)
    largest = torch.full_like(queries[..., :1], FAR)  # (batch, kv_heads, group, q_len, 1)
    total = torch.zeros_like(largest)
    for start in range(0, kv_len, block):
        stop = min(start + block, kv_len)
        # Rows before the block's first key do not see it yet, rows past its last key's window no longer.
        first = max(0, start - offset)
        last = q_len if window is None else min(q_len, stop - 1 + window - offset)
        if first >= last:
            continue
        rows = slice(first, last)
        keys, values = k[:, :, None, start:stop].to(wide), v[:, :, None, start:stop].to(wide)
        scores = queries[..., rows, :] @ keys.transpose(-1, -2)  # (batch, kv_heads, group, rows, block)
        mask = _mask((offset + first, offset + last), (start, stop), window, padding_mask, q.device)
        scores.masked_fill_(~(mask if padding_mask is None else mask[:, :, None]), FAR)
        before = largest[..., rows, :]
        now = torch.maximum(before, scores.amax(-1, keepdim=True))
        shift = now.masked_fill(now == FAR, 0.0)  # nothing seen so far: exp(-inf - 0) is 0, exp(-inf + inf) is NaN
        shrink = torch.exp(before - shift)
        weights = scores.sub_(shift).exp_()
        total[..., rows, :] = total[..., rows, :] * shrink + weights.sum(-1, keepdim=True)
        out[..., rows, :] = out[..., rows, :] * shrink + weights @ values
        largest[..., rows, :] = now
    return out.div_(total.masked_fill_(total == 0, 1.0)).view(q.shape).to(q.dtype)


def fold(q: Tensor, kv_heads: int) -> Tensor:
    """View (batch, heads, q_len, head_dim) as (batch, kv_heads, heads / kv_heads * q_len, head_dim)."""
    batch, heads, q_len, head_dim = q.shape
    return q.reshape(batch, kv_heads, heads // kv_heads * q_len, head_dim)


def _fold_mask(mask: Tensor, group: int) -> Tensor:
    """Repeat the rows of (..., q_len, kv_len) for each query head of a group."""
    return mask if group == 1 else mask.repeat(*[1] * (mask.ndim - 2), group, 1)


def _mask(
    queries: tuple[int, int],
    keys: tuple[int, int],
    window: int | None,
    padding_mask: Tensor | None,
    device: torch.device,
) -> Tensor:
    """Return which of the positions ``range(*queries)`` sees which of ``range(*keys)``."""
    query = torch.arange(*queries, device=device)[:, None]
    key = torch.arange(*keys, device=device)
    mask = key <= query
    if window is not None:
        mask &= key > query - window
    return mask if padding_mask is None else mask & padding_mask[:, None, None, keys[0] : keys[1]].to(device)


def _refuse(q_len: int, kv_len: int, window: int | None, padding_mask: Tensor | None) -> None:
    if not 0 <= q_len <= kv_len:
        msg = f"q_len is {q_len}, must be from 0 to kv_len {kv_len}: every query has a key of its own"
        raise ValueError(msg)
    if window is not None and window < 1:
        msg = f"window is {window}, must be at least 1"
        raise ValueError(msg)
    if padding_mask is not None and padding_mask.dtype != torch.bool:
        msg = f"padding_mask is {padding_mask.dtype}, must be bool"
        raise TypeError(msg)
    if padding_mask is not None and (padding_mask.ndim != 2 or padding_mask.shape[1] != kv_len):  # noqa: PLR2004
        msg = f"padding_mask has shape {tuple(padding_mask.shape)}, must be (batch, {kv_len})"
        raise ValueError(msg)


def _refuse_misfit(q: Tensor, k: Tensor, v: Tensor, window: int | None, padding_mask: Tensor | None) -> None:
    if q.ndim != 4 or k.shape != v.shape or k.ndim != 4 or (q.shape[0], q.shape[3]) != (k.shape[0], k.shape[3]):  # noqa: PLR2004
        shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
        msg = f"shapes do not fit: {shapes}; wanted (batch, heads, length, head_dim) with the same batch and head_dim"
        raise ValueError(msg)
    if not k.shape[1] or q.shape[1] % k.shape[1]:
        msg = f"{q.shape[1]} query heads are not a multiple of {k.shape[1]} key heads"
        raise ValueError(msg)
    if not q.shape[3]:
        msg = f"head_dim is 0: q {tuple(q.shape)}, k {tuple(k.shape)}"
        raise ValueError(msg)
    if not q.is_floating_point():
        msg = f"q is {q.dtype}, must be floating point"
        raise TypeError(msg)
    if not q.dtype == k.dtype == v.dtype or not q.device == k.device == v.device:
        given = ", ".join(f"{name} {t.dtype} on {t.device}" for name, t in (("q", q), ("k", k), ("v", v)))
        msg = f"q, k and v must have one dtype and one device: {given}"
        raise ValueError(msg)
    _refuse(q.shape[2], k.shape[2], window, padding_mask)
    if padding_mask is not None and padding_mask.device != q.device:
        msg = f"q is on {q.device} and padding_mask on {padding_mask.device}: one device is wanted"
        raise ValueError(msg)
    if padding_mask is not None and padding_mask.shape[0] != q.shape[0]:
        msg = f"padding_mask has shape {tuple(padding_mask.shape)}, must be ({q.shape[0]}, {k.shape[2]})"
        raise ValueError(msg)
