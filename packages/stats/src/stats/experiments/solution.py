"""The production answer: one hash a unit, linearised metrics, and martingales for those who peek."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.experiments import Arm, Decision, Exposure, Peeks
from stats.result import Result
from stats.shared import dot, tail_and_log
from stats.special.solution import chi2, t

Vector = NDArray[np.float64]
SMALL_COUNT = 5  # expected counts below make the chi-square law a poor approximation
ROUNDING = 8 * float(np.finfo(float).eps)  # of the values: a standard deviation that small is none
NODES = 16  # of the Gauss-Legendre rule in each panel


class Contrast(NamedTuple):
    """A difference of two arms' means, its standard error, degrees of freedom, and the number of units."""

    estimate: float
    error: float
    df: float
    n: int


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
    import hashlib  # noqa: PLC0415 - loads OpenSSL, which nothing else here needs

    arms, shares = _weights(weights)
    if not str(unit) or not experiment:
        raise ValueError(f"unit is {unit!r} and experiment {experiment!r}, neither may be empty")
    # The experiment's length goes in too, so that "a" with unit "bc" is not "ab" with unit "c".
    text = f"{len(experiment)}:{experiment}{unit}".encode()
    point = int.from_bytes(hashlib.sha256(text).digest()[:8], "big") / 2**64
    place = sum(border <= point for border in accumulate(shares))
    # Rounding may leave the last border a little below 1, and an arm of weight 0 gets nobody.
    arm = arms[min(place, max(i for i, share in enumerate(shares) if share > 0))]
    if log is not None:
        log.record(unit, experiment, arm)
    return arm


class ExposureLog:
    """Who was exposed to which arm, the first time in each experiment."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._first: dict[tuple[str, str | int], Arm] = {}
        self._crossed: set[tuple[str, str | int]] = set()

    def record(self, unit: str | int, experiment: str, arm: Arm) -> None:
        """Record that ``unit`` saw ``arm``; again is no news, another arm makes it a crossed unit."""
        if self._first.setdefault((experiment, unit), arm) != arm:
            self._crossed.add((experiment, unit))

    def counts(self, experiment: str) -> dict[Arm, int]:
        """Return how many units saw each arm first, crossed ones too: leaving them out would hide a mismatch."""
        found: dict[Arm, int] = {}
        for (name, _), arm in self._first.items():
            if name == experiment:
                found[arm] = found.get(arm, 0) + 1
        return found

    def crossed(self, experiment: str) -> set[str | int]:
        """Return the units that saw more than one arm of ``experiment``."""
        return {unit for name, unit in self._crossed if name == experiment}

    def __iter__(self) -> Iterator[Exposure]:
        """Yield the first exposure of each unit to each experiment, in the order they came."""
        for (experiment, unit), arm in self._first.items():
            yield Exposure(unit, experiment, arm)


def srm(counts: Mapping[Arm, int] | Sequence[int], weights: Mapping[str, float] | Sequence[float]) -> Result:
    """Test whether the arms have the sizes that their weights promise: Pearson's chi-square, goodness of fit.

    ``counts`` are units by arm, a mapping or in the order of ``weights``. The estimate is the share of the arm that is
    farthest off (in standard errors), less its weight. A p-value below 0.001 is usually taken for a bug, and the
    experiment's other results for void. Warns where fewer than 5 units are expected in an arm. Raises ValueError for
    fewer than two arms with a weight, counts that are negative or not whole, no units, units in an arm without weight,
    arms that are not the same, or weights that do not sum to 1. Source: Fabijan et al. 2019, Diagnosing Sample Ratio
    Mismatch in Online Controlled Experiments; Pearson 1900.
    """
    arms, shares = _weights(weights)
    found: dict[Arm, int] = dict(counts.items() if isinstance(counts, Mapping) else enumerate(counts))
    if unknown := set(found) - set(arms):
        raise ValueError(f"counts have the arm {min(map(repr, unknown))}, weights only {', '.join(map(repr, arms))}")
    seen = [float(found.get(arm, 0)) for arm in arms]  # for a few arms plain numbers are faster than arrays
    if not all(x >= 0 and x.is_integer() for x in seen) or not any(seen):
        raise ValueError(f"counts are {list(found.values())}, must be whole, none negative, and not all 0")
    kept = [(x, share) for x, share in zip(seen, shares, strict=True) if share]
    n = int(sum(x for x, _ in kept))
    if n < sum(seen) or len(kept) < 2:  # noqa: PLR2004
        raise ValueError("units only in arms with a weight above 0, of which at least two are needed")
    least = n * min(share for _, share in kept)
    if least < SMALL_COUNT:
        warnings.warn(f"{least:.1f} units expected in an arm: the p-value is rough below 5", stacklevel=2)
    parts = [(x, n * share) for x, share in kept]
    statistic, df = sum((x - expected) ** 2 / expected for x, expected in parts), len(parts) - 1
    gaps = [(x / n - share, math.sqrt(share * (1 - share) / n)) for x, share in kept]
    gap, error = max(gaps, key=lambda each: abs(each[0] / each[1]))
    pvalue, log_pvalue = tail_and_log(chi2, statistic, df, df)
    return Result(statistic, pvalue, log_pvalue, df, gap, error, n, "two-sided", "chi-square, SRM")


def cuped(first: ArrayLike, second: ArrayLike, first_before: ArrayLike, second_before: ArrayLike) -> Result:
    """Test the difference of two arms' means, less what a covariate from before the experiment explains of it.

    All are (units of the arm,), the covariates in the order of the metrics. The estimate is the difference less theta
    times the covariate's difference, theta the slope within arms; Welch's t on what is left. Raises ValueError for
    lengths that differ, fewer than two units in an arm, NaN or inf, or a covariate or rest without any spread.
    Source: Deng, Xu, Kohavi and Walker 2013, Improving the Sensitivity of Online Controlled Experiments, eq. 4 and 5.
    """
    a, b = _sample(first, "first"), _sample(second, "second")
    x, y = _sample(first_before, "first_before"), _sample(second_before, "second_before")
    if (a.size, b.size) != (x.size, y.size):
        raise ValueError(f"{a.size} and {b.size} units, but {x.size} and {y.size} values before the experiment")
    (_, dx), (_, dy) = _centred(x), _centred(y)
    spread = dot(dx, dx) + dot(dy, dy)
    if spread <= (x.size + y.size) * (ROUNDING * _largest(x, y)) ** 2:
        raise ValueError("the covariate is constant in both arms: it explains nothing")
    theta = (dot(dx, a) + dot(dy, b)) / spread
    size = max(_largest(a, b), abs(theta) * _largest(x, y))
    return _welch(a - theta * x, b - theta * y, method="CUPED, Welch's t", size=size)


def ratio_metric(first: ArrayLike, first_per: ArrayLike, second: ArrayLike, second_per: ArrayLike) -> Result:
    """Test the difference of two arms' ratios of sums, such as clicks per view, by the delta method.

    ``first`` and ``second`` are (units of the arm,) numerators, ``first_per`` and ``second_per`` their denominators,
    0 or more. A unit counts as often as its denominator says, and the variance is that of units, which are what was
    assigned. With denominators of 1 it is Welch's t. Raises ValueError for lengths that differ, fewer than two units
    in an arm, NaN or inf, negative denominators, or denominators that sum to 0.
    Source: Deng, Knoblich and Lu 2018, Applying the Delta Method in Metric Analytics, arXiv:1803.06336, eq. 3.
    """
    linear, size = [], 0.0
    for name, top, per in (("first", first, first_per), ("second", second, second_per)):
        numerator, denominator = _sample(top, name), _sample(per, f"{name}_per")
        if numerator.size != denominator.size:
            raise ValueError(f"{name} has {numerator.size} numerators and {denominator.size} denominators")
        if (denominator < 0).any() or not denominator.sum():
            raise ValueError(f"{name}_per must not be negative, nor sum to 0")
        ratio = float(numerator.sum() / denominator.sum())
        # A ratio of means moves by (y - ratio * x) / mean(x) when a unit is added: the mean of these is the ratio.
        linear.append(ratio + (numerator - ratio * denominator) / denominator.mean())
        size = max(size, _largest(numerator, ratio * denominator) / float(denominator.mean()))
    return _welch(*linear, method="ratio of sums, delta method", size=size)


def guardrail(first: ArrayLike, second: ArrayLike, margin: float, *, harm: Literal["fall", "rise"] = "fall") -> Result:
    """Test that the first arm's mean is not worse than the second's by ``margin`` or more (non-inferiority, Welch).

    ``first`` and ``second`` are (units of the arm,), ``margin`` above 0 is in the metric's unit; ``harm`` says which
    way is worse. A small p-value is the proof of safety. Raises ValueError for a margin that is not above 0, an
    unknown harm, fewer than two units in an arm, NaN or inf, or arms without any spread.
    Source: Kohavi, Tang and Xu 2020, chapter 21; Schuirmann 1987.
    """
    if not (margin > 0 and math.isfinite(margin)) or harm not in ("fall", "rise"):
        raise ValueError(f"margin is {margin} and harm {harm!r}, must be above 0, and 'fall' or 'rise'")
    a, b = _sample(first, "first"), _sample(second, "second")
    if harm == "fall":
        return _welch(a, b, alternative="greater", null=-margin, method="non-inferiority, Welch's t")
    return _welch(a, b, alternative="less", null=margin, method="non-inferiority, Welch's t")


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
        if not (math.isfinite(low) and math.isfinite(high) and low < high) or not 0 < level < 1:
            raise ValueError(f"bounds are {low} and {high}, level is {level}: low < high, and a level between 0 and 1")
        self._low, self._width, self._log = low, high - low, math.log(2 / (1 - level))
        self.n = 0
        self._sum = 0.0  # of the values, scaled to 0 to 1
        self._squares = 0.0  # of their distances from the mean at the time
        self._bets = self._bet_sum = self._price = 0.0
        self._inside = (0.0, 1.0)

    def update(self, values: ArrayLike) -> NDArray[np.float64]:
        """Take more values, a number or (k,), and return (k, 2), the interval after each of them.

        Raises ValueError for NaN, values out of bounds, or another shape.
        """
        x = (np.atleast_1d(np.asarray(values, float)) - self._low) / self._width
        if x.ndim != 1 or not ((x >= 0) & (x <= 1)).all():
            high = self._low + self._width
            raise ValueError(f"values must be a number or (k,), all between {self._low} and {high}")
        count = self.n + np.arange(1, x.size + 1)  # with the value itself
        sums = self._sum + np.cumsum(x)
        # A guess of 1/2 for the mean and 1/4 for the variance starts the estimates, eq. 15 and 16 there.
        mean = (0.5 + sums) / (count + 1)
        mean_before = np.concatenate([[(0.5 + self._sum) / (self.n + 1)], mean[:-1]])
        squares = self._squares + np.cumsum((x - mean) ** 2)
        variance_before = (0.25 + np.concatenate([[self._squares], squares[:-1]])) / count
        # The bet on a value may know only those before it.
        bet = np.minimum(np.sqrt(2 * self._log / (variance_before * count * np.log1p(count))), 0.5)
        bets = self._bets + np.cumsum(bet)
        centre = self._bet_sum + np.cumsum(bet * x)
        price = self._price + np.cumsum((x - mean_before) ** 2 * (-np.log1p(-bet) - bet))
        reach = (self._log + price) / bets
        lows = np.maximum.accumulate(np.concatenate([[self._inside[0]], centre / bets - reach]))[1:]
        highs = np.minimum.accumulate(np.concatenate([[self._inside[1]], centre / bets + reach]))[1:]
        if x.size:
            self.n, self._sum, self._squares = int(count[-1]), float(sums[-1]), float(squares[-1])
            self._bets, self._bet_sum, self._price = float(bets[-1]), float(centre[-1]), float(price[-1])
            self._inside = float(lows[-1]), float(highs[-1])
        return self._low + self._width * np.stack([lows, highs], axis=1)

    @property
    def estimate(self) -> float:
        """The mean of the values so far; NaN before the first."""
        return self._low + self._width * self._sum / self.n if self.n else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The interval as of now."""
        return self._low + self._width * self._inside[0], self._low + self._width * self._inside[1]


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
    y, arm = np.asarray(values, float), np.asarray(treated, float)
    if y.ndim != 1 or y.shape != arm.shape or not y.size:
        raise ValueError(f"values and treated have shapes {y.shape} and {arm.shape}, must be (n,) twice, n at least 1")
    if not (np.isfinite(y).all() and ((arm == 0) | (arm == 1)).all()):
        raise ValueError("values must be finite, treated 0 or 1")
    if not (scale > 0 and math.isfinite(scale)) or not 0 < level < 1:
        raise ValueError(f"scale is {scale} and level {level}, must be above 0, and between 0 and 1")
    y = y - y.mean()  # changes no difference, and keeps the digits of the sums of squares
    n = np.arange(1.0, y.size + 1)
    n_first, sum_first, sums = np.cumsum(arm), np.cumsum(arm * y), np.cumsum(y)
    n_second, sum_second = n - n_first, sums - sum_first
    ready = (n_first > 0) & (n_second > 0) & (n > 2)  # noqa: PLR2004
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        difference = sum_first / n_first - sum_second / n_second
        within = np.cumsum(y**2) - sum_first**2 / n_first - sum_second**2 / n_second
        size = n_first * n_second / n
        grown = 1 + size * scale**2
        between = size * difference**2 / np.maximum(within, 0)  # t squared over its degrees of freedom
        log_odds = 0.5 * (n - 1) * (np.log1p(between) - np.log1p(between / grown)) - 0.5 * np.log(grown)
        # The differences that the same ratio would not refuse: their `between` is at most the edge.
        root = np.exp((math.log(1 / (1 - level)) + 0.5 * np.log(grown)) * 2 / (n - 1))
        edge = np.where(root < grown, (root - 1) / (1 - root / grown), np.inf)
        reach = np.sqrt(edge * np.maximum(within, 0) / size)
    log_odds = np.where(ready & ~np.isnan(log_odds), log_odds, 0.0)
    pvalue = np.exp(np.minimum.accumulate(np.minimum(-log_odds, 0.0)))
    low = np.maximum.accumulate(np.where(ready & (within > 0), difference - reach, -np.inf))
    high = np.minimum.accumulate(np.where(ready & (within > 0), difference + reach, np.inf))
    return Peeks(pvalue, low, high)


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
    for successes, trials in ((first_successes, first_n), (second_successes, second_n)):
        if not 0 <= successes <= trials or successes % 1 or trials % 1:  # of inf the rest is NaN
            raise ValueError(f"{successes} successes of {trials}: must be whole, with 0 <= successes <= trials")
    if len(prior) != 2 or not all(0 < p < math.inf for p in prior):  # type: ignore[redundant-expr] # noqa: PLR2004
        raise ValueError(f"prior is {prior}, two numbers that must be above 0 and finite")
    shapes = [(prior[0] + s, prior[1] + n - s) for s, n in ((first_successes, first_n), (second_successes, second_n))]
    # On the logit scale a beta law is smooth and falls off exponentially; panels as wide as its spread, to where
    # nothing is left.
    edges = []
    for a, b in shapes:
        spread, mode = math.sqrt(1 / a + 1 / b), math.log(a / b)
        edges += [mode + spread * np.arange(-40, 41), mode - np.arange(81) / a, mode + np.arange(81) / b]
    borders = np.unique(np.concatenate(edges))
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    half = np.diff(borders)[:, None] / 2
    x = borders[:-1, None] + half * (1 + nodes)  # (panels, nodes)
    mass, below, above = zip(*(_beta_on(x, half, a, b) for a, b in shapes), strict=True)
    slope = np.exp(-np.logaddexp(0, x) - np.logaddexp(0, -x))  # of the share over the logit
    step = half * weights
    means = [a / (a + b) for a, b in shapes]
    return Decision(
        min(1.0, float((step * mass[0] * below[1]).sum())),
        float((step * slope * below[0] * above[1]).sum()),  # the mean of max(second - first, 0), without a difference
        float((step * slope * below[1] * above[0]).sum()),
        means[0] - means[1],
    )


def tost(first: ArrayLike, second: ArrayLike, low: float, high: float) -> Result:
    """Test that two arms' means differ by more than ``low`` and less than ``high``: two one-sided Welch tests.

    ``first`` and ``second`` are (units of the arm,). The p-value is the larger of the two: small, it proves that the
    difference lies within the margins. Raises ValueError unless ``low < high``, both finite, and for fewer than two
    units in an arm, NaN or inf, or arms without any spread. Source: Schuirmann 1987, J. Pharmacokinetics 15(6).
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"low is {low} and high {high}, must be finite with low < high")
    a, b = _sample(first, "first"), _sample(second, "second")
    contrast = _contrast(a, b, _largest(a, b))
    # The margin that is nearer has the larger p-value.
    nearer = contrast.estimate - low <= high - contrast.estimate
    weaker = _tested(contrast, "greater" if nearer else "less", low if nearer else high, "TOST, Welch's t")
    return replace(weaker, alternative="equivalence")  # whose interval has two ends


def _weights(weights: Mapping[str, float] | Sequence[float]) -> tuple[list[Arm], list[float]]:
    """Return arms and their probabilities."""
    shares: dict[Arm, float] = dict(weights.items() if isinstance(weights, Mapping) else enumerate(weights))
    found = [float(share) for share in shares.values()]
    if not found or not all(share >= 0 for share in found) or abs(sum(found) - 1) > 1e-9:  # noqa: PLR2004
        raise ValueError(f"weights are {list(shares.values())}, must not be negative and sum to 1")
    return list(shares), found


def _sample(values: ArrayLike, name: str) -> Vector:
    x = np.asarray(values, float)
    if x.ndim != 1 or x.size < 2:  # noqa: PLR2004
        raise ValueError(f"{name} has shape {x.shape}, must be (units,) with at least 2 units")
    if not np.isfinite(x).all():
        raise ValueError(f"{name} has NaN or inf")
    return x


def _beta_on(x: Vector, half: Vector, a: float, b: float) -> tuple[Vector, Vector, Vector]:
    """Return the density over the logit, and the probabilities below and above, of a beta law at nodes of panels."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    log_density = -a * np.logaddexp(0, -x) - b * np.logaddexp(0, x)
    density = np.exp(log_density - log_density.max())
    # The integral from a panel's left end to each node, exactly that of the polynomial through the nodes:
    # P_k's is (P_(k+1) - P_(k-1)) / (2 k + 1).
    legendre = np.polynomial.legendre.legvander(nodes, NODES)
    integrals = np.empty((NODES, NODES))
    integrals[:, 0] = nodes + 1
    orders = np.arange(1, NODES)
    integrals[:, 1:] = (legendre[:, 2:] - legendre[:, :-2]) / (2 * orders + 1)
    matrix = (integrals * (np.arange(NODES) + 0.5)) @ legendre[:, :NODES].T * weights
    left, right = half * (density @ matrix.T), half * (density @ matrix[::-1, ::-1].T)
    panel = (half * weights * density).sum(1)
    total = panel.sum()
    before = np.concatenate([[0.0], np.cumsum(panel)[:-1]])[:, None]
    after = np.concatenate([np.cumsum(panel[::-1])[::-1][1:], [0.0]])[:, None]
    return density / total, (before + left) / total, (after + right) / total


def _largest(a: Vector, b: Vector) -> float:
    return max(float(a.max()), -float(a.min()), float(b.max()), -float(b.min()))


def _centred(x: Vector) -> tuple[float, Vector]:
    """Return the mean, and the distances from it."""
    mean = float(np.add.reduce(x)) / x.size
    return mean, x - mean


def _welch(
    a: Vector,
    b: Vector,
    *,
    method: str,
    alternative: str = "two-sided",
    null: float = 0.0,
    size: float | None = None,
) -> Result:
    """Test a difference of means without assuming equal variances (Welch 1947).

    ``size`` is that of the numbers which ``a`` and ``b`` are differences of, where they are: a spread of no more than
    its rounding is none.
    """
    return _tested(_contrast(a, b, _largest(a, b) if size is None else size), alternative, null, method)


def _contrast(a: Vector, b: Vector, size: float) -> Contrast:
    (first, da), (second, db) = _centred(a), _centred(b)
    spreads = dot(da, da) / (a.size - 1), dot(db, db) / (b.size - 1)
    if max(spreads) <= (ROUNDING * size) ** 2:
        raise ValueError("both arms are constant: without any spread there is nothing to compare a difference with")
    u, v = spreads[0] / a.size, spreads[1] / b.size
    df = (u + v) ** 2 / (u**2 / (a.size - 1) + v**2 / (b.size - 1))
    return Contrast(first - second, math.sqrt(u + v), df, a.size + b.size)


def _tested(contrast: Contrast, alternative: str, null: float, method: str) -> Result:
    estimate, error, df, n = contrast
    statistic = (estimate - null) / error
    size = {"two-sided": abs(statistic), "greater": statistic, "less": -statistic}[alternative]
    pvalue, log_pvalue = tail_and_log(t, size, df, 0.0)
    if alternative == "two-sided":
        pvalue, log_pvalue = 2 * pvalue, log_pvalue + math.log(2)
    return Result(statistic, pvalue, log_pvalue, df, estimate, error, n, alternative, method)
