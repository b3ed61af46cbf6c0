"""How fast codes are packed and unpacked, beside numpy."""

from types import ModuleType

import pytest
import torch
from torch import Tensor

from harness.race import Race

SIZES = {"768x768": (768, 768), "3072x768": (3072, 768), "4096x4096": (4096, 4096)}


def codes_of(size: str, bits: int, device: str) -> Tensor:
    return torch.randint(-(1 << (bits - 1)), 1 << (bits - 1), SIZES[size], device=device).to(torch.int8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bits", [4, 2], ids=["4 bits", "2 bits"])
def bench_pack(race: Race, device: str, bits: int, size: str) -> None:
    def check(packed: Tensor, codes: Tensor) -> None:
        assert packed.numel() == codes.numel() * bits // 8

    rows, cols = SIZES[size]
    race(
        lambda impl, codes: impl.pack(codes, bits),
        inputs=lambda: (codes_of(size, bits, device),),
        check=check,
        bytes=rows * cols * (8 + bits) // 8,
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bits", [4, 2], ids=["4 bits", "2 bits"])
def bench_unpack(race: Race, device: str, bits: int, size: str) -> None:
    rows, cols = SIZES[size]

    codes = codes_of(size, bits, device)

    def prepare(impl: ModuleType) -> tuple[ModuleType, Tensor]:
        return impl, impl.pack(codes, bits)  # each reads its own layout

    def check(found: Tensor) -> None:
        assert torch.equal(found, codes)

    race(
        lambda state: state[0].unpack(state[1], bits, cols),
        prepare=prepare,
        check=check,
        bytes=rows * cols * (8 + bits) // 8,
    )


@pytest.mark.parametrize("size", SIZES)
def bench_pack_dense(race: Race, device: str, size: str) -> None:
    rows, cols = SIZES[size]

    def check(packed: Tensor, codes: Tensor) -> None:
        assert packed.numel() == codes.numel() * 3 // 8

    race(
        lambda impl, codes: impl.pack_dense(codes, 3),
        inputs=lambda: (codes_of(size, 3, device),),
        check=check,
        bytes=rows * cols * 11 // 8,
        unit="3 bits",
    )
