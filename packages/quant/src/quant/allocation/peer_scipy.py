"""Peer: the same knapsack as a mixed-integer linear program, solved by scipy's HiGHS; no gap allowed."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from quant.allocation import Allocation, Candidate


def allocate_bits(sensitivity: Mapping[str, Sequence[Candidate]], budget: int) -> Allocation:
    """Choose one candidate for each layer with the least loss under ``budget`` bytes."""
    every = [(number, name, c) for number, (name, each) in enumerate(sensitivity.items()) for c in each]
    sizes, losses = np.array([c.size for *_, c in every], float), np.array([c.loss for *_, c in every])
    picks = csr_array((np.ones(len(every)), ([number for number, *_ in every], range(len(every)))))
    scale = float(max(abs(losses).max(), 1e-300))  # HiGHS compares with absolute tolerances
    done = milp(
        losses / scale,
        integrality=np.ones(len(every), int),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(picks, 1, 1), LinearConstraint(sizes[None], -np.inf, budget)],
        options={"mip_rel_gap": 0.0},
    )
    if done.x is None:
        raise ValueError(done.message)
    picked = [(name, c) for (_, name, c), taken in zip(every, done.x, strict=True) if taken > 0.5]  # noqa: PLR2004
    size, loss = sum(c.size for _, c in picked), sum(c.loss for _, c in picked)
    return Allocation({name: c.name for name, c in picked}, size, loss)
