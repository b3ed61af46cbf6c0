"""Queueing: how many replicas a percentile of the waiting time needs.

Between "the mean fits" and "the 99th percentile fits" lie a few replicas, and they are computed, not guessed. A replica
serves one request at a time here (or ``seats`` of them, each a server of the queue); requests arrive at random and
wait in one line.

What you write:

- ``erlang_c``: the share of requests that wait, for any number of servers, without factorials that overflow.
- ``wait_exceeds`` and ``wait_percentile``: the distribution of the wait.
- ``replicas``: the fewest that keep a percentile of the wait within a limit.
- stretch: ``wait_mean_general`` for service times that are not exponential; ``spares``, replicas for those that are
  down; ``schedule``, replicas for a day's trace of rates.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """How many replicas, at which utilization, and the wait in seconds that the percentile asked for then has."""

    replicas: int
    utilization: float
    wait: float
