"""The numbers of this question: what is given, what is assumed, and what follows by packages/capacity."""
# ruff: noqa: INP001 - a folder of pages, not a package

from functools import cache
from math import ceil, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np

from capacity import (
    TYPICAL,
    Precision,
    Workload,
    cost_per_1k_requests,
    gpu,
    saturation,
    simulate,
    zoo,
)
from capacity.canary import Test
from capacity.canary.solution import days_needed, looks_boundary, samples_for_mean, samples_needed
from capacity.plan import Question, answer, server

USERS, EXPERIMENTS, METRICS, WEEKS = 12_000_000, 40, 30, 2
SUCCESS, LIFT = 0.20, 0.01
LOOKUPS = 30_000
CANDIDATES, MANY = 200, 400
WIN, MISMATCH, COUNTED, SRM_LEVEL = 0.03, 0.504, 2_000_000, 0.001
TOUCHED, ENROLLED = 8, 0.10
EVENTS, EVENT_BYTES, CELL, SCAN = 60, 400, 8, 2e9
CORRELATION = 0.6
SESSIONS, ICC = 5, 0.2
ERRORS, ERRORS_MORE = 0.005, 0.0055
CRASH, CRASH_MORE, FIRST = 0.001, 0.003, 0.01
TRUE_EFFECTS, HOLDOUT = 0.1, 0.02
ITEMS, ORDERS, JUDGE_IN, JUDGE_OUT = 5000, 2, 1800, 150
BETTER, DISCORDANT, SHIFT, JUDGE_WRONG = 0.70, 0.3, 0.02, 0.15
AUDIT, AUDIT_MINUTES, HOURLY = 400, 3, 40.0
PRICE = 2.5
RATE, PROMPT, OUTPUT, LONGER, REPLICAS = 40.0, 2000, 300, 450, 9
TWO = Test(two_sided=True)
NORMAL = NormalDist()
MODEL, CARD, FP8 = zoo.load("llama-3.1-70b"), gpu("h100"), Precision.named("fp8")

GIVEN = {
    "users": f"{USERS // 1_000_000} million users a day",
    "experiments": f"{EXPERIMENTS} experiments",
    "many": f"{MANY} experiments",
    "metrics": f"{METRICS} metrics",
    "success": f"{SUCCESS:.0%} of users",
    "lift": f"{LIFT:.0%} more",
    "lookups": f"{LOOKUPS:,} a second",
    "weeks": "two weeks",
    "candidates": f"{CANDIDATES} candidates a week",
    "stop_goal": "one minute",
    "win": f"{WIN:.0%} more",
    "mismatch": f"{MISMATCH:.1%} to {1 - MISMATCH:.1%}",
    "counted": f"{COUNTED // 1_000_000} million users",
}

ASSUMED = {
    "enrolled": (f"{ENROLLED:.0%} of users", "take part in a usual experiment, half in each arm"),
    "touched": (f"{TOUCHED} experiments", "that a user of a day really meets"),
    "events": (f"{EVENTS} events", f"of {EVENT_BYTES} bytes for a user and day"),
    "scan": (f"{SCAN / 1e9:g} GB/s", "read from columns on one machine's disks"),
    "correlation": (f"{CORRELATION}", "between a user's metric before and during the experiment; measure it by metric"),
    "sessions": (f"{SESSIONS} sessions", f"of a user, alike with a correlation of {ICC}"),
    "errors": (f"{ERRORS:.1%} to {ERRORS_MORE:.2%}", "is the rise of errors that a guardrail must rule out"),
    "crash": (f"{CRASH:.1%} to {CRASH_MORE:.1%}", f"is what the first {FIRST:.0%} must catch"),
    "true": (f"{TRUE_EFFECTS:.0%} of ideas", "really move their metric by what they were planned for; most do nothing"),
    "holdout": (f"{HOLDOUT:.0%} of users", "see no new feature for a quarter"),
    "items": (f"{ITEMS:,} items", "in an offline set"),
    "orders": ("both orders", "of two answers are shown to the judge, since it favours a place"),
    "judge": (f"{JUDGE_IN:,} tokens in and {JUDGE_OUT} out", "for one judgement"),
    "judge_wrong": (f"{JUDGE_WRONG:.0%}", "of judgements differ from people's, either way"),
    "better": (f"{BETTER:.0%}", "of items answered well today"),
    "discordant": (f"{DISCORDANT:.0%} of items", "change their verdict between two models"),
    "shift": (f"{SHIFT:.0%} of items", "is the change that an offline comparison has to see"),
    "audit": (
        f"{AUDIT} judgements a week",
        f"are repeated by people, {AUDIT_MINUTES} minutes each at ${HOURLY:.0f} an hour",
    ),
    "price": (f"${PRICE:.2f} an hour", "of an H100; a bill replaces it"),
    "assistant": (
        f"{RATE:g} requests a second of {PROMPT:,} tokens in and {OUTPUT} out",
        f"on {REPLICAS} replicas of four H100 in fp8, lengths widely spread, as in question 3",
    ),
    "longer": (f"{LONGER} tokens", "out of the model that is tried, which likes to talk"),
    "efficiency": (
        f"{TYPICAL.compute:.0%}, {TYPICAL.bandwidth:.0%} and {TYPICAL.overhead * 1e3:g} ms",
        "FLOPs, bandwidth and fixed part of a step: `capacity.TYPICAL`; two measurements replace it (`calibrate`)",
    ),
}

RUNS = {
    "plan": "python -m capacity serve --config llama-3.1-70b --precision fp8 --gpus 4 --rate 3.3 --prompt 1800 "
    "--output 150 --slo 60 --price 2.5",
}
QUOTES = {
    "stats": ("nox -s run-stats", "packages/stats/README.md", "items  ", "power for"),
}


@cache
def _walks(looks: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return z values at equally spaced looks of 200,000 experiments that change nothing."""
    steps = np.random.default_rng(5).normal(0.0, 1.0, (200_000, looks))
    return np.cumsum(steps, axis=1) / np.sqrt(np.arange(1, looks + 1))


def _peeking(looks: int) -> float:
    """Return how often a change that does nothing is "significant" at one of the looks, at two-sided 5 %."""
    return float((np.abs(_walks(looks)) > NORMAL.inv_cdf(0.975)).any(axis=1).mean())


def _found(looks: int, shift: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the share found by each look, with one limit for all, where the last z has the mean ``shift``."""
    beyond = _walks(looks) + shift * np.sqrt(np.arange(1, looks + 1) / looks) > looks_boundary(looks, 0.025)
    return np.asarray(np.maximum.accumulate(beyond, axis=1).mean(axis=0))


def _inflated(looks: int) -> tuple[float, float]:
    """Return the users that the limit for all looks takes for 80 % power, over those of one look: most, on average."""
    planned = NORMAL.inv_cdf(0.975) + NORMAL.inv_cdf(0.8)
    low, high = planned, 2 * planned
    while high - low > 1e-3:  # noqa: PLR2004 - of a z value
        middle = (low + high) / 2
        low, high = (middle, high) if _found(looks, middle)[-1] < 0.8 else (low, middle)  # noqa: PLR2004
    most = (high / planned) ** 2
    running = 1 - np.concatenate([[0.0], _found(looks, high)[:-1]])  # still at work during each interval
    return most, most * float(running.mean())


def _exaggeration(power: float) -> float:
    """Return by how much a significant estimate exceeds the truth on average, in an experiment of such power."""
    true = NORMAL.inv_cdf(0.975) + NORMAL.inv_cdf(power)
    found = np.random.default_rng(7).normal(true, 1.0, 400_000)
    return float(found[found > NORMAL.inv_cdf(0.975)].mean() / true)


def _needed(lift: float) -> int:
    return samples_needed(SUCCESS, SUCCESS * (1 + lift), test=TWO)


def _mde(each: float, share: float = 0.5) -> float:
    """Return the smallest relative lift that ``each`` users in the smaller arm show."""
    low, high = 1e-5, 1.0
    while high / low > 1.0001:  # noqa: PLR2004 - relative
        middle = sqrt(low * high)
        enough = samples_needed(SUCCESS, SUCCESS * (1 + middle), share, TWO) <= each
        low, high = (low, middle) if enough else (middle, high)
    return high


def _shared(output: float) -> tuple[float, float]:
    """Return the 99th percentile of the first token and the utilization, where answers average ``output`` tokens."""
    question = Question(MODEL, CARD, FP8, 4, RATE, PROMPT, round(output), 1.0)
    one = server(question, 256, TYPICAL)
    trace = simulate(one, Workload(6000, PROMPT, round(output), rate=RATE / REPLICAS, lengths="geometric"), 0)
    most = saturation(one, PROMPT, round(output), 256)
    return float(np.percentile(trace.ttft[trace.warm :], 99)), RATE / REPLICAS / most


def computed() -> dict[str, str]:
    """Return what follows from the above, as text."""
    daily = USERS * ENROLLED / 2  # new users of an arm on the first day; they come back, so days do not add up
    each = _needed(LIFT)
    reduced = 1 - CORRELATION**2
    deviation = sqrt(SUCCESS * (1 - SUCCESS))
    cuped = samples_for_mean(deviation * sqrt(reduced), SUCCESS * LIFT, test=TWO)
    effect = 1 + (SESSIONS - 1) * ICC
    naive = 2 * (1 - NORMAL.cdf(NORMAL.inv_cdf(0.975) / sqrt(effect)))
    looks = 7 * WEEKS
    boundary = looks_boundary(looks, 0.025)
    most, usual = _inflated(looks)
    false = (1 - TRUE_EFFECTS) * 0.025
    z = (MISMATCH - 0.5) * sqrt(COUNTED) / 0.5
    early = ((NORMAL.inv_cdf(1 - SRM_LEVEL / 2) + NORMAL.inv_cdf(0.8)) * 0.5 / (MISMATCH - 0.5)) ** 2
    missing = 1 - (1 - MISMATCH) / MISMATCH
    bias = 1 / (1 - missing) - 1  # those who are missing would not have succeeded
    judging = answer(Question(MODEL, CARD, FP8, 4, 3.3, JUDGE_IN, JUDGE_OUT, 60.0)).typical
    assert judging
    judgements = CANDIDATES * ITEMS * ORDERS
    hours = judgements / judging.saturation / 3600
    audit = AUDIT * AUDIT_MINUTES / 60 * HOURLY
    seen = 1 - 2 * JUDGE_WRONG
    paired = samples_for_mean(sqrt(DISCORDANT), SHIFT, 1e-6, TWO)
    unpaired = samples_needed(BETTER, BETTER + SHIFT, test=TWO)
    alone, alone_used = _shared(OUTPUT)
    mixed, mixed_used = _shared((OUTPUT + LONGER) / 2)
    full, full_used = _shared(LONGER)
    exposures = USERS * TOUCHED
    cells = USERS * METRICS * CELL
    first = samples_needed(CRASH, CRASH_MORE, FIRST)
    guard = samples_needed(ERRORS, ERRORS_MORE, test=Test())
    first_minutes = days_needed(first, USERS / 86_400, FIRST) * 24 * 60
    hold = _mde(USERS * HOLDOUT, HOLDOUT)
    return {
        "each": f"{each:,} users",
        "arm": f"{daily:,.0f} users",
        "arm_sees": f"{_mde(daily):.1%}",
        "share_needed": f"{2 * each / USERS:.0%} of users",
        "cuped": f"{cuped:,} users",
        "cuped_saves": f"{1 - reduced:.0%}",
        "cuped_share": f"{2 * cuped / USERS:.0%} of users",
        "half": f"{_needed(LIFT / 2):,} users",
        "effect": f"{effect:.1f}",
        "naive": f"{naive:.0%}",
        "looks": f"{looks} looks",
        "peeking": f"{_peeking(looks):.0%}",
        "boundary": f"{boundary:.2f}",
        "plain": f"{NORMAL.inv_cdf(0.975):.2f}",
        "more_users": f"{most - 1:.0%} more users",
        "fewer_users": f"{1 - usual:.0%} fewer",
        "found_half": f"{_found(looks, 0.5 * (NORMAL.inv_cdf(0.975) + NORMAL.inv_cdf(0.8)))[-1]:.0%}",
        "found_twice": f"{_found(looks, 2 * (NORMAL.inv_cdf(0.975) + NORMAL.inv_cdf(0.8)))[6]:.0%}",
        "found_once": f"{_found(looks, NORMAL.inv_cdf(0.975) + NORMAL.inv_cdf(0.8))[-1]:.0%}",
        "tests": f"{EXPERIMENTS * METRICS:,} comparisons",
        "alarms": f"{EXPERIMENTS * METRICS * 0.05:.0f}",
        "false_wins": f"{false / (false + TRUE_EFFECTS * 0.8):.0%}",
        "false_weak": f"{false / (false + TRUE_EFFECTS * 0.2):.0%}",
        "weak_power": "20% power",
        "full_power": "80% power",
        "curse": f"{_exaggeration(0.8):.2f} times",
        "curse_weak": f"{_exaggeration(0.2):.1f} times",
        "srm_z": f"{z:.0f} standard errors",
        "srm_missing": f"{missing:.1%}",
        "srm_bias": f"{bias:.1%}",
        "srm_early": f"{ceil(early):,} users",
        "srm_level": f"{SRM_LEVEL:.1%}",
        "guard": f"{guard:,} users",
        "first": f"{first:,} users",
        "first_share": f"{FIRST:.0%}",
        "first_minutes": f"{first_minutes:.0f} minutes",
        "hold": f"{hold:.1%}",
        "exposures": f"{exposures / 1e6:.0f} million rows a day",
        "events_day": f"{USERS * EVENTS * EVENT_BYTES / 1e9:.0f} GB a day",
        "events_rate": f"{USERS * EVENTS / 86_400:,.0f} a second",
        "cells": f"{cells / 1e9:.1f} GB a day",
        "cells_weeks": f"{cells * 7 * WEEKS / 1e9:.0f} GB",
        "cells_scan": f"{cells * 7 * WEEKS / SCAN:.0f} s",
        "raw_scan": f"{USERS * EVENTS * EVENT_BYTES * 7 * WEEKS / SCAN / 60:.0f} minutes",
        "raw_all": f"{EXPERIMENTS * USERS * EVENTS * EVENT_BYTES * 7 * WEEKS / SCAN / 3600:.0f} hours",
        "lost": f"{1 / MANY:.2%}",
        "exclusive": f"{USERS / MANY / 2:,.0f} users",
        "exclusive_sees": f"{_mde(USERS / MANY / 2):.0%}",
        "pairs": f"{MANY * (MANY - 1) // 2:,} pairs",
        "pair_users": f"{USERS * ENROLLED * ENROLLED / 4:,.0f} users",
        "pair_alarms": f"{MANY * (MANY - 1) // 2 * 0.05:,.0f}",
        "judgements": f"{judgements / 1e6:.0f} million judgements a week",
        "judge_rate": f"{judgements / (7 * 86_400):.1f} a second",
        "judge_full": f"{judging.saturation:.1f} a second",
        "judge_hours": f"{hours:.0f} hours",
        "judge_money": f"${hours * 4 * PRICE:,.0f} a week",
        "judge_each": f"${hours * 4 * PRICE / CANDIDATES:.2f}",
        "judge_1k": f"${cost_per_1k_requests(PRICE, 4, judging.saturation):.2f}",
        "judge_ten": f"{10 * hours / (7 * 24):.1f} servers",
        "paired": f"{paired:,} items",
        "unpaired": f"{unpaired:,} items",
        "seen": f"{seen:.0%}",
        "judged": f"{samples_for_mean(sqrt(DISCORDANT), SHIFT * seen, 1e-6, TWO):,} items",
        "paired_sees": f"{SHIFT * sqrt(paired / ITEMS):.1%}",
        "audit_money": f"${audit:,.0f} a week",
        "audit_error": f"{NORMAL.inv_cdf(0.975) * sqrt(JUDGE_WRONG * (1 - JUDGE_WRONG) / AUDIT):.1%}",
        "alone": f"{alone:.2f} s",
        "mixed": f"{mixed:.2f} s",
        "alone_used": f"{alone_used:.0%}",
        "mixed_used": f"{mixed_used:.0%}",
        "full": f"{full:.2f} s",
        "dearer": f"{full_used / alone_used - 1:.0%} more servers",
        "full_used": f"{full_used:.0%}",
        "judged_sees": f"{SHIFT / seen * sqrt(paired / ITEMS):.1%}",
        "audit_count": f"{AUDIT}",
        "loss_day": f"{USERS * ENROLLED / 2:,.0f} users",
        "loss_first": f"{USERS * FIRST:,.0f} users",
    }


def plots() -> dict[str, dict[str, Any]]:
    """Return the pictures of curves."""
    looks = [1, 2, 3, 5, 7, 10, 14, 20, 28]
    days = list(range(1, 7 * WEEKS + 1))
    planned = NORMAL.inv_cdf(0.975) + NORMAL.inv_cdf(0.8)
    ratios = {"half as large": 0.5, "as large as planned": 1.0, "twice as large": 2.0}
    called = [(_peeking(n), float((np.abs(_walks(n)) > looks_boundary(n, 0.025)).any(axis=1).mean())) for n in looks]
    return {
        "peeking": {
            "title": "how often a change that does nothing is called a success or a failure",
            "x": "looks at the result, evenly spaced",
            "y": "% of experiments",
            "lines": {
                "stopped at the first p < 5%": (looks, [100 * one for one, _ in called]),
                "with one limit for all looks": (looks, [100 * all_looks for _, all_looks in called]),
            },
            "limits": {"promised": 5.0},
            "log": "",
        },
        "found": {
            "title": "found by which day of fourteen, with one limit for all looks?",
            "x": "day",
            "y": "% of experiments",
            "lines": {
                name: (days, (100 * _found(len(days), ratio * planned)).tolist()) for name, ratio in ratios.items()
            },
            "limits": {"one look on the last day": 80.0},
            "log": "",
        },
    }
