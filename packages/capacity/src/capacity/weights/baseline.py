"""Layer by layer, the way one writes it on a whiteboard; dense models with ordinary attention only."""

from math import ceil

from capacity.weights import Matrix, Model, Precision


def matrices(model: Model) -> list[Matrix]:
    """List every matrix of every layer."""
    if model.experts or model.latent:
        msg = "the baseline knows dense models with ordinary attention only"
        raise ValueError(msg)
    found = [Matrix("embedding", model.vocab, model.hidden)]
    queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
    for _ in range(model.layers):
        found += [
            Matrix("attention", queries, model.hidden, bias=model.qkv_bias),
            Matrix("attention", keys, model.hidden, bias=model.qkv_bias),
            Matrix("attention", keys, model.hidden, bias=model.qkv_bias),
            Matrix("attention", model.hidden, queries, bias=model.out_bias),
            Matrix("mlp", model.intermediate, model.hidden, bias=model.mlp_bias),
            Matrix("mlp", model.hidden, model.intermediate, bias=model.mlp_bias),
        ]
        if model.gated:
            found.append(Matrix("mlp", model.intermediate, model.hidden, bias=model.mlp_bias))
    if not model.tied:
        found.append(Matrix("head", model.vocab, model.hidden))
    return found


def parameters(model: Model) -> int:
    """Add everything up."""
    norm = model.hidden * (2 if model.norm_bias else 1)
    total = norm
    for matrix in matrices(model):
        total += matrix.size + (matrix.rows * matrix.count if matrix.bias else 0)
    for _ in range(model.layers):
        total += model.norms * norm + (2 * model.head_dim if model.qk_norm else 0)
    return total


def weight_bytes(model: Model, precision: Precision) -> int:
    """Quantize the matrices of the layers, leave the rest at 16 bits."""
    bits, left = 0.0, parameters(model)
    for matrix in matrices(model):
        left -= matrix.size
        if matrix.kind in ("embedding", "head"):
            bits += precision.embedding * matrix.size
        else:
            bits += precision.linear * matrix.size
            if precision.linear < 16:  # noqa: PLR2004 - a half needs no scale
                groups = ceil(matrix.cols / precision.group) if precision.group else 1
                bits += matrix.rows * matrix.count * groups * (precision.scale + precision.zero)
    return ceil((bits + 16 * left) / 8)
