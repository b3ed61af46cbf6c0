"""Generate text over the caches, say what a cache takes, and set the caches beside transformers'."""

import json
import math
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import AutoConfig

import models
from harness import tool
from harness.exercise import choose_all
from kvcache.caches import KVCache
from kvcache.decoder import Config, Decoder
from kvcache.race import MakeCache, race, read_bandwidth
from kvcache.sampler import Sampler
from kvcache.sampling import solution as sampling
from kvcache.sampling._regex import automaton
from kvcache.sampling._schema import schema_regex
from models.cli import DeviceOption, pick_device
from models.load import NAMES, folder_of, hub_is_reachable

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
WIDTH = None if sys.stdout.isatty() else 100
console, stderr = Console(width=WIDTH), Console(stderr=True)
PROMPT = "def parse(text):\n    "
EXERCISE = {"contiguous": "caches", "sliding": "caches", "paged": "paging", "kivi4": "kivi", "kivi8": "kivi"}
BLOCK, GROUP = 16, 32
PICTURES = (".png", ".svg", ".pdf")

ModelOption = Annotated[str, typer.Option(help="tinylm, a folder, or an id of the Hugging Face hub (Llama family)")]
MineOption = Annotated[str, typer.Option(help="run your starters where they are solved; or the name of one exercise")]
JsonOption = Annotated[bool, typer.Option("--json", help="one JSON document on stdout")]


@app.callback(invoke_without_command=True)
def demonstrate(context: typer.Context, mine: MineOption = "") -> None:
    """Attention with a KV cache. Without a command: generate with tinylm, size its cache, compare the caches."""
    if context.invoked_subcommand is None:
        generate(mine=mine)
        memory()
        compare(mine=mine)


@app.command()
def generate(
    model: ModelOption = "tinylm",
    cache: Annotated[str, typer.Option(help=f"one of {', '.join(EXERCISE)}")] = "contiguous",
    prompt: Annotated[str, typer.Option(help="the text to go on from")] = PROMPT,
    tokens: Annotated[int, typer.Option(help="how many tokens to generate")] = 64,
    window: Annotated[int, typer.Option(help="latest positions that a sliding cache keeps")] = 128,
    sinks: Annotated[int, typer.Option(help="first positions that a sliding cache keeps")] = 4,
    int8: Annotated[bool, typer.Option("--int8", help="int8 weights, on the CPU")] = False,  # noqa: FBT002
    temperature: Annotated[float, typer.Option(help="0 takes the most likely token")] = 0.0,
    top_k: Annotated[int, typer.Option(help="draw from the k most likely tokens; 0: from all")] = 0,
    top_p: Annotated[float, typer.Option(help="draw from the fewest tokens that have this probability")] = 1.0,
    min_p: Annotated[float, typer.Option(help="draw from tokens this likely beside the most likely one")] = 0.0,
    seed: Annotated[int, typer.Option(help="of the draws")] = 0,
    regex: Annotated[str, typer.Option(help="write only what this regular expression matches")] = "",
    schema: Annotated[Path | None, typer.Option(help="write only JSON for the schema in this file")] = None,
    device: DeviceOption = "auto",
    mine: MineOption = "",
) -> None:
    """Stream text and close with tokens per second, the cache's bytes and the share of the bandwidth bound."""
    if tokens < 1:
        msg = f"--tokens {tokens}: at least 1"
        raise ValueError(msg)
    if not 0 <= seed < 1 << 63:
        msg = f"--seed {seed}: from 0 to 2**63 - 1"
        raise ValueError(msg)
    refuse_kind(cache)
    names = ["attention"] if cache != "sliding" else []  # whose window and sinks are not the exercise's
    names += ["rotary", EXERCISE[cache], *(["sampling"] if temperature or regex or schema else [])]
    code = choose_all("kvcache", tuple(names), mine)
    draws = code.get("sampling", sampling)
    sampler = Sampler(temperature, top_k, top_p, min_p, seed, draws)
    place = pick_device("cpu" if int8 and device == "auto" else device)
    loaded = load(model, place)
    decoder = run_on(code, Decoder.from_model(loaded.model, int8=int8))
    table = None
    if regex or schema:
        table = draws.token_table(automaton(pattern_of(regex, schema)), *spelled(loaded.tokenizer))
    ids = torch.tensor([loaded.tokenizer(prompt, verbose=False)["input_ids"]], dtype=torch.int64)
    refuse_long(decoder.config, cache, ids.shape[1], tokens, window, sinks)
    held = make(cache, code[EXERCISE[cache]], window, sinks)(decoder, ids.shape[1] + tokens)
    logits = decoder.prefill(ids, held)
    console.out(prompt, end="", highlight=False)
    found: list[int] = []
    shown, start, state = "", time.perf_counter(), torch.zeros(1, dtype=torch.int64)
    for step in range(tokens):
        if table is not None:
            logits = draws.constrain(logits, table, state.to(place), tokens - step)
        found.append(int(sampler(logits, step)))
        if table is not None:
            state = table.after[state, found[-1]].long()
            if int(state) == len(table.after) - 1:
                found.pop()
                break
        text = loaded.tokenizer.decode(found)
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):  # half a character: wait for its other bytes
            console.out(text[len(shown) :], end="", highlight=False)
            shown = text
        if step + 1 < tokens:
            logits = decoder.forward(torch.tensor([[found[-1]]]), held)
    seconds = (time.perf_counter() - start) / max(min(len(found), tokens - 1), 1)
    per_token = decoder.config.bytes_per_token(decoder.dtype.itemsize)
    read = decoder.nbytes + min(held.nbytes, per_token * held.length)
    bound = read / read_bandwidth(read, place)
    console.out("")
    stderr.print(
        f"{1 / seconds:.0f} tokens/s, {held.nbytes / 1e6:.2f} MB of cache ({per_token * held.length / 1e6:.2f} MB for"
        f" all {held.length} positions in full precision), {bound / seconds:.0%} of the bound by reading"
        f" {read / 1e6:.1f} MB a token",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def memory(
    model: ModelOption = "tinylm",
    context: Annotated[int, typer.Option(help="positions of a request")] = 512,
    batch: Annotated[int, typer.Option(help="requests at once")] = 8,
    gigabytes: Annotated[float, typer.Option(help="memory of the device, 1e9 bytes")] = 80.0,
    bits: Annotated[int, typer.Option(help="bits of a cached number")] = 16,
    weight_bits: Annotated[int, typer.Option(help="bits of a weight")] = 16,
    as_json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Answer the interview question from a config alone: bytes per token, and how many requests fit."""
    numbers = {"context": context, "batch": batch, "gigabytes": gigabytes, "bits": bits, "weight-bits": weight_bits}
    for name, value in numbers.items():
        if not 0 < value < math.inf:
            msg = f"--{name} {value}: must be positive"
            raise ValueError(msg)
    config = read_config(model)
    per_token = 2 * config.layers * config.kv_heads * config.head_dim * bits / 8
    weights = config.parameters * weight_bits / 8
    fits = max(0, int((gigabytes * 1e9 - weights) // (per_token * context)))
    facts = {
        "model": model,
        "parameters": config.parameters,
        "weight_bytes": weights,
        "bytes_per_token": per_token,
        "bytes_per_request": per_token * context,
        "bytes_of_batch": per_token * context * batch,
        "batch_fits": batch <= fits,
        "requests_that_fit": fits,
    }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    formula = f"2 x {config.layers} layers x {config.kv_heads} heads x {config.head_dim} x {bits} bits"
    table = Table("", "bytes", "how", title=f"{model}: {config.parameters / 1e6:.1f} M parameters")
    table.add_row("a token", f"{per_token:,.0f}", formula)
    table.add_row("a request", f"{per_token * context:,.0f}", f"x {context} positions")
    table.add_row("the batch", f"{per_token * context * batch:,.0f}", f"x {batch} requests")
    table.add_row("weights", f"{weights:,.0f}", f"{weight_bits} bits each")
    table.add_row("fit", f"{fits:,} requests", f"({gigabytes:g} GB - weights) / a request; activations not counted")
    console.print(table)


@app.command()
def compare(
    model: ModelOption = "tinylm",
    contexts: Annotated[str, typer.Option(help="lengths of the prompt, with commas between them")] = "64,192,384",
    tokens: Annotated[int, typer.Option(help="how many tokens to generate after each")] = 64,
    rounds: Annotated[int, typer.Option(help="interleaved rounds")] = 5,
    out: Annotated[
        Path | None, typer.Option(help="the picture; kvcache-report/compare.png, or none with --json")
    ] = None,
    as_json: JsonOption = False,  # noqa: FBT002
    device: DeviceOption = "auto",
    mine: MineOption = "",
) -> None:
    """Race our caches and transformers' over context length; table and picture, tokens compared."""
    lengths = [int(part) for part in contexts.split(",") if part.strip().isdigit()]
    if len(lengths) != len(contexts.split(",")) or min(lengths) < 1 or tokens < 1 or rounds < 1:
        msg = f"--contexts {contexts} --tokens {tokens} --rounds {rounds}: positive numbers are wanted"
        raise ValueError(msg)
    code = choose_all("kvcache", ("attention", "rotary", "caches", "paging", "kivi"), mine)
    place = pick_device(device)
    out = out if out or as_json else Path("kvcache-report") / "compare.png"
    if out:
        settle(out)
    loaded = load(model, place)
    plain = run_on(code, Decoder.from_model(loaded.model))
    if max(lengths) + tokens > plain.config.positions:
        msg = f"--contexts {contexts} and {tokens} tokens go beyond the model's limit of {plain.config.positions}"
        raise ValueError(msg)
    ours = {kind: (plain, make(kind, code[EXERCISE[kind]])) for kind in ("contiguous", "paged", "kivi4")}
    if place.type == "cpu":
        quantized = run_on(code, Decoder.from_model(loaded.model, int8=True))
        ours["contiguous, int8 weights"] = quantized, ours["contiguous"][1]
    text = loaded.tokenizer(models.corpus("heldout")[:20_000], verbose=False)["input_ids"]
    results = {}
    progress = track(lengths, "context", console=stderr, transient=True)
    for length in progress:
        prompt = torch.tensor([text[:length]], device=place)
        results[length] = race(loaded.model, ours, prompt, tokens, rounds)
    last = results[lengths[-1]]
    if out:
        draw(results, out)
    if as_json:
        typer.echo(json.dumps({"rows": [asdict(row) for row in last]}))
        return
    where = f"cpu, {torch.get_num_threads()} threads" if place.type == "cpu" else place.type
    title = f"{model}, {lengths[-1]} + {tokens} tokens, fp32, {where}"
    table = Table("cache", "tokens/s", "vs generate (quartiles)", "cache MB", "same tokens", title=title)
    for row in last:
        low, high = row.ratio_quartiles
        ratio = f"{row.ratio_to_generate:.2f}x [{low:.2f}, {high:.2f}]"
        same = "yes" if row.tokens_equal else "no"
        table.add_row(row.name, f"{row.tokens_per_second:.0f}", ratio, f"{row.cache_bytes / 1e6:.2f}", same)
    console.print(table)
    console.print(f"picture: {out}", highlight=False)


def settle(out: Path) -> None:
    """Refuse before any work what is no picture or cannot be written to."""
    if out.suffix not in PICTURES:
        msg = f"--out {out}: a name that ends in {', '.join(PICTURES)} is wanted"
        raise ValueError(msg)
    out.parent.mkdir(parents=True, exist_ok=True)


def draw(results: dict[int, Any], out: Path) -> None:
    """Draw tokens per second over context length, one line for each way; written whole or not at all."""
    import matplotlib as mpl  # noqa: PLC0415 - a second of import, only for the picture

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    for index, first in enumerate(next(iter(results.values()))):
        speeds = [rows[index].tokens_per_second for rows in results.values()]
        axes.plot(list(results), speeds, marker="o", label=first.name)
    axes.set_xlabel("prompt, tokens")
    axes.set_ylabel("tokens per second")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside right upper")  # beside the lines: every one of them counts
    temporary = out.with_suffix(f".tmp{out.suffix}")
    figure.savefig(temporary, dpi=120)
    plt.close(figure)
    temporary.replace(out)


def load(model: str, device: torch.device) -> Any:  # noqa: ANN401 - transformers' models are untyped
    """Load a causal language model onto a device; ValueError for an encoder."""
    loaded = models.load(model, device=device)
    if not loaded.generates:
        msg = f"{model} is an encoder: nothing to generate"
        raise ValueError(msg)
    return loaded


def read_config(model: str) -> Config:
    """Read a model's config without its weights."""
    folder = str(folder_of(model)) if model in NAMES else model
    try:
        found = AutoConfig.from_pretrained(folder, local_files_only=not hub_is_reachable())
        return Config.read(found.to_dict())
    except OSError as error:
        msg = f"no model at '{model}': not a folder, not tinylm, and not to be had from the hub"
        raise ValueError(msg) from error


def refuse_long(config: Config, cache: str, prompt: int, tokens: int, window: int, sinks: int) -> None:
    """Raise ValueError for what the model's limit forbids, before memory is taken for it."""
    limit = config.positions
    if cache == "sliding" and window + sinks > limit:
        msg = f"--window {window} and --sinks {sinks} go beyond the model's limit of {limit} positions"
        raise ValueError(msg)
    if not prompt:
        msg = "--prompt has no token: something to go on from is wanted"
        raise ValueError(msg)
    endless = cache == "sliding" and sinks > 0  # places never grow past the window
    if prompt + tokens > limit and not endless:
        msg = f"a prompt of {prompt} tokens and --tokens {tokens} make {prompt + tokens}, the model's limit is {limit}"
        raise ValueError(msg)


def pattern_of(regex: str, schema: Path | None) -> str:
    """Return the regular expression that is asked for; ValueError for two, or a file that is no JSON."""
    if schema is None:
        return regex
    if regex:
        msg = "--regex and --schema: one of them is wanted"
        raise ValueError(msg)
    try:
        return schema_regex(json.loads(schema.read_text("utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        msg = f"--schema {schema} is not JSON: {error}"
        raise ValueError(msg) from error
    except RecursionError as error:
        msg = f"--schema {schema} is nested too deeply"
        raise ValueError(msg) from error


def spelled(tokenizer: Any) -> tuple[list[bytes], int]:  # noqa: ANN401 - transformers' tokenizers are untyped
    """Return the bytes of each token of a byte-level tokenizer, and its end of text; ValueError for another kind."""
    decoder = json.loads(tokenizer.backend_tokenizer.to_str())["decoder"] or {}
    if decoder.get("type") != "ByteLevel" or tokenizer.eos_token_id is None:
        msg = f"--regex and --schema need a byte-level tokenizer with an end of text, not {decoder.get('type')}"
        raise ValueError(msg)
    special = set(tokenizer.all_special_ids)
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]  # of GPT-2's letters these stand for themselves
    others = [byte for byte in range(256) if byte not in plain]
    letters = {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(others)}
    words = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    found = [b"" if i in special else bytes(letters[c] for c in word) for i, word in enumerate(words)]
    return found, tokenizer.eos_token_id


def refuse_kind(kind: str) -> None:
    """Raise ValueError for an unknown kind of cache."""
    if kind not in EXERCISE:
        msg = f"--cache {kind}: one of {', '.join(EXERCISE)} is wanted"
        raise ValueError(msg)


def run_on(code: dict[str, ModuleType], decoder: Decoder) -> Decoder:
    """Let a decoder attend and turn by the reader's code where it was chosen; its native step has its own."""
    attention, rotary = (code.get(name) for name in ("attention", "rotary"))
    if attention and attention.__name__.endswith(".starter"):
        decoder.attend_by(attention.attend_grouped)
    if rotary and rotary.__name__.endswith(".starter"):
        decoder.turn_by(rotary.rotate)
    return decoder


def make(kind: str, module: ModuleType, window: int = 128, sinks: int = 4) -> MakeCache:
    """Return what makes a cache of ``module``, its exercise's code, for a decoder and a number of positions."""

    def build(decoder: Decoder, positions: int) -> KVCache:
        c = decoder.config
        shape = (c.layers, 1, c.kv_heads, c.head_dim)
        if kind == "contiguous":
            cache = module.ContiguousCache(*shape, positions, decoder.dtype, decoder.device)
        elif kind.startswith("kivi"):
            cache = module.QuantizedCache(*shape, positions, int(kind[-1]), GROUP, decoder.dtype, decoder.device)
        elif kind == "sliding":
            cache = module.SlidingCache(*shape, window, sinks, decoder.dtype, decoder.device)
        else:
            cache = module.PagedCache(*shape, -(-positions // BLOCK), BLOCK, decoder.dtype, decoder.device)
        result: KVCache = cache
        return result

    return build


def main() -> None:
    """Run the tool."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    tool.run(app)
