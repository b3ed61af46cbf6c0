"""How fast a fleet is sized."""

import pytest

from capacity.queueing import Plan
from capacity.queueing.solution import replicas
from harness.race import Race


@pytest.mark.parametrize("rate", [10, 100, 600])
def bench_replicas(race: Race, rate: int) -> None:
    wanted = replicas(rate, 1.0, 0.01)

    def check(found: Plan, rate: int) -> None:
        assert found.replicas == wanted.replicas

    race(lambda impl, rate: impl.replicas(rate, 1.0, 0.01), inputs=lambda: (rate,), check=check, unit="erlangs")
