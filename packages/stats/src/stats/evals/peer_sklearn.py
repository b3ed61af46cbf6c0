"""Peer: scikit-learn, which has Cohen's kappa."""

from typing import Literal

from numpy.typing import ArrayLike
from sklearn.metrics import cohen_kappa_score


def cohens_kappa(
    first: ArrayLike, second: ArrayLike, *, weights: Literal["none", "linear", "quadratic"] = "none"
) -> float:
    """Call ``cohen_kappa_score``."""
    return float(cohen_kappa_score(first, second, weights=None if weights == "none" else weights))
