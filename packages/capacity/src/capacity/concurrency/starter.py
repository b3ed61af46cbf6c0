"""Your turn: replace each ``raise NotImplementedError``."""

from capacity.concurrency import Budget, Fit
from capacity.gpus import Gpu
from capacity.weights import Model, Precision


def budget(model: Model, gpu: Gpu, precision: Precision, gpus: int = 1, held: float = 0.1) -> Budget:
    """Return what the memory of each of ``gpus`` GPUs is spent on.

    ``held`` is the share of the memory that neither weights nor cache may use; 0.1 is vLLM's default. Weights are
    sharded evenly, rounded up to whole bytes. Raises ValueError for gpus below 1 and a share outside 0 to 1.
    """
    raise NotImplementedError("TODO 1 (core, about 4 lines): what the memory is spent on")


def fit(
    model: Model,
    gpu: Gpu,
    precision: Precision,
    prompt: int,
    output: int,
    gpus: int = 1,
    held: float = 0.1,
    block: int = 16,
    seats: int | None = None,
) -> Fit:
    """Return how many requests of ``prompt`` and ``output`` tokens run at once on ``gpus`` GPUs that share one model.

    ``seats`` is the most that the scheduler admits; None means no limit of its own. Raises ValueError for tokens
    below 1, seats below 1, and what ``budget`` and ``request_bytes`` raise.
    """
    raise NotImplementedError("TODO 2 (core, about 12 lines): requests, what binds, what is short")


def fewest_gpus(
    model: Model, gpu: Gpu, precision: Precision, prompt: int, output: int, requests: int, held: float = 0.1
) -> int:
    """Return the fewest GPUs on which ``requests`` fit at full length, among the numbers that can share the heads.

    More GPUs hold smaller shares of the weights, but no smaller a cache once each has a single KV head. Raises
    ValueError where no number up to 64 does, naming what binds.
    """
    raise NotImplementedError("TODO 3 (stretch, about 8 lines): try the numbers that share the heads")
