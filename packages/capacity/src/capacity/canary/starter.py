"""Your turn: replace each ``raise NotImplementedError``."""

from capacity.canary import Test


def samples_needed(before: float, after: float, share: float = 0.5, test: Test = Test()) -> int:  # noqa: B008 - frozen
    """Return the requests in the canary with which a rate that moves from ``before`` to ``after`` is seen.

    ``share`` is the canary's part of the traffic; the rest is the control. By the normal approximation to two
    proportions, pooled variance for the false alarm and separate ones for the power. Raises ValueError for rates
    outside 0 to 1, equal rates, and a share not between 0 and 1.
    Source: Fleiss, Tytun and Ury 1980, doi:10.2307/2529990, without the continuity correction.
    """
    raise NotImplementedError("TODO 1 (core, about 8 lines): both standard errors, solved for n")


def days_needed(samples: int, rate: float, share: float = 0.5, labelled: float = 1.0) -> float:
    """Return the days until a canary with ``share`` of ``rate`` requests a second has ``samples`` of them.

    Only the part ``labelled`` tells how it went (a thumb, a click, a label). Inf where nothing comes. Raises ValueError
    for negative samples or rates and shares outside 0 to 1.
    """
    raise NotImplementedError("TODO 2 (core, about 3 lines): labelled requests a day")


def rule_of_three(requests: int, confidence: float = 0.95) -> float:
    """Return the highest failure rate that ``requests`` requests without a failure leave possible.

    Exactly ``1 - (1 - confidence) ** (1 / requests)``, which is about ``3 / requests`` at 95 %. 1 for no requests.
    Raises ValueError for negative requests and a confidence not between 0 and 1.
    Source: Hanley and Lippman-Hand 1983, doi:10.1001/jama.1983.03330370053031.
    """
    raise NotImplementedError("TODO 3 (core, about 2 lines): the highest rate that is still possible")


def requests_without_failure(rate: float, confidence: float = 0.95) -> int:
    """Return the requests that must go by without a failure to rule a failure rate of ``rate`` or more out.

    The inverse of ``rule_of_three``. Raises ValueError for a rate not between 0 and 1, and such a confidence.
    """
    raise NotImplementedError("TODO 3 (core, about 2 lines): the other way round")


def samples_for_mean(deviation: float, shift: float, share: float = 0.5, test: Test = Test()) -> int:  # noqa: B008
    """Return the requests in the canary with which a mean that moves by ``shift`` is seen.

    ``deviation`` is the standard deviation of one request, in the shift's unit. Raises ValueError for a deviation not
    above 0, a shift of 0, and a share not between 0 and 1.
    """
    raise NotImplementedError("TODO 4 (stretch, about 4 lines): the same for a mean")


def looks_boundary(looks: int, alpha: float = 0.05) -> float:
    """Return the z value that ``looks`` equally spaced looks must each stay below for ``alpha`` false alarms in all.

    Pocock's constant boundary, one-sided: the chance that a standard random walk, seen ``looks`` times, ever exceeds it
    (divided by its standard deviation so far) is ``alpha``. Found by integrating the density of the walks that have not
    yet exceeded it, on a grid, and halving. Raises ValueError for looks outside 1 to 50 and an alpha
    not between 0 and 0.5. Source: Pocock 1977, doi:10.1093/biomet/64.2.191; Armitage et al. 1969.
    """
    raise NotImplementedError("TODO 5 (stretch, about 18 lines): walks that have not crossed")
