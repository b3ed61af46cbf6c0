"""From a decoder's logits to a request's next token: the filters of ``kvcache.sampling`` in one fixed order."""

import math
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from kvcache.sampling import solution


@dataclass(frozen=True, slots=True)
class Sampler:
    """Temperature first, then top-k, top-p and min-p, each on what the one before left; temperature 0 is greedy.

    ``functions`` is the module that has them. Raises ValueError for options out of range.
    """

    temperature: float = 0.0
    top_k: int = 0  # 0: all
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    functions: ModuleType = solution

    def __post_init__(self) -> None:
        """Refuse what no row could be drawn with."""
        limits = (
            ("temperature", self.temperature, 0 <= self.temperature < math.inf, "finite, 0 or more"),
            ("top-k", self.top_k, self.top_k >= 0, "0 (all) or more"),
            ("top-p", self.top_p, 0 < self.top_p <= 1, "in (0, 1]"),
            ("min-p", self.min_p, 0 <= self.min_p <= 1, "in [0, 1]"),
        )
        for name, value, good, words in limits:
            if not good:
                msg = f"{name} is {value}, must be {words}"
                raise ValueError(msg)

    def filtered(self, logits: Tensor) -> Tensor:
        """Divide by the temperature and set what may not be drawn to -inf, (rows, vocabulary); ValueError for NaN."""
        if self.temperature == 0:
            best = self._largest(logits)[:, None]
            return torch.full_like(logits, float("-inf")).scatter(-1, best, 0.0)
        logits = logits / self.temperature
        if self.top_k:
            logits = self.functions.top_k(logits, self.top_k)
        if self.top_p < 1:
            logits = self.functions.top_p(logits, self.top_p)
        return self.functions.min_p(logits, self.min_p) if self.min_p else logits

    def __call__(self, logits: Tensor, step: int) -> Tensor:
        """Draw a token for each row of (rows, vocabulary), int64 (rows,); row ``i`` has the seed ``seed + i``.

        Raises ValueError for NaN.
        """
        if self.temperature == 0:
            return self._largest(logits)
        seeds = torch.arange(self.seed, self.seed + len(logits), device=logits.device)
        drawn: Tensor = self.functions.sample(self.filtered(logits), seeds, step)
        return drawn

    @staticmethod
    def _largest(logits: Tensor) -> Tensor:
        if bool(logits.isnan().any()):  # to argmax NaN is the largest of all
            msg = "logits have NaN"
            raise ValueError(msg)
        return logits.argmax(-1)
