"""How many items a comparison needs, and what the items at hand can show.

Power is the chance that a test finds an effect that is there. Before an experiment it says how many items to collect;
after one that found nothing, whether there was anything to find with so few. Under the effect the statistic has a
noncentral law, and power is its tail beyond the critical value.

What you write:

- ``power_ttest``: Student's t-test of one sample (or of paired differences), or of two samples.
- ``power_proportions``: the z test of two shares, as in an A/B test of conversions.
- ``solve_power``: one of effect, n and power from the other two. It answers or raises: the end of a search interval is
  no answer.
- stretch: ``power_chi2``, for tables of counts, and ``power_tost``, for a proof of no relevant difference.

The effect of a t-test is Cohen's d, the difference of means in standard deviations; of proportions the difference of
the shares; of chi-square Cohen's w, sqrt(sum((p1 - p0)**2 / p0)).
"""

from typing import Literal

Alternative = Literal["two-sided", "greater", "less"]
Kind = Literal["one-sample", "two-sample"]
Test = Literal["ttest", "proportions", "chi2", "tost"]
