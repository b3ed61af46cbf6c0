"""Products of int8 codes: which kernel serves how many rows on which device.

Measured on a processor with VNNI, weights out of the cache: fbgemm's kernel, which quantizes its input itself, is the
quickest for a few rows; from some 16 rows on oneDNN's is, though its input has to be quantized before it.
"""

import math
import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

FEW = 16  # rows
TINY = torch.finfo(torch.float32).tiny


class Weight:
    """An int8 weight packed for the kernels that have been asked for.

    ``codes`` is (out, in) int8, ``scale`` (out,) float32. Each packing costs about as many bytes as the codes.
    """

    def __init__(self, codes: Tensor, scale: Tensor) -> None:
        """Pack nothing yet."""
        self.codes, self.scale = codes, scale
        self.versions = versions(codes, scale)
        self._fbgemm: Any = None
        self._onednn: Any = None
        self._row_sums: Tensor | None = None

    def is_of(self, codes: Tensor, scale: Tensor) -> bool:
        """Tell whether these are the tensors that were packed, and nobody has written to them since."""
        return codes is self.codes and scale is self.scale and versions(codes, scale) == self.versions

    def row_sums(self) -> Tensor:
        """Return the sum of each output's weights, (1, out) float32."""
        if self._row_sums is None:
            self._row_sums = (self.codes.sum(1, dtype=torch.int32) * self.scale)[None]
        return self._row_sums

    def fbgemm(self) -> Any:  # noqa: ANN401 - an opaque handle
        """Return the weight as fbgemm wants it."""
        if self._fbgemm is None:
            zeros = torch.zeros(len(self.scale), dtype=torch.int64)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # quantized tensors are deprecated, the kernel that needs one is not
                tensor = torch._make_per_channel_quantized_tensor(self.codes, self.scale.double(), zeros, 0)  # noqa: SLF001
            self._fbgemm = torch.ops.quantized.linear_prepack(tensor, None)
        return self._fbgemm

    def onednn(self) -> Any:  # noqa: ANN401
        """Return the weight as oneDNN wants it, and its zero points."""
        if self._onednn is None:
            packed = torch.ops.onednn.qlinear_prepack(self.codes, None)
            self._onednn = packed, torch.zeros(len(self.scale), dtype=torch.int32)
        return self._onednn


def versions(*tensors: Tensor) -> tuple[int, ...]:
    """Return a number for each tensor that grows whenever somebody writes to it."""
    return tuple([0 if t.is_inference() else t._version for t in tensors])  # noqa: SLF001


@cache
def sums_exactly() -> bool:
    """Tell whether 8-bit products are summed in 32 bits; without VNNI pairs of them are in 16, which saturate."""
    return bool(torch.cpu._is_vnni_supported())  # noqa: SLF001


@cache
def has_fbgemm() -> bool:
    """Tell whether this build has fbgemm's kernels: those for x86 do."""
    return torch.backends.quantized.engine in ("x86", "fbgemm")


def dynamic(x: Tensor, weight: Weight, bias: Tensor | None) -> Tensor:
    """Multiply (rows, in) float32 by an int8 weight, each row quantized with a scale of its own, and add the bias.

    Returns (rows, out) float32.
    """
    rows = len(x)
    if x.device.type == "cpu" and has_fbgemm() and (rows < FEW or not sums_exactly()):
        if rows == 1:
            return fbgemm_dynamic(x, weight) if bias is None else fbgemm_dynamic(x, weight).add_(bias)
        # The kernel has one scale for all rows. Rows brought to the same range lose nothing by sharing it.
        factor = torch.linalg.vector_norm(x, math.inf, dim=1, keepdim=True).clamp_(min=TINY)  # (rows, 1)
        y = fbgemm_dynamic(x / factor, weight)
        return y.mul_(factor) if bias is None else torch.addcmul(bias, y, factor)
    # Affine, since what comes out of GELU or SiLU lies on one side: x = step * (code - zero), and the part of the sum
    # that belongs to the zeros depends on the weight's row sums only.
    low, high = x.amin(1, keepdim=True).clamp_(max=0), x.amax(1, keepdim=True).clamp_(min=0)  # (rows, 1)
    step = high.sub_(low).div_(255).clamp_(min=TINY)
    zero = low.div_(step).round_().add_(128)  # minus the zero point: low becomes the code -128
    codes = torch.div(x, step).round_().sub_(zero).to(torch.int8)
    zero.mul_(step)
    shift = torch.mm(zero, weight.row_sums()) if bias is None else torch.addmm(bias, zero, weight.row_sums())
    return shift.addcmul_(product(codes, weight), step)  # (rows, out)


def static(x: Tensor, weight: Weight, bias: Tensor | None, step: float, zero_point: int) -> Tensor:
    """Multiply (rows, in) float32, quantized to 0 to 255 by one affine map, by an int8 weight, and add the bias.

    Returns (rows, out) float32.
    """
    if x.device.type == "cpu" and has_fbgemm() and (len(x) < FEW or not sums_exactly()):
        kernel = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
        y: Tensor = kernel(x, step, zero_point, weight.fbgemm())
        return y if bias is None else y.add_(bias)
    shifted = torch.div(x, step).round_().add_(zero_point - 128).clamp_(-128, 127).to(torch.int8)
    y = product(shifted, weight, zero_point - 128)
    return y.mul_(step) if bias is None else torch.add(bias, y, alpha=step)


def fbgemm_dynamic(x: Tensor, weight: Weight) -> Tensor:
    """Let fbgemm quantize its input with one scale for all rows."""
    found: Tensor = torch.ops.quantized.linear_dynamic(x, weight.fbgemm(), reduce_range=not sums_exactly())
    return found


def product(codes: Tensor, weight: Weight, zero_point: int = 0) -> Tensor:
    """Return ``(codes - zero_point) @ weight.codes.T * weight.scale``, (rows, out) float32.

    ``codes`` is (rows, in) int8; the quickest kernel of the device does it.
    """
    kind = codes.device.type
    if kind == "cpu" and has_fbgemm() and sums_exactly():
        packed, zeros = weight.onednn()
        output: tuple[Any, ...] = (
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )  # no bias, no output scale, nothing fused behind
        done: Tensor = torch.ops.onednn.qlinear_pointwise(codes, 1.0, zero_point, packed, weight.scale, zeros, *output)
        return done
    if kind == "cuda" and all(size % 8 == 0 for size in weight.codes.shape):
        found = int_mm(codes, weight.codes).float()
    else:  # every product of codes is exact in float32, and so is their sum up to 2**24
        found = F.linear(codes.float(), weight.codes.float())
    if zero_point:
        return found.mul_(weight.scale).sub_(weight.row_sums(), alpha=zero_point)
    return found.mul_(weight.scale)


def int_mm(codes: Tensor, weight: Tensor) -> Tensor:
    """Multiply (rows, in) by (out, in) int8 with the tensor cores; (rows, out) int32.

    The kernel wants more than 16 rows and multiples of 8, so rows are added and taken off again.
    """
    rows = len(codes)
    padded = F.pad(codes, (0, 0, 0, max(24, -(-rows // 8) * 8) - rows))
    return torch._int_mm(padded, weight.t())[:rows]  # noqa: SLF001
