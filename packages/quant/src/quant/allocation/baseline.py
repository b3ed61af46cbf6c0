"""The simple answer: from the smallest up, always the step that saves most loss per byte."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from quant.allocation import Allocation, Candidate, Format


def prune(weight: Tensor, share: float) -> Tensor:
    """Return the weight with the ``share`` of its elements that are smallest in magnitude set to 0."""
    order = weight.abs().flatten().argsort()
    pruned = weight.clone().flatten()
    pruned[order[: int(share * weight.numel())]] = 0
    return pruned.view(weight.shape)


def sensitivity(
    model: nn.Module, loss: Callable[[nn.Module], float], formats: Mapping[str, Format]
) -> dict[str, tuple[Candidate, ...]]:
    """Measure what each linear layer alone costs in each format."""
    before = loss(model)
    found = {}
    for name, layer in model.named_modules():
        others = [m for m in model.modules() if m is not layer]
        shared = {id(p) for m in others for p in m.parameters(recurse=False)}
        if not isinstance(layer, nn.Linear) or id(layer.weight) in shared:
            continue
        kept, candidates = layer.weight.data, []
        for title, each in formats.items():
            layer.weight.data = each.shrink(kept)
            candidates.append(Candidate(title, each.size(*kept.shape), loss(model) - before))
        layer.weight.data = kept
        found[name] = tuple(candidates)
    return found


def allocate_bits(sensitivity: Mapping[str, Sequence[Candidate]], budget: int) -> Allocation:
    """Choose one candidate for each layer, as near to the least loss as single steps get."""
    now = {name: min(each, key=lambda c: (c.size, c.loss)) for name, each in sensitivity.items()}
    while True:
        left = budget - sum(c.size for c in now.values())
        steps = [
            ((now[name].loss - c.loss) / max(c.size - now[name].size, 1e-9), name, c)
            for name, each in sensitivity.items()
            for c in each
            if c.loss < now[name].loss and c.size - now[name].size <= left
        ]
        if not steps:
            break
        _, name, best = max(steps, key=lambda step: step[0])
        now[name] = best
    size, loss = sum(c.size for c in now.values()), sum(c.loss for c in now.values())
    return Allocation({name: c.name for name, c in now.items()}, size, loss)


def prune_2_4(weight: Tensor) -> Tensor:
    """Return the weight with the two smallest of every four neighbours in a row set to 0."""
    pruned = weight.clone()
    for row in pruned:
        for four in row.split(4):
            four[torch.argsort(-four.abs(), stable=True)[2:]] = 0
    return pruned
