"""From one event to the next: between two of them all steps are alike, and their sum has a closed form."""

import heapq
from collections import deque
from math import ceil, inf, sqrt

import numpy as np

from capacity.serving import Floats, Ints, Server, Trace, Workload, draw

BATCH = 5  # requests averaged before the warm-up rule looks at them, as in MSER-5


def step_seconds(server: Server, prompt_tokens: int, decoding: int, context: int) -> float:
    """Return the seconds of a step that reads ``prompt_tokens`` and decodes ``decoding`` requests.

    ``context`` is the sum of the tokens that those requests have so far, prompt and output.
    """
    return server.step + server.prompt * prompt_tokens + server.token * decoding + server.context * context


def simulate(server: Server, workload: Workload, seed: int = 0) -> Trace:
    """Simulate a server until the last request is answered.

    The same seed gives the same run. A request gets its first token at the end of the step that reads the last of its
    prompt, and one in each step after it. Its ``ceil((prompt + output) / block)`` blocks are reserved on admission and
    freed with its last token. Raises ValueError where a request is too long for all the blocks.
    Source: Yu et al. 2022, Orca, section 3; Agrawal et al. 2024, Sarathi-Serve, arXiv:2403.02310, section 4.
    """
    return _run(server, *draw(workload, seed))


def _run(  # noqa: C901, PLR0912, PLR0915 - one loop, in the order in which a server works
    server: Server, arrivals: Floats, prompts: Ints, outputs: Ints
) -> Trace:
    arrival: list[float] = arrivals.tolist()
    prompt: list[int] = prompts.tolist()
    output: list[int] = outputs.tolist()
    blocks: list[int] = (-(-(prompts + outputs) // server.block)).tolist()
    if max(blocks) > server.blocks:
        msg = f"a request needs {max(blocks)} blocks of {server.block} tokens, the server has {server.blocks}"
        raise ValueError(msg)
    count = len(arrival)
    admitted, first, finish = [0.0] * count, [0.0] * count, [0.0] * count
    unborn = next((i for i, when in enumerate(arrival) if when == inf), count)  # the next that an answer triggers
    now = busy = area = 0.0
    arrived = head = running = held = peak = most = steps = tokens = done = 0
    reading: deque[list[int]] = deque()  # [request, prompt tokens left]
    ends: list[tuple[int, int]] = []  # heap of (the step that decodes the last token, request)
    decoding = context = 0  # requests that decode, and all their tokens so far

    while done < count:
        if not running and head == arrived:
            now = max(now, arrival[arrived])
        while arrived < count and arrival[arrived] <= now:
            area += now - arrival[arrived]
            arrived += 1
        while head < arrived and running < server.seats and held + blocks[head] <= server.blocks:
            admitted[head] = now
            reading.append([head, prompt[head]])
            held += blocks[head]
            running += 1
            head += 1
        peak, most = max(peak, held), max(most, running)

        read: list[int] = []  # requests whose prompt this step ends
        if reading:
            left = room = server.chunk or 1 << 60
            while reading and left:
                taken = min(left, reading[0][1])
                left -= taken
                reading[0][1] -= taken
                if not reading[0][1]:
                    read.append(reading.popleft()[0])
            jump, seconds = 1, step_seconds(server, room - left, decoding, context)
        else:
            jump, each = ends[0][0] - steps, step_seconds(server, 0, decoding, context)
            growth = server.context * decoding
            free = head == arrived < count and running < server.seats
            if free and held + blocks[arrived] <= server.blocks:  # else nobody is admitted before somebody ends
                jump = min(jump, _steps_until(arrival[arrived] - now, each, growth))
            seconds = jump * each + growth * jump * (jump - 1) / 2
        area += (arrived - done) * seconds
        now += seconds
        busy += seconds
        steps += jump
        tokens += decoding * jump + len(read)
        context += decoding * jump

        over = []
        while ends and ends[0][0] == steps:
            over.append(heapq.heappop(ends)[1])
            decoding -= 1
            context -= prompt[over[-1]] + output[over[-1]]
        for request in read:
            first[request] = now
            if output[request] == 1:
                over.append(request)
            else:
                heapq.heappush(ends, (steps + output[request] - 1, request))
                decoding += 1
                context += prompt[request] + 1
        for request in over:
            finish[request] = now
            held -= blocks[request]
            running -= 1
            done += 1
            if unborn < count:
                arrival[unborn] = now
                unborn += 1

    came, began, spoke, ended = (np.array(times) for times in (arrival, admitted, first, finish))
    warm = warm_up(spoke - came)
    return Trace(came, began, spoke, ended, prompts, outputs, tokens, steps, busy, area, peak, held, most, warm)


def _steps_until(wait: float, each: float, growth: float) -> int:
    """Return the fewest steps that last ``wait``: the first takes ``each``, every further one ``growth`` more."""
    if wait == inf:
        return 1 << 60
    half = growth / 2
    steps = ceil(wait / each) if not half else ceil((sqrt((each - half) ** 2 + 4 * half * wait) - each + half) / growth)
    while steps > 1 and (steps - 1) * each + half * (steps - 1) * (steps - 2) >= wait:  # what rounding left over
        steps -= 1
    while steps * each + half * steps * (steps - 1) < wait:
        steps += 1
    return max(1, steps)


def warm_up(values: Floats) -> int:
    """Return how many of a run's first ``values`` to drop, by the rule MSER-5.

    Of the means of five values each, the rule drops as many as makes the standard error of the mean of the rest least:
    ``argmin variance / (n - d)`` for d in the first half. Fewer than ten values keep all.
    Source: White 1997, doi:10.1177/003754979706900601; White, Cobb and Spratt 2000.
    """
    means = values[: len(values) // BATCH * BATCH].reshape(-1, BATCH).mean(1)
    if len(means) < 2:  # noqa: PLR2004 - nothing to choose from
        return 0
    left = np.arange(len(means), 0, -1)  # how many means are kept
    centred = means - means.mean()  # else the difference below loses digits
    total, squares = centred[::-1].cumsum()[::-1], (centred**2)[::-1].cumsum()[::-1]
    error = (squares - total**2 / left) / left**2
    return int(error[: len(means) // 2].argmin()) * BATCH


def saturation(server: Server, prompt: int, output: int, batch: int) -> float:
    """Return the requests a second of a server that always runs ``batch`` requests.

    Each request costs the reading of its prompt, which nobody shares, and its part of ``output`` steps, which ``batch``
    share: ``1 / (t_prefill + output * t_step / batch)``. Decoding requests have half their output on average.
    ``batch / t_step / output`` alone forgets the prompts. Raises ValueError for a batch below 1.
    """
    if batch < 1:
        msg = f"batch must be at least 1, not {batch}"
        raise ValueError(msg)
    step = step_seconds(server, 0, batch, round(batch * (prompt + output / 2)))
    return 1 / (server.prompt * prompt + output * step / batch)


def simulate_split(server: Server, readers: int, transfer: float, workload: Workload, seed: int = 0) -> Trace:
    """Simulate prompts read on ``readers`` servers of their own, one at a time on each, and decoded on ``server``.

    A reader takes ``step + prompt * tokens``, gives the first token, and hands the cache over in ``transfer`` seconds
    for each token; then the request waits for the decoding server, which starts at the second token. Arrivals, first
    tokens and ends are those of the whole; ``admitted`` is when reading starts; sums are the decoding server's. Raises
    ValueError for readers below 1, a negative transfer, and a workload without a rate.
    Source: Zhong et al. 2024, DistServe, arXiv:2401.09670, section 4.
    """
    if readers < 1 or transfer < 0 or not workload.rate:
        msg = (
            f"readers must be at least 1, transfer not below 0, and the workload have a rate, not {readers}, {transfer}"
        )
        raise ValueError(msg + f" and {workload.rate}")
    arrivals, prompts, outputs = draw(workload, seed)
    free = [0.0] * readers
    started, read = np.empty_like(arrivals), np.empty_like(arrivals)
    for request, (when, tokens) in enumerate(zip(arrivals.tolist(), prompts.tolist(), strict=True)):
        started[request] = max(when, heapq.heappop(free))
        read[request] = started[request] + server.step + server.prompt * tokens
        heapq.heappush(free, read[request])
    handed = read + transfer * prompts
    order = np.argsort(handed, kind="stable")
    decoder = Server(server.step, server.token, server.context, 0.0, server.blocks, server.block, server.seats)
    # There it joins with its cache complete: a step that reads nothing of it stands for its second token.
    back = _run(decoder, handed[order], prompts[order] + 1, np.maximum(outputs[order] - 1, 1))
    finish = np.empty_like(arrivals)
    finish[order] = back.finish
    finish = np.where(outputs == 1, read, finish)
    sums = (back.tokens, back.steps, back.busy, back.area, back.peak, back.held, back.most)
    return Trace(arrivals, started, read, finish, prompts, outputs, *sums, warm_up(read - arrivals))
