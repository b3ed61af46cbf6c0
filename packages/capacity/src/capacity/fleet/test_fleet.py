"""What every implementation of ``capacity.fleet`` has to do."""

from itertools import pairwise, product
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity.fleet import Schedule

JOBS = st.lists(st.floats(0, 100), max_size=30)


def near(what: str, found: float, wanted: float) -> None:
    assert found == pytest.approx(wanted, rel=1e-9), f"{what}: {found:.9g} came back, {wanted:.9g} expected"


def best(jobs: list[float], workers: int) -> float:
    """Try every assignment."""
    spans = (
        max(sum(job for job, on in zip(jobs, where, strict=True) if on == number) for number in range(workers))
        for where in product(range(workers), repeat=len(jobs))
    )
    return min(spans)


@pytest.mark.parametrize(
    ("jobs", "workers", "wanted"),
    [
        ([3.0, 3.0, 3.0, 3.0], 2, 6.0),  # the work
        ([10.0, 1.0, 1.0], 2, 10.0),  # the longest
        ([5.0, 5.0, 5.0, 0.1], 2, 10.0),  # two of three long ones share a worker
        ([], 3, 0.0),
        ([2.0], 1, 2.0),
    ],
)
def test_no_schedule_is_faster(impl: ModuleType, jobs: list[float], workers: int, wanted: float) -> None:
    near(f"bound of {jobs} on {workers}", impl.makespan_bound(np.array(jobs), workers), wanted)


def test_the_longest_goes_first(impl: ModuleType) -> None:
    # In the order given the long job comes last: 4 + 8. Longest first: 8, and 2 + 2 + 2 + 2 beside it.
    jobs = np.array([2.0, 2.0, 2.0, 2.0, 8.0])
    near("in the order given", impl.list_schedule(jobs, 2, False).makespan, 12.0)
    near("longest first", impl.list_schedule(jobs, 2).makespan, 8.0)


def test_when_and_where_each_job_runs(impl: ModuleType) -> None:
    # 4 on worker 0, 3 on worker 1, which is free first and takes 2; then worker 0 takes 1
    jobs = np.array([1.0, 4.0, 2.0, 3.0])
    found = impl.list_schedule(jobs, 2)
    assert found.start.tolist() == [4.0, 0.0, 3.0, 0.0], f"jobs {jobs} start at {found.start}"
    assert found.worker.tolist() == [0, 0, 1, 1], f"jobs {jobs} run on workers {found.worker}"
    whole(found, jobs.tolist(), 2)


def test_grahams_worst_case(impl: ModuleType) -> None:
    # Two workers, 3 3 2 2 2: longest first takes 7, the best 6; 4/3 - 1/6 = 7/6
    near("longest first", impl.list_schedule(np.array([3.0, 3.0, 2.0, 2.0, 2.0]), 2).makespan, 7.0)


def whole(found: Schedule, jobs: list[float], workers: int) -> None:
    assert len(found.worker) == len(found.start) == len(jobs)
    assert all(0 <= number < workers for number in found.worker)
    for number in range(workers):
        mine = sorted((found.start[j], jobs[j]) for j in range(len(jobs)) if found.worker[j] == number)
        for (start, seconds), (after, _) in pairwise(mine):
            assert after >= start + seconds - 1e-6, (
                f"worker {number} starts at {after} before it ends {start + seconds}"
            )
    ends = [found.start[j] + jobs[j] for j in range(len(jobs))]
    near("the last end", found.makespan, max(ends, default=0.0))


@settings(max_examples=40)
@given(JOBS, st.integers(1, 8), st.booleans())
def test_every_job_runs_once_and_none_waits_for_nothing(
    impl: ModuleType, jobs: list[float], workers: int, longest_first: bool
) -> None:
    found = impl.list_schedule(np.array(jobs), workers, longest_first)
    whole(found, jobs, workers)
    bound = impl.makespan_bound(np.array(jobs), workers)
    assert found.makespan >= bound * (1 - 1e-9)
    worst = 2 - 1 / workers
    most = worst * max(sum(jobs) / workers, max(jobs, default=0.0))
    assert found.makespan <= most * (1 + 1e-9) + 1e-9, f"{found.makespan}: Graham allows {worst:.3f} times the bound"


@settings(max_examples=12)
@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=6), st.integers(2, 3))
def test_within_a_third_of_the_best(impl: ModuleType, jobs: list[float], workers: int) -> None:
    found, least = impl.list_schedule(np.array(jobs), workers).makespan, best(jobs, workers)
    assert impl.makespan_bound(np.array(jobs), workers) <= least * (1 + 1e-9), "the bound is above the best"
    limit = (4 / 3 - 1 / (3 * workers)) * least
    assert found <= limit * (1 + 1e-9), f"{found:.4g} s, the best {least:.4g}, Graham's limit {limit:.4g}"


@pytest.mark.parametrize(
    ("failure", "retries", "attempts", "lost"),
    [(0.0, 3, 1.0, 0.0), (0.5, 0, 1.0, 0.5), (0.5, 2, 1.75, 0.125), (0.1, 3, 1.111, 1e-4), (1.0, 2, 3.0, 1.0)],
)
def test_retries(impl: ModuleType, failure: float, retries: int, attempts: float, lost: float) -> None:
    tried, given_up = impl.expected_attempts(failure, retries)
    near(f"attempts when {failure} fail", tried, attempts)
    near("given up", given_up, lost)


def test_a_registry(impl: ModuleType) -> None:
    near("1,000 models of 16 GB", impl.registry_bytes(1000, 16e9, 1), 16e12)
    near("5 versions", impl.registry_bytes(1000, 16e9, 5), 80e12)
    near("with int8 and int4", impl.registry_bytes(1000, 16e9, 5, 0.75), 140e12)
    near("99 % of a version shared with the first", impl.registry_bytes(1000, 16e9, 5, shared=0.99), 16e12 * 1.04)
    near("three copies", impl.registry_bytes(1000, 16e9, 1, copies=3), 48e12)
    near("nothing kept", impl.registry_bytes(1000, 16e9, 0), 0.0)


@pytest.mark.only("starter", "solution")
def test_impossible_fleets(impl: ModuleType) -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, not 0"):
        impl.list_schedule(np.ones(2), 0)
    with pytest.raises(ValueError, match="finite numbers that are not negative"):
        impl.makespan_bound(np.array([1.0, -1.0]), 1)
    with pytest.raises(ValueError, match="failure must lie within 0 and 1"):
        impl.expected_attempts(1.5, 1)
    with pytest.raises(ValueError, match="shared lie within 0 and 1"):
        impl.registry_bytes(1, 1, 1, shared=2)


# Stretch


@pytest.mark.stretch
def test_without_failures_it_is_the_plan(impl: ModuleType) -> None:
    jobs = np.random.default_rng(0).exponential(100, 200)
    near("8 workers", impl.schedule_with_failures(jobs, 8, 0.0, 3), impl.list_schedule(jobs, 8).makespan)


@pytest.mark.stretch
def test_failures_cost_what_they_waste(impl: ModuleType) -> None:
    # Many jobs of 1 s on 10 workers: a job takes 1 s and half a second for each failed attempt, half of them fail
    # once or more. Mean 1 + (0.5 + 0.25 + ...) * 0.5 = 1.5, none given up: the standard error of 4,000 is 0.012.
    found = impl.schedule_with_failures(np.ones(4000), 10, 0.5, 60, 1) / 400
    assert abs(found - 1.5) < 4 * 0.012, f"{found:.3f} s for each second of work, 1.5 expected"


@pytest.mark.stretch
def test_who_fails_always_is_given_up(impl: ModuleType) -> None:
    found = impl.schedule_with_failures(np.ones(1000), 1, 1.0, 3, 2)
    assert abs(found - 2000) < 4 * (4000 / 12) ** 0.5, (
        f"4 attempts of half a second each for 1,000 jobs, not {found:.0f} s"
    )


@pytest.mark.stretch
@pytest.mark.parametrize(("deadline", "wanted"), [(16.0, 1), (9.0, 2), (8.0, 3), (5.0, 4)])
def test_workers_for_a_deadline(impl: ModuleType, deadline: float, wanted: int) -> None:
    # Longest first 2 workers take 9 (5 + 2 + 2 and 3 + 2 + 2, or alike), although 8 would do; 3 take 6; 4 take 5
    jobs = np.array([5.0, 3.0, 2.0, 2.0, 2.0, 2.0])
    found = impl.workers_needed(jobs, deadline)
    assert found == wanted, f"16 s of work within {deadline} s: {found} workers, {wanted} expected"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_impossible_deadlines(impl: ModuleType) -> None:
    with pytest.raises(ValueError, match="one job alone takes 5 s"):
        impl.workers_needed(np.array([5.0, 1.0]), 4.0)
    with pytest.raises(ValueError, match="2 workers do not keep"):
        impl.workers_needed(np.ones(10), 1.0, 2)
