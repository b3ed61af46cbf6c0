"""What every implementation of ``capacity.costs`` has to do."""

from math import ceil, inf
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity.costs import Api

API = Api(0.5, 1.5)


def near(what: str, found: float, wanted: float) -> None:
    assert found == pytest.approx(wanted, rel=1e-9), f"{what}: {found:.9g} came back, {wanted:.9g} expected"


def test_an_hour_over_an_hours_requests(impl: ModuleType) -> None:
    near("2.50 an hour, 10 requests a second", impl.cost_per_1k_requests(2.5, 1, 10.0), 2.5 / 36)
    near("on 4 GPUs and 3 replicas", impl.cost_per_1k_requests(2.5, 4, 10.0, 3), 12 * 2.5 / 36)


def test_half_the_load_is_twice_the_price(impl: ModuleType) -> None:
    full, half = (impl.cost_per_1k_requests(2.0, 1, rate) for rate in (8.0, 4.0))
    near("at half the load", half, 2 * full)


def test_a_million_tokens(impl: ModuleType) -> None:
    near("200 tokens a request", impl.cost_per_million_tokens(3.6, 1, 5.0, 200.0), 1.0)
    near("on 4 GPUs and 3 replicas", impl.cost_per_million_tokens(3.6, 4, 5.0, 200.0, 3), 12.0)


def test_one_replica_pays_from_here_on(impl: ModuleType) -> None:
    # A request of 1,000 + 1,000 tokens costs 0.002; a replica costs 0.001 a second and serves 10 of them
    found = impl.break_even(3.6, 1, 10.0, API, 1000, 1000)
    near("1,000 requests at the API", found.api_per_1k_requests, 2.0)
    near("break-even", found.rate, 0.5)
    assert found.replicas == 1


def test_replicas_that_run_anyway(impl: ModuleType) -> None:
    found = impl.break_even(3.6, 1, 10.0, API, 1000, 1000, fewest=3)
    near("three replicas, always on", found.rate, 1.5)
    assert found.replicas == 3


def test_a_step_up_can_be_dear_again(impl: ModuleType) -> None:
    # A replica costs 0.0016 a second and serves what is worth 0.002: at 0.8 it pays, but just above 1.0 two of them
    # cost 0.0032 for 0.002, above 2.0 three cost 0.0048 for 0.004, above 3.0 four 0.0064 for 0.006; from four on,
    # above 4.0, five cost 0.008 for 0.008, and it stays so.
    found = impl.break_even(5.76, 1, 1.0, API, 1000, 1000)
    near("break-even", found.rate, 3.2)
    assert found.replicas == 4, f"{found.replicas} replicas, four expected"


def test_never_cheaper(impl: ModuleType) -> None:
    for price in (7.2, 100.0):
        found = impl.break_even(price, 1, 1.0, API, 1000, 1000)
        assert (found.rate, found.replicas) == (inf, 0), f"{price} an hour: {found}"


def test_headroom_is_paid_for(impl: ModuleType) -> None:
    near("rate", impl.break_even(3.6, 1, 10.0, API, 1000, 1000, used=0.5).rate, 0.5)
    assert impl.break_even(5.0, 1, 1.0, API, 1000, 1000, used=0.5).rate == inf


@settings(max_examples=60)
@given(st.floats(0.1, 6.9), st.integers(1, 3), st.floats(0.5, 1.0))
def test_owning_stays_cheaper_above_and_not_below(impl: ModuleType, price: float, fewest: int, used: float) -> None:
    found = impl.break_even(price, 1, 1.0, API, 1000, 1000, fewest, used)
    each, request = price / 3600, 0.002

    def owning(rate: float) -> float:
        return max(fewest, ceil(rate / used - 1e-9)) * each

    if found.rate == inf:
        assert each >= request * used
        return
    for n in range(60):
        above = found.rate + 1e-6 + n * used / 7
        assert owning(above) <= request * above * (1 + 1e-6) + each * 1e-6, (
            f"break-even {found.rate:.6g}/s, but at {above:.6g}/s owning costs {owning(above):.6g} a second, "
            f"the API {request * above:.6g}"
        )
    below = found.rate - 1e-6
    assert owning(below) > request * below, f"break-even {found.rate:.6g}/s, but owning is cheaper just below it"


@pytest.mark.only("starter", "solution")
def test_impossible_bills(impl: ModuleType) -> None:
    with pytest.raises(ValueError, match="rate must be above 0"):
        impl.cost_per_1k_requests(1.0, 1, 0.0)
    with pytest.raises(ValueError, match="price must not be negative"):
        impl.cost_per_1k_requests(-1.0, 1, 1.0)
    with pytest.raises(ValueError, match="tokens must be above 0"):
        impl.cost_per_million_tokens(1.0, 1, 1.0, 0)
    with pytest.raises(ValueError, match="most must be above 0"):
        impl.break_even(1.0, 1, 0.0, API, 1, 1)
    with pytest.raises(ValueError, match="the API costs nothing"):
        impl.break_even(1.0, 1, 1.0, Api(0.0, 0.0), 1, 1)


# Stretch


@pytest.mark.stretch
def test_reserved_replicas_are_always_paid(impl: ModuleType) -> None:
    trace = [1, 1, 4, 2]
    near("on demand", impl.fleet_cost(trace, 2.0, 1, 0, 0.4, 3600.0), 16.0)
    near("two reserved at 60 %", impl.fleet_cost(trace, 2.0, 1, 2, 0.4, 3600.0), 2.0 * (4 * 2 * 0.6 + 2))
    near("for 15 minutes on 8 GPUs", impl.fleet_cost(trace, 2.0, 8, 0, 0.4, 900.0), 32.0)


@pytest.mark.stretch
@settings(max_examples=40)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=24), st.floats(0, 0.95))
def test_no_other_reservation_is_cheaper(impl: ModuleType, trace: list[int], discount: float) -> None:
    found = impl.best_reservation(trace, discount)
    bills = [impl.fleet_cost(trace, 1.0, 1, n, discount, 3600.0) for n in range(11)]
    assert bills[found] <= min(bills) + 1e-9, (
        f"{found} reserved cost {bills[found]:.4f}, {bills.index(min(bills))} less"
    )


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_impossible_fleets(impl: ModuleType) -> None:
    with pytest.raises(ValueError, match="discount is 0 to 1"):
        impl.fleet_cost([1], 1.0, 1, 0, 1.5, 60.0)
    with pytest.raises(ValueError, match="replicas and reserved are not negative"):
        impl.best_reservation([], 0.5)
