"""Ask every worker who is free first."""

import numpy as np

from capacity.fleet import Floats, Schedule, checked


def makespan_bound(seconds: Floats, workers: int) -> float:
    """Take the largest of three bounds."""
    jobs: list[float] = sorted(checked(seconds, workers).tolist(), reverse=True)
    if not jobs:
        return 0.0
    pair = jobs[workers - 1] + jobs[workers] if len(jobs) > workers else 0.0
    return max(sum(jobs) / workers, jobs[0], pair)


def list_schedule(seconds: Floats, workers: int, longest_first: bool = True) -> Schedule:  # noqa: FBT001, FBT002
    """Look at all workers for every job."""
    jobs = checked(seconds, workers)
    free = [0.0] * workers
    worker, start = np.zeros(len(jobs), np.int64), np.zeros(len(jobs))
    order = list(range(len(jobs)))
    if longest_first:
        order.sort(key=lambda job: -jobs[job])
    for job in order:
        number = free.index(min(free))
        worker[job], start[job] = number, free[number]
        free[number] += float(jobs[job])
    return Schedule(worker, start, max(free))


def expected_attempts(failure: float, retries: int) -> tuple[float, float]:
    """Add up how likely each attempt is."""
    return sum(failure**attempt for attempt in range(retries + 1)), failure ** (retries + 1)


def registry_bytes(
    models: int, size: float, versions: int, variants: float = 0.0, shared: float = 0.0, copies: int = 1
) -> float:
    """Add version after version."""
    one = 0.0
    for version in range(versions):
        one += size * (1 + variants) * (1 if version == 0 else 1 - shared)
    return models * one * copies
