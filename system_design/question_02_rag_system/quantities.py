"""The numbers of this question: what is given, what is assumed, and what follows by packages/capacity."""
# ruff: noqa: INP001 - a folder of pages, not a package

from functools import cache
from math import ceil
from typing import Any

from capacity import (
    Index,
    Precision,
    cost_per_1k_requests,
    embedding_cost,
    embedding_hours,
    gpu,
    index_bytes,
    kv_bytes_per_token,
    prefill,
    replicas,
    request_bytes,
    weight_bytes,
    zoo,
)
from capacity.canary import Test
from capacity.canary.solution import days_needed, requests_without_failure, rule_of_three, samples_needed
from capacity.plan import Answer, Question, answer, curve
from capacity.rooflines import TYPICAL
from capacity.vectors.solution import scanned_bytes

MODEL, ENCODER = zoo.load("llama-3.1-70b"), zoo.load("qwen2.5-0.5b")
FP8, BF16 = Precision.named("fp8"), Precision.named("bf16")
H100, L40S = gpu("h100"), gpu("l40s")
DOCUMENTS, TOKENS, CHANGED, RATE, TTFT, ITL, OUTPUT = 10_000_000, 3000, 0.01, 30.0, 2.0, 0.05, 300
CHUNK, OVERLAP, DIM, PIECES, LISTS, LINKS, PROBES, VISITED = 400, 50, 896, 64, 65_536, 32, 64, 4000
CANDIDATES, KEPT, INSTRUCTIONS, ASKED = 50, 8, 500, 100
PROMPT = KEPT * CHUNK + INSTRUCTIONS + ASKED
STRIDE = CHUNK - OVERLAP
PARTS = ceil((TOKENS - OVERLAP) / STRIDE)
VECTORS = DOCUMENTS * PARTS
PRICE, PRICE_SMALL, PRICE_NODE = 2.5, 1.0, 2.0
BATCH, RETRIEVAL, RERANK_WAIT = 64, 0.5, 0.1
NODE_BYTES, READ = 200e9, 100e9
FILTERED = 200_000
LONG = 400_000
BAD, WORSE, BROKEN, RATED, CANARY = 0.06, 0.08, 0.15, 0.02, 0.1
UNSUPPORTED, BETTER = 0.06, 0.04
GOLDEN, FOUND, LOST = 500, 0.9, 0.85
GPUS = 4

GIVEN = {
    "documents": "10 million documents",
    "tokens": f"{TOKENS:,} tokens on average",
    "changed": f"{CHANGED:.0%} of the documents change each day",
    "rate": f"{RATE:g} questions a second",
    "slo_ttft": f"{TTFT:g} s to the first token",
    "slo_itl": f"{ITL * 1e3:g} ms between tokens",
    "share": "99% of questions",
    "output": f"{OUTPUT} tokens",
    "fresh": "15 minutes",
    "revoked": "one minute",
    "model": "Llama 3.1 70B",
    "growth": "ten times the documents",
    "long_document": f"{LONG:,} tokens",
    "filtered": f"{FILTERED:,} passages",
    "availability": "99.9%",
}

ASSUMED = {
    "price": (f"${PRICE:.2f} an hour of an H100", "a round figure for a year's contract; a bill replaces it"),
    "price_small": (f"${PRICE_SMALL:.2f} an hour of an L40S", "the same, for encoder and reranker"),
    "price_node": (f"${PRICE_NODE:.2f} an hour of a search node", "a large-memory machine without a GPU"),
    "node_bytes": (f"{NODE_BYTES / 1e9:.0f} GB of a node", "usable for an index, with room to swap and to grow"),
    "read": (f"{READ / 1e9:.0f} GB/s", "memory bandwidth that a scan really gets on such a node; measure it"),
    "efficiency": (
        f"{TYPICAL.compute:.0%}, {TYPICAL.bandwidth:.0%} and {TYPICAL.overhead * 1e3:g} ms",
        "FLOPs, bandwidth and fixed part of a step: `capacity.TYPICAL`; two measurements replace it",
    ),
    "encoder": ("the size of Qwen2.5-0.5B", "for the encoder, and for the reranker: a size that one measures first"),
    "dim": (f"{DIM} dimensions", "that model's width"),
    "chunk": (f"{CHUNK} tokens", "of a passage: a few paragraphs, so that eight make a prompt"),
    "overlap": (f"{OVERLAP} tokens", "shared with the passage before, where no heading separates them"),
    "candidates": (f"{CANDIDATES} candidates", "reach the reranker, from both searches together"),
    "kept": (f"{KEPT} passages", "reach the prompt; beyond it answers gain little and reading costs"),
    "instructions": (f"{INSTRUCTIONS} tokens", "of instructions before the passages, the same for all"),
    "question": (f"{ASKED} tokens", "of the question, rewritten with the conversation"),
    "pieces": (f"{PIECES} bytes", "of a product-quantized vector"),
    "lists": (f"{LISTS:,} lists", "of the inverted file"),
    "probes": (f"{PROBES} lists", "of the inverted file are read for a question"),
    "links": (f"{LINKS} links", "M of the HNSW graph"),
    "visited": (f"{VISITED:,} nodes", "of the graph looked at for a question; measure it at the recall you need"),
    "retrieval": (f"{RETRIEVAL:g} s", "of the limit are kept for rewriting, both searches and reranking"),
    "rerank_wait": (f"{RERANK_WAIT * 1e3:.0f} ms", "of waiting for the reranker, at the 99th percentile"),
    "bad": (f"{BAD:.0%} of rated answers", "are thumbs down today"),
    "worse": (f"{WORSE:.0%}", "is the rate that must stop a release"),
    "broken": (f"{BROKEN:.0%}", "is the rate to expect when retrieval returns noise"),
    "rated": (f"{RATED:.0%} of answers", "are rated by users"),
    "canary": (f"{CANARY:.0%} of traffic", "sees a release first"),
    "golden": (f"{GOLDEN} questions", "with known passages, written with the people who own the documents"),
    "found": (f"{FOUND:.0%}", "recall of the known passages among the candidates today"),
    "lost": (f"{LOST:.0%}", "is a recall that must be noticed"),
    "unsupported": (f"{UNSUPPORTED:.0%}", "of answers have a claim that no passage supports, by audited judges"),
    "better": (f"{BETTER:.0%}", "is the rate that a change has to reach to be worth shipping"),
}

RUNS = {
    "plan": "python -m capacity serve --config llama-3.1-70b --precision fp8 --gpus 4 --rate 30 "
    f"--prompt {PROMPT} --output 300 --slo 1.5 --itl 0.05 --price 2.5",
}
QUOTES = {
    "stats": ("nox -s run-stats", "packages/stats/README.md", "items  ", "power for"),
}


@cache
def asked(rate: float = RATE) -> Answer:
    """Plan the model's servers, with what retrieval leaves of the limit."""
    return answer(Question(MODEL, H100, FP8, GPUS, rate, PROMPT, OUTPUT, TTFT - RETRIEVAL, ITL))


INDEXES = {
    "flat, float32": Index(),
    "HNSW over float32": Index(links=LINKS),
    "HNSW over a byte each": Index("sq8", links=LINKS),
    "inverted file, a byte each": Index("sq8", lists=LISTS),
    "inverted file, product-quantized": Index("pq", PIECES, lists=LISTS),
}


def _read(index: Index, vectors: int) -> float:
    probes, visited = (PROBES if index.lists else 1), (VISITED if index.links else 0)
    return scanned_bytes(vectors, DIM, index, probes, visited)


def _indexes() -> str:
    rows = ["| index | bytes | nodes | at ten times | nodes | read for a question | least time |"]
    rows.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, index in INDEXES.items():
        now, then = (index_bytes(many, DIM, index).total for many in (VECTORS, 10 * VECTORS))
        read = _read(index, VECTORS)
        sizes = f"{now / 1e9:.0f} GB | {ceil(now / NODE_BYTES)} | {then / 1e9:,.0f} GB | {ceil(then / NODE_BYTES)}"
        rows.append(f"| {name} | {sizes} | {read / 1e6:,.0f} MB | {read / READ * 1e3:,.2f} ms |")
    return "\n".join(rows)


def computed() -> dict[str, str]:
    """Return what follows from the above, as text."""
    found, tenfold = asked(), asked(10 * RATE)
    speed, more = found.typical, tenfold.typical
    assert speed
    assert more
    graph, small = INDEXES["HNSW over a byte each"], INDEXES["inverted file, product-quantized"]
    weight, packed = index_bytes(VECTORS, DIM, graph), index_bytes(10 * VECTORS, DIM, small)
    big = index_bytes(10 * VECTORS, DIM, graph).total
    encode = prefill(ENCODER, L40S, BF16, CHUNK, BATCH, efficiency=TYPICAL)
    pace = BATCH * CHUNK / encode.seconds
    work = PARTS * CHUNK  # tokens that the encoder reads of a document, overlap included
    hours = embedding_hours(DOCUMENTS, work, pace)
    rerank = prefill(ENCODER, L40S, BF16, CHUNK + ASKED, CANDIDATES, efficiency=TYPICAL).seconds
    rerankers = replicas(RATE, rerank, RERANK_WAIT)
    whole = prefill(MODEL, H100, FP8, 100_000, 1, GPUS, efficiency=TYPICAL).seconds
    first = prefill(MODEL, H100, FP8, PROMPT, 1, GPUS, efficiency=TYPICAL).seconds
    search_nodes = 2 * ceil(weight.total / NODE_BYTES) + 1
    llm = cost_per_1k_requests(PRICE, GPUS, RATE, speed.replicas)
    ranking = cost_per_1k_requests(PRICE_SMALL, 1, RATE, rerankers.replicas)
    search = cost_per_1k_requests(PRICE_NODE, 1, RATE, search_nodes)
    daily = embedding_cost(round(DOCUMENTS * CHANGED), work, pace, PRICE_SMALL)
    upkeep = daily / (RATE * 86.4)
    thumbs, crash = samples_needed(BAD, WORSE, CANARY), samples_needed(BAD, BROKEN, CANARY)
    leaks = 10_000
    return {
        "indexes": _indexes(),
        "parts": f"{PARTS} passages",
        "vectors": f"{VECTORS / 1e6:.0f} million vectors",
        "vectors_ten": f"{10 * VECTORS / 1e6:.0f} million vectors",
        "corpus": f"{DOCUMENTS * TOKENS / 1e9:.0f} billion tokens",
        "encoded": f"{DOCUMENTS * work / 1e9:.0f} billion tokens",
        "raw": f"{index_bytes(VECTORS, DIM, Index()).total / 1e9:.0f} GB",
        "index": f"{weight.total / 1e9:.0f} GB",
        "index_links": f"{weight.links / 1e9:.0f} GB",
        "index_ten": f"{big / 1e9:,.0f} GB",
        "nodes_ten": f"{ceil(big / NODE_BYTES)} nodes",
        "packed_ten": f"{packed.total / 1e9:.0f} GB",
        "exact": f"{FILTERED * DIM / READ * 1e3:.1f} ms",
        "exact_bytes": f"{FILTERED * DIM / 1e6:.0f} MB",
        "search_nodes": f"{search_nodes} nodes",
        "pace": f"{pace / 1e3:.0f} thousand tokens a second",
        "hours": f"{hours:.0f} hours",
        "hours_eight": f"{embedding_hours(DOCUMENTS, work, pace, 8):.1f} hours on 8 GPUs",
        "embed_cost": f"${embedding_cost(DOCUMENTS, work, pace, PRICE_SMALL):.0f}",
        "embed_cost_ten": f"${embedding_cost(10 * DOCUMENTS, work, pace, PRICE_SMALL):,.0f}",
        "hours_ten": f"{10 * hours / 8:.0f} hours on 8 GPUs",
        "changes": f"{DOCUMENTS * CHANGED * PARTS / 86_400:.0f} passages a second",
        "change_hours": f"{embedding_hours(round(DOCUMENTS * CHANGED), work, pace) * 60:.0f} minutes",
        "rerank": f"{rerank * 1e3:.0f} ms",
        "rerankers": f"{rerankers.replicas} rerankers",
        "rerank_use": f"{rerankers.utilization:.0%}",
        "prompt": f"{PROMPT:,} tokens",
        "passages": f"{KEPT * CHUNK / PROMPT:.0%}",
        "prefix": f"{INSTRUCTIONS / PROMPT:.0%}",
        "weights": f"{weight_bytes(MODEL, FP8) / 1e9:.0f} GB",
        "kv_token": f"{kv_bytes_per_token(MODEL, 8):,} bytes",
        "kv": f"{request_bytes(MODEL, PROMPT + OUTPUT, bits=8) / 1e6:.0f} MB",
        "first": f"{first * 1e3:.0f} ms",
        "left": f"{TTFT - RETRIEVAL:g} s",
        "read_share": f"{speed.server.prompt * PROMPT * speed.saturation:.0%}",
        "servers": f"{speed.replicas} replicas",
        "gpus": f"{speed.replicas * GPUS} GPUs",
        "gpus_each": f"{GPUS} GPUs",
        "ttft": f"{speed.ttft_p99:.2f} s",
        "total": f"{speed.ttft_p99 + RETRIEVAL:.2f} s",
        "gpus_ten": f"{more.replicas * GPUS} GPUs",
        "rate_ten": f"{10 * RATE:g} questions a second",
        "long_read": f"{whole:.0f} s",
        "long_tokens": f"{100_000:,} tokens",
        "long_times": f"{whole / first:.0f} times",
        "long_parts": f"{ceil((LONG - OVERLAP) / STRIDE):,} passages",
        "context": "131,072 tokens",
        "thumbs": f"{thumbs:,} rated answers",
        "thumbs_days": f"{days_needed(thumbs, RATE, CANARY, RATED):.1f} days",
        "crash": f"{crash:,} rated answers",
        "crash_minutes": f"{days_needed(crash, RATE, CANARY, RATED) * 1440:.0f} minutes",
        "judge": f"{samples_needed(UNSUPPORTED, BETTER, test=Test(two_sided=True)):,} answers",
        "recall_items": f"{samples_needed(FOUND, LOST):,} questions",
        "leaks": f"{leaks:,} probes",
        "leak_bound": f"{rule_of_three(leaks):.2%}",
        "leak_wanted": f"{requests_without_failure(1e-4):,} probes",
        "leak_rate": f"{1e-4:.2%}",
        "cost": f"${llm + ranking + search + upkeep:.2f}",
        "cost_llm": f"${llm:.2f}",
        "cost_rank": f"${ranking:.3f}",
        "cost_search": f"${search:.3f}",
        "cost_embed": f"${upkeep:.4f}",
        "cost_share": f"{llm / (llm + ranking + search + upkeep):.0%}",
    }


def plots() -> dict[str, dict[str, Any]]:
    """Return the pictures of curves."""
    lines = {}
    for kept in (4, 8, 16):
        prompt = kept * CHUNK + INSTRUCTIONS + ASKED
        question = Question(MODEL, H100, FP8, GPUS, RATE, prompt, OUTPUT, TTFT - RETRIEVAL, ITL)
        speed = answer(question).typical
        assert speed
        rows = curve(question, speed.server, speed.saturation)
        lines[f"{kept} passages"] = ([row[0] for row in rows], [row[2] for row in rows])
    return {
        "load": {
            "title": "passages in the prompt are paid in load: 99% of first tokens come within",
            "x": "questions a second, for each replica",
            "y": "seconds",
            "lines": lines,
            "limits": {"left by retrieval": TTFT - RETRIEVAL},
            "log": "y",
        }
    }
