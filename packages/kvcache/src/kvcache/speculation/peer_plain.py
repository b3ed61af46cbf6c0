"""What speculation is measured against: the same decoder, one token at a time.

It drafts nothing, so the tests pass it by.
"""

from collections.abc import Sequence

import torch

from kvcache.decoder import Decoder


def assisted(decoder: Decoder, prompt: Sequence[int], count: int, ahead: int) -> list[int]:
    """Generate ``count`` tokens greedily, whatever might be known ``ahead``."""
    cache = decoder.contiguous(len(prompt) + count)
    return [int(token) for token in decoder.generate(torch.tensor([list(prompt)]), cache, count)]
