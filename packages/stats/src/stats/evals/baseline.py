"""The simple answer: the definitions, loop by loop."""

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
