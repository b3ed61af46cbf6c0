"""Compare two models by their evaluation results."""

import json
import sys
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from harness.exercise import bare_mine, choose
from stats.compare import Finding, compare, read

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console, stderr = Console(width=None if sys.stdout.isatty() else 100), Console(stderr=True)
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
    metric: Annotated[str, typer.Option(help="the field with the score; dots reach into nested ones")] = "correct",
    paired_on: Annotated[str, typer.Option(help="the field that tells the items apart")] = "id",
    cluster_by: Annotated[str | None, typer.Option(help="the field whose items belong together")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the picture")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,  # noqa: FBT002
    mine: MineOption = "",
) -> None:
    """Pair two models' results, test their difference, and say how small a one these items can show."""
    pairing = choose("stats.pairing", mine)
    ours, theirs = (read(path, metric, paired_on, cluster_by) for path in (first, second))
    found = compare(ours, theirs, pairing, clustered=cluster_by is not None)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        picture(found, (first.stem, second.stem), out / "compare.svg")
    if as_json:
        keys = ("estimate", "confidence_interval", "pvalue", "method", "n", "power", "detectable")
        sys.stdout.write(json.dumps({key: asdict(found)[key] for key in keys}) + "\n")
    else:
        show(found, metric, (first.stem, second.stem))
    if out is not None:
        stderr.print(f"picture: {out / 'compare.svg'}", highlight=False)


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
    if found.detectable is None or found.power is None:
        table.add_row("smallest difference found", "unknown: all differences are the same, and so is their spread")
    else:
        table.add_row("smallest difference found", f"{found.detectable:.4f} with 80 % power at 5 %")
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
    """Run the tool; what a user did wrong is one line, not a traceback."""
    try:
        app(bare_mine(sys.argv[1:]))
    except (ValueError, TypeError, OSError) as error:
        first = str(error).strip().split("\n")[0]
        sys.stderr.write(f"error: {first}\n")
        raise SystemExit(1) from None
