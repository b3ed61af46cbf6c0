"""The native kernel's door: a weight laid out as it reads it, and one call from float rows to float rows."""

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from harness import native

GROUP, OUTPUTS = 32, 16


class _Layer(ctypes.Structure):
    """As in ``_w4a8.c``."""

    _fields_ = (("records", ctypes.c_void_p), ("inputs", ctypes.c_long), ("outputs", ctypes.c_long))


@cache
def kernel() -> Any:  # noqa: ANN401 - a foreign function
    """Return the compiled kernel, or None where it cannot be had."""
    found = native.library("quant.int4", "_w4a8")
    if found is None:
        return None
    function = found.w4a8
    function.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_long, ctypes.c_int]
    return function


def suits(in_features: int, group: int) -> bool:
    """Tell whether the kernel's groups of 32 columns lie within those of a weight."""
    return group % GROUP == 0 or group >= in_features


def records(codes: Tensor, scale: Tensor, zero_point: Tensor, group: int = GROUP) -> Tensor:
    """Lay a weight out as the kernel reads it, filled up to whole records.

    ``codes`` is (out, in) int8 from -8 to 7, ``scale`` (out, groups) bfloat16, ``zero_point`` (out, groups) int8, for
    groups of ``group`` columns that ``suits``. Returns (ceil(out / 16), ceil(in / 32), 304) uint8.
    """
    blocks, groups = -(-codes.shape[0] // OUTPUTS), -(-codes.shape[1] // GROUP)
    below = OUTPUTS * blocks - codes.shape[0]
    whole = F.pad(codes, (0, GROUP * groups - codes.shape[1], 0, below))
    unsigned = (whole + 8).to(torch.uint8).view(blocks, OUTPUTS, groups, 2, 4, 4)  # (..., half, step, input)
    ordered = unsigned.permute(3, 0, 2, 4, 1, 5)  # (half, blocks, groups, step, output, input)
    nibbles = (ordered[0] | ordered[1] << 4).reshape(blocks, groups, 256)
    # The kernel's groups have 32 columns: those of a wider one are given its map, each for itself.
    maps = (t.repeat_interleave(-(-group // GROUP), 1)[:, :groups] for t in (scale, zero_point + 8))
    parts = (F.pad(t, (0, 0, 0, below)).view(blocks, OUTPUTS, groups).transpose(1, 2).contiguous() for t in maps)
    scales, zeros = parts
    return torch.cat([nibbles, scales.view(torch.uint8), zeros.to(torch.uint8)], dim=2)


class Weight:
    """A weight that ``records`` laid out, and its address."""

    def __init__(self, laid_out: Tensor, in_features: int, out_features: int) -> None:
        """Keep (ceil(out / 16), ceil(in / 32), 304) uint8."""
        self.records, self.outputs = laid_out, out_features
        inputs, self._rows = GROUP * laid_out.shape[1], OUTPUTS * laid_out.shape[0]
        self._right, self._below = inputs - in_features, self._rows - out_features
        self._layer = _Layer(laid_out.data_ptr(), inputs, self._rows)
        self._address, self._kernel = ctypes.addressof(self._layer), kernel()

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Multiply (rows, in) float32 by the weight and add the bias; (rows, out) float32."""
        rows, x = x.shape[0], (F.pad(x, (0, self._right)) if self._right else x).contiguous()
        y = x.new_empty(rows, self._rows)
        offset = None if bias is None else bias.float().contiguous()
        offset = F.pad(offset, (0, self._below)) if self._below and offset is not None else offset
        where = None if offset is None else offset.data_ptr()
        if self._kernel(self._address, x.data_ptr(), where, y.data_ptr(), rows, torch.get_num_threads()):
            msg = f"no memory for the codes of {tuple(x.shape)} activations"
            raise MemoryError(msg)
        return y[:, : self.outputs].contiguous() if self._below else y
