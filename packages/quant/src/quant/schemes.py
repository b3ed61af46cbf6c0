"""The ways a model can be quantized, by name."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quant.affine import QParams
from quant.affine import solution as affine
from quant.allocation import Format
from quant.allocation import solution as allocation
from quant.hessian import solution as hessian
from quant.int4 import solution as int4
from quant.int8 import Policy
from quant.int8 import solution as int8
from quant.layers import in_use, swap
from quant.observers import solution as observers
from quant.packed import PackedLinear, quantize_embeddings
from quant.smoothing import solution as smoothing

PLAIN = {"rtn4-g32": (4, 32), "rtn3-g32": (3, 32), "rtn4-channel": (4, 1 << 30)}  # bits and columns of a group
GPTQ = {  # bits, columns of a group, how a layer is rounded
    "gptq4-g32": (4, 32, "gptq"),
    "gptq3-g32": (3, 32, "gptq_act_order"),
    "gptq4-g32-refit": (4, 32, "gptq_refit"),
    "gptq3-g32-refit": (3, 32, "gptq_refit"),
}
AWQ = {"awq4-g32": (4, 32), "awq3-g32": (3, 32)}
WIDTHS, GROUP = (2, 3, 4, 5, 6, 8), 32  # bits that a mixed scheme chooses from
MIXED = re.compile(r"mixed-(\d+(?:\.\d+)?)")
EMBEDDED = "+emb8"
TRIED = 2  # batches that every width of every layer is tried on

Tokens = Mapping[str, Tensor]
Make = Callable[[nn.Module, list[Tokens]], nn.Module]


@dataclass(frozen=True, slots=True)
class Parts:
    """The implementation of each exercise that schemes call, the solution unless told otherwise."""

    affine: ModuleType = affine
    observers: ModuleType = observers
    int8: ModuleType = int8
    int4: ModuleType = int4
    hessian: ModuleType = hessian
    smoothing: ModuleType = smoothing
    allocation: ModuleType = allocation


SOLUTIONS = Parts()


def find(name: str, parts: Parts = SOLUTIONS) -> Make:
    """Return what makes a float model, changed in place, into a scheme, given batches to calibrate with.

    ``mixed-BITS`` chooses the width of every layer under that many bits a weight, scales counted; a name that ends with
    ``+emb8`` keeps the embeddings in int8 too. Raises ValueError for a name that is none of them; what is returned
    does for a layer whose weight has NaN or inf.
    """
    plain = name.removesuffix(EMBEDDED)
    known = _named(parts)
    if match := MIXED.fullmatch(plain):
        make: Make = partial(mixed, bits=float(match[1]), parts=parts)
    elif plain in known:
        make = known[plain]
    else:
        msg = f"no scheme {name!r}, only {', '.join(known)}, mixed-BITS such as mixed-4.75, and each with {EMBEDDED}"
        raise ValueError(msg)

    def checked(model: nn.Module, batches: list[Tokens]) -> nn.Module:
        for layer_name, layer in model.named_modules():
            if isinstance(layer, nn.Linear) and not bool(layer.weight.isfinite().all()):
                msg = f"the weight of {layer_name!r} has NaN or inf"
                raise ValueError(msg)
        made = make(model, batches)
        return quantize_embeddings(made) if name.endswith(EMBEDDED) else made

    return checked


def _named(parts: Parts) -> dict[str, Make]:
    """Return the schemes that have a name of their own."""

    def dynamic(model: nn.Module, _batches: list[Tokens]) -> nn.Module:
        done: nn.Module = parts.int8.quantize_model(model, Policy())
        return done

    def static(model: nn.Module, batches: list[Tokens]) -> nn.Module:
        found = ranges(model, batches, parts)
        done: nn.Module = parts.int8.quantize_model(model, Policy(activations="static"), found)
        return done

    def four(model: nn.Module, _batches: list[Tokens]) -> nn.Module:
        return swap(model, {layer: parts.int4.Int4Linear.from_float(layer, GROUP) for layer in layers(model).values()})

    def gptq(model: nn.Module, batches: list[Tokens], *, bits: int, group: int, rounding: str) -> nn.Module:
        floats = layers(model)
        found: dict[str, tuple[Tensor, QParams]] = parts.hessian.gptq_model(
            model, batches, bits, group, getattr(parts.hessian, rounding)
        )
        made: dict[nn.Module, nn.Module] = {
            floats[name]: PackedLinear.from_codes(*both, floats[name].bias) for name, both in found.items()
        }
        return swap(model, made)

    def nearest(model: nn.Module, _batches: list[Tokens], *, bits: int, group: int) -> nn.Module:
        return swap(model, {layer: _rounded(layer, bits, group, parts) for layer in layers(model).values()})

    def awq(model: nn.Module, batches: list[Tokens], *, bits: int, group: int) -> nn.Module:
        layers(model)
        return nearest(parts.smoothing.awq(model, batches, bits, group), [], bits=bits, group=group)

    return {
        "fp32": lambda model, _batches: model,
        "int8-dynamic": dynamic,
        "int8-static": static,
        "smooth-dynamic": lambda model, batches: dynamic(parts.smoothing.smooth(model, batches), []),
        "smooth-static": lambda model, batches: static(parts.smoothing.smooth(model, batches), batches),
        "int4-g32": four,
        **{name: partial(nearest, bits=bits, group=group) for name, (bits, group) in PLAIN.items()},
        **{name: partial(awq, bits=bits, group=group) for name, (bits, group) in AWQ.items()},
        **{name: partial(gptq, bits=bits, group=group, rounding=how) for name, (bits, group, how) in GPTQ.items()},
    }


def layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Return the linear layers, each by its first name, whose weight is not also an embedding's.

    Subclasses are left alone, since attention reads the weight of its own. Raises ValueError where there is none.
    """
    tied = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    named = model.named_modules()
    found = {name: m for name, m in named if type(m) is nn.Linear and id(m.weight) not in tied}
    if not found:
        msg = f"{type(model).__name__} has no linear layer to quantize"
        if others := sum(isinstance(m, nn.Linear) for m in model.modules()):
            msg += f": {others} are subclasses of nn.Linear or share an embedding's weight"
        raise ValueError(msg)
    return found


def ranges(model: nn.Module, batches: list[Tokens], parts: Parts = SOLUTIONS) -> dict[str, tuple[float, float]]:
    """Return the range of every linear layer's input, by name, whose 256 codes have the least squared error.

    The extremes would only grow with the text that is seen: a few tokens in a million reach twice as far as all
    others, and widen the step of every code. Raises ValueError for no batches.
    """
    seen: dict[nn.Module, Any] = {}

    def watch(module: nn.Module, args: tuple[Any, ...]) -> None:
        if not args[0].numel():  # as an expert that no token was sent to
            return
        if module not in seen:
            seen[module] = parts.observers.HistogramObserver(parts.observers.mse_range)
        seen[module].update(args[0])

    linears = {name: m for name, m in model.named_modules(remove_duplicate=False) if isinstance(m, nn.Linear)}
    hooks = [module.register_forward_pre_hook(watch) for module in set(linears.values())]
    try:
        with torch.no_grad(), in_use(model):
            for batch in batches:
                model(**batch)
    finally:
        for hook in hooks:
            hook.remove()
    if not batches:
        msg = "no batches to calibrate with"
        raise ValueError(msg)
    return {name: seen[module].range() for name, module in linears.items() if module in seen}


def mixed(model: nn.Module, batches: list[Tokens], *, bits: float, parts: Parts = SOLUTIONS) -> nn.Module:
    """Round each linear layer to the width that is best under a budget of ``bits`` a weight, in place.

    What a layer alone costs at each width is measured on some of the batches, as the divergence from the float
    model; which widths together lose least is then exact. Raises ValueError for fewer bits than the narrowest take.
    """
    floats = layers(model)
    least, weights = _bytes(WIDTHS[0], floats), sum(layer.weight.numel() for layer in floats.values())
    if bits * weights < 8 * least:
        msg = f"mixed-{bits:g}: codes of {WIDTHS[0]} bits and their scales take {8 * least / weights:.2f} bits a weight"
        raise ValueError(msg)
    judged = batches[:: -(-len(batches) // TRIED)]
    with torch.inference_mode():
        wanted = [_answer(model, batch) for batch in judged]

    def loss(changed: nn.Module) -> float:
        with torch.inference_mode():
            lost = [_divergence(_answer(changed, b), w) for b, w in zip(judged, wanted, strict=True)]
        return math.fsum(lost) / len(lost)

    formats = {str(width): _format(width, parts) for width in WIDTHS}
    costs = parts.allocation.sensitivity(model, loss, formats)
    budget = int(min(bits, 32) * sum(floats[name].weight.numel() for name in costs) / 8)
    chosen = parts.allocation.allocate_bits(costs, budget).chosen
    return swap(
        model, {floats[name]: _rounded(floats[name], int(width), GROUP, parts) for name, width in chosen.items()}
    )


def _rounded(layer: nn.Linear, bits: int, group: int, parts: Parts) -> PackedLinear:
    return PackedLinear.from_codes(*_codes(layer.weight.detach(), bits, group, parts), layer.bias)


def _codes(weight: Tensor, bits: int, group: int, parts: Parts) -> tuple[Tensor, QParams]:
    """Return the codes of a weight, (out, in), rounded to nearest, and their maps, whose scales bfloat16 holds."""
    chosen = parts.affine.choose_qparams(weight, bits, False, group)  # noqa: FBT003
    qparams = QParams(chosen.scale.bfloat16().float(), chosen.zero_point, chosen.group, bits)
    return parts.affine.quantize(weight, qparams), qparams


def _format(width: int, parts: Parts) -> Format:
    """Return what ``PackedLinear`` makes of a weight at that width, and its bytes."""

    def shrink(weight: Tensor) -> Tensor:
        found: Tensor = parts.affine.dequantize(*_codes(weight, width, GROUP, parts))
        return found.to(weight.dtype)

    return Format(shrink, partial(_held, width))


def _held(width: int, rows: int, cols: int) -> int:
    """Return the bytes that ``PackedLinear`` takes for a weight, all buffers but the bias."""
    groups = -(-cols // GROUP)
    return rows * (-(-cols * width // 8) + 2 * groups + -(-groups * width // 8))


def _bytes(width: int, floats: Mapping[str, nn.Linear]) -> int:
    return sum(_held(width, *layer.weight.shape) for layer in floats.values())


def _answer(model: Any, batch: Tokens) -> Tensor:  # noqa: ANN401
    """Return log-probabilities, (..., 1 or tokens, classes), or an encoder's embeddings, (sentences, hidden)."""
    output = model(**batch)
    if "logits" not in output:
        return _pooled(output, batch)
    found: Tensor = output.logits.float().log_softmax(-1)
    return found if found.ndim > 2 else found[:, None]  # noqa: PLR2004 - a classifier's


def _divergence(found: Tensor, wanted: Tensor) -> float:
    """Return nats per token between log-probabilities, (batch, tokens, vocabulary), or 1 - cosine of embeddings."""
    if found.ndim == 2:  # noqa: PLR2004
        return 1 - float((found * wanted).sum(1).mean())
    return float(F.kl_div(found, wanted, log_target=True, reduction="sum")) / math.prod(found.shape[:-1])


def embed(model: Any, batch: Tokens) -> Tensor:  # noqa: ANN401
    """Return the normalized mean of the last layer over the tokens of each sentence, (sentences, hidden)."""
    return _pooled(model(**batch), batch)


def _pooled(output: Any, batch: Tokens) -> Tensor:  # noqa: ANN401
    hidden = output.last_hidden_state.float()  # (sentences, tokens, hidden)
    mask = batch["attention_mask"][..., None]
    return F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
