"""What a hypothesis test says: one type for all of them.

All numbers of one test are floats; of many tests at once, along an axis, arrays.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from stats.special import Real
from stats.special.solution import t


@dataclass(frozen=True, slots=True)
class Result:
    """What a test says; it unpacks as ``statistic, pvalue``.

    ``log_pvalue`` is the natural logarithm of the p-value, finite where that underflows. ``estimate`` is the effect,
    a difference always first minus second, with its ``standard_error`` and ``df`` degrees of freedom: inf where the
    normal law stands behind it, nan for what a test has not. ``n`` counts all observations. ``alternative`` is
    "two-sided", "greater", "less" or "equivalence". ``limits``, where a test has an interval of its own, returns its
    two ends for a level.
    """

    statistic: Real
    pvalue: Real
    log_pvalue: Real
    df: Real
    estimate: Real
    standard_error: Real
    n: Real
    alternative: str
    method: str
    limits: Callable[[float], tuple[Real, Real]] | None = field(default=None, repr=False, compare=False)

    def __iter__(self) -> Iterator[Real]:
        """Yield the statistic and the p-value."""
        return iter((self.statistic, self.pvalue))

    def confidence_interval(self, level: float = 0.95) -> tuple[Real, Real]:
        """Return the interval of the estimate, nan where there is none.

        It is that of the effects that the test would not refuse: after "greater" it has no upper end, after "less" no
        lower one. Without ``limits`` it is Student's, estimate and standard error times a quantile of t. Raises
        ValueError for a level outside (0, 1).
        """
        if not 0 < level < 1:
            msg = f"level is {level}, must lie between 0 and 1"
            raise ValueError(msg)
        if self.limits is not None:
            return self.limits(level)
        if np.isnan(self.standard_error).all():
            return math.nan, math.nan
        one_sided = self.alternative in ("greater", "less")
        reach = t.isf((1 - level) / (1 if one_sided else 2), self.df) * self.standard_error
        low = self.estimate - (math.inf if self.alternative == "less" else reach)
        high = self.estimate + (math.inf if self.alternative == "greater" else reach)
        return low, high
