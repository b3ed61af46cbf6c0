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

All tests are two-sided, all differences first minus second. They return a ``stats.result.Result``.
"""
