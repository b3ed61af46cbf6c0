"""Attention with a KV cache: the solutions of the exercises, as a library."""

from kvcache.adapter import TransformersCache
from kvcache.attention.solution import attend, attend_grouped, attend_tiled, visible
from kvcache.caches import EMPTY, KVCache, View
from kvcache.caches.solution import ContiguousCache, SlidingCache, seen
from kvcache.decoder import Config, Decoder
from kvcache.kivi import Codes
from kvcache.kivi.solution import QuantizedCache, dequantize, pack, quantize, unpack
from kvcache.paging.solution import BlockPool, PagedCache, paged_attention, slot_mapping
from kvcache.prefixes import Hit
from kvcache.prefixes.solution import HashChain, RadixTree
from kvcache.rotary import Scaled, Scaling
from kvcache.rotary.solution import frequencies, positions_of, rotate, scaled_frequencies
from kvcache.sampler import Sampler
from kvcache.sampling import Automaton, Beam, TokenTable
from kvcache.sampling._regex import automaton
from kvcache.sampling._schema import schema_regex
from kvcache.sampling.solution import (
    beam_search,
    constrain,
    min_p,
    repetition_penalty,
    sample,
    token_table,
    top_k,
    top_p,
)
from kvcache.shared import SharedMemory
from kvcache.speculation import Draft, Drafter, Round
from kvcache.speculation.solution import ModelDrafter, NgramDrafter, accept, accept_greedy, generate

__all__ = [
    "EMPTY",
    "Automaton",
    "Beam",
    "BlockPool",
    "Codes",
    "Config",
    "ContiguousCache",
    "Decoder",
    "Draft",
    "Drafter",
    "HashChain",
    "Hit",
    "KVCache",
    "ModelDrafter",
    "NgramDrafter",
    "PagedCache",
    "QuantizedCache",
    "RadixTree",
    "Round",
    "Sampler",
    "Scaled",
    "Scaling",
    "SharedMemory",
    "SlidingCache",
    "TokenTable",
    "TransformersCache",
    "View",
    "accept",
    "accept_greedy",
    "attend",
    "attend_grouped",
    "attend_tiled",
    "automaton",
    "beam_search",
    "constrain",
    "dequantize",
    "frequencies",
    "generate",
    "min_p",
    "pack",
    "paged_attention",
    "positions_of",
    "quantize",
    "repetition_penalty",
    "rotate",
    "sample",
    "scaled_frequencies",
    "schema_regex",
    "seen",
    "slot_mapping",
    "token_table",
    "top_k",
    "top_p",
    "unpack",
    "visible",
]
