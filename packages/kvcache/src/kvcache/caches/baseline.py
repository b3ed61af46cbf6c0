"""The simple answer: concatenate."""

import torch
from torch import Tensor

from kvcache.caches import View


def seen(queries: Tensor, keys: Tensor, window: int | None = None, sinks: int = 0) -> Tensor:
    """Tell which query sees which key."""
    distance = queries[:, None] - keys[None]
    near = distance < (window if window is not None else queries.max() + 1)
    return (keys >= 0) & (distance >= 0) & (near | (keys < sinks))


class ContiguousCache:
    """Grows by concatenation, which copies everything at every step."""

    def __init__(
        self,
        layers: int,
        batch: int,
        kv_heads: int,
        head_dim: int,
        capacity: int,  # noqa: ARG002 - it grows as needed
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Start with no columns."""
        empty = torch.empty(batch, kv_heads, 0, head_dim, dtype=dtype, device=device)
        self.keys, self.values = [empty] * layers, [empty] * layers

    @property
    def length(self) -> int:
        """How many positions were appended."""
        return self.keys[0].shape[2]

    def update(self, layer: int, k: Tensor, v: Tensor, positions: Tensor) -> View:  # noqa: ARG002 - it trusts the caller
        """Concatenate."""
        self.keys[layer] = torch.cat([self.keys[layer], k], 2)
        self.values[layer] = torch.cat([self.values[layer], v], 2)
        columns = torch.arange(self.keys[layer].shape[2], device=k.device)
        return View(self.keys[layer], self.values[layer], columns, columns)

    def crop(self, length: int) -> None:
        """Forget everything from position ``length`` on."""
        self.keys = [keys[:, :, :length] for keys in self.keys]
        self.values = [values[:, :, :length] for values in self.values]

    def reorder(self, rows: Tensor) -> None:
        """Make row ``i`` of the batch a copy of row ``rows[i]``."""
        self.keys, self.values = [k[rows] for k in self.keys], [v[rows] for v in self.values]

    @property
    def nbytes(self) -> int:
        """How many bytes the columns take."""
        return sum(tensor.nbytes for tensor in self.keys + self.values)
