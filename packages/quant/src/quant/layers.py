"""What layers with codes for a weight have in common, putting them where float layers were, and watching those."""

import itertools
import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EXACT = ("scale", "input_range")  # buffers that maps are made of
_PLAIN = (Tensor, nn.Parameter)
_numbers = itertools.count()
_alive: WeakValueDictionary[int, "CodedLinear"] = WeakValueDictionary()


class CodedLinear(nn.Module):
    """A linear layer that keeps codes as buffers, and what its kernels made of them until the buffers change."""

    in_features: int
    out_features: int
    bias: Any

    def __init__(self) -> None:
        """Have made nothing yet."""
        super().__init__()
        self._begin()

    def _begin(self) -> None:
        """Have made nothing, and a number of one's own.

        Kept as a tensor, it is data for a graph: as a number it would be a condition, and each layer need a graph.
        """
        self._made: dict[str, tuple[MadeOf, Any]] = {}
        number = next(_numbers)
        self._number = torch.tensor(number, device="cpu")
        _alive[number] = self

    def _bias(self) -> Tensor | None:
        """Return the bias, a buffer, or the parameter that somebody put in its place."""
        buffers = self._buffers  # a tenth of what getattr takes to find it
        return buffers["bias"] if "bias" in buffers else self.bias.detach()

    def dequantized(self) -> Tensor:
        """Return the weight that the layer stands for, (out, in) float32."""
        raise NotImplementedError

    def in_floats(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out), float32, in operations that any device and graph has."""
        bias = self._bias()
        return F.linear(x.float(), self.dequantized(), None if bias is None else bias.float())

    def in_graph(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out) while a graph is made of it.

        That of ``torch.compile`` gets one operation, which calls the layer with all its kernels when the graph runs;
        one that is exported has to do without this process.
        """
        if torch.compiler.is_exporting():
            return self.in_floats(x.detach()).to(x.dtype)
        y: Tensor = _called(x.detach(), self._number, self.out_features)
        return y

    @property
    def weight(self) -> Tensor:
        """The weight that the layer stands for, made anew at each look.

        For code that reads the weight of a linear layer it knows: T5 asks for its dtype, torch's encoder multiplies by
        it. Its dtype is the bias's, or float32.
        """
        bias = self._bias()
        weight = self.dequantized()
        return weight if bias is None else weight.to(bias.dtype)

    def made(self, name: str, make: Callable[[], Any], buffers: tuple[str, ...]) -> Any:  # noqa: ANN401
        """Return what ``make`` makes of the buffers, made again after one of them was moved or written to.

        Who writes into a tensor that was made in inference mode is not noticed: torch does not count it.
        """
        held = self._made.get(name)
        of = [self._buffers[key] for key in buffers]  # a tenth of what getattr takes to find them
        if held is None or not held[0].still(of):
            held = self._made[name] = MadeOf(of), make()
        return held[1]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out of copies and pickles what can be made again."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_made", "_number")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Be a layer of one's own."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._begin()

    def _replicate_for_data_parallel(self) -> "CodedLinear":
        replica: CodedLinear = super()._replicate_for_data_parallel()  # type: ignore[no-untyped-call]
        replica._begin()
        return replica

    def _load_from_state_dict(self, *args: Any) -> None:  # noqa: ANN401
        """Forget what was made, since it may go unnoticed that buffers change."""
        self._made.clear()
        super()._load_from_state_dict(*args)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "CodedLinear":  # noqa: FBT001, FBT002
        """Move everything, but cast no codes and no scale: float16 has few digits below 6e-5, and none below 6e-8."""
        self._made.clear()
        exact = {id(t) for n, t in self._buffers.items() if t is not None and (n in EXACT or not t.is_floating_point())}

        def moved(tensor: Tensor) -> Tensor:
            found = fn(tensor)
            return tensor.to(found.device) if id(tensor) in exact and found.dtype != tensor.dtype else found

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self


@torch.library.custom_op("quant::linear", mutates_args=())
def _called(x: Tensor, number: Tensor, outputs: int) -> Tensor:  # noqa: ARG001 - what a graph has to know beforehand
    """Call the layer of that number, which has so many outputs."""
    y: Tensor = _alive[int(number)](x)
    return y


@_called.register_fake
def _(x: Tensor, _number: Tensor, outputs: int) -> Tensor:
    return x.new_empty(*x.shape[:-1], outputs)


def is_plain(x: Tensor) -> bool:
    """Tell whether there are numbers where a tensor says: it is not fake, wrapped, lazy, or watched for a trace."""
    return (
        type(x) in _PLAIN
        and torch._C._get_tracing_state() is None  # noqa: SLF001
        and not torch._C._len_torch_dispatch_stack()  # noqa: SLF001
        and torch._C._functorch.peek_interpreter_stack() is None  # noqa: SLF001
        and not x.is_neg()
        and not x._is_zerotensor()  # noqa: SLF001
    )


class MadeOf:
    """The tensors that something was made of, held, so that no other can come to have their place in memory."""

    def __init__(self, tensors: list[Tensor | None]) -> None:
        """Remember where they lie and how often they have been written to."""
        self.tensors, self.versions = tensors, _versions(tensors)

    def still(self, tensors: list[Tensor | None]) -> bool:
        """Tell whether these are the same tensors, and nobody has written to them since."""
        return all(map(operator.is_, tensors, self.tensors)) and _versions(tensors) == self.versions


def _versions(tensors: list[Tensor | None]) -> list[tuple[int, int]]:
    """Return for each tensor where it lies and a number that grows whenever somebody writes to it."""
    return [(0, 0) if t is None else (t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors]  # noqa: SLF001


def swap(model: nn.Module, swapped: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Put modules in the place of others, in place, in their mode and under all their names, and return the model.

    A model that is swapped itself cannot be changed in place: its successor is returned. Hooks are not carried over.
    """
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if name and module in swapped:
            model.set_submodule(name, swapped[module].train(module.training))
    return swapped[model].train(model.training) if model in swapped else model


@contextmanager
def in_use(model: nn.Module) -> Iterator[None]:
    """Switch dropout and the like off for a while."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
