"""The production answer: a group is quantized once, when it is complete, into memory that was allocated before."""

import torch
from torch import Tensor

from kvcache.caches import View
from kvcache.caches.solution import refuse_crop, refuse_rows, refuse_sizes, refuse_update
from kvcache.kivi import Codes, _kernel

WIDTHS = (2, 4, 8)


def quantize(x: Tensor, bits: int, dim: int, *, symmetric: bool = False) -> Codes:
    """Quantize ``x``, any float tensor, to ``bits`` of 2, 4 or 8; numbers along ``dim`` share a scale.

    The codes are nearest to ``(x - low) / scale`` for the scale and low as rounded to bfloat16. A constant slice comes
    back exactly as its low. With ``symmetric`` the low is ``-2**(bits - 1) * scale``, which nobody has to keep, and the
    largest magnitude is ``2**(bits - 1) - 1`` scales: 0 has a code, the lowest code is not used. Raises ValueError for
    other bits, a dim that x does not have, an empty tensor, NaN or inf, and TypeError for integers. Source:
    Liu et al. 2024, arXiv:2402.02750, section 3.
    """
    _refuse_bits(bits)
    if not x.is_floating_point():
        msg = f"x is {x.dtype}, must be floating point"
        raise TypeError(msg)
    if not -x.ndim <= dim < x.ndim:
        msg = f"dim is {dim}, x has {x.ndim} dimensions"
        raise ValueError(msg)
    if not x.numel():
        msg = f"x has shape {tuple(x.shape)}, must have something in it"
        raise ValueError(msg)
    x = x.float()
    # Two passes in torch's fast reductions; aminmax, one pass, takes several times as long.
    smallest, largest = x.amin(dim, keepdim=True), x.amax(dim, keepdim=True)
    if not bool((smallest.isfinite() & largest.isfinite()).all()):
        msg = "x has NaN or inf, which no code can stand for"
        raise ValueError(msg)
    steps = (1 << bits) - 1
    if symmetric:  # a power of two: the low is exact in bfloat16
        scale = torch.maximum(largest, -smallest).div(steps // 2).bfloat16()
        low = scale * -(1 << (bits - 1))
    else:  # the range is taken from the rounded low: what is lost by rounding it is not lost again at the other end
        low = smallest.bfloat16()
        scale = ((largest - low.float()) / steps).bfloat16()
    step = scale.float()
    codes = x.sub(low.float()).div_(torch.where(step == 0, 1.0, step)).round_().clamp_(0, steps)
    return Codes(codes.to(torch.uint8), scale, low)


def dequantize(codes: Codes, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return ``low + scale * code`` in ``dtype``, computed in float32."""
    return torch.addcmul(codes.low.float(), codes.codes.float(), codes.scale.float()).to(dtype)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack uint8 codes along the last dimension, 8 / bits in a byte, the first in the lowest bits.

    Raises ValueError for bits other than 2, 4 or 8, a last dimension that is not a multiple of 8 / bits, or a code that
    does not fit, TypeError for codes that are not uint8.
    """
    _refuse_bits(bits)
    _refuse_other(codes)
    each = 8 // bits
    if codes.shape[-1] % each:
        msg = f"the last dimension is {codes.shape[-1]}, must be a multiple of {each} at {bits} bits"
        raise ValueError(msg)
    if codes.numel() and int(codes.max()) >= 1 << bits:
        msg = f"code {int(codes.max())} does not fit {bits} bits"
        raise ValueError(msg)
    return _pack(codes, bits)


def unpack(packed: Tensor, bits: int) -> Tensor:
    """Undo ``pack``; ValueError for bits other than 2, 4 or 8, TypeError for what is not uint8."""
    _refuse_bits(bits)
    _refuse_other(packed)
    each = 8 // bits
    if each == 1:
        return packed
    parts = [(packed >> (bits * i)) & ((1 << bits) - 1) for i in range(each)]
    return torch.stack(parts, -1).flatten(-2)


class QuantizedCache:
    """A ``KVCache`` with codes of ``bits``; fewer than ``group`` newest positions stay in full precision.

    Codes of 8 bits are symmetric and keep no low: a value's are around 0, a key's around what was the median of its
    channel in the first group, so that a channel that is large for every token needs no larger a scale than others.
    """

    def __init__(
        self,
        layers: int,
        batch: int,
        kv_heads: int,
        head_dim: int,
        capacity: int,
        bits: int = 4,
        group: int = 32,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Allocate; ValueError for sizes that are not positive, other bits, or a head_dim that does not pack."""
        refuse_sizes(layers=layers, batch=batch, kv_heads=kv_heads, head_dim=head_dim, capacity=capacity, group=group)
        _refuse_bits(bits)
        if head_dim * bits % 8:
            msg = f"head_dim {head_dim} at {bits} bits is not a whole number of bytes"
            raise ValueError(msg)
        groups, width = capacity // group, head_dim * bits // 8
        self.bits, self.group, self.capacity, self.symmetric = bits, group, capacity, bits == max(WIDTHS)
        self.codes = torch.zeros(2, layers, batch, kv_heads, groups * group, width, dtype=torch.uint8, device=device)
        self.waiting = torch.zeros(2, layers, batch, kv_heads, group, head_dim, dtype=dtype, device=device)

        def maps(groups: int, positions: int) -> list[Tensor]:  # of keys for each channel, of values for each position
            shapes = (groups, 1, head_dim), (positions, 1, 1)
            return [torch.zeros(layers, batch, kv_heads, *s, dtype=torch.bfloat16, device=device) for s in shapes]

        self.scales = maps(groups, groups * group)
        self.lows = maps(1, 1) if self.symmetric else maps(groups, groups * group)
        self._columns = torch.arange(capacity, device=device)
        self._lengths = [0] * layers

    @property
    def length(self) -> int:
        """How many positions were appended."""
        return self._lengths[0]

    def update(self, layer: int, k: Tensor, v: Tensor, positions: Tensor) -> View:
        """Append; quantize each group as it becomes complete, once; return everything dequantized."""
        refuse_update(self.waiting[0], self._lengths, layer, k, v, positions)
        start = self._lengths[layer]
        stop = start + k.shape[2]
        if stop > self.capacity:
            msg = f"the cache holds {self.capacity} positions, {start} are taken and {k.shape[2]} more were given"
            raise ValueError(msg)
        done, held = start - start % self.group, start % self.group
        new = [torch.cat([self.waiting[i, layer, :, :, :held], t], 2) for i, t in enumerate((k, v))]
        whole = stop - stop % self.group
        if whole > done:
            self._store(layer, done, whole, [t[:, :, : whole - done] for t in new])
        rest = [t[:, :, max(whole - done, 0) :] for t in new]
        for i, t in enumerate(rest):
            self.waiting[i, layer, :, :, : t.shape[2]] = t
        self._lengths[layer] = stop
        columns = self._columns[:stop]
        keys, values = self._read(layer, whole, rest)
        return View(keys, values, columns, columns)

    def crop(self, length: int) -> None:
        """Forget everything from ``length`` on; ValueError for a cut inside a group that is quantized already."""
        refuse_crop(length, self.length)
        done = self.length - self.length % self.group
        if length < done and length % self.group:
            msg = f"cannot crop to {length}: positions up to {done} are quantized in groups of {self.group}"
            raise ValueError(msg)
        self._lengths = [length] * len(self._lengths)

    def reorder(self, rows: Tensor) -> None:
        """Make row ``i`` of the batch a copy of row ``rows[i]``; ValueError for rows that do not exist."""
        refuse_rows(rows, self.waiting.shape[2])
        for buffer in self._buffers:
            buffer.copy_(buffer.index_select(1, rows))

    @property
    def nbytes(self) -> int:
        """How many bytes codes, scales and waiting positions take."""
        return sum(buffer.nbytes for buffer in self._buffers)

    @property
    def _buffers(self) -> tuple[Tensor, ...]:
        """Everything of keys and of values, each (layers, batch, kv_heads, ...)."""
        return (*self.codes, *self.waiting, *self.scales, *self.lows)

    def _store(self, layer: int, start: int, stop: int, new: list[Tensor]) -> None:
        """Quantize whole groups of keys and values; what shares a scale is dimension 3 of keys and 4 of values."""
        for codes, scales, lows, x, each, dim in zip(
            self.codes, self.scales, self.lows, new, (self.group, 1), (3, 4), strict=True
        ):
            grouped = x.float().unflatten(2, (-1, each))  # (batch, kv_heads, groups, group, head_dim)
            if self.symmetric and start == 0 and dim == 3:  # noqa: PLR2004
                lows[layer] = grouped[:, :, :1].median(3, keepdim=True).values  # no sum: same bits for all chunks
            around = grouped - lows[layer] if self.symmetric else grouped
            found = quantize(around, self.bits, dim, symmetric=self.symmetric)
            codes[layer, :, :, start:stop] = _pack(found.codes.flatten(2, 3), self.bits)
            scales[layer, :, :, start // each : stop // each] = found.scale
            if not self.symmetric:
                lows[layer, :, :, start // each : stop // each] = found.low

    def _read(self, layer: int, stop: int, rest: list[Tensor]) -> list[Tensor]:
        """Decode keys and values up to position ``stop``, and put what waits behind them."""
        batch, kv_heads, waiting, head_dim = rest[0].shape
        found = [t.new_empty(batch, kv_heads, stop + waiting, head_dim) for t in rest]
        for out, codes, scales, lows, each, waits in zip(
            found, self.codes, self.scales, self.lows, (self.group, 1), rest, strict=True
        ):
            out[:, :, stop:] = waits
            if _kernel.suits(codes, head_dim, out.dtype):
                _kernel.decode(codes[layer], scales[layer], lows[layer], out, self.bits, self.group)
                continue
            plain = unpack(codes[layer, :, :, :stop], self.bits).unflatten(2, (stop // each, each))
            plain = plain.float() - (1 << (self.bits - 1)) if self.symmetric else plain
            maps = (t[layer, :, :, : stop // each] for t in (scales, lows))
            out[:, :, :stop] = dequantize(Codes(plain, *maps), out.dtype).flatten(2, 3)
        return found


def _pack(codes: Tensor, bits: int) -> Tensor:
    each = 8 // bits
    out = codes[..., ::each].clone()
    for i in range(1, each):
        out |= codes[..., i::each] << (bits * i)
    return out


def _refuse_other(codes: Tensor) -> None:
    if codes.dtype != torch.uint8:
        msg = f"codes are {codes.dtype}, must be uint8"
        raise TypeError(msg)


def _refuse_bits(bits: int) -> None:
    if bits not in WIDTHS:
        msg = f"bits is {bits}, must be 2, 4 or 8"
        raise ValueError(msg)
