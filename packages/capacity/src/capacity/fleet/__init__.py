"""Fleet: jobs for thousands of models.

A platform that optimises, evaluates and ships thousands of models is a scheduling problem: so much work, so many
machines, some jobs that fail, and a registry that fills up. The numbers come before the architecture.

What you write:

- ``makespan_bound``: no schedule is faster than this.
- ``list_schedule``: the longest job first, to the machine that is free first.
- ``expected_attempts``: what failures and retries cost.
- ``registry_bytes``: versions, shared layers and quantized variants.
- stretch: ``schedule_with_failures``, simulated; ``workers_needed`` for a deadline.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which worker does each job, when it starts, in seconds, and when the last one ends (``makespan``)."""

    worker: NDArray[np.int64]
    start: Floats
    makespan: float


def checked(seconds: Floats, workers: int) -> Floats:
    """Return jobs as an array; ValueError for negative or infinite seconds and for workers below 1."""
    jobs = np.asarray(seconds, np.float64)
    if jobs.ndim != 1 or not np.isfinite(jobs).all() or (jobs < 0).any():
        msg = f"seconds must be one row of finite numbers that are not negative, not {jobs.shape} of them or below 0"
        raise ValueError(msg)
    if workers < 1:
        msg = f"workers must be at least 1, not {workers}"
        raise ValueError(msg)
    return jobs
