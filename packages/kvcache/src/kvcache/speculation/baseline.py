"""The simple answer: scan for n-grams, and one row, one token at a time."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from kvcache.caches import KVCache
from kvcache.speculation import REJECTED, Draft, Drafter, Model, Round, Warp


class NgramDrafter:
    """Looks backwards for the last few tokens."""

    def __init__(self, longest: int = 3, shortest: int = 1) -> None:
        """Remember the sizes."""
        self.sizes = range(longest, shortest - 1, -1)

    def propose(self, tokens: Sequence[int], count: int) -> Draft:
        """Compare at every position."""
        text = list(tokens)
        for size in self.sizes:
            for end in range(len(text) - 1, size - 1, -1):
                if text[end - size : end] == text[-size:]:
                    for at in range(end, end + count):
                        text.append(text[at])
                    return Draft(tuple(text[len(tokens) :]))
        return Draft(())


def accept_greedy(drafted: Sequence[int], logits: Tensor) -> list[int]:
    """Compare one after the other."""
    found = []
    for token, row in zip(drafted, logits, strict=False):
        found.append(int(row.argmax()))
        if found[-1] != token:
            return found
    return [*found, int(logits[-1].argmax())]


def accept(drafted: Tensor, draft: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
    """Go through rows and tokens."""
    rows, count = drafted.shape
    uniform = torch.rand(rows, count, generator=generator, dtype=torch.float64).tolist()
    index = drafted[..., None]
    ratios = (target[:, :count].gather(2, index) / draft.gather(2, index))[..., 0].tolist()
    at = [
        next((i for i, (u, ratio) in enumerate(zip(numbers, chances, strict=True)) if u >= ratio), count)
        for numbers, chances in zip(uniform, ratios, strict=True)
    ]
    rest = [target[row, i] if i == count else (target[row, i] - draft[row, i]).clamp(min=0) for row, i in enumerate(at)]
    own = torch.multinomial(torch.stack(rest).cpu().double(), 1, generator=generator)[:, 0].tolist()
    out = [
        [*tokens[:i], token, *[REJECTED] * (count - i)]
        for tokens, i, token in zip(drafted.tolist(), at, own, strict=True)
    ]
    return torch.tensor(out, device=drafted.device)


def generate(
    model: Model,
    cache: KVCache,
    tokens: Sequence[int],
    count: int,
    drafter: Drafter,
    ahead: int = 4,
    warp: Warp | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Round]:
    """Draft, check, crop."""
    said, end = list(tokens), len(tokens) + count
    generator = generator or torch.default_generator
    while len(said) < end:
        draft = drafter.propose(said, min(ahead, end - len(said) - 1))
        fed = [*said[cache.length :], *draft.tokens]
        logits = model.forward(torch.tensor([fed]), cache, every=True)[0, -1 - len(draft.tokens) :]
        if warp is None:
            new = accept_greedy(draft.tokens, logits)
        else:
            target = warp(logits).cpu().double().softmax(-1)
            drafted = torch.tensor(draft.tokens, dtype=torch.int64)
            q = draft.probabilities
            q = torch.eye(target.shape[1], dtype=torch.float64)[drafted] if q is None else q
            new = [t for t in accept(drafted[None], q[None], target[None], generator)[0].tolist() if t != REJECTED]
        said += new
        cache.crop(len(said) - 1)
        yield Round(tuple(new), len(draft.tokens), len(new) - 1)
