"""Your turn: replace each ``raise NotImplementedError``."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.evals import PositionBias


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


def krippendorff_alpha(ratings: ArrayLike, *, level: Literal["nominal", "ordinal", "interval"] = "nominal") -> float:
    """Return the agreement beyond chance of any number of raters, not all of whom need to have rated every item.

    ``ratings`` is (raters, items) of numbers, or of any labels at level nominal; NaN or None is a rating not given.
    Items with fewer than two ratings say nothing. Disagreement is 0 or 1 (nominal), the squared distance (interval),
    or that of the ranks (ordinal). NaN where all ratings that count are alike. Raises ValueError for another shape,
    an unknown level, inf, labels that have no order, or no item with two ratings. Source: Krippendorff 2011,
    Computing Krippendorff's Alpha-Reliability.
    """
    raise NotImplementedError("TODO 4 (core, about 16 lines): observed over expected disagreement, by item")


def position_bias(forward: ArrayLike, swapped: ArrayLike) -> PositionBias:
    """Measure how far a judge of duels prefers a place, from duels that it judged twice, in both orders.

    ``forward`` (n,) is the verdict with model A shown first, ``swapped`` that with A second: 1 where A wins, 0 where
    B does, 0.5 for a tie. Raises ValueError for other values, lengths that differ, or no duels. Source: Zheng et al.
    2023, arXiv:2306.05685, section 3.4; Shi et al. 2024, arXiv:2406.07791.
    """
    raise NotImplementedError("TODO 5 (core, about 8 lines): verdicts for the first place, in either order")


def bradley_terry(wins: ArrayLike, *, tolerance: float = 1e-10) -> NDArray[np.float64]:
    """Return log strengths with mean 0 that make the duels most likely: P(i beats j) = 1 / (1 + exp(s_j - s_i)).

    ``wins`` is (models, models), how often the row beat the column; ties count half for either. Raises ValueError for a
    matrix that is not square, negative or not finite counts, or where some group never lost, or never won, against
    the rest: its strength has no finite value. Source: Hunter 2004, Annals of Statistics 32(1), section 3.
    """
    raise NotImplementedError("TODO 6 (stretch, about 14 lines): a fixed point in the strengths")


def rating_intervals(wins: ArrayLike, *, level: float = 0.95) -> NDArray[np.float64]:
    """Return (models, 2), an interval for each rating of ``bradley_terry``, from the curvature of the likelihood.

    The ratings have mean 0, so each interval is of a model against the average of all. Raises ValueError as
    ``bradley_terry`` does, and for a level outside (0, 1). Source: Hunter 2004, section 6; Chiang et al. 2024,
    arXiv:2403.04132, section 5.
    """
    raise NotImplementedError("TODO 7 (stretch, about 8 lines): the inverse of the information matrix")


def calibration_bias(confidence: ArrayLike, *, bins: int = 10, resamples: int = 1_000, seed: int = 0) -> float:
    """Return the mean calibration error that a perfectly calibrated model would show with the same confidences.

    ``confidence`` is (n,) between 0 and 1. Whether each item is right is drawn with its confidence as the chance,
    ``resamples`` times, and ``calibration_error`` averaged. Raises ValueError as that does, and for resamples below 1.
    Source: Broecker and Smith 2007 (consistency resampling); Vaicenavicius et al. 2019, arXiv:1902.06977, section 5.
    """
    raise NotImplementedError("TODO 8 (stretch, about 6 lines): the error of verdicts drawn from the confidences")


def squared_calibration_error(confidence: ArrayLike, correct: ArrayLike, *, bins: int = 10) -> float:
    """Return an unbiased estimate of the mean squared distance of confidence and accuracy, over bins of equal width.

    Arguments and bins are those of ``calibration_error``. Its mean over data sets is the truth, 0 for a calibrated
    model, so that a single estimate may be negative. Bins of one item say nothing and are left out; NaN if all are.
    Source: Kumar, Liang and Ma 2019, arXiv:1909.10155, section 5 (here without binned confidences).
    """
    raise NotImplementedError("TODO 9 (stretch, about 8 lines): products of different items of a bin")
