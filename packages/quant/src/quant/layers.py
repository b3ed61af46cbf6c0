"""What layers with codes for a weight have in common, putting them where float layers were, and watching those."""

import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

EXACT = ("scale", "input_range")  # buffers that maps are made of


class CodedLinear(nn.Module):
    """A linear layer that keeps codes as buffers, and what its kernels made of them until the buffers change."""

    in_features: int
    out_features: int

    def __init__(self) -> None:
        """Have made nothing yet."""
        super().__init__()
        self._made: dict[str, tuple[MadeOf, Any]] = {}

    def dequantized(self) -> Tensor:
        """Return the weight that the layer stands for, (out, in) float32."""
        raise NotImplementedError

    @property
    def weight(self) -> Tensor:
        """The weight that the layer stands for, made anew at each look.

        For code that reads the weight of a linear layer it knows: T5 asks for its dtype, torch's encoder multiplies by
        it. Its dtype is the bias's, or float32.
        """
        bias = self._buffers["bias"]
        weight = self.dequantized()
        return weight if bias is None else weight.to(bias.dtype)

    def made(self, name: str, make: Callable[[], Any], buffers: tuple[str, ...]) -> Any:  # noqa: ANN401
        """Return what ``make`` makes of the buffers, made again after one of them was moved or written to."""
        held = self._made.get(name)
        of = [self._buffers[key] for key in buffers]  # a tenth of what getattr takes to find them
        if held is None or not held[0].still(of):
            held = self._made[name] = MadeOf(of), make()
        return held[1]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out of copies and pickles what can be made again."""
        return self.__dict__ | {"_made": {}}

    def _load_from_state_dict(self, *args: Any) -> None:  # noqa: ANN401
        """Forget what was made: a tensor of inference mode does not count who writes to it."""
        self._made.clear()
        super()._load_from_state_dict(*args)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "CodedLinear":  # noqa: FBT001, FBT002
        """Move everything, but cast no scale: float16 holds none below 6e-8, and few digits of those below 6e-5."""
        exact = {id(t) for name, t in self._buffers.items() if name in EXACT}

        def moved(tensor: Tensor) -> Tensor:
            found = fn(tensor)
            return tensor.to(found.device) if id(tensor) in exact and found.dtype != tensor.dtype else found

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self


class MadeOf:
    """The tensors that something was made of, held, so that no other can come to have their place in memory."""

    def __init__(self, tensors: list[Tensor | None]) -> None:
        """Remember how often they have been written to."""
        self.tensors, self.versions = tensors, _versions(tensors)

    def still(self, tensors: list[Tensor | None]) -> bool:
        """Tell whether these are the same tensors, and nobody has written to them since."""
        return all(map(operator.is_, tensors, self.tensors)) and _versions(tensors) == self.versions


def _versions(tensors: list[Tensor | None]) -> list[int]:
    """Return a number for each tensor that grows whenever somebody writes to it."""
    return [0 if t is None or t.is_inference() else t._version for t in tensors]  # noqa: SLF001


def swap(model: nn.Module, swapped: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Put modules in the place of others, in place and under all their names, and return the model.

    A model that is swapped itself cannot be changed in place: its successor is returned.
    """
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if name and module in swapped:
            model.set_submodule(name, swapped[module])
    return swapped.get(model, model)


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
