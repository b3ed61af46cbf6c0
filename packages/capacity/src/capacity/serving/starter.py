"""Your turn: replace each ``raise NotImplementedError``."""

from capacity.serving import Floats, Server, Trace, Workload


def step_seconds(server: Server, prompt_tokens: int, decoding: int, context: int) -> float:
    """Return the seconds of a step that reads ``prompt_tokens`` and decodes ``decoding`` requests.

    ``context`` is the sum of the tokens that those requests have so far, prompt and output.
    """
    raise NotImplementedError("TODO 1 (core, about 1 line): four terms")


def simulate(server: Server, workload: Workload, seed: int = 0) -> Trace:
    """Simulate a server until the last request is answered.

    The same seed gives the same run. A request gets its first token at the end of the step that reads the last of its
    prompt, and one in each step after it. Its ``ceil((prompt + output) / block)`` blocks are reserved on admission and
    freed with its last token. Raises ValueError where a request is too long for all the blocks.
    Source: Yu et al. 2022, Orca, section 3; Agrawal et al. 2024, Sarathi-Serve, arXiv:2403.02310, section 4.
    """
    raise NotImplementedError("TODO 2 (core, about 40 lines): from one step, or event, to the next")


def warm_up(values: Floats) -> int:
    """Return how many of a run's first ``values`` to drop, by the rule MSER-5.

    Of the means of five values each, the rule drops as many as makes the standard error of the mean of the rest least:
    ``argmin variance / (n - d)`` for d in the first half. Fewer than ten values keep all.
    Source: White 1997, doi:10.1177/003754979706900601; White, Cobb and Spratt 2000.
    """
    raise NotImplementedError("TODO 3 (core, about 4 lines): the rule MSER-5")


def saturation(server: Server, prompt: int, output: int, batch: int) -> float:
    """Return the requests a second of a server that always runs ``batch`` requests.

    Each request costs the reading of its prompt, which nobody shares, and its part of ``output`` steps, which ``batch``
    share: ``1 / (t_prefill + output * t_step / batch)``. Decoding requests have half their output on average.
    ``batch / t_step / output`` alone forgets the prompts. Raises ValueError for a batch below 1.
    """
    raise NotImplementedError("TODO 4 (core, about 3 lines): a full server in closed form")


def simulate_split(server: Server, readers: int, transfer: float, workload: Workload, seed: int = 0) -> Trace:
    """Simulate prompts read on ``readers`` servers of their own, one at a time on each, and decoded on ``server``.

    A reader takes ``step + prompt * tokens``, gives the first token, and hands the cache over in ``transfer`` seconds
    for each token; then the request waits for the decoding server, which starts at the second token. Arrivals, first
    tokens and ends are those of the whole; ``admitted`` is when reading starts; sums are the decoding server's. Raises
    ValueError for readers below 1, a negative transfer, and a workload without a rate.
    Source: Zhong et al. 2024, DistServe, arXiv:2401.09670, section 4.
    """
    raise NotImplementedError("TODO 5 (stretch, about 20 lines): readers, then a server that only decodes")


def simulate_prefix(server: Server, workload: Workload, shared: int, hits: float, seed: int = 0) -> Trace:
    """Simulate prompts whose first ``shared`` tokens are the same for all and stay in the cache.

    A request finds them there with probability ``hits``: then their whole blocks are neither read nor held by it, but
    at least one token of its prompt is read. The prefix's blocks are always held, and not counted in ``peak``. Raises
    ValueError for a negative prefix, hits outside 0 to 1, and a prefix that leaves no block to the requests.
    Source: Zheng et al. 2024, SGLang, arXiv:2312.07104, section 3.
    """
    raise NotImplementedError("TODO 6 (stretch, about 8 lines): blocks that everybody shares")


def simulate_preempting(server: Server, workload: Workload, seed: int = 0) -> tuple[Trace, int]:
    """Simulate a server that reserves nothing ahead: the trace, and how often a request was preempted.

    A request holds the blocks of the tokens that it has and of the next one. When the next tokens of all that run do
    not fit, those admitted last lose their blocks, go back to the front of the queue, and later read prompt and output
    so far again. Nobody is admitted in a step that preempts. Raises what ``simulate`` raises.
    Source: Kwon et al. 2023, arXiv:2309.06180, section 4.5, recomputation.
    """
    raise NotImplementedError("TODO 7 (stretch, about 45 lines): blocks that grow, and requests that give way")
