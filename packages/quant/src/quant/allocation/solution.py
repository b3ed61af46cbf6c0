"""The production answer: choices that no other beats, cut by what a fraction of a choice could still reach."""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quant.allocation import Allocation, Candidate, Format

Line = tuple[NDArray[np.float64], NDArray[np.float64]]  # the corners of a convex line: bytes and loss


def prune(weight: Tensor, share: float) -> Tensor:
    """Return the weight with the ``share`` of its elements that are smallest in magnitude set to 0.

    ``weight`` is float of any shape; exactly ``floor(share * elements)`` become 0, whichever of equal ones. Raises
    ValueError unless ``share`` is between 0 and 1, for NaN or inf, TypeError for integers. Source: Han et al. 2015,
    arXiv:1506.02626.
    """
    _refuse_weight(weight)
    if not 0 <= share <= 1:
        msg = f"share is {share}, must be between 0 and 1"
        raise ValueError(msg)
    pruned = weight.detach().clone().flatten()
    pruned[pruned.abs().topk(int(share * weight.numel()), largest=False).indices] = 0
    return pruned.view(weight.shape)


def sensitivity(
    model: nn.Module, loss: Callable[[nn.Module], float], formats: Mapping[str, Format]
) -> dict[str, tuple[Candidate, ...]]:
    """Measure what each linear layer alone costs in each format: ``loss`` with it less ``loss`` of the model as it is.

    Layers are named as in ``model.named_modules()``, candidates in the order of ``formats``. A layer whose weight is
    shared with another module is left out. The model comes back as it was, also when ``loss`` raises. Raises ValueError
    for no formats, a model without such layers, and a loss that is NaN or inf.
    """
    layers = _layers(model)
    if not formats or not layers:
        msg = f"{len(formats)} formats and {len(layers)} linear layers with a weight of their own: both must be there"
        raise ValueError(msg)
    before = loss(model)
    found: dict[str, tuple[Candidate, ...]] = {}
    for name, layer in layers.items():
        kept = layer.weight.data
        costs = []
        try:
            for each in formats.values():
                layer.weight.data = each.shrink(kept)
                costs.append(loss(model) - before)
        finally:
            layer.weight.data = kept
        rows, cols = kept.shape
        sizes = [each.size(rows, cols) for each in formats.values()]
        found[name] = tuple(Candidate(*each) for each in zip(formats, sizes, costs, strict=True))
        _refuse_candidates(name, found[name])
    return found


def allocate_bits(sensitivity: Mapping[str, Sequence[Candidate]], budget: int) -> Allocation:
    """Choose one candidate for each layer so that their sizes add up to at most ``budget`` bytes, with the least loss.

    The choice is exact up to rounding of the sums in float64; of equally good ones the smallest is returned. Raises
    ValueError for no layers, a layer without candidates, a size that is negative, a loss that is NaN or inf, and a
    budget that even the smallest candidates exceed. Source: Nemhauser and Ullmann 1969 (dominance), Sinha and Zoltners
    1979 (bounds).
    """
    if not sensitivity:
        msg = "there are no layers to choose for"
        raise ValueError(msg)
    for name, candidates in sensitivity.items():
        _refuse_candidates(name, candidates)
    least, most = (sum(of(c.size for c in candidates) for candidates in sensitivity.values()) for of in (min, max))
    if not least <= budget:  # NaN is refused too
        msg = f"the budget is {budget} bytes, the smallest candidates take {least}"
        raise ValueError(msg)
    budget = min(budget, most)  # any number, where 64 bits hold only some
    layers = list(sensitivity.values())
    lines = [_line(candidates) for candidates in layers]
    # What the layers from each one on would lose at least, if a choice could be split between two candidates.
    ahead = [*accumulate(reversed(lines), _joined, initial=_NOTHING)][::-1]
    reached = _greedy(lines, budget)
    sizes, losses = np.zeros(1, np.int64), np.zeros(1)
    steps: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []  # of each state: the one before and the candidate
    for candidates, (room, bound) in zip(layers, ahead[1:], strict=True):
        size = (sizes[:, None] + np.array([c.size for c in candidates], np.int64)).ravel()  # (states * candidates,)
        loss = (losses[:, None] + np.array([c.loss for c in candidates])).ravel()
        left = budget - size
        hopeful = (left >= room[0]) & (loss + np.interp(left, room, bound) <= reached)
        tried = np.flatnonzero(hopeful)
        tried = tried[np.lexsort((loss[tried], size[tried]))]
        best_before = np.minimum.accumulate(np.concatenate([[np.inf], loss[tried]]))[:-1]
        kept = tried[loss[tried] < best_before]  # nothing as small or smaller loses as little
        steps.append((kept // len(candidates), kept % len(candidates)))
        sizes, losses = size[kept], loss[kept]
    at = len(sizes) - 1  # the largest loses least
    total, state = int(sizes[at]), at
    chosen = []
    for before, candidate in reversed(steps):
        chosen.append(int(candidate[state]))
        state = int(before[state])
    picked = {n: c[i] for (n, c), i in zip(sensitivity.items(), reversed(chosen), strict=True)}
    return Allocation({name: c.name for name, c in picked.items()}, total, float(losses[at]))


def prune_2_4(weight: Tensor) -> Tensor:
    """Return the weight with the two smallest of every four neighbours in a row set to 0.

    ``weight`` is (rows, cols) float; of equal magnitudes the left ones stay. Raises ValueError unless cols is a
    multiple of 4, for NaN or inf, TypeError for integers. Source: Mishra et al. 2021, arXiv:2104.08378.
    """
    _refuse_weight(weight)
    if weight.ndim != 2 or weight.shape[1] % 4:  # noqa: PLR2004
        msg = f"weight has shape {tuple(weight.shape)}, must be (rows, cols) with cols a multiple of 4"
        raise ValueError(msg)
    fours = weight.detach().unflatten(1, (-1, 4))  # (rows, cols / 4, 4)
    order = fours.abs().sort(dim=2, descending=True, stable=True).indices
    pruned: Tensor = fours.scatter(2, order[..., 2:], 0.0)
    return pruned.flatten(1)


_NOTHING: Line = (np.zeros(1), np.zeros(1))


def _line(candidates: Sequence[Candidate]) -> Line:
    """Return the lower left convex hull of a layer's candidates: each step to the right saves less per byte."""
    corners: list[tuple[float, float]] = []
    for size, loss in sorted((float(c.size), c.loss) for c in candidates):
        if corners and loss >= corners[-1][1]:
            continue
        while len(corners) > 1 and _slope(corners[-2], corners[-1]) >= _slope(corners[-1], (size, loss)):
            corners.pop()
        corners.append((size, loss))
    return np.array([c[0] for c in corners]), np.array([c[1] for c in corners])


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])


def _joined(a: Line, b: Line) -> Line:
    """Return the line of two layers together: both lines' steps, the steepest first."""
    width, drop = (np.concatenate([np.diff(a[i]), np.diff(b[i])]) for i in (0, 1))
    order = np.argsort(drop / width, kind="stable")
    wide, deep = (np.concatenate([[a[i][0] + b[i][0]], s[order]]) for i, s in ((0, width), (1, drop)))
    return np.cumsum(wide), np.cumsum(deep)


def _greedy(lines: list[Line], budget: int) -> float:
    """Return a loss that is surely reached, a hair above it: steps in the order of what they save per byte."""
    left = budget - sum(float(size[0]) for size, _ in lines)
    loss = sum(float(losses[0]) for _, losses in lines)
    steps = [
        (drop / width, layer, width, drop)
        for layer, (size, losses) in enumerate(lines)
        for width, drop in zip(np.diff(size).tolist(), np.diff(losses).tolist(), strict=True)
    ]
    stopped = set()
    scale = sum(float(np.abs(losses).max()) for _, losses in lines)
    for _, layer, width, drop in sorted(steps):  # a layer's own steps stay in order: each saves less per byte
        if layer in stopped or width > left:
            stopped.add(layer)
        else:
            left, loss = left - width, loss + drop
    return loss + 1e-12 * scale


def _layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Return the linear layers whose weight is nobody else's, nor read by their owner, as attention does."""
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    return {n: m for n, m in model.named_modules() if type(m) is nn.Linear and owners[id(m.weight)] == 1}


def _refuse_candidates(name: str, candidates: Sequence[Candidate]) -> None:
    if not candidates:
        msg = f"layer {name!r} has no candidates"
        raise ValueError(msg)
    for each in candidates:
        if each.size < 0 or not np.isfinite(each.loss):
            msg = f"layer {name!r}, {each.name}: size {each.size} and loss {each.loss} must be at least 0 and finite"
            raise ValueError(msg)


def _refuse_weight(weight: Tensor) -> None:
    if not weight.is_floating_point():
        msg = f"weight is {weight.dtype}, must be floating point"
        raise TypeError(msg)
    if not bool(torch.isfinite(weight).all()):
        msg = "weight has NaN or inf"
        raise ValueError(msg)
