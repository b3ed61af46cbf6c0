"""The bill over what was served."""

from math import ceil, inf

from capacity.costs import HOUR, Api, BreakEven

ROUNDING = 1e-9  # of replicas: a quotient of prices that should be whole


def cost_per_1k_requests(price: float, gpus: int, rate: float, replicas: int = 1) -> float:
    """Return the money that 1,000 requests cost on ``replicas`` servers of ``gpus`` GPUs at ``price`` an hour each.

    ``rate`` is the requests a second that really come, over all replicas; idle time is in the bill. Raises ValueError
    for a negative price, counts below 1, and a rate not above 0: what nobody uses has no price a request.
    """
    _check(price, gpus, replicas)
    if not rate > 0:
        msg = f"rate must be above 0 requests a second, not {rate}"
        raise ValueError(msg)
    return price * gpus * replicas / HOUR / rate * 1000


def cost_per_million_tokens(price: float, gpus: int, rate: float, tokens: float, replicas: int = 1) -> float:
    """Return the money for a million tokens when each request has ``tokens`` of them.

    Count the tokens that are compared: only the output, or prompt and output as well. Raises what
    ``cost_per_1k_requests`` raises, and ValueError for tokens not above 0.
    """
    if not tokens > 0:
        msg = f"tokens must be above 0 a request, not {tokens}"
        raise ValueError(msg)
    return cost_per_1k_requests(price, gpus, rate, replicas) / tokens * 1000


def _check(price: float, gpus: int, replicas: int) -> None:
    if not price >= 0 or gpus < 1 or replicas < 1:
        msg = f"price must not be negative, gpus and replicas at least 1, not {price}, {gpus} and {replicas}"
        raise ValueError(msg)


def break_even(
    price: float, gpus: int, most: float, api: Api, prompt: int, output: int, fewest: int = 1, used: float = 1.0
) -> BreakEven:
    """Return the rate from which replicas of one's own are cheaper than an API for the same requests.

    A replica serves ``most`` requests a second, of which ``used`` is planned with; at least ``fewest`` run, load or
    not. Replicas are whole: a rate just above what n of them serve pays for n + 1, so the answer is the rate from
    which owning stays cheaper, whatever the rate above it. Raises ValueError for rates and shares that make no sense,
    and for an API that costs nothing.
    """
    _check(price, gpus, fewest)
    if not most > 0 or not 0 < used <= 1 or min(prompt, output) < 0:
        msg = (
            f"most must be above 0, used above 0 and at most 1, tokens not negative: {most}, {used}, {prompt}, {output}"
        )
        raise ValueError(msg)
    request = (prompt * api.per_million_input + output * api.per_million_output) / 1e6
    if not request > 0:
        msg = "the API costs nothing for such a request: there is no rate from which owning is cheaper"
        raise ValueError(msg)
    each, serves = price * gpus / HOUR, most * used  # money a second of a replica, requests a second
    if each >= request * serves:  # even a full replica is no cheaper
        return BreakEven(inf, 0, 1000 * request)
    # Just above count * serves there are count + 1: cheaper where (count + 1) * each <= request * count * serves.
    count = max(fewest, ceil(each / (request * serves - each) - ROUNDING))
    return BreakEven(
        max(count * each / request, (count - 1) * serves if count > fewest else 0.0), count, 1000 * request
    )


def fleet_cost(replicas: list[int], price: float, gpus: int, reserved: int, discount: float, seconds: float) -> float:
    """Return the money for a trace of ``replicas`` that run, one number for each interval of ``seconds``.

    ``reserved`` of them are paid all the time, at ``1 - discount`` of the price; more are paid at the full price while
    they run. Raises ValueError for an empty trace, negative numbers, and a discount outside 0 to 1.
    """
    _check(price, gpus, 1)
    if not replicas or min(replicas) < 0 or reserved < 0 or not 0 <= discount <= 1 or not seconds > 0:
        given = f"{reserved}, {discount}, {seconds}"
        msg = f"replicas and reserved are not negative, discount is 0 to 1, seconds above 0: {given}"
        raise ValueError(msg)
    hours = sum((1 - discount) * reserved + max(0, running - reserved) for running in replicas) * seconds / HOUR
    return hours * price * gpus


def best_reservation(replicas: list[int], discount: float) -> int:
    """Return how many replicas to reserve so that a trace costs least; the fewer where two cost the same.

    The n-th replica is worth reserving when it runs more than ``1 - discount`` of the time: a newsvendor's quantile.
    Raises ValueError as ``fleet_cost`` does.
    """
    fleet_cost(replicas, 1.0, 1, 0, discount, 1.0)  # refuses what makes no sense
    count = 0
    while sum(running > count for running in replicas) > (1 - discount) * len(replicas):
        count += 1
    return count
