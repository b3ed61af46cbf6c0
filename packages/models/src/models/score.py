"""How well a language model predicts text, in bits per byte, beside general compressors."""

import gzip
import lzma
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from models.train import encode


def windows(tokens: Tensor, window: int, stride: int) -> list[tuple[Tensor, int]]:
    """Cut a long text into overlapping windows that together predict each token but the first exactly once.

    Returns (piece, fresh) pairs: ``piece`` has at most ``window + 1`` tokens and its last ``fresh`` are to be scored;
    the tokens before them are context. Raises ValueError unless 0 < stride <= window.
    """
    if not 0 < stride <= window:
        msg = f"stride is {stride}, must be between 1 and the window, {window}"
        raise ValueError(msg)
    pieces, done = [], 1  # the first token has no context to be predicted from
    while done < len(tokens):
        end = min(len(tokens), max(done + stride, window + 1))
        pieces.append((tokens[max(0, end - window - 1) : end], end - done))
        done = end
    return pieces


@torch.inference_mode()
def token_losses(
    model: Any,  # noqa: ANN401 - transformers' own types are untyped
    tokens: Tensor,
    window: int,
    stride: int,
    batch: int = 8,
    report: Callable[[int, int], None] = lambda _done, _total: None,
) -> Tensor:
    """Return the loss of every token after the first, in nats, (n - 1,) float64.

    Each token is predicted from at least ``window - stride`` tokens before it, where there are so many.
    ``tokens`` is (n,) int64; ``report(done, total)`` is called after each batch of windows.
    """
    pieces = windows(tokens, window, stride)
    found = []
    for start in range(0, len(pieces), batch):
        part = pieces[start : start + batch]
        longest = max(len(piece) for piece, _ in part)
        ids = torch.zeros(len(part), longest, dtype=torch.long)
        for row, (piece, _) in enumerate(part):
            ids[row, : len(piece)] = piece  # padded on the right: a causal model never sees it
        ids = ids.to(model.device)
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits.float()  # (batch, longest - 1, vocabulary)
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none").cpu().double()
        found += [losses[row, len(piece) - 1 - fresh : len(piece) - 1] for row, (piece, fresh) in enumerate(part)]
        report(min(start + batch, len(pieces)), len(pieces))
    return torch.cat(found)


def bits_per_byte(
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    text: str,
    stride: int = 256,
    report: Callable[[int, int], None] = lambda _done, _total: None,
) -> float:
    """Return the bits that the model needs for each UTF-8 byte of ``text``, read as one stream.

    The first token is charged the logarithm of the vocabulary. Raises ValueError for an empty text.
    """
    if not text:
        msg = "the text is empty, there is nothing to score"
        raise ValueError(msg)
    tokens = encode(tokenizer, text)
    window = int(model.config.max_position_embeddings)
    losses = token_losses(model, tokens, window, min(stride, window), report=report)
    nats = float(losses.sum()) + math.log(model.config.vocab_size)
    return nats / math.log(2) / len(text.encode())


def compressed(text: str) -> dict[str, float]:
    """Return the bits per byte of gzip and xz at their strongest over ``text`` as one stream."""
    data = text.encode()
    packed = {
        "gzip": gzip.compress(data, 9, mtime=0),
        "xz": lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
    }
    return {name: 8 * len(found) / len(data) for name, found in packed.items()}
