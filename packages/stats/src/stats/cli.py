"""Compare two models by their evaluation results."""

import itertools
import json
import math
import sys
import warnings
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from harness import tool
from harness.exercise import choose_all
from stats import ab, single
from stats.compare import ALPHA, Finding, compare, read

TINY = 1e-100  # a p-value below is told by its logarithm as well
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
NEGATIVE = {"ignore_unknown_options": True}  # a number below 0 is no option
tests = typer.Typer(no_args_is_help=True, help="One test, of files or of numbers as you type them.")
app.add_typer(tests, name="test")
console, stderr = Console(width=None if sys.stdout.isatty() else 100, markup=False, emoji=False), Console(stderr=True)
MetricOption = Annotated[
    str | None, typer.Option(help="the field with the score; dots reach into nested ones  (correct, acc, ...)")
]
KeyOption = Annotated[str | None, typer.Option(help="the field that tells the items apart  (id or doc_id)")]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON document")]
LevelOption = Annotated[float, typer.Option(help="of the confidence interval")]
AlternativeOption = Annotated[str, typer.Option(help="two-sided, greater or less")]
MineOption = Annotated[str, typer.Option(help="run your starters where they are solved; or the name of one exercise")]


@app.callback(invoke_without_command=True)
def demonstrate(context: typer.Context, mine: MineOption = "") -> None:
    """Statistics for evaluations. Without a command: compare tinylm in fp32 with itself rounded to 3 bits."""
    if context.invoked_subcommand is None:
        folder = Path(str(files("stats"))) / "demo"
        names = ("fp32.jsonl", "rtn3-g32.jsonl")
        stderr.print("python -m stats compare fp32.jsonl rtn3-g32.jsonl --cluster-by doc", highlight=False)
        compare_files(folder / names[0], folder / names[1], cluster_by="doc", mine=mine, out=Path("stats-report"))


@app.command("compare")
def compare_files(
    first: Annotated[Path, typer.Argument(help="JSONL or CSV, one record an item")],
    second: Annotated[Path, typer.Argument(help="the other model's, for the same items")],
    others: Annotated[list[Path] | None, typer.Argument(help="more models: a matrix, corrected for many")] = None,
    metric: MetricOption = None,
    paired_on: KeyOption = None,
    cluster_by: Annotated[str | None, typer.Option(help="the field whose items belong together")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the picture")] = None,
    as_json: JsonOption = False,  # noqa: FBT002
    mine: MineOption = "",
) -> None:
    """Pair two models' results, test their difference, and say how small a one these items can show."""
    pairing, sizes = choose_all("stats", ("pairing", "sample_size"), mine).values()
    if others:
        paths = [first, second, *others]
        sides = [read(path, metric, paired_on, cluster_by) for path in paths]
        matrix(
            sides,
            [path.stem for path in paths],
            (pairing, sizes),
            clustered=cluster_by is not None,
            as_json=as_json,
            out=out,
        )
        return
    ours, theirs = (read(path, metric, paired_on, cluster_by) for path in (first, second))
    found = compare(ours, theirs, pairing, sizes, clustered=cluster_by is not None)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        picture(found, (first.stem, second.stem), out / "compare.svg")
    if as_json:
        keys = ("estimate", "confidence_interval", "pvalue", "method", "n", "power", "detectable")
        sys.stdout.write(json.dumps({key: asdict(found)[key] for key in keys}) + "\n")
    else:
        show(found, metric or "score", (first.stem, second.stem))
    if out is not None:
        stderr.print(f"picture: {out / 'compare.svg'}", highlight=False)


def matrix(
    sides: list[dict[str, tuple[float, str]]],
    names: list[str],
    code: tuple[ModuleType, ModuleType],
    *,
    clustered: bool,
    as_json: bool,
    out: Path | None,
) -> None:
    """Compare each model with each, the p-values corrected for all of them (Holm)."""
    pairs = list(itertools.combinations(range(len(sides)), 2))
    found = [compare(sides[i], sides[j], *code, clustered=clustered) for i, j in pairs]
    pvalues = [float(p) for p in code[0].adjust_pvalues([one.pvalue for one in found], "holm")]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        picture_matrix(pairs, [one.estimate for one in found], pvalues, names, out / "matrix.svg")
    table = Table(box=None, pad_edge=False)
    for column in ("first", "second", "difference", "95 % interval", "p", "p, Holm"):
        table.add_column(column, justify="left" if column in ("first", "second") else "right")
    rows = []
    for (i, j), one, adjusted in zip(pairs, found, pvalues, strict=True):
        low, high = one.confidence_interval
        interval = f"{low:+.4f} to {high:+.4f}"
        table.add_row(names[i], names[j], f"{one.estimate:+.4f}", interval, f"{one.pvalue:.3g}", f"{adjusted:.3g}")
        row = {"first": names[i], "second": names[j], "estimate": one.estimate, "confidence_interval": [low, high]}
        rows.append({**row, "pvalue": one.pvalue, "pvalue_holm": adjusted, "method": one.method, "n": one.n})
    if as_json:
        sys.stdout.write(json.dumps(rows) + "\n")
    else:
        console.print(table, highlight=False)
    if out is not None:
        stderr.print(f"picture: {out / 'matrix.svg'}", highlight=False)


def picture_matrix(
    pairs: list[tuple[int, int]], estimates: list[float], pvalues: list[float], names: list[str], path: Path
) -> None:
    """Draw a matrix of differences, those that survive the correction in bold."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - half a second that the numbers need not wait for

    count, widest = len(names), max(map(abs, estimates)) or 1.0
    figure = Figure(figsize=(3 + 0.9 * count, 1.4 + 0.6 * count), layout="constrained")
    axes = figure.add_subplot()
    cells = [[math.nan] * count for _ in names]
    for (i, j), estimate, pvalue in zip(pairs, estimates, pvalues, strict=True):
        for row, column, value in ((i, j, estimate), (j, i, -estimate)):
            cells[row][column] = value
            weight = "bold" if pvalue <= ALPHA else "normal"
            axes.text(column, row, f"{value:+.3f}", ha="center", va="center", weight=weight, fontsize="small")
    axes.imshow(cells, cmap="RdBu", vmin=-1.5 * widest, vmax=1.5 * widest, aspect="auto")
    axes.set(xticks=range(count), yticks=range(count))
    axes.set_title("row minus column; bold: p at most 0.05 after Holm", fontsize="small")
    axes.set_xticklabels(names, rotation=30, ha="right")
    axes.set_yticklabels(names)
    scratch = path.with_name(f".{path.name}.tmp")
    figure.savefig(scratch, format="svg", metadata={"Date": None})
    scratch.replace(path)


@app.command("ab")
def ab_test(
    first: Annotated[str, typer.Argument(help="a file, one record a unit; or the treatment's counts, as 530/10000")],
    second: Annotated[str | None, typer.Argument(help="the control's counts")] = None,
    unit: Annotated[str | None, typer.Option(help="the field that tells units apart  (unit, user, id, ...)")] = None,
    variant: Annotated[str | None, typer.Option(help="the field with the arm  (variant, arm, group)")] = None,
    metric: Annotated[str | None, typer.Option(help="the field that is compared  (metric, value)")] = None,
    before: Annotated[str | None, typer.Option(help="the same from before the experiment: CUPED")] = None,
    per: Annotated[str | None, typer.Option(help="the field that a ratio metric is divided by")] = None,
    guardrail: Annotated[
        list[str] | None, typer.Option(help="a metric that must not get worse by a margin, as latency:5%:rise")
    ] = None,
    sequential: Annotated[  # noqa: FBT002
        bool, typer.Option("--sequential", help="valid however often you look; records in the order they came")
    ] = False,
    control: Annotated[str | None, typer.Option(help="the arm that others are compared with  (control)")] = None,
    weights: Annotated[
        str | None, typer.Option(help="shares that were asked for: control=0.9,new=0.1; of counts 0.1,0.9")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the picture")] = None,
    as_json: JsonOption = False,  # noqa: FBT002
    mine: MineOption = "",
) -> None:
    """Test an A/B test: first whether the split can be trusted, then the difference, then what must not get worse."""
    experiments, pairing = choose_all("stats", ("experiments", "pairing"), mine).values()
    fields = ab.Fields(unit, variant, metric, per, before, sequential)
    if second is not None or first.replace("/", "").isdecimal():
        if second is None or any((unit, variant, metric, before, per, guardrail, control, out, sequential)):
            msg = f"{first} {second or ''}: two counts, with at most --weights, or one file with its fields"
            raise ValueError(msg)
        counts(first, second, weights or "0.5,0.5", experiments, as_json=as_json)
        return
    found = ab.analyse(
        Path(first),
        fields,
        (experiments, pairing),
        guardrails=[ab.guardrail_of(text) for text in guardrail or ()],
        control=control,
        weights=None if weights is None else ab.weights_of(weights),
    )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        picture_arms(found, out / "ab.svg")
    if as_json:
        sys.stdout.write(json.dumps(asdict(found)) + "\n")
    else:
        show_experiment(found)
    if out is not None:
        stderr.print(f"picture: {out / 'ab.svg'}", highlight=False)


def show_experiment(found: ab.Experiment) -> None:
    """Print the split, each arm against the control, and the guardrails."""
    units = ", ".join(f"{n} {name}" for name, n in found.units.items())
    console.print(f"sample ratio  {units}: {verdict(found.srm_pvalue)}", highlight=False)
    table = Table(box=None, pad_edge=False)
    many = len(found.contrasts) > 1
    for name in ("arm", found.metric, found.control, "difference", "95 % interval", "p", *["p, Holm"] * many):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for one in found.contrasts:
        low, high = one.confidence_interval
        means = (f"{mean:.4g}" for mean in one.means)
        corrected = [f"{one.adjusted:.3g}"] * many
        interval = f"{low:+.4g} to {high:+.4g}"
        table.add_row(one.arm, *means, f"{one.estimate:+.4g}", interval, f"{one.pvalue:.3g}", *corrected)
    console.print(table, highlight=False)
    first = found.contrasts[0]
    gain = "" if first.shorter is None else f": the interval is {first.shorter:.0%} shorter than without the covariate"
    console.print(f"by {first.method}{gain}", highlight=False)
    for one in found.contrasts:
        for kept in one.guardrails:
            word = "at worst" if kept.safe else "NOT SHOWN SAFE: perhaps"
            told = f"{word} {kept.limit:+.4g}, a {kept.harm} of {kept.margin:.4g} is the margin; p = {kept.pvalue:.3g}"
            console.print(f"guardrail {kept.metric}, {one.arm}: {kept.estimate:+.4g}, {told}", highlight=False)


def picture_arms(found: ab.Experiment, path: Path) -> None:
    """Draw each arm's difference from the control with its interval."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - half a second that the numbers need not wait for

    figure = Figure(figsize=(7, 1.4 + 0.4 * len(found.contrasts)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(0, color="0.5", linewidth=1)
    for row, one in enumerate(found.contrasts):
        axes.plot(one.confidence_interval, [row, row], linewidth=3, solid_capstyle="butt", color="C0")
        axes.plot([one.estimate], [row], "o", color="black")
    axes.set_yticks(range(len(found.contrasts)), [one.arm for one in found.contrasts])
    axes.set(ylim=(len(found.contrasts) - 0.5, -0.5), xlabel=f"{found.metric}, arm minus {found.control}")
    axes.set_title(f"sample ratio: {verdict(found.srm_pvalue)}", fontsize="small")
    for side in ("left", "top", "right"):
        axes.spines[side].set_visible(False)
    scratch = path.with_name(f".{path.name}.tmp")
    figure.savefig(scratch, format="svg", metadata={"Date": None})
    scratch.replace(path)


def verdict(pvalue: float) -> str:
    """Say whether a split can be trusted."""
    return f"p = {pvalue:.3g}, " + (
        "the split cannot be trusted: find the bug first" if pvalue < ab.MISMATCH else "no sign of a bug"
    )


def counts(first: str, second: str, weights: str, experiments: ModuleType, *, as_json: bool) -> None:
    """Test two shares: the treatment's successes of its units, and the control's."""
    shares = [single.successes(text) for text in (first, second)]
    asked = single.numbers(weights)
    if len(asked) != len(shares):
        msg = f"--weights {weights}: must be two shares, such as 0.5,0.5"
        raise ValueError(msg)
    if min(n for _, n in shares) < 2:  # noqa: PLR2004
        msg = f"{first} {second}: at least 2 units are needed on both sides"
        raise ValueError(msg)
    mismatch = experiments.srm([n for _, n in shares], asked)
    # Of units that are their own denominator the ratio is a share, and the test Welch's.
    units = [np.repeat([1.0, 0.0], (k, n - k)) for k, n in shares]
    found = experiments.ratio_metric(units[0], np.ones(units[0].size), units[1], np.ones(units[1].size))
    odds = experiments.ab_beta_binomial(*shares[0], *shares[1])
    low, high = map(float, found.confidence_interval(0.95))
    document = {"estimate": found.estimate, "confidence_interval": [low, high], "pvalue": found.pvalue}
    document |= {"srm_pvalue": mismatch.pvalue, "first_better": odds.first_better}
    document |= {"loss_first": odds.loss_first, "loss_second": odds.loss_second}
    if as_json:
        sys.stdout.write(json.dumps(document) + "\n")
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_row("sample ratio", verdict(mismatch.pvalue))
    table.add_row("shares", " against ".join(f"{k / n:.4f} of {n}" for k, n in shares))
    table.add_row("difference", f"{found.estimate:+.4f}   95 % interval {low:+.4f} to {high:+.4f}")
    table.add_row("p-value", f"{found.pvalue:.3g}   Welch's t")
    table.add_row("first is better", f"{odds.first_better:.4f}   with flat priors")
    table.add_row("expected loss", f"{odds.loss_first:.2g} by choosing the first, {odds.loss_second:.2g} the second")
    console.print(table, highlight=False)


@tests.command("ttest", context_settings=NEGATIVE)
def ttest(
    samples: Annotated[list[str], typer.Argument(help="one or two: FILE, FILE:FIELD, or mean,sd,n")],
    popmean: Annotated[float, typer.Option(help="the mean that one sample is tested against")] = 0.0,
    paired: Annotated[bool, typer.Option("--paired", help="value by value, in the files' order")] = False,  # noqa: FBT002
    equal_var: Annotated[bool, typer.Option("--equal-var", help="Student's test instead of Welch's")] = False,  # noqa: FBT002
    alternative: AlternativeOption = "two-sided",
    omit: Annotated[bool, typer.Option("--omit", help="leave out values that are missing")] = False,  # noqa: FBT002
    level: LevelOption = 0.95,
    as_json: JsonOption = False,  # noqa: FBT002
    mine: MineOption = "",
) -> None:
    """Student's and Welch's t: one mean, two, or pairs. With two samples the effect is first minus second."""
    (code,) = choose_all("stats", ("students",), mine).values()
    found = single.ttest(
        code,
        samples,
        popmean=popmean,
        paired=paired,
        equal_var=equal_var,
        alternative=alternative,
        omit=omit,
        level=level,
    )
    tell(found, level, as_json=as_json)


@tests.command("chi2", context_settings=NEGATIVE)
def chi2(
    rows: Annotated[list[str], typer.Argument(help="rows as 30,20 15,40; a file of counts; FILE:FIELD with --across")],
    across: Annotated[str | None, typer.Option(help="the field whose values are the columns")] = None,
    expected: Annotated[str | None, typer.Option(help="shares that one row is tested against, as 0.2,0.8")] = None,
    yates: Annotated[bool, typer.Option(help="Yates's correction of a 2 x 2 table")] = True,  # noqa: FBT002
    likelihood: Annotated[bool, typer.Option("--g", help="the G-test instead of Pearson's")] = False,  # noqa: FBT002
    as_json: JsonOption = False,  # noqa: FBT002
    mine: MineOption = "",
) -> None:
    """Chi-square: whether rows and columns are independent, or one row of counts fits what was expected."""
    shares = None if expected is None else single.numbers(expected)
    (code,) = choose_all("stats", ("contingency",), mine).values()
    table = single.table_of(rows, across)
    tell(single.chi2(code, table, expected=shares, yates=yates, likelihood=likelihood), 0.95, as_json=as_json)


@tests.command("mcnemar", context_settings=NEGATIVE)
def mcnemar(
    rows: Annotated[
        list[str], typer.Argument(help="two files of 0 and 1, or counts: both right,only first  only second,none")
    ],
    midp: Annotated[bool, typer.Option("--midp", help="count the observed table half")] = False,  # noqa: FBT002
    level: LevelOption = 0.95,
    as_json: JsonOption = False,  # noqa: FBT002
    mine: MineOption = "",
) -> None:
    """McNemar: two models, right or wrong on the same items."""
    if len(rows) != 2:  # noqa: PLR2004
        msg = f"{len(rows)} arguments: must be two files, or two rows of counts"
        raise ValueError(msg)
    (code,) = choose_all("stats", ("pairing",), mine).values()
    table = single.table_of(rows) if all(map(single.is_numbers, rows)) else single.pairs(rows)
    tell(single.mcnemar(code, table, midp=midp, level=level), level, as_json=as_json)


@tests.command("proportions", context_settings=NEGATIVE)
def proportions(
    counts: Annotated[list[str], typer.Argument(help="successes/units, as 530/10000; several to compare them")],
    base: Annotated[float, typer.Option(help="the share that a single one is tested against")] = 0.5,
    exact: Annotated[bool, typer.Option("--exact", help="binomial or Fisher's test")] = False,  # noqa: FBT002
    level: LevelOption = 0.95,
    as_json: JsonOption = False,  # noqa: FBT002
    mine: MineOption = "",
) -> None:
    """Shares: one against a number, or several against each other."""
    contingency, pairing = choose_all("stats", ("contingency", "pairing"), mine).values()
    shares = [single.successes(text) for text in counts]
    found = single.proportions((contingency, pairing), shares, base=base, exact=exact, level=level)
    tell(found, level, as_json=as_json)


def tell(found: single.Outcome, level: float, *, as_json: bool) -> None:
    """Print what a test found; what it warned of goes to stderr."""
    for note in found.notes:
        stderr.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    if as_json:
        sys.stdout.write(json.dumps(found.document()) + "\n")
        return
    r = found.result
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_row("test", r.method if r.alternative == "two-sided" else f"{r.method}, {r.alternative}")
    for line in found.data:
        table.add_row("", line)
    table.add_row("statistic", f"{r.statistic:.6g}" + (f"   df {r.df:.6g}" if math.isfinite(r.df) else ""))
    table.add_row("p-value", f"{r.pvalue:.4g}" + (f"   log p {r.log_pvalue:.6g}" if r.pvalue < TINY else ""))
    if found.interval is not None:
        low, high = found.interval
        sign = "+" if "difference" in found.of else ""
        ends = f"{100 * level:.6g} % interval {low:{sign}.4g} to {high:{sign}.4g}"
        table.add_row(found.of, f"{r.estimate:{sign}.4g}   {ends}")
    table.add_row(found.effect[0], f"{found.effect[1]:.4g}")
    console.print(table, highlight=False)


@app.command("power")
def power_of(
    test: Annotated[str, typer.Argument(help="ttest, proportions or chi2")],
    effect: Annotated[float | None, typer.Option(help="Cohen's d, a difference of shares, or Cohen's w")] = None,
    n: Annotated[float | None, typer.Option(help="units in the first sample")] = None,
    power: Annotated[float | None, typer.Option(help="the chance to find the effect")] = None,
    alpha: Annotated[float, typer.Option(help="the level of the test")] = 0.05,
    base: Annotated[float, typer.Option(help="the share without the effect")] = 0.5,
    as_json: JsonOption = False,  # noqa: FBT002
    mine: MineOption = "",
) -> None:
    """Say the one of effect, n and power that was left out, for two samples of one size."""
    if test not in ("ttest", "proportions", "chi2"):
        msg = f"{test!r} must be ttest, proportions or chi2"
        raise ValueError(msg)
    (sample_size,) = choose_all("stats", ("sample_size",), mine).values()
    given: dict[str, float | None] = {"effect": effect, "n": n, "power": power}
    found = float(sample_size.solve_power(test, **given, alpha=alpha, base=base))
    asked = next(name for name, value in given.items() if value is None)
    if as_json:
        sys.stdout.write(json.dumps({**given, asked: found, "alpha": alpha, "test": test}) + "\n")
    else:
        console.print(f"{asked}  {math.ceil(found)}" if asked == "n" else f"{asked}  {found:.4f}")


def show(found: Finding, metric: str, names: tuple[str, str]) -> None:
    """Print what was found, in words and numbers."""
    low, high = found.confidence_interval
    inside = f", {found.clusters} clusters" if found.clusters else ""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_row("items", f"{found.n}{inside}")
    for name, mean in zip(names, found.means, strict=True):
        table.add_row(f"mean {metric}, {name}", f"{mean:.4f}")
    table.add_row("difference", f"{found.estimate:+.4f}   95 % interval {low:+.4f} to {high:+.4f}")
    table.add_row("p-value", f"{found.pvalue:.3g}   {found.method}")
    table.add_row("why this test", found.why)
    if found.power is None:
        table.add_row("smallest difference found", f"unknown: {found.basis}")
    else:
        smallest = "none" if found.detectable is None else f"{found.detectable:.4f}"
        table.add_row("smallest difference found", f"{smallest} with 80 % power at 5 %   {found.basis}")
        table.add_row("power for the observed one", f"{found.power:.2f}")
    console.print(table, highlight=False)


def picture(found: Finding, names: tuple[str, str], path: Path) -> None:
    """Draw the difference with its interval, beside what these items can detect."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - half a second that the numbers need not wait for

    low, high = found.confidence_interval
    figure = Figure(figsize=(7, 2.2), layout="constrained")
    axes = figure.add_subplot()
    if found.detectable is not None:
        axes.axvspan(-found.detectable, found.detectable, color="0.92", label="too small to be found reliably")
    axes.axvline(0, color="0.5", linewidth=1)
    axes.plot([low, high], [0, 0], linewidth=3, solid_capstyle="butt", label="95 % interval")
    axes.plot([found.estimate], [0], "o", color="black", label="difference")
    axes.set(
        yticks=[], ylim=(-1, 1), xlabel=f"{names[0]} minus {names[1]}", title=f"p = {found.pvalue:.2g}, n = {found.n}"
    )
    axes.legend(loc="upper left", frameon=False, fontsize="small")
    for side in ("left", "top", "right"):
        axes.spines[side].set_visible(False)
    scratch = path.with_name(f".{path.name}.tmp")
    figure.savefig(scratch, format="svg", metadata={"Date": None})
    scratch.replace(path)


def main() -> None:
    """Run the tool; what the library warns of is one line too."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = note
        tool.run(app)


def note(message: Warning | str, *_: object, **__: object) -> None:
    """Tell a warning in one line."""
    sys.stderr.write(f"note: {message}\n")
