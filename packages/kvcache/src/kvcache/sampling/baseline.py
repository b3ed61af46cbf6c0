"""The simple answer: sort everything, one generator for each row."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kvcache.sampling import DEAD, Automaton, TokenTable

FAR = float("-inf")
NEVER = 1 << 40


def top_k(logits: Tensor, k: int) -> Tensor:
    """Sort and compare with the k-th."""
    ordered = logits.sort(descending=True).values
    return logits.masked_fill(logits < ordered[:, min(k, logits.shape[1]) - 1, None], FAR)


def top_p(logits: Tensor, p: float) -> Tensor:
    """Sort, add up, and put the mask back into place."""
    ordered, index = logits.sort(descending=True)
    probabilities = ordered.softmax(-1)
    drop = probabilities.cumsum(-1) - probabilities >= p
    drop[:, 0] = False
    return logits.masked_fill(torch.zeros_like(drop).scatter(1, index, drop), FAR)


def min_p(logits: Tensor, p: float) -> Tensor:
    """Compare probabilities."""
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < p * probabilities.amax(-1, keepdim=True), FAR)


def repetition_penalty(logits: Tensor, tokens: Tensor, penalty: float) -> Tensor:
    """Change one token after the other."""
    out = logits.clone()
    for row in range(len(logits)):
        for token in set(tokens[row].tolist()):
            value = logits[row, token]
            out[row, token] = value / penalty if value > 0 else value * penalty
    return out


def sample(logits: Tensor, seeds: Tensor, step: int, temperature: float = 1.0) -> Tensor:
    """Seed a generator for each row and step."""
    if temperature == 0:
        return logits.argmax(-1)
    found = []
    for row, seed in zip(logits.cpu(), seeds.tolist(), strict=True):
        generator = torch.Generator().manual_seed((seed * 1_000_003 + step * 7919) % 2**63)
        found.append(torch.multinomial((row.double() / temperature).softmax(-1), 1, generator=generator))
    return torch.cat(found).to(logits.device)


def token_table(automaton: Automaton, tokens: Sequence[bytes], eos: int) -> TokenTable:
    """Try every token in every state, byte by byte."""
    step, end = automaton.step.tolist(), len(automaton.step)
    after = [[DEAD] * len(tokens) for _ in range(end + 1)]
    for start in range(end):
        for token, text in enumerate(tokens):
            state = start if text else DEAD
            for byte in text:
                state = step[state][byte] if state != DEAD else DEAD
            after[start][token] = state
        after[start][eos] = end if automaton.final[start] else DEAD
    after[end][eos] = end
    needed = [NEVER] * end + [0]
    for _ in range(end):
        for state in range(end):
            needed[state] = min((1 + needed[to] for to in after[state] if to != DEAD), default=NEVER)
    after = [[to if to != DEAD and needed[to] < NEVER else DEAD for to in row] for row in after]
    return TokenTable(torch.tensor(after, dtype=torch.int32), torch.tensor(needed))


def constrain(logits: Tensor, table: TokenTable, states: Tensor, left: int | None = None) -> Tensor:
    """Look at every token."""
    out = logits.clone()
    for row, state in enumerate(states.tolist()):
        for token, to in enumerate(table.after[state].tolist()):
            if to == DEAD or (left is not None and table.needed[to] > left - 1):
                out[row, token] = FAR
    return out
