"""The textbook's sum, and one replica more until it is enough."""

from math import ceil, exp, inf, log

from capacity.queueing import Plan


def erlang_c(servers: int, load: float) -> float:
    """Sum the textbook's series, each term from the one before."""
    if load >= servers:
        return 1.0
    term, total = 1.0, 0.0
    for count in range(servers):
        total += term
        term *= load / (count + 1)
    last = term * servers / (servers - load)
    return last / (total + last)


def wait_exceeds(servers: int, rate: float, service: float, seconds: float) -> float:
    """Who waits, waits exponentially."""
    if rate * service >= servers:
        return 1.0
    return erlang_c(servers, rate * service) * exp(-(servers / service - rate) * seconds)


def wait_percentile(servers: int, rate: float, service: float, percentile: float) -> float:
    """Solve for the seconds."""
    if rate * service >= servers:
        return inf
    waits, rest = erlang_c(servers, rate * service), 1 - percentile / 100
    return 0.0 if waits <= rest else log(waits / rest) / (servers / service - rate)


def replicas(rate: float, service: float, wait: float, percentile: float = 99.0, seats: int = 1) -> Plan:
    """Try one more."""
    count = max(1, ceil(rate * service / seats))
    while wait_percentile(count * seats, rate, service, percentile) > wait:
        count += 1
    return Plan(count, rate * service / (count * seats), wait_percentile(count * seats, rate, service, percentile))
