"""Train tinylm from nothing but the running Python's source: the tokenizer, then the model.

Everything that decides the result is a constant here or in ``Recipe``; a run that is cut off goes on from its last
checkpoint with the same weights, optimizer and order of data as if it had not been.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from models.corpus import corpus

END = "<|end|>"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides the result of a training run."""

    vocabulary: int = 2048
    hidden: int = 256
    layers: int = 5
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 640
    window: int = 512
    batch: int = 8  # windows in a step
    steps: int = 5000
    warmup: int = 100
    muon_lr: float = 0.02  # matrices of the blocks
    adam_lr: float = 6e-3  # embeddings and norms
    weight_decay: float = 0.1
    dropout: float = 0.0
    seed: int = 0

    def config(self) -> LlamaConfig:
        """Return the architecture."""
        return LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            max_position_embeddings=self.window,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            attention_dropout=0.0,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
        )


RECIPE = Recipe()


def train_tokenizer(text: str, vocabulary: int, window: int) -> PreTrainedTokenizerFast:
    """Train byte-level BPE on ``text``: any text at all comes back from its tokens unchanged."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        model_max_length=window,
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: Any, text: str) -> Tensor:  # noqa: ANN401 - transformers' own type is untyped
    """Return the tokens of a long text, (n,) int64, encoded in pieces that end with a line."""
    lines = text.splitlines(keepends=True)
    pieces = ["".join(lines[i : i + 4096]) for i in range(0, len(lines), 4096)]
    found = tokenizer(pieces, verbose=False)["input_ids"] if pieces else []
    return torch.tensor([token for piece in found for token in piece], dtype=torch.long)


def batches(tokens: Tensor, recipe: Recipe, step: int) -> Tensor:
    """Return the windows of one step, (batch, window + 1); they depend on nothing but the step and the seed.

    Every epoch starts its windows at another offset and takes them in another order.
    """
    per_epoch = (len(tokens) - 1) // recipe.window - 1
    rows = []
    for index in range(step * recipe.batch, (step + 1) * recipe.batch):
        epoch, place = divmod(index, per_epoch)
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
        offset = int(torch.randint(recipe.window, (1,), generator=generator))
        order = torch.randperm(per_epoch, generator=generator)
        start = offset + int(order[place]) * recipe.window
        rows.append(tokens[start : start + recipe.window + 1])
    return torch.stack(rows)


def rate(step: int, recipe: Recipe) -> float:
    """Return the factor of the learning rates: up linearly, then down linearly to zero."""
    up = (step + 1) / recipe.warmup
    down = (recipe.steps - step) / (recipe.steps - recipe.warmup)
    return min(up, down, 1.0)


def optimizers(model: torch.nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Return Muon for the blocks' matrices (Jordan et al. 2024) and AdamW for embeddings and norms."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]  # noqa: PLR2004
    rest = [p for name, p in named if p.ndim != 2 or "embed" in name]  # noqa: PLR2004
    muon = torch.optim.Muon(matrices, lr=recipe.muon_lr, momentum=0.95, weight_decay=recipe.weight_decay)
    adam = torch.optim.AdamW(rest, lr=recipe.adam_lr, betas=(0.9, 0.95), weight_decay=0.0)
    for optimizer in (muon, adam):
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return [muon, adam]


def loss_of(model: LlamaForCausalLM, windows: Tensor) -> Tensor:
    """Return the mean cross entropy of the next token, nats."""
    logits = model(input_ids=windows[:, :-1], use_cache=False).logits  # (batch, window, vocabulary)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), windows[:, 1:].flatten())


def train(
    folder: Path,
    recipe: Recipe = RECIPE,
    device: str | torch.device = "cpu",
    *,
    resume: bool = True,
    every: int = 200,
    until: int | None = None,
    report: Callable[[int, float], None] = lambda _step, _loss: None,
) -> Path:
    """Train a model into ``folder`` and return it; ``folder/checkpoint.pt`` lets a later call go on.

    ``report(step, loss)`` is called after each step with the mean loss in nats per token. ``until`` stops early, as
    if cut off.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = corpus("train")
    tokenizer = train_tokenizer(text, recipe.vocabulary, recipe.window)
    tokens = encode(tokenizer, text)
    torch.manual_seed(recipe.seed)
    model = LlamaForCausalLM(recipe.config())
    model.to(torch.device(device)).train()  # type: ignore[arg-type]
    chosen = optimizers(model, recipe)
    checkpoint, start = folder / "checkpoint.pt", 0
    if resume and checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, one in zip(chosen, state["optimizers"], strict=True):
            optimizer.load_state_dict(one)
        start = state["step"]
    kind = torch.device(device).type
    for step in range(start, min(recipe.steps, until or recipe.steps)):
        windows = batches(tokens, recipe, step).to(device)
        with torch.autocast(kind, torch.bfloat16):
            loss = loss_of(model, windows)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in chosen:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * rate(step, recipe)
            optimizer.step()
            optimizer.zero_grad()
        if not math.isfinite(value := loss.item()):
            msg = f"the loss became {value} at step {step}"
            raise ValueError(msg)
        report(step, value)
        if (step + 1) % every == 0 or step + 1 == until:
            state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in chosen], "step": step + 1}
            torch.save(state, checkpoint.with_suffix(".tmp"))
            os.replace(checkpoint.with_suffix(".tmp"), checkpoint)  # noqa: PTH105
    model.to(torch.bfloat16).save_pretrained(folder)  # type: ignore[arg-type]
    tokenizer.save_pretrained(folder)
    return folder
