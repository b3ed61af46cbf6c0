"""Evaluate models: solved within k tries, agreement beyond chance, calibration, and ratings from duels.

Numbers that every evaluation report has, and that are easily got wrong:

- ``pass_at_k``: the chance that one of k samples solves a task, from n samples of which c did. Raising the share of
  solved samples to a power is biased; choosing k of the n without replacement is not.
- ``cohens_kappa``: how far two judges agree beyond what their habits alone would give.
- ``calibration_error``: how far a model's confidence is from its accuracy, bin by bin.
- ``krippendorff_alpha``: agreement of any number of judges, each of whom may have missed some items.
- ``position_bias``: how much a judge's verdict on a duel depends on which answer it is shown first.
- stretch: ``bradley_terry`` and ``rating_intervals``: ratings from pairwise preferences, as leaderboards of chat
  models compute them, and how sure they are.
- stretch: ``calibration_bias`` and ``squared_calibration_error``: a small sample makes any model look uncalibrated; by
  how much, and an estimate that does not.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PositionBias:
    """How much a judge's verdicts depend on the order of the answers, from ``n`` duels judged in both orders.

    ``first_share`` is the share of verdicts for the answer shown first (ties half): 0.5 without a bias. ``pvalue`` is
    that of an exact or permutation test of this. ``consistency`` is the share of duels with the same verdict in both
    orders, ``win_rate`` model A's share of wins over both orders, from which the bias cancels.
    """

    first_share: float
    pvalue: float
    consistency: float
    win_rate: float
    n: int
