"""The production answer: the tables of cosines and sines once, the rotation in place of four temporary halves."""

import math

import torch
from torch import Tensor

from kvcache.rotary import Scaled, Scaling

BLOCK = 1 << 18  # numbers turned at a time, so that what lies between the steps stays in the processor's caches


def frequencies(head_dim: int, base: float = 10000.0) -> Tensor:
    """Return base**(-2 i / head_dim) for i below head_dim / 2, float32 on the CPU, radians per position.

    Raises ValueError for a head_dim that is not even and positive, or a base not above 1. Source: Su et al. 2021,
    arXiv:2104.09864, section 3.2.2.
    """
    if head_dim < 2 or head_dim % 2:  # noqa: PLR2004
        msg = f"head_dim is {head_dim}, must be even and positive"
        raise ValueError(msg)
    if not base > 1:
        msg = f"base is {base}, must be above 1"
        raise ValueError(msg)
    return base ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)


def positions_of(padding_mask: Tensor, past: int = 0) -> Tensor:
    """Return the position of each token after ``past`` columns of the mask, int64 (batch, columns - past).

    ``padding_mask`` is (batch, columns) bool over everything, cached or new, False where a column is padding. The first
    real token of a row stands at 0 and padding before it at 0 too. Raises TypeError for a mask that is not bool,
    ValueError unless it is (batch, columns) and past is between 0 and columns.
    """
    if padding_mask.dtype != torch.bool:
        msg = f"padding_mask is {padding_mask.dtype}, must be bool"
        raise TypeError(msg)
    if padding_mask.ndim != 2 or not 0 <= past <= padding_mask.shape[1]:  # noqa: PLR2004
        msg = f"past is {past} for a padding_mask of shape {tuple(padding_mask.shape)}, must be 0 to its columns"
        raise ValueError(msg)
    return padding_mask.cumsum(1).sub_(1).clamp_(min=0)[:, past:]


def rotate(x: Tensor, positions: Tensor, frequencies: Tensor, attention: float = 1.0) -> Tensor:
    """Turn each pair (i, i + head_dim / 2) of ``x`` by positions * frequencies[i], times ``attention``.

    ``x`` is (batch, heads, length, head_dim); ``positions`` (length,) or (batch, length), integers; ``frequencies``
    (head_dim / 2,). Angles are computed in at least float32, the result has the dtype of ``x``. Raises ValueError for
    shapes that do not fit and TypeError for positions that are not integers. Source: Su et al. 2021, eq. 34.
    """
    _refuse_misfit(x, positions, frequencies)
    cos, sin = tables(positions, frequencies, attention, torch.promote_types(x.dtype, torch.float32), x.device)
    return turn(x, cos, sin)


def tables(
    positions: Tensor, frequencies: Tensor, attention: float, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return (cos, cos) and (-sin, sin) of each angle, (length, head_dim) or (batch, 1, length, head_dim).

    A model computes them once a step and turns the queries and keys of all its layers with them.
    """
    angles = positions[..., None].to(device, dtype) * frequencies.to(device, dtype)  # (..., length, head_dim / 2)
    cos, sin = angles.cos() * attention, angles.sin() * attention
    cos, sin = torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)
    return (cos, sin) if positions.ndim == 1 else (cos[:, None], sin[:, None])


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn ``x``, (batch, heads, length, head_dim), by the angles of ``tables``."""
    some = max(BLOCK * x.shape[2] // max(x.numel(), 1), 1)  # positions
    if x.device.type != "cpu" or some >= x.shape[2]:
        return _turn(x, cos, sin)
    out = torch.empty_like(x)
    for start in range(0, x.shape[2], some):
        part = slice(start, start + some)
        out[:, :, part] = _turn(x[:, :, part], cos[..., part, :], sin[..., part, :])
    return out


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    # (a, b) -> (a cos - b sin, b cos + a sin): with the sign in the table, swapped halves need one product and one sum,
    # both in the memory of the copy that the swap makes anyway.
    wide = x.to(cos.dtype)
    swapped = torch.roll(wide, x.shape[-1] // 2, -1)
    return swapped.mul_(sin).addcmul_(wide, cos).to(x.dtype)


def scaled_frequencies(head_dim: int, base: float, scaling: Scaling) -> Scaled:
    """Stretch the frequencies so that ``factor`` times as many positions turn as far as the model has seen.

    "linear" divides all by the factor (Chen et al. 2023, arXiv:2306.15595); "ntk" raises the base to
    base * factor**(head_dim / (head_dim - 2)), so that the slowest is divided by the factor and the fastest is kept;
    "yarn" blends by rotations over the original context, keeping what turns more than ``high`` times and dividing what
    turns less than ``low`` times, with attention 0.1 ln(factor) + 1 (Peng et al. 2023, arXiv:2309.00071, sections 3.2
    and 3.4; as in its code, the ramp runs over the indices of the frequencies); "llama3" blends likewise, the ramp over
    the rotations themselves (Llama 3.1's released code). Raises ValueError for an unknown kind, a factor below 1, a
    blend whose low is not positive and below its high or whose original is not positive, "ntk" with a head_dim of 2,
    and what ``frequencies`` refuses.
    """
    plain, factor = frequencies(head_dim, base), scaling.factor
    kind: str = scaling.kind
    if not factor >= 1:
        msg = f"factor is {factor}, must be at least 1"
        raise ValueError(msg)
    if kind in ("yarn", "llama3") and not (scaling.original > 0 and 0 < scaling.low < scaling.high):
        msg = f"{kind} blends from {scaling.low} to {scaling.high} rotations over {scaling.original} positions: "
        msg += "must be positive and in this order"
        raise ValueError(msg)
    if kind == "linear":
        return Scaled(plain / factor, 1.0)
    if kind == "ntk":
        if head_dim == 2:  # noqa: PLR2004
            msg = "head_dim is 2, must be above 2 for ntk: its only frequency is both the fastest and the slowest"
            raise ValueError(msg)
        return Scaled(frequencies(head_dim, base * factor ** (head_dim / (head_dim - 2))), 1.0)
    if kind == "yarn":
        # The (real-valued) index whose frequency turns r times over the original context solves
        # original * base**(-2 i / head_dim) = 2 pi r.
        low, high = (
            head_dim * math.log(scaling.original / (2 * math.pi * turns)) / (2 * math.log(base))
            for turns in (scaling.high, scaling.low)
        )
        low, high = max(math.floor(low), 0), min(math.ceil(high), head_dim - 1)
        index = torch.arange(head_dim // 2, dtype=torch.float32)
        kept = 1 - ((index - low) / max(high - low, 0.001)).clamp(0, 1)
        attention = 0.1 * math.log(factor) + 1
    elif kind == "llama3":
        turns = scaling.original * plain / (2 * math.pi)
        kept = ((turns - scaling.low) / (scaling.high - scaling.low)).clamp(0, 1)
        attention = 1.0
    else:
        msg = f"unknown kind {scaling.kind!r}, must be linear, ntk, yarn or llama3"
        raise ValueError(msg)
    return Scaled(plain * kept + plain / factor * (1 - kept), attention)


def _refuse_misfit(x: Tensor, positions: Tensor, frequencies: Tensor) -> None:
    if x.ndim != 4 or frequencies.shape != (x.shape[-1] // 2,) or x.shape[-1] % 2:  # noqa: PLR2004
        msg = f"x has shape {tuple(x.shape)} and there are {tuple(frequencies.shape)} frequencies: must be "
        msg += "(batch, heads, length, head_dim) and (head_dim / 2,)"
        raise ValueError(msg)
    if positions.is_floating_point() or positions.dtype == torch.bool:
        msg = f"positions are {positions.dtype}, must be integers"
        raise TypeError(msg)
    if tuple(positions.shape) not in {(x.shape[2],), (x.shape[0], x.shape[2])}:
        msg = f"positions have shape {tuple(positions.shape)}, must be ({x.shape[2]},) or ({x.shape[0]}, {x.shape[2]})"
        raise ValueError(msg)
