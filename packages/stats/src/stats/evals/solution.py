"""The production answer: all tasks at once, tables of counts, and Newton's steps for the ratings."""

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]
STEPS = 100


def pass_at_k(samples: ArrayLike, correct: ArrayLike, k: int) -> NDArray[np.float64]:
    """Return for each task the chance that k of its samples, drawn without replacement, hold a correct one.

    ``samples`` and ``correct`` are counts for each task and broadcast against each other. Raises ValueError for k
    below 1 or above the samples, negative counts, more correct than samples, or counts that are not whole.
    Source: Chen et al. 2021, arXiv:2107.03374, eq. 1.
    """
    n, c = np.broadcast_arrays(np.asarray(samples, float), np.asarray(correct, float))
    if not ((n == np.floor(n)) & (c == np.floor(c)) & (c >= 0) & (c <= n)).all():
        msg = "samples and correct must be whole numbers with 0 <= correct <= samples"
        raise ValueError(msg)
    if k < 1 or (n.size and n.min() < k):
        fewest = int(n.min()) if n.size else 0
        msg = f"k is {k}, must be at least 1 and at most the samples of every task, here {fewest}"
        raise ValueError(msg)
    # C(n - c, k) / C(n, k) is the product of (n - c - i) / (n - i) over the k draws; where fewer than k
    # are wrong one factor is 0.
    draws = np.arange(k)
    factors = ((n - c)[..., None] - draws) / (n[..., None] - draws)
    wrong: Vector = factors.prod(axis=-1)
    return 1 - wrong


def cohens_kappa(
    first: ArrayLike, second: ArrayLike, *, weights: Literal["none", "linear", "quadratic"] = "none"
) -> float:
    """Return two judges' agreement on the same items beyond chance: 1 is full agreement, 0 that of chance.

    ``first`` and ``second`` are (n,) labels. With weights a disagreement counts its distance, or the square of it, in
    the sorted list of labels. NaN where both judges give one and the same label throughout. Raises ValueError for
    lengths that differ, no items, or unknown weights. Source: Cohen 1960; Cohen 1968 with weights.
    """
    a, b = np.asarray(first), np.asarray(second)
    _refuse_misfit(a, b, "labels")
    if weights not in ("none", "linear", "quadratic"):
        msg = f"weights is {weights!r}, must be 'none', 'linear' or 'quadratic'"
        raise ValueError(msg)
    labels, index = np.unique(np.concatenate([a, b]), return_inverse=True)
    count = labels.size
    joint = np.bincount(index[: a.size] * count + index[a.size :], minlength=count * count).reshape(count, count)
    distance = np.abs(np.subtract.outer(np.arange(count), np.arange(count))).astype(float)
    cost = {"none": distance > 0, "linear": distance, "quadratic": distance**2}[weights]
    expected = float((np.outer(joint.sum(1), joint.sum(0)) * cost).sum()) / a.size
    return 1 - float((joint * cost).sum()) / expected if expected else math.nan


def calibration_error(confidence: ArrayLike, correct: ArrayLike, *, bins: int = 10) -> float:
    """Return the expected calibration error: the mean distance of confidence and accuracy, over bins of equal width.

    ``confidence`` is (n,) between 0 and 1, ``correct`` (n,) of 0 and 1. A bin holds its upper edge, the first one 0
    too; each bin weighs as much as it has items. Raises ValueError for values out of range, NaN, lengths that differ,
    no items, or bins below 1. Source: Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599, eq. 3.
    """
    p, right = np.asarray(confidence, float), np.asarray(correct, float)
    _refuse_misfit(p, right, "confidence and correct")
    if not ((p >= 0) & (p <= 1) & ((right == 0) | (right == 1))).all():
        msg = "confidence must lie between 0 and 1, and correct be 0 or 1"
        raise ValueError(msg)
    if bins < 1:
        msg = f"bins is {bins}, must be at least 1"
        raise ValueError(msg)
    # Compared with the edges themselves: ceil(p * bins) would put 0.07 of 100 bins one too high.
    number = np.searchsorted(np.arange(1, bins) / bins, p, side="left")
    return float(np.abs(np.bincount(number, p - right, bins)).sum()) / p.size


def bradley_terry(wins: ArrayLike, *, tolerance: float = 1e-10) -> NDArray[np.float64]:
    """Return log strengths with mean 0 that make the duels most likely: P(i beats j) = 1 / (1 + exp(s_j - s_i)).

    ``wins`` is (models, models), how often the row beat the column; ties count half for either. Raises ValueError for a
    matrix that is not square, negative or not finite counts, or where some group never lost, or never won, against
    the rest: its strength has no finite value. Source: Hunter 2004, Annals of Statistics 32(1), section 3.
    """
    w = np.array(wins, float)
    if w.ndim != 2 or w.shape[0] != w.shape[1] or not w.size:  # noqa: PLR2004
        msg = f"wins has shape {w.shape}, must be (models, models)"
        raise ValueError(msg)
    if not (np.isfinite(w) & (w >= 0)).all():
        msg = "wins must be finite counts, none negative"
        raise ValueError(msg)
    np.fill_diagonal(w, 0)
    if (apart := _unreachable(w > 0)) is not None:
        msg = f"no finite ratings: model {apart[1]} never lost to model {apart[0]}, not even by way of others"
        raise ValueError(msg)
    duels, won = w + w.T, w.sum(1)
    strength = np.zeros(len(w))
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(strength - strength[:, None]))  # of the row's beating the column
        gradient = won - (duels * chance).sum(1)
        weight = duels * chance * (1 - chance)
        # The information matrix is a graph's Laplacian: adding a constant pins the mean without changing the rest.
        information = np.diag(weight.sum(1)) - weight + weight.sum() / len(w) ** 2
        step = np.linalg.solve(information, gradient)
        strength += step / max(1.0, float(np.abs(step).max()))  # never more than 1 at a time, so that it converges
        if np.abs(step).max() <= tolerance:
            break
    ratings: Vector = strength - strength.mean()
    return ratings


def _unreachable(beat: NDArray[np.bool_]) -> tuple[int, int] | None:
    """Return two models the first of which is linked to the second by no chain of wins, or None."""
    reach = beat | np.eye(len(beat), dtype=bool)
    for _ in range(max(1, math.ceil(math.log2(len(beat) + 1)))):
        reach = (reach.astype(float) @ reach) > 0
    missing = np.argwhere(~reach)
    return (int(missing[0][0]), int(missing[0][1])) if len(missing) else None


def _refuse_misfit(a: NDArray[np.generic], b: NDArray[np.generic], what: str) -> None:
    if a.ndim != 1 or a.shape != b.shape:
        msg = f"{what} have shapes {a.shape} and {b.shape}, must be (n,) twice, for the same items in the same order"
        raise ValueError(msg)
    if not a.size:
        msg = f"{what} are empty: there is nothing to measure"
        raise ValueError(msg)
