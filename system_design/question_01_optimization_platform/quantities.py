"""The numbers of this question: what is given, what is assumed, and what follows by packages/capacity."""
# ruff: noqa: INP001 - a folder of pages, not a package

from functools import cache
from math import ceil
from typing import Any

import numpy as np

from capacity import Precision, cost_per_1k_requests, decode, gpu, prefill, weight_bytes, zoo
from capacity.canary import Test
from capacity.canary.solution import looks_boundary, requests_without_failure, rule_of_three, samples_needed
from capacity.fleet.solution import (
    expected_attempts,
    list_schedule,
    makespan_bound,
    registry_bytes,
    schedule_with_failures,
    workers_needed,
)
from capacity.plan import Answer, Question, answer
from capacity.rooflines import TYPICAL

MODELS, DAILY, HOT = 3000, 400, 150
DEADLINE, WEEKEND, MARGIN, SLICE, SLICES, LOOKS = 4, 48, 0.01, 0.03, 40, 12
MORNING = 0.6
SMALL, LARGE = zoo.load("qwen2.5-0.5b"), zoo.load("llama-3.1-8b")
SMALL_SHARE, MIDDLE_SHARE = 0.85, 0.12
TARGETS, PLANS = 2, 3
SMALL_MINUTES, MIDDLE_MINUTES, LARGE_MINUTES = 25, 60, 120
FAILURE, RETRIES, PIECE = 0.04, 2, 30
PRICE, WORKER_PRICE = 2.5, 0.8
VERSIONS = 10
RATE, PROMPT, OUTPUT, TTFT = 60.0, 800, 200, 0.5
COMPILE, BUCKETS = 70, (64, 128, 256, 512, 1024, 2048)
MEAN_LENGTH = 200
RARE = 0.001
GOLDEN, SHADOW = 500, 10_000
CANARY, BAD, WORSE = 0.05, 0.02, 0.03
SLICE_BAD, SLICE_WORSE = 0.02, 0.10
PER_MODEL, COLD = 20.0, 1 / 60
DISK = 3e9

GIVEN = {
    "models": f"{MODELS:,} models",
    "daily": f"{DAILY} new versions a day",
    "morning": f"{MORNING:.0%} of them in the first hour of the working day",
    "deadline": f"{DEADLINE} hours",
    "margin": f"{MARGIN:.0%} of the metric",
    "hot": f"{HOT} models",
    "small_size": "half a billion parameters",
    "large_size": "8 billion",
    "gpus": "L4 and H100",
    "weekend": f"{WEEKEND} hours",
    "slice": f"{SLICE:.0%} of requests",
    "rollback_goal": "five minutes",
    "rate": f"{RATE:g} requests a second",
    "lengths": f"{PROMPT} tokens in and {OUTPUT} out",
    "hot_traffic": "95% of the traffic",
}

ASSUMED = {
    "mix": (
        f"{SMALL_SHARE:.0%} small, {MIDDLE_SHARE:.0%} middle, the rest large",
        "of all models; small ones count as Qwen 2.5 0.5B, large ones as Llama 3.1 8B",
    ),
    "candidates": (
        f"{TARGETS * PLANS} candidates for each version",
        f"{PLANS} plans (compiled, int8, int4 or pruned) for each of {TARGETS} GPUs; small models only for the L4",
    ),
    "minutes": (
        f"{SMALL_MINUTES}, {MIDDLE_MINUTES} and {LARGE_MINUTES} minutes",
        "for a candidate of a small, middle and large model, most of it evaluation; measure and replace",
    ),
    "failure": (f"{FAILURE:.0%} of attempts", f"fail (out of memory, a lost worker), {RETRIES} retries each"),
    "piece": (f"{PIECE} minutes", "the longest piece of work that a worker does before it writes its result down"),
    "compile": (f"{COMPILE} s", "to compile one graph for one range of shapes"),
    "golden": (f"{GOLDEN} golden inputs", "stored with a model, by the team that owns it"),
    "shadow": (f"{SHADOW:,} shadowed requests", "before a canary: both versions answer, one answer is used"),
    "rare": (f"{RARE:.1%} of requests", "a rare shape or language, of which a fault may be made"),
    "canary": (f"{CANARY:.0%} of traffic", "to a new version first"),
    "bad": (f"{BAD:.0%}", "of a model's answers are corrected by users today"),
    "worse": (f"{WORSE:.0%}", "is the rate that must be noticed"),
    "looks": (f"{LOOKS} looks", "at a canary before it is decided, evenly spaced"),
    "slice_worse": (f"{SLICE_WORSE:.0%}", "is the rate in a broken slice"),
    "per_model": (f"{PER_MODEL:g} requests a second", "for a hot model of middling traffic"),
    "cold": ("one request a minute", "for one of the many models that hardly anybody calls"),
    "slices": (f"{SLICES} slices", "watched for each model: language, length, customer, device"),
    "price": (f"${PRICE:.2f} an hour", "of an H100; a round figure, a bill replaces it"),
    "worker_price": (f"${WORKER_PRICE:.2f} an hour", "of an L4, on which jobs run; timing on an H100 is minutes"),
    "versions": (f"{VERSIONS} versions", "of each model kept, in three copies"),
    "disk": (f"{DISK / 1e9:g} GB/s", "from a server's own disk"),
    "mean_length": (f"{MEAN_LENGTH} tokens", "a request of a small model, exponentially spread"),
}

RUNS = {
    "plan": "python -m capacity serve --config llama-3.1-8b --precision int4 --gpu l4 --rate 60 --prompt 800 "
    "--output 200 --slo 0.5",
}
QUOTES = {
    "quality": ("nox -s run-quant", "packages/quant/README.md", "minilm (22.7 M", "rtn3-g32"),
    "stats": ("nox -s run-stats", "packages/stats/README.md", "items  ", "power for"),
}


def _jobs(versions: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the seconds of every candidate of so many versions: lengths within a class vary by a half each way."""
    small, middle = round(versions * SMALL_SHARE), round(versions * MIDDLE_SHARE)
    counts = (small * PLANS, middle * TARGETS * PLANS, (versions - small - middle) * TARGETS * PLANS)
    minutes = (SMALL_MINUTES, MIDDLE_MINUTES, LARGE_MINUTES)
    parts = [60.0 * m * np.linspace(0.5, 1.5, n) for m, n in zip(minutes, counts, strict=True)]
    return np.concatenate(parts)


def _split(jobs: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Cut jobs into equal pieces of at most ``PIECE`` minutes."""
    counts = np.ceil(jobs / (60 * PIECE)).astype(int)
    return np.repeat(jobs / counts, counts)


@cache
def asked(name: str, card: str) -> Answer:
    """Plan a hot large model."""
    return answer(Question(LARGE, gpu(card), Precision.named(name), 1, RATE, PROMPT, OUTPUT, TTFT))


def _padding(buckets: tuple[int, ...]) -> float:
    """Return how much longer prompts take when each is padded to the next bucket, on an L4."""
    lengths = np.minimum(-MEAN_LENGTH * np.log(1 - (np.arange(400) + 0.5) / 400), buckets[-1])

    def seconds(tokens: int) -> float:
        return prefill(SMALL, gpu("l4"), Precision.named("bf16"), tokens, 8, efficiency=TYPICAL).compute

    padded = sum(seconds(next(b for b in buckets if b >= length)) for length in lengths)
    return padded / sum(seconds(max(1, round(length))) for length in lengths) - 1


def _plans() -> str:
    rows = ["| plan and GPU | weights | step of one | requests/s when full | GPUs at peak | $ per 1,000 requests |"]
    rows.append("| --- | ---: | ---: | ---: | ---: | ---: |")
    for card, price in (("l4", WORKER_PRICE), ("h100", PRICE)):
        for name in ("bf16", "int8", "fp8", "int4"):
            plan, speed = Precision.named(name), asked(name, card).typical
            size = f"{weight_bytes(LARGE, plan) / 1e9:.1f} GB"
            step = decode(LARGE, gpu(card), plan, 1, PROMPT, efficiency=TYPICAL).seconds
            if speed is None or not speed.replicas:
                why = "no number of them keeps the limit" if speed else "does not fit"
                rows.append(f"| {name}, {card.upper()} | {size} | {step * 1e3:.0f} ms | {why} | | |")
                continue
            cost = cost_per_1k_requests(price, 1, RATE, speed.replicas)
            cells = f"{step * 1e3:.0f} ms | {speed.saturation:.1f} | {speed.replicas} | {cost:.3f}"
            rows.append(f"| {name}, {card.upper()} | {size} | {cells} |")
    return "\n".join(rows)


def computed() -> dict[str, str]:
    """Return what follows from the above, as text."""
    day = _jobs(DAILY)
    morning = _jobs(round(DAILY * MORNING))
    workers = workers_needed(morning, DEADLINE * 3600)
    attempts, lost = expected_attempts(FAILURE, RETRIES)
    late = schedule_with_failures(morning, workers, FAILURE, RETRIES)
    late_many = _worst(morning, 4 * workers)
    pieces = _split(morning)
    safe = next(n for n in range(workers, 4 * workers) if _worst(pieces, n) <= DEADLINE * 3600)
    everything = _jobs(MODELS)
    weekend = workers_needed(everything, WEEKEND * 3600)
    with_safe = schedule_with_failures(_split(everything), safe, FAILURE, RETRIES)
    unsorted = list_schedule(morning[np.random.default_rng(0).permutation(len(morning))], workers, False)  # noqa: FBT003
    bf16, int8, int4 = (Precision.named(name) for name in ("bf16", "int8", "int4"))
    whole = weight_bytes(LARGE, bf16)
    variants = (weight_bytes(LARGE, int8) + weight_bytes(LARGE, int4)) / whole
    counts = (SMALL_SHARE * weight_bytes(SMALL, bf16) + (1 - SMALL_SHARE) * whole) * MODELS
    registry = registry_bytes(MODELS, counts / MODELS, VERSIONS, variants, 0.0, 3)
    small8 = weight_bytes(SMALL, int8)
    l4 = gpu("l4")
    worst, weights_only, eight_l4 = (asked(name, "l4").typical for name in ("bf16", "int4", "fp8"))
    best, old = asked("fp8", "h100").typical, asked("bf16", "h100").typical
    assert best
    assert old
    assert worst
    assert weights_only
    assert eight_l4
    small = round(MODELS * SMALL_SHARE)
    packed = ceil(small / int(l4.memory * 0.9 / small8))
    year = 24 * 365
    saved = cost_per_1k_requests(PRICE, 1, RATE, old.replicas) - cost_per_1k_requests(PRICE, 1, RATE, best.replicas)
    version = TARGETS * PLANS * LARGE_MINUTES / 60 * WORKER_PRICE * attempts
    seen = samples_needed(BAD, WORSE, CANARY)
    seen_slice = samples_needed(SLICE_BAD, SLICE_WORSE, CANARY, Test(alpha=0.05 / SLICES))
    diluted = samples_needed(BAD, BAD + SLICE * (SLICE_WORSE - SLICE_BAD), CANARY)
    ten = _jobs(round(10 * DAILY * MORNING))
    ten_workers = workers_needed(_split(ten), DEADLINE * 3600)
    return {
        "plans": _plans(),
        "l4": "L4",
        "day_jobs": f"{len(day):,} jobs",
        "day_hours": f"{day.sum() / 3600:,.0f} hours",
        "day_workers": f"{day.sum() / 86_400:.0f} workers",
        "morning_jobs": f"{len(morning):,} jobs",
        "workers": f"{workers} workers",
        "bound": f"{makespan_bound(morning, workers) / 3600:.2f} hours",
        "longest": f"{morning.max() / 3600:.1f} hours",
        "whole_large": f"{TARGETS * PLANS * LARGE_MINUTES / 60:.0f} hours",
        "in_order": f"{unsorted.makespan / 3600:.1f} hours",
        "late": f"{late / 3600:.1f} hours",
        "late_many": f"{late_many / 3600:.1f} hours",
        "many": f"{4 * workers} workers",
        "pieces": f"{len(pieces):,} pieces",
        "safe": f"{safe} workers",
        "attempts": f"{attempts:.3f} attempts",
        "given_up": f"{lost * len(day) * 365:.0f} jobs a year",
        "weekend_jobs": f"{len(everything):,} jobs",
        "weekend_hours": f"{everything.sum() / 3600:,.0f} hours",
        "weekend_workers": f"{weekend} workers",
        "weekend_late": f"{with_safe / 3600:.0f} hours",
        "weekend_money": f"${everything.sum() / 3600 * WORKER_PRICE * attempts:,.0f}",
        "hot_hours": f"{_jobs(HOT).sum() / 3600:,.0f} hours",
        "hot_finish": f"{list_schedule(_split(_jobs(HOT)), safe).makespan / 3600:.1f} hours",
        "large_bf16": f"{whole / 1e9:.1f} GB",
        "large_int8": f"{weight_bytes(LARGE, int8) / 1e9:.1f} GB",
        "large_int4": f"{weight_bytes(LARGE, int4) / 1e9:.1f} GB",
        "small_int8": f"{small8 / 1e9:.2f} GB",
        "registry": f"{registry / 1e15:.1f} PB",
        "registry_one": f"{registry / 3 / VERSIONS / 1e12:.0f} TB",
        "registry_recipe": f"{registry_bytes(MODELS, counts / MODELS, VERSIONS, 0, 0, 3) / 1e15:.1f} PB",
        "per_gpu": f"{int(l4.memory * 0.9 / small8)} of them",
        "all_gpus": f"{packed} L4",
        "alone_year": f"${small * WORKER_PRICE * year / 1e6:.1f} million",
        "packed_year": f"${2 * packed * WORKER_PRICE * year / 1e6:.1f} million",
        "small_count": f"{small:,} small ones",
        "load_host": f"{small8 / l4.link * 1e3:.0f} ms",
        "load_disk": f"{small8 / DISK * 1e3:.0f} ms",
        "load_large_host": f"{weight_bytes(LARGE, int8) / l4.link:.2f} s",
        "load_large_disk": f"{weight_bytes(LARGE, int8) / DISK:.0f} s",
        "buckets": ", ".join(str(b) for b in BUCKETS),
        "bucket_count": f"{len(BUCKETS)} graphs",
        "padding": f"{_padding(BUCKETS):.0%}",
        "padding_one": f"{_padding(BUCKETS[-1:]) + 1:.0f} times",
        "padding_fine": f"{_padding(tuple(range(64, 2049, 64))):.0%}",
        "fine_count": f"{len(range(64, 2049, 64))} graphs",
        "compile_all": f"{COMPILE * len(BUCKETS) / 60:.0f} minutes",
        "compile_fine": f"{COMPILE * len(range(64, 2049, 64)) / 60:.0f} minutes",
        "miss": f"{(1 - RARE) ** GOLDEN:.0%}",
        "shadow_rule": f"{rule_of_three(SHADOW):.2%}",
        "rare_need": f"{requests_without_failure(RARE):,} requests",
        "rare_minutes": f"{requests_without_failure(RARE) / PER_MODEL / 60:.1f} minutes",
        "canary_samples": f"{seen:,} requests",
        "canary_hours": f"{seen / (PER_MODEL * CANARY) / 3600:.1f} hours",
        "diluted": f"{diluted:,} requests",
        "diluted_days": f"{diluted / (PER_MODEL * CANARY) / 86_400:.1f} days",
        "slice_samples": f"{seen_slice:,} requests",
        "slice_minutes": f"{seen_slice / (PER_MODEL * CANARY * SLICE) / 60:.0f} minutes",
        "saved": f"${saved:.3f}",
        "version_cost": f"${version:.2f}",
        "pays_after": f"{version / saved * 1000 / 1e3:.0f} thousand requests",
        "pays_rate": f"{version / saved * 1000 / 7 / 86_400:.2f} requests a second",
        "replicas_old": f"{old.replicas} H100",
        "replicas_new": f"{best.replicas} H100",
        "year_saved": f"${saved * RATE / 1000 * 86_400 * 365:,.0f}",
        "fallback": f"{old.replicas / best.replicas - 1:.0%}",
        "l4_old": f"{worst.replicas} L4",
        "l4_int4": f"{weights_only.replicas} L4",
        "l4_fp8": f"{eight_l4.replicas} L4",
        "l4_old_year": f"${worst.replicas * WORKER_PRICE * year / 1e3:.0f} thousand a year",
        "h100_new_year": f"${best.replicas * PRICE * year / 1e3:.0f} thousand a year",
        "int4_first": f"{weights_only.first.seconds * 1e3:.0f} ms",
        "fp8_first": f"{eight_l4.first.seconds * 1e3:.0f} ms",
        "platform": f"${safe * WORKER_PRICE * year / 1e6:.2f} million",
        "by_hour": f"${day.sum() / 3600 * attempts * WORKER_PRICE:,.0f} a day",
        "by_hour_year": f"${day.sum() / 3600 * attempts * WORKER_PRICE * 365 / 1e6:.2f} million",
        "small_cost": f"${PLANS * SMALL_MINUTES / 60 * WORKER_PRICE * attempts:.2f}",
        "cold_canary": f"{seen / (COLD * CANARY) / 86_400:.0f} days",
        "cold_rare": f"{requests_without_failure(RARE) / COLD / 86_400:.1f} days",
        "boundary": f"{looks_boundary(LOOKS):.2f} standard errors",
        "boundary_one": f"{looks_boundary(1):.2f}",
        "rows": f"{MODELS * VERSIONS * (1 + TARGETS * PLANS):,} rows",
        "ten_jobs": f"{len(ten):,} jobs",
        "ten_workers": f"{ten_workers:,} workers",
        "ten_registry": f"{10 * registry / 1e15:.0f} PB",
        "platform_busy": f"{day.sum() * attempts / (safe * 86_400):.0%}",
    }


def _worst(jobs: np.ndarray[Any, np.dtype[np.float64]], workers: int) -> float:
    """Return the longest of five runs with failures."""
    return max(schedule_with_failures(jobs, workers, FAILURE, RETRIES, seed) for seed in range(5))


def plots() -> dict[str, dict[str, Any]]:
    """Return the pictures of curves."""
    jobs = _jobs(round(DAILY * MORNING))
    counts = [40, 60, 80, 100, 120, 140, 160, 200, 240, 300]
    return {
        "makespan": {
            "title": f"the morning's {len(jobs)} jobs, retries included",
            "x": "workers",
            "y": "hours until the last one is done",
            "lines": {
                "no schedule of whole jobs is faster": (counts, [makespan_bound(jobs, n) / 3600 for n in counts]),
                "whole jobs, longest first, with failures": (counts, [_worst(jobs, n) / 3600 for n in counts]),
                f"in pieces of {PIECE} minutes, with failures": (
                    counts,
                    [_worst(_split(jobs), n) / 3600 for n in counts],
                ),
            },
            "limits": {"limit": DEADLINE},
            "log": "",
        }
    }
