"""Products of int8 codes: which kernel serves how many rows on which device.

On a CPU the native kernel does everything in one call: torch's operations, each a walk over the activations and some
microseconds of its own, take 59 to 72 % of a layer's time at 256 rows (AMX, 2 cores). Without a compiler torch's
kernels serve: fbgemm's, which quantizes its input itself, is the quickest for a few rows; from some 16 rows on oneDNN's
is, though its input has to be quantized before it.
"""

import ctypes
import math
import platform
import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from harness import native

FEW = 16  # rows
TINY = torch.finfo(torch.float32).tiny


class _Layer(ctypes.Structure):
    """As in ``_w8a8.c``."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("codes", "sums", "scale")),
        *((name, ctypes.c_long) for name in ("inputs", "outputs")),
    )


class Native:
    """An int8 weight for the native kernel, which reads the codes where they lie."""

    def __init__(self, library: ctypes.CDLL, codes: Tensor, scale: Tensor) -> None:
        """Sum the weights of each output; ``most`` is up to how many rows the kernel serves."""
        self._kept = codes.contiguous(), codes.sum(1, dtype=torch.int32), scale.contiguous()
        self._layer = _Layer(*(t.data_ptr() for t in self._kept), codes.shape[1], codes.shape[0])
        self._address, self.outputs, self._kernel = ctypes.addressof(self._layer), len(codes), library.w8a8
        self._kernel.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_long, ctypes.c_float, ctypes.c_int, ctypes.c_int]
        library.most_rows.argtypes, library.most_rows.restype = [ctypes.c_void_p], ctypes.c_long
        self.most: int = library.most_rows(self._address)

    def __call__(self, x: Tensor, bias: Tensor | None, step: float = 0.0, zero_point: int = 0) -> Tensor:
        """Quantize (rows, in) float32, each row by its own affine map unless ``step`` gives one; (rows, out)."""
        rows, x = x.shape[0], x.contiguous()
        y = x.new_empty(rows, self.outputs)
        offset = None if bias is None else bias.float().contiguous()
        where, threads = None if offset is None else offset.data_ptr(), torch.get_num_threads()
        if self._kernel(self._address, x.data_ptr(), where, y.data_ptr(), rows, step, zero_point, threads):
            msg = f"no memory for the codes of {tuple(x.shape)} activations"
            raise MemoryError(msg)
        return y


class Weight:
    """An int8 weight packed for the kernels that have been asked for.

    ``codes`` is (out, in) int8, ``scale`` (out,) of any floating type. Each of torch's packings costs about as many
    bytes as the codes.
    """

    def __init__(self, codes: Tensor, scale: Tensor) -> None:
        """Pack nothing yet. Raises TypeError unless codes are int8: kernels read them as such."""
        if codes.dtype != torch.int8:
            msg = f"codes are {codes.dtype}, must be int8"
            raise TypeError(msg)
        self.codes, self.scale = codes, scale.float()
        self._fbgemm: Any = None
        self._onednn: Any = None
        self._row_sums: Tensor | None = None
        library = native.library("quant.int8", "_w8a8") if codes.device.type == "cpu" else None
        self.native = None if library is None else Native(library, codes, self.scale)

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


@cache
def sums_exactly() -> bool:
    """Tell whether 8-bit products are summed in 32 bits; without VNNI pairs of them are in 16, which saturate."""
    return bool(torch.cpu._is_vnni_supported())  # noqa: SLF001


@cache
def has_fbgemm() -> bool:
    """Tell whether this build has fbgemm's kernels, and the quantized tensors, deprecated by now, that they need."""
    return torch.backends.quantized.engine in ("x86", "fbgemm") and hasattr(torch, "_make_per_channel_quantized_tensor")


@cache
def has_onednn() -> bool:
    """Tell whether oneDNN multiplies 8-bit codes here, and sums them exactly."""
    on_x86 = platform.machine() in ("x86_64", "AMD64")
    return on_x86 and sums_exactly() and hasattr(torch.ops.onednn, "qlinear_pointwise")


def has_integers() -> bool:
    """Tell whether a CPU kernel multiplies 8-bit codes as whole numbers."""
    return has_onednn() or has_fbgemm() or native.library("quant.int8", "_w8a8") is not None


def native_for(weight: Weight, x: Tensor) -> Native | None:
    """Return the native kernel where it is there and the quickest.

    It gets addresses: what lies elsewhere, or nowhere (meta tensors), is torch's to compute or to refuse.
    """
    native = weight.native
    return native if native is not None and x.shape[0] <= native.most and x.is_cpu else None


def dynamic(x: Tensor, weight: Weight, bias: Tensor | None) -> Tensor:
    """Multiply (rows, in) float32 by an int8 weight, each row quantized with a scale of its own, and add the bias.

    Returns (rows, out) float32.
    """
    rows = x.shape[0]
    if native := native_for(weight, x):
        return native(x, bias)
    bias = None if bias is None else bias.float()
    if not rows:
        return x.new_empty(0, len(weight.codes))
    if x.device.type == "cpu" and has_fbgemm() and (rows < FEW or not sums_exactly()):
        # The kernel has one scale for all rows. Rows brought to the same range lose nothing by sharing it. It takes no
        # NaN: a row that has it, or inf, is 0 in there, and NaN when its factor comes back.
        factor = torch.linalg.vector_norm(x, math.inf, dim=1, keepdim=True).clamp_(min=TINY)  # (rows, 1)
        y = fbgemm_dynamic(torch.div(x, factor).nan_to_num_(), weight)
        factor = factor.where(factor.isfinite(), math.nan)
        return y.mul_(factor) if bias is None else torch.addcmul(bias, y, factor)
    # Affine, since what comes out of GELU or SiLU lies on one side: x = step * (code - zero), and the part of the sum
    # that belongs to the zeros depends on the weight's row sums only.
    low, high = x.amin(1, keepdim=True).clamp_(max=0), x.amax(1, keepdim=True).clamp_(min=0)  # (rows, 1)
    step = torch.sub(high / 255, low / 255).clamp_(min=TINY)  # their difference might not be finite
    step = step.where(step.isfinite(), math.nan)  # a row with inf is lost as one with NaN is
    zero = low.div_(step).round_().add_(128)  # minus the zero point: low becomes the code -128
    # Where both ends of a row lie half way between two codes, both round outwards: 256 steps for 255.
    codes = torch.div(x, step).round_().sub_(zero).clamp_(max=127).to(torch.int8)
    zero.mul_(step)
    shift = torch.mm(zero, weight.row_sums()) if bias is None else torch.addmm(bias, zero, weight.row_sums())
    return shift.addcmul_(product(codes, weight), step)  # (rows, out)


def static(x: Tensor, weight: Weight, bias: Tensor | None, step: float, zero_point: int) -> Tensor:
    """Multiply (rows, in) float32, quantized to 0 to 255 by one affine map, by an int8 weight, and add the bias.

    Returns (rows, out) float32.
    """
    if native := native_for(weight, x):
        return native(x, bias, step, zero_point)
    bias = None if bias is None else bias.float()
    if not len(x):
        return x.new_empty(0, len(weight.codes))
    if x.device.type == "cpu" and has_fbgemm() and (len(x) < FEW or not sums_exactly()):
        kernel = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
        y: Tensor = kernel(x.nan_to_num(posinf=math.inf, neginf=-math.inf), step, zero_point, weight.fbgemm())
        y = y if bias is None else y.add_(bias)
    else:
        shifted = torch.div(x, step).round_().add_(zero_point - 128).clamp_(-128, 127).to(torch.int8)
        y = product(shifted, weight, zero_point - 128)
        y = y.mul_(step) if bias is None else torch.add(bias, y, alpha=step)
    return y.masked_fill_(x.isnan().any(1, keepdim=True), math.nan)


def fbgemm_dynamic(x: Tensor, weight: Weight) -> Tensor:
    """Let fbgemm quantize its input with one scale for all rows."""
    found: Tensor = torch.ops.quantized.linear_dynamic(x, weight.fbgemm(), reduce_range=not sums_exactly())
    return found


def product(codes: Tensor, weight: Weight, zero_point: int = 0) -> Tensor:
    """Return ``(codes - zero_point) @ weight.codes.T * weight.scale``, (rows, out) float32.

    ``codes`` is (rows, in) int8; the quickest kernel of the device does it.
    """
    kind = codes.device.type
    if kind == "cpu" and has_onednn():
        packed, zeros = weight.onednn()
        # Nothing is fused behind: no bias, no output scale.
        output: tuple[Any, ...] = (None, 1.0, 0, torch.float32, "none", [], "")
        # From 0 to 255, as dot products of bytes take one side: for signed codes oneDNN has nothing but a reference
        # implementation on a processor with AVX-512 VNNI and no AMX, some thousand times slower.
        unsigned, zero_point = codes.view(torch.uint8) ^ 128, zero_point + 128
        kernel = torch.ops.onednn.qlinear_pointwise
        done: Tensor = kernel(unsigned, 1.0, zero_point, packed, weight.scale, zeros, *output)
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
