"""The simple answer: hooks, and one trial for each norm."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from quant.smoothing import Batch, Group, Rescaled

DEAD = 1e-5


def largest_inputs(model: nn.Module, calibration: Iterable[Batch]) -> dict[str, Tensor]:
    """Return the largest magnitude of each input channel of every linear layer."""
    largest: dict[str, Tensor] = {}

    def watch(name: str, x: Tensor) -> None:
        found = x.detach().float().abs().flatten(0, -2).amax(0)
        largest[name] = torch.maximum(largest.get(name, found), found)

    hooks = [
        module.register_forward_pre_hook(lambda _module, args, name=name: watch(name, args[0]))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    with torch.no_grad():
        for batch in calibration:
            model(**batch)
    for hook in hooks:
        hook.remove()
    return largest


def smoothing_factors(largest: Tensor, weights: Sequence[Tensor], alpha: float = 0.5) -> Tensor:
    """Return how much of each input channel moves into the weights that share it."""
    columns = torch.cat([weight.detach().float() for weight in weights]).abs().amax(0)
    factors = largest.float() ** alpha / columns ** (1 - alpha)
    return torch.where((largest < DEAD) | (columns < DEAD), 1.0, factors)


def fold(previous: nn.Module, layers: Sequence[nn.Linear], factors: Tensor) -> None:
    """Divide what ``previous`` writes by ``factors`` and multiply what ``layers`` read of it."""
    for parameter in previous.parameters(recurse=False):
        parameter.data /= factors if parameter.ndim == 1 else factors[:, None]
    for layer in layers:
        layer.weight.data *= factors


def find_groups(model: nn.Module, batch: Batch) -> list[Group]:
    """Find every norm whose output linear layers read, and whether they alone do."""
    modules = dict(model.named_modules())
    owners = [id(p) for module in modules.values() for p in module.parameters(recurse=False)]
    written: dict[int, tuple[str, Tensor]] = {}
    read: dict[str, list[str]] = {}

    def wrote(name: str, y: Tensor) -> None:
        written[id(y)] = name, y

    def reads(name: str, x: Tensor) -> None:
        if id(x) in written:
            read.setdefault(written[id(x)][0], []).append(name)

    hooks = []
    for name, module in modules.items():
        if isinstance(module, nn.Linear):
            hooks.append(module.register_forward_pre_hook(lambda _m, args, n=name: reads(n, args[0])))
        elif {p.ndim for p in module.parameters(recurse=False)} == {1}:
            hooks.append(module.register_forward_hook(lambda _m, _a, y, n=name: wrote(n, y)))
    with torch.no_grad():
        wanted = model(**batch)
    for hook in hooks:
        hook.remove()
    groups = []
    for norm, names in read.items():
        layers: list[Any] = [modules[name] for name in names]
        if all(owners.count(id(layer.weight)) == 1 for layer in layers):
            factors = 2.0 + 2 * (torch.arange(layers[0].in_features, device=wanted.device) % 2)
            fold(modules[norm], layers, factors)
            with torch.no_grad():
                shared = not torch.equal(model(**batch), wanted)
            fold(modules[norm], layers, 1 / factors)
            groups.append(Group(norm, tuple(names), shared))
    return groups


def smooth(model: nn.Module, calibration: Iterable[Batch], alpha: float = 0.5) -> nn.Module:
    """Move the outliers of every group's input into its weights."""
    batches = list(calibration)
    largest = largest_inputs(model, batches)
    for group in find_groups(model, batches[0]):
        layers: list[Any] = [model.get_submodule(name) for name in group.layers]
        factors = smoothing_factors(largest[group.layers[0]], [layer.weight for layer in layers], alpha)
        if not group.shared:
            fold(model.get_submodule(group.previous), layers, factors)
            continue
        for name, layer in zip(group.layers, layers, strict=True):
            layer.weight.data *= factors
            model.set_submodule(name, Rescaled(layer, factors))
    return model
