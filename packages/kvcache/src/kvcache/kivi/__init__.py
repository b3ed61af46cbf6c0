"""A quantized cache: keys by channel, values by token, and nothing quantized twice.

At long contexts the cache outweighs the model. Its numbers are not all alike: in keys a few channels are large for
every token, so a scale shared by a token's channels wastes its codes on them; in values there are no such channels.
Keys therefore share a scale along the tokens of one channel, values along the channels of one token (KIVI).

What you write:

- ``quantize`` and ``dequantize``: codes of 2, 4 or 8 bits along a dimension, from the smallest to the largest number or
  symmetric around 0, which spares the low.
- ``pack`` and ``unpack``: codes narrower than a byte, several in one.
- stretch: ``QuantizedCache``, a ``kvcache.caches.KVCache``. The newest tokens wait in full precision until a group of
  ``group`` is complete; it is quantized once and its codes never change again.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Codes:
    """Quantized numbers: ``x ~ low + scale * code``.

    ``codes`` is uint8 of the shape of ``x``, each from 0 to ``2**bits - 1``; ``scale`` and ``low`` are bfloat16 with 1
    in the dimension that shares them.
    """

    codes: Tensor
    scale: Tensor
    low: Tensor
