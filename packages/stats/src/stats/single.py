"""One test at a time: from files of numbers, or from counts and summary statistics as a user types them."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from stats.records import column, field, records
from stats.result import Result
from stats.special.solution import binom, f, norm
from stats.students import Alternative

Array = NDArray[np.float64]
Interval = tuple[float, float]
SUMMARY = 3  # mean, standard deviation, number


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a test says, with the effect in its own unit and without one.

    ``of`` says what the estimate is, ``interval`` its confidence interval, where there is one; ``effect`` names a size
    that does not depend on units or counts; ``data`` and ``notes`` are words for the reader.
    """

    result: Result
    of: str
    interval: Interval | None
    effect: tuple[str, float]
    data: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return what JSON can hold; None for what is infinite or not there."""
        r = self.result
        found = {"method": r.method, "alternative": r.alternative, "statistic": r.statistic, "df": r.df}
        found |= {"pvalue": r.pvalue, "log_pvalue": r.log_pvalue, "estimate": r.estimate, "estimate_of": self.of}
        found |= {"confidence_interval": list(self.interval) if self.interval else None}
        found |= {"effect": {"name": self.effect[0], "value": self.effect[1]}, "n": r.n, "notes": list(self.notes)}
        return {key: _finite(value) for key, value in found.items()}


def ttest(
    students: ModuleType,
    sources: Sequence[str],
    *,
    popmean: float = 0.0,
    paired: bool = False,
    equal_var: bool = False,
    alternative: str = "two-sided",
    omit: bool = False,
    level: float = 0.95,
) -> Outcome:
    """Test one mean against ``popmean``, or two, paired or not: Welch's test unless ``equal_var``.

    A source is a file of numbers, ``FILE:FIELD``, or the words ``mean,sd,n``. Raises ValueError for more than two
    sources, missing values unless ``omit``, pairs that do not match, and data without any spread.
    """
    if len(sources) > 2 or (paired and len(sources) < 2):  # noqa: PLR2004
        msg = f"{len(sources)} samples: a t-test takes one or two, a paired one two"
        raise ValueError(msg)
    if alternative not in get_args(Alternative):
        msg = f"alternative is {alternative!r}, must be one of {', '.join(get_args(Alternative))}"
        raise ValueError(msg)
    given = [_summary(source) for source in sources]
    if any(given) and (paired or not all(given)):
        msg = f"{' '.join(sources)}: summaries do not go with files, nor with --paired"
        raise ValueError(msg)
    options: dict[str, Any] = {"alternative": alternative}
    if len(sources) == 1:
        options["popmean"] = popmean
    if all(given):
        return _from_summaries(students, [one for one in given if one], equal_var=equal_var, level=level, **options)
    samples = _samples(sources, paired=paired, omit=omit)
    data = tuple(f"{name}: {_told(x)}" for name, x in zip(sources, samples, strict=True))
    if len(samples) == 1:
        result, notes = _run(students.ttest_1samp, *samples, **options)
        gap, spread, of = result.estimate - popmean, _sd(samples[0]), "mean"
    elif paired:
        result, notes = _run(students.ttest_rel, *samples, **options)
        gap, spread, of = result.estimate, _sd(samples[0] - samples[1]), "mean difference"
    else:
        result, notes = _run(students.ttest_ind, *samples, equal_var=equal_var, **options)
        sizes, spreads = [x.size for x in samples], [_sd(x) for x in samples]
        gap, spread, of = result.estimate, _spread(sizes, spreads, equal_var=equal_var), "difference of means"
    return Outcome(result, of, result.confidence_interval(level), ("Cohen's d", gap / spread), data, notes)


def chi2(
    contingency: ModuleType,
    rows: Sequence[Sequence[float]],
    *,
    expected: Sequence[float] | None = None,
    yates: bool = True,
    likelihood: bool = False,
) -> Outcome:
    """Test a table of counts for independence, or a single row for a fit to ``expected`` shares, even ones if None."""
    if len({len(row) for row in rows}) != 1:
        told = ", ".join(str(len(row)) for row in rows) or "no"
        msg = f"the rows have {told} counts, must be a table: as many in each"
        raise ValueError(msg)
    table = np.array(rows, float)
    data: tuple[str, ...] = (f"{' x '.join(map(str, table.shape))} counts, {table.sum():.15g} in all",)
    if len(rows) == 1:
        if likelihood:
            raise ValueError("one row: --g needs a table of several")
        shares = None
        if expected is not None:
            if len(expected) != table.size or min(expected) < 0 or abs(sum(expected) - 1) > 1e-9:  # noqa: PLR2004
                msg = f"--expected {expected}: must be {table.size} shares that sum to 1, as there are counts"
                raise ValueError(msg)
            shares = np.array(expected) * table.sum()
        result, notes = _run(contingency.chisquare, table[0], shares)
        return Outcome(result, "Cohen's w", None, ("Cohen's w", float(result.estimate)), data, notes)
    if expected is not None:
        raise ValueError("--expected goes with a single row of counts")
    kind = "log-likelihood" if likelihood else "pearson"
    result, notes = _run(contingency.chi2_contingency, table, correction=yates, lambda_=kind)
    rest = contingency.residuals(table)
    if table.size > 4 and not np.isnan(rest).any():  # noqa: PLR2004 - in a two by two table all are alike
        row, place = np.unravel_index(int(np.abs(rest).argmax()), rest.shape)
        data += (f"farthest off: row {row + 1}, column {place + 1}, by {rest[row, place]:+.2f} standard errors",)
    return Outcome(result, "Cramer's V", None, ("Cramer's V", float(result.estimate)), data, notes)


def mcnemar(
    pairing: ModuleType, table: Sequence[Sequence[float]], *, midp: bool = False, level: float = 0.95
) -> Outcome:
    """Test whether two models are right equally often, from the items that both, one or none of them have right."""
    cells = [count for row in table for count in row]
    if [len(row) for row in table] != [2, 2] or not all(count >= 0 and count == int(count) for count in cells):
        msg = f"{cells}: must be 2 x 2 whole counts, as 80,15 5,100: both right, only the first; only the second, none"
        raise ValueError(msg)
    times = [int(count) for count in cells]
    first, second = np.repeat([1.0, 1.0, 0.0, 0.0], times), np.repeat([1.0, 0.0, 1.0, 0.0], times)
    result, notes = _run(pairing.mcnemar, first, second, midp=midp)
    up, down = times[1:3]
    data = (f"{up} right in the first only, {down} in the second only, of {first.size}",)
    odds = up / down if down else math.inf if up else math.nan
    interval = pairing.bootstrap_ci(first, second, level=level)
    return Outcome(result, "difference of shares", interval, ("odds ratio", odds), data, notes)


def pairs(sources: Sequence[str]) -> list[list[float]]:
    """Count the items that both, one or none of two files of 0 and 1 have right."""
    first, second = _samples(sources, paired=True, omit=False)
    if not np.isin([first, second], (0, 1)).all():
        msg = f"{' and '.join(sources)}: McNemar's test takes 0 and 1, or true and false, only"
        raise ValueError(msg)
    return [[float(np.sum((first == a) & (second == b))) for b in (1, 0)] for a in (1, 0)]


def proportions(
    modules: tuple[ModuleType, ModuleType],
    counts: Sequence[tuple[int, int]],
    *,
    base: float = 0.5,
    exact: bool = False,
    level: float = 0.95,
) -> Outcome:
    """Test successes of units: one share against ``base``, or several against each other.

    ``modules`` are contingency and pairing. The test is Pearson's, without Yates; ``exact`` makes it the binomial
    test, twice the smaller tail, or Fisher's, which counts tables with a difference at least as large. The interval of
    one share is Wilson's, after ``exact`` that of Clopper and Pearson; that of two shares' difference is made of
    Wilson's two. Source: Wilson 1927, JASA 22; Clopper and Pearson 1934, Biometrika 26; Newcombe 1998, Statistics in
    Medicine 17, method 10.
    """
    if not 0 < level < 1:
        msg = f"level is {level}, must lie between 0 and 1"
        raise ValueError(msg)
    contingency, pairing = modules
    shares = [k / n for k, n in counts]
    data = tuple(f"{share:.6g}: {k} of {n}" for share, (k, n) in zip(shares, counts, strict=True))
    z, notes = float(norm.isf((1 - level) / 2)), tuple[str, ...]()
    if len(counts) == 1:
        if not 0 < base < 1:
            msg = f"--base {base}: must lie between 0 and 1"
            raise ValueError(msg)
        k, n = counts[0]
        if exact:
            result, interval = _binomial(k, n, base), _clopper_pearson(k, n, level)
        else:
            result, notes = _run(contingency.chisquare, [k, n - k], [n * base, n * (1 - base)])
            result, interval = replace(result, method="chi-square of one share"), _wilson(k, n, z)
        result = replace(result, estimate=shares[0], standard_error=math.nan)
        return Outcome(result, "share", interval, ("Cohen's h", _angle(shares[0]) - _angle(base)), data, notes)
    if len(set(shares)) == 1 and shares[0] in (0, 1):
        raise ValueError("all units are successes, or none is: there is nothing to compare")
    if exact and len(counts) != 2:  # noqa: PLR2004
        raise ValueError("--exact takes one or two shares")
    if exact:
        units = [np.repeat([1.0, 0.0], (k, n - k)) for k, n in counts]
        result, notes = _run(pairing.permutation_test, *units, paired=False)
        result = replace(result, method="Fisher's exact test, two-sided by difference")
    else:
        result, notes = _run(contingency.chi2_contingency, [[k, n - k] for k, n in counts], correction=False)
        result = replace(result, method="chi-square of shares")
    if len(counts) > 2:  # noqa: PLR2004
        return Outcome(result, "Cramer's V", None, ("Cramer's V", float(result.estimate)), data, notes)
    difference = shares[0] - shares[1]
    (low1, high1), (low2, high2) = (_wilson(k, n, z) for k, n in counts)
    interval = (
        difference - math.hypot(shares[0] - low1, high2 - shares[1]),
        difference + math.hypot(high1 - shares[0], shares[1] - low2),
    )
    result = replace(result, estimate=difference, standard_error=math.nan)
    effect = "Cohen's h", _angle(shares[0]) - _angle(shares[1])
    return Outcome(result, "difference of shares", interval, effect, data, notes)


def table_of(words: Sequence[str], across: str | None = None) -> list[list[float]]:
    """Read a table: rows as ``30,20 15,40``; a file of counts; or two fields of a file, ``FILE:ROWS`` by ``across``.

    A file of counts may name its rows in the first field. Raises ValueError for values that are no numbers.
    """
    if across is not None:
        if len(words) != 1 or ":" not in words[0]:
            msg = f"{' '.join(words)}: --across needs one FILE:FIELD beside it"
            raise ValueError(msg)
        file, name = words[0].rsplit(":", 1)
        seen = [(str(field(where, one, name)), str(field(where, one, across))) for where, one in records(Path(file))]
        if not seen or any(len(set(side)) < 2 for side in zip(*seen, strict=True)):  # noqa: PLR2004
            msg = f"{file}: {name} and {across} must have at least two values each"
            raise ValueError(msg)
        kinds, places = zip(*(np.unique(side, return_inverse=True) for side in zip(*seen, strict=True)), strict=True)
        table = np.zeros([len(kind) for kind in kinds])
        np.add.at(table, places, 1)
        return [[float(count) for count in row] for row in table]
    if len(words) == 1 and not is_numbers(words[0]):
        lines = [line.split(",") for line in Path(words[0]).read_text("utf-8-sig").splitlines() if line.strip()]
        named = bool(lines) and not any(is_numbers(line[0]) for line in lines)
        headed = bool(lines) and not any(is_numbers(cell) for cell in lines[0][1:] or lines[0])
        return [numbers(",".join(line[named:]), words[0]) for line in lines[headed:]]
    return [numbers(word) for word in words]


def number(text: str) -> float:
    """Read one number. Raises ValueError for anything else."""
    try:
        return float(text)
    except ValueError as error:
        msg = f"{text!r} is no number"
        raise ValueError(msg) from error


def numbers(text: str, where: str = "") -> list[float]:
    """Read numbers with commas between them."""
    try:
        return [float(word) for word in text.split(",")]
    except ValueError as error:
        msg = f"{where + ': ' if where else ''}{text!r} must be numbers with commas between them"
        raise ValueError(msg) from error


def successes(text: str) -> tuple[int, int]:
    """Read successes and units, ``530/10000``. Raises ValueError for what is no share."""
    parts = text.split("/")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):  # noqa: PLR2004
        msg = f"{text!r} must be successes/units, such as 530/10000"
        raise ValueError(msg)
    k, n = int(parts[0]), int(parts[1])
    if not 0 <= k <= n or not n:
        msg = f"{text!r}: successes must not be more than units, of which at least 1 is needed"
        raise ValueError(msg)
    return k, n


def _run(test: Callable[..., Result], *given: Any, **options: Any) -> tuple[Result, tuple[str, ...]]:  # noqa: ANN401
    """Run a test; what it warns of are notes, and an error where it has no answer."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = test(*given, **options)
    notes = tuple(dict.fromkeys(str(warning.message) for warning in caught))
    if math.isnan(result.pvalue) or math.isnan(result.statistic) or math.isinf(result.statistic):
        raise ValueError("; ".join(notes) or "these data have no p-value")
    return result, notes


def _samples(sources: Sequence[str], *, paired: bool, omit: bool) -> list[Array]:
    samples = [column(source) for source in sources]
    if paired and len({x.size for x in samples}) > 1:
        told = " and ".join(f"{x.size} in {source}" for x, source in zip(samples, sources, strict=True))
        msg = f"pairs need as many values on both sides, not {told}"
        raise ValueError(msg)
    gaps = [np.isnan(x) for x in samples]
    if not omit:
        for source, gap in zip(sources, gaps, strict=True):
            if gap.any():
                msg = f"{source}, value {int(gap.argmax()) + 1}: missing; --omit leaves such out"
                raise ValueError(msg)
    if paired:
        gaps = [np.logical_or(*gaps)] * 2
    kept = [x[~gap] for x, gap in zip(samples, gaps, strict=True)]
    for source, x in zip(sources, kept, strict=True):
        if x.size < 2:  # noqa: PLR2004
            msg = f"{source}: {x.size} value{'s' * (x.size != 1)} that can be used, at least 2 are needed"
            raise ValueError(msg)
    return kept


def _summary(source: str) -> tuple[float, float, float] | None:
    """Read ``mean,sd,n``; None for anything else."""
    if not is_numbers(source) or Path(source).exists():
        return None
    found = numbers(source)
    if len(found) != SUMMARY or not all(map(math.isfinite, found)) or found[1] < 0 or found[2] < 2:  # noqa: PLR2004
        msg = f"{source!r} must be a file, or mean,sd,n with an sd of 0 or more and n of 2 or more"
        raise ValueError(msg)
    return found[0], found[1], found[2]


def _from_summaries(
    students: ModuleType,
    given: Sequence[tuple[float, float, float]],
    *,
    equal_var: bool,
    level: float,
    alternative: str,
    popmean: float = 0.0,
) -> Outcome:
    data = tuple(f"mean {mean:g}, standard deviation {sd:g}, n {n:g}" for mean, sd, n in given)
    if len(given) == 1:
        # A second sample without spread takes nothing away: Welch's test of it is the test of one mean.
        mean, sd, n = given[0]
        result, notes = _run(
            students.ttest_from_stats, mean, sd, n, popmean, 0.0, 2, equal_var=False, alternative=alternative
        )
        low, high = result.confidence_interval(level)
        result = replace(result, estimate=mean, n=n, method="one-sample t")
        effect = "Cohen's d", (mean - popmean) / sd
        return Outcome(result, "mean", (low + popmean, high + popmean), effect, data, notes)
    result, notes = _run(students.ttest_from_stats, *given[0], *given[1], equal_var=equal_var, alternative=alternative)
    spread = _spread([n for _, _, n in given], [sd for _, sd, _ in given], equal_var=equal_var)
    effect = "Cohen's d", result.estimate / spread
    return Outcome(result, "difference of means", result.confidence_interval(level), effect, data, notes)


def _spread(sizes: Sequence[float], spreads: Sequence[float], *, equal_var: bool) -> float:
    """Return the standard deviation that d is measured in: pooled, or of the mean variance where they differ."""
    weights = [n - 1 for n in sizes] if equal_var else [1.0, 1.0]
    return math.sqrt(sum(w * sd * sd for w, sd in zip(weights, spreads, strict=True)) / sum(weights))


def _sd(x: Array) -> float:
    return float(x.std(ddof=1))


def _told(x: Array) -> str:
    return f"mean {x.mean():.6g}, standard deviation {_sd(x):.4g}, n {x.size}"


def _wilson(k: float, n: float, z: float) -> Interval:
    share, square = k / n, z * z / n
    middle = (share + square / 2) / (1 + square)
    reach = z * math.sqrt(share * (1 - share) / n + square / n / 4) / (1 + square)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def _binomial(k: int, n: int, base: float) -> Result:
    tails = [
        (float(side(at, n, base)), float(log(at, n, base)))
        for side, log, at in ((binom.cdf, binom.logcdf, k), (binom.sf, binom.logsf, k - 1))
    ]
    pvalue, log_pvalue = min(tails)
    log_pvalue = min(0.0, log_pvalue + math.log(2))
    return Result(k, min(1.0, 2 * pvalue), log_pvalue, math.nan, k / n, math.nan, n, "two-sided", "binomial, exact")


def _clopper_pearson(k: int, n: int, level: float) -> Interval:
    tail = (1 - level) / 2
    below, above = float(f.isf(tail, 2 * (n - k + 1), 2 * k)) if k else math.inf, n - k
    low = k / (k + (n - k + 1) * below) if k else 0.0
    if not above:
        return low, 1.0
    ratio = float(f.isf(tail, 2 * (k + 1), 2 * above))
    return low, (k + 1) * ratio / (above + (k + 1) * ratio)


def _angle(share: float) -> float:
    return 2 * math.asin(math.sqrt(share))


def is_numbers(text: str) -> bool:
    """Say whether a text is numbers with commas between them."""
    try:
        numbers(text)
    except ValueError:
        return False
    return True


def _finite(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
