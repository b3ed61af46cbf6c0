"""Peer: the Hessian that torchao's prototype of GPTQ gathers.

Its rounding refuses every device but CUDA, and int4 needs a package with CUDA kernels besides, so only ``accumulate``
can be compared. It counts a batch of a matrix as one sample and one of three dimensions by its first; given as (tokens,
1, cols) it counts tokens, as the paper does.
"""

import torch
from torch import Tensor
from torchao.prototype.gptq.observer import GPTQObserverTensor

from quant.hessian import Hessian


def accumulate(hessian: Hessian | None, x: Tensor) -> Hessian:
    """Return the Hessian of the inputs so far and of a batch ``x`` (..., cols)."""
    rows = x.reshape(-1, 1, x.shape[-1])
    seen = torch.tensor([0 if hessian is None else hessian.count])
    matrix = None if hessian is None else hessian.matrix.clone()  # it is added to in place
    observer = GPTQObserverTensor(torch.empty(1, x.shape[-1], device=x.device), seen, matrix)
    observer.update_2d(rows)
    assert isinstance(observer.hessian, Tensor)
    return Hessian(observer.hessian, int(observer.total_batches))
