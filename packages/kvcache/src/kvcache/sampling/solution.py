"""The production answer: no sort of the whole vocabulary, and noise computed from seed, step and token alone."""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kvcache.sampling import DEAD, Automaton, Beam, Score, TokenTable

FAR = float("-inf")
NEVER = 1 << 40  # tokens
FEW = 256  # tokens that top-p looks at before it sorts a vocabulary


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the ``k`` largest logits of each row, and what equals the smallest of them; -inf for the rest.

    A ``k`` beyond the vocabulary keeps all. Raises ValueError for k below 1, NaN, or logits that are not (rows,
    vocabulary), TypeError for logits that are not floating point. Source: Fan et al. 2018, arXiv:1805.04833, section
    5.2.
    """
    _refuse(logits)
    if k < 1:
        msg = f"k is {k}, must be at least 1"
        raise ValueError(msg)
    threshold = logits.topk(min(k, logits.shape[1])).values[:, -1:]
    return logits.masked_fill(logits < threshold, FAR)


def top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the fewest most likely tokens of each row whose probabilities add up to at least ``p``; -inf for the rest.

    At least one token is kept. Raises ValueError for p outside (0, 1] and what ``top_k`` refuses. Source: Holtzman et
    al. 2019, arXiv:1904.09751, eq. 2.
    """
    _refuse(logits)
    if not 0 < p <= 1:
        msg = f"top-p is {p}, must be in (0, 1]"
        raise ValueError(msg)
    if p == 1:
        return logits
    vocabulary = logits.shape[1]
    wide = logits.float()
    total = wide.logsumexp(1, keepdim=True)
    # tinylm's nucleus at p = 0.9 has 4 tokens in the median and more than FEW at 0.15 % of its held-out positions; only
    # such a row needs the whole order.
    for count in (min(FEW, vocabulary), vocabulary):
        largest, index = wide.topk(count)  # both (rows, count)
        probabilities = (largest - total).exp()
        before = probabilities.cumsum(1) - probabilities
        if count == vocabulary or bool((before[:, -1] >= p).all()):
            break
    keep = before < p
    keep[:, 0] = True
    kept = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, index, keep)
    return logits.masked_fill(~kept, FAR)


def min_p(logits: Tensor, p: float) -> Tensor:
    """Keep tokens at least ``p`` times as likely as the row's most likely one; -inf for the rest.

    Raises ValueError for p outside [0, 1] and what ``top_k`` refuses. Source: Nguyen et al. 2024, arXiv:2407.01082.
    """
    _refuse(logits)
    if not 0 <= p <= 1:
        msg = f"min-p is {p}, must be in [0, 1]"
        raise ValueError(msg)
    log_p = math.log(p) if p else FAR
    return logits.masked_fill(logits < logits.amax(1, keepdim=True) + log_p, FAR)


def repetition_penalty(logits: Tensor, tokens: Tensor, penalty: float) -> Tensor:
    """Divide the positive logits of the tokens in each row by ``penalty``, and multiply the negative ones by it.

    ``tokens`` is (rows, n) int64, what each row has said; said twice counts once. Raises ValueError for a penalty that
    is not positive and finite, tokens of other rows or outside the vocabulary, TypeError for tokens that are not int64,
    and what ``top_k`` refuses. Source: Keskar et al. 2019, arXiv:1909.05858, section 4.1.
    """
    _refuse(logits)
    if not 0 < penalty < math.inf:
        msg = f"penalty is {penalty}, must be positive and finite"
        raise ValueError(msg)
    if tokens.ndim != 2 or len(tokens) != len(logits):  # noqa: PLR2004
        msg = f"tokens have shape {tuple(tokens.shape)}, must be ({len(logits)}, n)"
        raise ValueError(msg)
    if tokens.dtype != torch.int64:
        msg = f"tokens are {tokens.dtype}, must be int64"
        raise TypeError(msg)
    if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < logits.shape[1]:
        msg = f"tokens {int(tokens.min())} to {int(tokens.max())} are outside the vocabulary of {logits.shape[1]}"
        raise ValueError(msg)
    said = logits.gather(1, tokens)
    return logits.scatter(1, tokens, torch.where(said > 0, said / penalty, said * penalty))


def sample(logits: Tensor, seeds: Tensor, step: int, temperature: float = 1.0) -> Tensor:
    """Draw a token for each row from softmax(logits / temperature), int64 (rows,).

    ``seeds`` is (rows,) int64. The same logits, seed and step give the same token, whatever the other rows are;
    different seeds or steps are independent. Temperature 0 takes the most likely token. Raises ValueError for a
    negative or infinite temperature, seeds of another number, a row without a finite logit, and what ``top_k`` refuses.
    """
    _refuse(logits)
    if not 0 <= temperature < math.inf:
        msg = f"temperature is {temperature}, must be finite and not negative"
        raise ValueError(msg)
    if tuple(seeds.shape) != (len(logits),):
        msg = f"seeds have shape {tuple(seeds.shape)}, must be ({len(logits)},)"
        raise ValueError(msg)
    best = logits.amax(1, keepdim=True)
    if not bool(best.isfinite().all()):
        rows = (~best.isfinite()).nonzero()[:, 0].tolist()
        msg = f"rows {rows[:5]} have no token that may be drawn, or an infinite logit"
        raise ValueError(msg)
    if temperature == 0:
        return logits.argmax(1)
    # argmax(log p + Gumbel noise) is a draw from p (Gumbel 1954), without a softmax or a sum over the row.
    wide = in_float64(logits - best)
    token = torch.arange(logits.shape[1], device=wide.device)
    key = _mix(_mix(seeds.to(wide.device)) + step)
    bits = _mix(key[:, None] ^ _mix(token))  # (rows, vocabulary)
    # The middle of one of 2**52 parts of (0, 1): with more parts the last one's would round to 1, and its noise to inf.
    uniform = (((bits >> 12) & ((1 << 52) - 1)).double() + 0.5) * 2.0**-52
    gumbel = -(-uniform.log()).log()
    return (wide / temperature + gumbel).argmax(1).to(logits.device)


def beam_search(score: Score, start: Tensor, width: int, length: int, eos: int, alpha: float = 1.0) -> list[Beam]:
    """Return the ``width`` best continuations of ``start``, (n,) int64, best first, of at most ``length`` tokens.

    A sequence ends with ``eos`` or at ``length``; its score is its log probability divided by its number of tokens to
    the power of ``alpha``. The ``width`` most likely unfinished ones go on, and finished ones compete at the end. Fewer
    come back where fewer exist. Raises ValueError for a width or length below 1, for a start that is not (n,) with
    something in it, and for logits with NaN. Source: Sutskever et al. 2014, arXiv:1409.3215, section 3.2; Wu et al.
    2016, arXiv:1609.08144, eq. 14.
    """
    for name, value in (("width", width), ("length", length)):
        if value < 1:
            msg = f"{name} is {value}, must be at least 1"
            raise ValueError(msg)
    if start.ndim != 1 or not len(start):
        msg = f"start has shape {tuple(start.shape)}, must be (n,) with something in it"
        raise ValueError(msg)
    live, sums, done = start[None], torch.zeros(1, dtype=torch.float64), list[Beam]()
    for step in range(1, length + 1):
        logits = score(live)
        _refuse(logits)
        logp = logits.cpu().double().log_softmax(-1)  # (live, vocabulary)
        totals = (sums[:, None] + logp).flatten()
        # Each live sequence can end in one way only, so twice the width always holds the width that go on.
        values, index = totals.topk(min(2 * width, len(totals)))
        rows, tokens = index // logp.shape[1], index % logp.shape[1]
        following = torch.cat([live[rows.to(live.device)], tokens[:, None].to(live)], 1)
        ends = (tokens == eos) | (step == length)
        for i in ends.nonzero()[:, 0].tolist():
            if values[i] > FAR:
                sequence = tuple(following[i, len(start) :].tolist())
                done.append(Beam(sequence, float(values[i]) / step**alpha))
        on = (~ends & (values > FAR)).nonzero()[:width, 0]
        if not len(on):
            break
        live, sums = following[on.to(live.device)], values[on]
    return sorted(done, key=lambda beam: -beam.score)[:width]


def token_table(automaton: Automaton, tokens: Sequence[bytes], eos: int) -> TokenTable:
    """Tell for each state of ``automaton`` which tokens may come, and where they lead.

    ``tokens[i]`` are the bytes of token ``i``; ``eos`` is the one that ends a text, and other tokens without bytes
    never come. No dead ends: a token stays only if some tokens after it end the text. Raises ValueError where ``eos``
    is not in the vocabulary, and where these tokens write no text that matches. Source: Willard and Louf 2023,
    arXiv:2307.09702, section 3.
    """
    if not 0 <= eos < len(tokens):
        msg = f"eos is {eos}, outside the vocabulary of {len(tokens)}"
        raise ValueError(msg)
    step, end = automaton.step, len(automaton.step)
    after = torch.full((end + 1, len(tokens)), DEAD, dtype=torch.int32)
    # One level of the trie after the other, every state at once, and only as far as a text lives.
    start = now = torch.arange(end)
    node = torch.zeros(end, dtype=torch.int64)
    for children, first, byte, ends, spells in _levels(tokens):
        # The children of each node are neighbours: repeat what lives once for each of them.
        count = children[node]
        offset = torch.arange(int(count.sum())) - (count.cumsum(0) - count).repeat_interleave(count)
        node = first[node].repeat_interleave(count) + offset
        start, now = start.repeat_interleave(count), step[now.repeat_interleave(count), byte[node]]
        start, now, node = (t[now != DEAD] for t in (start, now, node))
        spelled = ends[node + 1] - ends[node]
        offset = torch.arange(int(spelled.sum())) - (spelled.cumsum(0) - spelled).repeat_interleave(spelled)
        token = spells[ends[node].repeat_interleave(spelled) + offset]
        after[start.repeat_interleave(spelled), token] = now.repeat_interleave(spelled).int()
    after[:, eos] = DEAD
    after[:end][automaton.final, eos] = end
    after[end, eos] = end
    needed = _needed(after)
    if int(needed[0]) >= NEVER:
        msg = f"no text of these {len(tokens)} tokens matches {automaton.pattern[:60]!r}"
        raise ValueError(msg)
    after[(after != DEAD) & (needed[after.clamp(min=0).long()] >= NEVER)] = DEAD
    return TokenTable(after, needed)


def constrain(logits: Tensor, table: TokenTable, states: Tensor, left: int | None = None) -> Tensor:
    """Set the tokens that may not come to -inf, each row by its own state.

    ``states`` is (rows,) int64: 0, then ``table.after[state, token]`` of each token drawn. With ``left`` only tokens
    stay after which the text can still end within ``left`` tokens, this one and the end among them. Raises ValueError
    for states of another number or that do not exist, a vocabulary of another size, a row that needs more than
    ``left``, and what ``top_k`` refuses.
    """
    _refuse(logits)
    if tuple(states.shape) != (len(logits),) or table.after.shape[1] != logits.shape[1]:
        shapes = f"{tuple(logits.shape)}, states {tuple(states.shape)}, the table {tuple(table.after.shape)}"
        msg = f"logits have shape {shapes}: (rows, vocabulary), (rows,) and (states, vocabulary) are wanted"
        raise ValueError(msg)
    if states.numel() and not 0 <= int(states.min()) <= int(states.max()) < len(table.after):
        msg = f"states {states.tolist()[:5]} are not all among the table's {len(table.after)}"
        raise ValueError(msg)
    after = table.after.to(logits.device)[states]  # (rows, vocabulary)
    if left is None:
        return logits.masked_fill(after == DEAD, FAR)
    needed = table.needed[states.cpu()]
    if bool((needed > left).any()):
        row = int((needed > left).nonzero()[0, 0])
        msg = f"row {row} needs {int(needed[row])} more tokens to end well, {left} are left"
        raise ValueError(msg)
    late = table.needed.to(logits.device) > left - 1
    return logits.masked_fill((after == DEAD) | late[after.clamp(min=0)], FAR)


def in_float64(x: Tensor) -> Tensor:
    """Return ``x`` in float64: where it is, but on the CPU where its device, Apple's MPS, has no float64."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def _levels(tokens: Sequence[bytes]) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]:
    """Yield the levels of a trie of ``tokens``, nodes in order.

    For each node of the level above: how many children it has, and the first; for each node of this one: its byte, and
    the part of the last tensor where the tokens are that end here.
    """
    order = sorted((text, i) for i, text in enumerate(tokens) if text)
    if not order:
        return
    index, length = torch.tensor([i for _, i in order]), torch.tensor([len(text) for text, _ in order])
    text = torch.frombuffer(bytearray(b"".join(text for text, _ in order)), dtype=torch.uint8).long()
    start = length.cumsum(0) - length
    # Tokens that go on, in order, and the node of the level above that each goes through.
    at, parent, above = torch.arange(len(order)), torch.zeros_like(length), 1
    for depth in range(int(length.max())):
        byte = text[start[at] + depth]
        fresh = torch.ones_like(byte, dtype=torch.bool)
        fresh[1:] = (parent[1:] != parent[:-1]) | (byte[1:] != byte[:-1])
        node, count = fresh.cumsum(0) - 1, int(fresh.sum())
        children = torch.bincount(parent[fresh], minlength=above)
        done = length[at] == depth + 1
        ends = F.pad(torch.bincount(node[done], minlength=count).cumsum(0), (1, 0))
        yield children, children.cumsum(0) - children, byte[fresh], ends, index[at[done]]
        at, parent, above = at[~done], node[~done], count


def _needed(after: Tensor) -> Tensor:
    """Return the fewest tokens from each state to the last one, NEVER where there is no way."""
    at, token = torch.where(after != DEAD)
    pairs = torch.stack([at, after[at, token].long()], 1)
    origin, to = pairs.unique(dim=0).T  # few, however many tokens there are
    needed = torch.full((len(after),), NEVER)
    needed[-1] = 0
    while True:
        better = needed.scatter_reduce(0, origin, needed[to] + 1, "amin").clamp(max=NEVER)
        better[-1] = 0
        if torch.equal(better, needed):
            return needed
        needed = better


def _mix(x: Tensor) -> Tensor:
    """Scramble int64 so that every bit depends on all (the finalizer of SplitMix64, Steele et al. 2014)."""
    x = x + -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed number; products wrap around
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * -7723592293110705685  # 0x94D049BB133111EB
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def _refuse(logits: Tensor) -> None:
    if logits.ndim != 2 or not logits.shape[1]:  # noqa: PLR2004
        msg = f"logits have shape {tuple(logits.shape)}, must be (rows, vocabulary)"
        raise ValueError(msg)
    if not logits.is_floating_point():
        msg = f"logits are {logits.dtype}, must be floating point"
        raise TypeError(msg)
    if bool(logits.isnan().any()):
        msg = "logits have NaN"
        raise ValueError(msg)
