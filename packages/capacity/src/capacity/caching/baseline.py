"""The formula that everybody knows: full attention on one GPU."""

from math import ceil

from capacity.caching import FULL
from capacity.weights import Model


def kv_bytes_per_token(model: Model, bits: float = 16, gpus: int = 1) -> int:
    """Add up the layers."""
    if gpus != 1 or model.latent or set(model.layer_types) - {FULL}:
        msg = "layer_types: the baseline knows full attention on one GPU only"
        raise ValueError(msg)
    total = 0.0
    for _ in range(model.layers):
        total += 2 * model.kv_heads * model.head_dim * bits / 8
    return ceil(total)


def request_bytes(model: Model, tokens: int, block: int = 16, bits: float = 16, gpus: int = 1) -> int:
    """Hand out blocks until all tokens have a place."""
    slots = 0
    while slots < tokens:
        slots += block
    return slots * kv_bytes_per_token(model, bits, gpus)
