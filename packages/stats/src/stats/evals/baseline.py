"""The simple answer: the definitions, loop by loop."""

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.evals import PositionBias


def pass_at_k(samples: ArrayLike, correct: ArrayLike, k: int) -> NDArray[np.float64]:
    """Return for each task the chance that k of its samples, drawn without replacement, hold a correct one."""
    n, c = np.broadcast_arrays(np.asarray(samples), np.asarray(correct))
    found = [1 - math.comb(int(a - b), k) / math.comb(int(a), k) for a, b in zip(n.ravel(), c.ravel(), strict=True)]
    return np.array(found, float).reshape(n.shape)


def cohens_kappa(
    first: ArrayLike, second: ArrayLike, *, weights: Literal["none", "linear", "quadratic"] = "none"
) -> float:
    """Return two judges' agreement on the same items beyond chance."""
    a, b = np.asarray(first).tolist(), np.asarray(second).tolist()
    labels = sorted({*a, *b})
    place = {label: index for index, label in enumerate(labels)}

    def cost(i: int, j: int) -> float:
        return {"none": float(i != j), "linear": abs(i - j), "quadratic": (i - j) ** 2}[weights]

    observed = sum(cost(place[x], place[y]) for x, y in zip(a, b, strict=True)) / len(a)
    expected = sum(cost(place[x], place[y]) for x in a for y in b) / len(a) ** 2
    return 1 - observed / expected if expected else math.nan


def calibration_error(confidence: ArrayLike, correct: ArrayLike, *, bins: int = 10) -> float:
    """Return the expected calibration error."""
    pairs = list(zip(np.asarray(confidence, float).tolist(), np.asarray(correct, float).tolist(), strict=True))
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        here = [(p, right) for p, right in pairs if low < p <= high or (number == 0 and p == 0)]
        total += abs(sum(p for p, _ in here) - sum(right for _, right in here))
    return total / len(pairs)


def krippendorff_alpha(ratings: ArrayLike, *, level: Literal["nominal", "ordinal", "interval"] = "nominal") -> float:
    """Return the agreement beyond chance of any number of raters."""
    rows = np.asarray(ratings).tolist()
    columns = [[x for x in item if str(x) not in ("None", "nan")] for item in zip(*rows, strict=True)]
    columns = [column for column in columns if len(column) > 1]
    pooled = [x for column in columns for x in column]

    def cost(x: float, y: float) -> float:
        if level == "ordinal" and x != y:
            low, high = min(x, y), max(x, y)
            between = sum(low <= z <= high for z in pooled)
            return float(between - (pooled.count(x) + pooled.count(y)) / 2) ** 2
        return float(x != y) if level != "interval" else float(x - y) ** 2

    observed = sum(sum(cost(x, y) for x in column for y in column) / (len(column) - 1) for column in columns)
    expected = sum(cost(x, y) for x in pooled for y in pooled) / (len(pooled) - 1)
    return 1 - observed / expected if expected else math.nan


def position_bias(forward: ArrayLike, swapped: ArrayLike) -> PositionBias:
    """Measure how far a judge of duels prefers a place."""
    a, b = np.asarray(forward, float), np.asarray(swapped, float)
    up, moved = int((a > b).sum()), int((a != b).sum())
    tail = (
        sum(math.comb(moved, i) for i in range(min(up, moved - up) + 1)) / 2**moved
    )  # a sign test: sizes do not count
    share, rate = float((a + 1 - b).mean() / 2), float((a + b).mean() / 2)
    return PositionBias(share, min(1.0, 2 * tail), float((a == b).mean()), rate, len(a))
