"""Compare two models' scores on the same items: read, pair, test, and say why that test."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from stats.records import field, present, records
from stats.sample_size import solution as sample_size
from stats.special.solution import binom

ALPHA, POWER = 0.05, 0.8
SCORES = ("correct", "acc", "exact_match", "acc_norm", "score")  # what evaluations call the score of an item
FEWEST_CLUSTERS = 20  # below, cluster intervals are known to be too short
FEWEST_SIGNS = math.ceil(1 - math.log2(ALPHA))  # 6: of fewer even signs all alike have a p-value above 5 %
ROUNDING = 1e-12  # of the scores: a spread that small is none
CLOSE, WIDER = 1e-6, 1.25  # of the detectable difference, relative

Array = NDArray[np.float64]
Power = tuple[float | None, float | None, str]  # for the difference seen, the smallest one found, and by which law
UNKNOWN: Power = None, None, "all differences are the same, and so is their spread"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a comparison found; differences are first minus second.

    ``detectable`` is the smallest difference that a test at 5 % finds with 80 % power, with these items and this
    spread; ``power`` that of finding a difference as large as the one observed; ``basis`` says by which law. Both are
    None where no two scores of an item differ by more or less than others: the spread of the differences is then
    unknown, not 0. ``detectable`` alone is None where so few items or clusters can find no difference at all.
    """

    estimate: float
    confidence_interval: tuple[float, float]
    pvalue: float
    method: str
    n: int
    power: float | None
    detectable: float | None
    basis: str
    why: str
    means: tuple[float, float]
    clusters: int | None


def read(path: Path, metric: str | None, key: str | None, cluster: str | None) -> dict[str, tuple[float, str]]:
    """Read a score and a cluster for each item of a JSONL or CSV file, by the item's id.

    ``metric``, ``key`` and ``cluster`` name fields; dots reach into nested ones. Without them the sample logs of
    lm-evaluation-harness are read as they are: its first metric by item ``doc_id``, and where answers were extracted
    in several ways (``filter``) by both. Raises ValueError where a field is missing, a score is no number, or an id
    comes twice.
    """
    rows: dict[str, tuple[float, str]] = {}
    ways = key is None
    for where, record in records(path):
        metric = metric or next((name for name in SCORES if name in record), SCORES[0])
        key = key or ("doc_id" if "doc_id" in record and "id" not in record else "id")
        item, value = str(field(where, record, key)), present(where, record, metric)
        if ways and key == "doc_id" and "filter" in record:
            item += f" {record['filter']}"
        if item in rows:
            msg = f"{where}: the id {item!r} comes twice"
            raise ValueError(msg)
        rows[item] = value, str(field(where, record, cluster)) if cluster else ""
    if not rows:
        msg = f"{path} has no records"
        raise ValueError(msg)
    return rows


def compare(
    first: dict[str, tuple[float, str]],
    second: dict[str, tuple[float, str]],
    pairing: ModuleType,
    sizes: ModuleType = sample_size,
    *,
    clustered: bool = False,
    seed: int = 0,
) -> Finding:
    """Pair two models' scores by item and test their difference with ``pairing``; ``sizes`` says what it can find.

    Scores of 0 and 1 are tested with McNemar's exact test, whose power is exact too; others by flipping signs, with the
    power of the paired t-test. With ``clustered`` the items of a cluster stay together: the differences are summed by
    cluster, and whole clusters are flipped and resampled; power is that of a t-test with the degrees of freedom that
    clusters leave. Raises ValueError where the items are not the same, or fewer than two clusters are left.
    """
    if missing := set(first) ^ set(second):
        example = min(missing)
        msg = f"the items are not the same: {len(missing)} are in one file only, such as {example!r}"
        raise ValueError(msg)
    items = list(first)
    a, b = (np.array([side[item][0] for item in items]) for side in (first, second))
    n, estimate = len(items), float((a - b).mean())
    binary = bool(np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all())
    if clustered:
        names = [first[item][1] for item in items]
        sums_a, sums_b = _by_cluster(names, a, b)
        clusters: int | None = len(sums_a)
        if len(sums_a) < 2:  # noqa: PLR2004
            msg = f"{len(sums_a)} cluster, at least two are needed"
            raise ValueError(msg)
        scale = len(sums_a) / n  # the mean over items is so many times the mean over clusters
        found = pairing.permutation_test(sums_a, sums_b, seed=seed)
        low, high = (scale * end for end in pairing.bootstrap_ci(sums_a, sums_b, seed=seed))
        few = "; few clusters: the interval is too short" if len(sums_a) < FEWEST_CLUSTERS else ""
        why = f"items of a cluster are not independent, so whole clusters are flipped and resampled{few}"
        method = f"{found.method}, {len(sums_a)} clusters"
        power, detectable, basis = _power_of_clusters(a, b, names, len(sums_a), pairing, sizes)
    else:
        clusters = None
        found = pairing.mcnemar(a, b) if binary else pairing.permutation_test(a, b, seed=seed)
        low, high = pairing.bootstrap_ci(a, b, seed=seed)
        why = "the same items, right or wrong" if binary else "the same items, scores of any size"
        method = found.method
        power, detectable, basis = _power_of_mcnemar(a, b) if binary else _power_of_scores(a, b, sizes)
    means = float(a.mean()), float(b.mean())
    return Finding(estimate, (low, high), found.pvalue, method, n, power, detectable, basis, why, means, clusters)


def _power_of_scores(a: Array, b: Array, sizes: ModuleType) -> Power:
    """Return what differences of independent items can show, as of the paired t-test."""
    d = a - b
    spread = float(d.std(ddof=1))
    if spread <= ROUNDING * float(np.abs([a, b]).max()):
        return UNKNOWN
    if d.size < FEWEST_SIGNS:
        return 0.0, None, _too_few(d.size, "items")
    return _power_of_t(float(d.mean()), spread, d.size, f"{d.size} items", sizes)


def _power_of_clusters(
    a: Array, b: Array, names: list[str], clusters: int, pairing: ModuleType, sizes: ModuleType
) -> Power:
    """Return what clusters can show: a t-test of as many units as their error has degrees of freedom, and one.

    An approximation: clusters are flipped, and differ in size. Their error and its degrees of freedom know of that.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no spread: said in the answer
        found = pairing.clustered_difference(a, b, names)
    if not found.standard_error > 0:
        return UNKNOWN
    if clusters < FEWEST_SIGNS:
        return 0.0, None, _too_few(clusters, "clusters")
    units = found.df + 1
    basis = f"{found.df:.1f} degrees of freedom"
    return _power_of_t(found.estimate, found.standard_error * math.sqrt(units), units, basis, sizes)


def _too_few(count: int, units: str) -> str:
    return f"{count} {units} have {2**count} patterns of signs, too few for p = {ALPHA}"


def _power_of_t(effect: float, spread: float, units: float, what: str, sizes: ModuleType) -> Power:
    power = sizes.power_ttest(effect / spread, units, alpha=ALPHA, kind="one-sample")
    detectable = spread * sizes.solve_power("ttest", n=units, power=POWER, alpha=ALPHA, kind="one-sample")
    return power, detectable, f"noncentral t, {what}"


def _power_of_mcnemar(a: Array, b: Array) -> Power:
    """Return what McNemar's exact test can find on so many items, of which the models differ on the share seen."""
    n, effect = a.size, float((a - b).mean())
    share = float((a != b).mean())
    if not share:
        return UNKNOWN
    if n < FEWEST_SIGNS:
        return 0.0, None, _too_few(n, "items")
    power = mcnemar_power(n, share)
    guess = (1.96 + 0.84) * math.sqrt(share / n)  # where the law is normal
    return power(effect), _reached(power, min(guess, 1.0)), f"exact, where the models differ on {share:.1%} of items"


def mcnemar_power(n: int, share: float) -> Callable[[float], float]:
    """Return the power of McNemar's exact two-sided test at 5 % on ``n`` items, a function of the difference.

    That is one of the shares of right items, from -1 to 1. A ``share`` above 0 of the items is expected to be right in
    one model only; a difference larger than that needs more of them, which are then all right in the same model.
    Source: Duffy 1984, Asymptotic and exact power for the McNemar test, Biometrics 40(4).
    """
    middle, reach = n * share, 7 * math.sqrt(n * share * (1 - share)) + 20  # beyond is nothing: 1e-11
    m = np.arange(max(0.0, math.floor(middle - reach)), min(n, math.ceil(middle + reach)) + 1)  # right in one only
    chance = np.diff(binom.cdf(np.concatenate([[m[0] - 1], m]), n, share))
    fewest = binom.ppf(ALPHA / 2, m, 0.5) - 1  # as few of them on one side, and p is at most 5 %

    def power(effect: float) -> float:
        if abs(effect) >= share:
            return float(binom.sf(FEWEST_SIGNS - 1, n, abs(effect)))
        toward = (1 + effect / share) / 2
        return float(chance @ (binom.cdf(fewest, m, toward) + binom.sf(m - fewest - 1, m, toward)))

    return power


def _reached(power: Callable[[float], float], guess: float) -> float:
    """Return the difference from which on ``power`` is enough: a bracket, then the Illinois method."""
    low = high = guess
    lower = upper = power(guess) - POWER
    while lower >= 0:
        high, upper, low = low, lower, low / WIDER
        lower = power(low) - POWER
    while upper < 0:
        low, lower, high = high, upper, min(WIDER * high, 1.0)
        upper = power(high) - POWER
    kept = 0
    while high - low > CLOSE * high:
        middle = high - upper * (high - low) / (upper - lower)
        middle = middle if low < middle < high else (low + high) / 2
        here = power(middle) - POWER
        if here >= 0:
            high, upper, lower, kept = middle, here, lower / 2 if kept > 0 else lower, 1
        else:
            low, lower, upper, kept = middle, here, upper / 2 if kept < 0 else upper, -1
    return high


def _by_cluster(
    names: list[str], a: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum both models' scores by cluster."""
    _, index = np.unique(names, return_inverse=True)
    return np.bincount(index, a).astype(np.float64), np.bincount(index, b).astype(np.float64)
