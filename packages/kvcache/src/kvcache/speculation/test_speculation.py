"""What every implementation of ``kvcache.speculation`` has to do."""

import itertools
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

import models
from kvcache.caches.solution import ContiguousCache
from kvcache.decoder import Decoder
from kvcache.paging.solution import PagedCache
from kvcache.sampler import Sampler
from kvcache.speculation import REJECTED, Draft

DRAWS = 100_000
# Seeds are fixed, so a test that passes passes always; over all seeds each would raise a false alarm once in 10,000.
ALARM = 1e-4
FIRST = pytest.mark.known("peer_transformers", reason="it copies from the first occurrence, not from the latest")
CUT = pytest.mark.known("peer_transformers", reason="it copies no further than the end of the text")
SMALLEST = pytest.mark.known("peer_transformers", reason="it knows no smallest n-gram")


class Notes:
    """Stands for a cache: it holds the tokens themselves."""

    def __init__(self) -> None:
        self.tokens: list[int] = []

    @property
    def length(self) -> int:
        return len(self.tokens)

    def crop(self, length: int) -> None:
        assert 0 <= length <= self.length, f"cropped to {length}, {self.length} positions are there"
        del self.tokens[length:]


class Chain:
    """A model whose next token depends on the last ``order`` tokens of its cache; it counts what it is fed."""

    def __init__(self, vocabulary: int, seed: int = 0, order: int = 99, scale: float = 1.5) -> None:
        self.vocabulary, self.seed, self.order, self.scale = vocabulary, seed, order, scale
        self.fed: list[int] = []

    def logits(self, history: Sequence[int]) -> Tensor:
        seed = hash((self.seed, *history[-self.order :])) % 2**60
        return torch.randn(self.vocabulary, generator=torch.Generator().manual_seed(seed)) * self.scale

    def forward(self, tokens: Tensor, cache: Any, *, every: bool = False) -> Tensor:
        rows = []
        for token in tokens[0].tolist():
            cache.tokens.append(token)
            rows.append(self.logits(cache.tokens))
        self.fed.append(tokens.shape[1])
        return torch.stack(rows)[None] if every else rows[-1][None]

    def greedy(self, tokens: Sequence[int], count: int) -> list[int]:
        said = list(tokens)
        for _ in range(count):
            said.append(int(self.logits(said).argmax()))
        return said[len(tokens) :]


class Says:
    """A drafter that knows what comes, up to its mistakes."""

    def __init__(self, truth: Sequence[int], wrong: Sequence[int] = (), vocabulary: int = 9) -> None:
        self.truth, self.wrong, self.vocabulary = list(truth), set(wrong), vocabulary
        self.asked: list[int] = []

    def propose(self, tokens: Sequence[int], count: int) -> Draft:
        start = len(tokens)
        self.asked.append(count)
        part = enumerate(self.truth[start : start + count], start)
        return Draft(tuple((t + 1) % self.vocabulary if i in self.wrong else t for i, t in part))


def all_of(rounds: Any) -> tuple[list[int], list[Any]]:
    found = list(rounds)
    return [token for each in found for token in each.tokens], found


def assert_counts(cells: Tensor, probabilities: Tensor, what: str) -> None:
    """Compare how often each cell came with its probability."""
    counts = torch.bincount(cells.cpu(), minlength=len(probabilities)).double()
    possible = probabilities > 0
    assert not counts[~possible].any(), f"{what}: a token of probability 0 was drawn"
    expected = probabilities[possible].double() / probabilities.double().sum() * len(cells)
    pvalue = stats.chisquare(counts[possible].numpy(), expected.numpy()).pvalue
    shares = (counts / len(cells)).tolist()[:6]
    assert pvalue > ALARM, f"{what}: shares {shares}, expected {probabilities.tolist()[:6]}, p = {pvalue:.1e}"


# N-grams


@pytest.mark.parametrize(
    ("text", "wanted", "why"),
    [
        ([1, 2, 3, 9, 1, 2], (3, 9), "what followed 1 2"),
        ([5, 1, 2, 7, 2, 8, 1, 2], (7, 2), "1 2 is longer than the later 2"),
        ([6, 4, 1, 2, 3, 5, 1, 2, 3], (5, 1), "what followed 1 2 3"),
        ([1, 2, 3], (), "nothing was said twice"),
        ([1], (), "one token has no past"),
    ],
)
def test_ngrams_are_copied(impl: ModuleType, text: list[int], wanted: tuple[int, ...], why: str) -> None:
    found = impl.NgramDrafter().propose(text, 2)
    assert found.tokens == wanted, f"after {text} {found.tokens} was drafted, expected {wanted}: {why}"
    assert found.probabilities is None, "what is copied is not drawn"
    assert impl.NgramDrafter().propose(text, 0).tokens == ()


@FIRST
def test_the_latest_occurrence_counts(impl: ModuleType) -> None:
    found = impl.NgramDrafter().propose([1, 2, 7, 1, 2, 8, 1, 2], 1).tokens
    assert found == (8,), f"1 2 was followed by 7 and later by 8; drafted {found}"


@CUT
def test_a_copy_runs_into_itself(impl: ModuleType) -> None:
    assert impl.NgramDrafter().propose([4, 7, 7], 3).tokens == (7, 7, 7)
    assert impl.NgramDrafter().propose([1, 2, 1, 2, 1], 5).tokens == (2, 1, 2, 1, 2)


@SMALLEST
def test_short_ngrams_can_be_excluded(impl: ModuleType) -> None:
    assert impl.NgramDrafter(3, 2).propose([1, 5, 2, 5], 2).tokens == ()
    assert impl.NgramDrafter(3, 2).propose([1, 5, 2, 1, 5], 1).tokens == (2,)


@settings(max_examples=25)
@given(pieces=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=1, max_size=8), data=st.data())
def test_a_drafter_that_remembers_is_as_good_as_new(impl: ModuleType, pieces: list[list[int]], data: Any) -> None:
    old, text = impl.NgramDrafter(), list[int]()
    for piece in pieces:
        keep = data.draw(st.integers(0, len(text)))  # another text, or one that was taken back and goes on otherwise
        text = [*(text if data.draw(st.booleans()) else text[:keep]), *piece]
        found, wanted = old.propose(text, 3).tokens, impl.NgramDrafter().propose(text, 3).tokens
        assert found == wanted, f"{text}: {found} from a drafter that knew other text, {wanted} from a new one"


@pytest.mark.only("starter", "solution")
def test_bad_sizes_are_refused(impl: ModuleType) -> None:
    for longest, shortest in ((0, 0), (2, 3), (3, 0)):
        with pytest.raises(ValueError, match=r"longest|shortest|n-gram"):
            impl.NgramDrafter(longest, shortest)


# Greedy


@pytest.mark.parametrize(
    ("drafted", "wanted"),
    [([], [2]), ([2], [2, 0]), ([1], [2]), ([2, 0, 1], [2, 0, 1, 3]), ([2, 1, 1], [2, 0]), ([2, 0, 3], [2, 0, 1])],
)
def test_right_tokens_and_one_more(impl: ModuleType, device: str, drafted: list[int], wanted: list[int]) -> None:
    logits = torch.eye(4, device=device)[torch.tensor([2, 0, 1, 3])][: len(drafted) + 1]
    found = impl.accept_greedy(drafted, logits)
    assert found == wanted, f"the model says 2 0 1 3, {drafted} was drafted: {found}, expected {wanted}"


@pytest.mark.only("starter", "solution")
def test_greedy_refuses(impl: ModuleType, device: str) -> None:
    with pytest.raises(ValueError, match=r"3|rows|logits"):
        impl.accept_greedy([1, 2], torch.zeros(2, 4, device=device))
    with pytest.raises(ValueError, match=r"(?i)nan"):
        impl.accept_greedy([], torch.full((1, 4), float("nan"), device=device))


# Drawn


def tables(seed: int, vocabulary: int = 4) -> tuple[Tensor, Tensor]:
    """Return transitions (vocabulary, vocabulary) of a draft and of a target that differ."""
    generator = torch.Generator().manual_seed(seed)
    q, p = (torch.randn(vocabulary, vocabulary, generator=generator, dtype=torch.float64) * 1.2 for _ in range(2))
    return q.softmax(-1), p.softmax(-1)


def placed(device: str, *tensors: Tensor) -> list[Tensor]:
    """Move ``tensors`` to ``device``; MPS has no float64, and gets float32."""
    return [(t.float() if device == "mps" and t.is_floating_point() else t).to(device) for t in tensors]


def walk(table: Tensor, start: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Go on from ``start``, (rows, n), by ``count`` tokens."""
    for _ in range(count):
        start = torch.cat([start, torch.multinomial(table[start[:, -1]], 1, generator=generator)], 1)
    return start


def draws_of(impl: ModuleType, cells: int) -> int:
    """Take fewer where rows are taken one at a time: as many as fill ``cells`` with 40 each, with 16 in a peer."""
    name = impl.__name__.rsplit(".", 1)[-1]
    return {"baseline": 40 * cells, "peer_transformers": 16 * cells}.get(name, DRAWS)


def test_sequences_are_distributed_as_the_target_s(impl: ModuleType, device: str) -> None:
    generator, count = torch.Generator().manual_seed(0), 3
    q, p = tables(0)
    rows = draws_of(impl, 256)
    drafted = walk(q, torch.zeros(rows, 1, dtype=torch.int64), count, generator)  # (rows, 1 + k), all begin with 0
    given = placed(device, drafted[:, 1:], q[drafted[:, :-1]], p[drafted])
    found = impl.accept(*given, generator).cpu()
    assert found.shape == (rows, count + 1)
    sizes = (found != REJECTED).sum(1)
    assert bool(((found == REJECTED) == (torch.arange(count + 1) >= sizes[:, None])).all()), "REJECTED fills the end"
    # What a round leaves open the target itself draws; then whole sequences must be the target's.
    full = torch.zeros(rows, count + 2, dtype=torch.int64)
    for size in range(1, count + 2):
        some = sizes == size
        begun = torch.cat([full[some, :1], found[some, :size]], 1)
        full[some] = walk(p, begun, count + 1 - size, generator)
    cells = ((full[:, 1] * 4 + full[:, 2]) * 4 + full[:, 3]) * 4 + full[:, 4]
    wanted = torch.tensor(
        [float(p[0, a] * p[a, b] * p[b, c] * p[c, d]) for a, b, c, d in itertools.product(range(4), repeat=4)]
    )
    assert_counts(cells, wanted, f"{rows} sequences of 4 tokens")
    # By how many it accepts: the chance is the overlap of the two distributions, sum min(p, q).
    overlap = float(torch.minimum(p[0], q[0]).sum())
    accepted = float((sizes > 1).double().mean())
    error = (overlap * (1 - overlap) / rows) ** 0.5
    assert abs(accepted - overlap) < 4 * error, f"first token accepted at {accepted:.4f}, sum min(p, q) = {overlap:.4f}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_draft_like_the_target_is_accepted(impl: ModuleType, device: str, dtype: torch.dtype) -> None:
    if device == "mps" and dtype == torch.float64:
        pytest.skip("MPS has no float64")
    generator, rows = torch.Generator().manual_seed(3), draws_of(impl, 50)
    p = tables(5)[1].to(dtype)
    drafted = walk(p.double(), torch.zeros(rows, 1, dtype=torch.int64), 2, generator)
    given = placed(device, drafted[:, 1:], p[drafted[:, :-1]], p[drafted])
    found = impl.accept(*given, generator).cpu()
    changed = int((found[:, :2] != drafted[:, 1:]).any(1).sum())
    assert changed == 0, f"draft and target agree, yet {changed} of {rows} rows were changed"
    assert_counts(found[drafted[:, 2] == 1, 2], p[1], "the token behind an accepted draft")


def test_disjoint_distributions_accept_nothing(impl: ModuleType, device: str) -> None:
    generator, rows = torch.Generator().manual_seed(4), draws_of(impl, 50)
    q = torch.tensor([0.5, 0.5, 0.0, 0.0, 0.0], dtype=torch.float64)
    p = torch.tensor([0.0, 0.0, 0.2, 0.7, 0.1], dtype=torch.float64)
    drafted = torch.multinomial(q.expand(rows, -1), 2, replacement=True, generator=generator)
    given = placed(device, drafted, q.expand(rows, 2, -1), p.expand(rows, 3, -1))
    found = impl.accept(*given, generator).cpu()
    assert bool((found[:, 1:] == REJECTED).all()), "tokens that the target never says were accepted"
    assert_counts(found[:, 0], p, "one of the target's own instead")


def test_the_same_generator_repeats(impl: ModuleType, device: str) -> None:
    q, p = tables(6)
    drafted = walk(q, torch.zeros(200, 1, dtype=torch.int64), 2, torch.Generator().manual_seed(1))
    given = placed(device, drafted[:, 1:], q[drafted[:, :-1]], p[drafted])
    first, again, other = (impl.accept(*given, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.only("starter", "solution")
def test_misfits_are_refused(impl: ModuleType, device: str) -> None:
    generator = torch.Generator()
    half = torch.full((2, 4, 2), 0.5, device=device)
    tokens = torch.zeros(2, 3, dtype=torch.int64, device=device)
    assert impl.accept(tokens, half[:, :3], half, generator).shape == (2, 4)
    assert impl.accept(tokens[:, :0], half[:, :0], half[:, :1], generator).shape == (2, 1)
    for misfit in ((tokens[0], half[:, :3], half), (tokens, half, half), (tokens, half[:, :3], half[..., :1])):
        with pytest.raises(ValueError, match=r"[(\[]\d|shape|drafted"):
            impl.accept(*misfit, generator)
    with pytest.raises(ValueError, match=r"vocabulary|drafted"):
        impl.accept(tokens + 2, half[:, :3], half, generator)
    with pytest.raises(TypeError, match=r"drafted|int64"):
        impl.accept(tokens.float(), half[:, :3], half, generator)
    with pytest.raises(ValueError, match=r"device|meta"):
        impl.accept(tokens, half[:, :3].to("meta"), half, generator)
    never = half[:, :3].clone()
    never[1, 2] = torch.tensor([0.0, 1.0])
    with pytest.raises(ValueError, match=r"drafted|probability"):
        impl.accept(tokens, never, half, generator)
    with pytest.raises(ValueError, match=r"(?i)nan"):
        impl.accept(tokens, half[:, :3], half * float("nan"), generator)


@pytest.mark.only("starter", "solution")
def test_rounding_that_leaves_nothing_is_survived(impl: ModuleType, device: str) -> None:
    q = torch.tensor([0.5, 0.5, 0.0], device=device).expand(500, 1, -1)
    p = (q * 0.6).expand(-1, 2, -1)  # nowhere above q
    found = impl.accept(torch.zeros(500, 1, dtype=torch.int64, device=device), q, p, torch.Generator().manual_seed(1))
    assert set(found[:, 0].tolist()) == {0, 1}, "a token that neither distribution holds was drawn"


# Generation


@settings(max_examples=25)
@given(
    seed=st.integers(0, 99),
    count=st.integers(1, 12),
    ahead=st.integers(1, 5),
    wrong=st.sets(st.integers(0, 20)),
    known=st.integers(0, 3),
)
def test_any_draft_gives_the_model_s_own_tokens(
    impl: ModuleType, seed: int, count: int, ahead: int, wrong: set[int], known: int
) -> None:
    model, cache, prompt = Chain(9, seed), Notes(), [1, 2, 3, 4]
    wanted = model.greedy(prompt, count)
    if known:
        model.forward(torch.tensor([prompt[:known]]), cache)
    drafter = Says(prompt + wanted, sorted(wrong))
    found, rounds = all_of(impl.generate(model, cache, prompt, count, drafter, ahead))
    assert found == wanted, f"alone the model says {wanted}, with drafts wrong at {sorted(wrong)} {found}"
    assert cache.tokens == [*prompt, *wanted][:-1], "the cache must hold all but the last token, and nothing rejected"
    assert [(len(r.tokens), r.drafted >= r.accepted) for r in rounds] == [(r.accepted + 1, True) for r in rounds]
    assert sum(model.fed) <= len(prompt) + len(rounds) * (ahead + 1), f"{model.fed} tokens were fed"


@pytest.mark.parametrize(("count", "ahead", "steps"), [(12, 4, 3), (11, 4, 3), (13, 4, 3), (1, 4, 1), (6, 1, 3)])
def test_right_drafts_save_steps(impl: ModuleType, count: int, ahead: int, steps: int) -> None:
    model, prompt = Chain(9), [5]
    drafter = Says(prompt + model.greedy(prompt, count))
    _, rounds = all_of(impl.generate(model, Notes(), prompt, count, drafter, ahead))
    assert len(rounds) == len(model.fed) == steps, f"{count} tokens, {ahead} drafted each: {len(model.fed)} steps"
    assert all(n <= ahead + 1 for n in model.fed)


def test_wrong_drafts_cost_no_more_steps(impl: ModuleType) -> None:
    model, prompt = Chain(9), [5]
    drafter = Says(prompt + model.greedy(prompt, 8), range(20))
    _, rounds = all_of(impl.generate(model, Notes(), prompt, 8, drafter, 3))
    assert [(r.accepted, len(r.tokens)) for r in rounds] == [(0, 1)] * 8
    assert drafter.asked == [3, 3, 3, 3, 3, 2, 1, 0], f"the last tokens need no drafts; asked for {drafter.asked}"


RUNS = 800


def sequences(impl: ModuleType, model: Chain, drafter: Any, generator: torch.Generator | None) -> Tensor:
    found = []
    for _ in range(RUNS):
        tokens, _ = all_of(impl.generate(model, Notes(), [0, 1, 0], 3, drafter(), 2, lambda logits: logits, generator))
        found.append(tokens)
    cells = torch.tensor(found)
    return (cells[:, 0] * 3 + cells[:, 1]) * 3 + cells[:, 2]


def exact(model: Chain) -> Tensor:
    """Return the probabilities of the three tokens after 0."""
    p = torch.stack([model.logits([token]).double().softmax(-1) for token in range(3)])
    return torch.tensor([float(p[0, a] * p[a, b] * p[b, c]) for a, b, c in itertools.product(range(3), repeat=3)])


def test_drawn_texts_follow_the_model(impl: ModuleType) -> None:
    model = Chain(3, 1, order=1)
    generator = torch.Generator().manual_seed(5)
    assert_counts(sequences(impl, model, impl.NgramDrafter, generator), exact(model), "texts with n-grams drafted")


def test_a_sampler_shapes_what_is_drawn(impl: ModuleType) -> None:
    model = Chain(9, 4)
    greedy = Sampler(temperature=1.5, top_k=1).filtered
    generator = torch.Generator().manual_seed(5)
    found, _ = all_of(impl.generate(model, Notes(), [1, 2], 9, impl.NgramDrafter(), 2, greedy, generator))
    assert found == model.greedy([1, 2], 9), "top-k of 1 leaves the most likely token"


@pytest.fixture(scope="module")
def tinylm() -> tuple[Decoder, list[int], list[int]]:
    model, tokenizer = models.load("tinylm")
    decoder = Decoder.from_model(model, deterministic=True)  # the same bits whether one token is fed or five
    prompt = tokenizer(models.corpus("heldout")[:400])["input_ids"]
    cache = decoder.contiguous(len(prompt) + 40)
    return decoder, prompt, [int(t) for t in decoder.generate(torch.tensor([prompt]), cache, 40)]


@pytest.mark.parametrize("kind", ["contiguous", "paged"])
def test_a_real_model_says_the_same_in_fewer_steps(
    impl: ModuleType, kind: str, tinylm: tuple[Decoder, list[int], list[int]]
) -> None:
    decoder, prompt, wanted = tinylm
    c, positions = decoder.config, len(prompt) + 40
    shape = c.layers, 1, c.kv_heads, c.head_dim
    cache: Any = decoder.contiguous(positions) if kind == "contiguous" else PagedCache(*shape, -(-positions // 16), 16)
    found, rounds = all_of(impl.generate(decoder, cache, prompt, 40, impl.NgramDrafter(), 4))
    assert found == wanted
    assert len(rounds) < 40, "nothing was accepted, in source code of all texts"
    assert cache.length == positions - 1


@pytest.mark.only("starter", "solution")
def test_bad_requests_are_refused(impl: ModuleType, tinylm: tuple[Decoder, list[int], list[int]]) -> None:
    model, drafter = Chain(9), impl.NgramDrafter()
    full = Notes()
    full.tokens = [1, 2]
    for cache, tokens, count, ahead, words in (
        (Notes(), [], 1, 1, "token"),
        (full, [1, 2], 1, 1, "cache"),
        (Notes(), [1], 0, 1, "count"),
        (Notes(), [1], 1, 0, "ahead"),
    ):
        with pytest.raises(ValueError, match=words):
            list(impl.generate(model, cache, tokens, count, drafter, ahead))
    decoder, prompt, _ = tinylm
    with pytest.raises(ValueError, match="the cache holds 20 positions"):
        list(impl.generate(decoder, ContiguousCache(5, 1, 2, 64, 20), prompt, 40, drafter))
    with pytest.raises(ValueError, match="the model's limit is 512"):
        list(impl.generate(decoder, decoder.contiguous(600), prompt, 600 - len(prompt), drafter))
    broken = Chain(9, scale=float("nan"))
    for warp in (None, lambda logits: logits):
        with pytest.raises(ValueError, match=r"(?i)nan"):
            list(impl.generate(broken, Notes(), [1], 2, drafter, warp=warp))


# A model that drafts


@pytest.mark.stretch
def test_a_model_drafts_greedily(impl: ModuleType) -> None:
    small = Chain(9, 2)
    drafter = impl.ModelDrafter(small, Notes())
    assert drafter.propose([1, 2, 3], 4) == Draft(tuple(small.greedy([1, 2, 3], 4)))
    assert small.fed == [3, 1, 1, 1], f"4 tokens after 3: fed {small.fed}"
    drafted = small.greedy([1, 2, 3], 4)
    text = [1, 2, 3, *drafted[:2], 8]  # two were accepted, then another token came
    small.fed.clear()
    assert drafter.propose(text, 2).tokens == tuple(small.greedy(text, 2))
    assert small.fed == [1, 1], f"all but the last token was known, yet {small.fed} were fed"
    everything = [*text, *small.greedy(text, 2), 5]  # all accepted, and one more
    small.fed.clear()
    assert drafter.propose(everything, 1).tokens == tuple(small.greedy(everything, 1))
    assert small.fed == [2], f"two tokens are new: fed {small.fed}"
    for other in ([4], [4, 4, 4, 4], [4, 4, 5, 5, 5, 5]):
        assert drafter.propose(other, 2).tokens == tuple(small.greedy(other, 2)), f"another text, {other}"
    assert drafter.propose([4], 0).tokens == ()


@pytest.mark.stretch
def test_a_drafting_model_says_what_it_drew_from(impl: ModuleType) -> None:
    small, narrow = Chain(9, 2), Sampler(temperature=2.0, top_k=3).filtered
    found = impl.ModelDrafter(small, Notes(), narrow, torch.Generator().manual_seed(1)).propose([1, 2], 3)
    text = [1, 2]
    for token, row in zip(found.tokens, found.probabilities, strict=True):
        wanted = narrow(small.logits(text)[None]).double().softmax(-1)[0]
        assert torch.allclose(row.double(), wanted), f"after {text} the draft says {row.tolist()}"
        assert row[token] > 0
        text.append(token)


@pytest.mark.stretch
@pytest.mark.parametrize("drawn", [False, True])
def test_a_model_that_drafts_for_itself_is_always_right(impl: ModuleType, *, drawn: bool) -> None:
    warp = (lambda logits: logits) if drawn else None
    drafter = impl.ModelDrafter(Chain(9, 2), Notes(), warp)
    _, rounds = all_of(impl.generate(Chain(9, 2), Notes(), [1, 2], 30, drafter, 4, warp))
    assert len(rounds) == 6, f"30 tokens, 5 a step: {len(rounds)} steps"


@pytest.mark.stretch
def test_drawn_texts_follow_the_model_and_not_its_drafter(impl: ModuleType) -> None:
    model, small = Chain(3, 1, order=1), Chain(3, 8, order=1)
    torch.manual_seed(3)
    found = sequences(impl, model, lambda: impl.ModelDrafter(small, Notes(), lambda logits: logits), None)
    assert_counts(found, exact(model), "texts that another model drafted")
