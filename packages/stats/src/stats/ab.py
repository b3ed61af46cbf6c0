"""An A/B test from one record a unit: whether the split can be trusted, what changed, and whether anything broke."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from stats.records import field, present, records
from stats.single import number

Array = NDArray[np.float64]
ALPHA, LEVEL = 0.05, 0.95
MISMATCH = 0.001  # a p-value below is taken for a broken split
NAMES = {  # what fields are called where nothing else is said
    "unit": ("unit", "unit_id", "user", "user_id", "id"),
    "variant": ("variant", "arm", "group"),
    "metric": ("metric", "value"),
}


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A metric that must not get worse by ``margin``, or by that share of the control's mean where ``relative``."""

    metric: str
    margin: float
    relative: bool
    harm: Literal["fall", "rise"]


@dataclass(frozen=True, slots=True)
class Kept:
    """Whether a guardrail held: ``limit`` is how bad the change may be at worst, ``safe`` that it is not past it."""

    metric: str
    margin: float
    harm: str
    estimate: float
    limit: float
    pvalue: float
    safe: bool


Parts = tuple[str, tuple[float, float], float, tuple[float, float], float, str, float | None, tuple[Kept, ...]]


@dataclass(frozen=True, slots=True)
class Contrast:
    """One arm against the control: ``estimate`` is the arm's mean, or ratio, less the control's.

    ``adjusted`` is the p-value after Holm's correction for all arms; ``shorter`` by which share the covariate made the
    interval shorter, None without one.
    """

    arm: str
    means: tuple[float, float]
    estimate: float
    confidence_interval: tuple[float, float]
    pvalue: float
    adjusted: float
    method: str
    shorter: float | None
    guardrails: tuple[Kept, ...]


@dataclass(frozen=True, slots=True)
class Experiment:
    """What an experiment says; without trust in ``srm_pvalue`` the rest says nothing."""

    units: dict[str, int]
    srm_pvalue: float
    control: str
    metric: str
    contrasts: tuple[Contrast, ...]


@dataclass(frozen=True, slots=True)
class Fields:
    """Which fields of a record are what; ``per`` is the denominator of a ratio, ``before`` the covariate.

    ``sequential`` says that the records stand in the order they came, and are looked at more than once.
    """

    unit: str | None = None
    variant: str | None = None
    metric: str | None = None
    per: str | None = None
    before: str | None = None
    sequential: bool = False


def analyse(
    path: Path,
    fields: Fields,
    modules: tuple[ModuleType, ModuleType],
    *,
    guardrails: Sequence[Guardrail] = (),
    control: str | None = None,
    weights: Mapping[str, float] | None = None,
) -> Experiment:
    """Test each arm of a file against the control, the shares of the arms first.

    ``modules`` are experiments and pairing. Without ``weights`` all arms were meant to get the same share; without
    ``control`` it is the arm of that name, or the first in the alphabet. The metric's means are compared by Welch's
    test, less what ``before`` explains (CUPED), or as a ratio of sums by the delta method; where they are
    ``sequential``, by the mixture sequential probability ratio test, which may be looked at after each unit. Raises
    ValueError for fields that are missing, values that are no numbers, units in two arms, units that come twice except
    as parts of a ratio, fewer than two arms or two units in one.
    """
    if fields.per and fields.before:
        raise ValueError("a ratio has no covariate here: --per or --before, not both")
    if fields.sequential and (fields.per or fields.before or guardrails):
        raise ValueError("--sequential tests means alone: leave --per, --before and --guardrail out")
    metric, arms = _read(path, fields, [guard.metric for guard in guardrails])
    if len(arms) < 2:  # noqa: PLR2004
        msg = f"{path}: {len(arms)} variant, {', '.join(arms) or 'none'}; at least two are needed"
        raise ValueError(msg)
    experiments, pairing = modules
    base = control or ("control" if "control" in arms else min(arms))
    if base not in arms:
        msg = f"--control {base}: no such variant, only {', '.join(arms)}"
        raise ValueError(msg)
    for name, table in arms.items():
        if len(table) < 2:  # noqa: PLR2004
            msg = f"{path}: {len(table)} unit in {name}, at least 2 are needed"
            raise ValueError(msg)
    units = {name: len(table) for name, table in arms.items()}
    mismatch = experiments.srm(units, weights or dict.fromkeys(units, 1 / len(units)))
    treated = [name for name in arms if name != base]
    found = [_contrast(name, fields, (arms[name], arms[base]), guardrails, experiments) for name in treated]
    adjusted = pairing.adjust_pvalues([one[4] for one in found], "holm")
    contrasts = tuple(Contrast(*one[:5], float(p), *one[5:]) for one, p in zip(found, adjusted, strict=True))
    return Experiment(units, float(mismatch.pvalue), base, metric, contrasts)


def guardrail_of(text: str) -> Guardrail:
    """Read ``metric:margin:harm``, as ``latency:5%:rise``; harm is a fall where none is given."""
    parts = text.split(":")
    harm = parts.pop() if parts[-1] in ("fall", "rise") else "fall"
    margin = parts.pop() if len(parts) > 1 else ""
    try:
        size = number(margin.removesuffix("%"))
    except ValueError:
        size = 0.0
    if not size > 0 or not parts[0]:
        msg = f"--guardrail {text}: must be METRIC:MARGIN:HARM, such as latency:5%:rise or revenue:0.1:fall"
        raise ValueError(msg)
    relative = margin.endswith("%")
    return Guardrail(":".join(parts), size / 100 if relative else size, relative, cast("Literal['fall', 'rise']", harm))


def weights_of(text: str) -> dict[str, float]:
    """Read ``control=0.9,new=0.1``."""
    found = {}
    for part in text.split(","):
        name, equals, share = part.rpartition("=")
        if not equals or not name or name in found:
            msg = f"--weights {text}: must name each variant once, as control=0.9,new=0.1"
            raise ValueError(msg)
        found[name.strip()] = number(share)
    return found


def _read(path: Path, fields: Fields, more: Iterable[str]) -> tuple[str, dict[str, Array]]:
    """Return the metric's name, and for each arm a table of its units: metric, per, before, ``more``, place."""
    where_is: dict[str, tuple[str, Array]] = {}
    named: dict[str, str] = {}
    columns: list[str] = []
    for where, record in records(path):
        if not named:
            for role, names in NAMES.items():
                asked = getattr(fields, role)
                named[role] = asked or next((name for name in names if name in record), names[0])
            columns = [named["metric"], *(name for name in (fields.per, fields.before) if name), *more]
        unit, arm = (str(field(where, record, named[role])) for role in ("unit", "variant"))
        values = np.array([present(where, record, name) for name in columns])
        if unit in where_is:
            before, so_far = where_is[unit]
            if arm != before:
                msg = f"{where}: the unit {unit!r} is in {arm!r} and was in {before!r}: it cannot be told what it shows"
                raise ValueError(msg)
            if fields.per is None or len(columns) > 2:  # noqa: PLR2004
                msg = f"{where}: the unit {unit!r} comes twice; parts of units can be added up for --per alone"
                raise ValueError(msg)
            values = so_far + values
        where_is[unit] = arm, values
    arms: dict[str, list[Array]] = {}
    for place, (arm, values) in enumerate(where_is.values()):
        arms.setdefault(arm, []).append(np.append(values, place))
    return named.get("metric", ""), {arm: np.array(rows) for arm, rows in sorted(arms.items())}


def _contrast(
    name: str,
    fields: Fields,
    tables: tuple[Array, Array],
    guardrails: Sequence[Guardrail],
    experiments: ModuleType,
) -> Parts:
    (a, b), ones = (table[:, 0] for table in tables), [np.ones(len(table)) for table in tables]
    if fields.sequential:
        return _sequential(name, tables, experiments)
    shorter, method = None, "Welch's t"
    means = float(a.mean()), float(b.mean())
    if fields.per:
        x, y = (table[:, 1] for table in tables)
        found = experiments.ratio_metric(a, x, b, y)
        means, method = (float(a.sum() / x.sum()), float(b.sum() / y.sum())), found.method
    else:
        found = experiments.ratio_metric(a, ones[0], b, ones[1])  # of units that count once each: Welch's test
        if fields.before:
            plain = found.standard_error
            found = experiments.cuped(a, b, *(table[:, 1] for table in tables))
            shorter, method = float(1 - found.standard_error / plain), found.method
    low, high = map(float, found.confidence_interval(LEVEL))
    kept = []
    for place, guard in enumerate(guardrails, -1 - len(guardrails)):
        first, second = (table[:, place] for table in tables)
        margin = guard.margin * abs(float(second.mean())) if guard.relative else guard.margin
        if not margin:
            msg = f"the mean of {guard.metric} is 0 in the control: its guardrail needs a margin that is no percentage"
            raise ValueError(msg)
        test = experiments.guardrail(first, second, margin, harm=guard.harm)
        limit = float(test.confidence_interval(LEVEL)[guard.harm == "rise"])
        safe = bool(test.pvalue <= ALPHA)
        kept.append(Kept(guard.metric, margin, guard.harm, float(test.estimate), limit, float(test.pvalue), safe))
    return name, means, float(found.estimate), (low, high), float(found.pvalue), method, shorter, tuple(kept)


def _sequential(name: str, tables: tuple[Array, Array], experiments: ModuleType) -> Parts:
    """Test two arms' units in the order they came, so that whoever looks early is not misled."""
    rows = np.concatenate(tables)
    treated, order = np.repeat([1, 0], [len(table) for table in tables]), np.argsort(rows[:, -1])
    peeks = experiments.msprt(rows[order, 0], treated[order], level=LEVEL)
    low, high = float(peeks.low[-1]), float(peeks.high[-1])
    if not np.isfinite(high - low):
        msg = f"{len(rows)} units of {name} and the control, too few or without spread: they have no interval yet"
        raise ValueError(msg)
    first, second = (float(table[:, 0].mean()) for table in tables)
    method = "mSPRT, valid at any look"
    return name, (first, second), first - second, (low, high), float(peeks.pvalue[-1]), method, None, ()
