"""Train tinylm, score it beside general compressors, and let it write."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from transformers import TextStreamer

from harness import tool
from models.corpus import corpus, modules
from models.load import load
from models.score import bits_per_byte, compressed
from models.train import RECIPE
from models.train import train as run

app = typer.Typer(add_completion=False, no_args_is_help=False, pretty_exceptions_enable=False)
console, stderr = Console(width=None if sys.stdout.isatty() else 100), Console(stderr=True)
ModelOption = Annotated[str, typer.Option(help="tinylm, minilm, a folder, or an id of the Hugging Face hub")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps")]


def pick_device(name: str) -> torch.device:
    """Return the device of that name; "auto" is the accelerator where there is one."""
    if name == "auto":
        return torch.accelerator.current_accelerator() or torch.device("cpu")
    device = torch.device(name) if name in ("cpu", "cuda", "mps") else None
    found = torch.accelerator.current_accelerator()
    if device is None or (device.type != "cpu" and (found is None or found.type != device.type)):
        msg = f"no device {name!r} here, only cpu{f' and {found}' if found else ''}"
        raise ValueError(msg)
    return device


def progress(what: str) -> Progress:
    """Return a progress bar on stderr."""
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[now]}"),
    )
    return Progress(*columns, console=stderr, transient=True)


@app.callback(invoke_without_command=True)
def demonstrate(context: typer.Context) -> None:
    """Real models that work offline. Without a command: score tinylm, then let it continue a prompt."""
    if context.invoked_subcommand is None:
        evaluate()
        write()


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="folder of the model and its checkpoint")] = Path("tinylm"),
    device: DeviceOption = "auto",
    stop: Annotated[int, typer.Option(help="stop after this step, to go on another time; 0 is the end")] = 0,
) -> None:
    """Train tinylm anew on the standard library's source; a run that is cut off goes on from its last checkpoint."""
    with progress("training") as bar:
        task = bar.add_task("train", total=RECIPE.steps, now="")
        recent: list[float] = []

        def report(step: int, loss: float) -> None:
            recent[:] = [*recent[-49:], loss]
            now = f"{sum(recent) / len(recent):.3f} nats/token"
            bar.update(task, completed=step + 1, now=now)

        run(out, device=pick_device(device), until=stop or None, report=report)
    console.print(f"wrote {out}", highlight=False)


@app.command("eval")
def evaluate(
    model: ModelOption = "tinylm",
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,  # noqa: FBT002
    device: DeviceOption = "auto",
) -> None:
    """Print bits per byte over the held-out text as one stream, beside gzip and xz at their strongest."""
    loaded = load(model, device=pick_device(device))
    if not loaded.generates:
        msg = f"{model} is an encoder: it predicts no text that could be scored"
        raise ValueError(msg)
    text = corpus("heldout")
    with progress("scoring") as bar:
        task = bar.add_task("score", total=None, now="")

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        score = bits_per_byte(
            loaded.model,
            loaded.tokenizer,
            text,
            report=lambda done, total: bar.update(task, completed=done, total=total),
        )
    others = compressed(text)
    parameters = sum(p.numel() for p in loaded.model.parameters())
    if as_json:
        found: dict[str, Any] = {"bits_per_byte": score}
        found |= {f"{name}_bits_per_byte": value for name, value in others.items()} | {"parameters": parameters}
        sys.stdout.write(json.dumps(found) + "\n")
        return
    heading = f"{len(text.encode()):,} bytes of Python never trained on ({len(modules('heldout'))} files)"
    console.print(heading, highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("bits/byte", justify="right")
    table.add_column("of xz", justify="right")
    for name, value in [*others.items(), (f"{model}, {parameters:,} parameters", score)]:
        table.add_row(name, f"{value:.3f}", f"{value / others['xz']:.3f}")
    console.print(table)


@app.command()
def write(
    prompt: Annotated[str, typer.Argument(help="the text to go on from")] = "def ",
    model: ModelOption = "tinylm",
    tokens: Annotated[int, typer.Option(help="how many tokens at most")] = 96,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token every time")] = 0.6,
    seed: int = 0,
    device: DeviceOption = "auto",
) -> None:
    """Continue a prompt."""
    if tokens < 1 or temperature < 0:
        msg = f"tokens is {tokens} and temperature {temperature}: at least 1 and at least 0"
        raise ValueError(msg)
    loaded = load(model, device=pick_device(device))
    if not loaded.generates:
        msg = f"{model} is an encoder: it cannot write"
        raise ValueError(msg)
    given = loaded.tokenizer(prompt or loaded.tokenizer.bos_token, return_tensors="pt")
    ids = given["input_ids"].to(loaded.model.device)
    room = int(loaded.model.config.max_position_embeddings) - ids.shape[1]
    if room < 1:
        msg = f"the prompt has {ids.shape[1]} tokens, {model} reads {loaded.model.config.max_position_embeddings}"
        raise ValueError(msg)
    torch.manual_seed(seed)
    sampling: dict[str, Any] = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    options = {"max_new_tokens": min(tokens, room), "attention_mask": ids.new_ones(ids.shape), **sampling}
    loaded.model.generate(ids, streamer=TextStreamer(loaded.tokenizer), **options)


def main() -> None:
    """Run the tool."""
    tool.run(app)
