"""What every implementation of ``kvcache.sampling`` has to do."""

import itertools
import math
import re
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from kvcache.sampling import DEAD, TokenTable
from kvcache.sampling._regex import automaton

FAR = float("-inf")
DRAWS = 20_000
# Seeds are fixed, so a test that passes passes always; over all seeds each would raise a false alarm once in 10,000.
ALARM = 1e-4
ONE_SEED = pytest.mark.known("peer_transformers", reason="one generator serves the whole batch")


def logs(*rows: list[float], device: str = "cpu") -> Tensor:
    return torch.tensor(rows, device=device).log()


def kept(filtered: Tensor) -> list[list[int]]:
    return [(row > FAR).nonzero().flatten().tolist() for row in filtered]


Call = Callable[[Tensor], object]


def draws_of(impl: ModuleType) -> int:
    """Take fewer where rows are drawn one at a time."""
    return DRAWS // 5 if impl.__name__.endswith("baseline") else DRAWS


def assert_distribution(draws: Tensor, probabilities: Tensor, what: str) -> None:
    counts = torch.bincount(draws.cpu(), minlength=len(probabilities)).double()
    possible = probabilities > 0
    assert not counts[~possible].any(), f"{what}: a token of probability 0 was drawn"
    shares = probabilities[possible].cpu().double()
    expected = shares / shares.sum() * len(draws)
    pvalue = stats.chisquare(counts[possible].numpy(), expected.numpy()).pvalue
    assert pvalue > ALARM, f"{what}: counts {counts.tolist()[:8]}, expected {expected.tolist()[:8]}, p = {pvalue:.1e}"


# Filters


def test_top_k(impl: ModuleType, device: str) -> None:
    logits = torch.tensor([[1.0, 5.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]], device=device)
    found = impl.top_k(logits, 2)
    assert kept(found) == [[1, 3], [0, 1]], f"k = 2 keeps {kept(found)}"
    assert torch.equal(found[found > FAR], logits[found > FAR]), "what is kept must not change"
    assert kept(impl.top_k(logits, 9)) == [[0, 1, 2, 3]] * 2
    assert kept(impl.top_k(logits, 1)) == [[1], [0]]


@pytest.mark.parametrize(
    ("p", "wanted"), [(0.4, [1]), (0.49, [1]), (0.55, [1, 3]), (0.75, [1, 3]), (0.85, [0, 1, 3]), (1.0, [0, 1, 2, 3])]
)
def test_top_p_keeps_the_fewest_that_reach_p(impl: ModuleType, device: str, p: float, wanted: list[int]) -> None:
    logits = torch.tensor([[0.125, 0.5, 0.0625, 0.3125]], device=device).log()
    found = kept(impl.top_p(logits, p))[0]
    assert found == wanted, f"probabilities 0.125, 0.5, 0.0625, 0.3125 at p = {p} keep {found}, expected {wanted}"


def test_top_p_of_a_flat_vocabulary(impl: ModuleType, device: str) -> None:
    logits = torch.linspace(0, 0.01, 1000, device=device)[None].repeat(2, 1)
    logits[1, 3] = 20.0
    found = kept(impl.top_p(logits, 0.9))
    assert abs(len(found[0]) - 899) <= 3, f"900 of 1000 nearly equal tokens make 0.9, kept {len(found[0])}"
    assert found[1] == [3], "the peaked row beside it keeps one token"


def test_min_p_is_relative(impl: ModuleType, device: str) -> None:
    logits = logs([0.4, 0.25, 0.19, 0.16], [0.97, 0.01, 0.01, 0.01], device=device)
    found = kept(impl.min_p(logits, 0.5))
    assert found == [[0, 1], [0]], f"half as likely as the most likely: {found}"
    assert kept(impl.min_p(logits, 0.0)) == [[0, 1, 2, 3]] * 2


def test_the_penalty_works_on_both_signs_and_once(impl: ModuleType, device: str) -> None:
    logits = torch.tensor([[2.0, -2.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]], device=device)
    tokens = torch.tensor([[0, 1, 0], [3, 3, 3]], device=device)
    found = impl.repetition_penalty(logits, tokens, 2.0)
    assert found.tolist() == [[1.0, -4.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.5]], f"penalty 2: {found.tolist()}"
    assert logits[0, 0] == 2, "logits were changed in place"


@settings(max_examples=20)
@given(seed=st.integers(0, 999), p=st.floats(0.05, 0.99), k=st.integers(1, 40))
def test_filters_keep_the_likely(impl: ModuleType, device: str, seed: int, p: float, k: int) -> None:
    logits = torch.randn(3, 40, generator=torch.Generator().manual_seed(seed)).to(device) * 3
    for name, found in (("top_k", impl.top_k(logits, k)), ("top_p", impl.top_p(logits, p))):
        for row, filtered in zip(logits, found, strict=True):
            stays = filtered > FAR
            assert stays.any(), f"{name} left nothing"
            if not bool(stays.all()):
                assert row[stays].min() >= row[~stays].max(), f"{name} kept a token and dropped a likelier one"
    mass = (logits.softmax(-1) * (impl.top_p(logits, p) > FAR)).sum(-1)
    assert mass.min() >= p - 1e-5, f"top-p {p:.3f} kept a mass of {mass.min():.3f}"


# Drawing


def test_draws_follow_the_softmax(impl: ModuleType, device: str) -> None:
    probabilities = torch.tensor([0.5, 0.25, 0.125, 0.0, 0.1, 0.025])
    count = draws_of(impl)
    draws = impl.sample(probabilities.log().to(device).expand(count, -1), torch.arange(count, device=device), 0)
    assert draws.shape == (count,)
    assert_distribution(draws, probabilities, f"{count} seeds")


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature(impl: ModuleType, device: str, temperature: float) -> None:
    logits, count = torch.tensor([1.0, 0.0, -1.0, 2.0]), draws_of(impl)
    draws = impl.sample(logits.to(device).expand(count, -1), torch.arange(count, device=device), 3, temperature)
    assert_distribution(draws, (logits / temperature).softmax(0), f"temperature {temperature}")


def test_steps_of_one_request_are_independent(impl: ModuleType, device: str) -> None:
    logits, seed = torch.zeros(1, 4, device=device), torch.tensor([5], device=device)
    draws = torch.cat([impl.sample(logits, seed, step) for step in range(1000)])
    assert_distribution(draws, torch.full((4,), 0.25), "1000 steps of one seed")
    pairs = draws[:-1] * 4 + draws[1:]
    assert_distribution(pairs[::2], torch.full((16,), 1 / 16), "neighbouring steps")


@ONE_SEED
def test_a_row_does_not_notice_its_neighbours(impl: ModuleType, device: str) -> None:
    logits = torch.randn(64, 50, generator=torch.Generator().manual_seed(0)).to(device)
    seeds = torch.arange(100, 164, device=device)
    together = impl.sample(logits, seeds, 7)
    backwards = impl.sample(logits.flip(0), seeds.flip(0), 7).flip(0)
    alone = torch.cat([impl.sample(logits[i : i + 1], seeds[i : i + 1], 7) for i in range(64)])
    changed = (together != alone).sum().item()
    assert changed == 0, f"{changed} of 64 rows draw another token alone than in a batch"
    assert torch.equal(together, backwards), "the order of the rows changes what they draw"


def test_the_same_seed_and_step_repeat(impl: ModuleType, device: str) -> None:
    logits, seeds = torch.zeros(8, 1000, device=device), torch.arange(8, device=device)
    first = impl.sample(logits, seeds, 1)
    assert torch.equal(first, impl.sample(logits, seeds, 1)), "the same seeds and step drew other tokens"
    assert not torch.equal(first, impl.sample(logits, seeds, 2)), "another step drew the same tokens"
    assert not torch.equal(first, impl.sample(logits, seeds + 8, 1)), "other seeds drew the same tokens"


def test_temperature_zero_is_greedy(impl: ModuleType, device: str) -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [5.0, 3.0, FAR]], device=device)
    assert impl.sample(logits, torch.tensor([1, 2], device=device), 0, 0.0).tolist() == [1, 0]


def test_large_logits_do_not_overflow(impl: ModuleType, device: str) -> None:
    logits = torch.tensor([[1000.0, 0.0, 999.0]], device=device).expand(500, -1)
    draws = impl.sample(logits, torch.arange(500, device=device), 0, 0.5)
    assert_distribution(draws, torch.tensor([1 / (1 + math.exp(-2)), 0.0, 1 / (1 + math.exp(2))]), "logits of 1000")


@pytest.mark.only("starter", "solution")
def test_bad_input_is_refused(impl: ModuleType, device: str) -> None:
    good = torch.zeros(2, 3, device=device)
    seeds = torch.arange(2, device=device)
    calls: tuple[Call, ...] = (
        lambda x: impl.top_k(x, 1),
        lambda x: impl.top_p(x, 0.5),
        lambda x: impl.min_p(x, 0.5),
        lambda x: impl.repetition_penalty(x, seeds[:, None], 2.0),
        lambda x: impl.sample(x, seeds, 0),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"(?i)nan"):
            call(good * float("nan"))
        with pytest.raises(ValueError, match=r"[(\[]\d|shape|dim"):
            call(good[0])
        with pytest.raises(TypeError, match=r"logits|int64|float"):
            call(good.long())
    for p in (0.0, -0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"\bp\b"):
            impl.top_p(good, p)
    for p in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"\bp\b"):
            impl.min_p(good, p)
    with pytest.raises(ValueError, match=r"\bk\b"):
        impl.top_k(good, 0)
    with pytest.raises(ValueError, match="penalty"):
        impl.repetition_penalty(good, seeds[:, None], 0.0)
    with pytest.raises(ValueError, match=r"tokens|vocabulary"):
        impl.repetition_penalty(good, seeds[:, None] + 2, 1.5)
    with pytest.raises(ValueError, match=r"tokens|rows"):
        impl.repetition_penalty(good, seeds[:1, None], 1.5)
    with pytest.raises(ValueError, match="penalty"):
        impl.repetition_penalty(good, seeds[:, None], float("inf"))
    with pytest.raises(TypeError, match=r"tokens|int64"):
        impl.repetition_penalty(good, seeds[:, None].float(), 1.5)
    for temperature in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="temperature"):
            impl.sample(good, seeds, 0, temperature)
    with pytest.raises(ValueError, match="seeds"):
        impl.sample(good, seeds[:1], 0)
    with pytest.raises(ValueError, match=r"rows?|finite"):
        impl.sample(torch.tensor([[0.0, 1.0], [FAR, FAR]], device=device), seeds, 0)


# Beams


def table_of(seed: int, vocabulary: int = 4) -> Tensor:
    return torch.randn(vocabulary, vocabulary, generator=torch.Generator().manual_seed(seed)) * 2


def exhaustive(table: Tensor, start: int, length: int, eos: int, alpha: float) -> list[tuple[float, tuple[int, ...]]]:
    """Score every sequence of a Markov chain that ends with ``eos`` or at ``length``."""
    logp, found = table.double().log_softmax(-1), []
    for size in range(1, length + 1):
        for tokens in itertools.product(range(len(table)), repeat=size):
            if eos in tokens[:-1] or (size < length and tokens[-1] != eos):
                continue
            total = sum(float(logp[a, b]) for a, b in itertools.pairwise((start, *tokens)))
            found.append((total / size**alpha, tokens))
    return sorted(found, reverse=True)


@pytest.mark.stretch
@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(6))
def test_a_wide_beam_finds_the_best(impl: ModuleType, device: str, seed: int, alpha: float) -> None:
    table = table_of(seed)
    start = torch.tensor([2, 1], device=device)
    beams = impl.beam_search(lambda tokens: table.to(device)[tokens[:, -1]], start, 64, 3, 0, alpha)
    wanted = exhaustive(table, 1, 3, 0, alpha)
    for beam, (score, tokens) in zip(beams[:5], wanted[:5], strict=True):
        assert beam.tokens == tokens, f"alpha {alpha}: {beam.tokens} with {beam.score:.4f}, {tokens} has {score:.4f}"
        assert beam.score == pytest.approx(score, abs=1e-9)
    assert len(beams) == min(64, len(wanted))


@pytest.mark.stretch
def test_a_beam_of_one_is_greedy(impl: ModuleType, device: str) -> None:
    table = table_of(3, 6)
    table[:, 0] = -50.0  # no end
    [beam] = impl.beam_search(lambda t: table.to(device)[t[:, -1]], torch.tensor([1], device=device), 1, 5, 0)
    token, wanted = 1, []
    for _ in range(5):
        token = int(table[token].argmax())
        wanted.append(token)
    assert list(beam.tokens) == wanted


@pytest.mark.stretch
def test_an_ending_sequence_leaves_its_place(impl: ModuleType, device: str) -> None:
    # Token 0 ends. From 1 it is likeliest to end, but going on over 2 ends with a better mean.
    table = torch.full((3, 3), 1e-6)
    table[1], table[2] = torch.tensor([0.6, 0.01, 0.39]), torch.tensor([0.01, 0.0001, 0.9899])
    beams = impl.beam_search(lambda t: table.log().to(device)[t[:, -1]], torch.tensor([1], device=device), 1, 6, 0)
    assert beams[0].tokens == (2,) * 6, f"found {beams[0].tokens}: the place of the ended sequence was not given on"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_bad_beams_are_refused(impl: ModuleType, device: str) -> None:
    for width, length, words in ((0, 1, "width"), (1, 0, "length")):
        with pytest.raises(ValueError, match=words):
            impl.beam_search(lambda t: t.float(), torch.tensor([1], device=device), width, length, 0)
    for start in (torch.ones(1, 1, dtype=torch.int64), torch.ones(0, dtype=torch.int64)):
        with pytest.raises(ValueError, match="start"):
            impl.beam_search(lambda t: t.float(), start.to(device), 2, 3, 0)
    with pytest.raises(ValueError, match=r"(?i)nan"):
        impl.beam_search(lambda t: t.float() * float("nan"), torch.tensor([1], device=device), 2, 3, 0)


# Only what matches


ALPHABET = [
    b"",
    *(bytes([byte]) for byte in b'abc01".\n\xc3\xa9'),
    b"ab",
    b"ba",
    b"aab",
    b"10",
    b"",
    b"ab",
    "é".encode(),
]
EOS = 0
PATTERNS = [
    "(a|b)*abb",
    "a{2,4}",
    "[^a]b?",
    "(0|1[01]*)(\\.[01]+)?",
    "a?b?c?",
    "é+a",
    "\\d{3}|\\w",
    '"[^"]*"',
    ".",
    "(ab)+?",
]


def texts_of(table: TokenTable, tokens: list[bytes], most: int) -> set[bytes]:
    """Return all texts of at most ``most`` tokens that the table lets end."""
    found, waiting = set[bytes](), [(0, b"", 0)]
    while waiting:
        state, text, count = waiting.pop()
        for token in (table.after[state] != DEAD).nonzero()[:, 0].tolist():
            if token == EOS:
                found.add(text)
            elif count < most:
                waiting.append((int(table.after[state, token]), text + tokens[token], count + 1))
    return found


def matches(pattern: str, text: bytes) -> bool:
    try:
        return re.fullmatch(pattern, text.decode(), re.ASCII) is not None
    except UnicodeDecodeError:
        return False


@pytest.mark.stretch
@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_table_lets_exactly_the_matches_end(impl: ModuleType, pattern: str) -> None:
    found = texts_of(impl.token_table(automaton(pattern), ALPHABET, EOS), ALPHABET, 3)
    every = {b"".join(parts) for n in range(4) for parts in itertools.product(filter(None, set(ALPHABET)), repeat=n)}
    wanted = {text for text in every if matches(pattern, text)}
    assert found == wanted, f"{pattern}: {sorted(found - wanted)[:3]} too many, {sorted(wanted - found)[:3]} missing"


@pytest.mark.stretch
def test_nothing_that_cannot_end_is_begun(impl: ModuleType) -> None:
    tokens = [b"", b"a", b"b", b"ax"]
    table = impl.token_table(automaton("b|aa*x|(ac)"), tokens, EOS)
    assert (table.after[0] != DEAD).tolist() == [False, True, True, True]
    table = impl.token_table(automaton("b|acx*"), tokens, EOS)  # no token writes a c, so nothing may begin with a
    assert (table.after[0] != DEAD).tolist() == [False, False, True, False], "a text was begun that cannot end"


@pytest.mark.stretch
def test_tokens_that_spell_the_same_all_come(impl: ModuleType) -> None:
    table = impl.token_table(automaton("ab"), [b"", b"a", b"ab", b"b", b"ab", b"a"], EOS)
    assert (table.after[0] != DEAD).tolist() == [False, True, True, False, True, True]


@pytest.mark.stretch
@pytest.mark.only("starter", "solution", "baseline")
def test_what_is_needed_is_counted(impl: ModuleType) -> None:
    table = impl.token_table(automaton("a{5}b*"), [b"", b"a", b"b", b"aaa"], EOS)
    state = int(table.after[0, 1])  # behind a: aaa, a, end
    assert (int(table.needed[0]), int(table.needed[state])) == (4, 3), f"needed {table.needed.tolist()}"
    assert int(table.needed[-1]) == 0, "nothing is needed behind the end"
    assert table.after[-1].tolist() == [len(table.after) - 1, DEAD, DEAD, DEAD], "what has ended stays so"
    assert table.after.shape[1] == 4


@pytest.mark.stretch
@pytest.mark.only("starter", "solution", "baseline")
def test_logits_are_masked_by_state(impl: ModuleType, device: str) -> None:
    table = impl.token_table(automaton("a{5}b*"), [b"", b"a", b"b", b"aaa"], EOS)
    states = torch.tensor([0, len(table.after) - 1, int(table.after[0, 3])], device=device)
    logits = torch.arange(12.0, device=device).view(3, 4)
    before = logits.clone()
    found = impl.constrain(logits, table, states)
    assert kept(found) == [[1, 3], [0], [1]], f"start, end, behind aaa: {kept(found)}"
    assert torch.equal(found[found > FAR], logits[found > FAR])
    assert torch.equal(logits, before), "logits were changed in place"
    assert kept(impl.constrain(logits[:1], table, states[:1], 5)) == [[1, 3]]
    assert kept(impl.constrain(logits[:1], table, states[:1], 4)) == [[1, 3]]  # a, aaa, a, end
    two = impl.token_table(automaton("a|bbb"), [b"", b"a", b"b", b"c"], EOS)
    assert kept(impl.constrain(logits[:1], two, states[:1], 4)) == [[1, 2]]
    assert kept(impl.constrain(logits[:1], two, states[:1], 3)) == [[1]], "b b b and the end are 4 tokens, 3 are left"


PIECES = st.recursive(
    st.sampled_from(["a", "b", "0", "[ab]", "[^a]", ".", "\\d", "\\w", "é", "ab", "[a-é]"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda ab: f"({ab[0]}|{ab[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "*?", "{0,2}"])).map(
            lambda ab: f"({ab[0]}){ab[1]}"
        ),
    ),
    max_leaves=6,
)


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
@settings(max_examples=40, deadline=None)
@given(pattern=PIECES, seed=st.integers(0, 999), spare=st.integers(0, 6))
def test_every_drawn_text_matches(impl: ModuleType, pattern: str, seed: int, spare: int) -> None:
    tokens = [b"", *(bytes([byte]) for byte in range(256)), b"ab", b"aa", b"0a", "éa".encode(), b"\xa9b"]
    table = impl.token_table(automaton(pattern), tokens, EOS)
    budget, state, text = int(table.needed[0]) + spare, 0, b""
    for step in range(budget):
        logits = torch.randn(1, len(tokens), generator=torch.Generator().manual_seed(seed + step))
        logits[0, EOS] = -50.0  # never likely: it must come by force
        masked = impl.constrain(logits, table, torch.tensor([state]), budget - step)
        assert bool((masked > FAR).any()), f"{pattern}: nothing may follow {text!r}"
        token = int(masked.argmax())
        if token == EOS:
            break
        state, text = int(table.after[state, token]), text + tokens[token]
    else:
        pytest.fail(f"{pattern}: {text!r} did not end within {budget} tokens")
    assert matches(pattern, text), f"{pattern} does not match {text!r}"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_bad_constraints_are_refused(impl: ModuleType, device: str) -> None:
    tokens = [b"", b"a"]
    table = impl.token_table(automaton("aaa"), tokens, EOS)
    with pytest.raises(ValueError, match="eos"):
        impl.token_table(automaton("a"), tokens, 2)
    with pytest.raises(ValueError, match=r"match|ab"):
        impl.token_table(automaton("ab"), tokens, EOS)
    good, start = torch.zeros(1, 2, device=device), torch.zeros(1, dtype=torch.int64, device=device)
    for logits, states in ((good, start[:0]), (torch.zeros(1, 3, device=device), start)):
        with pytest.raises(ValueError, match=r"states|logits|vocabulary|[(\[]\d"):
            impl.constrain(logits, table, states)
    with pytest.raises(ValueError, match=r"states?"):
        impl.constrain(good, table, start + 9)
    with pytest.raises(ValueError, match=r"left|3"):
        impl.constrain(good, table, start, 3)
    with pytest.raises(ValueError, match=r"(?i)nan"):
        impl.constrain(good * float("nan"), table, start)
