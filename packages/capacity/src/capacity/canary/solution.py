"""Standard errors, turned around."""

from math import ceil, inf, isinf, log1p, pi, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from capacity.canary import Test

NORMAL = NormalDist()
GRID = 400  # points of the integration in looks_boundary: fifteen a standard deviation at 10 looks, six at 50


def samples_needed(before: float, after: float, share: float = 0.5, test: Test = Test()) -> int:  # noqa: B008 - frozen
    """Return the requests in the canary with which a rate that moves from ``before`` to ``after`` is seen.

    ``share`` is the canary's part of the traffic; the rest is the control. By the normal approximation to two
    proportions, pooled variance for the false alarm and separate ones for the power. Raises ValueError for rates
    outside 0 to 1, equal rates, and a share not between 0 and 1.
    Source: Fleiss, Tytun and Ury 1980, doi:10.2307/2529990, without the continuity correction.
    """
    if not 0 <= before <= 1 or not 0 <= after <= 1 or before == after:
        msg = f"before and after are two different rates between 0 and 1, not {before} and {after}"
        raise ValueError(msg)
    control = _controls(share)
    pooled = (after + control * before) / (1 + control)
    spread_null = sqrt(pooled * (1 - pooled) * (1 + 1 / control))
    spread = sqrt(after * (1 - after) + before * (1 - before) / control)
    needed = (_alarm(test) * spread_null + NORMAL.inv_cdf(test.power) * spread) / (after - before)
    return max(1, ceil(needed**2))


def _controls(share: float) -> float:
    """Control requests for each of the canary."""
    if not 0 < share < 1:
        msg = f"share must lie between 0 and 1, not {share}"
        raise ValueError(msg)
    return (1 - share) / share


def _alarm(test: Test) -> float:
    return NORMAL.inv_cdf(1 - test.alpha / (2 if test.two_sided else 1))


def days_needed(samples: int, rate: float, share: float = 0.5, labelled: float = 1.0) -> float:
    """Return the days until a canary with ``share`` of ``rate`` requests a second has ``samples`` of them.

    Only the part ``labelled`` tells how it went (a thumb, a click, a label). Inf where nothing comes. Raises ValueError
    for negative samples or rates and shares outside 0 to 1.
    """
    if samples < 0 or not rate >= 0 or not 0 <= share <= 1 or not 0 <= labelled <= 1:
        given = f"{samples}, {rate}, {share} and {labelled}"
        msg = f"samples and rate must not be negative, share and labelled lie within 0 and 1, not {given}"
        raise ValueError(msg)
    each_day = rate * share * labelled * 86_400
    return samples / each_day if each_day else inf if samples else 0.0


def rule_of_three(requests: int, confidence: float = 0.95) -> float:
    """Return the highest failure rate that ``requests`` requests without a failure leave possible.

    Exactly ``1 - (1 - confidence) ** (1 / requests)``, which is about ``3 / requests`` at 95 %. 1 for no requests.
    Raises ValueError for negative requests and a confidence not between 0 and 1.
    Source: Hanley and Lippman-Hand 1983, doi:10.1001/jama.1983.03330370053031.
    """
    if requests < 0 or not 0 < confidence < 1:
        msg = f"requests must not be negative and confidence lie between 0 and 1, not {requests} and {confidence}"
        raise ValueError(msg)
    return 1 - (1 - confidence) ** (1 / requests) if requests else 1.0


def requests_without_failure(rate: float, confidence: float = 0.95) -> int:
    """Return the requests that must go by without a failure to rule a failure rate of ``rate`` or more out.

    The inverse of ``rule_of_three``. Raises ValueError for a rate not between 0 and 1, and such a confidence.
    """
    if not 0 < rate < 1 or not 0 < confidence < 1:
        msg = f"rate and confidence must lie between 0 and 1, not {rate} and {confidence}"
        raise ValueError(msg)
    return ceil(log1p(-confidence) / log1p(-rate) * (1 - 1e-12))  # 1e-12: a quotient that should be whole


def samples_for_mean(deviation: float, shift: float, share: float = 0.5, test: Test = Test()) -> int:  # noqa: B008
    """Return the requests in the canary with which a mean that moves by ``shift`` is seen.

    ``deviation`` is the standard deviation of one request, in the shift's unit. Raises ValueError for a deviation not
    above 0, a shift of 0, and a share not between 0 and 1.
    """
    if not deviation > 0 or not shift or isinf(deviation):
        msg = f"deviation must be above 0 and shift not 0, not {deviation} and {shift}"
        raise ValueError(msg)
    control = _controls(share)
    wanted = _alarm(test) + NORMAL.inv_cdf(test.power)
    return max(1, ceil((1 + 1 / control) * (wanted * deviation / shift) ** 2))


def looks_boundary(looks: int, alpha: float = 0.05) -> float:
    """Return the z value that ``looks`` equally spaced looks must each stay below for ``alpha`` false alarms in all.

    Pocock's constant boundary, one-sided: the chance that a standard random walk, seen ``looks`` times, ever exceeds it
    (divided by its standard deviation so far) is ``alpha``. Found by integrating the density of the walks that have not
    yet exceeded it, on a grid, and halving. Raises ValueError for looks outside 1 to 50 and an alpha
    not between 0 and 0.5. Source: Pocock 1977, doi:10.1093/biomet/64.2.191; Armitage et al. 1969.
    """
    if not 1 <= looks <= 50 or not 0 < alpha < 0.5:  # noqa: PLR2004 - a daily look for seven weeks
        msg = f"looks must lie between 1 and 50 and alpha between 0 and 0.5, not {looks} and {alpha}"
        raise ValueError(msg)
    low, high = NORMAL.inv_cdf(1 - alpha), NORMAL.inv_cdf(1 - alpha / looks) + 1e-9  # one look; Bonferroni
    while high - low > 1e-5:  # noqa: PLR2004 - of a z value
        middle = (low + high) / 2
        low, high = (low, middle) if _ever_exceeds(looks, middle) < alpha else (middle, high)
    return high


def _ever_exceeds(looks: int, boundary: float) -> float:
    """Return the chance that a walk of ``looks`` steps is above ``boundary * sqrt(step)`` at any of them."""
    floor = -8.0 * sqrt(looks)  # hardly a walk goes below
    points, width = np.linspace(floor, boundary, GRID, retstep=True)
    alive = np.exp(-(points**2) / 2) / sqrt(2 * pi)  # density of the walks that have never exceeded it
    for look in range(2, looks + 1):
        here, wide = np.linspace(floor, boundary * sqrt(look), GRID, retstep=True)
        kernel = np.exp(-((here[:, None] - points[None, :]) ** 2) / 2) / sqrt(2 * pi)
        alive, points, width = kernel @ _trapezoid(alive, width), here, wide
    return 1 - float(_trapezoid(alive, width).sum())


def _trapezoid(values: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """Weigh values so that their sum is the integral."""
    weighed = values * width
    weighed[[0, -1]] /= 2
    return weighed
