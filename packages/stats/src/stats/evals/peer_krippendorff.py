"""Peer: the package krippendorff."""

import math
from typing import Literal

import krippendorff
import numpy as np
from numpy.typing import ArrayLike


def krippendorff_alpha(ratings: ArrayLike, *, level: Literal["nominal", "ordinal", "interval"] = "nominal") -> float:
    """Call ``alpha``; it takes labels only if they have no gaps, so they become numbers first."""
    table = np.asarray(ratings)
    if table.dtype.kind not in "fi":
        names = sorted({x for x in table.ravel().tolist() if x is not None})
        table = np.array([[math.nan if x is None else float(names.index(x)) for x in row] for row in table.tolist()])
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement=level))
