"""Hypothesis tests from scratch, with numpy alone: the solutions of the exercises, as a library."""

from stats.evals import PositionBias
from stats.evals.solution import (
    bradley_terry,
    calibration_bias,
    calibration_error,
    cohens_kappa,
    krippendorff_alpha,
    pass_at_k,
    position_bias,
    rating_intervals,
    squared_calibration_error,
)
from stats.moments.solution import Moments
from stats.pairing import Comparison
from stats.pairing.solution import adjust_pvalues, bootstrap_ci, mcnemar, permutation_test
from stats.special.solution import (
    betainc,
    betaincc,
    binom,
    chi2,
    f,
    gammainc,
    gammaincc,
    nct,
    ncx2,
    norm,
    t,
)

__all__ = [
    "Comparison",
    "Moments",
    "PositionBias",
    "adjust_pvalues",
    "betainc",
    "betaincc",
    "binom",
    "bootstrap_ci",
    "bradley_terry",
    "calibration_bias",
    "calibration_error",
    "chi2",
    "cohens_kappa",
    "f",
    "gammainc",
    "gammaincc",
    "krippendorff_alpha",
    "mcnemar",
    "nct",
    "ncx2",
    "norm",
    "pass_at_k",
    "permutation_test",
    "position_bias",
    "rating_intervals",
    "squared_calibration_error",
    "t",
]
