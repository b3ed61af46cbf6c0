"""Two models on the same items, and whether their difference is more than chance.

Evaluation gives each model a score for each item, often just right or wrong. The items are the same, so the scores are
paired: a hard item is hard for both, and a test that forgets it throws most of the evidence away. What decides are the
items on which the models differ.

What you write:

- ``mcnemar``: right and wrong only. Of the items on which exactly one model is right, is either model's share too
  large for a fair coin? Exact, or with the mid-p correction, which counts the observed table half.
- ``permutation_test``: any scores. If the models were alike, each difference could as well have the other sign: count
  how many of the sign patterns give a mean difference at least as large, all of them where they are few.
- ``bootstrap_ci``: an interval for the mean difference, from resampled items.
- ``adjust_pvalues``: many comparisons at once: Holm against any false alarm, Benjamini-Hochberg and -Yekutieli against
  too large a share of them.
- stretch: the interval's BCa variant, which mends bias and skewness; ``cluster_se`` and ``clustered_difference``, where
  several items hang together, as questions to one document do; ``delong``, the areas under two ROC curves on the same
  items; scores of different items shared out anew; the tail at the saddle point, computed instead of sampled.

All tests are two-sided, all differences first minus second. They return a ``Comparison``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from stats.special.solution import t


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a test says; it unpacks as ``statistic, pvalue``.

    ``log_pvalue`` is the natural logarithm of the p-value, finite where that underflows. ``estimate`` is a difference,
    first minus second, with its ``standard_error`` and ``df`` degrees of freedom, inf where the normal law stands
    behind it, nan where it has none; ``n`` counts items.
    """

    statistic: float
    pvalue: float
    log_pvalue: float
    df: float
    estimate: float
    standard_error: float
    n: int
    alternative: str
    method: str

    def __iter__(self) -> Iterator[float]:
        """Yield the statistic and the p-value."""
        return iter((self.statistic, self.pvalue))

    def confidence_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the two-sided interval of the estimate. Raises ValueError for a level outside (0, 1)."""
        if not 0 < level < 1:
            msg = f"level is {level}, must lie between 0 and 1"
            raise ValueError(msg)
        reach = float(t.isf((1 - level) / 2, self.df)) * self.standard_error
        return self.estimate - reach, self.estimate + reach
