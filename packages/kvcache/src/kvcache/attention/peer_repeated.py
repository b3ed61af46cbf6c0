"""Peer: keys and values repeated for each query head by ``repeat_interleave``, then torch's kernel."""

from torch import Tensor

from kvcache.attention import peer_torch


def attend_grouped(
    q: Tensor, k: Tensor, v: Tensor, window: int | None = None, padding_mask: Tensor | None = None
) -> Tensor:
    """Copy what a group shares; the kernel then sees as many key heads as query heads."""
    group = q.shape[1] // k.shape[1]
    return peer_torch.attend(q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1), window, padding_mask)
