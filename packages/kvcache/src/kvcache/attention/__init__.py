"""Attention over cached keys: the mask, then the same result three ways.

A decoder's step has few queries and many keys: the queries are the newest positions, so query ``i`` of ``q_len`` stands
at position ``kv_len - q_len + i`` and sees the keys up to there. Most libraries' causal flag aligns the other corner.

What you write:

- ``visible``: which query sees which key, with a sliding window and with padded prompts.
- ``attend``: the textbook formula, with all scores in memory. A query that sees nothing gets zeros, not NaN.
- ``attend_grouped``: grouped queries share a key head. Expanding keys to the number of query heads multiplies the
  very traffic that grouping was to save; fold the group into the query length instead.
- ``attend_tiled``: a block of keys at a time with a running maximum and sum, so that no more than ``q_len x block``
  scores exist at once (the idea of FlashAttention).

Shapes: ``q`` (batch, heads, q_len, head_dim); ``k`` and ``v`` (batch, kv_heads, kv_len, head_dim), heads a multiple of
kv_heads: query head ``h`` reads key head ``h // (heads // kv_heads)``.
"""
