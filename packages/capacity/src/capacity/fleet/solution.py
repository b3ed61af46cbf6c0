"""Bounds first, then a schedule within a third of them."""

import heapq
from math import ceil

import numpy as np

from capacity.fleet import Floats, Schedule, checked

ROUNDING = 1e-9  # of workers: a quotient that should be whole


def makespan_bound(seconds: Floats, workers: int) -> float:
    """Return a lower bound of the time in which ``workers`` do jobs of ``seconds``, each on one worker in one piece.

    The largest of three: all work shared evenly; the longest job; and, sorted downwards, jobs number ``workers`` and
    ``workers + 1``, of which some worker does both or two as long. 0 for no jobs. Raises ValueError for what
    ``checked`` refuses. Source: Graham 1969, doi:10.1137/0117039.
    """
    jobs = checked(seconds, workers)
    if not len(jobs):
        return 0.0
    bound = max(float(jobs.sum()) / workers, float(jobs.max()))
    if len(jobs) > workers:
        longest = np.sort(np.partition(jobs, len(jobs) - workers - 1)[len(jobs) - workers - 1 :])
        bound = max(bound, float(longest[0] + longest[1]))
    return bound


def list_schedule(seconds: Floats, workers: int, longest_first: bool = True) -> Schedule:  # noqa: FBT001, FBT002
    """Give each job in turn to the worker that is free first, of several the lowest in number.

    With ``longest_first`` the longest job's turn is first (equal ones in the order given), and the result is within
    ``4/3 - 1/(3 * workers)`` of the best there is; in the order given within ``2 - 1/workers``. Raises ValueError for
    what ``checked`` refuses. Source: Graham 1969, doi:10.1137/0117039, theorems 1 and 2.
    """
    jobs = checked(seconds, workers)
    order = np.argsort(-jobs, kind="stable") if longest_first else np.arange(len(jobs))
    free = [(0.0, number) for number in range(min(workers, max(len(jobs), 1)))]  # a heap as it stands
    worker, start = np.zeros(len(jobs), np.int64), np.zeros(len(jobs))
    durations = jobs.tolist()
    for job in order.tolist():
        when, number = free[0]
        worker[job], start[job] = number, when
        heapq.heapreplace(free, (when + durations[job], number))
    return Schedule(worker, start, max((when for when, _ in free), default=0.0))


def expected_attempts(failure: float, retries: int) -> tuple[float, float]:
    """Return how often a job is tried on average, and the probability that it is given up.

    Each attempt fails with probability ``failure``, on its own, and is repeated ``retries`` times at most: attempts
    are ``(1 - failure ** (retries + 1)) / (1 - failure)``. Raises ValueError for a failure outside 0 to 1 and negative
    retries.
    """
    if not 0 <= failure <= 1 or retries < 0:
        msg = f"failure must lie within 0 and 1 and retries not be negative, not {failure} and {retries}"
        raise ValueError(msg)
    given_up = failure ** (retries + 1)
    return (1 - given_up) / (1 - failure) if failure < 1 else float(retries + 1), given_up


def registry_bytes(
    models: int, size: float, versions: int, variants: float = 0.0, shared: float = 0.0, copies: int = 1
) -> float:
    """Return the bytes of a registry with ``models`` models of ``size`` bytes, ``versions`` of each kept.

    ``variants`` are the optimised forms kept with each version, as a share of its size (an int8 and an int4 one of a
    16-bit model: 0.5 + 0.26). Versions share the part ``shared`` of their bytes with the first, stored once (the base
    under an adapter). ``copies`` are for safety. Raises ValueError for negative numbers, a share outside 0 to 1.
    """
    if min(models, versions) < 0 or min(size, variants) < 0 or not 0 <= shared <= 1 or copies < 1:
        given = f"{models}, {size}, {versions}, {variants}, {shared} and {copies}"
        msg = f"numbers must not be negative, shared lie within 0 and 1 and copies be at least 1, not {given}"
        raise ValueError(msg)
    if not versions:
        return 0.0
    return models * size * (1 + variants) * (1 + (versions - 1) * (1 - shared)) * copies


def schedule_with_failures(seconds: Floats, workers: int, failure: float, retries: int, seed: int = 0) -> float:
    """Return the seconds until all jobs are done or given up, when attempts fail.

    The longest job first; an attempt fails with probability ``failure`` after a uniformly random part of its time, and
    joins the end of the queue, ``retries`` times at most; every retry comes after all first attempts. The same seed
    gives the same run. Raises what ``list_schedule`` and ``expected_attempts`` raise.
    """
    jobs = checked(seconds, workers)
    expected_attempts(failure, retries)  # refuses what makes no sense
    rng = np.random.default_rng(seed)
    free = [0.0] * workers
    queue = [(0, position, 0.0, float(jobs[job])) for position, job in enumerate(np.argsort(-jobs, kind="stable"))]
    heapq.heapify(queue)  # by attempt, then in order; the time from which on a retry may start
    position = len(queue)
    end = 0.0
    while queue:
        attempt, _, ready, duration = heapq.heappop(queue)
        begin = max(ready, heapq.heappop(free))
        fails = bool(rng.random() < failure)
        done = begin + duration * (float(rng.random()) if fails else 1.0)
        heapq.heappush(free, done)
        end = max(end, done)
        if fails and attempt < retries:
            heapq.heappush(queue, (attempt + 1, position, done, duration))
            position += 1
    return end


def workers_needed(seconds: Floats, deadline: float, most: int = 1_000_000) -> int:
    """Return the fewest workers with which ``list_schedule``, the longest first, keeps a deadline.

    Fewer than the work over the deadline cannot; from there upward. Raises ValueError where the longest job alone takes
    longer, or where ``most`` workers do not suffice.
    """
    jobs = checked(seconds, 1)
    if not len(jobs):
        return 1
    if not deadline >= float(jobs.max()):
        msg = f"one job alone takes {jobs.max():g} s, longer than the deadline of {deadline:g} s"
        raise ValueError(msg)
    for workers in range(max(1, ceil(float(jobs.sum()) / deadline - ROUNDING)) if deadline else 1, most + 1):
        if makespan_bound(jobs, workers) <= deadline and list_schedule(jobs, workers).makespan <= deadline:
            return workers
        if workers >= len(jobs):
            break
    msg = f"{most} workers do not keep the deadline of {deadline:g} s"
    raise ValueError(msg)
