"""Plan a service, and audit other people's numbers."""

import csv
import json
import sys
from dataclasses import asdict
from math import inf, isfinite
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from capacity import sweeps, zoo
from capacity.gpus import gpu as named_gpu
from capacity.plan import Answer, Parts, Question, Speed, answer, curve
from capacity.rooflines import TYPICAL, Efficiency
from capacity.sweeps import MOST_READ, Published, Replay, Verdict, audit, replayed
from capacity.weights import Precision
from harness import tool
from harness.exercise import choose_all

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
WIDTH = None if sys.stdout.isatty() else 100
console, stderr = Console(width=WIDTH, highlight=False), Console(stderr=True, highlight=False)

ConfigOption = Annotated[str, typer.Option(help="config.json, its folder, or a name such as llama-3.1-8b")]
GpuOption = Annotated[str, typer.Option(help="a100, h100, h200, b200, l40s or l4")]
GpusOption = Annotated[int, typer.Option(help="GPUs that share one copy of the model")]
PrecisionOption = Annotated[str, typer.Option(help="bf16, fp8, int8 or int4")]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON document")]
MineOption = Annotated[str, typer.Option(help="run your starters where they are solved; or the name of one exercise")]


@app.callback(invoke_without_command=True)
def demonstrate(context: typer.Context, mine: MineOption = "") -> None:
    """Capacity arithmetic. Without a command: plan a service for an 8B model, and audit a published sweep."""
    if context.invoked_subcommand is None:
        serve(mine=mine)
        check_table(mine=mine)


@app.command()
def serve(
    config: ConfigOption = "llama-3.1-8b",
    gpu: GpuOption = "h100",
    gpus: GpusOption = 1,
    precision: PrecisionOption = "bf16",
    rate: Annotated[float, typer.Option(help="requests a second, over all replicas")] = 20.0,
    prompt: Annotated[int, typer.Option(help="tokens in")] = 1000,
    output: Annotated[int, typer.Option(help="tokens out")] = 300,
    slo: Annotated[float, typer.Option(help="seconds to the first token, 99th percentile")] = 1.0,
    itl: Annotated[float, typer.Option(help="seconds between tokens, 99th percentile of requests; 0: no limit")] = 0.0,
    price: Annotated[float, typer.Option(help="money for an hour of one GPU; 0: say nothing of money")] = 0.0,
    measured: Annotated[str, typer.Option(help="TTFT,ITL in seconds of one request alone: calibrates")] = "",
    explain: Annotated[bool, typer.Option("--explain", help="where each number comes from")] = False,  # noqa: FBT002
    out: Annotated[Path | None, typer.Option(help="write a picture over load to this SVG file")] = None,
    as_json: JsonOption = False,  # noqa: FBT002
    mine: MineOption = "",
) -> None:
    """Say how many replicas a load needs, what binds, and how latency grows with load."""
    if not 0 <= price < inf:
        msg = f"price must be a number, not negative, not {price}"
        raise ValueError(msg)
    if out and not out.absolute().parent.is_dir():
        msg = f"no folder {out.parent} for the picture"
        raise ValueError(msg)
    parts = _parts(mine)
    card, plan, model = named_gpu(gpu), Precision.named(precision), zoo.load(config)
    given = _calibrated(parts, measured, prompt, (model, card, plan, gpus)) if measured else TYPICAL
    asked = Question(model, card, plan, gpus, rate, prompt, output, slo, itl)
    found = answer(asked, given, parts)
    if out and found.typical:
        _picture(asked, found.typical, parts, out)
    if as_json:
        sys.stdout.write(json.dumps(asdict(found), indent=1) + "\n")
        return
    title = f"{config} in {precision} on {gpus} x {card.name}: {rate:g} requests/s of {prompt} + {output} tokens"
    console.print(f"{title}\n{_fit_lines(found)}\n", soft_wrap=True)
    if found.bound and found.typical:
        money = [_money(asked, speed, price, parts) for speed in (found.bound, found.typical)] if price else None
        console.print(_table(asked, found.bound, found.typical, money))
    if explain:
        console.print("")
        console.print(_explain(asked, found, given), soft_wrap=True)
    if out and found.typical:
        stderr.print(f"picture: {out}", soft_wrap=True)


def _calibrated(parts: Parts, measured: str, prompt: int, on: tuple[object, ...]) -> Efficiency:
    try:
        ttft, itl = (float(word) for word in measured.split(","))
    except ValueError:
        msg = f"--measured takes two numbers of seconds such as 0.035,0.012, not {measured!r}"
        raise ValueError(msg) from None
    model, card, plan, gpus = on
    found: Efficiency = parts.rooflines.calibrate(model, card, plan, prompt, ttft, itl, gpus)
    return found


def _parts(mine: str) -> Parts:
    names = ("concurrency", "rooflines", "serving", "costs")
    return Parts(**choose_all("capacity", names, mine))


def _fit_lines(found: Answer) -> str:
    fit, spent = found.fit, found.fit.budget
    memory = f"memory of a GPU: {spent.total / 1e9:.1f} GB, {spent.held / 1e9:.1f} held back, "
    memory += f"{spent.weights / 1e9:.1f} weights, {spent.cache / 1e9:.1f} left for the cache"
    if not fit.requests:
        return (
            f"{memory}\ndoes not fit ({fit.binding}): {fit.short / 1e9:.2f} GB short on each GPU, so there is no speed"
        )
    both = f"{fit.requests} requests at full length, {fit.typical} at average length"
    return f"{memory}\nfits {both}; binding: {fit.binding}"


def _table(asked: Question, bound: Speed, typical: Speed, money: list[tuple[float, float]] | None) -> Table:
    found = Table(box=None, pad_edge=False)
    for head in ("", "at the peaks", "typical"):
        found.add_column(head, justify="left" if not head else "right", no_wrap=True)
    pair = (bound, typical)

    def row(head: str, *cells: str) -> None:
        found.add_row(head, *cells)

    row("prompt read alone", *(f"{s.first.seconds * 1e3:.1f} ms ({s.first.bound})" for s in pair))
    row(f"step of {bound.server.seats} requests", *(f"{s.step.seconds * 1e3:.1f} ms ({s.step.bound})" for s in pair))
    row("requests/s of a full server", *(f"{s.saturation:.2f}" for s in pair))
    row("output tokens/s of a full server", *(f"{s.saturation * asked.output:.0f}" for s in pair))
    row("replicas", *(str(s.replicas) if s.replicas else "none is enough" for s in pair))
    row("which follow from", *(s.binding for s in pair))
    row("utilization", *(f"{s.utilization:.0%}" for s in pair))
    row("first token, median", *(f"{s.ttft_p50 * 1e3:.0f} ms" for s in pair))
    row("first token, 99 %", *(f"{s.ttft_p99 * 1e3:.0f} ms" for s in pair))
    row("between tokens, 99 %", *(f"{s.itl_p99 * 1e3:.1f} ms" for s in pair))
    if money:
        row("money for 1,000 requests", *(f"{each[0]:.3f}" for each in money))
        row("money for a million output tokens", *(f"{each[1]:.3f}" for each in money))
    return found


def _money(asked: Question, speed: Speed, price: float, parts: Parts) -> tuple[float, float]:
    if not speed.replicas:
        return float("nan"), float("nan")
    paid = (price, asked.gpus, asked.rate)
    thousand: float = parts.costs.cost_per_1k_requests(*paid, speed.replicas)
    million: float = parts.costs.cost_per_million_tokens(*paid, asked.output, speed.replicas)
    return thousand, million


def _explain(asked: Question, found: Answer, given: Efficiency) -> str:
    lines = [
        "weights: every matrix times its bits, scales included (capacity.weights)",
        "cache: 2 x layers x kv_heads x head_dim x bits / 8 a token, in blocks of 16 (capacity.caching)",
        "fits: (memory - held back - weights) / cache of a request (capacity.concurrency)",
        "prompt, step: max(FLOPs / peak, bytes / bandwidth) + all-reduce + overhead (capacity.rooflines)",
        "full server: 1 / (t_prefill + output x t_step / batch) (capacity.serving)",
        "replicas, percentiles: simulated, Poisson arrivals, fixed lengths, start dropped by MSER-5 (capacity.serving)",
        f"typical: {given.compute:.2f} of peak, {given.bandwidth:.2f} of bandwidth, {given.link:.2f} of link, "
        f"{given.overhead * 1e3:.2f} ms overhead, rounded roofline" + ("" if given is not TYPICAL else " (assumed)"),
    ]
    for name, source in asked.gpu.sources.items():
        lines.append(f"{asked.gpu.name} {name}: {source.text}; checked {source.checked}")
    if found.fit.short:
        lines.append("short: one request at full length, less what is left for the cache")
    return "\n".join(lines)


def _picture(asked: Question, speed: Speed, parts: Parts, path: Path) -> None:
    """Draw latency over load of one server."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - half a second that no other command needs

    rates, p50, p99, itl = zip(*curve(asked, speed.server, speed.saturation, parts), strict=True)
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for label, seconds in (("first token, median", p50), ("first token, 99 %", p99), ("between tokens, 99 %", itl)):
        axes.plot(rates, [1e3 * value for value in seconds], marker="o", markersize=3, label=label)
    axes.axhline(1e3 * asked.slo, color="grey", linestyle=":", label="limit of the first token")
    axes.axvline(speed.saturation, color="grey", linestyle="--", label="full")
    axes.set(xlabel="requests/s of one server", ylabel="milliseconds", yscale="log", title="typical latency over load")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    axes.grid(alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    scratch = path.with_name(f".{path.name}.tmp")
    try:
        figure.savefig(scratch, format="svg", metadata={"Date": None})
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)  # there only if writing was cut short


COLUMNS = ("concurrency", "ttft", "itl", "throughput")


@app.command("audit")
def check_table(
    table: Annotated[str, typer.Argument(help=f"CSV, or a sweep of the package: {', '.join(sweeps.names())}")] = "",
    config: Annotated[str, typer.Option(help="as of serve; else the sweep's, or llama-3.1-70b")] = "",
    gpu: Annotated[str, typer.Option(help="as of serve; else the sweep's, or h100")] = "",
    gpus: Annotated[int, typer.Option(help="GPUs that share the model; else the sweep's, or 4")] = 0,
    precision: Annotated[str, typer.Option(help="as of serve; else the sweep's, or bf16")] = "",
    prompt: Annotated[int, typer.Option(help="tokens in, where a CSV has no such column")] = 200,
    output: Annotated[int, typer.Option(help="tokens out, where a CSV has no such column")] = 200,
    replay: Annotated[bool, typer.Option("--replay", help="predict from the row with concurrency 1")] = False,  # noqa: FBT002
    chunk: Annotated[int, typer.Option(help="prompt tokens a step of the replay reads at most; 0: all")] = MOST_READ,
    as_json: JsonOption = False,  # noqa: FBT002
    mine: MineOption = "",
) -> None:
    """Apply Little's law and the roofline to published numbers; exit 1 where a row cannot be true.

    The CSV has the columns concurrency, ttft and itl (seconds) and throughput (output tokens/s, all requests together),
    and where they differ from row to row prompt and output (tokens).
    """
    parts = _parts(mine)
    rows, known = _published(table or sweeps.names()[0], prompt, output)
    config, gpu = config or (known.config if known else "llama-3.1-70b"), gpu or (known.gpu if known else "h100")
    gpus, precision = gpus or (known.gpus if known else 4), precision or (known.precision if known else "bf16")
    model, card, plan = zoo.load(config), named_gpu(gpu), Precision.named(precision)
    found = audit(rows, model, card, plan, gpus, parts)
    predicted = replayed(rows, model, card, plan, gpus, parts, chunk) if replay else None
    if as_json:
        document: dict[str, object] = {"rows": [asdict(verdict) for verdict in found]}
        if predicted:
            document |= {"constants": asdict(predicted.constants), "measured": predicted.measured}
            fields = ("ttft", "itl", "throughput")
            document["predicted"] = [{name: getattr(row, name) for name in fields} for row in predicted.rows]
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
    else:
        if known:
            console.print(known.title, soft_wrap=True)
        console.print(f"{config} in {precision} on {gpus} x {card.name}", soft_wrap=True)
        console.print(_verdicts(found))
        if predicted:
            console.print(f"\n{_constants(predicted)}", soft_wrap=True)
            console.print(_predictions(predicted))
            itl, tokens = predicted.worst
            console.print(f"largest errors: {itl:.1%} between tokens, {tokens:.1%} in tokens/s", soft_wrap=True)
    if any(verdict.impossible for verdict in found):
        raise typer.Exit(1)


def _published(table: str, prompt: int, output: int) -> tuple[list[Published], sweeps.Sweep | None]:
    """Read a CSV or one of the package's sweeps; None stands for a CSV."""
    path = Path(table)
    if path.is_file():
        return _rows(path.read_text("utf-8"), table, prompt, output), None
    if table not in sweeps.names():
        msg = f"no table at {table!r}: not a file, not one of {', '.join(sweeps.names())}"
        raise ValueError(msg)
    known = sweeps.load(table)
    return list(known.rows), known


def _rows(text: str, name: str, prompt: int, output: int) -> list[Published]:
    reader = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    if missing := [column for column in COLUMNS if column not in (reader.fieldnames or [])]:
        msg = f"{name} has no column {', '.join(missing)}; it needs {', '.join(COLUMNS)}"
        raise ValueError(msg)
    rows = []
    for number, cells in enumerate(reader, 1):
        try:
            ttft, itl, throughput = (float(cells[column]) for column in COLUMNS[1:])
            tokens = int(cells.get("prompt") or prompt), int(cells.get("output") or output)
            row = Published(int(cells["concurrency"]), ttft, itl, throughput, *tokens)
        except (TypeError, ValueError):
            msg = f"{name}, row {number}: numbers are needed, not {list(cells.values())}"
            raise ValueError(msg) from None
        measured = (row.ttft, row.itl, row.throughput)
        if min(row.concurrency, row.prompt, row.output) < 1 or not all(isfinite(x) and x > 0 for x in measured):
            given = list(cells.values())
            msg = f"{name}, row {number}: counts must be at least 1, times and rates above 0, not {given}"
            raise ValueError(msg)
        rows.append(row)
    if not rows:
        msg = f"{name} has no rows"
        raise ValueError(msg)
    return rows


def _verdicts(found: list[Verdict]) -> Table:
    table = Table(box=None, pad_edge=False)
    for head in ("users", "in system", "TTFT ms", "least", "ITL ms", "least", "tokens/s", "most"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("verdict")
    for each in found:
        row = each.row
        cells = (row.ttft * 1e3, each.least_ttft * 1e3, row.itl * 1e3, each.least_itl * 1e3)
        verdict = "; ".join(f"IMPOSSIBLE: {why}" for why in each.impossible) or "; ".join(each.odd) or "possible"
        rates = (f"{row.throughput:.0f}", f"{each.most_throughput:.0f}")
        table.add_row(
            str(row.concurrency), f"{each.in_system:.1f}", *(f"{cell:.1f}" for cell in cells), *rates, verdict
        )
    return table


def _constants(found: Replay) -> str:
    given = found.constants
    words = f"predicted from one user alone: {given.compute:.2f} of peak, {given.overhead * 1e3:.2f} ms overhead"
    words += f"; {given.bandwidth:.2f} of bandwidth and {given.link:.2f} of link assumed"
    if not found.measured:
        words += "\nits prompt is too short to show how fast batches multiply: reading the weights alone takes longer"
    return words


def _predictions(found: Replay) -> Table:
    table = Table(box=None, pad_edge=False)
    for head in ("users", "TTFT ms", "predicted", "ITL ms", "predicted", "error", "tokens/s", "predicted", "error"):
        table.add_column(head, justify="right", no_wrap=True)
    for each in found.rows:
        row = each.row
        first = (f"{row.ttft * 1e3:.0f}", f"{each.ttft * 1e3:.0f}")
        pair = (f"{row.itl * 1e3:.1f}", f"{each.itl * 1e3:.1f}", f"{each.itl / row.itl - 1:+.1%}")
        tokens = each.throughput
        rates = (f"{row.throughput:.0f}", f"{tokens:.0f}", f"{tokens / row.throughput - 1:+.1%}")
        table.add_row(str(row.concurrency), *first, *pair, *rates)
    return table


def main() -> None:
    """Run the tool."""
    tool.run(app)
