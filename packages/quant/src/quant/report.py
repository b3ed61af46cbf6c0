"""What quantizing a real model costs and brings: quality beside float32, size, and time."""

import copy
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import Loaded, corpus, sentences
from models.train import encode
from quant.packed import PackedLinear
from quant.schemes import Parts, Tokens, embed, find

WINDOW = 512  # tokens at most
WINDOWS = 24  # of held-out text that a language model is judged on
CALIBRATION = 4  # of 28 batches, kept back to calibrate with where the reader's text is judged
SEEN = 16  # windows of the text that tinylm was trained on, to calibrate with where the held-out text is judged
ROUNDS = 15  # of the interleaved timing
BATCH = 32  # sentences

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One scheme on one model; None where a measure does not apply to the kind of model.

    ``megabytes`` counts every tensor of the state once, ``bits_per_weight`` those of the quantized linear layers with
    their scales. ``kl`` is nats per token from float32, ``top1`` how often both name the same next token, ``accuracy``
    how often that is the true one. ``cosine_min`` is the worst sentence's similarity to its float32 embedding,
    ``top10`` how many of a sentence's ten nearest neighbours stay. ``latency_ms`` is one token or one sentence,
    ``batch_ms`` a window of tokens or one of 32 sentences; the speed-ups are medians of interleaved rounds. A scheme
    whose weights no kernel here reads as they are kept is not timed.
    """

    scheme: str
    megabytes: float
    bits_per_weight: float
    kl: float | None
    top1: float | None
    accuracy: float | None
    perplexity: float | None
    cosine_min: float | None
    top10: float | None
    latency_ms: float | None
    batch_ms: float | None
    speedup_single: float | None
    speedup: float | None


def measure(
    loaded: Loaded, names: list[str], parts: Parts, text: str | None = None, report: Report = lambda _doing: None
) -> list[Row]:
    """Quantize copies of a model by each of the schemes ``names`` and measure them beside float32, which comes first.

    ``text`` takes the place of the embedded one; ``report`` hears what is being done. Raises ValueError for an unknown
    scheme, a text that is too short, a model without linear layers, and one that answers with NaN or inf.
    """
    schemes = {name: find(name, parts) for name in ("fp32", *names)}
    linear = {n: m.weight.numel() for n, m in loaded.model.named_modules() if type(m) is nn.Linear}
    if not linear:
        msg = f"{loaded.name} has no linear layer to quantize"
        raise ValueError(msg)
    judged, held_back = _language(loaded, text) if loaded.generates else _sentences(loaded, text)
    models: dict[str, nn.Module] = {}
    for name, make in schemes.items():
        report(f"quantizing: {name}")
        models[name] = make(copy.deepcopy(loaded.model), held_back)
    reference = models["fp32"]
    compare = _compare_language if loaded.generates else _compare_embeddings
    quality: dict[str, dict[str, Any]] = {}
    for name, model in models.items():
        report(f"judging: {name}")
        quality[name] = _finite(name, compare(reference, model, judged))
    report("timing, interleaved")
    one = {key: value[:1, :1] if loaded.generates else value[:1] for key, value in judged[0].items()}
    batch = {key: value[:1] for key, value in judged[0].items()} if loaded.generates else judged[len(judged) // 2]
    packed = {name for name, model in models.items() if any(isinstance(m, PackedLinear) for m in model.modules())}
    timed = {name: model for name, model in models.items() if name not in packed}
    single, many = interleaved(timed, one, ROUNDS * 4), interleaved(timed, batch, ROUNDS)
    return [
        Row(
            name,
            megabytes(model) / 1e6,
            bits_per_weight(model, linear),
            **quality[name],
            latency_ms=statistics.median(single[name]) * 1e3 if name in timed else None,
            batch_ms=statistics.median(many[name]) * 1e3 if name in timed else None,
            speedup_single=ratio(single["fp32"], single[name]) if name in timed else None,
            speedup=ratio(many["fp32"], many[name]) if name in timed else None,
        )
        for name, model in models.items()
    ]


def make(loaded: Loaded, scheme: str) -> nn.Module:
    """Return a quantized copy of a model, its static ranges taken from the embedded text.

    Raises ValueError for an unknown scheme.
    """
    chosen = find(scheme)
    _, held_back = _language(loaded, None) if loaded.generates else _sentences(loaded, None)
    return chosen(copy.deepcopy(loaded.model), held_back)


def judge(loaded: Loaded, model: nn.Module) -> dict[str, float | None]:
    """Compare a quantized model with the float one it came from, on the embedded text."""
    judged, _ = _language(loaded, None) if loaded.generates else _sentences(loaded, None)
    compare = _compare_language if loaded.generates else _compare_embeddings
    return _finite(loaded.name, compare(loaded.model, model, judged))


def _finite(name: str, quality: dict[str, float | None]) -> dict[str, float | None]:
    """Return what was measured. Raises ValueError where it is no number: averages of NaN say nothing of a scheme."""
    for measure, value in quality.items():
        if value is not None and not math.isfinite(value):
            msg = f"{name}: {measure} is {value}, so the model's outputs have NaN or inf, or are out of all proportion"
            raise ValueError(msg)
    return quality


def megabytes(model: nn.Module) -> int:
    """Return the bytes of a model's state, every tensor counted once."""
    return sum({t.data_ptr(): t.numel() * t.element_size() for t in model.state_dict().values()}.values())


def bits_per_weight(model: nn.Module, linear: Mapping[str, int]) -> float:
    """Return the bits of each weight in the layers that were quantized, with scales; of all linear ones where none was.

    ``linear`` has the number of weights of each linear layer of the float model, by name.
    """
    now = dict(model.named_modules())
    changed = [name for name in linear if not isinstance(now[name], nn.Linear)] or list(linear)
    state = {name: {k: t for k, t in now[name].state_dict().items() if not k.endswith("bias")} for name in changed}
    held: int = sum(t.numel() * t.element_size() for tensors in state.values() for t in tensors.values())
    weights = sum(linear[name] for name in changed)
    return 8 * held / weights


def interleaved(models: Mapping[str, nn.Module], batch: Tokens, rounds: int) -> dict[str, list[float]]:
    """Return seconds of a forward pass per model and round; who goes first changes from round to round."""
    on_cpu = next(iter(batch.values())).device.type == "cpu"
    wait: Callable[[], object] = (lambda: None) if on_cpu else torch.accelerator.synchronize
    found: dict[str, list[float]] = {name: [] for name in models}
    names = list(models)
    with torch.inference_mode():
        for turn in range(rounds + 2):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                wait()
                start = time.perf_counter()
                models[name](**batch)
                wait()
                found[name].append(time.perf_counter() - start)
    return {name: seconds[2:] for name, seconds in found.items()}  # two rounds to warm up


def ratio(reference: list[float], seconds: list[float]) -> float:
    """Return the median over the rounds of how many times faster than ``reference``."""
    return statistics.median(theirs / ours for theirs, ours in zip(reference, seconds, strict=True))


def positions(model: Any) -> int:  # noqa: ANN401
    """Return how many tokens a model reads at once; 512 where it does not say, as one without learned positions."""
    return int(getattr(model.config, "max_position_embeddings", None) or WINDOW)


def known(loaded: Loaded, tokens: Tensor) -> Tensor:
    """Return the tokens. Raises ValueError for one that the model has no embedding of: the tokenizer is another's."""
    most: int = loaded.model.get_input_embeddings().num_embeddings
    if tokens.numel() and int(tokens.max()) >= most:
        msg = f"the tokenizer of {loaded.name} names token {int(tokens.max())}, the model knows only {most}"
        raise ValueError(msg)
    return tokens


def _language(loaded: Loaded, text: str | None) -> tuple[list[Tokens], list[Tokens]]:
    """Return batches of whole windows of text: those to judge by, spread over the text, and those to calibrate with."""
    window = min(WINDOW, positions(loaded.model))
    tokens = known(loaded, encode(loaded.tokenizer, corpus("heldout") if text is None else text))
    count = len(tokens) // window
    if count < 2:  # noqa: PLR2004
        msg = f"the text has {len(tokens)} tokens, at least two windows of {window} are needed"
        raise ValueError(msg)
    rows = tokens[: count * window].view(count, window)
    taken = min(WINDOWS + CALIBRATION, count)
    rows = rows[torch.linspace(0, count - 1, taken).long()].to(loaded.model.device)
    size = max(1, min(4, 2**23 // (window * int(loaded.model.config.vocab_size))))  # windows whose logits fit
    aside = max(1, taken * CALIBRATION // (WINDOWS + CALIBRATION))
    judged: list[Tokens] = [{"input_ids": part} for part in rows[aside:].split(size)]
    if text is None:
        return judged, _seen(loaded, window)
    return judged, [{"input_ids": row[None]} for row in rows[:aside]]


def _seen(loaded: Loaded, window: int) -> list[Tokens]:
    """Return windows spread over the text of the training split, one a batch."""
    text = corpus("train")
    places = (len(text) // SEEN * number for number in range(SEEN))
    parts = (known(loaded, encode(loaded.tokenizer, text[at : at + 32 * window])[:window]) for at in places)
    return [{"input_ids": part[None].to(loaded.model.device)} for part in parts if len(part) == window]


def _sentences(loaded: Loaded, text: str | None) -> tuple[list[Tokens], list[Tokens]]:
    """Return batches of sentences of like length: those to judge by, and those to calibrate with."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] if text is not None else list(sentences(528))
    if len(lines) < 12:  # noqa: PLR2004
        msg = f"the text has {len(lines)} lines, at least 12 sentences, one on a line, are needed"
        raise ValueError(msg)
    aside = min(CALIBRATION * BATCH, len(lines) // 4)

    def batches(some: list[str]) -> list[Tokens]:
        ordered = sorted(some, key=len)
        parts = [ordered[at : at + BATCH] for at in range(0, len(ordered), BATCH)]
        most = min(loaded.tokenizer.model_max_length, positions(loaded.model))
        options = {"return_tensors": "pt", "padding": True, "truncation": True, "max_length": most}
        found: list[Tokens] = [dict(loaded.tokenizer(part, **options).to(loaded.model.device)) for part in parts]
        for each in found:
            known(loaded, each["input_ids"])
        return found

    return batches(lines[aside:]), batches(lines[:aside])


@torch.inference_mode()
def _compare_language(reference: Any, model: Any, batches: list[Tokens]) -> dict[str, float | None]:  # noqa: ANN401
    """Compare the next-token distributions, position by position, with the reference's and with the text."""
    sums = dict.fromkeys(("kl", "top1", "accuracy", "nll"), 0.0)
    count = 0
    for batch in batches:
        logits = (each(**batch, use_cache=False).logits[:, :-1] for each in (reference, model))
        wanted, found = (each.float().log_softmax(-1) for each in logits)  # (batch, window - 1, vocabulary)
        true = batch["input_ids"][:, 1:]  # (batch, window - 1)
        sums["kl"] += float(F.kl_div(found, wanted, log_target=True, reduction="sum"))
        sums["top1"] += float((found.argmax(-1) == wanted.argmax(-1)).sum())
        sums["accuracy"] += float((found.argmax(-1) == true).sum())
        sums["nll"] -= float(found.gather(-1, true[..., None]).sum())
        count += true.numel()
    means = {name: total / count for name, total in sums.items()}
    nll = means.pop("nll")
    perplexity = math.exp(nll) if nll < math.log(sys.float_info.max) else math.inf
    return {**means, "kl": max(means["kl"], 0.0), "perplexity": perplexity, "cosine_min": None, "top10": None}


@torch.inference_mode()
def _compare_embeddings(reference: Any, model: Any, batches: list[Tokens]) -> dict[str, float | None]:  # noqa: ANN401
    """Compare mean-pooled sentence embeddings and who is near whom."""
    wanted, found = (torch.cat([embed(each, batch) for batch in batches]) for each in (reference, model))
    kept = [len(set(a.tolist()) & set(b.tolist())) / 10 for a, b in zip(_nearest(wanted), _nearest(found), strict=True)]
    worst = float((wanted * found).sum(1).min())
    none = dict.fromkeys(("kl", "top1", "accuracy", "perplexity"))
    return {**none, "cosine_min": worst, "top10": statistics.fmean(kept)}


def _nearest(vectors: Tensor) -> Tensor:
    """Return the ten nearest others of each vector, (vectors, 10)."""
    similar = vectors @ vectors.T
    return similar.fill_diagonal_(-1).topk(10, dim=1).indices


@torch.inference_mode()
def correctness(
    loaded: Loaded, models: Mapping[str, nn.Module], documents: Mapping[str, str], most: int
) -> list[dict[str, Any]]:
    """Return for tokens of each document whether each model's likeliest next token is the true one.

    A row has ``id`` ("document:position"), ``doc``, and 0 or 1 for each of ``models``; at most ``most`` tokens of a
    document, from its beginning, each predicted from all before it in the window. Raises ValueError for an encoder.
    """
    if not loaded.generates:
        msg = f"{loaded.name} is an encoder: it predicts no tokens"
        raise ValueError(msg)
    window = positions(loaded.model)
    rows: list[dict[str, Any]] = []
    for name, text in documents.items():
        tokens = known(loaded, encode(loaded.tokenizer, text)[: most + 1]).to(loaded.model.device)
        for start in range(0, len(tokens) - 1, window):
            part = tokens[start : start + window + 1]
            right = {
                key: (model(input_ids=part[None, :-1], use_cache=False).logits[0].argmax(-1) == part[1:]).int().tolist()
                for key, model in models.items()
            }
            for offset in range(len(part) - 1):
                here = {key: values[offset] for key, values in right.items()}
                rows.append({"id": f"{name}:{start + offset + 1}", "doc": name, **here})
    return rows
