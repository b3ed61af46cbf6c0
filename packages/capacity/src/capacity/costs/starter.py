"""Your turn: replace each ``raise NotImplementedError``."""

from capacity.costs import Api, BreakEven


def cost_per_1k_requests(price: float, gpus: int, rate: float, replicas: int = 1) -> float:
    """Return the money that 1,000 requests cost on ``replicas`` servers of ``gpus`` GPUs at ``price`` an hour each.

    ``rate`` is the requests a second that really come, over all replicas; idle time is in the bill. Raises ValueError
    for a negative price, counts below 1, and a rate not above 0: what nobody uses has no price a request.
    """
    raise NotImplementedError("TODO 1 (core, about 2 lines): the bill over what was served")


def cost_per_million_tokens(price: float, gpus: int, rate: float, tokens: float, replicas: int = 1) -> float:
    """Return the money for a million tokens when each request has ``tokens`` of them.

    Count the tokens that are compared: only the output, or prompt and output as well. Raises what
    ``cost_per_1k_requests`` raises, and ValueError for tokens not above 0.
    """
    raise NotImplementedError("TODO 2 (core, about 2 lines): the same for tokens")


def break_even(
    price: float, gpus: int, most: float, api: Api, prompt: int, output: int, fewest: int = 1, used: float = 1.0
) -> BreakEven:
    """Return the rate from which replicas of one's own are cheaper than an API for the same requests.

    A replica serves ``most`` requests a second, of which ``used`` is planned with; at least ``fewest`` run, load or
    not. Replicas are whole: a rate just above what n of them serve pays for n + 1, so the answer is the rate from
    which owning stays cheaper, whatever the rate above it. Raises ValueError for rates and shares that make no sense,
    and for an API that costs nothing.
    """
    raise NotImplementedError("TODO 3 (core, about 10 lines): from where owning stays cheaper")


def fleet_cost(replicas: list[int], price: float, gpus: int, reserved: int, discount: float, seconds: float) -> float:
    """Return the money for a trace of ``replicas`` that run, one number for each interval of ``seconds``.

    ``reserved`` of them are paid all the time, at ``1 - discount`` of the price; more are paid at the full price while
    they run. Raises ValueError for an empty trace, negative numbers, and a discount outside 0 to 1.
    """
    raise NotImplementedError("TODO 4 (stretch, about 3 lines): reserved and on demand")


def best_reservation(replicas: list[int], discount: float) -> int:
    """Return how many replicas to reserve so that a trace costs least; the fewer where two cost the same.

    The n-th replica is worth reserving when it runs more than ``1 - discount`` of the time: a newsvendor's quantile.
    Raises ValueError as ``fleet_cost`` does.
    """
    raise NotImplementedError("TODO 5 (stretch, about 4 lines): the quantile that pays")
