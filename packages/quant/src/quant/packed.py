"""Layers that keep their weight in few bits where no exercise has one: any width, and embeddings."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quant.affine import QParams
from quant.affine.solution import choose_qparams, dequantize, quantize
from quant.int8.solution import Int8Linear, like, rows_of
from quant.layers import CodedLinear, is_plain, swap
from quant.packing.solution import pack_dense, unpack_dense


class PackedLinear(CodedLinear):
    """A linear layer whose weight is kept in codes of 2 to 8 bits without gaps, and which computes in floating point.

    It shows what a weight in so few bits takes and loses; no kernel here reads such codes, so it gains no time.
    """

    packed: Tensor
    scale: Tensor
    zero_point: Tensor
    bias: Tensor | None

    def __init__(
        self,
        packed: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        bias: Tensor | None,
        in_features: int,
        group: int,
        bits: int,
    ) -> None:
        """Keep ``packed``, ``scale``, ``zero_point`` and ``bias`` as buffers of those names.

        ``packed`` is (out, bytes of in_features codes) uint8 and ``zero_point`` (out, bytes of groups codes) uint8, as
        ``quant.packing.pack_dense`` packs; ``scale`` is (out, groups) bfloat16. Raises ValueError where the shapes do
        not belong together.
        """
        super().__init__()
        groups = -(-in_features // group) if group > 0 else -1
        codes = unpack_dense(zero_point, bits, groups)
        unpack_dense(packed[:1], bits, in_features)
        if not len(packed) == len(codes) == len(scale) or scale.shape[1:] != (groups,):
            given = tuple(packed.shape), tuple(scale.shape), tuple(zero_point.shape)
            msg = f"packed, scale and zero_point have shapes {given}: the rows must be as many, the groups {groups}"
            raise ValueError(msg)
        self.register_buffer("packed", packed)
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", zero_point)
        self.register_buffer("bias", None if bias is None else bias.detach())
        self.in_features, self.out_features, self.group, self.bits = in_features, len(packed), group, bits

    @classmethod
    def from_codes(cls, codes: Tensor, qparams: QParams, bias: Tensor | None) -> "PackedLinear":
        """Keep codes, (out, in) int8, and their maps; the scales have to be numbers that bfloat16 holds."""
        scale = qparams.scale.bfloat16()
        if not torch.equal(scale.float(), qparams.scale):
            msg = "a scale is no bfloat16: codes are to be chosen for the scale that is kept"
            raise ValueError(msg)
        bits, zero_point = qparams.bits, qparams.zero_point.to(torch.int8)
        packed = pack_dense(codes, bits), scale, pack_dense(zero_point, bits)
        return cls(*packed, bias, codes.shape[1], qparams.group, bits)

    def dequantized(self) -> Tensor:
        """Return the weight that the layer stands for, (out, in) float32."""
        bits, groups = self.bits, self.scale.shape[1]
        zero_point = unpack_dense(self.zero_point, bits, groups).int()
        codes = unpack_dense(self.packed, bits, self.in_features)
        return dequantize(codes, QParams(self.scale.float(), zero_point, self.group, bits))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out), in the dtype of ``x``; the result has no gradient.

        Raises ValueError where the last dimension is not ``in``, TypeError for integers.
        """
        if torch.compiler.is_compiling():
            return self.in_graph(x)
        rows, bias = rows_of(x, self.in_features), self._bias()
        if not is_plain(rows):
            return like(x, self.in_floats(rows))
        weight: Tensor = self.made("weight", self.dequantized, ("packed", "scale", "zero_point"))
        return like(x, F.linear(rows, weight, None if bias is None else bias.float()))

    def extra_repr(self) -> str:
        """Show the shape and the width."""
        return f"in_features={self.in_features}, out_features={len(self.packed)}, bits={self.bits}, group={self.group}"


class Int8Embedding(nn.Module):
    """A table of int8 rows, each with a scale of its own; what is looked up has the dtype of the scales."""

    codes: Tensor
    scale: Tensor

    def __init__(self, codes: Tensor, scale: Tensor) -> None:
        """Keep ``codes`` (rows, dim) int8 and ``scale`` (rows,) float as buffers of those names.

        Raises ValueError where the shapes do not belong together, TypeError unless codes are int8.
        """
        super().__init__()
        if codes.dtype != torch.int8:
            msg = f"codes are {codes.dtype}, must be int8"
            raise TypeError(msg)
        if codes.ndim != 2 or scale.shape != codes.shape[:1]:  # noqa: PLR2004
            msg = (
                f"codes and scale have shapes {tuple(codes.shape)}, {tuple(scale.shape)}, must be (rows, dim), (rows,)"
            )
            raise ValueError(msg)
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)

    @classmethod
    def from_float(cls, embedding: nn.Embedding) -> "Int8Embedding":
        """Round each row of a table, symmetrically, with a scale of its own.

        The scales have the dtype of the table, so that the layers behind it get what they got. Raises ValueError for an
        empty table, NaN or inf.
        """
        weight = embedding.weight.detach()
        chosen = choose_qparams(weight, 8, True, "channel")  # noqa: FBT003
        scale = chosen.scale.to(weight.dtype)  # before the codes are chosen: they have to fit the scale that is kept
        codes = quantize(weight, QParams(scale.float(), chosen.zero_point, chosen.group, 8))
        return cls(codes, scale[:, 0].contiguous())

    def forward(self, ids: Tensor) -> Tensor:
        """Look up rows: (...) int to (..., dim) in the dtype of the scales."""
        found = F.embedding(ids, self.codes).float().mul_(self.scale[ids][..., None])
        return found.to(self.scale.dtype)

    def extra_repr(self) -> str:
        """Show the shape, as ``nn.Embedding`` does."""
        return f"{len(self.codes)}, {self.codes.shape[1]}"


def quantize_embeddings(model: nn.Module) -> nn.Module:
    """Swap the embeddings for int8 ones, in place, and return the model.

    A linear layer that shares an embedding's weight (a tied head) becomes an ``Int8Linear`` on the very same codes and
    scales. A table that anything else shares, or that writes to itself (``max_norm``), stays. Raises ValueError where
    no embedding is left to swap.
    """
    users: dict[int, list[tuple[str, nn.Module]]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        for parameter in module.parameters(recurse=False):
            users.setdefault(id(parameter), []).append((name, module))
    swapped = 0
    for shared in users.values():
        tables = [m for _, m in shared if type(m) is nn.Embedding and m.max_norm is None]
        heads = {m for _, m in shared if type(m) is nn.Linear}
        if not tables or len(tables) + sum(m in heads for _, m in shared) < len(shared):
            continue
        table = Int8Embedding.from_float(tables[0])
        now: dict[nn.Module, nn.Module] = {m: Int8Linear(table.codes, table.scale, m.bias) for m in heads}
        swap(model, dict.fromkeys(tables, table) | now)
        swapped += 1
    if not swapped:
        msg = "the model has no embedding to quantize"
        raise ValueError(msg)
    return model
