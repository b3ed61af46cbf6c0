"""Attention with a KV cache: the solutions of the exercises, as a library."""

from kvcache.attention.solution import attend, attend_grouped, attend_tiled, visible

__all__ = [
    "attend",
    "attend_grouped",
    "attend_tiled",
    "visible",
]
