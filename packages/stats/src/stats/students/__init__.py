"""Student's t-tests: whether a mean, or a difference of means, is more than chance.

The commonest test of all, and one whose pitfalls are numerical as much as statistical: a variance that cancels away
because the mean is large, a p-value that underflows, groups of unequal spread that are pooled.

What you write:

- ``ttest_from_stats``: from means, standard deviations and numbers alone; Student's test pools the variances, Welch's
  does not.
- ``ttest_1samp``: does a mean differ from a number?
- ``ttest_rel``: do paired values differ?
- ``ttest_ind``: do two groups differ?
- stretch: values that are missing (``nan_policy``), and ``f_oneway``, whether any of several groups differs.

All return a ``stats.result.Result``, of floats for one test and of arrays for many along an axis. Names and defaults
are scipy's.
"""

from typing import Literal

Alternative = Literal["two-sided", "less", "greater"]
"""What the effect may be: other than the null, below it, above it."""

NanPolicy = Literal["propagate", "omit", "raise"]
"""NaN makes the result NaN, is left out, or is refused."""
