"""Your turn: replace each ``raise NotImplementedError``."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kvcache.sampling import Automaton, Beam, Score, TokenTable


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the ``k`` largest logits of each row, and what equals the smallest of them; -inf for the rest.

    A ``k`` beyond the vocabulary keeps all. Raises ValueError for k below 1, NaN, or logits that are not (rows,
    vocabulary), TypeError for logits that are not floating point. Source: Fan et al. 2018, arXiv:1805.04833, section
    5.2.
    """
    raise NotImplementedError("TODO 1 (core, about 2 lines): the k-th largest is the threshold")


def top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the fewest most likely tokens of each row whose probabilities add up to at least ``p``; -inf for the rest.

    At least one token is kept. Raises ValueError for p outside (0, 1] and what ``top_k`` refuses. Source: Holtzman et
    al. 2019, arXiv:1904.09751, eq. 2.
    """
    raise NotImplementedError("TODO 2 (core, about 5 lines): a token stays while the mass before it is below p")


def min_p(logits: Tensor, p: float) -> Tensor:
    """Keep tokens at least ``p`` times as likely as the row's most likely one; -inf for the rest.

    Raises ValueError for p outside [0, 1] and what ``top_k`` refuses. Source: Nguyen et al. 2024, arXiv:2407.01082.
    """
    raise NotImplementedError("TODO 3 (core, about 2 lines): a ratio of probabilities is a difference of logits")


def repetition_penalty(logits: Tensor, tokens: Tensor, penalty: float) -> Tensor:
    """Divide the positive logits of the tokens in each row by ``penalty``, and multiply the negative ones by it.

    ``tokens`` is (rows, n) int64, what each row has said; said twice counts once. Raises ValueError for a penalty that
    is not positive and finite, tokens of other rows or outside the vocabulary, TypeError for tokens that are not int64,
    and what ``top_k`` refuses. Source: Keskar et al. 2019, arXiv:1909.05858, section 4.1.
    """
    raise NotImplementedError("TODO 4 (core, about 4 lines): gather, change, scatter")


def sample(logits: Tensor, seeds: Tensor, step: int, temperature: float = 1.0) -> Tensor:
    """Draw a token for each row from softmax(logits / temperature), int64 (rows,).

    ``seeds`` is (rows,) int64. The same logits, seed and step give the same token, whatever the other rows are;
    different seeds or steps are independent. Temperature 0 takes the most likely token. Raises ValueError for a
    negative or infinite temperature, seeds of another number, a row without a finite logit, and what ``top_k`` refuses.
    """
    raise NotImplementedError("TODO 5 (core, about 8 lines): noise from seed and step, then the largest wins")


def beam_search(score: Score, start: Tensor, width: int, length: int, eos: int, alpha: float = 1.0) -> list[Beam]:
    """Return the ``width`` best continuations of ``start``, (n,) int64, best first, of at most ``length`` tokens.

    A sequence ends with ``eos`` or at ``length``; its score is its log probability divided by its number of tokens to
    the power of ``alpha``. The ``width`` most likely unfinished ones go on, and finished ones compete at the end. Fewer
    come back where fewer exist. Raises ValueError for a width or length below 1, for a start that is not (n,) with
    something in it, and for logits with NaN. Source: Sutskever et al. 2014, arXiv:1409.3215, section 3.2; Wu et al.
    2016, arXiv:1609.08144, eq. 14.
    """
    raise NotImplementedError("TODO 6 (stretch, about 20 lines): 2 * width candidates, ended ones aside")


def token_table(automaton: Automaton, tokens: Sequence[bytes], eos: int) -> TokenTable:
    """Tell for each state of ``automaton`` which tokens may come, and where they lead.

    ``tokens[i]`` are the bytes of token ``i``; ``eos`` is the one that ends a text, and other tokens without bytes
    never come. No dead ends: a token stays only if some tokens after it end the text. Raises ValueError where ``eos``
    is not in the vocabulary, and where these tokens write no text that matches. Source: Willard and Louf 2023,
    arXiv:2307.09702, section 3.
    """
    raise NotImplementedError("TODO 7 (stretch, about 30 lines): walk a trie of the tokens, then prune what cannot end")


def constrain(logits: Tensor, table: TokenTable, states: Tensor, left: int | None = None) -> Tensor:
    """Set the tokens that may not come to -inf, each row by its own state.

    ``states`` is (rows,) int64: 0, then ``table.after[state, token]`` of each token drawn. With ``left`` only tokens
    stay after which the text can still end within ``left`` tokens, this one and the end among them. Raises ValueError
    for states of another number or that do not exist, a vocabulary of another size, a row that needs more than
    ``left``, and what ``top_k`` refuses.
    """
    raise NotImplementedError("TODO 8 (stretch, about 5 lines): mask by where each token leads")
