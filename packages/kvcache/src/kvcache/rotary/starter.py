"""Your turn: replace each ``raise NotImplementedError``."""

import math

import torch
from torch import Tensor

from kvcache.rotary import Scaled, Scaling


def frequencies(head_dim: int, base: float = 10000.0) -> Tensor:
    """Return base**(-2 i / head_dim) for i below head_dim / 2, float32 on the CPU, radians per position.

    Raises ValueError for a head_dim that is not even and positive, or a base not above 1. Source: Su et al. 2021,
    arXiv:2104.09864, section 3.2.2.
    """
    raise NotImplementedError("TODO 1 (core, about 2 lines): a geometric series from 1 down")


def positions_of(padding_mask: Tensor, past: int = 0) -> Tensor:
    """Return the position of each token after ``past`` columns of the mask, int64 (batch, columns - past).

    ``padding_mask`` is (batch, columns) bool over everything, cached or new, False where a column is padding. The first
    real token of a row stands at 0 and padding before it at 0 too. Raises TypeError for a mask that is not bool,
    ValueError unless it is (batch, columns) and past is between 0 and columns.
    """
    raise NotImplementedError("TODO 2 (core, about 3 lines): count the real tokens up to each column")


def rotate(x: Tensor, positions: Tensor, frequencies: Tensor, attention: float = 1.0) -> Tensor:
    """Turn each pair (i, i + head_dim / 2) of ``x`` by positions * frequencies[i], times ``attention``.

    ``x`` is (batch, heads, length, head_dim); ``positions`` (length,) or (batch, length), integers; ``frequencies``
    (head_dim / 2,). Angles are computed in at least float32, the result has the dtype of ``x``. Raises ValueError for
    shapes that do not fit and TypeError for positions that are not integers. Source: Su et al. 2021, eq. 34.
    """
    raise NotImplementedError("TODO 3 (core, about 8 lines): cosine and sine of each angle, then turn the halves")


def scaled_frequencies(head_dim: int, base: float, scaling: Scaling) -> Scaled:
    """Stretch the frequencies so that ``factor`` times as many positions turn as far as the model has seen.

    "linear" divides all by the factor (Chen et al. 2023, arXiv:2306.15595); "ntk" raises the base to
    base * factor**(head_dim / (head_dim - 2)), so that the slowest is divided by the factor and the fastest is kept;
    "yarn" blends by rotations over the original context, keeping what turns more than ``high`` times and dividing what
    turns less than ``low`` times, with attention 0.1 ln(factor) + 1 (Peng et al. 2023, arXiv:2309.00071, sections 3.2
    and 3.4; as in its code, the ramp runs over the indices of the frequencies); "llama3" blends likewise, the ramp over
    the rotations themselves (Llama 3.1's released code). Raises ValueError for an unknown kind, a factor below 1, a
    blend whose low is not positive and below its high or whose original is not positive, "ntk" with a head_dim of 2,
    and what ``frequencies`` refuses.
    """
    raise NotImplementedError("TODO 4 (stretch, about 25 lines): linear, ntk, yarn, llama3")
