"""What every implementation of ``capacity.serving`` has to do."""

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity.serving import Server, Trace, Workload

SERVER = Server(step=0.010, token=0.001, context=1e-6, prompt=1e-4, blocks=1000, seats=8, chunk=512)
ROUNDING = 1e-9  # relative: thousands of sums in float64


def near(what: str, found: float, wanted: float, within: float = ROUNDING) -> None:
    assert found == pytest.approx(wanted, rel=within), f"{what}: {found:.9g} s came back, {wanted:.9g} expected"


def alone(prompt: int, output: int) -> tuple[float, float]:
    """Seconds to the first and to the last token of a request that nothing disturbs."""
    chunks = -(-prompt // SERVER.chunk)
    first = chunks * SERVER.step + prompt * SERVER.prompt
    rest = sum(SERVER.step + SERVER.token + SERVER.context * (prompt + made) for made in range(1, output))
    return first, first + rest


def test_the_seconds_of_a_step(impl: ModuleType) -> None:
    near("nothing but itself", impl.step_seconds(SERVER, 0, 0, 0), 0.010)
    near("100 prompt tokens, 3 requests with 2,000 tokens", impl.step_seconds(SERVER, 100, 3, 2000), 0.025)


@pytest.mark.parametrize(("prompt", "output"), [(100, 1), (100, 2), (512, 50), (513, 50), (3000, 7)])
def test_one_request_is_exact(impl: ModuleType, prompt: int, output: int) -> None:
    found = impl.simulate(SERVER, Workload(1, prompt, output, concurrency=1))
    first, last = alone(prompt, output)
    near(f"first token after {prompt}", found.first[0] - found.arrival[0], first)
    near(f"last of {output} tokens", found.finish[0] - found.arrival[0], last)


def test_users_send_one_after_the_other(impl: ModuleType) -> None:
    found = impl.simulate(SERVER, Workload(5, 100, 20, concurrency=1))
    near("five in a row", found.finish[4], 5 * alone(100, 20)[1])
    assert list(found.arrival[1:]) == list(found.finish[:4]), "each arrives when the last is answered"


def test_two_requests_share_steps(impl: ModuleType) -> None:
    # Both prompts fit in one step; then two steps with both; 100 tokens each, 1 and 2 more.
    found = impl.simulate(SERVER, Workload(2, 100, 3, concurrency=2))
    first = 0.010 + 200 * 1e-4
    near("both first tokens", found.first[1], first)
    near("both last tokens", found.finish[0], first + 2 * 0.012 + 1e-6 * (2 * 101 + 2 * 102))


def test_prompts_are_read_while_others_decode(impl: ModuleType) -> None:
    # Two seats; a step reads 512 tokens: the first prompt and 112 of the second, whose rest goes with a decoded token.
    found = impl.simulate(SERVER, Workload(2, 400, 2, concurrency=2))
    near("first prompt, part of the second", found.first[0], 0.010 + 512e-4)
    second = found.first[0] + 0.010 + 288e-4 + 0.001 + 401e-6
    near("rest of the second with a token of the first", found.first[1], second)
    near("the first request's last token", found.finish[0], second)


def test_without_chunks_a_prompt_is_one_step(impl: ModuleType) -> None:
    found = impl.simulate(replace(SERVER, chunk=0), Workload(1, 3000, 1, concurrency=1))
    near("3,000 tokens at once", found.first[0], 0.010 + 0.3)


def busy_run(impl: ModuleType) -> Trace:
    found: Trace = impl.simulate(SERVER, Workload(300, 200, 30, rate=8.0, lengths="geometric"), 3)
    return found


def test_tokens_and_blocks_are_conserved(impl: ModuleType) -> None:
    found = busy_run(impl)
    assert found.tokens == found.outputs.sum(), f"{found.tokens} tokens made, {found.outputs.sum()} asked for"
    assert found.held == 0, f"{found.held} blocks are still held at the end"
    assert found.peak >= max(-(-(found.prompts + found.outputs) // 16)), f"only {found.peak} blocks were ever held"


def test_time_goes_forward(impl: ModuleType) -> None:
    found = busy_run(impl)
    assert (found.arrival <= found.admitted).all()
    assert (found.admitted < found.first).all()
    assert (found.first <= found.finish).all()
    assert (np.diff(found.admitted) >= 0).all(), "somebody was admitted before an earlier arrival"
    assert found.busy <= found.finish.max()


def test_littles_law(impl: ModuleType) -> None:
    found = impl.simulate(replace(SERVER, seats=2), Workload(300, 200, 30, rate=8.0, lengths="geometric"), 3)
    seconds = float(found.finish.max())
    waiting, wanted = found.area / seconds, len(found.arrival) / seconds * float((found.finish - found.arrival).mean())
    assert waiting == pytest.approx(wanted, rel=0.01), f"{waiting:.4g} in the system, rate times time is {wanted:.4g}"


def test_there_are_so_many_seats(impl: ModuleType) -> None:
    found = impl.simulate(replace(SERVER, seats=3), Workload(40, 100, 10, concurrency=10))
    assert found.most == 3, f"{found.most} requests ran at once on 3 seats"


def test_blocks_are_reserved_for_the_full_length(impl: ModuleType) -> None:
    # 110 tokens are 7 blocks: 20 blocks hold two requests
    found = impl.simulate(replace(SERVER, blocks=20), Workload(40, 100, 10, concurrency=10))
    assert (found.most, found.peak) == (2, 14), f"{found.most} requests held {found.peak} of 20 blocks, 7 each"


@pytest.mark.parametrize(
    "workload", [Workload(50, 40, 9, rate=20.0, lengths="geometric"), Workload(9, 40, 9, rate=1.0)]
)
def test_the_seed_decides(impl: ModuleType, workload: Workload) -> None:
    one, two, other = (impl.simulate(SERVER, workload, seed).finish for seed in (1, 1, 2))
    assert (one == two).all()
    assert (one != other).any()


@settings(max_examples=15)
@given(st.integers(1, 12), st.integers(0, 300), st.integers(8, 60), st.integers(1, 30), st.integers(0, 99))
def test_every_server_answers_everybody(
    impl: ModuleType, seats: int, chunk: int, blocks: int, output: int, seed: int
) -> None:
    server = replace(SERVER, seats=seats, chunk=chunk, blocks=blocks)
    found = impl.simulate(server, Workload(20, 90, output, rate=30.0), seed)
    assert found.tokens == 20 * output
    assert found.held == 0
    assert found.peak <= blocks
    assert found.most <= seats
    slowest = float((found.finish - found.admitted).min())
    assert slowest >= alone(90, output)[1] * (1 - ROUNDING) or chunk, f"{slowest} s is faster than alone"


@pytest.mark.only("starter", "solution")
def test_a_queue_with_one_server(impl: ModuleType) -> None:
    # One seat and work that is all prompt, geometric: M/M/1 at load 1/2. The mean wait is 1 service; over n requests
    # its standard error is sqrt(29 / n) (Daley 1968): 4 of them are off once in 16,000 seeds.
    n, service = 20_000, 0.1
    server = Server(step=1e-9, prompt=service / 1000, seats=1)
    found = impl.simulate(server, Workload(n, 1000, 1, rate=0.5 / service, lengths="geometric"), 5)
    wait = float((found.admitted - found.arrival).mean()) / service
    assert abs(wait - 1) < 4 * (29 / n) ** 0.5, f"M/M/1 at load 0.5 waits 1 service on average, not {wait:.3f}"


@pytest.mark.only("starter", "solution")
def test_a_queue_with_several_servers(impl: ModuleType) -> None:
    # Four seats, steps that take the same however many decode: M/M/4 at load 0.7. Erlang C says who waits.
    n, rate, mean = 20_000, 2.8, 500
    found = impl.simulate(Server(step=1 / mean, seats=4), Workload(n, 1, mean, rate=rate, lengths="geometric"), 6)
    waited = float((found.admitted - found.arrival > 1.01 / mean).mean())  # half a step is no queue
    erlang = 0.4287
    assert abs(waited - erlang) < 0.03, f"Erlang C: {erlang:.4f} of requests wait, here {waited:.4f}"


@pytest.mark.parametrize(("prompt", "output"), [(50, 50), (500, 50)])
def test_a_full_server_meets_the_closed_form(impl: ModuleType, prompt: int, output: int) -> None:
    server = replace(SERVER, chunk=512)
    found = impl.simulate(server, Workload(400, prompt, output, concurrency=16), 1)
    rate = len(found.arrival) / float(found.finish.max())
    wanted = impl.saturation(server, prompt, output, 8)
    assert rate == pytest.approx(wanted, rel=0.05), f"simulated {rate:.4g} requests/s, closed form {wanted:.4g}"


def test_the_closed_form(impl: ModuleType) -> None:
    near("one request at a time", 1 / impl.saturation(SERVER, 1000, 100, 1), 0.1 + 100 * (0.011 + 1050e-6))
    near("eight", 1 / impl.saturation(SERVER, 1000, 100, 8), 0.1 + 100 * (0.018 + 8 * 1050e-6) / 8)


def test_the_start_is_dropped(impl: ModuleType) -> None:
    level = np.random.default_rng(0).normal(1.0, 0.1, 200)
    ramp = np.r_[np.linspace(9.0, 1.2, 40), level]
    assert 35 <= impl.warm_up(ramp) <= 45, f"40 values lead down to the level, {impl.warm_up(ramp)} were dropped"


def test_short_runs_are_kept(impl: ModuleType) -> None:
    for n in (1, 4, 9):
        assert impl.warm_up(np.arange(float(n))) == 0, f"{n} values: nothing to drop"


def test_never_more_than_half_is_dropped(impl: ModuleType) -> None:
    assert impl.warm_up(np.linspace(100.0, 1.0, 100)) <= 50


@pytest.mark.only("starter", "solution")
def test_what_cannot_be_served(impl: ModuleType) -> None:
    with pytest.raises(ValueError, match="needs 8 blocks of 16 tokens, the server has 7"):
        impl.simulate(replace(SERVER, blocks=7), Workload(1, 100, 20, concurrency=1))
    with pytest.raises(ValueError, match="batch must be at least 1"):
        impl.saturation(SERVER, 1, 1, 0)


# Stretch


@pytest.mark.stretch
def test_a_split_request_is_exact(impl: ModuleType) -> None:
    found = impl.simulate_split(SERVER, 1, 1e-5, Workload(1, 100, 4, rate=1.0))
    near("read on its own", found.ttft[0], 0.010 + 0.010)
    # handed over in 1 ms; a step joins it to the batch, two more decode 102 and 103 tokens
    near("decoded", found.finish[0] - found.first[0], 1e-3 + 0.010 + 2 * 0.011 + 1e-6 * (102 + 103))


@pytest.mark.stretch
def test_readers_work_side_by_side(impl: ModuleType) -> None:
    # Reading takes 0.11 s; arrivals come far faster
    one, two = (impl.simulate_split(SERVER, n, 0.0, Workload(50, 1000, 2, rate=1e4)) for n in (1, 2))
    near("50 prompts on one reader", one.first.max() - one.arrival[0], 50 * 0.11, 0.01)
    near("50 prompts on two readers", two.first.max() - two.arrival[0], 25 * 0.11, 0.01)


@pytest.mark.stretch
def test_decoding_is_not_disturbed(impl: ModuleType) -> None:
    load = Workload(200, 2000, 50, rate=2.0)
    mixed, split = impl.simulate(SERVER, load, 1), impl.simulate_split(SERVER, 2, 0.0, load, 1)
    assert split.itl.max() < mixed.itl.mean(), (
        f"between tokens: {split.itl.max():.4f} s at most when split, {mixed.itl.mean():.4f} on average when mixed"
    )
    assert split.held == 0


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_impossible_splits(impl: ModuleType) -> None:
    with pytest.raises(ValueError, match="readers must be at least 1"):
        impl.simulate_split(SERVER, 0, 0.0, Workload(1, 1, 1, rate=1.0))
    with pytest.raises(ValueError, match="have a rate"):
        impl.simulate_split(SERVER, 1, 0.0, Workload(1, 1, 1, concurrency=1))


@pytest.mark.stretch
def test_a_shared_prefix_is_read_by_nobody(impl: ModuleType) -> None:
    # 100 of 200 tokens are shared: 6 whole blocks, 96 tokens
    found = impl.simulate_prefix(SERVER, Workload(3, 200, 1, concurrency=1), 100, 1.0)
    near("104 tokens read", found.first[0], 0.010 + 104e-4)
    near("without a hit", impl.simulate_prefix(SERVER, Workload(1, 200, 1, concurrency=1), 100, 0.0).first[0], 0.030)
    near("all shared: the last block is read", impl.simulate_prefix(
        SERVER, Workload(1, 200, 1, concurrency=1), 200, 1.0).first[0], 0.010 + 8e-4)  # fmt: skip


@pytest.mark.stretch
def test_a_shared_prefix_is_held_once(impl: ModuleType) -> None:
    # 200 + 8 tokens are 13 blocks, 7 of one's own: 6 + 3 * 7 = 27 blocks hold three requests, 26 two
    load = Workload(12, 200, 8, concurrency=6)
    for blocks, wanted in ((27, 3), (26, 2)):
        found = impl.simulate_prefix(replace(SERVER, blocks=blocks), load, 100, 1.0)
        assert found.most == wanted, f"{blocks} blocks, 6 of them shared: {found.most} requests at once, not {wanted}"


@pytest.mark.stretch
def test_context_counts_the_prefix(impl: ModuleType) -> None:
    found = impl.simulate_prefix(SERVER, Workload(1, 200, 2, concurrency=1), 100, 1.0)
    near("the second token attends to all 201", found.finish[0] - found.first[0], 0.011 + 201e-6)


@pytest.mark.stretch
def test_who_came_last_is_preempted(impl: ModuleType) -> None:
    # Two blocks, two requests of 15 + 10: both start, but the next tokens need four blocks. The second gives way,
    # and when the first has ended reads its 15 + 1 tokens again.
    found, preempted = impl.simulate_preempting(replace(SERVER, blocks=2), Workload(2, 15, 10, concurrency=2))
    assert preempted == 1
    near("both first tokens", found.first[1], 0.013)
    near("the first request", found.finish[0], 0.013 + 9 * 0.011 + 1e-6 * (9 * 15 + 45))
    near("the second", found.finish[1], found.finish[0] + 0.010 + 16e-4 + 8 * 0.011 + 1e-6 * (8 * 15 + 44))


@pytest.mark.stretch
def test_with_room_nobody_is_preempted(impl: ModuleType) -> None:
    load = Workload(60, 80, 12, rate=10.0, lengths="geometric")
    found, preempted = impl.simulate_preempting(SERVER, load, 4)
    assert preempted == 0
    assert found.finish == pytest.approx(impl.simulate(SERVER, load, 4).finish, rel=ROUNDING)


@pytest.mark.stretch
def test_reserving_nothing_runs_more_at_once(impl: ModuleType) -> None:
    tight, load = replace(SERVER, blocks=40, seats=64), Workload(60, 64, 96, concurrency=30)
    careful, (bold, preempted) = impl.simulate(tight, load), impl.simulate_preempting(tight, load)
    assert bold.most > careful.most, f"{bold.most} at once without, {careful.most} with reservation"
    assert preempted > 0
    assert bold.peak <= 40
    assert bold.tokens == careful.tokens
    assert (np.diff(bold.finish) >= 0).all(), "requests of equal length: one that was preempted was overtaken"


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_impossible_caches(impl: ModuleType) -> None:
    load = Workload(1, 100, 20, concurrency=1)
    with pytest.raises(ValueError, match="shared must not be negative"):
        impl.simulate_prefix(SERVER, load, -1, 0.5)
    with pytest.raises(ValueError, match="hits lie within 0 and 1"):
        impl.simulate_prefix(SERVER, load, 10, 1.5)
    with pytest.raises(ValueError, match="needs 8 blocks of 16 tokens"):
        impl.simulate_preempting(replace(SERVER, blocks=7), load)
