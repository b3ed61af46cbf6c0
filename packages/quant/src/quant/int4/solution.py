"""The production answer: the kernel that suits shape, rows and device, each with the weight laid out as it wants it.

On a CPU a native kernel where there is a compiler for it; else torch's for a few rows, which takes bfloat16
activations. Both read half a byte a weight. For many rows arithmetic counts and not bytes, and without the native
kernel the weight goes through those of int8, unless one scale for a row is too coarse for some of its groups. On a GPU
kernels in Triton read the buffers as they are.
"""

import importlib
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quant.affine import QParams
from quant.affine.solution import choose_qparams, dequantize, quantize
from quant.int4 import _native
from quant.int8 import _kernels as int8
from quant.int8.solution import float_weight, like, rows_of
from quant.layers import CodedLinear, is_plain
from quant.packing.solution import pack, unpack

FEW = 8  # rows up to which reading the weights is most of the work
TORCH_GROUPS = (32, 64, 128, 256)
OFF = 0.04  # of a group's weights may be lost by rounding once more: half of what four bits cost it
CODES = ("packed", "scale", "zero_point")  # the buffers that layouts are made of
GPU = "cuda"  # the kind of device that Triton serves


@cache
def _gpu_kernels() -> Any:  # noqa: ANN401 - a module
    """Return the kernels for GPUs, or None where Triton is not installed: what only a GPU needs is imported for it."""
    try:
        return importlib.import_module("quant.int4._triton")
    except ImportError:
        return None


class Int4Linear(CodedLinear):
    """A linear layer with 4-bit weights in groups of columns, which takes and returns floats (weight-only).

    Triton's kernels multiply floats (W4A16). Those of a CPU may round activations to 8 bits (W4A8), each row or 32
    inputs of it with a scale of its own, which costs some 1 % where inputs are of similar size.
    """

    packed: Tensor
    scale: Tensor
    zero_point: Tensor
    bias: Tensor | None

    def __init__(
        self, packed: Tensor, scale: Tensor, zero_point: Tensor, bias: Tensor | None, in_features: int, group: int
    ) -> None:
        """Keep ``packed``, ``scale``, ``zero_point`` and ``bias`` as buffers of those names.

        ``packed`` is (out, ceil(in_features / 2)) uint8 as ``quant.packing`` packs, ``scale`` (out, groups) bfloat16,
        ``zero_point`` (out, groups) int8, ``bias`` (out,). Raises ValueError where the shapes do not belong together.
        """
        super().__init__()
        rows = len(packed)
        wanted = (rows, -(-in_features // 2)), (rows, -(-in_features // max(group, 1)))
        if group < 1 or packed.shape != wanted[0] or not (scale.shape == zero_point.shape == wanted[1]):
            given = tuple(packed.shape), tuple(scale.shape), tuple(zero_point.shape)
            right = *wanted, wanted[1]
            msg = f"packed, scale and zero_point have shapes {given}, must be {right} for groups of {group}"
            raise ValueError(msg)
        if bias is not None and bias.shape != (rows,):
            msg = f"bias has shape {tuple(bias.shape)}, must be {(rows,)}"
            raise ValueError(msg)
        self.register_buffer("packed", packed)
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", zero_point)
        self.register_buffer("bias", None if bias is None else bias.detach())
        self.in_features, self.out_features, self.group = in_features, rows, group
        self._suits_native = _native.suits(in_features, group)
        self._suits_torch = in_features % group == rows % 16 == 0 and group in TORCH_GROUPS

    @classmethod
    def from_float(cls, linear: nn.Linear, group: int = 32) -> "Int4Linear":
        """Round a float layer's weight to 4-bit codes, asymmetrically, in groups of ``group`` columns.

        The last group of a row may be shorter. Raises TypeError unless ``linear`` is an ``nn.Linear``, ValueError for a
        group that is not positive, a weight without elements, or NaN and inf in it.
        """
        weight = float_weight(linear).float()
        chosen = choose_qparams(weight, 4, False, group)  # noqa: FBT003
        scale = chosen.scale.bfloat16()  # before the codes are chosen: they have to fit the scale that is kept
        codes = quantize(weight, QParams(scale.float(), chosen.zero_point, chosen.group, 4))
        return cls(pack(codes, 4), scale, chosen.zero_point.to(torch.int8), linear.bias, weight.shape[1], chosen.group)

    def dequantized(self) -> Tensor:
        """Return the weight that the layer stands for, (out, in_features) float32."""
        codes = unpack(self.packed, 4, self.in_features)
        return dequantize(codes, QParams(self.scale.float(), self.zero_point.int(), self.group, 4))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out), in the dtype of ``x``.

        Raises ValueError where the last dimension is not ``in_features``, TypeError for integers.
        """
        if torch.compiler.is_compiling():
            return self.in_graph(x)
        bias, packed = self._bias(), self._buffers["packed"]
        if x.device.type == GPU and x.shape[-1:] == (self.in_features,):
            kernels = _gpu_kernels()
            if kernels and kernels.suits(x.dtype, x.numel() // self.in_features, self.group):
                product: Tensor = kernels.product(x, packed, self.scale, self.zero_point, bias, self.group)
                return product
        inputs = rows_of(x, self.in_features)  # (rows, in)
        rows = inputs.shape[0]
        on_cpu = is_plain(inputs) and inputs.is_cpu and packed.is_cpu  # type: ignore[union-attr]
        if on_cpu and self._suits_native and (native := self.made("native", self._for_native, CODES)):
            y = native.product(inputs, bias)
        elif on_cpu and 0 < rows <= FEW and self._suits_torch:
            weight, scales = self.made("few", self._for_few_rows, CODES)
            y = torch._weight_int4pack_mm_for_cpu(inputs.bfloat16(), weight, self.group, scales).float()  # noqa: SLF001
            y = y if bias is None else y.add_(bias)
        elif on_cpu and rows > FEW and int8.has_integers() and (many := self.made("many", self._for_many_rows, CODES)):
            y = int8.dynamic(inputs, many, bias)
        else:
            y = self.in_floats(inputs)
        return like(x, y)

    def _for_native(self) -> _native.Weight | None:
        """Return the weight as the native kernel reads it; None without it, or with zero points that are no codes."""
        if not _native.kernel() or bool((self.zero_point.clamp(-8, 7) != self.zero_point).any()):
            return None
        codes, scale = unpack(self.packed, 4, self.in_features), self.scale.bfloat16()
        laid_out = _native.records(codes, scale, self.zero_point, self.group)
        return _native.Weight(laid_out, self.in_features, self.out_features)

    def _for_few_rows(self) -> tuple[Tensor, Tensor]:
        """Return codes and scales for torch's kernel, which computes ``(q - 8) * scale + zero`` with q from 0 to 15."""
        codes = unpack(self.packed, 4, self.in_features).int() + 8
        packed = torch._convert_weight_to_int4pack_for_cpu(codes, 1)  # noqa: SLF001
        scale = self.scale.bfloat16()  # as kept, unless somebody has put other scales in their place
        maps = torch.stack([scale, -self.zero_point * scale], dim=-1)
        return packed, maps.transpose(0, 1).contiguous()  # (groups, out, 2)

    def _for_many_rows(self) -> int8.Weight | None:
        """Return the weight rounded once more, to int8 with one scale for each row; None where that is too coarse.

        Groups of ordinary weights lose 1 %, those that are much smaller than the largest of their row a good part.
        """
        weight = self.dequantized()
        qparams = choose_qparams(weight, 8, True, "channel")  # noqa: FBT003
        codes = quantize(weight, qparams)
        grouped = [F.pad(t, (0, -self.in_features % self.group)) for t in (weight, dequantize(codes, qparams) - weight)]
        size, off = (t.unflatten(1, (-1, self.group)).norm(dim=2) for t in grouped)  # (rows, groups)
        return int8.Weight(codes, qparams.scale[:, 0].contiguous()) if bool((off <= OFF * size).all()) else None

    def extra_repr(self) -> str:
        """Show the shape, as ``nn.Linear`` does."""
        return f"in_features={self.in_features}, out_features={self.out_features}, group={self.group}"
