"""How fast the size of an experiment is found; the smaller the shift, the larger it is."""

import pytest

from capacity.canary.solution import samples_needed
from harness.race import Race


@pytest.mark.parametrize("shift", [0.02, 0.01, 0.005])
def bench_samples_needed(race: Race, shift: float) -> None:
    def check(found: int, shift: float) -> None:
        assert found == samples_needed(0.02, 0.02 + shift)

    race(
        lambda impl, shift: impl.samples_needed(0.02, 0.02 + shift),
        inputs=lambda: (shift,),
        check=check,
        unit="of 0.02",
    )
