"""A Llama-family decoder over this package's caches: any Hugging Face Llama checkpoint, prefill in chunks, decode."""

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from kvcache._step import LANES, PackedLinear, Step, available
from kvcache.caches import EMPTY, KVCache, Pages, View
from kvcache.caches.solution import ContiguousCache, SlidingCache, seen
from kvcache.paging.solution import PagedCache
from kvcache.rotary import Scaling
from kvcache.rotary.solution import frequencies, scaled_frequencies, tables, turn
from kvcache.sampler import Sampler

TILE = 4  # rows of a linear map and queries of an attention in deterministic mode: every call has the same shape
PLAIN = ("default", "dynamic")  # rotary scalings that change nothing up to the model's limit
WIDTH = 512  # keys of an attention in deterministic mode come in multiples of this, the rest masked


@dataclass(frozen=True, slots=True)
class Config:
    """The sizes of a Llama-family model."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    positions: int  # the longest context it was trained for
    eps: float
    base: float
    scaling: Scaling | None
    tied: bool
    attention_bias: bool = False  # of all four maps around attention
    mlp_bias: bool = False
    attention_factor: float | None = None  # of rotated vectors; None: what the scaling says

    @classmethod
    def read(cls, given: dict[str, Any]) -> "Config":
        """Read a ``config.json``.

        Raises ValueError for another architecture than Llama's, another rotary scaling, weights that are quantized, and
        sizes that are missing or do not go together. "dynamic" scaling changes nothing up to the model's limit, and no
        text is longer here.
        """
        _refuse_config(given)
        rope = given.get("rope_scaling") or given.get("rope_parameters") or {}
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind not in (*PLAIN, "linear", "yarn", "llama3"):
            msg = f"rotary scaling {kind!r} is not one of {', '.join(PLAIN)}, linear, yarn, llama3"
            raise ValueError(msg)
        odd = {"mscale": None, "mscale_all_dim": None, "truncate": True, "partial_rotary_factor": 1.0}
        for name, usual in odd.items():
            if rope.get(name, given.get(name, usual)) not in (usual, None):
                msg = f"rotary embedding with {name} {rope.get(name, given.get(name))!r} is not built here"
                raise ValueError(msg)
        original = rope.get("original_max_position_embeddings") or given["max_position_embeddings"]
        ends = ("low_freq_factor", "high_freq_factor") if kind == "llama3" else ("beta_slow", "beta_fast")
        ramp = (rope.get(ends[0]) or 1.0, rope.get(ends[1]) or 32.0)
        factor = rope.get("factor") or 0
        if kind not in PLAIN and not factor >= 1:
            msg = f"rotary scaling {kind!r} has the factor {rope.get('factor')}, must be at least 1"
            raise ValueError(msg)
        hidden, heads = given["hidden_size"], given["num_attention_heads"]
        kv_heads, head_dim = given.get("num_key_value_heads") or heads, given.get("head_dim") or hidden // heads
        if heads % kv_heads:
            msg = f"{heads} query heads are not a multiple of {kv_heads} key heads"
            raise ValueError(msg)
        if head_dim % 2 or (hidden % heads and not given.get("head_dim")):
            msg = f"hidden_size {hidden} and {heads} heads give heads of {hidden / heads:g}, must be even and whole"
            msg = f"head_dim is {head_dim}, must be even" if given.get("head_dim") else msg
            raise ValueError(msg)
        return cls(
            layers=given["num_hidden_layers"],
            hidden=hidden,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            intermediate=given["intermediate_size"],
            vocabulary=given["vocab_size"],
            positions=given["max_position_embeddings"],
            eps=given["rms_norm_eps"],
            base=rope.get("rope_theta") or given.get("rope_theta") or 10000.0,
            scaling=None if kind in PLAIN else Scaling(kind, factor, original, *ramp),
            tied=bool(given.get("tie_word_embeddings")),
            attention_bias=bool(given.get("attention_bias")),
            mlp_bias=bool(given.get("mlp_bias")),
            attention_factor=rope.get("attention_factor") if kind == "yarn" else None,
        )

    def bytes_per_token(self, itemsize: int) -> int:
        """Return the bytes of cached keys and values for one position of one request."""
        return 2 * self.layers * self.kv_heads * self.head_dim * itemsize

    @property
    def parameters(self) -> int:
        """How many numbers the weights are."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        if self.attention_bias:
            layer += self.head_dim * (self.heads + 2 * self.kv_heads) + self.hidden
        if self.mlp_bias:
            layer += 2 * self.intermediate + self.hidden
        return self.layers * layer + self.vocabulary * self.hidden * (1 if self.tied else 2) + self.hidden


class Linear:
    """A linear map."""

    def __init__(self, *weights: Tensor, biases: Sequence[Tensor] = (), gated: bool = False) -> None:
        """Stack ``weights``, each (out, in), so that one product serves them all; each has its bias, (out,), or none.

        With ``gated`` there are two, and the result is silu(first) * second.
        """
        self.weight, self.gated = torch.cat(weights) if len(weights) > 1 else weights[0], gated
        self.bias = torch.cat(list(biases)) if biases else None

    def __call__(self, x: Tensor) -> Tensor:
        """Map (rows, in) to (rows, out)."""
        out = self.product(x)
        if not self.gated:
            return out
        gate, up = out.chunk(2, -1)
        return F.silu(gate) * up

    def product(self, x: Tensor) -> Tensor:
        """Map (rows, in) to as many numbers as there are weights' rows."""
        return F.linear(x, self.weight, self.bias)

    @property
    def nbytes(self) -> int:
        """Bytes that a step reads."""
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)


class FixedLinear(Linear):
    """Every product has TILE rows, so that a row's result does not depend on its company."""

    def product(self, x: Tensor) -> Tensor:
        """Map (rows, in) to as many numbers as there are weights' rows."""
        rows = x.shape[0]
        padded = F.pad(x, (0, 0, 0, -rows % TILE))
        return torch.cat([F.linear(tile, self.weight, self.bias) for tile in padded.split(TILE)])[:rows]


class Int8Linear(Linear):
    """Weights int8 with a scale for each output channel, activations quantized for each call (fbgemm; CPU only)."""

    def __init__(self, *weights: Tensor, biases: Sequence[Tensor] = (), gated: bool = False) -> None:
        """Quantize the stacked ``weights`` symmetrically; ``biases`` stay as they are."""
        self.gated, weight = gated, torch.cat(weights).float()
        scale = (weight.abs().amax(1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated as an interface; fbgemm takes its weights in no other form
            codes = torch.quantize_per_channel(weight, scale.double(), torch.zeros_like(scale).long(), 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(codes, torch.cat(list(biases)) if biases else None)
        self._nbytes = weight.numel() + 4 * len(scale) + sum(bias.nbytes for bias in biases)

    def product(self, x: Tensor) -> Tensor:
        """Map (rows, in) to as many numbers as there are weights' rows."""
        # reduce_range keeps 7 bits of the activations: without it two int8 products may overflow int16 before AVX-512.
        out: Tensor = torch.ops.quantized.linear_dynamic(x.contiguous(), self.packed, reduce_range=True)
        return out

    @property
    def nbytes(self) -> int:
        """Bytes that a step reads."""
        return self._nbytes


@dataclass(frozen=True, slots=True)
class Block:
    """The weights of one layer; queries, keys and values are one map, gate and up another, which is gated."""

    attention_norm: Tensor
    qkv: Linear | PackedLinear
    out: Linear | PackedLinear
    mlp_norm: Tensor
    gate_up: Linear | PackedLinear
    down: Linear | PackedLinear


class Decoder:
    """A Llama-family decoder.

    ``weights`` are named as in a Hugging Face checkpoint. In fp32 on a CPU with a C compiler a step over caches in one
    piece or in pages is one call of the native kernel, and the linear maps are PackedLinear; elsewhere, and over other
    caches, torch does it. With ``int8`` the linear maps' weights are int8 (CPU, fp32). With ``deterministic`` a
    request's logits are the same bits alone, in a batch, in chunks and after a prefix hit.
    """

    def __init__(
        self, config: Config, weights: dict[str, Tensor], *, int8: bool = False, deterministic: bool = False
    ) -> None:
        """Stack the weights.

        Raises ValueError where one is missing or of another shape, dtype or device, for int8 elsewhere than in fp32 on
        the CPU, and for both options without the native kernel.
        """
        c = config
        embedding = _weight(weights, "model.embed_tokens.weight", c.vocabulary, c.hidden)
        plain = (embedding.dtype, embedding.device.type) == (torch.float32, "cpu")
        if int8 and not plain:
            msg = f"int8 weights are made of float32 on the CPU, not of {embedding.dtype} on {embedding.device}"
            raise ValueError(msg)
        native = plain and c.head_dim % LANES == 0 == c.hidden % LANES and available()
        if int8 and deterministic and not native:
            msg = "int8 and deterministic exclude each other without the native kernel: fbgemm quantizes activations"
            msg += " for each call as a whole"
            raise ValueError(msg)
        kind: Any = Int8Linear if int8 else FixedLinear if deterministic else Linear
        kind = partial(PackedLinear, int8=int8) if native else kind
        self.config, self.deterministic, self.embedding = config, deterministic, embedding

        def get(name: str, *shape: int) -> Tensor:
            return _weight(weights, name, *shape, like=embedding)

        def linear(at: str, inputs: int, outputs: dict[str, int], *, gated: bool = False) -> Any:  # noqa: ANN401
            wanted = c.attention_bias if at.endswith("self_attn") else c.mlp_bias
            names = {f"{at}.{name}_proj": size for name, size in outputs.items()}
            for name in names:
                if not wanted and f"{name}.bias" in weights:
                    msg = f"the checkpoint has {name}.bias, by the config there is none"
                    raise ValueError(msg)
            biases = [get(f"{name}.bias", size) for name, size in names.items() if wanted]
            found = [get(f"{name}.weight", size, inputs) for name, size in names.items()]
            return kind(*found, biases=biases, gated=gated)

        queries, keys = c.heads * c.head_dim, c.kv_heads * c.head_dim
        self.blocks = []
        for i in range(c.layers):
            at = f"model.layers.{i}"
            qkv = linear(f"{at}.self_attn", c.hidden, {"q": queries, "k": keys, "v": keys})
            out = linear(f"{at}.self_attn", queries, {"o": c.hidden})
            gate_up = linear(f"{at}.mlp", c.hidden, {"gate": c.intermediate, "up": c.intermediate}, gated=True)
            down = linear(f"{at}.mlp", c.intermediate, {"down": c.hidden})
            norms = [get(f"{at}.{name}_layernorm.weight", c.hidden) for name in ("input", "post_attention")]
            self.blocks.append(Block(norms[0], qkv, out, norms[1], gate_up, down))
        self.norm = get("model.norm.weight", c.hidden)
        self.head = kind(embedding if c.tied else get("lm_head.weight", c.vocabulary, c.hidden))
        self._frequencies, self._attention = frequencies(config.head_dim, config.base), 1.0
        if config.scaling is not None:
            scaled = scaled_frequencies(config.head_dim, config.base, config.scaling)
            self._frequencies, self._attention = scaled.frequencies, config.attention_factor or scaled.attention
        self._turns = torch.empty(0, config.head_dim)
        self._own_attend: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
        self._own_rotate: Callable[[Tensor, Tensor, Tensor, float], Tensor] | None = None
        self._step: Step | None = None
        if native:
            sizes = config.heads, config.kv_heads, config.head_dim, config.eps
            self._step = Step(self.blocks, self.norm, self.head, *sizes)

    @classmethod
    def from_model(cls, model: Any, *, int8: bool = False, deterministic: bool = False) -> "Decoder":  # noqa: ANN401
        """Take over the weights of a transformers model; shared is only what is neither stacked nor packed."""
        return cls(Config.read(model.config.to_dict()), model.state_dict(), int8=int8, deterministic=deterministic)

    @classmethod
    def load(
        cls, folder: str | Path, dtype: torch.dtype = torch.float32, *, int8: bool = False, deterministic: bool = False
    ) -> "Decoder":
        """Read ``config.json`` and the safetensors files of a folder; ValueError where there are none."""
        folder = Path(folder)
        files = sorted(folder.glob("*.safetensors"))
        if not (folder / "config.json").is_file() or not files:
            msg = f"no Llama checkpoint in '{folder}': config.json and *.safetensors are wanted"
            raise ValueError(msg)
        config = Config.read(json.loads((folder / "config.json").read_text("utf-8")))
        weights: dict[str, Tensor] = {}
        for file in files:
            with safe_open(file, framework="pt") as tensors:
                weights |= {name: tensors.get_tensor(name).to(dtype) for name in tensors.keys()}  # noqa: SIM118
        return cls(config, weights, int8=int8, deterministic=deterministic)

    def attend_by(self, attend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        """From now on attend by ``attend(q, k, v)``, such as a reader's, and not in the native step.

        Sliding caches and deterministic mode keep their own way.
        """
        self._own_attend, self._step = attend, None

    def turn_by(self, rotate: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> None:
        """From now on turn by ``rotate(x, positions, frequencies, attention)``, and not in the native step."""
        self._own_rotate, self._step = rotate, None

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of activations and caches."""
        return self.embedding.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.device

    @property
    def nbytes(self) -> int:
        """Bytes of weights that a step reads: everything but the embedding of a tied model, whose head is read."""
        linears = [linear for b in self.blocks for linear in (b.qkv, b.out, b.gate_up, b.down)]
        return int(self.head.nbytes) + sum(linear.nbytes for linear in linears)

    def contiguous(self, capacity: int, batch: int = 1) -> ContiguousCache:
        """Return a cache of ``capacity`` positions that fits this model."""
        c = self.config
        capacity += -capacity % WIDTH if self.deterministic and self._step is None else 0
        return ContiguousCache(c.layers, batch, c.kv_heads, c.head_dim, capacity, self.dtype, self.device)

    def forward(self, tokens: Tensor, cache: KVCache, *, every: bool = False) -> Tensor:
        """Append ``tokens``, (batch, q_len) int64, and return the logits of the last, (batch, vocabulary).

        With ``every`` those of all, (batch, q_len, vocabulary). Raises ValueError for tokens outside the vocabulary
        or no tokens, for a text longer than the model's limit, and for whatever the cache refuses.
        """
        if tokens.ndim != 2 or not tokens.numel():  # noqa: PLR2004
            msg = f"tokens have shape {tuple(tokens.shape)}, must be (batch, q_len) with something in it"
            raise ValueError(msg)
        logits = self.forward_ragged(list(tokens), [cache] if len(tokens) == 1 else cache, every=every)
        return logits.view(*tokens.shape, -1) if every else logits

    @torch.inference_mode()
    def forward_ragged(self, tokens: list[Tensor], caches: KVCache | list[Any], *, every: bool = False) -> Tensor:
        """Append ``tokens[i]``, (q_len of request i,), to ``caches[i]``; no request is padded.

        Returns the logits of each request's last token, (requests, vocabulary), or with ``every`` those of all tokens
        one request after the other. A single cache with a batch takes requests of one length. Raises as ``forward``.
        """
        self._refuse(tokens, caches)
        lengths = [len(row) for row in tokens]
        each = caches if isinstance(caches, list) else [caches]
        direct = [cache for cache in each if self._reads(cache, len(tokens) // len(each))]
        if self._step is not None and len(direct) == len(each):
            return self._forward_native(self._step, torch.cat(tokens), lengths, direct, every=every)
        if direct:  # what is computed in another way is computed apart, so that nobody's bits depend on company
            parts = [self.forward_ragged([row], [own], every=every) for row, own in zip(tokens, each, strict=True)]
            return torch.cat(parts)
        starts = [cache.length for cache in each]
        spans = [lengths[0]] if len(each) < len(tokens) else lengths
        device = self.device
        positions = [torch.arange(s, s + n, device=device) for s, n in zip(starts, spans, strict=True)]
        rotations = [tables(p, self._frequencies, self._attention, self._wide, device) for p in positions]
        masks: dict[int, Tensor] = {}
        x = F.embedding(torch.cat(tokens).to(device), self.embedding)  # (all tokens, hidden)
        for layer, block in enumerate(self.blocks):
            qkv = block.qkv(F.rms_norm(x, x.shape[-1:], block.attention_norm, self.config.eps))
            pieces = [qkv] if len(each) == 1 else qkv.split(lengths)
            found = []
            for i, piece in enumerate(pieces):
                rows = piece.view(len(tokens) if len(each) < len(tokens) else 1, spans[i], -1)
                found.append(self._attend(layer, rows, each[i], positions[i], rotations[i], masks, i))
            x = x + block.out(found[0] if len(found) == 1 else torch.cat(found))
            x = x + block.down(block.gate_up(F.rms_norm(x, x.shape[-1:], block.mlp_norm, self.config.eps)))
        if not every:
            last = torch.tensor(lengths, device=device).cumsum(0) - 1
            x = x[last] if len(last) < len(x) else x
        logits: Tensor = self.head(F.rms_norm(x, x.shape[-1:], self.norm, self.config.eps))
        return logits

    def prefill(self, tokens: Tensor, cache: KVCache, chunk: int = 512) -> Tensor:
        """Append a prompt ``chunk`` tokens at a time and return the last logits, as ``forward``."""
        if chunk < 1:
            msg = f"chunk is {chunk}, must be at least 1"
            raise ValueError(msg)
        for piece in tokens.split(chunk, dim=1):
            logits = self.forward(piece, cache)
        return logits

    def generate(
        self,
        tokens: Tensor,
        cache: KVCache,
        count: int,
        chunk: int = 512,
        choose: Callable[[Tensor, int], Tensor] = Sampler(),  # noqa: B008 - frozen, and greedy
    ) -> Iterator[Tensor]:
        """Yield ``count`` tokens after a prompt, (batch,) int64 each. Raises ValueError as ``forward`` does.

        ``choose`` takes a step's logits, (batch, vocabulary), and its number: greedy, unless a ``Sampler`` is given.
        """
        if count < 1:
            msg = f"count is {count}, must be at least 1"
            raise ValueError(msg)
        logits = self.prefill(tokens, cache, chunk)
        for i in range(count):
            token = choose(logits, i)
            yield token
            if i + 1 < count:
                logits = self.forward(token[:, None], cache)

    def _reads(self, cache: KVCache, rows: int) -> TypeGuard[ContiguousCache | PagedCache]:
        """Tell whether the native step reads and writes this cache."""
        c = self.config
        return (
            self._step is not None
            and isinstance(cache, ContiguousCache | PagedCache)
            and cache.shape == (c.layers, rows, c.kv_heads, c.head_dim)
            and (cache.keys.dtype, cache.keys.device.type) == (torch.float32, "cpu")
        )

    def _forward_native(
        self, step: Step, tokens: Tensor, lengths: list[int], caches: list[ContiguousCache | PagedCache], *, every: bool
    ) -> Tensor:
        """Do as ``forward_ragged`` in one call; ``tokens`` are those of all requests."""
        each = len(lengths) // len(caches)  # rows of a cache
        pages: list[tuple[Pages, int, int]] = []
        try:
            for cache, count in zip(caches, lengths[::each], strict=True):
                pages.append((cache.reserve(count), cache.length - count, cache.length))
        except ValueError:  # one is full: nobody's text goes on
            for cache, (_, start, _) in zip(caches, pages, strict=False):
                cache.crop(start)
            raise
        missing = max(stop for _, _, stop in pages) - len(self._turns)
        if missing > 0:
            self._turn_on(missing)
        last = torch.arange(len(tokens)) if every else torch.tensor(lengths).cumsum_(0).sub_(1)
        return step(F.embedding(tokens, self.embedding), pages, self._turns, last)

    def _turn_on(self, count: int) -> None:
        """Add the angles of at least ``count`` positions. One position's are computed once, and stay."""
        start = len(self._turns)
        positions = torch.arange(start, start + max(count, WIDTH))
        cos, sin = tables(positions, self._frequencies, self._attention, torch.float32, self.device)
        half = self.config.head_dim // 2
        self._turns = torch.cat([self._turns, torch.cat([cos[:, :half], sin[:, half:]], 1)])

    @property
    def _wide(self) -> torch.dtype:
        return torch.promote_types(self.dtype, torch.float32)

    def _attend(
        self,
        layer: int,
        qkv: Tensor,
        cache: KVCache,
        positions: Tensor,
        rotation: tuple[Tensor, Tensor],
        masks: dict[int, Tensor],
        request: int,
    ) -> Tensor:
        """Attend for one cache: (batch, q_len, (heads + 2 kv_heads) * head_dim) to (batch * q_len, hidden)."""
        c = self.config
        batch, q_len, _ = qkv.shape
        heads = qkv.view(batch, q_len, c.heads + 2 * c.kv_heads, c.head_dim).transpose(1, 2)
        late = isinstance(cache, SlidingCache) and cache.sinks > 0
        v = heads[:, c.heads + c.kv_heads :]
        if late:  # with sinks a key's angle is its place among what is kept, which changes
            view = cache.update(layer, heads[:, c.heads : c.heads + c.kv_heads], v, positions)
            keys, q = self._rotate_late(view, heads[:, : c.heads], positions)
        else:
            turned = self._turned(heads[:, : c.heads + c.kv_heads], positions, rotation)  # queries and keys in one go
            q = turned[:, : c.heads]
            view = cache.update(layer, turned[:, c.heads :], v, positions)
            keys = view.keys
        window = getattr(cache, "window", None)
        if self.deterministic:
            out = self._attend_fixed(q, keys, view, cache, layer, positions, masks, request)
        elif self._own_attend is not None and window is None:
            out = self._own_attend(q, keys, view.values)
        else:
            group = c.heads // c.kv_heads
            folded = q.reshape(batch, c.kv_heads, group * q_len, c.head_dim)
            mask = None
            if q_len > 1 or window is not None:
                if request not in masks:  # the same for all layers
                    mask = seen(positions, view.positions, window, getattr(cache, "sinks", 0))
                    masks[request] = mask.repeat(group, 1)
                mask = masks[request]
            out = F.scaled_dot_product_attention(folded, keys, view.values, attn_mask=mask)
            out = out.view(batch, c.heads, q_len, c.head_dim)
        return out.transpose(1, 2).reshape(batch * q_len, c.heads * c.head_dim)

    def _rotate_late(self, view: View, q: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        place = view.places[(view.positions == positions[-1]).nonzero()[0]]
        q_places = place + positions - positions[-1]
        return self._turned(view.keys, view.places), self._turned(q, q_places)

    def _turned(self, x: Tensor, positions: Tensor, rotation: tuple[Tensor, Tensor] | None = None) -> Tensor:
        if self._own_rotate is not None:
            return self._own_rotate(x, positions, self._frequencies, self._attention)
        return turn(x, *(rotation or tables(positions, self._frequencies, self._attention, self._wide, self.device)))

    def _attend_fixed(
        self,
        q: Tensor,
        keys: Tensor,
        view: View,
        cache: KVCache,
        layer: int,
        positions: Tensor,
        masks: dict[int, Tensor],
        request: int,
    ) -> Tensor:
        """Attend in calls of one shape: TILE queries, keys to a multiple of WIDTH; tiles are rows of the batch."""
        c, (batch, _, q_len, _) = self.config, q.shape
        group, missing = c.heads // c.kv_heads, -q_len % TILE
        width = len(view.positions) + -len(view.positions) % WIDTH
        if isinstance(cache, ContiguousCache) and cache.capacity >= width:  # its buffer goes on behind the view
            keys, values = cache.keys[layer, :, :, :width], cache.values[layer, :, :, :width]
        else:
            extra = width - keys.shape[2]
            keys, values = F.pad(keys, (0, 0, 0, extra)), F.pad(view.values, (0, 0, 0, extra))
        if request not in masks:
            columns = F.pad(view.positions, (0, width - len(view.positions)), value=EMPTY)
            window, sinks = getattr(cache, "window", None), getattr(cache, "sinks", 0)
            mask = seen(F.pad(positions, (0, missing)), columns, window, sinks).view(-1, 1, TILE, width)
            masks[request] = mask.repeat(1, 1, group, 1)  # (tiles, 1, group * TILE, width)
        mask, tiles = masks[request], (q_len + missing) // TILE
        folded = F.pad(q, (0, 0, 0, missing)).unflatten(2, (tiles, TILE)).transpose(1, 2)
        folded = folded.reshape(batch, tiles, c.kv_heads, group * TILE, c.head_dim)
        rows = (
            [slice(row, row + 1) for row in range(batch)] if tiles > 1 else [slice(None)]
        )  # one tile of each row, or each row's tiles over its keys
        found = []
        for at in rows:
            k, v = (t[at].expand(tiles, -1, -1, -1) if tiles > 1 else t[at] for t in (keys, values))
            found.append(F.scaled_dot_product_attention(folded[at].flatten(0, 1), k, v, attn_mask=mask))
        out = torch.cat(found).view(batch, tiles, c.heads, TILE, c.head_dim)
        return out.transpose(1, 2).flatten(2, 3)[:, :, :q_len]

    def _refuse(self, tokens: list[Tensor], caches: KVCache | list[Any]) -> None:
        if not tokens or not all(len(row) for row in tokens):
            msg = "every request needs at least one token"
            raise ValueError(msg)
        if isinstance(caches, list) and len(caches) != len(tokens):
            msg = f"{len(tokens)} requests and {len(caches)} caches: each needs its own"
            raise ValueError(msg)
        if not isinstance(caches, list) and len({len(row) for row in tokens}) > 1:
            msg = "one cache takes requests of one length; give each its own cache"
            raise ValueError(msg)
        each = caches if isinstance(caches, list) else [caches] * len(tokens)
        for row, cache in zip(tokens, each, strict=True):
            if row.is_floating_point() or row.dtype == torch.bool:
                msg = f"tokens are {row.dtype}, must be integers"
                raise TypeError(msg)
            if int(row.min()) < 0 or int(row.max()) >= self.config.vocabulary:
                given = f"tokens {int(row.min())} to {int(row.max())}"
                msg = f"{given} are outside the vocabulary of {self.config.vocabulary}"
                raise ValueError(msg)
            total = cache.length + len(row)
            bounded = isinstance(cache, SlidingCache) and cache.sinks > 0  # places never grow past the window
            if total > self.config.positions and not bounded:
                msg = f"the text has {total} tokens, the model's limit is {self.config.positions}"
                raise ValueError(msg)


def _weight(weights: dict[str, Tensor], name: str, *shape: int, like: Tensor | None = None) -> Tensor:
    """Return a checkpoint's weight; ValueError where it is missing, of another shape, or not such as ``like``."""
    found = weights.get(name)
    if found is None:
        msg = f"the checkpoint has no {name}"
        raise ValueError(msg)
    if tuple(found.shape) != shape:
        msg = f"{name} has shape {tuple(found.shape)}, by the config it must be {shape}"
        raise ValueError(msg)
    if like is not None and (found.dtype, found.device) != (like.dtype, like.device):
        msg = f"{name} is {found.dtype} on {found.device}, the embedding {like.dtype} on {like.device}"
        raise ValueError(msg)
    return found.detach()


def _refuse_config(given: Any) -> None:  # noqa: ANN401 - whatever a file of JSON holds
    """Raise ValueError for what is not built here, and for sizes that are missing."""
    if not isinstance(given, dict):
        msg = f"a config is an object, not {type(given).__name__}"
        raise ValueError(msg)  # noqa: TRY004 - what a user's file holds
    if given.get("model_type") != "llama":
        found = given.get("architectures") or given.get("model_type")
        msg = f"unknown architecture {found}: only Llama's (LlamaForCausalLM) is built here"
        raise ValueError(msg)
    if given.get("quantization_config"):
        msg = "the checkpoint's weights are quantized: only weights in floating point are read here"
        raise ValueError(msg)
    if given.get("hidden_act", "silu") not in ("silu", "swish"):
        msg = f"a Llama with {given['hidden_act']} in its layers is not built here, only with silu"
        raise ValueError(msg)
    sizes = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "vocab_size")
    for name in (*sizes, "max_position_embeddings", "rms_norm_eps"):
        value = given.get(name)
        if not isinstance(value, int if name != "rms_norm_eps" else int | float) or value <= 0:
            msg = f"the config's {name} is {value!r}, must be a positive number"
            raise ValueError(msg)
