"""Count each kind of matrix once, times how often it occurs."""

from math import ceil

from capacity.weights import Matrix, Model, Precision

PLAIN = 16  # bits of what no plan quantizes, and from which on no scales are needed


def matrices(model: Model) -> list[Matrix]:
    """List the weight matrices of a model; equal ones share an entry, and the head of a tied model is left out.

    Kinds are "embedding", "attention" (queries, keys, values, output), "mlp" (two matrices, three where gated) and
    "head". Rows are outputs, columns inputs. Where a model has experts, ``expert_matrices`` stands for the MLPs of its
    sparse layers; where it has a latent, ``latent_matrices`` for all its attention.
    """
    queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
    attention = [
        Matrix("attention", queries, model.hidden, model.layers, model.qkv_bias),
        Matrix("attention", keys, model.hidden, 2 * model.layers, model.qkv_bias),
        Matrix("attention", model.hidden, queries, model.layers, model.out_bias),
    ]
    dense = model.dense_layers if model.experts else model.layers
    inward = 2 if model.gated else 1
    mlp = [
        Matrix("mlp", model.intermediate, model.hidden, inward * dense, model.mlp_bias),
        Matrix("mlp", model.hidden, model.intermediate, dense, model.mlp_bias),
    ]
    return [
        Matrix("embedding", model.vocab, model.hidden),
        *(latent_matrices(model) if model.latent else attention),
        *(mlp if dense else []),
        *(expert_matrices(model) if model.experts else []),
        *([] if model.tied else [Matrix("head", model.vocab, model.hidden)]),
    ]


def parameters(model: Model) -> int:
    """Count all parameters: matrices, their biases, and norms.

    A layer has ``norms`` norms of ``hidden`` values and, with ``qk_norm``, one of ``head_dim`` for queries and one for
    keys; latent attention norms its compressed keys and queries; one more norm comes before the head.
    """
    return sum(m.size + m.rows * m.count * m.bias for m in matrices(model)) + _norms(model)


def _norms(model: Model) -> int:
    each = model.norms * model.hidden * (2 if model.norm_bias else 1)
    each += 2 * model.head_dim if model.qk_norm else 0
    each += model.latent + model.query_latent
    return model.layers * each + model.hidden * (2 if model.norm_bias else 1)


def weight_bytes(model: Model, precision: Precision) -> int:
    """Return the bytes of all weights under a precision plan, scales and zero points included, rounded up.

    A row of ``cols`` weights in groups of ``group`` has ``ceil(cols / group)`` scales: the last group may be shorter.
    """
    numbers = sum(_bits(m, precision) for m in matrices(model)) + PLAIN * _norms(model)
    return ceil(numbers / 8)


def _bits(matrix: Matrix, precision: Precision) -> float:
    biases = PLAIN * matrix.rows * matrix.count * matrix.bias
    if matrix.kind in ("embedding", "head"):
        return precision.embedding * matrix.size
    if matrix.kind == "router":
        return PLAIN * matrix.size + biases
    if precision.linear >= PLAIN:
        return precision.linear * matrix.size + biases
    groups = ceil(matrix.cols / precision.group) if precision.group else 1
    scales = matrix.rows * groups * matrix.count
    return precision.linear * matrix.size + scales * (precision.scale + precision.zero) + biases


def expert_matrices(model: Model) -> list[Matrix]:
    """List the matrices of the sparse layers, those after the first ``dense_layers``.

    Of kind "expert" are the routed and the shared experts, MLPs that are ``expert_size`` wide; the "router" has a row
    for each routed expert. Source: Dai et al. 2024, arXiv:2401.06066, section 3.
    """
    sparse, inward = model.layers - model.dense_layers, 2 if model.gated else 1
    each = sparse * (model.experts + model.shared)
    return [
        Matrix("expert", model.expert_size, model.hidden, inward * each, model.mlp_bias),
        Matrix("expert", model.hidden, model.expert_size, each, model.mlp_bias),
        Matrix("router", model.experts, model.hidden, sparse, model.router_bias),
    ]


def latent_matrices(model: Model) -> list[Matrix]:
    """List the attention matrices of multi-head latent attention.

    Queries come from the hidden state, by way of ``query_latent`` values where that is not 0; keys and values from
    ``latent`` values, beside which ``rope_dim`` are shared by all heads. Source: DeepSeek-V2, arXiv:2405.04434,
    section 2.1.
    """
    queries = model.heads * (model.head_dim + model.rope_dim)
    down = [Matrix("attention", model.query_latent, model.hidden, model.layers, model.qkv_bias)]
    return [
        *(down if model.query_latent else []),
        Matrix("attention", queries, model.query_latent or model.hidden, model.layers),
        Matrix("attention", model.latent + model.rope_dim, model.hidden, model.layers, model.qkv_bias),
        Matrix("attention", model.heads * (model.head_dim + model.value_dim), model.latent, model.layers),
        Matrix("attention", model.hidden, model.heads * model.value_dim, model.layers, model.out_bias),
    ]


def active_parameters(model: Model) -> int:
    """Count the parameters that one token uses: all but the experts it was not routed to.

    The embedding counts whole, as published counts have it. Source: Fedus et al. 2022, arXiv:2101.03961.
    """
    return parameters(model) - round(_routed(model) * (1 - model.chosen / max(model.experts, 1)))


def _routed(model: Model) -> int:
    """Parameters of all routed experts."""
    experts = sum(m.size + m.rows * m.count * m.bias for m in matrices(model) if m.kind == "expert")
    return round(experts * model.experts / max(model.experts + model.shared, 1))


def bytes_read(model: Model, precision: Precision, batch: int) -> int:
    """Return the expected bytes of weights that a step with ``batch`` tokens reads.

    A token picks ``chosen`` of ``experts`` at random, so a batch touches the share ``1 - (1 - chosen / experts) **
    batch`` of them. Of an embedding that is not the head too, only a row for each token is read. Raises ValueError for
    a batch below 1.
    """
    if batch < 1:
        msg = f"a step has at least one token, not {batch}"
        raise ValueError(msg)
    total = 8.0 * weight_bytes(model, precision)
    if not model.tied:
        total -= precision.embedding * model.hidden * max(0, model.vocab - batch)
    if model.experts:
        experts = sum(_bits(m, precision) for m in matrices(model) if m.kind == "expert")
        missed = (1 - model.chosen / model.experts) ** batch
        total -= experts * model.experts / (model.experts + model.shared) * missed
    return ceil(total / 8)
