"""Weights: how many numbers a language model holds, and how many bytes they take.

Everything else in capacity planning starts here: what has to be stored, and what every decoding step has to read. The
answer follows from a dozen fields of a Hugging Face ``config.json``; nothing is downloaded.

What you write:

- ``matrices``: the weight matrices of a decoder with grouped-query attention and a gated or plain MLP.
- ``parameters``: all its parameters; biases, norms and a tied embedding are where estimates go wrong.
- ``weight_bytes``: the bytes under a precision plan, scales included.
- stretch: mixtures of experts and multi-head latent attention in ``matrices``; ``active_parameters`` of one token; and
  ``bytes_read``, what one decoding step of a batch reads when every token picks its own experts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["embedding", "attention", "mlp", "expert", "router", "head"]


@dataclass(frozen=True, slots=True)
class Matrix:
    """``count`` equal weight matrices of ``rows`` outputs and ``cols`` inputs, each with or without a bias."""

    kind: Kind
    rows: int
    cols: int
    count: int = 1
    bias: bool = False

    @property
    def size(self) -> int:
        """Weights in all ``count`` matrices, biases left out."""
        return self.rows * self.cols * self.count


@dataclass(frozen=True, slots=True)
class Precision:
    """How many bits each number takes.

    ``linear`` holds for the matrices of attention, MLP and experts; each row of them has one scale of ``scale`` bits
    (and a zero point of ``zero`` bits) for every ``group`` columns, one for the whole row where group is 0, none at
    all where linear is 16 or more. ``embedding`` holds for embedding and head, ``cache`` for the KV cache. Routers,
    biases and norms stay at 16 bits. ``compute`` names the arithmetic: the tensor cores' input type.
    """

    linear: float = 16
    group: int = 0
    scale: int = 16
    zero: int = 0
    embedding: float = 16
    cache: float = 16
    compute: str = "bf16"

    def __post_init__(self) -> None:
        """Refuse bits that no number has."""
        for name in ("linear", "embedding", "cache"):
            if not 0 < getattr(self, name) <= 64:  # noqa: PLR2004 - no wider format exists
                msg = f"{name} is in bits, above 0 and at most 64, not {getattr(self, name)}"
                raise ValueError(msg)
        if self.group < 0 or self.scale < 0 or self.zero < 0:
            msg = f"group, scale and zero are not negative; they are {self.group}, {self.scale} and {self.zero}"
            raise ValueError(msg)

    @classmethod
    def named(cls, name: str) -> "Precision":
        """Return a usual plan: bf16, fp8 (weights and cache), int8 (weights and activations), int4 (groups of 128)."""
        if name not in PLANS:
            msg = f"no precision {name!r}, only {', '.join(PLANS)}"
            raise ValueError(msg)
        return PLANS[name]


PLANS = {
    "bf16": Precision(),
    "fp8": Precision(linear=8, cache=8, compute="fp8"),
    "int8": Precision(linear=8, compute="int8"),
    "int4": Precision(linear=4, group=128, zero=4),  # weights only: the arithmetic stays bf16
}


@dataclass(frozen=True, slots=True)
class Model:
    """What capacity planning needs to know of a decoder.

    ``experts`` is 0 for a dense model; otherwise every layer but the first ``dense_layers`` routes each token to
    ``chosen`` of them, each ``expert_size`` wide, beside ``shared`` experts that serve every token. ``latent`` is the
    width of the compressed keys and values of multi-head latent attention (0: none), where ``head_dim`` is the part
    of a head without position, ``rope_dim`` that with, ``value_dim`` a head's value and ``query_latent`` the width of
    the compressed query. ``layer_types`` names each layer's attention as Hugging Face does ("full_attention",
    "sliding_attention"); empty means full attention everywhere.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool = False
    gated: bool = True
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    norms: int = 2
    norm_bias: bool = False
    qk_norm: bool = False
    experts: int = 0
    chosen: int = 0
    shared: int = 0
    expert_size: int = 0
    dense_layers: int = 0
    router_bias: bool = False
    latent: int = 0
    rope_dim: int = 0
    value_dim: int = 0
    query_latent: int = 0
    layer_types: tuple[str, ...] = ()
    window: int = 0
    context: int = 0
    name: str = ""

    def __post_init__(self) -> None:
        """Refuse sizes that no model has."""
        for name in ("layers", "hidden", "heads", "kv_heads", "head_dim", "vocab"):
            if getattr(self, name) < 1:
                msg = f"{name} must be at least 1, not {getattr(self, name)}"
                raise ValueError(msg)
        if self.heads % self.kv_heads:
            msg = f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})"
            raise ValueError(msg)
        if self.experts and not 0 < self.chosen <= self.experts:
            msg = f"chosen must lie between 1 and experts ({self.experts}), not {self.chosen}"
            raise ValueError(msg)
        if self.layer_types and len(self.layer_types) != self.layers:
            msg = f"layer_types names {len(self.layer_types)} layers, the model has {self.layers}"
            raise ValueError(msg)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Model":
        """Read the content of a Hugging Face ``config.json``.

        Raises ValueError, naming the field, for a model type whose parameters this package does not count and for a
        field that is missing or makes no sense.
        """
        from capacity.weights._config import read  # noqa: PLC0415 - it needs this class

        return read(config)
