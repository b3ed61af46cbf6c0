"""The production answer: one pass to see who reads what, a bit-exact trial of each fold, second moments for AWQ."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from quant.affine.solution import choose_qparams, dequantize, quantize
from quant.layers import in_use, swap
from quant.smoothing import Batch, Group, Rescaled

DEAD = 1e-5  # a channel below it, in activations or weights, is left alone


def largest_inputs(model: nn.Module, calibration: Iterable[Batch]) -> dict[str, Tensor]:
    """Run the model on each batch and return the largest magnitude of each input channel of every linear layer.

    Layers are named as in ``model.named_modules()``; the values are (in,) float32. Raises ValueError for no batches.
    """
    largest: dict[str, Tensor] = {}

    def watch(name: str, x: Tensor) -> None:
        rows = x.reshape(-1, x.shape[-1])
        if len(rows):
            # Two reductions are quicker than the magnitudes of everything, which would be a copy of the input.
            found = torch.maximum(rows.amax(0), -rows.amin(0)).float()
            largest[name] = torch.maximum(largest[name], found) if name in largest else found

    _run(model, calibration, _linears(model), watch)
    return largest


def smoothing_factors(largest: Tensor, weights: Sequence[Tensor], alpha: float = 0.5) -> Tensor:
    """Return how much of each input channel moves into the weights that share it, (in,) float32, all positive.

    ``largest`` is (in,), the largest magnitude of each channel; ``weights`` are (out, in) each, and the largest of
    them in a column counts. The factor is ``largest**alpha / column**(1 - alpha)``, and 1 where either is below 1e-5:
    a channel that calibration never saw alive is left alone. Raises ValueError unless ``alpha`` is between 0 and 1,
    for no weights, other shapes, NaN or inf. Source: Xiao et al. 2022, eq. 4.
    """
    _refuse_alpha(alpha)
    if largest.ndim != 1 or not weights or any(w.ndim != 2 or w.shape[1:] != largest.shape for w in weights):  # noqa: PLR2004
        given = tuple(largest.shape), [tuple(w.shape) for w in weights]
        msg = f"largest and weights have shapes {given[0]} and {given[1]}, must be (in,) and at least one (out, in)"
        raise ValueError(msg)
    columns = torch.stack([w.detach().abs().amax(0).float() for w in weights]).amax(0)  # (in,)
    if not bool((largest.isfinite() & columns.isfinite()).all()):
        msg = "largest or a weight has NaN or inf"
        raise ValueError(msg)
    factors = largest.float() ** alpha / columns ** (1 - alpha)
    return torch.where((largest < DEAD) | (columns < DEAD), 1.0, factors)


@torch.no_grad()
def fold(previous: nn.Module, layers: Sequence[nn.Linear], factors: Tensor) -> None:
    """Divide what ``previous`` writes by ``factors`` and multiply what ``layers`` read of it, in place.

    ``previous`` is a norm with a weight and perhaps a bias, (channels,), or an ``nn.Linear`` whose outputs are the
    channels. Raises ValueError where shapes do not belong together, ``previous`` has no weight, or a factor is not a
    positive number.
    """
    written = list(previous.parameters(recurse=False))
    shapes = [tuple(p.shape) for p in written], [tuple(layer.weight.shape) for layer in layers]
    if not written or any(len(p) != len(factors) for p in written) or any(s[1] != len(factors) for s in shapes[1]):
        msg = f"{len(factors)} factors do not fit parameters of shape {shapes[0]} read by weights of shape {shapes[1]}"
        raise ValueError(msg)
    if not bool((factors.isfinite() & (factors > 0)).all()):
        msg = "a factor is not a positive number"
        raise ValueError(msg)
    for parameter in written:
        parameter.div_(factors.view(-1, *[1] * (parameter.ndim - 1)))
    for layer in layers:
        layer.weight.mul_(factors)


def find_groups(model: nn.Module, batch: Batch) -> list[Group]:
    """Find every norm whose output linear layers read, and whether they alone do.

    The model is run as in use (without dropout), to see which layer is given the very tensor that which norm returned,
    and then with factors folded in: where its output changes, somebody else reads the norm too (or it is not linear in
    its weight). Powers of two tell by a bit, since nothing is rounded. The model is left as it was. Layers whose weight
    is shared with another module (a tied head) are in no group. Stretch: a linear layer read by one other, where the
    output does not change.
    """
    norms, pairs, wanted = _candidates(model, batch)
    with in_use(model):
        alone = {*_unchanged(model, norms, batch, wanted)}
        folded = _unchanged(model, pairs, batch, wanted)
    return [Group(g.previous, g.layers, shared=g not in alone) for g in norms] + folded


def smooth(model: nn.Module, calibration: Iterable[Batch], alpha: float = 0.5) -> nn.Module:
    """Move the outliers of every group's input into its weights, in place; the model computes the same function.

    Groups found by the first batch are folded into what comes before them; where that is shared, the layers become
    ``Rescaled``. Raises ValueError for no batches, no groups, or ``alpha`` outside 0 to 1.
    """
    _refuse_alpha(alpha)
    groups, batches = _groups(model, calibration)
    largest = largest_inputs(model, batches)
    for group in groups:
        weights = [model.get_parameter(f"{name}.weight") for name in group.layers]
        _apply(model, group, smoothing_factors(largest[group.layers[0]], weights, alpha))
    return model


def awq(model: nn.Module, calibration: Iterable[Batch], bits: int = 4, group: int = 32, grid: int = 20) -> nn.Module:
    """Give the channels that matter finer steps of weights rounded to ``bits``, in place; the function stays.

    For each group of layers the factors are ``mean(|x|)**e``, scaled to a geometric middle of 1, with the exponent
    ``e`` among ``grid`` values from 0 to below 1 for which the layers' outputs over the calibration data change least
    in squares when the weights are rounded asymmetrically, one scale for ``group`` columns. Raises as ``smooth``, and
    ValueError for bits outside 2 to 8 or a group or grid below 1. Source: Lin et al. 2023, eq. 4 and 5.
    """
    if not 2 <= bits <= 8 or group < 1 or grid < 1:  # noqa: PLR2004
        msg = f"bits={bits}, group={group}, grid={grid}: bits must be 2 to 8, the others at least 1"
        raise ValueError(msg)
    groups, batches = _groups(model, calibration)
    sums: dict[str, Tensor] = {}
    moments: dict[str, Tensor] = {}

    def watch(name: str, x: Tensor) -> None:
        rows = x.reshape(-1, x.shape[-1]).float()
        # What rounding changes in the outputs, |x @ d.T|**2 summed over all rows, is d @ (x.T @ x) @ d.T: no
        # activation has to be kept.
        for kept, new in ((sums, rows.abs().sum(0)), (moments, rows.T @ rows)):
            kept[name] = kept[name] + new if name in kept else new

    _run(model, batches, {each.layers[0]: model.get_submodule(each.layers[0]) for each in groups}, watch)
    for each in groups:
        weights = [model.get_parameter(f"{name}.weight").detach().float() for name in each.layers]
        first = each.layers[0]

        def lost(factors: Tensor, weights: list[Tensor] = weights, moment: Tensor = moments[first]) -> float:
            total = 0.0
            for weight in weights:
                qparams = choose_qparams(weight * factors, bits, False, group)  # noqa: FBT003
                change = dequantize(quantize(weight * factors, qparams), qparams) / factors - weight
                total += float(((change @ moment) * change).sum())
            return total

        _apply(model, each, min(_powers(sums[first], grid), key=lost))
    return model


def _powers(sums: Tensor, grid: int) -> Iterator[Tensor]:
    """Yield the factors of each exponent; those of exponent 0 are all 1."""
    for step in range(grid):
        factors = sums.clamp(min=DEAD * float(sums.max())) ** (step / grid)
        yield factors / (factors.max() * factors.min()).sqrt()


def _groups(model: nn.Module, calibration: Iterable[Batch]) -> tuple[list[Group], Iterator[Batch]]:
    """Return the groups that the first batch shows, and all batches again."""
    batches = iter(calibration)
    first = next(batches, None)
    if first is None:
        msg = "no batches to calibrate with"
        raise ValueError(msg)
    if not (groups := find_groups(model, first)):
        msg = "no linear layer reads what a norm, or one other linear layer, writes: there is nowhere to move outliers"
        raise ValueError(msg)
    return groups, chain([first], batches)


def _apply(model: nn.Module, group: Group, factors: Tensor) -> None:
    """Fold a group's factors, or divide explicitly where others read the same tensor."""
    layers = [_linear(model, name) for name in group.layers]
    if not group.shared:
        previous = model.get_submodule(group.previous)
        fold(previous.linear if isinstance(previous, Rescaled) else previous, layers, factors)
        return
    for layer in layers:
        layer.weight.data *= factors
        swap(model, {layer: Rescaled(layer, factors)})


def _candidates(model: nn.Module, batch: Batch) -> tuple[list[Group], list[Group], tuple[Tensor, ...]]:
    """Run the model and return who might be folded into norms, who into linear layers, and the model's output.

    A layer is a candidate where every call gave it what the same module had written.
    """
    linears = _linears(model)
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    own = {name for name, layer in linears.items() if owners[id(layer.weight)] == 1}
    norms = {
        name: module
        for name, module in model.named_modules()
        if (shapes := {p.shape for p in module.parameters(recurse=False)})
        and len(shapes) == len(shapes.copy().pop()) == 1
    }
    written: dict[int, tuple[str, Tensor]] = {}  # by id; the tensor is kept, or another could get its id
    read: dict[str, set[str]] = {}
    last = ""

    def wrote(name: str, y: object) -> None:
        if isinstance(y, Tensor):
            written[id(y)] = name, y

    def reads(name: str, x: Tensor) -> None:
        nonlocal last
        source = written[id(x)][0] if id(x) in written else last
        read.setdefault(name, set()).add(source)
        last = name

    writers = [module.register_forward_hook(lambda _m, _a, y, n=n: wrote(n, y)) for n, module in norms.items()]
    outputs: list[tuple[Tensor, ...]] = []
    try:
        _run(model, [batch], linears, reads, lambda output: outputs.append(_tensors(output)))
    finally:
        for writer in writers:
            writer.remove()
    sources = {name: found.copy().pop() for name, found in read.items() if len(found) == 1}
    by_norm = {norm: tuple(name for name, source in sources.items() if source == norm) for norm in norms}
    size = {name: next(module.parameters(recurse=False)).shape[0] for name, module in (norms | linears).items()}
    return (
        [
            Group(norm, layers, shared=False)
            for norm, layers in by_norm.items()
            if layers and own.issuperset(layers) and all(linears[n].in_features == size[norm] for n in layers)
        ],
        [
            Group(source, (name,), shared=False)
            for name, source in sources.items()
            if {name, source} <= own and name != source and linears[name].in_features == size[source]
        ],
        outputs[0],
    )


@torch.no_grad()
def _unchanged(model: nn.Module, groups: list[Group], batch: Batch, wanted: tuple[Tensor, ...]) -> list[Group]:
    """Return those groups whose fold leaves the model's output as it is, to the bit.

    All are tried at once, and halves only where that fails: one run for a pre-norm decoder of any depth.
    """
    if not groups:
        return []
    generator = torch.Generator().manual_seed(0)
    folds, before = [], []
    for group in groups:
        layers = [_linear(model, name) for name in group.layers]
        like = layers[0].weight
        # No channel keeps its size, or who reads it alone would not show. Small factors make what is written large, so
        # that a bound shows which the batch does not reach; float16 has no exponents to spare and is only made smaller.
        powers = torch.randint(1, 3 if like.dtype == torch.float16 else 9, (len(like[0]),), generator=generator)
        if like.dtype != torch.float16:
            powers *= 1 - 2 * torch.randint(0, 2, powers.shape, generator=generator)
        factors = torch.exp2(powers.to(like.device, like.dtype))
        previous = model.get_submodule(group.previous)
        folds.append((previous, layers, factors))
        # A power of two is undone exactly, but where float16 runs out of exponents.
        before += [(parameter, parameter.detach().clone()) for parameter in previous.parameters(recurse=False)]
    try:
        for previous, layers, factors in folds:
            fold(previous, layers, factors)
        found = _tensors(model(**batch))
    finally:
        for previous, layers, factors in reversed(folds):
            fold(previous, layers, 1 / factors)
        for parameter, values in before:
            parameter.data.copy_(values)
    if all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True)):
        return groups
    half = len(groups) // 2
    return [kept for part in (groups[:half], groups[half:]) if half for kept in _unchanged(model, part, batch, wanted)]


def _run(
    model: nn.Module,
    batches: Iterable[Batch],
    layers: Mapping[str, nn.Module],
    watch: Callable[[str, Tensor], None],
    result: Callable[[object], object] = lambda _output: None,
) -> None:
    """Run the model on each batch, as in use; ``watch`` sees the name and the input of each layer as it is called."""
    hooks = [
        layer.register_forward_pre_hook(lambda _m, args, name=name: watch(name, args[0]) if args else None)
        for name, layer in layers.items()
    ]
    count = 0
    try:
        with torch.no_grad(), in_use(model):
            for count, batch in enumerate(batches, 1):  # noqa: B007 - the count is what is wanted
                result(model(**batch))
    finally:
        for hook in hooks:
            hook.remove()
    if not count:
        msg = "no batches to calibrate with"
        raise ValueError(msg)


def _tensors(output: object) -> tuple[Tensor, ...]:
    """Return the tensors that a model returned, alone, in a sequence or in a mapping."""
    values: Any = output.values() if isinstance(output, Mapping) else output
    found = (values,) if isinstance(values, Tensor) else tuple(v for v in values if isinstance(v, Tensor))
    if not found:
        msg = f"the model returned a {type(output).__name__} without a tensor, which cannot be compared"
        raise TypeError(msg)
    return found


def _linears(model: nn.Module) -> dict[str, nn.Linear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}


def _linear(model: nn.Module, name: str) -> nn.Linear:
    module = model.get_submodule(name)
    assert isinstance(module, nn.Linear)
    return module


def _refuse_alpha(alpha: float) -> None:
    if not 0 <= alpha <= 1:
        msg = f"alpha is {alpha}, must be between 0 and 1"
        raise ValueError(msg)
