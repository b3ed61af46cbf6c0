"""Your turn: replace each ``raise NotImplementedError``."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from quant.affine.solution import choose_qparams, dequantize, quantize
from quant.smoothing import Batch, Group, Rescaled


def largest_inputs(model: nn.Module, calibration: Iterable[Batch]) -> dict[str, Tensor]:
    """Run the model on each batch, as in use, and return the largest magnitudes of each linear layer's input channels.

    Layers are named as in ``model.named_modules()``; the values are (in,) float32. Raises ValueError for no batches.
    """
    raise NotImplementedError("TODO 1 (core, about 12 lines): watch the inputs with hooks")


def smoothing_factors(largest: Tensor, weights: Sequence[Tensor], alpha: float = 0.5) -> Tensor:
    """Return how much of each input channel moves into the weights that share it, (in,) float32, all positive.

    ``largest`` is (in,), the largest magnitude of each channel; ``weights`` are (out, in) each, and the largest of
    them in a column counts. The factor is ``largest**alpha / column**(1 - alpha)``, and 1 where either is below 1e-5:
    a channel that calibration never saw alive is left alone. Raises ValueError unless ``alpha`` is between 0 and 1,
    for no weights, other shapes, NaN or inf. Source: Xiao et al. 2022, eq. 4.
    """
    raise NotImplementedError("TODO 2 (core, about 3 lines): the factor of each channel")


def fold(previous: nn.Module, layers: Sequence[nn.Linear], factors: Tensor) -> None:
    """Divide what ``previous`` writes by ``factors`` and multiply what ``layers`` read of it, in place.

    ``previous`` is a norm with a weight and perhaps a bias, (channels,), or an ``nn.Linear`` whose outputs are the
    channels. Raises ValueError where shapes do not belong together, ``previous`` has no weight, or a factor is not a
    positive number.
    """
    raise NotImplementedError("TODO 3 (core, about 4 lines): parameters of the one, columns of the others")


def find_groups(model: nn.Module, batch: Batch) -> list[Group]:
    """Find every norm whose output linear layers read, and whether they alone do.

    The model is run as in use (without dropout), to see which layer is given the very tensor that which norm returned,
    and then with factors folded in: where its output changes, somebody else reads the norm too (or it is not linear in
    its weight). Powers of two tell by a bit, since nothing is rounded. The model is left as it was, its training mode
    too. Layers whose weight is shared with another module (a tied head) are in no group. Stretch: a linear layer read
    by one other, where the output does not change; two tests of it fail until then, and the race waits for them.
    """
    raise NotImplementedError("TODO 4 (core, about 22 lines): who reads what, then fold and see")


def smooth(model: nn.Module, calibration: Iterable[Batch], alpha: float = 0.5) -> nn.Module:
    """Move the outliers of every group's input into its weights, in place; the model computes the same function.

    Groups found by the first batch are folded into what comes before them; where that is shared, the layers become
    ``Rescaled``. Raises ValueError for no batches, no groups, or ``alpha`` outside 0 to 1.
    """
    raise NotImplementedError("TODO 5 (core, about 14 lines): groups, factors, fold or divide")


def awq(model: nn.Module, calibration: Iterable[Batch], bits: int = 4, group: int = 32, grid: int = 20) -> nn.Module:
    """Give the channels that matter finer steps of weights rounded to ``bits``, in place; the function stays.

    For each group of layers the factors are ``mean(|x|)**e``, scaled to a geometric middle of 1, with the exponent
    ``e`` among ``grid`` values from 0 to below 1 for which the layers' outputs over the calibration data change least
    in squares when the weights are rounded asymmetrically, one scale for ``group`` columns. Raises as ``smooth``, and
    ValueError for bits outside 2 to 8 or a group or grid below 1. Source: Lin et al. 2023, eq. 4 and 5.
    """
    raise NotImplementedError("TODO 6 (stretch, about 30 lines): search the exponent of each group")
