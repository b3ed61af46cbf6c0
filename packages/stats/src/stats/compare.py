"""Compare two models' scores on the same items: read, pair, test, and say why that test."""

import csv
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

NORMAL = NormalDist()
ALPHA, POWER = 0.05, 0.8
SCORES = ("correct", "acc", "exact_match", "acc_norm", "score")  # what evaluations call the score of an item
FEWEST_CLUSTERS = 20  # below, cluster intervals are known to be too short


@dataclass(frozen=True, slots=True)
class Finding:
    """What a comparison found; differences are first minus second.

    ``detectable`` is the smallest difference that a test at 5 % finds with 80 % power, with these items and this
    spread; ``power`` that of finding a difference as large as the one observed. Both are None where no two scores of
    an item differ by more or less than others: the spread of the differences is then unknown, not 0.
    """

    estimate: float
    confidence_interval: tuple[float, float]
    pvalue: float
    method: str
    n: int
    power: float | None
    detectable: float | None
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
    for number, record in enumerate(_records(path), 1):
        metric = metric or next((name for name in SCORES if name in record), SCORES[0])
        key = key or ("doc_id" if "doc_id" in record and "id" not in record else "id")
        try:
            item, value = str(_field(record, key)), float(_field(record, metric))
            if ways and key == "doc_id" and "filter" in record:
                item += f" {record['filter']}"
            group = str(_field(record, cluster)) if cluster else ""
        except KeyError as error:
            msg = f"{path}, record {number}: no field {error}, only {', '.join(map(str, record))}"
            raise ValueError(msg) from error
        except TypeError as error:
            msg = f"{path}, record {number}: {metric} is {_field(record, metric)!r}, must be a number"
            raise ValueError(msg) from error
        if item in rows:
            msg = f"{path}, record {number}: the id {item!r} comes twice"
            raise ValueError(msg)
        if not math.isfinite(value):
            msg = f"{path}, record {number}: {metric} is {value}"
            raise ValueError(msg)
        rows[item] = value, group
    if not rows:
        msg = f"{path} has no records"
        raise ValueError(msg)
    return rows


def _records(path: Path) -> Iterable[dict[str, Any]]:
    """Yield the records of a JSONL or CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            yield from csv.DictReader(file)
            return
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    record = json.loads(line)
                except ValueError as error:
                    msg = f"{path}, line {number} is not JSON: {error}"
                    raise ValueError(msg) from error
                if not isinstance(record, dict):
                    msg = f"{path}, line {number} is no record with named fields"
                    raise ValueError(msg)
                yield record


def _field(record: Any, name: str) -> Any:  # noqa: ANN401 - whatever a file holds
    """Return a field; dots reach into nested records."""
    for part in name.split("."):
        if not isinstance(record, dict) or part not in record:
            raise KeyError(name)
        record = record[part]
    return record


def compare(
    first: dict[str, tuple[float, str]],
    second: dict[str, tuple[float, str]],
    pairing: ModuleType,
    *,
    clustered: bool = False,
    seed: int = 0,
) -> Finding:
    """Pair two models' scores by item and test their difference with the functions of ``pairing``.

    Scores of 0 and 1 are tested with McNemar's exact test, others by flipping signs. With ``clustered`` the items of
    a cluster stay together: the differences are summed by cluster, and whole clusters are flipped and resampled.
    Raises ValueError where the items are not the same, or fewer than two clusters are left.
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
        sums_a, sums_b = _by_cluster([first[item][1] for item in items], a, b)
        clusters: int | None = len(sums_a)
        if len(sums_a) < 2:  # noqa: PLR2004
            msg = f"{len(sums_a)} cluster, at least two are needed"
            raise ValueError(msg)
        scale = len(sums_a) / n  # the mean over items is so many times the mean over clusters
        found = pairing.permutation_test(sums_a, sums_b, seed=seed)
        low, high = (scale * end for end in pairing.bootstrap_ci(sums_a, sums_b, seed=seed))
        spread = scale * float((sums_a - sums_b).std(ddof=1)) / math.sqrt(len(sums_a))
        few = "; few clusters: the interval is too short" if len(sums_a) < FEWEST_CLUSTERS else ""
        why = f"items of a cluster are not independent, so whole clusters are flipped and resampled{few}"
        method = f"{found.method}, {len(sums_a)} clusters"
    else:
        clusters = None
        found = pairing.mcnemar(a, b) if binary else pairing.permutation_test(a, b, seed=seed)
        low, high = pairing.bootstrap_ci(a, b, seed=seed)
        spread = float((a - b).std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
        why = "the same items, right or wrong" if binary else "the same items, scores of any size"
        method = found.method
    cut = NORMAL.inv_cdf(1 - ALPHA / 2)
    power = detectable = None
    if spread > 0:
        effect = abs(estimate) / spread
        power = NORMAL.cdf(effect - cut) + NORMAL.cdf(-effect - cut)
        detectable = (cut + NORMAL.inv_cdf(POWER)) * spread
    means = float(a.mean()), float(b.mean())
    return Finding(estimate, (low, high), found.pvalue, method, n, power, detectable, why, means, clusters)


def _by_cluster(
    names: list[str], a: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum both models' scores by cluster."""
    _, index = np.unique(names, return_inverse=True)
    return np.bincount(index, a).astype(np.float64), np.bincount(index, b).astype(np.float64)
