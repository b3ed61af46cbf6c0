"""Peer: transformers' logits processors and torch.multinomial, which has one generator for the whole batch."""

import torch
from torch import Tensor
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

NONE = torch.empty(0, dtype=torch.int64)


def top_k(logits: Tensor, k: int) -> Tensor:
    """Call its warper."""
    found: Tensor = TopKLogitsWarper(k)(NONE, logits)
    return found


def top_p(logits: Tensor, p: float) -> Tensor:
    """Call its warper."""
    found: Tensor = TopPLogitsWarper(p)(NONE, logits)
    return found


def min_p(logits: Tensor, p: float) -> Tensor:
    """Call its warper."""
    found: Tensor = MinPLogitsWarper(p)(NONE, logits)  # type: ignore[arg-type]
    return found


def repetition_penalty(logits: Tensor, tokens: Tensor, penalty: float) -> Tensor:
    """Call its processor, which works in place."""
    found: Tensor = RepetitionPenaltyLogitsProcessor(penalty)(tokens, logits.clone())
    return found


def sample(logits: Tensor, seeds: Tensor, step: int, temperature: float = 1.0) -> Tensor:
    """Draw as ``generate`` does: seed the global generator once for the batch."""
    torch.manual_seed(int(seeds[0]) + step)
    if temperature == 0:
        return logits.argmax(-1)
    return torch.multinomial((logits / temperature).softmax(-1), 1)[:, 0]
