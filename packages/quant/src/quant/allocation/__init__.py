"""Which layer gets how many bits: the least loss that fits a number of bytes.

Layers differ in how much they mind: one loses more at 4 bits than another at 2. Measure that layer by layer, then
choose a format for each so that all fit the budget and the sum of losses is least. That is the multiple-choice knapsack
problem. Taking whatever saves most loss per byte, again and again, is quick and often near, but not always right:
after the best step the bytes that are left may fit nothing, where two smaller steps together would have saved more.
With tens of layers the exact answer takes milliseconds.

Pruning stands on the same two axes, bytes and loss, so it is one more format.

What you write:

- ``prune``: the smallest magnitudes of a matrix become 0.
- ``sensitivity``: what each layer alone costs in each format.
- ``allocate_bits``: the exact choice under a budget.
- stretch: ``prune_2_4``: of every four neighbours in a row the two largest stay, the pattern that NVIDIA's sparse
  tensor cores need.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from quant.affine.solution import choose_qparams, dequantize, quantize
from quant.packing.solution import bits_per_weight


@dataclass(frozen=True, slots=True)
class Format:
    """A way to keep a weight: what is left of it, (rows, cols) to (rows, cols), and the bytes of (rows, cols)."""

    shrink: Callable[[Tensor], Tensor]
    size: Callable[[int, int], int]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One layer in one format: ``size`` in bytes, ``loss`` in whatever unit is added up."""

    name: str
    size: int
    loss: float


@dataclass(frozen=True, slots=True)
class Allocation:
    """The format of each layer by name, and the bytes and the loss of all together."""

    chosen: dict[str, str]
    size: int
    loss: float


def rounded(bits: int, group: int) -> Format:
    """Return the format of asymmetric codes of ``bits`` bits, a 16-bit scale and a zero point for each group."""

    def shrink(weight: Tensor) -> Tensor:
        qparams = choose_qparams(weight, bits, False, group)  # noqa: FBT003
        return dequantize(quantize(weight, qparams), qparams).to(weight.dtype)

    def size(rows: int, cols: int) -> int:
        return round(rows * cols * bits_per_weight(rows, cols, bits, group, 16, bits) / 8)

    return Format(shrink, size)
