"""The numbers of this question: what is given, what is assumed, and what follows by packages/capacity."""
# ruff: noqa: INP001 - a folder of pages, not a package

from dataclasses import replace
from functools import cache
from math import ceil
from typing import Any

import numpy as np

from capacity import (
    Api,
    Fit,
    Precision,
    Server,
    Trace,
    Workload,
    break_even,
    calibrate,
    cost_per_1k_requests,
    cost_per_million_tokens,
    decode,
    fit,
    gpu,
    kv_bytes_per_token,
    parameters,
    prefill,
    request_bytes,
    saturation,
    simulate,
    simulate_prefix,
    sweeps,
    weight_bytes,
    zoo,
)
from capacity.canary.solution import requests_without_failure, rule_of_three, samples_needed
from capacity.costs.solution import best_reservation, fleet_cost
from capacity.plan import CHUNK, Answer, Question, answer, curve, server
from capacity.queueing.solution import spares
from capacity.rooflines import TYPICAL
from capacity.serving.solution import step_seconds

MODEL, CARD = zoo.load("llama-3.1-70b"), gpu("h100")
FP8, BF16 = Precision.named("fp8"), Precision.named("bf16")
RATE, PROMPT, OUTPUT, TTFT, ITL, NODE = 40.0, 2000, 300, 1.0, 0.05, 8
LONG_RATE, LONG_PROMPT, LONG_OUTPUT, LONG_TTFT = 4.0, 16_000, 500, 4.0
PRICE, API_IN, API_OUT, DISCOUNT = 2.5, 0.6, 0.8, 0.4
SHARED, HITS = 1000, 0.7
DISK, NETWORK, START = 5e9, 50e9, 90
UP = 0.99
CANARY, BAD, WORSE, ERRORS, MORE_ERRORS = 0.05, 0.04, 0.05, 0.001, 0.003
SLOW = 0.3
RATED = 0.02
TIMEOUT = 10
SMALL, FEW = 512, 20
HOURS = [0.25, 0.2, 0.15, 0.15, 0.15, 0.2, 0.25, 0.4, 0.6, 0.8, 0.9, 1.0, 0.9, 0.9, 1.0, 1.0, 0.9, 0.8, 0.6, 0.5]
HOURS += [0.45, 0.4, 0.35, 0.3]

GIVEN = {
    "model": "Llama 3.1 70B",
    "rate": f"{RATE:g} requests a second",
    "prompt": f"{PROMPT:,} tokens in",
    "output": f"{OUTPUT} tokens out",
    "slo_ttft": f"{TTFT:g} s to the first token",
    "slo_itl": f"{ITL * 1e3:g} ms between tokens",
    "share": "99% of requests",
    "availability": "99.9%",
    "node": f"{NODE} H100",
    "card": "one 400 Gb/s network card",
    "shared": f"{SHARED:,} tokens of every prompt",
    "long_rate": f"{LONG_RATE:g} requests a second with {LONG_PROMPT:,} tokens in and {LONG_OUTPUT} out",
    "long_prompt": f"{LONG_PROMPT:,} tokens",
    "long_slo": f"{LONG_TTFT:g} s",
    "timeout": f"{TIMEOUT} s",
    "rollback_goal": "five minutes",
}

ASSUMED = {
    "price": (f"${PRICE:.2f} an hour of a GPU", "a round figure for a year's contract; a bill replaces it"),
    "discount": (f"{DISCOUNT:.0%} off for reserved GPUs", "usual for a year's reservation; a quote replaces it"),
    "api": (f"${API_IN:.2f} and ${API_OUT:.2f} per million tokens", "an API for the same model, in and out"),
    "efficiency": (
        f"{TYPICAL.compute:.0%}, {TYPICAL.bandwidth:.0%} and {TYPICAL.overhead * 1e3:g} ms",
        "FLOPs, bandwidth and fixed part of a step: `capacity.TYPICAL`; two measurements replace it (`calibrate`)",
    ),
    "hits": (f"{HITS:.0%} of requests", "find the shared prefix in the cache, with routing by prefix; measure it"),
    "disk": (f"{DISK / 1e9:g} GB/s", "reading weights from a node's own NVMe disks"),
    "network": (f"{NETWORK / 1e9:g} GB/s", "such a network card in one direction"),
    "start": (f"{START} s", "process start, CUDA graphs, warm-up requests; measure it at every engine upgrade"),
    "up": (f"{UP:.0%}", "of the time a node is usable: hardware, driver and maintenance together"),
    "canary": (f"{CANARY:.0%} of traffic", "to a new version first"),
    "bad": (f"{BAD:.0%} of rated answers", "are thumbs down today"),
    "worse": (f"{WORSE:.0%}", "is the rate that must be noticed before everybody gets the new version"),
    "errors": (f"{ERRORS:.1%}", "of requests fail today"),
    "more_errors": (f"{MORE_ERRORS:.1%}", "is the rate that must stop a canary"),
    "rated": (f"{RATED:.0%} of answers", "are rated by users"),
    "slow": (f"{SLOW:.0%} of peak", "what a server may reach whose kernels suit the model badly: the case to fear"),
    "chunk": (f"{CHUNK:,} prompt tokens", "read in one step at most; the planner's default"),
    "small_chunk": (f"{SMALL} prompt tokens", "the smaller chunk that is considered"),
}

RUNS = {
    "plan": "python -m capacity serve --config llama-3.1-70b --precision fp8 --gpus 4 --rate 40 --prompt 2000 "
    "--output 300 --slo 1 --itl 0.05 --price 2.5",
}
QUOTES = {
    "quality": ("nox -s run-quant", "packages/quant/README.md", "tinylm (4.0 M", "rtn3-g32"),
    "stats": ("nox -s run-stats", "packages/stats/README.md", "items  ", "power for"),
    "sweep": ("python -m capacity audit --replay", "packages/capacity/README.md", "predicted", "largest errors"),
}


@cache
def asked(name: str, gpus: int, rate: float = RATE) -> Answer:
    """Plan the chat load on servers of ``gpus`` GPUs."""
    return answer(Question(MODEL, CARD, Precision.named(name), gpus, rate, PROMPT, OUTPUT, TTFT, ITL))


def _one(gpus: int, prompt: int = PROMPT, output: int = OUTPUT) -> tuple[Server, Fit]:
    fits = fit(MODEL, CARD, FP8, prompt, output, gpus, seats=256)
    question = Question(MODEL, CARD, FP8, gpus, 1.0, prompt, output, TTFT)
    return server(question, fits.requests, TYPICAL), fits


def _ttft(trace: Trace) -> float:
    return float(np.percentile(trace.ttft[trace.warm :], 99))


def _fewest(one: Server, hits: float) -> tuple[int, float, float]:
    """Return the fewest replicas that keep both limits when lengths vary, and the percentiles there.

    Of the answers with more than twenty tokens: the mean gap of a shorter one is mostly a single step.
    """
    count = ceil(RATE / saturation(one, PROMPT, OUTPUT, one.seats)) - 1
    while True:
        count += 1
        work = Workload(6000, PROMPT, OUTPUT, rate=RATE / count, lengths="geometric")
        trace = simulate_prefix(one, work, SHARED, hits, 0)
        long = trace.outputs[trace.warm :] > FEW
        itl = float(np.percentile(trace.itl[trace.warm :][long], 99))
        if _ttft(trace) <= TTFT and itl <= ITL:
            return count, _ttft(trace), itl


def _layouts() -> str:
    rows = ["| layout | cache left on a GPU | requests that fit | prompt alone | full step | requests/s when full | "]
    rows[0] += "replicas | GPUs |"
    rows.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in ("bf16", "fp8"):
        for gpus in (1, 2, 4, 8):
            found = asked(name, gpus)
            if found.typical is None:
                short = found.fit.short / 1e9
                rows.append(f"| {name}, {gpus} GPU | - | does not fit: {short:.0f} GB short | | | | | |")
                continue
            speed, left = found.typical, found.fit.budget.cache / 1e9
            cells = f"{speed.first.seconds * 1e3:.0f} ms | {speed.step.seconds * 1e3:.0f} ms | {speed.saturation:.1f}"
            count = f"{speed.replicas} | {speed.replicas * gpus}"
            rows.append(f"| {name}, {gpus} GPU | {left:.1f} GB | {found.fit.requests} | {cells} | {count} |")
    return "\n".join(rows)


def computed() -> dict[str, str]:  # noqa: PLR0915 - one name after the other
    """Return what follows from the above, as text."""
    found = asked("fp8", 4)
    best, bound, fits = found.typical, found.bound, found.fit
    two, eight, half = asked("fp8", 2).typical, asked("fp8", 8).typical, asked("bf16", 4).typical
    tenfold = asked("fp8", 4, 10 * RATE).typical
    assert best
    assert bound
    assert two
    assert eight
    assert half
    assert tenfold
    needed, per_node = best.replicas, NODE // 4
    single = decode(MODEL, CARD, FP8, 1, PROMPT, 4, TYPICAL)
    full = best.step
    one, _ = _one(4)
    left = (needed - per_node) * best.saturation  # a node fails and there is no spare
    grows = RATE - left
    chunked = step_seconds(one, CHUNK, 64, 64 * (PROMPT + OUTPUT // 2))
    plain = step_seconds(one, 0, 64, 64 * (PROMPT + OUTPUT // 2))
    whole = step_seconds(one, LONG_PROMPT, 64, 64 * (PROMPT + OUTPUT // 2))

    long_read = prefill(MODEL, CARD, FP8, LONG_PROMPT, 1, 4, efficiency=TYPICAL)
    long_bytes = request_bytes(MODEL, LONG_PROMPT, bits=8)
    long_load = LONG_RATE * long_read.seconds
    long_plan = answer(Question(MODEL, CARD, FP8, 4, LONG_RATE, LONG_PROMPT, LONG_OUTPUT, LONG_TTFT, ITL))
    long_speed = long_plan.typical
    assert long_speed

    work = Workload(3000, PROMPT, OUTPUT, rate=RATE / needed)
    without, with_prefix = simulate(one, work, 0), simulate_prefix(one, work, SHARED, HITS, 0)
    cold, warm = _ttft(without), _ttft(with_prefix)
    reuse = saturation(one, round(PROMPT - SHARED * HITS), OUTPUT, fits.requests)
    means = Workload(3000, PROMPT, OUTPUT, rate=RATE / needed, lengths="geometric")
    uneven = _ttft(simulate(one, means, 0))
    spread, cold_ttft, cold_itl = _fewest(one, hits=0.0)
    warmed, warm_ttft, _ = _fewest(one, hits=HITS)
    nodes = ceil(warmed / per_node)
    extra = spares(nodes, UP, 0.999)
    owned = (nodes + extra) * per_node
    lost = simulate_prefix(one, replace(means, rate=RATE / (owned - per_node)), SHARED, HITS, 0)
    alone = sweeps.load("nim-2000-200").rows[0]  # one request on 4 x H100 in fp16
    real = calibrate(MODEL, CARD, BF16, alone.prompt, alone.ttft, alone.itl, 4)
    chat = Question(MODEL, CARD, FP8, 4, RATE, PROMPT, OUTPUT, TTFT, ITL)
    like_that, pessimist = answer(chat, real).typical, answer(chat, replace(real, compute=SLOW)).typical
    assert like_that
    assert pessimist

    trace = [max(per_node, ceil(share * warmed)) for share in HOURS]
    reserved = best_reservation(trace, DISCOUNT)
    daily = fleet_cost(trace, PRICE, 4, reserved, DISCOUNT, 3600)
    always = fleet_cost([owned] * 24, PRICE, 4, owned, DISCOUNT, 3600)
    average = RATE * sum(HOURS) / len(HOURS)
    even = break_even(
        PRICE, 4, best.saturation, Api(API_IN, API_OUT), PROMPT, OUTPUT, owned, RATE / owned / best.saturation
    )
    rated = samples_needed(BAD, WORSE, CANARY)
    failing = samples_needed(ERRORS, MORE_ERRORS, CANARY)
    quiet = requests_without_failure(MORE_ERRORS)
    weights = weight_bytes(MODEL, FP8)
    load = weights / DISK
    return {
        "layouts": _layouts(),
        "params": f"{parameters(MODEL) / 1e9:.1f} billion parameters",
        "w_bf16": f"{weight_bytes(MODEL, BF16) / 1e9:.0f} GB",
        "w_fp8": f"{weights / 1e9:.1f} GB",
        "kv_heads": f"{MODEL.kv_heads} KV heads",
        "kv_formula": f"2 x {MODEL.layers} x {MODEL.kv_heads} x {MODEL.head_dim}",
        "memory": f"{CARD.memory / 1e9:.1f} GB",
        "memory_gib": f"{CARD.memory / 2**30:.1f} GiB",
        "bandwidth": f"{CARD.bandwidth / 1e12:.2f} TB/s",
        "nvlink": f"{CARD.link / 1e9:.0f} GB/s",
        "kv_bf16": f"{kv_bytes_per_token(MODEL):,} bytes",
        "kv_fp8": f"{kv_bytes_per_token(MODEL, 8):,} bytes",
        "kv_fp8_each": f"{kv_bytes_per_token(MODEL, 8, 4):,} bytes",
        "kv_request": f"{request_bytes(MODEL, PROMPT + OUTPUT, bits=8) / 1e6:.0f} MB",
        "short_one": f"{asked('bf16', 1).fit.short / 1e9:.0f} GB",
        "fit_two": f"{asked('bf16', 2).fit.requests}",
        "fit_four": f"{fits.requests}",
        "cache_four": f"{fits.budget.cache / 1e9:.1f} GB",
        "first": f"{best.first.seconds * 1e3:.0f} ms",
        "first_bound": f"{bound.first.seconds * 1e3:.0f} ms",
        "step_one": f"{single.seconds * 1e3:.1f} ms",
        "step_one_memory": f"{single.memory * 1e3:.1f} ms",
        "step_full": f"{full.seconds * 1e3:.0f} ms",
        "step_full_bytes": f"{full.bytes / 1e9:.0f} GB",
        "step_weights_bytes": f"{weights / 4e9:.1f} GB",
        "saturation": f"{best.saturation:.1f} requests a second",
        "naive": f"{fits.requests / full.seconds / OUTPUT:.0f}",
        "read_share": f"{one.prompt * PROMPT * best.saturation:.0%}",
        "tokens_s": f"{best.saturation * OUTPUT:,.0f} output tokens a second",
        "replicas": f"{needed} replicas",
        "count": f"{needed}",
        "gpus_two": f"{two.replicas * 2} GPUs",
        "gpus_eight": f"{eight.replicas * 8} GPUs",
        "gpus_bf16": f"{half.replicas * 4} GPUs",
        "uneven_p99": f"{uneven:.1f} s",
        "spread": f"{spread} replicas",
        "spread_ttft": f"{cold_ttft:.2f} s",
        "spread_itl": f"{cold_itl * 1e3:.0f} ms",
        "warm_nodes": f"{nodes} nodes",
        "warmed": f"{warmed} replicas",
        "warm_ttft": f"{warm_ttft:.2f} s",
        "lost_ttft": f"{_ttft(lost):.2f} s",
        "lost_left": f"{owned - per_node} replicas",
        "lost_use": f"{RATE / (owned - per_node) / reuse:.0%}",
        "owned_use": f"{RATE / owned / reuse:.0%}",
        "gpus_each": "4 GPUs",
        "block": f"{one.block} tokens",
        "real_compute": f"{real.compute:.0%} of peak",
        "real_overhead": f"{real.overhead * 1e3:.1f} ms",
        "real_replicas": f"{like_that.replicas} replicas",
        "real_saturation": f"{like_that.saturation:.1f} requests a second",
        "slow_replicas": f"{pessimist.replicas}",
        "small_step": f"{step_seconds(one, SMALL, 64, 64 * (PROMPT + OUTPUT // 2)) * 1e3:.0f} ms",
        "chunk_free": f"{step_seconds(one, CHUNK, 0, 0) / CHUNK * PROMPT * 1e3:.0f} ms",
        "small_free": f"{step_seconds(one, SMALL, 0, 0) / SMALL * PROMPT * 1e3:.0f} ms",
        "per_node": f"{per_node}",
        "spare": f"{extra}",
        "owned_nodes": f"{nodes + extra} nodes",
        "owned": f"{owned} replicas",
        "owned_gpus": f"{(nodes + extra) * NODE} GPUs",
        "unlucky": f"{1 - UP**nodes:.0%}",
        "left": f"{left:.1f} requests a second",
        "grows": f"{grows:.1f} requests a second",
        "queue_minute": f"{grows * 60:.0f} requests",
        "wait_minute": f"{grows * 60 / left:.0f} s",
        "until_timeout": f"{TIMEOUT * left / grows:.0f} s",
        "shed": f"{1 - best.utilization * left / RATE:.0%}",
        "keep_rate": f"{best.utilization * left:.0f} requests a second",
        "plain_step": f"{plain * 1e3:.0f} ms",
        "chunked_step": f"{chunked * 1e3:.0f} ms",
        "whole_step": f"{whole:.1f} s",
        "long_read": f"{long_read.seconds:.1f} s",
        "long_bytes": f"{long_bytes / 1e9:.1f} GB",
        "long_send": f"{long_bytes / NETWORK * 1e3:.0f} ms",
        "long_send_link": f"{long_bytes / CARD.link * 1e3:.0f} ms",
        "long_erlangs": f"{long_load:.1f} servers",
        "long_share": f"{long_load / needed:.0%}",
        "long_replicas": f"{long_speed.replicas} replicas",
        "long_gpus": f"{long_speed.replicas * 4} GPUs",
        "long_ttft": f"{long_speed.ttft_p99:.1f} s",
        "long_fit": f"{long_plan.fit.requests}",
        "ttft_cold": f"{cold * 1e3:.0f} ms",
        "ttft_warm": f"{warm * 1e3:.0f} ms",
        "reuse": f"{reuse:.1f} requests a second",
        "reuse_gain": f"{reuse / best.saturation - 1:.0%}",
        "prefix_bytes": f"{request_bytes(MODEL, SHARED, bits=8) / 1e6:.0f} MB",
        "tenfold": f"{tenfold.replicas} replicas",
        "tenfold_gpus": f"{tenfold.replicas * 4} GPUs",
        "tenfold_use": f"{tenfold.utilization:.0%}",
        "tenfold_tokens": f"{10 * RATE * OUTPUT / 1e3:.0f} thousand tokens a second",
        "tenfold_load": f"{tenfold.replicas * weights / 1e12:.1f} TB",
        "tenfold_rate": f"{10 * RATE:.0f} requests a second",
        "load": f"{load:.0f} s",
        "start_all": f"{load + START:.0f} s",
        "drain": f"{OUTPUT * best.itl_p99:.0f} s",
        "rollback": f"{(OUTPUT * best.itl_p99 + load + START) / 60:.1f} minutes",
        "swap_all": f"{ceil(owned / per_node) * (OUTPUT * best.itl_p99 + load + START) / 60:.0f} minutes",
        "cost": f"${cost_per_1k_requests(PRICE, 4, average, needed):.2f}",
        "cost_peak": f"${cost_per_1k_requests(PRICE, 4, RATE, needed):.2f}",
        "cost_owned": f"${cost_per_1k_requests(PRICE, 4, average, owned):.2f}",
        "cost_tokens": f"${cost_per_million_tokens(PRICE, 4, average, OUTPUT, owned):.2f}",
        "average": f"{average:.0f} requests a second",
        "bill": f"${owned * 4 * PRICE * 24 * 365 / 1e6:.2f} million",
        "api_cost": f"${even.api_per_1k_requests:.2f}",
        "even": f"{even.rate:.0f} requests a second",
        "reserved": f"{reserved}",
        "daily": f"${daily:.0f}",
        "always": f"${always:.0f}",
        "rated_samples": f"{rated:,} rated answers",
        "rated_days": f"{rated / (average * CANARY * RATED * 86400):.1f} days",
        "error_samples": f"{failing:,} requests",
        "error_minutes": f"{failing / (RATE * CANARY) / 60:.0f} minutes",
        "quiet": f"{quiet:,} requests",
        "quiet_minutes": f"{quiet / (RATE * CANARY) / 60:.0f} minutes",
        "three": f"{rule_of_three(10_000):.2%}",
        "ten_thousand": f"{10_000:,}",
    }


def plots() -> dict[str, dict[str, Any]]:
    """Return the pictures of curves."""
    lines = {}
    for gpus in (2, 4, 8):
        speed = asked("fp8", gpus).typical
        assert speed
        question = Question(MODEL, CARD, FP8, gpus, 1.0, PROMPT, OUTPUT, TTFT, ITL)
        rows = curve(question, speed.server, speed.saturation)
        lines[f"{gpus} GPUs a replica"] = ([r[0] / gpus for r in rows], [1e3 * r[2] for r in rows])
    return {
        "load": {
            "title": "the time within which 99% of first tokens come",
            "x": "requests a second, for each GPU",
            "y": "milliseconds",
            "lines": lines,
            "limits": {"limit": 1e3 * TTFT},
            "log": "y",
        }
    }
