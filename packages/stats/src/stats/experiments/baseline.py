"""The simple answer: the definitions with plain loops and means, the tails from ``stats.special``."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from stats.experiments import Arm, Exposure
from stats.result import Result
from stats.special.solution import chi2, t


def assign(
    unit: str | int,
    experiment: str,
    weights: Mapping[str, float] | Sequence[float],
    *,
    log: "ExposureLog | None" = None,
) -> Arm:
    """Return the arm of a unit."""
    shares: dict[Arm, float] = dict(weights.items() if isinstance(weights, Mapping) else enumerate(weights))
    point = int(hashlib.md5(f"{experiment}/{unit}".encode()).hexdigest(), 16) / 16**32  # noqa: S324 - no secret
    arm: Arm = ""
    for name, share in shares.items():
        if point >= 0 and share:
            arm = name
        point -= share
    if log is not None:
        log.record(unit, experiment, arm)
    return arm


class ExposureLog:
    """Who was exposed to which arm, the first time in each experiment."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self.seen: list[Exposure] = []

    def record(self, unit: str | int, experiment: str, arm: Arm) -> None:
        """Record that ``unit`` saw ``arm``."""
        self.seen.append(Exposure(unit, experiment, arm))

    def counts(self, experiment: str) -> dict[Arm, int]:
        """Return how many units saw each arm first."""
        arms = [seen.arm for seen in self if seen.experiment == experiment]
        return {arm: arms.count(arm) for arm in arms}

    def crossed(self, experiment: str) -> set[str | int]:
        """Return the units that saw more than one arm."""
        first = {seen.unit: seen.arm for seen in self if seen.experiment == experiment}
        return {s.unit for s in self.seen if s.experiment == experiment and first[s.unit] != s.arm}

    def __iter__(self) -> Iterator[Exposure]:
        """Yield the first exposure of each unit to each experiment."""
        known = set()
        for seen in self.seen:
            if (seen.experiment, seen.unit) not in known:
                yield seen
            known.add((seen.experiment, seen.unit))


def srm(counts: Mapping[Arm, int] | Sequence[int], weights: Mapping[str, float] | Sequence[float]) -> Result:
    """Test whether the arms have the sizes that their weights promise."""
    shares: dict[Arm, float] = dict(weights.items() if isinstance(weights, Mapping) else enumerate(weights))
    found: dict[Arm, int] = dict(counts.items() if isinstance(counts, Mapping) else enumerate(counts))
    n = sum(found.values())
    pairs = [(found.get(arm, 0), share) for arm, share in shares.items() if share]
    statistic, df = sum((seen - n * share) ** 2 / (n * share) for seen, share in pairs), len(pairs) - 1
    gaps = [(x / n - share, math.sqrt(share * (1 - share) / n)) for x, share in pairs]
    gap, error = max(gaps, key=lambda pair: abs(pair[0]) / pair[1])
    pvalue = chi2.sf(statistic, df)
    return Result(statistic, pvalue, math.log(pvalue), df, gap, error, n, "two-sided", "chi-square, SRM")


def cuped(first: ArrayLike, second: ArrayLike, first_before: ArrayLike, second_before: ArrayLike) -> Result:
    """Test the difference of two arms' means, less what a covariate explains of it."""
    a, b, x, y = (np.asarray(values, float) for values in (first, second, first_before, second_before))
    centred = np.concatenate([x - x.mean(), y - y.mean()])
    theta = (centred * np.concatenate([a, b])).sum() / (centred**2).sum()
    return _welch(a - theta * x, b - theta * y)


def ratio_metric(first: ArrayLike, first_per: ArrayLike, second: ArrayLike, second_per: ArrayLike) -> Result:
    """Test the difference of two arms' ratios of sums, by the delta method."""
    arms = [(np.asarray(y, float), np.asarray(x, float)) for y, x in ((first, first_per), (second, second_per))]
    a, b = (y.sum() / x.sum() + (y - y.sum() / x.sum() * x) / x.mean() for y, x in arms)
    return _welch(a, b)


def guardrail(first: ArrayLike, second: ArrayLike, margin: float, *, harm: Literal["fall", "rise"] = "fall") -> Result:
    """Test that the first arm's mean is not worse than the second's by ``margin`` or more."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    return _welch(a, b, -margin, "greater") if harm == "fall" else _welch(a, b, margin, "less")


def _welch(a: np.ndarray, b: np.ndarray, null: float = 0.0, alternative: str = "two-sided") -> Result:
    u, v = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    estimate, error = float(a.mean() - b.mean()), math.sqrt(u + v)
    df = (u + v) ** 2 / (u**2 / (len(a) - 1) + v**2 / (len(b) - 1))
    z = (estimate - null) / error
    pvalue = 2 * t.sf(abs(z), df) if alternative == "two-sided" else t.sf(z if alternative == "greater" else -z, df)
    return Result(z, pvalue, math.log(pvalue), df, estimate, error, len(a) + len(b), alternative, "Welch's t")
