"""Your turn: replace each ``raise NotImplementedError``."""

from capacity.fleet import Floats, Schedule


def makespan_bound(seconds: Floats, workers: int) -> float:
    """Return a lower bound of the time in which ``workers`` do jobs of ``seconds``, each on one worker in one piece.

    The largest of three: all work shared evenly; the longest job; and, sorted downwards, jobs number ``workers`` and
    ``workers + 1``, of which some worker does both or two as long. 0 for no jobs. Raises ValueError for what
    ``checked`` refuses. Source: Graham 1969, doi:10.1137/0117039.
    """
    raise NotImplementedError("TODO 1 (core, about 7 lines): the largest of three bounds")


def list_schedule(seconds: Floats, workers: int, longest_first: bool = True) -> Schedule:  # noqa: FBT001, FBT002
    """Give each job in turn to the worker that is free first, of several the lowest in number.

    With ``longest_first`` the longest job's turn is first (equal ones in the order given), and the result is within
    ``4/3 - 1/(3 * workers)`` of the best there is; in the order given within ``2 - 1/workers``. Raises ValueError for
    what ``checked`` refuses. Source: Graham 1969, doi:10.1137/0117039, theorems 1 and 2.
    """
    raise NotImplementedError("TODO 2 (core, about 8 lines): to whoever is free first")


def expected_attempts(failure: float, retries: int) -> tuple[float, float]:
    """Return how often a job is tried on average, and the probability that it is given up.

    Each attempt fails with probability ``failure``, on its own, and is repeated ``retries`` times at most: attempts
    are ``(1 - failure ** (retries + 1)) / (1 - failure)``. Raises ValueError for a failure outside 0 to 1 and negative
    retries.
    """
    raise NotImplementedError("TODO 3 (core, about 2 lines): a geometric sum")


def registry_bytes(
    models: int, size: float, versions: int, variants: float = 0.0, shared: float = 0.0, copies: int = 1
) -> float:
    """Return the bytes of a registry with ``models`` models of ``size`` bytes, ``versions`` of each kept.

    ``variants`` are the optimised forms kept with each version, as a share of its size (an int8 and an int4 one of a
    16-bit model: 0.5 + 0.26). Versions share the part ``shared`` of their bytes with the first, stored once (the base
    under an adapter). ``copies`` are for safety. Raises ValueError for negative numbers, a share outside 0 to 1.
    """
    raise NotImplementedError("TODO 4 (core, about 2 lines): versions, variants, copies")


def schedule_with_failures(seconds: Floats, workers: int, failure: float, retries: int, seed: int = 0) -> float:
    """Return the seconds until all jobs are done or given up, when attempts fail.

    The longest job first; an attempt fails with probability ``failure`` after a uniformly random part of its time, and
    joins the end of the queue, ``retries`` times at most; every retry comes after all first attempts. The same seed
    gives the same run. Raises what ``list_schedule`` and ``expected_attempts`` raise.
    """
    raise NotImplementedError("TODO 5 (stretch, about 16 lines): attempts that fail")


def workers_needed(seconds: Floats, deadline: float, most: int = 1_000_000) -> int:
    """Return the fewest workers with which ``list_schedule``, the longest first, keeps a deadline.

    Fewer than the work over the deadline cannot; from there upward. Raises ValueError where the longest job alone takes
    longer, or where ``most`` workers do not suffice.
    """
    raise NotImplementedError("TODO 6 (stretch, about 8 lines): upward from the work over the deadline")
