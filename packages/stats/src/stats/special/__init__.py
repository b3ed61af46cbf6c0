"""The distributions behind every test, right to the last digit and in the farthest tail.

A p-value is a tail of a distribution. ``1 - cdf`` loses it where it matters: from 1e-16 on nothing is left, and
comparing many models asks for far smaller ones. What is asked for is the tail itself, with all its digits, and its
logarithm where the tail underflows.

What you write, for each distribution two functions:

- ``norm_tail``, ``t_tail``, ``chi2_tail``, and as stretch ``f_tail``, ``binom_tail``, ``nct_tail`` and ``ncx2_tail``:
  the probability above x where ``upper``, else that of at most x; its natural logarithm where ``log``.
- ``norm_quantile`` and the others: the x that has a given probability above it, or not above it.
- stretch: ``betainc``, ``betaincc``, ``gammainc`` and ``gammaincc``, the regularised incomplete functions.

All take numbers, giving a float, or arrays that broadcast, giving an array. ``Distribution`` makes the usual six
functions of such a pair.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, ParamSpec

Real = Any
"""A number, or an array or what numpy makes one of. What comes back is a float for numbers alone, else an array."""

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Distribution(Generic[P]):
    """A distribution: ``tail(x, upper, log, *parameters)`` and ``quantile(p, upper, *parameters)`` make six functions.

    What the parameters are, and what is refused, the two functions say. NaN in gives NaN out.
    """

    tail: Callable[Concatenate[Real, bool, bool, P], Real]
    quantile: Callable[Concatenate[Real, bool, P], Real]

    def cdf(self, x: Real, *args: P.args, **kwargs: P.kwargs) -> Real:
        """Return the probability of at most ``x``."""
        return self.tail(x, False, False, *args, **kwargs)  # noqa: FBT003

    def sf(self, x: Real, *args: P.args, **kwargs: P.kwargs) -> Real:
        """Return the probability above ``x``."""
        return self.tail(x, True, False, *args, **kwargs)  # noqa: FBT003

    def logcdf(self, x: Real, *args: P.args, **kwargs: P.kwargs) -> Real:
        """Return the logarithm of the probability of at most ``x``."""
        return self.tail(x, False, True, *args, **kwargs)  # noqa: FBT003

    def logsf(self, x: Real, *args: P.args, **kwargs: P.kwargs) -> Real:
        """Return the logarithm of the probability above ``x``."""
        return self.tail(x, True, True, *args, **kwargs)  # noqa: FBT003

    def ppf(self, p: Real, *args: P.args, **kwargs: P.kwargs) -> Real:
        """Return the smallest x whose ``cdf`` is at least ``p``."""
        return self.quantile(p, False, *args, **kwargs)  # noqa: FBT003

    def isf(self, p: Real, *args: P.args, **kwargs: P.kwargs) -> Real:
        """Return the smallest x whose ``sf`` is at most ``p``."""
        return self.quantile(p, True, *args, **kwargs)  # noqa: FBT003
