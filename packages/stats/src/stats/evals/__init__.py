"""Evaluate models: solved within k tries, agreement beyond chance, calibration, and ratings from duels.

Four numbers that every evaluation report has, and that are easily got wrong:

- ``pass_at_k``: the chance that one of k samples solves a task, from n samples of which c did. Raising the share of
  solved samples to a power is biased; choosing k of the n without replacement is not.
- ``cohens_kappa``: how far two judges agree beyond what their habits alone would give.
- ``calibration_error``: how far a model's confidence is from its accuracy, bin by bin.
- stretch: ``bradley_terry``: ratings from pairwise preferences, as leaderboards of chat models compute them.
"""
