"""Your turn: replace each ``raise NotImplementedError``."""

import torch
from torch import Tensor

from kvcache.caches import View
from kvcache.kivi import Codes


def quantize(x: Tensor, bits: int, dim: int, *, symmetric: bool = False) -> Codes:
    """Quantize ``x``, any float tensor, to ``bits`` of 2, 4 or 8; numbers along ``dim`` share a scale.

    The codes are nearest to ``(x - low) / scale`` for the scale and low as rounded to bfloat16. A constant slice comes
    back exactly as its low. With ``symmetric`` the low is ``-2**(bits - 1) * scale``, which nobody has to keep, and the
    largest magnitude is ``2**(bits - 1) - 1`` scales: 0 has a code, the lowest code is not used. Raises ValueError for
    other bits, a dim that x does not have, an empty tensor, NaN or inf, and TypeError for integers. Source:
    Liu et al. 2024, arXiv:2402.02750, section 3.
    """
    raise NotImplementedError("TODO 1 (core, about 12 lines): range, scale, round, clamp")


def dequantize(codes: Codes, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return ``low + scale * code`` in ``dtype``, computed in float32."""
    raise NotImplementedError("TODO 2 (core, about 1 line): the map back")


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack uint8 codes along the last dimension, 8 / bits in a byte, the first in the lowest bits.

    Raises ValueError for bits other than 2, 4 or 8, a last dimension that is not a multiple of 8 / bits, or a code that
    does not fit, TypeError for codes that are not uint8.
    """
    raise NotImplementedError("TODO 3 (core, about 6 lines): shift and add")


def unpack(packed: Tensor, bits: int) -> Tensor:
    """Undo ``pack``; ValueError for bits other than 2, 4 or 8, TypeError for what is not uint8."""
    raise NotImplementedError("TODO 3 (core, about 4 lines): shift and mask")


class QuantizedCache:
    """A ``KVCache`` with codes of ``bits``; fewer than ``group`` newest positions stay in full precision.

    Codes of 8 bits are symmetric and keep no low, so that 4096 positions with heads of 64 take 0.27 of what full
    precision takes: a value's are around 0, a key's around what was the median of its channel in the first group.
    """

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
        """Allocate; ValueError for sizes that are not positive, other bits, or a head_dim that does not pack."""
        raise NotImplementedError("TODO 4 (stretch, about 18 lines): codes, scales, lows, and the waiting positions")

    @property
    def length(self) -> int:
        """How many positions were appended."""
        raise NotImplementedError("TODO 4 (stretch, about 1 line): the length of the first layer")

    def update(self, layer: int, k: Tensor, v: Tensor, positions: Tensor) -> View:
        """Append; quantize each group as it becomes complete, once; return everything dequantized."""
        raise NotImplementedError("TODO 5 (stretch, about 30 lines): whole groups leave the waiting positions")

    def crop(self, length: int) -> None:
        """Forget everything from ``length`` on; ValueError for a cut inside a group that is quantized already."""
        raise NotImplementedError("TODO 6 (stretch, about 6 lines): codes cannot be made numbers again")

    def reorder(self, rows: Tensor) -> None:
        """Make row ``i`` of the batch a copy of row ``rows[i]``; ValueError for rows that do not exist."""
        raise NotImplementedError("TODO 6 (stretch, about 4 lines): every buffer")

    @property
    def nbytes(self) -> int:
        """How many bytes codes, scales and waiting positions take."""
        raise NotImplementedError("TODO 4 (stretch, about 1 line): sum over the buffers")
