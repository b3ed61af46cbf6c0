"""The production answer: every slice at once, in as few passes over memory as torch's kernels allow."""

from collections.abc import Iterator

import torch
from torch import Tensor

from quant.affine import MXFP4, Granularity, QParams

TINY = torch.finfo(torch.float32).tiny
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
BLOCK = 32
CACHED = 1 << 18  # numbers for each thread, 1 MB of float32: less is done sooner than the threads have started


def choose_qparams(
    x: Tensor,
    bits: int = 8,
    symmetric: bool = True,  # noqa: FBT001, FBT002
    granularity: Granularity = "channel",
) -> QParams:
    """Choose the scale and zero point of each slice of a matrix from its smallest and largest value.

    ``x`` is (rows, cols), float. With ``symmetric`` the zero point is 0 and the largest magnitude becomes the code
    ``2**(bits - 1) - 1``; otherwise the slice's range, stretched to hold 0, becomes all ``2**bits`` codes. A slice of
    zeros has scale 1. Raises ValueError for bits outside 2 to 8, a granularity that is not "tensor", "channel" or a
    positive int, an empty or not two-dimensional ``x``, NaN or inf, and TypeError for integers. Source: Jacob et al.
    2018, section 3.
    """
    group = _group(x, bits, granularity)
    low, high = _ranges(x.detach(), granularity, group)  # (rows, groups) each
    highest, steps = (1 << (bits - 1)) - 1, (1 << bits) - 1
    if symmetric:
        scale = torch.maximum(-low, high).div_(highest)
    else:
        low, high = low.clamp(max=0), high.clamp(min=0)
        scale = (high / steps).sub_(low / steps)  # divided first: high - low may overflow
    ends = torch.aminmax(scale)
    _refuse_nonfinite(*ends)  # a scale is finite where both ends of its slice are
    if float(ends[0]) < TINY:
        # A smaller scale would flush to 0 on some devices, and 1 is as good as any for zeros.
        scale = torch.where(scale > 0, scale.clamp(min=TINY), 1.0)
    if symmetric:
        return QParams(scale, torch.zeros_like(scale, dtype=torch.int32), group, bits)
    zero_point = (low / scale).neg_().add_(highest - steps).round_().clamp_(highest - steps, highest)
    return QParams(scale, zero_point.to(torch.int32), group, bits)


def quantize(x: Tensor, qparams: QParams) -> Tensor:
    """Map real numbers to the nearest code, int8 (rows, cols); what lies outside the range becomes its nearest end.

    ``x`` is (rows, cols), float, of the shape that ``qparams`` were chosen for. Raises ValueError for another shape,
    NaN or inf, and TypeError for integers. Source: Jacob et al. 2018, eq. 12.
    """
    _refuse_integers(x)
    _refuse_misfit(x, qparams)
    _refuse_nonfinite(*torch.aminmax(x)) if x.numel() else None
    codes = torch.empty(x.shape, dtype=torch.int8, device=x.device)
    for part, scale, zero_point, out in _parts(x, codes, qparams):
        # Dividing, not multiplying by the reciprocal, keeps ties where the formula has them.
        out.copy_(torch.div(part, scale).round_().add_(zero_point).clamp_(qparams.lowest, qparams.highest))
    return codes


def dequantize(codes: Tensor, qparams: QParams) -> Tensor:
    """Map codes back to real numbers, ``scale * (code - zero_point)``, float32 (rows, cols).

    ``codes`` is (rows, cols) int8. Raises ValueError where its shape does not fit ``qparams``. Source: Jacob et al.
    2018, eq. 1.
    """
    _refuse_misfit(codes, qparams)
    x = torch.empty(codes.shape, dtype=torch.float32, device=codes.device)
    for part, scale, zero_point, out in _parts(codes, x, qparams):
        out.copy_(part).sub_(zero_point).mul_(scale)
    return x


def round_e4m3(x: Tensor) -> Tensor:
    """Round to the nearest FP8 E4M3 number, ties to even, float32 of the shape of ``x``.

    The format has 4 exponent bits (bias 7), 3 mantissa bits, subnormals in steps of 2**-9 and no infinity; what is
    larger than 448 becomes 448. Raises TypeError for integers and ValueError for NaN or inf. Source: Micikevicius et
    al. 2022, arXiv:2209.05433, table 1.
    """
    _refuse_integers(x)
    x = x.float()
    if x.numel():
        _refuse_nonfinite(*torch.aminmax(x))
    flat, rounded = x.reshape(-1), torch.empty(x.numel(), device=x.device)
    for part in pieces(flat):
        step = _power_of_two(_exponent(flat[part]).clamp_(min=-6).sub_(3))
        rounded[part] = torch.div(flat[part], step).round_().mul_(step).clamp_(-448, 448)
    return rounded.view(x.shape)


def quantize_mxfp4(x: Tensor) -> MXFP4:
    """Quantize blocks of 32 columns to E2M1 numbers (0, 0.5, 1, 1.5, 2, 3, 4, 6) with a power of two for each block.

    The exponent of a block is ``floor(log2(largest magnitude)) - 2``; what then lies beyond 6 becomes 6. ``x`` is
    (rows, cols), float. Raises ValueError unless cols is a multiple of 32, for an empty ``x``, NaN or inf, and
    TypeError for integers. Source: OCP Microscaling Formats (MX) v1.0, sections 5.3 and 6.3.
    """
    _group(x, 4, BLOCK)
    if x.shape[1] % BLOCK:
        msg = f"x has {x.shape[1]} columns, MXFP4 needs a multiple of {BLOCK}"
        raise ValueError(msg)
    blocks = x.float().unflatten(1, (-1, BLOCK))  # (rows, blocks, 32)
    _refuse_nonfinite(*torch.aminmax(blocks))
    shared = (_exponent(blocks.abs().amax(2)) - 2).clamp(min=-126)  # (rows, blocks); E8M0 below would be subnormal here
    value = blocks / _power_of_two(shared)[..., None]
    binade = _exponent(value).clamp(min=0, max=2)
    # Codes count 0, 0.5, 1, 1.5 in halves and go on in steps that double: twice the binade more than the multiple of
    # the step.
    magnitude = ((value.abs() / _power_of_two(binade - 1)).round_() + 2 * binade).clamp_(max=7)
    codes = (magnitude.to(torch.uint8) | (torch.signbit(value).to(torch.uint8) << 3)).flatten(1)
    return MXFP4(codes, (shared + 127).to(torch.uint8))


def dequantize_mxfp4(mx: MXFP4) -> Tensor:
    """Return the numbers that the codes stand for, float32 (rows, cols)."""
    table = torch.tensor([*E2M1, *(-value for value in E2M1)], device=mx.codes.device)
    blocks = table[mx.codes.long()].unflatten(1, (-1, BLOCK))
    values: Tensor = blocks * _power_of_two(mx.exponents.int() - 127)[..., None]
    return values.flatten(1)


def _exponent(x: Tensor) -> Tensor:
    """Return floor(log2(|x|)) of float32 exactly, -127 for zero and subnormals: from the bits, no logarithm rounds."""
    return (x.contiguous().view(torch.int32) >> 23).bitwise_and_(0xFF).sub_(127)


def _power_of_two(exponent: Tensor) -> Tensor:
    """Return 2**exponent as float32 exactly, for exponents of normal numbers."""
    return (exponent.int() + 127).bitwise_left_shift_(23).view(torch.float32)


def _parts(source: Tensor, target: Tensor, qparams: QParams) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield views of ``source`` and ``target``, (rows, groups, group), a few rows at a time, with their scales.

    Several passes over a piece that stays in the cache cost little more than one over memory.
    """
    cols, group = source.shape[1], qparams.group
    whole = cols - cols % group
    scales = qparams.scale[..., None], qparams.zero_point[..., None].float()  # (rows, groups, 1)
    for rows in pieces(source):
        scale, zero_point = (s if len(s) == 1 else s[rows] for s in scales)
        if whole:
            views = [t[rows, :whole].unflatten(1, (-1, group)) for t in (source, target)]
            yield views[0], scale[:, : whole // group], zero_point[:, : whole // group], views[1]
        if whole < cols:
            yield source[rows, None, whole:], scale[:, -1:], zero_point[:, -1:], target[rows, None, whole:]


def pieces(x: Tensor) -> list[slice]:
    """Cut (rows, ...) into even slices of rows that about fit the cores' caches; one slice on an accelerator."""
    fit = CACHED * torch.get_num_threads()  # each thread takes its share of a slice
    number = round(int(x.numel()) / fit) if x.device.type == "cpu" else 1
    count = max(1, -(-x.shape[0] // max(1, number)))
    return [slice(at, at + count) for at in range(0, x.shape[0], count)]


def _ranges(x: Tensor, granularity: Granularity, group: int) -> tuple[Tensor, Tensor]:
    """Return each slice's smallest and largest value, float32 (rows, groups)."""
    if granularity == "tensor":
        low, high = torch.aminmax(x)
        return low.float().view(1, 1), high.float().view(1, 1)
    whole = x.shape[1] - x.shape[1] % group
    views = [x[:, :whole].unflatten(1, (-1, group))] if whole else []
    views += [x[:, None, whole:]] if whole < x.shape[1] else []
    # Two reductions are many times faster than one aminmax: along a dimension that is not vectorised on CPUs.
    ends = ([reduce(view, 2) for view in views] for reduce in (torch.amin, torch.amax))
    low, high = (torch.cat(parts, 1) if len(parts) > 1 else parts[0] for parts in ends)
    return low.float(), high.float()


def _group(x: Tensor, bits: int, granularity: Granularity) -> int:
    """Check the arguments and return how many columns share a map."""
    _refuse_integers(x)
    if not 2 <= bits <= 8:  # noqa: PLR2004
        msg = f"bits is {bits}, must be 2 to 8"
        raise ValueError(msg)
    if x.ndim != 2 or not x.numel():  # noqa: PLR2004
        msg = f"x has shape {tuple(x.shape)}, must be (rows, cols) with something in it"
        raise ValueError(msg)
    if granularity in ("tensor", "channel"):
        return x.shape[1]
    if isinstance(granularity, bool) or not isinstance(granularity, int) or granularity < 1:
        msg = f"granularity is {granularity!r}, must be 'tensor', 'channel' or a positive number of columns"
        raise ValueError(msg)
    return min(granularity, x.shape[1])


def _refuse_integers(x: Tensor) -> None:
    if not x.is_floating_point():
        msg = f"x is {x.dtype}, must be floating point"
        raise TypeError(msg)


def _refuse_nonfinite(low: Tensor, high: Tensor) -> None:
    # NaN goes through both the minimum and the maximum.
    if not bool((low.isfinite() & high.isfinite()).all()):
        msg = "x has NaN or inf, which no code can stand for"
        raise ValueError(msg)


def _refuse_misfit(x: Tensor, qparams: QParams) -> None:
    rows, groups = qparams.scale.shape
    if x.ndim != 2 or rows not in (1, x.shape[0]) or -(-x.shape[1] // qparams.group) != groups:  # noqa: PLR2004
        given, scales = tuple(x.shape), (rows, groups)
        msg = f"shape {given} does not fit scales of shape {scales} for groups of {qparams.group} columns"
        raise ValueError(msg)
