"""What all tests of the package share."""

# ruff: noqa: INP001 - no module of the package

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """Spare small tensors a pool of threads, which wait for each other where the machine has other work as well.

    The kernels' own tests keep it, for each thread has a scratch of its own, and so do races.
    """
    before, name = torch.get_num_threads(), request.path.name
    alone = name.startswith("test_") and name not in ("test_native.py", "test_step.py")
    torch.set_num_threads(1 if alone else before)
    yield
    torch.set_num_threads(before)
