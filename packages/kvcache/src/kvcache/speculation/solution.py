"""The production answer: an index of n-grams that grows with the text, and rejection sampling without a loop."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from kvcache.caches import KVCache
from kvcache.sampling.solution import in_float64
from kvcache.speculation import REJECTED, Draft, Drafter, Model, Round, Warp

CHUNK = 512  # tokens of a prompt at a time


class NgramDrafter:
    """Proposes what followed the latest earlier occurrence of the last few tokens (prompt lookup)."""

    def __init__(self, longest: int = 3, shortest: int = 1) -> None:
        """Match the last ``longest`` tokens, else fewer, at least ``shortest``; ValueError unless 1 <= both in order.

        Source: Saxena 2023, prompt lookup decoding; Yang et al. 2023, arXiv:2304.04487.
        """
        if not 1 <= shortest <= longest:
            msg = f"n-grams of {shortest} to {longest} tokens: at least 1, and in this order"
            raise ValueError(msg)
        self.sizes = range(longest, shortest - 1, -1)
        self._tokens: list[int] = []
        self._ends: dict[tuple[int, ...], int] = {}  # an n-gram: where its latest occurrence with a successor ends

    def propose(self, tokens: Sequence[int], count: int) -> Draft:
        """Return ``count`` tokens, or none where no n-gram was there before.

        A copy may run into what it copies: after "la la" it goes on with "la" for as long as is wanted.
        """
        text = list(tokens)
        if text[: len(self._tokens)] != self._tokens:
            self._tokens, self._ends = [], {}
        for end in range(max(1, len(self._tokens)), len(text)):
            for size in self.sizes:
                if size <= end:
                    self._ends[tuple(text[end - size : end])] = end
        self._tokens = text
        found = (self._ends.get(tuple(text[-size:])) for size in self.sizes if size <= len(text))
        start = next((end for end in found if end is not None), None)
        if start is None:
            return Draft(())
        for _ in range(count):
            text.append(text[start])
            start += 1
        self._tokens = text[: len(text) - count]
        return Draft(tuple(text[len(text) - count :]))


def accept_greedy(drafted: Sequence[int], logits: Tensor) -> list[int]:
    """Return the tokens that greedy decoding gives: drafted ones as far as they are right, and one of the model's own.

    ``logits`` is (drafted + 1, vocabulary), after the last known token and after each drafted one. Raises ValueError
    for another number of rows, and for NaN.
    """
    _refuse_nan(logits=logits)
    if len(logits) != len(drafted) + 1:
        msg = f"{len(drafted)} drafted tokens need {len(drafted) + 1} rows of logits, {len(logits)} were given"
        raise ValueError(msg)
    own: list[int] = logits.argmax(-1).tolist()
    right = next((i for i, token in enumerate(drafted) if token != own[i]), len(drafted))
    return own[: right + 1]


def accept(drafted: Tensor, draft: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
    """Accept or replace drafted tokens so that each row is distributed as if drawn from ``target`` alone.

    ``drafted`` is (rows, k) int64, each token drawn from ``draft``, (rows, k, vocabulary); ``target`` is (rows, k + 1,
    vocabulary); both are probabilities. Returns (rows, k + 1) int64: the accepted tokens, one more, then REJECTED. The
    generator is the CPU's, so that every device draws the same. Where rounding leaves nothing of target - draft, the
    token comes from target. Raises ValueError for shapes or devices that do not fit, NaN, tokens outside the
    vocabulary, and a drafted token of probability 0, TypeError for tokens that are not int64.
    Source: Leviathan et al. 2023, arXiv:2211.17192, algorithm 1; Chen et al. 2023, arXiv:2302.01318.
    """
    rows, count = _refuse_misfit(drafted, draft, target)
    _refuse_nan(draft=draft, target=target)
    q = in_float64(draft.gather(2, drafted[..., None])[..., 0])  # (rows, k)
    p = in_float64(target[:, :count].gather(2, drafted[..., None])[..., 0])
    if bool((q <= 0).any()):
        row, at = (q <= 0).nonzero()[0].tolist()
        msg = f"row {row} drafted token {int(drafted[row, at])}, to which the draft gives probability 0"
        raise ValueError(msg)
    uniform = torch.rand(rows, count + 1, generator=generator, dtype=torch.float64).to(p.device)
    taken = (uniform[:, :count] * q < p).cumprod(1)  # with probability min(1, p / q), and nothing behind a rejection
    accepted = taken.sum(1).to(target.device)  # (rows,)
    at = torch.arange(rows, device=target.device), accepted
    last = in_float64(target[at])  # (rows, vocabulary)
    lacking = torch.cat([draft, draft.new_zeros(rows, 1, draft.shape[2])], 1)
    rest = (last - in_float64(lacking[at])).clamp(min=0)
    rest = torch.where(rest.sum(1, keepdim=True) > 0, rest, last)
    cumulative = rest.cumsum(1)
    own = torch.searchsorted(cumulative, uniform[:, count:] * cumulative[:, -1:], right=True)  # (rows, 1)
    out = torch.where(taken.bool().to(drafted.device), drafted, REJECTED)
    out = torch.cat([out, out.new_full((rows, 1), REJECTED)], 1)
    return out.scatter_(1, accepted[:, None], own.clamp(max=target.shape[2] - 1).to(drafted.device))


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
    """Yield ``count`` tokens after ``tokens``, some for each step of ``model``, as it alone would say them.

    Greedy without ``warp``; with it tokens are drawn from softmax(warp(logits)) with ``generator``. ``cache`` may hold
    the beginning of ``tokens`` already, but not the last one; in the end it holds all but the last token said. Every
    step checks up to ``ahead`` tokens of ``drafter``. Raises ValueError for no tokens, count or ahead out of range,
    and whatever ``model`` and ``cache`` refuse.
    """
    _refuse_start(tokens, cache, count, ahead)
    generator = generator or torch.default_generator
    said, end = list(tokens), len(tokens) + count
    _feed(model, cache, said, 1)
    while len(said) < end:
        draft = drafter.propose(said, min(ahead, end - len(said) - 1))
        logits = model.forward(torch.tensor([[said[-1], *draft.tokens]]), cache, every=True)[0]  # (k + 1, vocabulary)
        new = accept_greedy(draft.tokens, logits) if warp is None else _drawn(draft, warp(logits), generator)
        said += new
        cache.crop(len(said) - 1)
        yield Round(tuple(new), len(draft.tokens), len(new) - 1)


class ModelDrafter:
    """A small model that drafts from a cache of its own."""

    def __init__(
        self, model: Model, cache: KVCache, warp: Warp | None = None, generator: torch.Generator | None = None
    ) -> None:
        """Draft greedily without ``warp``, else draw; ``cache`` is empty and belongs to the drafter.

        ``generator`` must not repeat the numbers of the one that ``generate`` gets: what is drafted and what is
        accepted have to be independent. By default both go on with torch's own.
        """
        self.model, self.cache, self.warp = model, cache, warp
        self.generator = generator or torch.default_generator
        self._fed: list[int] = []

    def propose(self, tokens: Sequence[int], count: int) -> Draft:
        """Return ``count`` tokens; only what the cache does not hold yet is computed."""
        text = list(tokens)
        pairs = enumerate(zip(self._fed, text, strict=False))
        same = next((i for i, (old, new) in pairs if old != new), min(len(self._fed), len(text)))
        self.cache.crop(min(same, len(text) - 1))  # what was rejected goes, and one token is left to ask with
        _feed(self.model, self.cache, text, CHUNK)
        found: list[Tensor] = []
        for _ in range(count):
            logits = self.model.forward(torch.tensor([text[self.cache.length :]]), self.cache)
            if self.warp is None:
                text.append(int(logits.argmax()))
                continue
            found.append(in_float64(self.warp(logits)).softmax(-1)[0])
            text.append(int(torch.multinomial(found[-1].cpu(), 1, generator=self.generator)))
        self._fed = text[: self.cache.length]
        return Draft(tuple(text[len(tokens) :]), torch.stack(found) if found else None)


def _feed(model: Model, cache: KVCache, tokens: list[int], left: int) -> None:
    """Append what ``cache`` lacks of ``tokens`` but the last ``left``, a chunk at a time."""
    while (missing := len(tokens) - left - cache.length) > 0:
        start = cache.length
        model.forward(torch.tensor([tokens[start : start + min(CHUNK, missing)]]), cache)


def _drawn(draft: Draft, logits: Tensor, generator: torch.Generator) -> list[int]:
    """Accept for one row."""
    target = in_float64(logits).softmax(-1)
    drafted = torch.tensor(draft.tokens, dtype=torch.int64, device=target.device)
    probabilities = draft.probabilities
    if probabilities is None:
        probabilities = torch.nn.functional.one_hot(drafted, target.shape[1]).double()
    new = accept(drafted[None], probabilities.to(target)[None], target[None], generator)[0]
    return [token for token in new.tolist() if token != REJECTED]


def _refuse_nan(**given: Tensor) -> None:
    for name, tensor in given.items():
        if bool(tensor.isnan().any()):
            msg = f"{name} of shape {tuple(tensor.shape)} holds NaN"
            raise ValueError(msg)


def _refuse_misfit(drafted: Tensor, draft: Tensor, target: Tensor) -> tuple[int, int]:
    """Return rows and drafted tokens."""
    if drafted.dtype != torch.int64:
        msg = f"drafted tokens are {drafted.dtype}, must be int64"
        raise TypeError(msg)
    if len({drafted.device, draft.device, target.device}) > 1:
        msg = f"drafted is on {drafted.device}, draft on {draft.device}, target on {target.device}: one is wanted"
        raise ValueError(msg)
    shapes = tuple(drafted.shape), tuple(draft.shape), tuple(target.shape)
    if drafted.ndim == 2 and draft.ndim == 3 and target.ndim == 3:  # noqa: PLR2004
        rows, count = drafted.shape
        vocabulary = target.shape[2]
        if shapes[1:] == ((rows, count, vocabulary), (rows, count + 1, vocabulary)):
            if drafted.numel() and not 0 <= int(drafted.min()) <= int(drafted.max()) < vocabulary:
                msg = f"tokens {int(drafted.min())} to {int(drafted.max())} are outside the vocabulary of {vocabulary}"
                raise ValueError(msg)
            return rows, count
    msg = f"drafted {shapes[0]}, draft {shapes[1]}, target {shapes[2]}: (rows, k), (rows, k, vocabulary), (rows, k + 1"
    msg += ", vocabulary) are wanted"
    raise ValueError(msg)


def _refuse_start(tokens: Sequence[int], cache: KVCache, count: int, ahead: int) -> None:
    if not tokens:
        msg = "a prompt needs at least one token"
        raise ValueError(msg)
    if cache.length >= len(tokens):
        most = f"at most {len(tokens) - 1} of {len(tokens)} tokens may be there"
        msg = f"the cache holds {cache.length} positions, {most}"
        raise ValueError(msg)
    for name, value in (("count", count), ("ahead", ahead)):
        if value < 1:
            msg = f"{name} is {value}, must be at least 1"
            raise ValueError(msg)
