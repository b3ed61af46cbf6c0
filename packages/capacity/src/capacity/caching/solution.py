"""Bytes of a token in a layer, times the tokens that the layer keeps."""

from math import ceil

from capacity.caching import FULL, SLIDING
from capacity.weights import Model


def kv_bytes_per_token(model: Model, bits: float = 16, gpus: int = 1) -> int:
    """Return the bytes that one token occupies on each GPU, over all layers, while none has left a window.

    Keys and values take ``2 * kv_heads * head_dim`` numbers a layer, each of ``bits`` bits. Raises ValueError for
    bits or gpus below 1, and, naming ``layer_types``, for a kind of attention whose cache is not known. With a
    ``latent`` the answer is ``latent_bytes_per_token``, on more than one GPU ``sharded_bytes_per_token``.
    """
    _check(model, bits, gpus)
    if model.latent:
        return latent_bytes_per_token(model, bits)  # not sharded: there are no heads to share out
    if gpus > 1:
        return sharded_bytes_per_token(model, bits, gpus)
    return ceil(2 * model.layers * model.kv_heads * model.head_dim * bits / 8)


def request_bytes(model: Model, tokens: int, block: int = 16, bits: float = 16, gpus: int = 1) -> int:
    """Return the bytes that a request of ``tokens`` holds on each GPU, in whole blocks of ``block`` tokens.

    Every layer has blocks of its own. Where a model has sliding layers, ``layer_tokens`` says how many tokens they
    keep. Raises ValueError for negative tokens and a block below 1, and what ``kv_bytes_per_token`` raises.
    Source: Kwon et al. 2023, arXiv:2309.06180, section 4.
    """
    if tokens < 0 or block < 1:
        msg = f"tokens must be at least 0 and block at least 1, not {tokens} and {block}"
        raise ValueError(msg)
    each = kv_bytes_per_token(model, bits, gpus) / model.layers
    sliding = model.layer_types.count(SLIDING)
    full = model.layers - sliding
    kept = layer_tokens(tokens, model.window, block) if sliding else 0
    return ceil(each * (full * ceil(tokens / block) * block + sliding * kept))


def _check(model: Model, bits: float, gpus: int) -> None:
    if not bits > 0 or gpus < 1:
        msg = f"bits must be above 0 and gpus at least 1, not {bits} and {gpus}"
        raise ValueError(msg)
    unknown = sorted(set(model.layer_types) - {FULL, SLIDING})
    if unknown:
        msg = f"layer_types: no cache is known for {', '.join(unknown)}, only for {FULL} and {SLIDING}"
        raise ValueError(msg)
    if SLIDING in model.layer_types and model.window < 1:
        msg = f"layer_types has {SLIDING}, and sliding_window is {model.window}: it must be at least 1"
        raise ValueError(msg)


def layer_tokens(tokens: int, window: int, block: int) -> int:
    """Return the token slots that a layer with a window of ``window`` keeps for a request, in whole blocks.

    A block goes back once every token in it has left the window. A window that straddles blocks touches one more than
    it fills, so the most ever held is ``ceil((window - 1) / block) + 1`` blocks; that is what has to be reserved.
    """
    return min(ceil(tokens / block), ceil((window - 1) / block) + 1) * block


def latent_bytes_per_token(model: Model, bits: float) -> int:
    """Return the bytes of one token under multi-head latent attention, the same on each GPU.

    A layer keeps ``latent`` numbers, from which all heads' keys and values are made, and ``rope_dim`` that carry the
    position. Source: DeepSeek-V2, arXiv:2405.04434, section 2.1.4 and table 1.
    """
    return ceil(model.layers * (model.latent + model.rope_dim) * bits / 8)


def sharded_bytes_per_token(model: Model, bits: float, gpus: int) -> int:
    """Return the bytes of one token on each of ``gpus`` GPUs that share the heads.

    Each has ``kv_heads / gpus`` heads; beyond ``kv_heads`` GPUs each still has one, a copy. Raises ValueError where
    the heads or the GPUs cannot be shared out evenly. Source: Pope et al. 2022, arXiv:2211.05102, section 3.3.
    """
    uneven = model.kv_heads % gpus and gpus % model.kv_heads
    if model.heads % gpus or uneven:
        msg = f"{model.heads} heads and {model.kv_heads} kv_heads cannot be shared out over {gpus} GPUs"
        raise ValueError(msg)
    return ceil(2 * model.layers * max(1, model.kv_heads // gpus) * model.head_dim * bits / 8)
