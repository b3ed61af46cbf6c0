"""The native step's door: a decoder's layers in one call over caches whose memory a kernel can read."""

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import native
from kvcache.caches import Pages

LANES, BAND = 16, 24  # at most so many numbers in a vector; queries that share a scratch


class _Linear(ctypes.Structure):
    """As in ``_step.c``, like those below."""

    _fields_ = (
        ("weights", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("biases", ctypes.c_void_p),
        ("inputs", ctypes.c_long),
        ("outputs", ctypes.c_long),
    )


class _Layer(ctypes.Structure):
    _fields_ = (
        ("attention_norm", ctypes.c_void_p),
        ("mlp_norm", ctypes.c_void_p),
        *((name, _Linear) for name in ("qkv", "out", "gate_up", "down")),
    )


class _Model(ctypes.Structure):
    _fields_ = (
        ("each", ctypes.POINTER(_Layer)),
        ("norm", ctypes.c_void_p),
        ("head", _Linear),
        *((name, ctypes.c_long) for name in ("layers", "hidden", "heads", "kv_heads", "dim", "inner")),
        ("eps", ctypes.c_float),
    )


class _Request(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("keys", "values", "table")),
        *((name, ctypes.c_long) for name in ("block", "block_stride", "head_stride", "layer_stride")),
        *((name, ctypes.c_long) for name in ("row", "start", "stop")),
    )


@cache
def _library() -> Any:  # noqa: ANN401 - ctypes' functions have no types
    """Return the compiled kernel, None where it cannot be built."""
    library = native.library("kvcache", "_step")
    if library is not None:
        pointer, number, threads = ctypes.c_void_p, ctypes.c_long, ctypes.c_int
        library.panel.restype = library.lanes.restype = ctypes.c_long
        library.map.argtypes = [pointer, pointer, pointer, number, threads, threads]
        library.step.argtypes = [pointer, pointer, number, *[pointer] * 3, number, pointer, number, *[pointer] * 2]
        library.step.argtypes += [number, threads]
        library.map.restype = library.step.restype = None
    return library


def available() -> bool:
    """Tell whether the kernel can be built here."""
    return _library() is not None


class PackedLinear:
    """A linear map whose rows' results do not depend on their company; fp32, or int8 with a scale a row.

    The weights are laid in panels of neighbouring outputs, which a product walks through once and in order.
    """

    def __init__(
        self, *weights: Tensor, biases: Sequence[Tensor] = (), int8: bool = False, gated: bool = False
    ) -> None:
        """Stack ``weights``, each (out, in), with a bias each, (out,), or none.

        With ``gated`` there are two, and the result is silu(first) * second.
        """
        library = _library()
        panel, lanes = library.panel(), library.lanes()
        self.gated, self.inputs = gated, weights[0].shape[1]
        self.outputs = len(weights[0]) if gated else sum(map(len, weights))

        def panels(parts: Sequence[Tensor]) -> Tensor:
            if gated:  # vectors of both take turns, so that they meet in registers
                both = (F.pad(w, (0, 0, 0, -len(w) % lanes)).unflatten(0, (-1, lanes)) for w in parts)
                rows = torch.stack(list(both), 1).flatten(0, 2)
            else:
                rows = torch.cat(list(parts))
            return F.pad(rows.float(), (0, 0, 0, -len(rows) % panel))

        weight = panels(weights)
        self.biases = panels([b[:, None] for b in biases or [w.new_zeros(len(w)) for w in weights]])
        self.scales: Tensor | None = None
        if int8:
            self.scales = (weight.abs().amax(1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
            weight = (weight / self.scales[:, None]).round().to(torch.int8)
        self.weight = weight.unflatten(0, (-1, panel)).transpose(1, 2).contiguous()  # (panels, in, panel)
        scales = None if self.scales is None else self.scales.data_ptr()
        pointers = self.weight.data_ptr(), scales, self.biases.data_ptr()
        self.struct = _Linear(*pointers, self.inputs, self.outputs)

    def __call__(self, x: Tensor) -> Tensor:
        """Map (rows, in) to (rows, out)."""
        x = x.contiguous()
        out = x.new_empty(len(x), self.outputs)
        threads = torch.get_num_threads()
        _library().map(ctypes.byref(self.struct), x.data_ptr(), out.data_ptr(), len(x), self.gated, threads)
        return out

    @property
    def nbytes(self) -> int:
        """Bytes that a step reads."""
        return sum(t.nbytes for t in (self.weight, self.scales, self.biases) if t is not None)


class Step:
    """The layers of a decoder, whose ``blocks`` are made of PackedLinear, as one call."""

    def __init__(
        self, blocks: Sequence[Any], norm: Tensor, head: PackedLinear, heads: int, kv_heads: int, dim: int, eps: float
    ) -> None:
        """Collect pointers; ``blocks`` are the decoder's."""
        norms = [t.float().contiguous() for b in blocks for t in (b.attention_norm, b.mlp_norm)]
        norm = norm.float().contiguous()
        maps = [[linear.struct for linear in (b.qkv, b.out, b.gate_up, b.down)] for b in blocks]
        pairs = zip(norms[::2], norms[1::2], maps, strict=True)
        each = [_Layer(first.data_ptr(), second.data_ptr(), *own) for first, second, own in pairs]
        layers = (_Layer * len(each))(*each)
        self._alive = blocks, norms, norm, head  # their memory is read at every call
        hidden, inner = head.inputs, blocks[0].gate_up.outputs
        sizes = len(blocks), hidden, heads, kv_heads, dim, inner
        self._model = _Model(layers, norm.data_ptr(), head.struct, *sizes, eps)
        self.vocabulary, self._dim = head.outputs, dim
        self._row, self._own = hidden + 2 * (heads + kv_heads) * dim + inner, BAND * 2 * dim + dim * LANES

    def __call__(self, x: Tensor, pages: Sequence[tuple[Pages, int, int]], turns: Tensor, last: Tensor) -> Tensor:
        """Return the logits of the rows ``last`` of ``x``, (rows, hidden) float32, which is overwritten.

        Each of ``pages`` comes with the positions from start to stop that are written and attended from, for all its
        rows; ``turns`` is (positions, dim), cosines and sines of every position.
        """
        requests: list[_Request] = []
        owners: list[int] = []
        row = longest = 0
        for found, start, stop in pages:
            keys, values, tables = found.keys, found.values, found.tables
            layer, head, block, _, _ = keys.stride()
            most = tables.shape[1] * 8
            for i in range(len(tables)):
                table = tables.data_ptr() + i * most
                lies = keys.data_ptr(), values.data_ptr(), table, keys.shape[3], block, head, layer
                requests.append(_Request(*lies, row, start, stop))
                owners += [len(requests) - 1] * (stop - start)
                row, longest = row + stop - start, max(longest, stop)
        threads, width = torch.get_num_threads(), longest + 2 * LANES
        scratch = torch.empty(row * self._row + threads * (BAND * width + self._own))
        logits, owner = torch.empty(len(last), self.vocabulary), torch.tensor(owners)
        _library().step(
            ctypes.byref(self._model),
            (_Request * len(requests))(*requests),
            len(requests),
            owner.data_ptr(),
            turns.data_ptr(),
            x.data_ptr(),
            row,
            last.data_ptr(),
            len(last),
            logits.data_ptr(),
            scratch.data_ptr(),
            width,
            threads,
        )
        return logits
