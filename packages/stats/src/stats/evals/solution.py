"""The production answer: all tasks at once, tables of counts, and Newton's steps for the ratings."""

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.evals import PositionBias
from stats.pairing.solution import permutation_test
from stats.special.solution import norm

Vector = NDArray[np.float64]
STEPS = 100
BLOCK = 1 << 20  # numbers drawn at a time


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
    p, right, number = _binned(confidence, correct, bins)
    return float(np.abs(np.bincount(number, p - right, bins)).sum()) / p.size


def krippendorff_alpha(ratings: ArrayLike, *, level: Literal["nominal", "ordinal", "interval"] = "nominal") -> float:
    """Return the agreement beyond chance of any number of raters, not all of whom need to have rated every item.

    ``ratings`` is (raters, items) of numbers, or of any labels at level nominal; NaN or None is a rating not given.
    Items with fewer than two ratings say nothing. Disagreement is 0 or 1 (nominal), the squared distance (interval),
    or that of the ranks (ordinal). NaN where all ratings that count are alike. Raises ValueError for another shape,
    an unknown level, inf, labels that have no order, or no item with two ratings. Source: Krippendorff 2011,
    Computing Krippendorff's Alpha-Reliability.
    """
    if level not in ("nominal", "ordinal", "interval"):
        raise ValueError(f"level is {level!r}, must be 'nominal', 'ordinal' or 'interval'")
    table = np.asarray(ratings)
    if table.ndim != 2:  # noqa: PLR2004
        raise ValueError(f"ratings have shape {table.shape}, must be (raters, items)")
    given = _given(table)
    given &= given.sum(0) > 1  # one rating of an item agrees with nothing
    if not given.any():
        raise ValueError("no item has two ratings: there is nothing to compare")
    _, item = given.nonzero()
    sizes = np.bincount(item)
    rated = table[given]
    values = np.unique(rated)
    code = values.searchsorted(rated)  # half the time that unique itself takes for it
    counts, n = np.bincount(code), code.size
    if level == "nominal":
        cells = np.unique(item * values.size + code, return_counts=True)
        same = np.bincount(cells[0] // values.size, cells[1] ** 2)
        within, between = sizes**2 - same, float(n**2 - (counts**2).sum())
    else:
        # The ordinal distance of two values, all ratings from one to the other with half of both ends, is that of
        # their mid-ranks. Squared distances of all pairs are 2 n times those from the mean.
        numbers = _numbers(values, level)
        scale = np.cumsum(counts) - counts / 2 if level == "ordinal" else numbers
        x = (scale - scale.mean())[code]
        means = np.bincount(item, x) / np.maximum(sizes, 1)
        within = 2 * sizes * np.bincount(item, (x - means[item]) ** 2)
        between = float(2 * n * ((x - x.mean()) ** 2).sum())
    observed = float((within / np.maximum(sizes - 1, 1)).sum())
    return 1 - (n - 1) * observed / between if between else math.nan


def position_bias(forward: ArrayLike, swapped: ArrayLike) -> PositionBias:
    """Measure how far a judge of duels prefers a place, from duels that it judged twice, in both orders.

    ``forward`` (n,) is the verdict with model A shown first, ``swapped`` that with A second: 1 where A wins, 0 where
    B does, 0.5 for a tie. Raises ValueError for other values, lengths that differ, or no duels. Source: Zheng et al.
    2023, arXiv:2306.05685, section 3.4; Shi et al. 2024, arXiv:2406.07791.
    """
    a, b = np.asarray(forward, float), np.asarray(swapped, float)
    _refuse_misfit(a, b, "verdicts")
    if not (np.isin(a, (0, 0.5, 1)).all() and np.isin(b, (0, 0.5, 1)).all()):
        raise ValueError("verdicts must be 1 (model A wins), 0 (B wins) or 0.5 (a tie)")
    # A wins for being first in the one order, B in the other: without a bias their difference is 0 on average.
    pvalue = permutation_test(a, b).pvalue
    both = float((a + b).mean() / 2)
    return PositionBias(float((a - b).mean() + 1) / 2, pvalue, float((a == b).mean()), both, a.size)


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
        # A constant on all strengths changes nothing: adding one to the matrix pins the mean, and nothing else.
        step = np.linalg.solve(_information(duels, strength) + duels.mean(), gradient)
        strength += step / max(1.0, float(np.abs(step).max()))  # never more than 1 at a time, so that it converges
        if np.abs(step).max() <= tolerance:
            break
    ratings: Vector = strength - strength.mean()
    return ratings


def rating_intervals(wins: ArrayLike, *, level: float = 0.95) -> NDArray[np.float64]:
    """Return (models, 2), an interval for each rating of ``bradley_terry``, from the curvature of the likelihood.

    The ratings have mean 0, so each interval is of a model against the average of all. Raises ValueError as
    ``bradley_terry`` does, and for a level outside (0, 1). Source: Hunter 2004, section 6; Chiang et al. 2024,
    arXiv:2403.04132, section 5.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, must lie between 0 and 1")
    strength = bradley_terry(wins)
    w = np.array(wins, float)
    np.fill_diagonal(w, 0)
    covariance = np.linalg.pinv(_information(w + w.T, strength), hermitian=True)
    reach = float(norm.isf((1 - level) / 2)) * np.sqrt(covariance.diagonal())
    return np.stack([strength - reach, strength + reach], axis=1)


def calibration_bias(confidence: ArrayLike, *, bins: int = 10, resamples: int = 1_000, seed: int = 0) -> float:
    """Return the mean calibration error that a perfectly calibrated model would show with the same confidences.

    ``confidence`` is (n,) between 0 and 1. Whether each item is right is drawn with its confidence as the chance,
    ``resamples`` times, and ``calibration_error`` averaged. Raises ValueError as that does, and for resamples below 1.
    Source: Broecker and Smith 2007 (consistency resampling); Vaicenavicius et al. 2019, arXiv:1902.06977, section 5.
    """
    p, _, number = _binned(confidence, np.zeros(np.shape(confidence)), bins)
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}, must be at least 1")
    order = np.argsort(number, kind="stable")
    p, starts = p[order], np.flatnonzero(np.diff(number[order], prepend=-1))
    generator, rows, total = np.random.default_rng(seed), max(1, BLOCK // p.size), 0.0
    for start in range(0, resamples, rows):
        right = generator.random((min(rows, resamples - start), p.size)) < p
        total += float(np.abs(np.add.reduceat(p - right, starts, axis=1)).sum())
    return total / (resamples * p.size)


def squared_calibration_error(confidence: ArrayLike, correct: ArrayLike, *, bins: int = 10) -> float:
    """Return an unbiased estimate of the mean squared distance of confidence and accuracy, over bins of equal width.

    Arguments and bins are those of ``calibration_error``. Its mean over data sets is the truth, 0 for a calibrated
    model, so that a single estimate may be negative. Bins of one item say nothing and are left out; NaN if all are.
    Source: Kumar, Liang and Ma 2019, arXiv:1909.10155, section 5 (here without binned confidences).
    """
    p, right, number = _binned(confidence, correct, bins)
    d, counts = p - right, np.bincount(number, minlength=bins)
    # The square of a bin's mean holds the squares of single items, which are noise; products of two items are not.
    products = np.bincount(number, d, bins) ** 2 - np.bincount(number, d**2, bins)
    many = counts > 1
    squared = products[many] / (counts[many] - 1)  # times a bin's weight: its count over all counts
    return float(squared.sum() / counts[many].sum()) if many.any() else math.nan


def _binned(confidence: ArrayLike, correct: ArrayLike, bins: int) -> tuple[Vector, Vector, NDArray[np.intp]]:
    """Check confidences and verdicts, and return them with the number of each one's bin."""
    p, right = np.asarray(confidence, float), np.asarray(correct, float)
    _refuse_misfit(p, right, "confidence and correct")
    if not ((p >= 0) & (p <= 1) & ((right == 0) | (right == 1))).all():
        raise ValueError("confidence must lie between 0 and 1, and correct be 0 or 1")
    if bins < 1:
        raise ValueError(f"bins is {bins}, must be at least 1")
    # Compared with the edges themselves: ceil(p * bins) would put 0.07 of 100 bins one too high.
    return p, right, np.searchsorted(np.arange(1, bins) / bins, p, side="left")


def _given(table: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return which ratings are there: not NaN and not None."""
    if table.dtype.kind == "f":
        return np.asarray(~np.isnan(table.astype(float)))
    there = [x is not None and x == x for x in table.ravel().tolist()]  # noqa: PLR0124 - NaN differs from itself
    return np.array(there, bool).reshape(table.shape)


def _numbers(values: NDArray[np.generic], level: str) -> Vector:
    try:
        numbers = np.asarray(values, float)
    except (TypeError, ValueError):
        raise ValueError(f"ratings such as {values[0]!r} have no order: level {level} takes numbers") from None
    if not np.isfinite(numbers).all():
        raise ValueError("ratings have inf")
    return numbers


def _information(duels: Vector, strength: Vector) -> Vector:
    """Return the Fisher information of the strengths, a graph's Laplacian: constants are in its null space."""
    chance = 1 / (1 + np.exp(strength - strength[:, None]))
    weight = duels * chance * (1 - chance)
    return np.asarray(np.diag(weight.sum(1)) - weight, float)


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
