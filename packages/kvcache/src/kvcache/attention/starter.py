"""Your turn: replace each ``raise NotImplementedError``."""

import torch
from torch import Tensor


def visible(q_len: int, kv_len: int, window: int | None = None, padding_mask: Tensor | None = None) -> Tensor:
    """Tell which query may see which key: bool (q_len, kv_len), or (batch, 1, q_len, kv_len) with a padding mask.

    The queries are the last ``q_len`` of ``kv_len`` positions; each sees itself and what came before, with ``window``
    only the latest ``window`` positions, itself among them. ``padding_mask`` is (batch, kv_len) bool, False where a key
    is padding. The result is on the device of the padding mask, else on the CPU. Raises ValueError for q_len > kv_len,
    a window below 1 or a padding mask of another shape, TypeError for one that is not bool.
    """
    raise NotImplementedError("TODO 1 (core, about 7 lines): compare the positions of queries and keys")


def attend(q: Tensor, k: Tensor, v: Tensor, window: int | None = None, padding_mask: Tensor | None = None) -> Tensor:
    """Return softmax(q k^T / sqrt(head_dim)) v over the visible keys, (batch, heads, q_len, head_dim).

    Softmax is computed in at least float32, the result has the dtype of ``q``; a query that sees no key gets zeros.
    Raises ValueError for shapes that do not fit, head counts that do not divide, mixed dtypes or devices, TypeError for
    integers, and whatever ``visible`` refuses. Source: Vaswani et al. 2017, eq. 1.
    """
    raise NotImplementedError("TODO 2 (core, about 8 lines): scores, mask, softmax, sum")


def attend_grouped(
    q: Tensor, k: Tensor, v: Tensor, window: int | None = None, padding_mask: Tensor | None = None
) -> Tensor:
    """Do as ``attend`` without a copy of the keys: the group becomes part of the query length.

    Source: Ainslie et al. 2023, arXiv:2305.13245, section 2.2.
    """
    raise NotImplementedError("TODO 3 (core, about 6 lines): fold the group of query heads into the query length")


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
    raise NotImplementedError("TODO 4 (core, about 20 lines): running maximum, running sum, rescaled output")
