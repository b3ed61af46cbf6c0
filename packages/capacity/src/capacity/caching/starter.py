"""Your turn: replace each ``raise NotImplementedError``."""

from capacity.weights import Model


def kv_bytes_per_token(model: Model, bits: float = 16, gpus: int = 1) -> int:
    """Return the bytes that one token occupies on each GPU, over all layers, while none has left a window.

    Keys and values take ``2 * kv_heads * head_dim`` numbers a layer, each of ``bits`` bits. Raises ValueError for
    bits or gpus below 1, and, naming ``layer_types``, for a kind of attention whose cache is not known. With a
    ``latent`` the answer is ``latent_bytes_per_token``, on more than one GPU ``sharded_bytes_per_token``.
    """
    raise NotImplementedError("TODO 1 (core, about 8 lines): keys and values of a token")


def request_bytes(model: Model, tokens: int, block: int = 16, bits: float = 16, gpus: int = 1) -> int:
    """Return the bytes that a request of ``tokens`` holds on each GPU, in whole blocks of ``block`` tokens.

    Every layer has blocks of its own. Where a model has sliding layers, ``layer_tokens`` says how many tokens they
    keep. Raises ValueError for negative tokens and a block below 1, and what ``kv_bytes_per_token`` raises.
    Source: Kwon et al. 2023, arXiv:2309.06180, section 4.
    """
    raise NotImplementedError("TODO 2 (core, about 7 lines): round up to whole blocks")


def layer_tokens(tokens: int, window: int, block: int) -> int:
    """Return the token slots that a layer with a window of ``window`` keeps for a request, in whole blocks.

    A block goes back once every token in it has left the window. A window that straddles blocks touches one more than
    it fills, so the most ever held is ``ceil((window - 1) / block) + 1`` blocks; that is what has to be reserved.
    """
    raise NotImplementedError("TODO 3 (stretch, about 1 line): what a window keeps")


def latent_bytes_per_token(model: Model, bits: float) -> int:
    """Return the bytes of one token under multi-head latent attention, the same on each GPU.

    A layer keeps ``latent`` numbers, from which all heads' keys and values are made, and ``rope_dim`` that carry the
    position. Source: DeepSeek-V2, arXiv:2405.04434, section 2.1.4 and table 1.
    """
    raise NotImplementedError("TODO 4 (stretch, about 1 line): the compressed cache")


def sharded_bytes_per_token(model: Model, bits: float, gpus: int) -> int:
    """Return the bytes of one token on each of ``gpus`` GPUs that share the heads.

    Each has ``kv_heads / gpus`` heads; beyond ``kv_heads`` GPUs each still has one, a copy. Raises ValueError where
    the heads or the GPUs cannot be shared out evenly. Source: Pope et al. 2022, arXiv:2211.05102, section 3.3.
    """
    raise NotImplementedError("TODO 5 (stretch, about 5 lines): whole heads on each GPU")
