"""Your turn: replace each ``raise NotImplementedError``."""

from math import ceil

from capacity.weights import Matrix, Model, Precision


def matrices(model: Model) -> list[Matrix]:
    """List the weight matrices of a model; equal ones share an entry, and the head of a tied model is left out.

    Kinds are "embedding", "attention" (queries, keys, values, output), "mlp" (two matrices, three where gated) and
    "head". Rows are outputs, columns inputs. Where a model has experts, ``expert_matrices`` stands for the MLPs of its
    sparse layers; where it has a latent, ``latent_matrices`` for all its attention.
    """
    raise NotImplementedError("TODO 1 (core, about 16 lines): every weight matrix of a dense decoder")


def parameters(model: Model) -> int:
    """Count all parameters: matrices, their biases, and norms.

    A layer has ``norms`` norms of ``hidden`` values and, with ``qk_norm``, one of ``head_dim`` for queries and one for
    keys; latent attention norms its compressed keys and queries; one more norm comes before the head.
    """
    raise NotImplementedError("TODO 2 (core, about 5 lines): matrices, biases and norms")


def weight_bytes(model: Model, precision: Precision) -> int:
    """Return the bytes of all weights under a precision plan, scales and zero points included, rounded up.

    A row of ``cols`` weights in groups of ``group`` has ``ceil(cols / group)`` scales: the last group may be shorter.
    """
    raise NotImplementedError("TODO 3 (core, about 12 lines): bits of every number, scales included")


def expert_matrices(model: Model) -> list[Matrix]:
    """List the matrices of the sparse layers, those after the first ``dense_layers``.

    Of kind "expert" are the routed and the shared experts, MLPs that are ``expert_size`` wide; the "router" has a row
    for each routed expert. Source: Dai et al. 2024, arXiv:2401.06066, section 3.
    """
    raise NotImplementedError("TODO 4 (stretch, about 8 lines): experts and routers of the sparse layers")


def latent_matrices(model: Model) -> list[Matrix]:
    """List the attention matrices of multi-head latent attention.

    Queries come from the hidden state, by way of ``query_latent`` values where that is not 0; keys and values from
    ``latent`` values, beside which ``rope_dim`` are shared by all heads. Source: DeepSeek-V2, arXiv:2405.04434,
    section 2.1.
    """
    raise NotImplementedError("TODO 5 (stretch, about 9 lines): the matrices of latent attention")


def active_parameters(model: Model) -> int:
    """Count the parameters that one token uses: all but the experts it was not routed to.

    The embedding counts whole, as published counts have it. Source: Fedus et al. 2022, arXiv:2101.03961.
    """
    raise NotImplementedError("TODO 6 (stretch, about 4 lines): what one token uses")


def bytes_read(model: Model, precision: Precision, batch: int) -> int:
    """Return the expected bytes of weights that a step with ``batch`` tokens reads.

    A token picks ``chosen`` of ``experts`` at random, so a batch touches the share ``1 - (1 - chosen / experts) **
    batch`` of them. Of an embedding that is not the head too, only a row for each token is read. Raises ValueError for
    a batch below 1.
    """
    raise NotImplementedError("TODO 7 (stretch, about 8 lines): what a batch reads")
