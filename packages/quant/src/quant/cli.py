"""Quantize a real model and show what it costs and brings."""

import json
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from harness import tool
from harness.exercise import choose_all
from models import documents, load
from quant import files
from quant.report import BATCH, WINDOW, Row, correctness, judge, make, measure, megabytes, positions
from quant.schemes import Parts, find

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
WIDTH = None if sys.stdout.isatty() else 100
console, stderr = Console(width=WIDTH), Console(stderr=True)

ModelOption = Annotated[str, typer.Option(help="tinylm, minilm, a folder, or an id of the Hugging Face hub")]
MineOption = Annotated[str, typer.Option(help="run your starters where they are solved; or the name of one exercise")]
ALL = "int8-dynamic,int8-static,int8-dynamic+emb8,int4-g32,rtn3-g32"
LANGUAGE = {"kl": "KL", "top1": "top-1", "accuracy": "accuracy", "perplexity": "perplexity"}
ENCODER = {"cosine_min": "min cosine", "top10": "top-10 kept"}


@app.callback(invoke_without_command=True)
def demonstrate(context: typer.Context, mine: MineOption = "") -> None:
    """Post-training quantization. Without a command: report on both embedded models."""
    if context.invoked_subcommand is None:
        for model, more in (("minilm", ""), ("tinylm", ",gptq4-g32")):
            report(model, scheme=ALL + more, mine=mine, out=Path("quant-report") / model)


@app.command()
def report(
    model: ModelOption = "minilm",
    scheme: Annotated[str, typer.Option("--schemes", help="names with commas between them")] = ALL,
    text: Annotated[Path | None, typer.Option(help="judge by this file: text, or one sentence on a line")] = None,
    out: Annotated[Path, typer.Option(help="folder of the picture and of report.json")] = Path("quant-report"),
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,  # noqa: FBT002
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps")] = "auto",
    mine: MineOption = "",
) -> None:
    """Measure accuracy, size and speed of a model in float32 and quantized."""
    parts = chosen(mine)
    names = [name.strip() for name in scheme.split(",") if name.strip()]
    if not names:
        msg = f"--schemes {scheme!r} names no scheme; fp32 alone measures the model as it is"
        raise ValueError(msg)
    for name in names:
        find(name, parts)
    words = read_text(text) if text else None
    folder(out)
    with stderr.status(f"loading {model}") as status:
        loaded = load(model, device=pick_device(device))
        rows = measure(loaded, names, parts, words, status.update)
    document = json.dumps({"model": model, "rows": [asdict(row) for row in rows]}, indent=1)
    write(out / "report.json", document.encode())
    picture(rows, title(model, loaded.model), out / "tradeoff.svg")
    if as_json:
        sys.stdout.write(document + "\n")
    else:
        console.print(title(model, loaded.model), highlight=False)
        console.print(table(rows, min(WINDOW, positions(loaded.model))))
    stderr.print(f"report: {out / 'tradeoff.svg'}   {out / 'report.json'}", highlight=False, soft_wrap=True)


@app.command()
def save(
    file: Annotated[Path, typer.Argument(help="the safetensors file to write")],
    model: ModelOption = "minilm",
    scheme: Annotated[str, typer.Option(help="one that `report` knows")] = "int8-dynamic",
) -> None:
    """Quantize a model and write it into one safetensors file."""
    find(scheme)
    files.refuse_place(file)
    loaded = load(model)
    before = megabytes(loaded.model) / 1e6
    with stderr.status(f"quantizing {model}"):
        quantized = make(loaded, scheme)
    files.save(replace(loaded, model=quantized), scheme, file)
    after = file.stat().st_size / 1e6
    console.print(
        f"{file}: {model} in {scheme}, {after:.1f} MB, {before:.1f} MB in fp32", highlight=False, soft_wrap=True
    )


@app.command("load")
def read(file: Annotated[Path, typer.Argument(help="a file of `quant save`")]) -> None:
    """Read a file of `quant save` and compare it with its float model."""
    with stderr.status(f"reading {file}"):
        loaded, scheme = files.load(file)
        original = load(loaded.name)
        quality = judge(original, loaded.model)
    words = ", ".join(f"{name} {value:.4f}" for name, value in quality.items() if value is not None)
    console.print(f"{file}: {loaded.name} in {scheme}: {words}", highlight=False, soft_wrap=True)


@app.command()
def tokens(
    model: ModelOption = "tinylm",
    scheme: Annotated[str, typer.Option(help="what is compared with fp32")] = "rtn3-g32",
    most: Annotated[int, typer.Option(help="tokens of each file, from its beginning")] = 256,
    out: Annotated[Path, typer.Option(help="folder of fp32.jsonl and SCHEME.jsonl")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document, write no files")] = False,  # noqa: FBT002
) -> None:
    """Write whether each held-out token is predicted right, in fp32 and in a scheme, clustered by file."""
    if most < 1:
        msg = f"most is {most}, must be at least 1"
        raise ValueError(msg)
    find(scheme)
    if not as_json:
        folder(out)
    loaded = load(model)
    correctness(loaded, {}, {}, most)  # refuses an encoder before it is quantized
    with stderr.status(f"reading {model} and {scheme}"):
        quantized = make(loaded, scheme)
        rows = correctness(loaded, {"fp32": loaded.model, scheme: quantized}, documents("heldout"), most)
    if as_json:
        sys.stdout.write(json.dumps({"model": model, "scheme": scheme, "rows": rows}) + "\n")
        return
    for name in dict.fromkeys(("fp32", scheme)):
        lines = "".join(json.dumps({"id": r["id"], "doc": r["doc"], "correct": r[name]}) + "\n" for r in rows)
        write(out / f"{name}.jsonl", lines.encode())
        share = sum(row[name] for row in rows) / len(rows)
        console.print(f"{out / name}.jsonl: {share:.4f} of {len(rows)} tokens right", highlight=False, soft_wrap=True)


def chosen(mine: str) -> Parts:
    """Return the reader's code where ``mine`` asks for it."""
    return Parts(**choose_all("quant", tuple(field.name for field in fields(Parts)), mine))


def read_text(path: Path) -> str:
    """Return what a file says, in UTF-8. Raises ValueError for other bytes, OSError where it cannot be read."""
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        msg = f"{path} is no UTF-8 text: {error.reason} at byte {error.start}"
        raise ValueError(msg) from error


def title(name: str, model: torch.nn.Module) -> str:
    """Say what was measured where."""
    device = next(model.parameters()).device.type
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    threads = f", {torch.get_num_threads()} threads" if device == "cpu" else ""
    return f"{name} ({millions:.1f} M parameters), {device}{threads}"


def table(rows: list[Row], window: int) -> Table:
    """Lay the rows out, with the columns that apply to the kind of model; ``window`` is that of a language model."""
    language = rows[0].kl is not None
    found = Table(box=None, pad_edge=False)
    found.add_column("scheme", no_wrap=True)
    one, many = ("ms/token", f"ms/{window}") if language else ("ms/one", f"ms/{BATCH}")
    quality = LANGUAGE if language else ENCODER
    for head in ("MB", "bits/w", *quality.values(), one, "x", many, "x"):
        found.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        values = [f"{getattr(row, name):.4f}" for name in quality]
        size = [f"{row.megabytes:.1f}", f"{row.bits_per_weight:.2f}"]
        times = (row.latency_ms, row.speedup_single, row.batch_ms, row.speedup)
        found.add_row(row.scheme, *size, *values, *("-" if value is None else f"{value:.2f}" for value in times))
    return found


def picture(rows: list[Row], heading: str, path: Path) -> None:
    """Draw what each scheme loses over its size, a disc's area its speed, and the line that only the best lie on."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - half a second that no other command needs

    language = rows[0].kl is not None
    lost = [max((row.kl or 0.0) if language else 1 - (row.cosine_min or 0.0), 0.0) for row in rows]
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_yscale("symlog", linthresh=min([v for v in lost if v > 1e-4 * max(lost)], default=1.0))
    best, front = float("inf"), []
    for value, row in sorted(zip(lost, rows, strict=True), key=lambda pair: (pair[1].megabytes, pair[0])):
        if value < best:
            best = value
            front.append((row.megabytes, value))
    axes.plot(*zip(*front, strict=True), color="C0", alpha=0.3, label="nothing smaller loses less")
    sizes = [100 * (row.speedup or 0.5) for row in rows]
    axes.scatter([row.megabytes for row in rows], lost, s=sizes, alpha=0.6, clip_on=False)
    axes.set(title=heading, xlabel="megabytes    (beside each name: how fast it is in batches, over fp32)")
    axes.set_ylabel("KL to fp32, nats per token" if language else "1 - worst cosine")
    axes.margins(0.1, 0.12)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0 if max(lost) else None)
    height = (axes.transData + axes.transAxes.inverted()).transform([(0, value) for value in lost])[:, 1].tolist()
    for row, value, place in zip(rows, lost, spread(height, 0.07), strict=True):
        words = f"{row.scheme}  {row.speedup:.2f}x" if row.speedup else f"{row.scheme}  not timed"
        line = {"arrowstyle": "-", "color": "0.7", "linewidth": 0.7}
        spot = (row.megabytes, value)
        axes.annotate(words, spot, (1.04, place), textcoords="axes fraction", va="center", arrowprops=line)
    axes.legend(loc="lower left", frameon=False)
    axes.grid(alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    with files.whole(path) as scratch:
        figure.savefig(scratch, format="svg", metadata={"Date": None})


def spread(places: list[float], gap: float) -> list[float]:
    """Move places along a line of length 1 so that neighbours, in their order, are at least ``gap`` apart."""
    order = sorted(range(len(places)), key=places.__getitem__)
    moved = [places[i] for i in order]
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    top = 1.0
    for i in reversed(range(len(moved))):
        moved[i] = top = min(moved[i], top)
        top -= gap
    result = dict(zip(order, moved, strict=True))
    return [result[i] for i in range(len(places))]


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with files.whole(path) as scratch:
        scratch.write_bytes(content)


def folder(path: Path) -> None:
    """Make a folder, and raise OSError where nothing can be written into it, before any work."""
    path.mkdir(parents=True, exist_ok=True)
    files.refuse_place(path / "report.json")


def pick_device(name: str) -> torch.device:
    """Return the device of that name; "auto" is the accelerator where there is one."""
    found = torch.accelerator.current_accelerator()
    if name == "auto":
        return found or torch.device("cpu")
    if name == "cpu" or (found is not None and found.type == name):
        return torch.device(name)
    msg = f"no device {name!r} here, only cpu{f' and {found.type}' if found else ''}"
    raise ValueError(msg)


def main() -> None:
    """Run the tool."""
    tool.run(app)
