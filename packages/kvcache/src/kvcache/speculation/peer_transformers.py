"""Peer: transformers' prompt lookup and its rejection sampling, which takes one row at a time.

Its loop belongs to ``GenerationMixin.generate`` and takes no other model; ``assisted`` runs in the race.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator
from transformers.generation.utils import _speculative_sampling

from kvcache.speculation import REJECTED, Draft


class NgramDrafter:
    """Its generator of candidates; it knows no smallest n-gram."""

    def __init__(self, longest: int = 3, shortest: int = 1) -> None:
        """Remember the size."""
        self.longest = longest

    def propose(self, tokens: Sequence[int], count: int) -> Draft:
        """Ask it for candidates."""
        if not count:
            return Draft(())
        finder = PromptLookupCandidateGenerator(
            num_output_tokens=count, max_matching_ngram_size=self.longest, max_length=len(tokens) + count + 1
        )
        found, _ = finder.get_candidates(torch.tensor([list(tokens)]))  # type: ignore[arg-type]
        return Draft(tuple(found[0, len(tokens) :].tolist()))


def accept(drafted: Tensor, draft: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
    """Call it for each row; it draws from the global generator."""
    count = drafted.shape[1]
    out = drafted.new_full((len(drafted), count + 1), REJECTED)
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        for row, (tokens, q, p) in enumerate(zip(drafted, draft.log(), target.log(), strict=True)):
            found, _ = _speculative_sampling(tokens[None], q[None], count, p[None])
            out[row, : found.shape[1]] = found[0]
    return out


def assisted(model: Any, prompt: Sequence[int], count: int, ahead: int) -> list[int]:  # noqa: ANN401 - untyped
    """Generate with prompt lookup; nobody stops early."""
    ids = torch.tensor([list(prompt)])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        prompt_lookup_num_tokens=ahead,
        max_matching_ngram_size=3,
    )
    found: list[int] = out[0, len(prompt) :].tolist()
    return found
