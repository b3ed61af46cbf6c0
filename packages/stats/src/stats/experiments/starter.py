"""Your turn: replace each ``raise NotImplementedError``."""

import hashlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.experiments import Arm, Decision, Exposure, Peeks
from stats.result import Result
from stats.special.solution import chi2, t


def assign(
    unit: str | int,
    experiment: str,
    weights: Mapping[str, float] | Sequence[float],
    *,
    log: "ExposureLog | None" = None,
) -> Arm:
    """Return the arm of a unit: always the same for a unit and experiment, as good as random across both.

    ``weights`` maps arms to probabilities, or lists them, and the arm is then its place in the list. Where only the
    border between two neighbouring arms moves, units change arm from the one that shrinks to the one that grows only.
    With ``log`` the exposure is recorded. Raises ValueError for weights that are negative, NaN or do not sum to 1, for
    none, and for an empty unit or experiment. Source: Kohavi, Tang and Xu 2020, Trustworthy Online Controlled
    Experiments, chapter 12; Tang et al. 2010, Overlapping Experiment Infrastructure, section 5.
    """
    raise NotImplementedError("TODO 1 (core, about 8 lines): a hash as a point between 0 and 1, and its arm")


class ExposureLog:
    """Who was exposed to which arm, the first time in each experiment."""

    def __init__(self) -> None:
        """Begin with nobody."""
        raise NotImplementedError("TODO 2 (core, about 10 lines): the first arm of each unit, and who saw another")

    def record(self, unit: str | int, experiment: str, arm: Arm) -> None:
        """Record that ``unit`` saw ``arm``; again is no news, another arm makes it a crossed unit."""
        raise NotImplementedError("TODO 2 (core, about 10 lines): the first arm of each unit, and who saw another")

    def counts(self, experiment: str) -> dict[Arm, int]:
        """Return how many units saw each arm first, crossed ones too: leaving them out would hide a mismatch."""
        raise NotImplementedError("TODO 2 (core, about 10 lines): the first arm of each unit, and who saw another")

    def crossed(self, experiment: str) -> set[str | int]:
        """Return the units that saw more than one arm of ``experiment``."""
        raise NotImplementedError("TODO 2 (core, about 10 lines): the first arm of each unit, and who saw another")

    def __iter__(self) -> Iterator[Exposure]:
        """Yield the first exposure of each unit to each experiment, in the order they came."""
        raise NotImplementedError("TODO 2 (core, about 10 lines): the first arm of each unit, and who saw another")


def srm(counts: Mapping[Arm, int] | Sequence[int], weights: Mapping[str, float] | Sequence[float]) -> Result:
    """Test whether the arms have the sizes that their weights promise: Pearson's chi-square, goodness of fit.

    ``counts`` are units by arm, a mapping or in the order of ``weights``. The estimate is the share of the arm that is
    farthest off (in standard errors), less its weight. A p-value below 0.001 is usually taken for a bug, and the
    experiment's other results for void. Warns where fewer than 5 units are expected in an arm. Raises ValueError for
    fewer than two arms with a weight, counts that are negative or not whole, no units, units in an arm without weight,
    arms that are not the same, or weights that do not sum to 1. Source: Fabijan et al. 2019, Diagnosing Sample Ratio
    Mismatch in Online Controlled Experiments; Pearson 1900.
    """
    raise NotImplementedError("TODO 3 (core, about 10 lines): squared distances over expected counts")


def cuped(first: ArrayLike, second: ArrayLike, first_before: ArrayLike, second_before: ArrayLike) -> Result:
    """Test the difference of two arms' means, less what a covariate from before the experiment explains of it.

    All are (units of the arm,), the covariates in the order of the metrics. The estimate is the difference less theta
    times the covariate's difference, theta the slope within arms; Welch's t on what is left. Raises ValueError for
    lengths that differ, fewer than two units in an arm, NaN or inf, or a covariate or rest without any spread.
    Source: Deng, Xu, Kohavi and Walker 2013, Improving the Sensitivity of Online Controlled Experiments, eq. 4 and 5.
    """
    raise NotImplementedError("TODO 4 (core, about 8 lines): the slope within arms, and Welch's test of what it leaves")


def ratio_metric(first: ArrayLike, first_per: ArrayLike, second: ArrayLike, second_per: ArrayLike) -> Result:
    """Test the difference of two arms' ratios of sums, such as clicks per view, by the delta method.

    ``first`` and ``second`` are (units of the arm,) numerators, ``first_per`` and ``second_per`` their denominators,
    0 or more. A unit counts as often as its denominator says, and the variance is that of units, which are what was
    assigned. With denominators of 1 it is Welch's t. Raises ValueError for lengths that differ, fewer than two units
    in an arm, NaN or inf, negative denominators, or denominators that sum to 0.
    Source: Deng, Knoblich and Lu 2018, Applying the Delta Method in Metric Analytics, arXiv:1803.06336, eq. 3.
    """
    raise NotImplementedError("TODO 5 (core, about 8 lines): the ratio as a mean of one number a unit")


def guardrail(first: ArrayLike, second: ArrayLike, margin: float, *, harm: Literal["fall", "rise"] = "fall") -> Result:
    """Test that the first arm's mean is not worse than the second's by ``margin`` or more (non-inferiority, Welch).

    ``first`` and ``second`` are (units of the arm,), ``margin`` above 0 is in the metric's unit; ``harm`` says which
    way is worse. A small p-value is the proof of safety. Raises ValueError for a margin that is not above 0, an
    unknown harm, fewer than two units in an arm, NaN or inf, or arms without any spread.
    Source: Kohavi, Tang and Xu 2020, chapter 21; Schuirmann 1987.
    """
    raise NotImplementedError("TODO 6 (core, about 4 lines): a one-sided test against the margin")


class ConfidenceSequence:
    """Intervals for the mean of bounded values that all hold it at once, after each value, with probability ``level``.

    Values may depend on each other as long as each has the same mean given those before it. No assumption on their
    law but the bounds. Source: Waudby-Smith and Ramdas 2024, Estimating means of bounded random variables by betting,
    JRSS B 86(1), arXiv:2010.09686, theorem 2 (predictable plug-in empirical Bernstein).
    """

    def __init__(self, low: float = 0.0, high: float = 1.0, *, level: float = 0.95) -> None:
        """Begin a sequence for values between ``low`` and ``high``.

        Raises ValueError for bounds that are not finite and in order, or a level outside (0, 1).
        """
        raise NotImplementedError("TODO 7 (stretch, about 30 lines): sums of bets and of what they cost")

    def update(self, values: ArrayLike) -> NDArray[np.float64]:
        """Take more values, a number or (k,), and return (k, 2), the interval after each of them.

        Raises ValueError for NaN, values out of bounds, or another shape.
        """
        raise NotImplementedError("TODO 7 (stretch, about 30 lines): sums of bets and of what they cost")

    @property
    def estimate(self) -> float:
        """The mean of the values so far; NaN before the first."""
        raise NotImplementedError("TODO 7 (stretch, about 30 lines): sums of bets and of what they cost")

    @property
    def interval(self) -> tuple[float, float]:
        """The interval as of now."""
        raise NotImplementedError("TODO 7 (stretch, about 30 lines): sums of bets and of what they cost")


def msprt(values: ArrayLike, treated: ArrayLike, *, scale: float = 0.2, level: float = 0.95) -> Peeks:
    """Test two arms' difference after each value: a mixture sequential probability ratio test of unknown variance.

    ``values`` (n,) are in the order they came, ``treated`` (n,) says which are the first arm's. ``scale`` is the size
    of the effects to be found soon, in standard deviations; any is valid. The chance that the p-value is ever at most
    alpha without an effect is at most alpha, exactly for normal values of equal variance in both arms, and nearly for
    others. Until both arms have values and there are three, p is 1. Raises ValueError for lengths that differ, no
    values, NaN or inf, ``treated`` other than 0 and 1, a scale not above 0, or a level outside (0, 1).
    Source: Robbins 1970; Johari, Pekelis and Walsh 2017, arXiv:1512.04922, eq. 7; with the variance integrated out as
    in Lai 1976 and Perez-Ortiz et al. 2024, arXiv:2208.07610, section 4 (the t-test's Bayes factor).
    """
    raise NotImplementedError("TODO 8 (stretch, about 20 lines): running sums, and the t-test's Bayes factor")


def ab_beta_binomial(
    first_successes: int,
    first_n: int,
    second_successes: int,
    second_n: int,
    *,
    prior: tuple[float, float] = (1.0, 1.0),
) -> Decision:
    """Compare two shares by their posteriors: which is larger how probably, and what a wrong choice would cost.

    ``prior`` are the parameters of the beta law of either share before the data. By quadrature, without the
    cancellation of the closed forms. Raises ValueError for counts that are negative, not whole or more successes than
    trials, and for a prior not above 0. Source: Stucchio 2015, Bayesian A/B Testing at VWO, section 5.
    """
    raise NotImplementedError("TODO 9 (stretch, about 20 lines): an integral over both posteriors")


def tost(first: ArrayLike, second: ArrayLike, low: float, high: float) -> Result:
    """Test that two arms' means differ by more than ``low`` and less than ``high``: two one-sided Welch tests.

    ``first`` and ``second`` are (units of the arm,). The p-value is the larger of the two: small, it proves that the
    difference lies within the margins. Raises ValueError unless ``low < high``, both finite, and for fewer than two
    units in an arm, NaN or inf, or arms without any spread. Source: Schuirmann 1987, J. Pharmacokinetics 15(6).
    """
    raise NotImplementedError("TODO 10 (stretch, about 4 lines): two one-sided tests, the larger p-value")
