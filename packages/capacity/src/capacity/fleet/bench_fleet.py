"""How fast a night's jobs are scheduled."""

import numpy as np
import pytest

from capacity.fleet import Floats, Schedule
from harness.race import Race


@pytest.mark.parametrize("jobs", [500, 5_000, 20_000])
def bench_list_schedule(race: Race, jobs: int) -> None:
    rng = np.random.default_rng(0)

    def check(found: Schedule, seconds: Floats) -> None:
        ends = found.start + seconds
        assert abs(found.makespan - ends.max()) < 1e-6
        assert found.makespan <= (2 - 1 / 200) * max(seconds.sum() / 200, seconds.max())

    race(
        lambda impl, seconds: impl.list_schedule(seconds, 200),
        inputs=lambda: (rng.exponential(600, jobs),),
        check=check,
        unit="jobs, 200 workers",
    )
