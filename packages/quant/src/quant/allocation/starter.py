"""Your turn: replace each ``raise NotImplementedError``."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from quant.allocation import Allocation, Candidate, Format


def prune(weight: Tensor, share: float) -> Tensor:
    """Return the weight with the ``share`` of its elements that are smallest in magnitude set to 0.

    ``weight`` is float of any shape; exactly ``floor(share * elements)`` become 0, whichever of equal ones. Raises
    ValueError unless ``share`` is between 0 and 1, for NaN or inf, TypeError for integers. Source: Han et al. 2015,
    arXiv:1506.02626.
    """
    raise NotImplementedError("TODO 1 (core, about 5 lines): the smallest magnitudes of the whole matrix")


def sensitivity(
    model: nn.Module, loss: Callable[[nn.Module], float], formats: Mapping[str, Format]
) -> dict[str, tuple[Candidate, ...]]:
    """Measure what each linear layer alone costs in each format: ``loss`` with it less ``loss`` of the model as it is.

    Layers are named as in ``model.named_modules()``, candidates in the order of ``formats``. A layer whose weight is
    shared with another module is left out. The model comes back as it was, also when ``loss`` raises. Raises ValueError
    for no formats, a model without such layers, and a loss that is NaN or inf.
    """
    raise NotImplementedError("TODO 2 (core, about 15 lines): one layer and one format at a time")


def allocate_bits(sensitivity: Mapping[str, Sequence[Candidate]], budget: int) -> Allocation:
    """Choose one candidate for each layer so that their sizes add up to at most ``budget`` bytes, with the least loss.

    The choice is exact up to rounding of the sums in float64; of equally good ones the smallest is returned. Raises
    ValueError for no layers, a layer without candidates, a size that is negative, a loss that is NaN or inf, and a
    budget that even the smallest candidates exceed. Source: Nemhauser and Ullmann 1969 (dominance), Sinha and Zoltners
    1979 (bounds).
    """
    raise NotImplementedError("TODO 3 (core, about 20 lines): layer by layer, only what no other choice beats")


def prune_2_4(weight: Tensor) -> Tensor:
    """Return the weight with the two smallest of every four neighbours in a row set to 0.

    ``weight`` is (rows, cols) float; of equal magnitudes the left ones stay. Raises ValueError unless cols is a
    multiple of 4, for NaN or inf, TypeError for integers. Source: Mishra et al. 2021, arXiv:2104.08378.
    """
    raise NotImplementedError("TODO 4 (stretch, about 5 lines): fours of neighbours")
