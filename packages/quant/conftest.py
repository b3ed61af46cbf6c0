"""What all tests of the package share."""

# ruff: noqa: INP001 - no module of the package

import os

import pytest
import torch


@pytest.fixture(autouse=True)
def _threads(request: pytest.FixtureRequest) -> None:
    """Give a test one thread: for so small tensors a second one, where the processors are busy, costs more time."""
    slow = request.node.get_closest_marker("slow")
    torch.set_num_threads((os.cpu_count() or 1) if slow else 1)
