"""Online experiments: who sees what, whether the split can be trusted, and what the change did.

An A/B test is decided before its p-value: by an assignment that stays the same for a unit and is independent of every
other experiment, by a check that the arms have the sizes they should have, and by a rule for when to look.

What you write:

- ``assign``: the arm of a unit, from a salted hash: no table to keep, and the same on every machine.
- ``ExposureLog``: who was really exposed. Analysing those alone sharpens the result, and units that saw two arms show
  up here.
- ``srm``: sample ratio mismatch. Arms of 50,000 and 49,000 where half and half was asked for are a bug, not luck.
- ``cuped``: subtract what the time before the experiment explains; the same effect with a shorter interval.
- ``ratio_metric``: clicks per view where users are what is assigned: numerator and denominator vary together.
- ``guardrail``: a metric that must not get worse by more than a margin; no difference found is no proof of that.
- stretch: ``ConfidenceSequence`` and ``msprt``, intervals and p-values that stay valid however often one looks;
  ``ab_beta_binomial``, chances and expected losses from two shares; ``tost``, proof of no relevant difference.

All differences are first minus second, treatment minus control. Units are independent of each other.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Arm = str | int
"""An arm's name, or its place in a list of weights."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """That ``unit`` was shown ``arm`` of ``experiment``."""

    unit: str | int
    experiment: str
    arm: Arm


@dataclass(frozen=True, slots=True)
class Peeks:
    """What a sequential test says after each observation, all (n,).

    ``pvalue`` may be compared with alpha at any time, and ``low`` to ``high`` holds the difference at all times at
    once with the probability that was asked for.
    """

    pvalue: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Decision:
    """What two posterior shares say: ``first_better`` is the probability that the first is larger.

    ``loss_first`` is the share expected to be lost by choosing the first, the mean of max(second - first, 0), and
    ``loss_second`` that of choosing the second; ``estimate`` is the mean difference.
    """

    first_better: float
    loss_first: float
    loss_second: float
    estimate: float
