"""Rotary position embedding: a position is an angle, and attention sees only differences of angles.

Each pair of coordinates of a query or key turns by ``position * frequency``; the product of a query at ``m`` with a key
at ``n`` then depends on ``m - n`` alone, so that cached keys stay valid while the text moves on.

What you write:

- ``frequencies``: one for each pair of coordinates, falling from 1 to about 1/base.
- ``positions_of``: where each token stands when short prompts of a batch are padded on the left, and when a cache
  already holds tokens.
- ``rotate``: turn queries or keys. Llama pairs coordinate ``i`` with ``i + head_dim / 2`` (GPT-J pairs neighbours).
- stretch: ``scaled_frequencies``, longer contexts than the model was trained for: "linear", "ntk", "yarn" and "llama3".
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Kind = Literal["linear", "ntk", "yarn", "llama3"]


@dataclass(frozen=True, slots=True)
class Scaling:
    """How frequencies are stretched by ``factor`` beyond the ``original`` number of positions of the training.

    ``low`` and ``high`` bound the blend: for "yarn" in rotations over the original context (beta_slow and beta_fast),
    for "llama3" likewise (low_freq_factor and high_freq_factor). The other kinds do not read them.
    """

    kind: Kind
    factor: float
    original: int
    low: float = 1.0
    high: float = 32.0


@dataclass(frozen=True, slots=True)
class Scaled:
    """Frequencies, float32 (head_dim / 2,), and what the rotated vectors are multiplied by (1 but for "yarn")."""

    frequencies: Tensor
    attention: float
