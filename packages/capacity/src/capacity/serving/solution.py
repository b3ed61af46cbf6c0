"""From one event to the next: between two of them all steps are alike, and their sum has a closed form."""

import heapq
from collections import deque
from dataclasses import replace
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
    arrivals, prompts, outputs = draw(workload, seed)
    return _run(server, arrivals, prompts, outputs, np.zeros_like(prompts))


def _run(  # noqa: C901, PLR0912, PLR0915 - one loop, in the order in which a server works
    server: Server, arrivals: Floats, prompts: Ints, outputs: Ints, cached: Ints
) -> Trace:
    # `cached` tokens of each prompt, whole blocks, need not be read and are held by somebody else.
    arrival: list[float] = arrivals.tolist()
    prompt: list[int] = prompts.tolist()
    output: list[int] = outputs.tolist()
    blocks: list[int] = (-(-(prompts + outputs - cached) // server.block)).tolist()
    unread: list[int] = (prompts - cached).tolist()
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
            reading.append([head, unread[head]])
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
    joined, rest = prompts[order] + 1, np.maximum(outputs[order] - 1, 1)
    back = _run(decoder, handed[order], joined, rest, np.zeros_like(joined))
    finish = np.empty_like(arrivals)
    finish[order] = back.finish
    finish = np.where(outputs == 1, read, finish)
    sums = (back.tokens, back.steps, back.busy, back.area, back.peak, back.held, back.most)
    return Trace(arrivals, started, read, finish, prompts, outputs, *sums, warm_up(read - arrivals))


def simulate_prefix(server: Server, workload: Workload, shared: int, hits: float, seed: int = 0) -> Trace:
    """Simulate prompts whose first ``shared`` tokens are the same for all and stay in the cache.

    A request finds them there with probability ``hits``: then their whole blocks are neither read nor held by it, but
    at least one token of its prompt is read. The prefix's blocks are always held, and not counted in ``peak``. Raises
    ValueError for a negative prefix, hits outside 0 to 1, and a prefix that leaves no block to the requests.
    Source: Zheng et al. 2024, SGLang, arXiv:2312.07104, section 3.
    """
    kept = shared // server.block
    if shared < 0 or not 0 <= hits <= 1 or kept >= server.blocks:
        limits = f"shared must not be negative nor fill all {server.blocks} blocks, hits lie within 0 and 1"
        msg = f"{limits}, not {shared} and {hits}"
        raise ValueError(msg)
    arrivals, prompts, outputs = draw(workload, seed)
    found = np.random.default_rng([seed, 1]).random(len(prompts)) < hits
    cached = np.where(found, np.minimum(kept, (prompts - 1) // server.block) * server.block, 0)
    return _run(replace(server, blocks=server.blocks - kept), arrivals, prompts, outputs, cached)


def simulate_preempting(server: Server, workload: Workload, seed: int = 0) -> tuple[Trace, int]:
    """Simulate a server that reserves nothing ahead: the trace, and how often a request was preempted.

    A request holds the blocks of the tokens that it has and of the next one. When the next tokens of all that run do
    not fit, those admitted last lose their blocks, go back to the front of the queue, and later read prompt and output
    so far again. Nobody is admitted in a step that preempts. Raises what ``simulate`` raises.
    Source: Kwon et al. 2023, arXiv:2309.06180, section 4.5, recomputation.
    """
    arrivals, prompts, outputs = draw(workload, seed)
    if (worst := int((-(-(prompts + outputs) // server.block)).max())) > server.blocks:
        msg = f"a request needs {worst} blocks of {server.block} tokens, the server has {server.blocks}"
        raise ValueError(msg)
    return _Preempting(server, arrivals, prompts, outputs).run()


class _Preempting:
    """The state of such a server, advanced step by step: with blocks that grow no two steps are alike."""

    def __init__(self, server: Server, arrivals: Floats, prompts: Ints, outputs: Ints) -> None:
        self.server, self.arrival = server, arrivals
        self.prompts, self.outputs = prompts, outputs
        self.prompt: list[int] = prompts.tolist()
        self.unread: list[int] = prompts.tolist()
        self.made = [0] * len(prompts)
        self.admitted, self.first, self.finish = (np.zeros(len(prompts)) for _ in range(3))
        self.waiting: deque[int] = deque()
        self.running: list[int] = []
        self.arrived = self.preempted = self.most = self.peak = self.steps = self.tokens = 0
        self.now = self.busy = self.area = 0.0

    def needed(self, request: int) -> int:
        """Blocks for the tokens that a request has and the next one."""
        return -(-(self.prompt[request] + self.made[request] + 1) // self.server.block)

    def run(self) -> tuple[Trace, int]:
        count = len(self.prompt)
        while self.arrived < count or self.waiting or self.running:
            if not self.waiting and not self.running:
                self.now = max(self.now, float(self.arrival[self.arrived]))
            while self.arrived < count and self.arrival[self.arrived] <= self.now:
                self.area += self.now - float(self.arrival[self.arrived])
                self.waiting.append(self.arrived)
                self.arrived += 1
            self.schedule()
            self.step()
        trace = Trace(
            self.arrival,
            self.admitted,
            self.first,
            self.finish,
            self.prompts,
            self.outputs,
            self.tokens,
            self.steps,
            self.busy,
            self.area,
            self.peak,
            0,  # nobody runs any more
            self.most,
            warm_up(self.first - self.arrival),
        )
        return trace, self.preempted

    def schedule(self) -> None:
        """Preempt until the next tokens fit, or else admit while more fit."""
        held = sum(self.needed(request) for request in self.running)
        crowded = held > self.server.blocks
        while held > self.server.blocks:
            last = self.running.pop()
            held -= self.needed(last)
            self.unread[last] = self.prompt[last] + self.made[last]
            self.waiting.appendleft(last)
            self.preempted += 1
        while self.waiting and not crowded and len(self.running) < self.server.seats:
            if held + self.needed(self.waiting[0]) > self.server.blocks:
                break
            self.running.append(self.waiting.popleft())
            held += self.needed(self.running[-1])
            if not self.made[self.running[-1]]:
                self.admitted[self.running[-1]] = self.now
        self.peak, self.most = max(self.peak, held), max(self.most, len(self.running))

    def step(self) -> None:
        """Read what the chunk allows, give everybody who is read a token, end who has all."""
        decoding = [request for request in self.running if not self.unread[request]]
        context = sum(self.prompt[request] + self.made[request] for request in decoding)
        read, room = 0, self.server.chunk or 1 << 60
        for request in self.running:
            taken = min(self.unread[request], room - read)
            self.unread[request] -= taken
            read += taken
        seconds = step_seconds(self.server, read, len(decoding), context)
        self.area += (len(self.waiting) + len(self.running)) * seconds
        self.now, self.busy, self.steps = self.now + seconds, self.busy + seconds, self.steps + 1
        for request in [request for request in self.running if not self.unread[request]]:
            self.made[request] += 1
            self.tokens += 1
            if self.made[request] == 1:
                self.first[request] = self.now
            if self.made[request] == self.outputs[request]:
                self.finish[request] = self.now
                self.running.remove(request)
                unborn = np.flatnonzero(self.arrival == inf)
                if len(unborn):
                    self.arrival[unborn[0]] = self.now
