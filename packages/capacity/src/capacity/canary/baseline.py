"""The textbook's formulas; and counting up where one would otherwise take logarithms."""

from math import ceil, inf
from statistics import NormalDist

from capacity.canary import Test


def samples_needed(before: float, after: float, share: float = 0.5, test: Test = Test()) -> int:  # noqa: B008 - frozen
    """Add requests until the power is there."""
    control = (1 - share) / share
    pooled = (after + control * before) / (1 + control)
    alarm = NormalDist().inv_cdf(1 - test.alpha / (2 if test.two_sided else 1))

    def power(n: int) -> float:
        null = (pooled * (1 - pooled) * (1 / n + 1 / (n * control))) ** 0.5
        real = (after * (1 - after) / n + before * (1 - before) / (n * control)) ** 0.5
        return 1 - NormalDist(abs(after - before), real or 1e-300).cdf(alarm * null)

    n = 1
    while power(n) < test.power:
        n += max(1, n // 1000) if n > 10_000 else 1  # noqa: PLR2004
    while n > 1 and power(n - 1) >= test.power:
        n -= 1
    return n


def days_needed(samples: int, rate: float, share: float = 0.5, labelled: float = 1.0) -> float:
    """Divide."""
    if samples == 0:
        return 0.0
    per_second = rate * share * labelled
    return samples / per_second / 24 / 3600 if per_second else inf


def rule_of_three(requests: int, confidence: float = 0.95) -> float:
    """Halve until the chance of no failure is what is left."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 - middle) ** requests > 1 - confidence else (low, middle)
    return high


def requests_without_failure(rate: float, confidence: float = 0.95) -> int:
    """Count up."""
    chance, count = 1.0, 0
    while chance > (1 - confidence) * (1 + 1e-12):
        chance *= 1 - rate
        count += 1
    return count


def samples_for_mean(deviation: float, shift: float, share: float = 0.5, test: Test = Test()) -> int:  # noqa: B008
    """Use the textbook's formula."""
    quantile = NormalDist().inv_cdf
    alarm = quantile(1 - test.alpha / (2 if test.two_sided else 1))
    return max(1, ceil((alarm + quantile(test.power)) ** 2 * deviation**2 / shift**2 / (1 - share)))
