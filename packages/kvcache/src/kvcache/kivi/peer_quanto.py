"""Peer: the layer behind transformers' QuantizedCache with quanto.

It keeps the latest keys as they are until there are ``residual_length`` of them, and then quantizes its whole history
again, codes of codes among it; it decodes the whole history at every step.
"""

import torch
from optimum.quanto import quantize_weight  # noqa: F401 - only to skip where it is missing
from torch import Tensor
from transformers.cache_utils import QuantoQuantizedLayer

from kvcache.caches import View


class QuantizedCache:
    """One quanto layer for each layer; ``group`` is both its group and its residual length."""

    def __init__(
        self,
        layers: int,
        batch: int,
        kv_heads: int,
        head_dim: int,
        capacity: int,
        bits: int = 4,
        group: int = 32,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Make the layers; quanto knows 2 and 4 bits."""
        self.layers = [
            QuantoQuantizedLayer(nbits=bits, axis_key=0, axis_value=0, q_group_size=group, residual_length=group)
            for _ in range(layers)
        ]
        self.columns = torch.arange(capacity, device=device)

    @property
    def length(self) -> int:
        """How many positions were appended."""
        return int(self.layers[0].get_seq_length())

    def update(self, layer: int, k: Tensor, v: Tensor, positions: Tensor) -> View:
        """Append and return everything."""
        keys, values = self.layers[layer].update(k, v)
        columns = self.columns[: keys.shape[2]]
        return View(keys, values, columns, columns)
