"""Capacity arithmetic for machine-learning systems: the solutions of the exercises, as a library."""

from capacity.caching.solution import kv_bytes_per_token, request_bytes
from capacity.concurrency import Budget, Fit
from capacity.concurrency.solution import fewest_gpus, fit
from capacity.costs import Api, BreakEven
from capacity.costs.solution import break_even, cost_per_1k_requests, cost_per_million_tokens
from capacity.gpus import Gpu, gpu
from capacity.queueing.solution import erlang_c, replicas
from capacity.rooflines import BOUND, TYPICAL, Efficiency, Estimate
from capacity.rooflines.solution import calibrate, decode, prefill
from capacity.serving import Server, Trace, Workload
from capacity.serving.solution import saturation, simulate, simulate_preempting, simulate_prefix, simulate_split
from capacity.vectors import Index, Weight
from capacity.vectors.solution import embedding_cost, embedding_hours, index_bytes
from capacity.weights import Model, Precision
from capacity.weights.solution import active_parameters, bytes_read, parameters, weight_bytes

__all__ = [
    "BOUND",
    "TYPICAL",
    "Api",
    "BreakEven",
    "Budget",
    "Efficiency",
    "Estimate",
    "Fit",
    "Gpu",
    "Index",
    "Model",
    "Precision",
    "Server",
    "Trace",
    "Weight",
    "Workload",
    "active_parameters",
    "break_even",
    "bytes_read",
    "calibrate",
    "cost_per_1k_requests",
    "cost_per_million_tokens",
    "decode",
    "embedding_cost",
    "embedding_hours",
    "erlang_c",
    "fewest_gpus",
    "fit",
    "gpu",
    "index_bytes",
    "kv_bytes_per_token",
    "parameters",
    "prefill",
    "replicas",
    "request_bytes",
    "saturation",
    "simulate",
    "simulate_preempting",
    "simulate_prefix",
    "simulate_split",
    "weight_bytes",
]
