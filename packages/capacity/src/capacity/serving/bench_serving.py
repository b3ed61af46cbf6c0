"""How fast a day of requests is simulated."""

import pytest

from capacity.serving import Server, Trace, Workload
from harness.race import Race

SERVER = Server(step=0.012, token=1e-4, context=1e-7, prompt=5e-5, blocks=30_000, seats=128, chunk=2048)


@pytest.mark.parametrize("requests", [100, 1_000, 5_000])
def bench_simulate(race: Race, requests: int) -> None:
    workload = Workload(requests, 500, 200, rate=8.0, lengths="geometric")

    def check(found: Trace, workload: Workload) -> None:
        assert found.tokens == found.outputs.sum()
        assert found.held == 0

    race(lambda impl, w: impl.simulate(SERVER, w, 1), inputs=lambda: (workload,), check=check, unit="requests")
