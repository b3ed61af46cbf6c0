"""Costs: what a request costs at the load there is, not at the load one hopes for.

A GPU is paid by the hour, busy or idle. So the price of a million tokens is the bill divided by what was really
served, and half the load is twice the price. Prices are always arguments here: they change faster than code.

What you write:

- ``cost_per_1k_requests`` and ``cost_per_million_tokens``: the bill over what was served.
- ``break_even``: the rate from which owning servers is cheaper than an API.
- stretch: ``fleet_cost``, a day's trace on reserved and on-demand replicas; ``best_reservation``, how many to reserve.
"""

from dataclasses import dataclass

HOUR = 3600


@dataclass(frozen=True, slots=True)
class Api:
    """The price of somebody else's model, in money for a million tokens read and written."""

    per_million_input: float
    per_million_output: float

    def __post_init__(self) -> None:
        """Refuse prices below nothing."""
        if min(self.per_million_input, self.per_million_output) < 0:
            given = f"{self.per_million_input} and {self.per_million_output}"
            msg = f"prices for a million tokens are not negative, not {given}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class BreakEven:
    """From ``rate`` requests a second on owning is cheaper, with ``replicas`` of them; ``api`` is the API's price.

    ``rate`` is inf and ``replicas`` 0 where it never is.
    """

    rate: float
    replicas: int
    api_per_1k_requests: float
