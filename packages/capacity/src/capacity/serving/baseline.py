"""Step after step, as the server does it."""

from collections import deque
from math import inf

import numpy as np

from capacity.serving import Floats, Server, Trace, Workload, draw


def step_seconds(server: Server, prompt_tokens: int, decoding: int, context: int) -> float:
    """Add up."""
    return server.step + server.prompt * prompt_tokens + server.token * decoding + server.context * context


def simulate(server: Server, workload: Workload, seed: int = 0) -> Trace:  # noqa: C901 - all that a server does
    """Run every step."""
    arrivals, prompts, outputs = draw(workload, seed)
    count = workload.requests
    admitted, first, finish = np.zeros(count), np.zeros(count), np.zeros(count)
    blocks = [-(-int(p + o) // server.block) for p, o in zip(prompts, outputs, strict=True)]
    if max(blocks) > server.blocks:
        msg = f"a request needs {max(blocks)} blocks"
        raise ValueError(msg)
    unread, made = prompts.tolist(), [0] * count
    waiting: deque[int] = deque()
    running: list[int] = []
    now = busy = area = 0.0
    arrived = held = peak = most = steps = tokens = 0
    while arrived < count or waiting or running:
        if not waiting and not running:
            now = max(now, float(arrivals[arrived]))
        while arrived < count and arrivals[arrived] <= now:
            area += now - float(arrivals[arrived])
            waiting.append(arrived)
            arrived += 1
        while waiting and len(running) < server.seats and held + blocks[waiting[0]] <= server.blocks:
            running.append(waiting.popleft())
            admitted[running[-1]] = now
            held += blocks[running[-1]]
        peak, most = max(peak, held), max(most, len(running))
        decoding = [i for i in running if not unread[i]]
        left = server.chunk or sum(unread[i] for i in running)
        read = 0
        for i in running:
            taken = min(unread[i], left - read)
            read += taken
            unread[i] -= taken
        seconds = step_seconds(server, read, len(decoding), sum(int(prompts[i]) + made[i] for i in decoding))
        area += (len(waiting) + len(running)) * seconds
        now, busy, steps = now + seconds, busy + seconds, steps + 1
        for i in [i for i in running if not unread[i]]:
            made[i] += 1
            tokens += 1
            if made[i] == 1:
                first[i] = now
            if made[i] == outputs[i]:
                finish[i] = now
                running.remove(i)
                held -= blocks[i]
                later = np.flatnonzero(arrivals == inf)
                if len(later):
                    arrivals[later[0]] = now
    warm = warm_up(first - arrivals)
    return Trace(arrivals, admitted, first, finish, prompts, outputs, tokens, steps, busy, area, peak, held, most, warm)


def warm_up(values: Floats) -> int:
    """Try every number."""
    means = [float(np.mean(values[i : i + 5])) for i in range(0, len(values) // 5 * 5, 5)]
    errors = [np.var(means[d:]) / len(means[d:]) for d in range(len(means) // 2)]
    return 5 * int(np.argmin(errors)) if errors else 0


def saturation(server: Server, prompt: int, output: int, batch: int) -> float:
    """Prompts alone, steps shared."""
    step = step_seconds(server, 0, batch, round(batch * (prompt + output / 2)))
    return 1 / (server.prompt * prompt + output * step / batch)
