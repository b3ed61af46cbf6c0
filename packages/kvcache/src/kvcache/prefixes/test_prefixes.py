"""What every implementation of ``kvcache.prefixes`` has to do."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from kvcache.paging.solution import BlockPool
from kvcache.prefixes import Hit

SIZE = 4
KINDS = pytest.mark.parametrize("kind", ["HashChain", pytest.param("RadixTree", marks=pytest.mark.stretch)])


def index_of(impl: ModuleType, kind: str, blocks: int = 32, **options: Any) -> tuple[Any, BlockPool]:
    """Return an empty index over a pool of its own."""
    pool = BlockPool(blocks)
    return getattr(impl, kind)(pool, SIZE, **options), pool


def text(*blocks: int, tail: int = 0) -> list[int]:
    """Write blocks of tokens, one letter for each block, and ``tail`` tokens that fill none."""
    return [10 * block + i for block in blocks for i in range(SIZE)] + [-1] * tail


def serve(index: Any, pool: BlockPool, tokens: list[int], tenant: str = "") -> list[int]:
    """Do what a request does: match, take blocks for the rest, compute, offer. The caller releases."""
    hit = index.match(tokens, tenant)
    table = [*hit.blocks, *pool.alloc(-(-len(tokens) // SIZE) - len(hit.blocks))]
    index.insert(tokens, table, tenant)
    return table


def done(pool: BlockPool, table: list[int]) -> None:
    for block in table:
        pool.release(block)


def cached(index: Any, pool: BlockPool, tokens: list[int], tenant: str = "") -> int:
    """Count the blocks of ``tokens`` that are cached."""
    hit = index.match(tokens, tenant)
    done(pool, list(hit.blocks))
    return len(hit.blocks)


@KINDS
def test_nothing_is_known_at_first(impl: ModuleType, kind: str) -> None:
    index, pool = index_of(impl, kind)
    assert index.match(text(1, 2)) == Hit((), 0)
    assert (index.held, pool.free) == (0, 32)


@KINDS
def test_the_longest_prefix_is_found(impl: ModuleType, kind: str) -> None:
    index, pool = index_of(impl, kind)
    first = serve(index, pool, text(1, 2, 3, tail=2))
    assert index.held == 3, f"14 tokens fill 3 blocks of 4, the cache holds {index.held}"
    for tokens, count in (
        ([*text(1), 20, 21, 22, 99], 1),  # leaves in the middle of a block
        (text(1, 2, 5), 2),
        (text(1, 2, 3, 4), 3),
        (text(1, 2, 4), 2),
        (text(1, 2, tail=3), 2),
        (text(1, 3), 1),
        (text(2, 3), 0),
    ):
        hit = index.match(tokens)
        assert hit.blocks == tuple(first[:count]), f"{tokens} begins with blocks {first[:count]}, found {hit.blocks}"
        assert hit.length == count * SIZE
        done(pool, list(hit.blocks))


@KINDS
def test_a_full_hit_leaves_one_token_to_compute(impl: ModuleType, kind: str) -> None:
    index, pool = index_of(impl, kind)
    table = serve(index, pool, text(1, 2))
    hit = index.match(text(1, 2))
    assert hit == Hit(tuple(table), 7), f"8 tokens, all cached: 7 need not be computed, got {hit}"
    one = index.match(text(1)[:1])
    assert one == Hit((), 0)
    assert index.match(text(1)) == Hit((table[0],), 3)


@KINDS
def test_a_hit_holds_its_blocks(impl: ModuleType, kind: str) -> None:
    index, pool = index_of(impl, kind)
    table = serve(index, pool, text(1, 2))
    assert [pool.references(block) for block in table] == [2, 2], "the request and the cache hold each block"
    index.match(text(1, 2, 3))
    assert [pool.references(block) for block in table] == [3, 3], "a hit adds an owner"
    done(pool, table)
    done(pool, table)
    assert [pool.references(block) for block in table] == [1, 1]
    assert pool.free == 30, "what the cache knows stays in the pool when requests end"


@KINDS
def test_known_blocks_are_not_taken_twice(impl: ModuleType, kind: str) -> None:
    index, pool = index_of(impl, kind)
    first, second = pool.alloc(3), pool.alloc(3)  # two requests that computed the same at the same time
    assert index.insert(text(1, 2, 3), first) == 3
    assert index.insert(text(1, 2, 4), second) == 1
    assert index.held == 4
    done(pool, second)
    assert [pool.references(block) for block in second] == [0, 0, 1], "of the second only its last block is new"
    hit = index.match(text(1, 2, 4))
    assert hit.blocks == (*first[:2], second[2])


@KINDS
def test_a_conversation_goes_on(impl: ModuleType, kind: str) -> None:
    index, pool = index_of(impl, kind)
    for turns in range(1, 6):
        table = serve(index, pool, text(*range(turns), tail=1))
        done(pool, table)
        assert index.held == turns, f"after {turns} turns of a block the cache holds {index.held}"
    assert cached(index, pool, text(*range(9))) == 5


@KINDS
def test_tenants_do_not_meet(impl: ModuleType, kind: str) -> None:
    index, pool = index_of(impl, kind)
    table = serve(index, pool, text(1, 2), "ann")
    assert index.match(text(1, 2, 3), "bob") == Hit((), 0), "a tenant found what another computed"
    assert index.match(text(1, 2, 3)) == Hit((), 0)
    other = serve(index, pool, text(1, 2), "bob")
    assert not set(other) & set(table)
    assert index.match(text(1, 2, 3), "ann").blocks == tuple(table)


@pytest.mark.parametrize("digest", [lambda parent, tokens: 0, lambda parent, tokens: sum(tokens) % 3])
def test_collisions_survive(impl: ModuleType, digest: Any) -> None:
    index, pool = index_of(impl, "HashChain", digest=digest)
    # The same block behind another one, blocks in another order, the same text of another tenant.
    texts = [(text(1, 2, 3), ""), (text(2, 1, 3), ""), (text(3, 2), ""), (text(1, 2, 3), "ann"), (text(3), "bob")]
    tables = [serve(index, pool, tokens, tenant) for tokens, tenant in texts]
    assert len({block for table in tables for block in table}) == 12, "different prefixes share a block"
    for (tokens, tenant), table in zip(texts, tables, strict=True):
        found = index.match([*tokens, 99], tenant).blocks
        assert found == tuple(table), f"with a hash that collides {tokens} of {tenant!r} found {found}, not {table}"
    assert index.match(text(2, 3, 1)).blocks == tuple(tables[1][:1])


@KINDS
@pytest.mark.parametrize(
    ("count", "left"),
    [(0, (2, 2, 2)), (1, (1, 2, 2)), (2, (1, 1, 2)), (3, (0, 0, 2)), (4, (0, 0, 1)), (5, (0, 0, 0)), (6, (0, 0, 0))],
)
def test_the_least_recently_used_leaf_goes_first(
    impl: ModuleType, kind: str, count: int, left: tuple[int, int, int]
) -> None:
    index, pool = index_of(impl, kind)
    for tokens in (text(1, 2), text(3, 4), text(1, 5)):
        done(pool, serve(index, pool, tokens))
    assert cached(index, pool, text(3, 4)) == 2  # used again, so the end of (1, 2) is the oldest
    freed = index.evict(count)
    assert freed == min(count, 5), f"5 blocks are cached, evict({count}) returned {freed}"
    assert (index.held, pool.free) == (5 - freed, 27 + freed)
    found = tuple(cached(index, pool, tokens) for tokens in (text(1, 2), text(1, 5), text(3, 4)))
    assert found == left, f"after evict({count}) of (1, 2), (1, 5), (3, 4) {found} blocks are left, expected {left}"


@KINDS
def test_a_forgotten_block_can_be_learnt_again(impl: ModuleType, kind: str) -> None:
    index, pool = index_of(impl, kind)
    done(pool, serve(index, pool, text(1, 2, 3, 4)))
    assert index.evict(2) == 2
    assert cached(index, pool, text(1, 2, 3, 4)) == 2
    table = serve(index, pool, text(1, 2, 3, 5))
    assert index.held == 4
    assert index.match(text(1, 2, 3, 4)).blocks == tuple(table[:3])


@KINDS
def test_what_is_in_use_is_never_evicted(impl: ModuleType, kind: str) -> None:
    index, pool = index_of(impl, kind)
    busy = serve(index, pool, text(1, 2))
    done(pool, serve(index, pool, text(1, 2, 3)))
    done(pool, serve(index, pool, text(4)))
    assert index.evict(99) == 2, "3 behind the request's (1, 2), and 4, are nobody's"
    assert (index.held, pool.free) == (2, 30)
    assert index.evict(1) == 0
    assert cached(index, pool, text(1, 2)) == 2
    done(pool, busy)
    assert index.evict(99) == 2
    assert (index.held, pool.free) == (0, 32)


@KINDS
def test_an_odd_holder_keeps_what_is_before_its_block(impl: ModuleType, kind: str) -> None:
    index, pool = index_of(impl, kind)
    table = serve(index, pool, text(1, 2, 3))
    done(pool, [table[0], table[2]])  # only the middle one is held
    assert index.evict(99) == 1, "a block in use was lost, or one that it goes on from"
    assert cached(index, pool, text(1, 2, 3)) == 2


Key = tuple[str, tuple[int, ...]]
TOTAL = 12


def prefixes(tokens: list[int], tenant: str) -> list[Key]:
    return [(tenant, tuple(tokens[:stop])) for stop in range(SIZE, len(tokens) + 1, SIZE)]


class Requests(RuleBasedStateMachine):
    """Requests come and go; the oracle is the set of cached prefixes and what was written into each block."""

    make: Callable[[], tuple[Any, BlockPool]]

    def __init__(self) -> None:
        super().__init__()
        self.index, self.pool = type(self).make()
        self.running: list[list[int]] = []
        self.known = set[Key]()
        self.content: dict[int, Key] = {}

    @rule(
        blocks=st.lists(st.integers(1, 3), min_size=1, max_size=4),
        tail=st.integers(0, 2),
        tenant=st.sampled_from(["", "ann"]),
    )
    def request(self, blocks: list[int], tail: int, tenant: str) -> None:
        tokens = text(*blocks, tail=tail)
        keys = prefixes(tokens, tenant)
        hit = self.index.match(tokens, tenant)
        wanted = next((i for i, key in enumerate(keys) if key not in self.known), len(keys))
        assert len(hit.blocks) == wanted, f"{tokens}: {wanted} blocks are known, {len(hit.blocks)} found"
        for block, key in zip(hit.blocks, keys, strict=False):
            assert self.content[block] == key, f"block {block} of {tokens} holds {self.content[block]}"
        missing = -(-len(tokens) // SIZE) - len(hit.blocks)
        self.running.append(list(hit.blocks))
        if missing > self.pool.free:
            self.evict(missing - self.pool.free)
        if missing > self.pool.free:
            done(self.pool, self.running.pop())
            return
        self.running[-1] += self.pool.alloc(missing)
        self.content |= zip(self.running[-1][wanted:], keys[wanted:], strict=False)
        taken = self.index.insert(tokens, self.running[-1], tenant)
        assert taken == len(keys) - wanted, f"{tokens}: {wanted} blocks are known, {taken} were taken"
        self.known |= set(keys)

    @precondition(lambda self: self.running)
    @rule(pick=st.integers(0, 99))
    def finish(self, pick: int) -> None:
        done(self.pool, self.running.pop(pick % len(self.running)))

    @rule(count=st.integers(1, 6))
    def evict(self, count: int) -> None:
        used = {block for table in self.running for block in table}
        before, loose = self.pool.free, sum(self.pool.references(block) == 1 for block in set(range(TOTAL)) - used)
        freed = self.index.evict(count)
        assert freed == min(count, loose), f"evict({count}) gave {freed}, {loose} blocks are nobody's"
        assert self.pool.free == before + freed
        left = {
            (tenant, tokens)
            for tenant, tokens in self.known
            if cached(self.index, self.pool, list(tokens), tenant) * SIZE == len(tokens)
        }
        assert len(left) == len(self.known) - freed, f"{len(self.known)} cached, {freed} evicted, {len(left)} left"
        self.known = left

    @invariant()
    def adds_up(self) -> None:
        owners = [sum(table.count(block) for table in self.running) for block in range(TOTAL)]
        references = [self.pool.references(block) for block in range(TOTAL)]
        extra = [r - o for r, o in zip(references, owners, strict=True)]
        assert set(extra) <= {0, 1}, f"references {references}, of requests {owners}: the cache holds a block once"
        assert sum(extra) == len(self.known) == self.index.held, (
            f"{len(self.known)} prefixes are known, held is {self.index.held}, {sum(extra)} references are the cache's"
        )
        assert self.pool.free == references.count(0)


@KINDS
def test_any_sequence_of_requests_adds_up(impl: ModuleType, kind: str) -> None:
    options = {"digest": lambda parent, tokens: sum(tokens) % 2} if kind == "HashChain" else {}

    class Machine(Requests):
        make = staticmethod(lambda: index_of(impl, kind, TOTAL, **options))

    run_state_machine_as_test(Machine, settings=settings(max_examples=15, stateful_step_count=15))


@KINDS
@pytest.mark.only("starter", "solution")
def test_bad_input_is_refused(impl: ModuleType, kind: str) -> None:
    index, pool = index_of(impl, kind)
    with pytest.raises(ValueError, match=r"token|empty"):
        index.match([])
    with pytest.raises(ValueError, match="block"):
        index.insert(text(1, 2, tail=1), pool.alloc(1))
    with pytest.raises(ValueError, match=r"30|held"):
        index.insert(text(1), [30])
    assert index.held == 0
    with pytest.raises(ValueError, match="block_size"):
        getattr(impl, kind)(pool, 0)
