"""Erlang's formulas, as recursions that stay between 0 and 1."""

from math import ceil, exp, log

from capacity.queueing import Plan

MOST = 1_000_000  # servers; beyond it the search is surely a mistake in units


def erlang_c(servers: int, load: float) -> float:
    """Return the probability that a request waits, in M/M/c with ``load`` erlangs (arrivals times service seconds).

    1 where the load is ``servers`` or more: the queue then grows without end. Raises ValueError for servers below 1
    and a negative load. By the recursion of Erlang B, ``1 / B(c) = 1 + c / (load * B(c - 1))``, which neither overflows
    nor cancels. Source: Erlang 1917; Jagerman 1974, doi:10.1002/j.1538-7305.1974.tb02756.x.
    """
    if servers < 1 or not load >= 0:
        msg = f"servers must be at least 1 and load at least 0, not {servers} and {load}"
        raise ValueError(msg)
    if load >= servers:
        return 1.0
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def wait_exceeds(servers: int, rate: float, service: float, seconds: float) -> float:
    """Return the probability that a request waits longer than ``seconds``, at ``rate`` arrivals a second.

    ``service`` is the mean of an exponential service time in seconds. Who waits, waits exponentially with the rate
    ``servers / service - rate``. Raises ValueError for a service not above 0 and negative seconds.
    """
    _check(service, seconds)
    waits = erlang_c(servers, rate * service)
    spare = servers / service - rate
    return waits * exp(-spare * seconds) if spare > 0 else 1.0


def wait_percentile(servers: int, rate: float, service: float, percentile: float) -> float:
    """Return the seconds that ``percentile`` percent of requests wait at most; inf where the queue grows without end.

    0 where fewer than the rest wait at all. Raises ValueError for a percentile outside 0 to 100 (100 excluded).
    """
    _check(service, 0.0)
    if not 0 <= percentile < 100:  # noqa: PLR2004 - percent
        msg = f"percentile must be at least 0 and below 100, not {percentile}"
        raise ValueError(msg)
    spare = servers / service - rate
    if spare <= 0:
        return float("inf")
    waits, rest = erlang_c(servers, rate * service), 1 - percentile / 100
    return log(waits / rest) / spare if waits > rest else 0.0


def _check(service: float, seconds: float) -> None:
    if not service > 0 or not seconds >= 0:
        msg = f"service must be above 0 and seconds at least 0, not {service} and {seconds}"
        raise ValueError(msg)


def replicas(rate: float, service: float, wait: float, percentile: float = 99.0, seats: int = 1) -> Plan:
    """Return the fewest replicas with which ``percentile`` percent of requests wait at most ``wait`` seconds.

    Each replica is ``seats`` servers of one queue. The wait falls with every server, so the number is found by
    doubling and halving. Raises ValueError for a negative rate, seats below 1, and what ``wait_percentile`` raises.
    """
    if not rate >= 0 or seats < 1:
        msg = f"rate must be at least 0 and seats at least 1, not {rate} and {seats}"
        raise ValueError(msg)
    _check(service, wait)
    low = max(1, ceil(rate * service / seats))  # fewer cannot even keep up
    high = low
    while wait_percentile(high * seats, rate, service, percentile) > wait:
        low, high = high + 1, 2 * high
        if high > MOST:
            msg = f"more than {MOST} replicas: is {service} the service time in seconds?"
            raise ValueError(msg)
    while low < high:
        middle = (low + high) // 2
        if wait_percentile(middle * seats, rate, service, percentile) > wait:
            low = middle + 1
        else:
            high = middle
    used = rate * service / (high * seats)
    return Plan(high, used, wait_percentile(high * seats, rate, service, percentile))


def wait_mean_general(servers: int, rate: float, service: float, variation: float, arrivals: float = 1.0) -> float:
    """Return the mean wait in seconds where arrivals or service times are not exponential; inf when overloaded.

    ``variation`` is the squared coefficient of variation of the service time (0: all alike, 1: exponential),
    ``arrivals`` that of the time between arrivals. Exact for M/M/c, and for M/G/1 (Pollaczek-Khinchine). Raises
    ValueError for negative variations. Source: Allen and Cunneen; Whitt 1993,
    doi:10.1111/j.1937-5956.1993.tb00094.x, eq. 2.14.
    """
    _check(service, 0.0)
    if not variation >= 0 or not arrivals >= 0:
        msg = f"variations are not negative; they are {variation} and {arrivals}"
        raise ValueError(msg)
    spare = servers / service - rate
    if spare <= 0:
        return float("inf")
    return erlang_c(servers, rate * service) / spare * (variation + arrivals) / 2


def spares(needed: int, availability: float, target: float) -> int:
    """Return how many replicas more than ``needed`` keep that many up with probability ``target``.

    Each is up with probability ``availability``, on its own. Raises ValueError for needed below 1 and probabilities
    not between 0 and 1.
    """
    if needed < 1 or not 0 < availability < 1 or not 0 < target < 1:
        given = f"{needed}, {availability} and {target}"
        msg = f"needed must be at least 1, availability and target between 0 and 1, not {given}"
        raise ValueError(msg)
    # The number of failures before the `needed`-th that is up is negative binomial.
    chance = availability**needed
    reached, extra = chance, 0
    while reached < target:
        extra += 1
        chance *= (needed + extra - 1) / extra * (1 - availability)
        reached += chance
        if extra > MOST:
            msg = f"no number of spares reaches {target}"
            raise ValueError(msg)
    return extra


def schedule(
    rates: list[float], service: float, wait: float, percentile: float = 99.0, seats: int = 1, delay: int = 0
) -> list[int]:
    """Return the replicas to run in each interval of a trace of ``rates``, when starting one takes ``delay`` intervals.

    A replica for an interval has to be started ``delay`` intervals before, so each interval runs what the busiest of
    it and the next ``delay`` needs; none is stopped that would have to be started again at once. Raises ValueError for
    an empty trace or a negative delay.
    """
    if not rates or delay < 0:
        msg = f"rates must not be empty and delay at least 0, not {len(rates)} rates and {delay}"
        raise ValueError(msg)
    needed = [replicas(rate, service, wait, percentile, seats).replicas for rate in rates]
    return [max(needed[i : i + delay + 1]) for i in range(len(needed))]
