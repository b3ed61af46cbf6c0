"""Your turn: replace each ``raise NotImplementedError``."""

from capacity.queueing import Plan


def erlang_c(servers: int, load: float) -> float:
    """Return the probability that a request waits, in M/M/c with ``load`` erlangs (arrivals times service seconds).

    1 where the load is ``servers`` or more: the queue then grows without end. Raises ValueError for servers below 1
    and a negative load. By the recursion of Erlang B, ``1 / B(c) = 1 + c / (load * B(c - 1))``, which neither overflows
    nor cancels. Source: Erlang 1917; Jagerman 1974, doi:10.1002/j.1538-7305.1974.tb02756.x.
    """
    raise NotImplementedError("TODO 1 (core, about 8 lines): the share that waits, by recursion")


def wait_exceeds(servers: int, rate: float, service: float, seconds: float) -> float:
    """Return the probability that a request waits longer than ``seconds``, at ``rate`` arrivals a second.

    ``service`` is the mean of an exponential service time in seconds. Who waits, waits exponentially with the rate
    ``servers / service - rate``. Raises ValueError for a service not above 0 and negative seconds.
    """
    raise NotImplementedError("TODO 2 (core, about 4 lines): the tail of the wait")


def wait_percentile(servers: int, rate: float, service: float, percentile: float) -> float:
    """Return the seconds that ``percentile`` percent of requests wait at most; inf where the queue grows without end.

    0 where fewer than the rest wait at all. Raises ValueError for a percentile outside 0 to 100 (100 excluded).
    """
    raise NotImplementedError("TODO 3 (core, about 6 lines): the tail, solved for the seconds")


def replicas(rate: float, service: float, wait: float, percentile: float = 99.0, seats: int = 1) -> Plan:
    """Return the fewest replicas with which ``percentile`` percent of requests wait at most ``wait`` seconds.

    Each replica is ``seats`` servers of one queue. The wait falls with every server, so the number is found by
    doubling and halving. Raises ValueError for a negative rate, seats below 1, and what ``wait_percentile`` raises.
    """
    raise NotImplementedError("TODO 4 (core, about 8 lines): the fewest that keep the limit")


def wait_mean_general(servers: int, rate: float, service: float, variation: float, arrivals: float = 1.0) -> float:
    """Return the mean wait in seconds where arrivals or service times are not exponential; inf when overloaded.

    ``variation`` is the squared coefficient of variation of the service time (0: all alike, 1: exponential),
    ``arrivals`` that of the time between arrivals. Exact for M/M/c, and for M/G/1 (Pollaczek-Khinchine). Raises
    ValueError for negative variations. Source: Allen and Cunneen; Whitt 1993,
    doi:10.1111/j.1937-5956.1993.tb00094.x, eq. 2.14.
    """
    raise NotImplementedError("TODO 5 (stretch, about 4 lines): scale by both variations")


def spares(needed: int, availability: float, target: float) -> int:
    """Return how many replicas more than ``needed`` keep that many up with probability ``target``.

    Each is up with probability ``availability``, on its own. Raises ValueError for needed below 1 and probabilities
    not between 0 and 1.
    """
    raise NotImplementedError("TODO 6 (stretch, about 7 lines): the negative binomial")


def schedule(
    rates: list[float], service: float, wait: float, percentile: float = 99.0, seats: int = 1, delay: int = 0
) -> list[int]:
    """Return the replicas to run in each interval of a trace of ``rates``, when starting one takes ``delay`` intervals.

    A replica for an interval has to be started ``delay`` intervals before, so each interval runs what the busiest of
    it and the next ``delay`` needs; none is stopped that would have to be started again at once. Raises ValueError for
    an empty trace or a negative delay.
    """
    raise NotImplementedError("TODO 7 (stretch, about 2 lines): the most of what is ahead")
