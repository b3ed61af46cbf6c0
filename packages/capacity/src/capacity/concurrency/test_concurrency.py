"""What every implementation of ``capacity.concurrency`` has to do."""

from dataclasses import replace
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity import zoo
from capacity.caching.solution import request_bytes
from capacity.concurrency import Fit
from capacity.gpus import Gpu, gpu
from capacity.weights import Model, Precision
from capacity.weights.solution import weight_bytes

BF16, FP8 = Precision.named("bf16"), Precision.named("fp8")
SMALL = Model(layers=4, hidden=64, heads=8, kv_heads=2, head_dim=8, intermediate=100, vocab=1000)
WEIGHTS, TOKEN = weight_bytes(SMALL, BF16), 256  # bytes of a token of SMALL
LLAMA = zoo.load("llama-3.1-8b")


def card(memory: int) -> Gpu:
    return Gpu("a card", memory, 1e12, 1e11, {"bf16": 1e14})


def says(found: Fit, requests: int, typical: int, binding: str) -> None:
    given_back = (found.requests, found.typical, found.binding)
    assert given_back == (requests, typical, binding), (
        f"(requests at full length, at average length, what binds) should be {(requests, typical, binding)}, "
        f"not {given_back}"
    )


def test_memory_is_spent_on_four_things(impl: ModuleType) -> None:
    found = impl.budget(SMALL, card(10_000_000), BF16, 1, 0.1)
    assert (found.total, found.held, found.weights) == (10_000_000, 1_000_000, WEIGHTS)
    assert found.cache == 9_000_000 - WEIGHTS, f"9,000,000 - {WEIGHTS:,} are left for the cache, not {found.cache:,}"


def test_weights_are_shared_out(impl: ModuleType) -> None:
    found = impl.budget(SMALL, card(10_000_000), BF16, 4)
    assert found.weights == -(-WEIGHTS // 4), f"a quarter of {WEIGHTS:,} is on each of 4 GPUs, not {found.weights:,}"


def test_requests_at_full_and_at_average_length(impl: ModuleType) -> None:
    # 1,600 slots: 10 requests of 96 + 64 tokens; at 96 + 32 tokens, 12
    room = card(WEIGHTS + 1600 * TOKEN)
    says(impl.fit(SMALL, room, BF16, 96, 64, held=0.0), 10, 12, "memory")
    says(impl.fit(SMALL, card(WEIGHTS + 1600 * TOKEN - 1), BF16, 96, 64, held=0.0), 9, 12, "memory")


def test_requests_take_whole_blocks(impl: ModuleType) -> None:
    room = card(WEIGHTS + 1600 * TOKEN)
    says(impl.fit(SMALL, room, BF16, 97, 64, held=0.0), 9, 11, "memory")  # 176 and 144 slots
    says(impl.fit(SMALL, room, BF16, 97, 64, held=0.0, block=1), 9, 12, "memory")  # 161 and 129


def test_the_scheduler_has_seats(impl: ModuleType) -> None:
    room = card(WEIGHTS + 1600 * TOKEN)
    says(impl.fit(SMALL, room, BF16, 96, 64, held=0.0, seats=4), 4, 4, "seats")
    says(impl.fit(SMALL, room, BF16, 96, 64, held=0.0, seats=11), 10, 11, "memory")
    says(impl.fit(SMALL, room, BF16, 96, 64, held=0.0, seats=10), 10, 10, "seats")


def test_a_model_that_does_not_fit(impl: ModuleType) -> None:
    found = impl.fit(SMALL, card(WEIGHTS - 1000), BF16, 96, 64, held=0.0)
    says(found, 0, 0, "weights")
    assert found.short == 1000 + 160 * TOKEN, (
        f"1,000 for weights and {160 * TOKEN:,} for one request, not {found.short:,}"
    )


def test_no_room_for_one_request(impl: ModuleType) -> None:
    found = impl.fit(SMALL, card(WEIGHTS + 150 * TOKEN), BF16, 96, 64, held=0.0)
    says(found, 0, 0, "memory")
    assert found.short == 10 * TOKEN, f"10 tokens of {TOKEN} are short, not {found.short:,} bytes"


def test_requests_longer_than_the_context(impl: ModuleType) -> None:
    says(impl.fit(replace(SMALL, context=159), card(10_000_000), BF16, 96, 64), 0, 0, "context")
    assert impl.fit(replace(SMALL, context=160), card(10_000_000), BF16, 96, 64).requests > 0


def test_what_is_held_back(impl: ModuleType) -> None:
    less, more = (impl.fit(LLAMA, gpu("h100"), BF16, 1000, 1000, held=held).requests for held in (0.2, 0.1))
    assert less < more, f"{less} requests with 20 % held back, {more} with 10 %"


@pytest.mark.parametrize(("precision", "least", "most"), [(BF16, 226, 234), (FP8, 510, 526)])
def test_an_8b_model_on_an_h100(impl: ModuleType, precision: Precision, least: int, most: int) -> None:
    # (79.65 GiB * 0.9 - weights) over 2,000 tokens
    found = impl.fit(LLAMA, gpu("h100"), precision, 1000, 1000)
    assert least <= found.requests <= most, f"{found.requests} requests fit, {least} to {most} by hand"
    assert found.short == 0


def test_seventy_billion_need_more_than_one(impl: ModuleType) -> None:
    llama = zoo.load("llama-3.1-70b")
    one, four = (impl.fit(llama, gpu("h100"), BF16, 1000, 1000, gpus) for gpus in (1, 4))
    assert (one.binding, one.requests) == ("weights", 0)
    assert 60e9 < one.short < 75e9, f"141 GB of weights on one card: {one.short / 1e9:.1f} GB short"
    assert 200 < four.requests < 260, f"{four.requests} requests on four cards"


@settings(max_examples=30)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 64), st.integers(1, 3_000_000))
def test_what_fits_fits_and_one_more_does_not(
    impl: ModuleType, prompt: int, output: int, block: int, room: int
) -> None:
    found = impl.fit(SMALL, card(WEIGHTS + room), BF16, prompt, output, held=0.0, block=block)
    each = request_bytes(SMALL, prompt + output, block)
    assert found.requests * each <= room, f"{found.requests} requests of {each:,} bytes in {room:,}"
    assert (found.requests + 1) * each > room, f"one more than {found.requests} of {each:,} bytes fits in {room:,}"
    assert found.typical >= found.requests or found.requests == 0
    assert (found.short > 0) == (found.requests == 0)


@pytest.mark.only("starter", "solution")
def test_impossible_questions(impl: ModuleType) -> None:
    with pytest.raises(ValueError, match="gpus must be at least 1"):
        impl.budget(SMALL, card(1), BF16, 0)
    with pytest.raises(ValueError, match="held at least 0 and below 1"):
        impl.budget(SMALL, card(1), BF16, 1, 1.0)
    for prompt, output, seats in ((0, 1, None), (1, 0, None), (1, 1, 0)):
        with pytest.raises(ValueError, match="prompt, output and seats must be at least 1"):
            impl.fit(SMALL, card(1), BF16, prompt, output, seats=seats)


# Stretch


@pytest.mark.stretch
def test_the_fewest_gpus(impl: ModuleType) -> None:
    llama = zoo.load("llama-3.1-70b")
    for plan, requests, wanted in ((FP8, 1, 1), (FP8, 100, 2), (BF16, 1, 2), (BF16, 100, 4)):
        found = impl.fewest_gpus(llama, gpu("h100"), plan, 1000, 1000, requests)
        assert found == wanted, f"70B in {plan.linear} bits, {requests} requests: {wanted} H100, not {found}"


@pytest.mark.stretch
def test_only_numbers_that_share_the_heads(impl: ModuleType) -> None:
    # 12 heads, 4 of keys: 1, 2 and 4 GPUs hold whole KV heads, 3 do not, 12 hold copies
    model = replace(SMALL, heads=12, kv_heads=4)
    weights = weight_bytes(model, BF16)
    found = impl.fewest_gpus(model, card(weights // 3 + 20_000), BF16, 16, 16, 1, held=0.0)
    assert found == 4, f"3 GPUs have the memory but cannot share 4 KV heads: 4 are needed, not {found}"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_too_much_for_any_number(impl: ModuleType) -> None:
    with pytest.raises(ValueError, match="fit on no number of a card up to 64: memory"):
        impl.fewest_gpus(SMALL, card(2 * WEIGHTS), BF16, 96, 64, 10**9)
    with pytest.raises(ValueError, match="context"):
        impl.fewest_gpus(replace(SMALL, context=100), card(2 * WEIGHTS), BF16, 96, 64, 1)
