"""Attention of a decode step and of a prompt, beside torch's own grouping and transformers' repeated keys."""

from types import ModuleType

import pytest
import torch
from torch import Tensor

from harness.race import Race
from kvcache.attention.solution import attend

HEADS, KV_HEADS, HEAD_DIM = 32, 8, 64  # Llama 3.2 1B
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


def qkv(q_len: int, kv_len: int, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, Tensor]:
    q = torch.randn(1, HEADS, q_len, HEAD_DIM, dtype=dtype, device=device)
    k = torch.randn(1, KV_HEADS, kv_len, HEAD_DIM, dtype=dtype, device=device)
    return q, k, torch.randn_like(k)


def close(out: Tensor, q: Tensor, k: Tensor, v: Tensor) -> None:
    wanted = attend(q.float(), k.float(), v.float())
    assert (out.float() - wanted).abs().max() <= 0.02


@DTYPES
@pytest.mark.parametrize("kv_len", [512, 2048, 8192])
def bench_decode(race: Race, device: str, kv_len: int, dtype: torch.dtype) -> None:
    def run(impl: ModuleType, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out: Tensor = impl.attend_grouped(q, k, v)
        return out

    race(
        run,
        inputs=lambda: qkv(1, kv_len, dtype, device),
        check=close,
        bytes=2 * KV_HEADS * kv_len * HEAD_DIM * dtype.itemsize,
        unit="32 query heads on 8",
    )


@pytest.mark.parametrize("length", [256, 1024, 2048])
@pytest.mark.parametrize("way", ["attend", "attend_grouped", "attend_tiled"])
def bench_prefill(race: Race, device: str, way: str, length: int) -> None:
    race(
        lambda impl, q, k, v: getattr(impl, way)(q, k, v),
        inputs=lambda: qkv(length, length, torch.float32, device),
        check=close,
        flops=2 * HEADS * length * length * HEAD_DIM,  # two products over the visible half
        unit="fp32",
        budget=1.0,
    )
