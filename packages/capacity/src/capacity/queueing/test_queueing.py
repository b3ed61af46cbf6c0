"""What every implementation of ``capacity.queueing`` has to do."""

from fractions import Fraction
from math import comb, exp, factorial, inf, isfinite
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROUNDING = 1e-9  # relative: a few hundred operations in float64


def exact(servers: int, load: Fraction) -> float:
    """Erlang C by its definition, in whole numbers."""
    last = load**servers / factorial(servers) * servers / (servers - load)
    return float(last / (sum(load**k / factorial(k) for k in range(servers)) + last))


def near(what: str, found: float, wanted: float, within: float = ROUNDING) -> None:
    assert found == pytest.approx(wanted, rel=within, abs=1e-300), f"{what}: {found:.9g}, {wanted:.9g} expected"


@pytest.mark.parametrize(("servers", "load"), [(1, "1/2"), (2, "1"), (4, "14/5"), (10, "9"), (100, "95"), (7, "1/100")])
def test_erlang_c_is_exact(impl: ModuleType, servers: int, load: str) -> None:
    near(
        f"{servers} servers, {load} erlangs",
        impl.erlang_c(servers, float(Fraction(load))),
        exact(servers, Fraction(load)),
    )


def test_a_single_server_is_busy_as_often_as_it_is_loaded(impl: ModuleType) -> None:
    for load in (0.0, 0.1, 0.9):
        near(f"one server, load {load}", impl.erlang_c(1, load), load)


def test_overload_means_that_everybody_waits(impl: ModuleType) -> None:
    for servers, load in ((1, 1.0), (3, 3.0), (3, 7.5)):
        near(f"{servers} servers, {load} erlangs", impl.erlang_c(servers, load), 1.0)
    near("longer than an hour", impl.wait_exceeds(2, 10.0, 1.0, 3600.0), 1.0)
    assert impl.wait_percentile(2, 2.0, 1.0, 50.0) == inf


@pytest.mark.known("baseline", reason="the terms of the series overflow")
@pytest.mark.parametrize(("servers", "load"), [(1200, 1150.0), (100_000, 99_900.0)])
def test_many_servers_do_not_overflow(impl: ModuleType, servers: int, load: float) -> None:
    found = impl.erlang_c(servers, load)
    assert isfinite(found), f"{servers} servers: {found}"
    assert 0 < found < 1, f"{servers} servers, {load:g} erlangs: {found}"


def test_who_waits_waits_exponentially(impl: ModuleType) -> None:
    share = impl.erlang_c(4, 2.8)
    near("at all", impl.wait_exceeds(4, 1.4, 2.0, 0.0), share)
    near("longer than 3 s", impl.wait_exceeds(4, 1.4, 2.0, 3.0), share * exp(-(4 / 2 - 1.4) * 3))


@settings(max_examples=40)
@given(st.integers(1, 40), st.floats(0.05, 0.98), st.floats(0.01, 50), st.floats(1, 99.9))
def test_the_percentile_is_where_the_rest_still_waits(
    impl: ModuleType, servers: int, used: float, service: float, percentile: float
) -> None:
    rate = used * servers / service
    seconds = impl.wait_percentile(servers, rate, service, percentile)
    if seconds == 0:
        assert impl.erlang_c(servers, rate * service) <= 1 - percentile / 100 + ROUNDING
    else:
        longer = impl.wait_exceeds(servers, rate, service, seconds)
        near(f"share that waits longer than {seconds:.4g} s", longer, 1 - percentile / 100, 1e-6)


def test_nobody_waits_where_there_is_room(impl: ModuleType) -> None:
    near("the 99th percentile of 50 servers with 1 erlang", impl.wait_percentile(50, 1.0, 1.0, 99.0), 0.0)


@pytest.mark.parametrize(
    ("rate", "service", "wait", "percentile", "seats", "wanted"),
    [
        (0.0, 1.0, 0.0, 99.0, 1, 1),
        (1.0, 0.5, 10.0, 99.0, 1, 1),  # ln(0.5 / 0.01) / (2 - 1) = 3.9 s
        (1.0, 0.5, 3.0, 99.0, 1, 2),
        (10.0, 1.0, 1.0, 50.0, 1, 11),
        (100.0, 1.0, 0.5, 99.0, 10, 11),
        (100.0, 1.0, 0.3, 99.0, 10, 12),
    ],
)
def test_replicas(
    impl: ModuleType, rate: float, service: float, wait: float, percentile: float, seats: int, wanted: int
) -> None:
    found = impl.replicas(rate, service, wait, percentile, seats)
    assert found.replicas == wanted, (
        f"{rate}/s of {service} s, p{percentile:g} at most {wait} s, {seats} seats: {found.replicas}, {wanted} expected"
    )
    near("utilization", found.utilization, rate * service / (wanted * seats))


@settings(max_examples=40)
@given(st.floats(0.1, 50), st.floats(0.01, 5), st.floats(0, 20), st.floats(10, 99.9), st.integers(1, 16))
def test_one_replica_less_is_too_few(
    impl: ModuleType, rate: float, service: float, wait: float, percentile: float, seats: int
) -> None:
    found = impl.replicas(rate, service, wait, percentile, seats)
    assert found.wait <= wait, f"p{percentile:.3g} waits {found.wait:.4g} s, {wait:.4g} allowed"
    if found.replicas > 1:
        fewer = impl.wait_percentile((found.replicas - 1) * seats, rate, service, percentile)
        assert fewer > wait, f"{found.replicas - 1} replicas keep within {wait:.4g} s too: {fewer:.4g}"


@pytest.mark.only("starter", "solution")
def test_impossible_queues(impl: ModuleType) -> None:
    with pytest.raises(ValueError, match="servers must be at least 1"):
        impl.erlang_c(0, 1.0)
    with pytest.raises(ValueError, match="load at least 0, not 1 and"):
        impl.erlang_c(1, -1.0)
    with pytest.raises(ValueError, match="service must be above 0"):
        impl.wait_exceeds(1, 1.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="seconds at least 0"):
        impl.wait_exceeds(1, 1.0, 1.0, -1.0)
    with pytest.raises(ValueError, match="percentile must be at least 0 and below 100"):
        impl.wait_percentile(1, 1.0, 1.0, 100.0)
    with pytest.raises(ValueError, match="rate must be at least 0"):
        impl.replicas(-1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="seats at least 1"):
        impl.replicas(1.0, 1.0, 1.0, 99.0, 0)


# Stretch


@pytest.mark.stretch
def test_equal_services_wait_half(impl: ModuleType) -> None:
    # Pollaczek-Khinchine at load 0.8 and 1 s: 4 s exponential, 2 s constant
    near("M/M/1", impl.wait_mean_general(1, 0.8, 1.0, 1.0), 4.0)
    near("M/D/1", impl.wait_mean_general(1, 0.8, 1.0, 0.0), 2.0)
    near("M/M/4", impl.wait_mean_general(4, 2.8, 1.0, 1.0), exact(4, Fraction(14, 5)) / 1.2)
    near("outliers, standard deviation twice the mean", impl.wait_mean_general(1, 0.8, 1.0, 4.0), 10.0)
    near("bursts", impl.wait_mean_general(1, 0.8, 1.0, 1.0, 3.0), 8.0)
    assert impl.wait_mean_general(1, 1.0, 1.0, 0.0) == inf


@pytest.mark.stretch
@pytest.mark.parametrize(
    ("needed", "up", "target"), [(1, 0.9, 0.95), (10, 0.99, 0.999), (100, 0.95, 0.99), (3, 0.5, 0.1)]
)
def test_spares_by_the_binomial(impl: ModuleType, needed: int, up: float, target: float) -> None:
    def enough(count: int) -> float:
        return sum(comb(count, k) * up**k * (1 - up) ** (count - k) for k in range(needed, count + 1))

    found = impl.spares(needed, up, target)
    assert enough(needed + found) >= target, f"{found} spares: {needed} are up with {enough(needed + found):.6f} only"
    assert found == 0 or enough(needed + found - 1) < target, f"{found - 1} spares would do"


@pytest.mark.stretch
def test_a_day_is_staffed_ahead(impl: ModuleType) -> None:
    rates = [1.0, 1.0, 50.0, 1.0, 1.0]
    low, high = (impl.replicas(rate, 1.0, 1.0).replicas for rate in (1.0, 50.0))
    assert impl.schedule(rates, 1.0, 1.0) == [low, low, high, low, low]
    found = impl.schedule(rates, 1.0, 1.0, delay=2)
    assert found == [high, high, high, low, low], f"two intervals to start: {found} for rates {rates}"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_impossible_plans(impl: ModuleType) -> None:
    with pytest.raises(ValueError, match="variations are not negative"):
        impl.wait_mean_general(1, 0.5, 1.0, -1.0)
    with pytest.raises(ValueError, match="availability and target between 0 and 1"):
        impl.spares(1, 1.0, 0.9)
    with pytest.raises(ValueError, match="rates must not be empty"):
        impl.schedule([], 1.0, 1.0)
