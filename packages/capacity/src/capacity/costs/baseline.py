"""Divide the bill, and look for the rate by trying."""

from math import inf

from capacity.costs import Api, BreakEven


def cost_per_1k_requests(price: float, gpus: int, rate: float, replicas: int = 1) -> float:
    """Divide an hour's bill by an hour's requests."""
    return price * gpus * replicas / (rate * 3600) * 1000


def cost_per_million_tokens(price: float, gpus: int, rate: float, tokens: float, replicas: int = 1) -> float:
    """Divide an hour's bill by an hour's tokens."""
    return price * gpus * replicas / (rate * 3600 * tokens) * 1e6


def break_even(
    price: float, gpus: int, most: float, api: Api, prompt: int, output: int, fewest: int = 1, used: float = 1.0
) -> BreakEven:
    """Add replicas until the next one pays for itself at once."""
    request = (prompt * api.per_million_input + output * api.per_million_output) / 1e6
    each, serves = price * gpus / 3600, most * used
    if each >= request * serves:
        return BreakEven(inf, 0, 1000 * request)
    count = fewest
    while (count + 1) * each > request * count * serves + 1e-12:
        count += 1
    rate = count * each / request
    if count > fewest:
        rate = max(rate, (count - 1) * serves)
    return BreakEven(rate, count, 1000 * request)
