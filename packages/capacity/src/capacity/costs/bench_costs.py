"""How fast a break-even is found, by the number of replicas it takes."""

import pytest

from capacity.costs import Api, BreakEven
from harness.race import Race


@pytest.mark.parametrize("replicas", [1, 10, 100])
def bench_break_even(race: Race, replicas: int) -> None:
    price = 7.2 * replicas / (replicas + 0.9) if replicas > 1 else 3.6  # a replica that hardly pays needs many

    def check(found: BreakEven, price: float) -> None:
        assert found.replicas >= replicas

    race(
        lambda impl, price: impl.break_even(price, 1, 1.0, Api(0.5, 1.5), 1000, 1000),
        inputs=lambda: (price,),
        check=check,
        unit="replicas at least",
    )
