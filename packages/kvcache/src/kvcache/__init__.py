"""Attention with a KV cache: the solutions of the exercises, as a library."""

from kvcache.attention.solution import attend, attend_grouped, attend_tiled, visible
from kvcache.rotary import Scaled, Scaling
from kvcache.rotary.solution import frequencies, positions_of, rotate, scaled_frequencies

__all__ = [
    "Scaled",
    "Scaling",
    "attend",
    "attend_grouped",
    "attend_tiled",
    "frequencies",
    "positions_of",
    "rotate",
    "scaled_frequencies",
    "visible",
]
