"""Hypothesis tests from scratch, with numpy alone: the solutions of the exercises, as a library."""

from stats.evals.solution import bradley_terry, calibration_error, cohens_kappa, pass_at_k
from stats.moments.solution import Moments
from stats.pairing import Comparison
from stats.pairing.solution import adjust_pvalues, bootstrap_ci, mcnemar, permutation_test

__all__ = [
    "Comparison",
    "Moments",
    "adjust_pvalues",
    "bootstrap_ci",
    "bradley_terry",
    "calibration_error",
    "cohens_kappa",
    "mcnemar",
    "pass_at_k",
    "permutation_test",
]
