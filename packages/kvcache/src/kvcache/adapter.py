"""Our caches inside transformers: ``model.generate(..., past_key_values=TransformersCache(cache))``."""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from kvcache.caches import KVCache


class TransformersCache(Cache):
    """Hands a cache of this package to a transformers model; all its layers share that one cache.

    ``generate`` numbers keys by their column, so the cache has to return all of them in order: ContiguousCache and
    PagedCache do, a sliding one is refused with ValueError.
    """

    def __init__(self, cache: KVCache, layers: int) -> None:
        """Wrap ``cache`` for a model of ``layers`` layers."""
        if hasattr(cache, "window"):
            msg = f"{type(cache).__name__} returns keys out of order, which transformers' masks cannot follow"
            raise ValueError(msg)
        super().__init__(layers=[Layer(cache, index) for index in range(layers)])
        self.cache = cache

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last ``-tokens_to_remove`` positions: transformers counts them as a negative number."""
        length = self.cache.length + tokens_to_remove
        self.cache.crop(length)
        for layer in self.layers:
            if isinstance(layer, Layer):
                layer.filled = length

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Follow a beam search."""
        self.cache.reorder(beam_idx)


class Layer(CacheLayerMixin):
    """One layer of a shared cache."""

    is_sliding = False
    is_croppable = True

    def __init__(self, cache: KVCache, index: int) -> None:
        """Remember which layer of which cache."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.cache, self.index, self.filled = cache, index, cache.length
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: our caches are allocated when they are made."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        """Append, and return all keys and values."""
        start = self.filled
        positions = torch.arange(start, start + key_states.shape[2], device=key_states.device)
        view = self.cache.update(self.index, key_states, value_states, positions)
        self.filled = start + key_states.shape[2]
        return view.keys, view.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the number of keys in the next step, and the position of the first."""
        return self.cache.length + query_length, 0

    def get_seq_length(self) -> int:
        """Return how many positions were appended."""
        return self.cache.length

    def get_max_length(self) -> int:
        """Return -1: the cache itself refuses what it cannot hold."""
        return -1
