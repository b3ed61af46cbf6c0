"""Our caches beside transformers' on one model and one prompt, interleaved, the tokens compared."""

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache

from kvcache.caches import KVCache
from kvcache.decoder import Decoder

MakeCache = Callable[[Decoder, int], KVCache]


@dataclass(frozen=True, slots=True)
class Row:
    """What one way to generate took: medians over the rounds, the ratio with its quartiles."""

    name: str
    tokens_per_second: float
    ratio_to_generate: float
    ratio_quartiles: tuple[float, float]
    cache_bytes: int
    tokens_equal: bool


def read_bandwidth(size: int = 1 << 28, device: torch.device | str = "cpu") -> float:
    """Measure the bytes that ``device`` reads in a second: the best of 30 sums over ``size`` bytes, 256 MB.

    A model that stays in the processor's caches is read faster than memory is: its bound is that of its own size.
    """
    data = torch.ones(max(size // 4, 1), device=device)
    best = float("inf")
    for _ in range(30):
        finish(data.device)
        start = time.perf_counter()
        data.sum()
        finish(data.device)
        best = min(best, time.perf_counter() - start)
    return data.nbytes / best


def finish(device: torch.device) -> None:
    """Wait until ``device`` has done what it was asked; the CPU always has."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def race(
    model: Any,  # noqa: ANN401 - transformers' models are untyped
    ours: dict[str, tuple[Decoder, MakeCache]],
    prompt: Tensor,
    count: int,
    rounds: int = 5,
    report: Callable[[int], None] = lambda _round: None,
) -> list[Row]:
    """Time the decoding of ``count`` tokens after ``prompt``, (batch, q_len), by transformers and by each of ``ours``.

    Everybody prefills too; all run once a round, in an order that turns. Ratios are those of the same round. The model,
    the decoders and the prompt are on one device.
    """
    total = prompt.shape[1] + count
    endless = copy.copy(model.generation_config)
    endless.eos_token_id = None  # nobody stops early: equal work for all
    endless.max_new_tokens, endless.do_sample, endless.pad_token_id = count, False, 0

    def theirs(kind: str) -> tuple[Tensor, int]:
        cache: Any = DynamicCache() if kind == "dynamic" else StaticCache(model.config, total)
        out = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            past_key_values=cache,
            generation_config=endless,
        )
        return out[:, prompt.shape[1] :], sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)

    def mine(decoder: Decoder, make: MakeCache) -> tuple[Tensor, int]:
        cache = make(decoder, total)
        tokens = torch.stack(list(decoder.generate(prompt, cache, count)), 1)
        return tokens, cache.nbytes

    runs: dict[str, Callable[[], tuple[Tensor, int]]] = {
        "transformers DynamicCache": partial(theirs, "dynamic"),
        "transformers StaticCache": partial(theirs, "static"),
    }
    runs |= {name: partial(mine, decoder, make) for name, (decoder, make) in ours.items()}
    results = {name: run() for name, run in runs.items()}  # warms everybody up
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            runs[name]()
            finish(prompt.device)
            seconds[name].append(time.perf_counter() - start)
        report(turn)
    reference = names[0]
    rows = []
    for name in names:
        ratios = [base / own for base, own in zip(seconds[reference], seconds[name], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if rounds > 1 else ratios * 3
        tokens, held = results[name]
        speed = prompt.shape[0] * count / statistics.median(seconds[name])
        same = torch.equal(tokens, results[reference][0])
        rows.append(Row(name, speed, middle, (low, high), held, same))
    return rows
