"""Your turn: replace each ``raise NotImplementedError``."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray


def pass_at_k(samples: ArrayLike, correct: ArrayLike, k: int) -> NDArray[np.float64]:
    """Return for each task the chance that k of its samples, drawn without replacement, hold a correct one.

    ``samples`` and ``correct`` are counts for each task and broadcast against each other. Raises ValueError for k
    below 1 or above the samples, negative counts, more correct than samples, or counts that are not whole.
    Source: Chen et al. 2021, arXiv:2107.03374, eq. 1.
    """
    raise NotImplementedError("TODO 1 (core, about 8 lines): one minus the chance that all k are wrong")


def cohens_kappa(
    first: ArrayLike, second: ArrayLike, *, weights: Literal["none", "linear", "quadratic"] = "none"
) -> float:
    """Return two judges' agreement on the same items beyond chance: 1 is full agreement, 0 that of chance.

    ``first`` and ``second`` are (n,) labels. With weights a disagreement counts its distance, or the square of it, in
    the sorted list of labels. NaN where both judges give one and the same label throughout. Raises ValueError for
    lengths that differ, no items, or unknown weights. Source: Cohen 1960; Cohen 1968 with weights.
    """
    raise NotImplementedError("TODO 2 (core, about 12 lines): observed over expected disagreement")


def calibration_error(confidence: ArrayLike, correct: ArrayLike, *, bins: int = 10) -> float:
    """Return the expected calibration error: the mean distance of confidence and accuracy, over bins of equal width.

    ``confidence`` is (n,) between 0 and 1, ``correct`` (n,) of 0 and 1. A bin holds its upper edge, the first one 0
    too; each bin weighs as much as it has items. Raises ValueError for values out of range, NaN, lengths that differ,
    no items, or bins below 1. Source: Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599, eq. 3.
    """
    raise NotImplementedError("TODO 3 (core, about 8 lines): sums of confidence and accuracy by bin")


def bradley_terry(wins: ArrayLike, *, tolerance: float = 1e-10) -> NDArray[np.float64]:
    """Return log strengths with mean 0 that make the duels most likely: P(i beats j) = 1 / (1 + exp(s_j - s_i)).

    ``wins`` is (models, models), how often the row beat the column; ties count half for either. Raises ValueError for a
    matrix that is not square, negative or not finite counts, or where some group never lost, or never won, against
    the rest: its strength has no finite value. Source: Hunter 2004, Annals of Statistics 32(1), section 3.
    """
    raise NotImplementedError("TODO 4 (stretch, about 14 lines): a fixed point in the strengths")
