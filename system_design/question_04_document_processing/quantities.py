"""The numbers of this question: what is given, what is assumed, and what follows by packages/capacity."""
# ruff: noqa: INP001 - a folder of pages, not a package

from functools import cache
from math import ceil
from typing import Any

import numpy as np

from capacity import Precision, Workload, cost_per_1k_requests, gpu, prefill, replicas, simulate, zoo
from capacity.canary import Test
from capacity.canary.solution import requests_without_failure, rule_of_three, samples_needed
from capacity.fleet.solution import expected_attempts, registry_bytes
from capacity.plan import Question, Speed, answer
from capacity.queueing.solution import wait_percentile
from capacity.rooflines import TYPICAL

DAILY, PAGES, BUSIEST, OWN_TEXT, WAITING = 200_000, 6, 0.15, 0.4, 0.05
PATIENCE, DEADLINE, WRONG = 30, 2, 0.005
MINUTES, KEEP, ARCHIVE, DAYS = 2, 7, 40_000_000, 14
POISON, CORES = 300, 8
TAGGER, MODEL = zoo.load("qwen2.5-0.5b"), zoo.load("qwen2.5-7b")
BF16, FP8 = Precision.named("bf16"), Precision.named("fp8")
L4_PRICE, L40S_PRICE, HOURLY = 0.8, 1.0, 25.0
OCR, PAGE_TOKENS, SCHEMA, USEFUL, FIELDS_OUT = 0.4, 700, 900, 3, 250
IMAGE_TOKENS, VISION, PAGE_OUT = 1300, 400, 120
UNSURE, REVIEW, USED = 0.3, 0.12, 0.8
FIELDS, FIELD_RIGHT = 12, 0.99
WORSE, SLICE, SLICE_WRONG, AUDIT = 0.01, 0.002, 0.3, 0.01
PAGE_BYTES = 120_000
DIES, RESTART, ATTEMPTS, FENCED = 20, 60, 3, 2
GOLD, REVIEW_WAIT, LONG = 2000, 15, 400
HOURS = [0.005, 0.005, 0.005, 0.005, 0.01, 0.015, 0.03, 0.06, 0.11, 0.15, 0.12, 0.09, 0.06, 0.07, 0.08, 0.06, 0.045]
HOURS += [0.03, 0.015, 0.01, 0.01, 0.005, 0.005, 0.005]

GIVEN = {
    "daily": f"{DAILY:,} documents a day",
    "pages": f"{PAGES} pages on average",
    "busiest": f"{BUSIEST:.0%} of them between nine and ten",
    "own_text": f"{OWN_TEXT:.0%} of the pages",
    "waiting": f"{WAITING:.0%} of the documents",
    "patience": f"{PATIENCE} s",
    "deadline": "two hours",
    "wrong": f"{WRONG:.1%} of what no person has seen",
    "minutes": "two minutes",
    "keep": "seven years",
    "archive": f"{ARCHIVE // 1_000_000} million pages",
    "days": f"{DAYS} days",
    "poison": f"{POISON} files",
    "rollback_goal": "ten minutes",
    "cores": f"{CORES} workers",
}

ASSUMED = {
    "l4_price": (f"${L4_PRICE:.2f} an hour of an L4", "a round figure; a bill replaces it"),
    "l40s_price": (f"${L40S_PRICE:.2f} an hour of an L40S", "the same"),
    "hourly": (f"${HOURLY:.0f} an hour", "of a person who checks documents, everything included"),
    "ocr": (f"{OCR} s of an L4", "to turn a scanned page upright, find its lines and read them; measure on your scans"),
    "tagger": ("the size of Qwen2.5-0.5B", "for the tagger: an encoder over words and where they stand"),
    "extractor": ("Qwen2.5-7B in fp8", "for the extractor, fine-tuned; an L40S holds it with room"),
    "page_tokens": (f"{PAGE_TOKENS} tokens", "of text on a page"),
    "schema": (f"{SCHEMA} tokens", "of instructions, schema and two examples before the pages"),
    "useful": (f"{USEFUL} pages", "of a document hold fields; a page classifier drops the rest"),
    "out": (f"{FIELDS_OUT} tokens", "of JSON for a document"),
    "image_tokens": (f"{IMAGE_TOKENS:,} tokens", "of a page as a picture, so that small print is legible"),
    "vision": (f"{VISION} tokens", "more a page, which is what the image encoder's work comes to; measure it"),
    "page_out": (f"{PAGE_OUT} tokens", "of JSON for a page, where each is read as a picture"),
    "unsure": (f"{UNSURE:.0%} of documents", "leave the tagger unsure and go to the extractor; the pilot measures it"),
    "review": (f"{REVIEW:.0%} of documents", "go to a person after both; the pilot measures it"),
    "used": (f"{USED:.0%}", "of a full server's rate is planned with, where two hours are time enough"),
    "fields": (f"{FIELDS} fields", "of a document, each wrong on its own: not quite true, and the right warning"),
    "field_right": (f"{FIELD_RIGHT:.0%}", "of fields right, as vendors' tables have it"),
    "worse": (f"{WORSE:.0%}", "wrong among what nobody saw: the rate that must be noticed"),
    "slice": (f"{SLICE:.1%} of documents", "from one sender, whose layout changes"),
    "slice_wrong": (f"{SLICE_WRONG:.0%}", "of them wrong after it"),
    "audit": (f"{AUDIT:.0%} of accepted documents", "drawn at random and checked by a person"),
    "page_bytes": (f"{PAGE_BYTES // 1000} kB", "of a scanned page, compressed"),
    "dies": (f"{DIES} s", "until such a file has eaten a worker's memory"),
    "restart": (f"{RESTART} s", "until a worker that died is back, models loaded"),
    "attempts": (f"{ATTEMPTS} attempts", "before a document is put aside"),
    "fenced": (f"{FENCED} deaths", "of its child are enough behind the fence, where a limit says why"),
    "gold": (f"{GOLD:,} documents", "with checked fields, by kind and by sender, renewed each quarter"),
    "review_wait": (f"{REVIEW_WAIT} minutes", "may an urgent document wait for a person, 95% of the time"),
    "long": (f"{LONG} pages", "of a long document"),
}

RUNS = {
    "plan": "python -m capacity serve --config qwen2.5-7b --precision fp8 --gpu l40s --rate 2.5 --prompt 3000 "
    "--output 250 --slo 5 --price 1",
}
QUOTES = {
    "stats": ("nox -s run-stats", "packages/stats/README.md", "items  ", "power for"),
}
PEAK = DAILY * BUSIEST / 3600  # documents a second
MEAN = DAILY / 86_400


@cache
def served(rate: float, prompt: int, output: int) -> Speed:
    """Plan the extractor on one L40S a replica; five seconds to the first token are plenty."""
    found = answer(Question(MODEL, gpu("l40s"), FP8, 1, rate, prompt, output, 5.0)).typical
    assert found
    return found


def _count(rate: float, prompt: int, output: int) -> int:
    return ceil(rate / (served(rate, prompt, output).saturation * USED))


def _tag() -> float:
    """Return the seconds in which an L4 tags a page, eight together."""
    return prefill(TAGGER, gpu("l4"), BF16, PAGE_TOKENS, 8, efficiency=TYPICAL).seconds / 8


def _waits(workers: int) -> list[float]:
    """Return how many hours scanned pages of each minute of the day wait, first come first served."""
    backlog, waits = 0.0, []
    for share in HOURS * 2:  # a day to begin with, then the one that counts
        for _ in range(60):
            backlog = max(0.0, backlog + DAILY * PAGES * (1 - OWN_TEXT) * share / 60 * OCR - workers * 60)
            waits.append(backlog / workers / 3600)
    return waits[len(waits) // 2 :]


def _fewest() -> int:
    return next(workers for workers in range(1, 100) if max(_waits(workers)) <= DEADLINE)


PROMPT = SCHEMA + USEFUL * PAGE_TOKENS
WAYS = {
    "tagger on all, people for the unsure": (0.0, 0, 0, UNSURE),
    "extractor on all": (1.0, PROMPT, FIELDS_OUT, REVIEW),
    "tagger, extractor for the unsure": (UNSURE, PROMPT, FIELDS_OUT, REVIEW),
    "each page as a picture": (float(PAGES), SCHEMA + IMAGE_TOKENS + VISION, PAGE_OUT, REVIEW),
}


def _gpus(name: str) -> tuple[int, int]:
    """Return the L4 and L40S that a way needs at the peak hour, reading of scans included."""
    share, prompt, output, _ = WAYS[name]
    pictures, tags = name.startswith("each"), name.startswith("tagger")
    l4 = 0.0 if pictures else PEAK * PAGES * (1 - OWN_TEXT) * OCR
    l4 += PEAK * PAGES * _tag() if tags else 0.0
    return ceil(l4 / USED), _count(PEAK * share, prompt, output) if share else 0


def _bill(name: str) -> float:
    """Return the money of a day for machines, owned for the peak."""
    l4, l40s = _gpus(name)
    return 24 * (l4 * L4_PRICE + l40s * L40S_PRICE)


def _people(share: float) -> float:
    return DAILY * share * MINUTES / 60


def _ways() -> str:
    rows = ["| way | L4 | L40S | machines a day | to people | their hours a day | people a day |"]
    rows.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, (*_, review) in WAYS.items():
        l4, l40s = _gpus(name)
        hours = _people(review)
        money = f"${_bill(name):,.0f} | {review:.0%} | {hours:,.0f} | ${hours * HOURLY:,.0f}"
        rows.append(f"| {name} | {l4} | {l40s} | {money} |")
    return "\n".join(rows)


def computed() -> dict[str, str]:
    """Return what follows from the above, as text."""
    chosen = "tagger, extractor for the unsure"
    l4, l40s = _gpus(chosen)
    cheap, dear = _bill(chosen), _bill("each page as a picture")
    point = _people(0.01) * HOURLY
    scans = PEAK * PAGES * (1 - OWN_TEXT)
    fast_rate, fast_ocr = PEAK * WAITING, PAGES * (1 - OWN_TEXT) * OCR  # a document's pages come together: one job
    lane = replicas(fast_rate, fast_ocr, 5.0, 99)
    one = served(PEAK * UNSURE, PROMPT, FIELDS_OUT)
    work = Workload(3000, PROMPT, FIELDS_OUT, rate=PEAK * WAITING)  # all of them may be unsure: one server's load
    trace = simulate(one.server, work, 0)
    whole = np.percentile((trace.finish - trace.arrival)[trace.warm :], 95)
    in_lane = wait_percentile(lane.replicas, fast_rate, fast_ocr, 99)
    fewest = _fewest()
    reviewers = replicas(PEAK * REVIEW, 60 * MINUTES, 60 * REVIEW_WAIT, 95)
    urgent = replicas(PEAK * REVIEW * WAITING, 60 * MINUTES, 60 * REVIEW_WAIT, 95)
    archive_docs = ARCHIVE / PAGES
    archive_rate = archive_docs / (DAYS * 86_400)
    archive_l4 = ceil(ARCHIVE / (DAYS * 86_400) * ((1 - OWN_TEXT) * OCR + _tag()) / USED)
    archive_l40s = _count(archive_rate * UNSURE, PROMPT, FIELDS_OUT)
    archive_hours = archive_docs * REVIEW * MINUTES / 60
    audited = samples_needed(WRONG, WORSE, 0.01)
    in_slice = samples_needed(WRONG, SLICE_WRONG, 0.01, Test(alpha=0.05 * SLICE))
    accepted = DAILY * (1 - REVIEW)
    slice_daily = accepted * SLICE * AUDIT
    swallowed = POISON * ATTEMPTS * (DIES + RESTART)
    tries, _ = expected_attempts(1.0, ATTEMPTS - 1)
    right = FIELD_RIGHT**FIELDS
    year = 365
    redo = DAILY * PAGES * (1 - OWN_TEXT) * OCR / l4 / 3600
    return {
        "ways": _ways(),
        "pages_daily": f"{DAILY * PAGES / 1e6:.1f} million pages",
        "peak": f"{PEAK:.1f} documents a second",
        "peak_pages": f"{PEAK * PAGES:.0f} pages a second",
        "mean": f"{MEAN:.1f}",
        "scans": f"{scans:.0f} scanned pages a second",
        "ocr_peak": f"{ceil(scans * OCR)} L4",
        "ocr_fewest": f"{fewest} L4",
        "ocr_worst": f"{60 * max(_waits(fewest)):.0f} minutes",
        "ocr_less": f"{max(_waits(fewest - 1)):.1f} hours",
        "tag_ms": f"{_tag() * 1e3:.0f} ms",
        "prompt": f"{PROMPT:,} tokens",
        "unsure_rate": f"{PEAK * UNSURE:.1f} documents a second",
        "extract_full": f"{one.saturation:.1f} documents a second",
        "extract_first": f"{one.first.seconds * 1e3:.0f} ms",
        "l4": f"{l4} L4",
        "l40s": f"{l40s} L40S",
        "cheap": f"${cheap:,.0f} a day",
        "dear": f"${dear:,.0f} a day",
        "both": f"${cheap + dear:,.0f} a day",
        "people_hours": f"{_people(REVIEW):,.0f} hours a day",
        "people_money": f"${_people(REVIEW) * HOURLY:,.0f} a day",
        "people_share": f"{_people(REVIEW) * HOURLY / (_people(REVIEW) * HOURLY + cheap):.1%}",
        "point": f"${point:,.0f} a day",
        "point_year": f"${point * year / 1e3:,.0f} thousand a year",
        "second_points": f"{dear / point:.2f} points",
        "bill_points": f"{cheap / point:.1f} points",
        "reviewers": f"{reviewers.replicas} people",
        "reviewers_all": f"{_people(REVIEW) / 7:.0f} people",
        "urgent": f"{urgent.replicas} people",
        "urgent_busy": f"{urgent.utilization:.0%}",
        "lane": f"{lane.replicas} L4",
        "lane_busy": f"{lane.utilization:.0%}",
        "lane_wait": f"{in_lane:.1f} s",
        "lane_read": f"{fast_ocr:.1f} s",
        "whole": f"{whole:.1f} s",
        "fast_total": f"{in_lane + fast_ocr + whole:.0f} s",
        "ocr_owned": f"{fewest + 1} L4",
        "right": f"{right:.0%}",
        "right_need": f"{(1 - WRONG) ** (1 / FIELDS):.2%}",
        "accepted": f"{accepted:,.0f} documents a day",
        "wrong_daily": f"{accepted * WRONG:,.0f}",
        "clean": f"{requests_without_failure(WRONG):,} documents",
        "audited": f"{audited:,} documents",
        "audit_daily": f"{accepted * AUDIT:,.0f} a day",
        "audit_days": f"{audited / (accepted * AUDIT):.1f} days",
        "audit_hours": f"{accepted * AUDIT * MINUTES / 60:.0f} hours a day",
        "in_slice": f"{in_slice} documents",
        "slice_days": f"{in_slice / slice_daily:.1f} days",
        "slice_daily": f"{slice_daily:.1f} a day",
        "slice_docs": f"{DAILY * SLICE:.0f} a day",
        "gold_rule": f"{rule_of_three(GOLD):.2%}",
        "archive_docs": f"{archive_docs / 1e6:.1f} million documents",
        "archive_rate": f"{ARCHIVE / (DAYS * 86_400):.0f} pages a second",
        "archive_l4": f"{archive_l4} L4",
        "archive_l40s": f"{archive_l40s} L40S",
        "archive_money": f"${(archive_l4 * L4_PRICE + archive_l40s * L40S_PRICE) * 24 * DAYS:,.0f}",
        "archive_hours": f"{archive_hours:,.0f} hours",
        "archive_people": f"{archive_hours / (7 * DAYS):,.0f} people",
        "archive_pay": f"${archive_hours * HOURLY / 1e3:,.0f} thousand",
        "storage": f"{registry_bytes(DAILY * year, PAGES * PAGE_BYTES, KEEP, copies=2) / 1e12:,.0f} TB",
        "storage_daily": f"{DAILY * PAGES * PAGE_BYTES / 1e9:.0f} GB",
        "poison_each": f"{DIES + RESTART} s",
        "poison_time": f"{swallowed / 3600:.0f} hours",
        "poison_minutes": f"{swallowed / CORES / 60:.0f} minutes",
        "poison_tries": f"{tries * POISON:,.0f} deaths",
        "poison_fenced": f"{POISON * FENCED * DIES / CORES / 60:.0f} minutes",
        "poison_backlog": f"{swallowed / CORES * PEAK:,.0f} documents",
        "long_ocr": f"{LONG * OCR:.0f} s",
        "long_parallel": f"{LONG * OCR / l4:.0f} s",
        "long_tokens": f"{LONG * PAGE_TOKENS / 1e3:.0f} thousand tokens",
        "redo": f"{redo:.1f} hours",
        "redo_words": f"{DAILY / served(PEAK, PROMPT, FIELDS_OUT).saturation / 3600:.1f} hours",
        "slice_wrong_docs": f"{DAILY * SLICE * SLICE_WRONG * in_slice / slice_daily:.0f} documents",
        "senders": f"{1 / SLICE:.0f} senders",
        "slice_share": f"{SLICE:.1%} of documents",
        "slice_bad": f"{SLICE_WRONG:.0%}",
        "wrong_rate": f"{WRONG:.1%}",
        "worse_rate": f"{WORSE:.0%}",
        "audit_share": f"{AUDIT:.0%}",
        "right_share": f"{FIELD_RIGHT:.0%}",
        "fields_only": f"{FIELDS}",
        "unsure_share": f"{UNSURE:.0%}",
        "review_share": f"{REVIEW:.0%}",
        "poison_share": f"{1 / CORES:.0%}",
        "fenced_alone": f"{POISON * FENCED * DIES / 60:.0f} minutes",
        "machine_1k": f"${cost_per_1k_requests(cheap / 24, 1, MEAN):.2f}",
        "people_1k": f"${REVIEW * MINUTES / 60 * HOURLY * 1000:,.0f}",
        "audit_money": f"${accepted * AUDIT * MINUTES / 60 * HOURLY:,.0f} a day",
        "tenfold": f"{10 * PEAK:.0f} documents a second",
        "ten_l4": f"{10 * l4} L4",
        "ten_people": f"{10 * _people(REVIEW) / 7:,.0f} people",
    }


def plots() -> dict[str, dict[str, Any]]:
    """Return the pictures of curves."""
    fewest = _fewest()
    clock = [minute / 60 for minute in range(0, 24 * 60, 15)]
    counts = (fewest - 1, fewest, fewest + 2)
    lines = {f"{count} L4": (clock, [60 * wait for wait in _waits(count)[::15]]) for count in counts}
    return {
        "waits": {
            "title": "how long a scanned page waits to be read, by when it came",
            "x": "hour of the day",
            "y": "minutes",
            "lines": lines,
            "limits": {"limit": 60.0 * DEADLINE},
            "log": "",
        }
    }
