"""The figures that a follow-up of ``kivi`` quotes; `nox -s slow-kvcache -- -k figures -s` measures and prints them."""

import tomllib
from importlib.resources import files

import pytest
import torch
from torch import Tensor

import models
from kvcache.attention.solution import attend_grouped
from kvcache.caches.solution import ContiguousCache
from kvcache.decoder import Decoder
from kvcache.kivi.solution import QuantizedCache, dequantize, quantize
from kvcache.rotary.solution import frequencies, rotate

GROUP, DRAWS = 32, 40


def back(x: Tensor, way: str, bits: int, *, keys: bool) -> Tensor:
    """Quantize (batch, heads, length, head_dim), length in whole groups, and dequantize it.

    Keys share a scale along the tokens of a group, values along channels; ``way`` is what lies beside the codes: "low"
    as well, or a scale only and codes around "zero" or around a channel's "centre", its median in the first group.
    """
    grouped = x.unflatten(2, (-1, GROUP if keys else 1))
    centre = grouped[:, :, :1].median(3, keepdim=True).values if keys and way == "centre" else torch.zeros(())
    centre = centre.bfloat16().float()
    codes = quantize(grouped - centre, bits, 3 if keys else 4, symmetric=way != "low")
    return (dequantize(codes) + centre).flatten(2, 3)


def error(q: Tensor, k: Tensor, v: Tensor, way: str, bits: int = 8) -> float:
    """Return how far attention over codes is off, in percent of its length."""
    wanted = attend_grouped(q, k, v)
    found = attend_grouped(q, back(k, way, bits, keys=True), back(v, way, bits, keys=False))
    return 100 * float((found - wanted).norm() / wanted.norm())


def planted(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw queries, keys with two large one-sided channels, and values, heads of 16."""
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(1, 2, n, 16, generator=generator) for n in (16, 256, 256))
    k[..., 3] += 12
    k[..., 11] -= 20
    return q, k, v


def of_tinylm(at: int = 448) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return queries, rotated keys and values of each layer over a text that it has not seen."""
    model, tokenizer = models.load("tinylm")
    decoder, asked = Decoder.from_model(model), list[Tensor]()

    def attending(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        asked.append(q)
        return attend_grouped(q, k, v)

    decoder.attend_by(attending)
    tokens = torch.tensor([tokenizer(models.corpus("heldout")[:10_000])["input_ids"][:at]])
    c = decoder.config
    cache = ContiguousCache(c.layers, 1, c.kv_heads, c.head_dim, at)
    decoder.forward(tokens, cache)
    return [(q, cache.keys[layer], cache.values[layer]) for layer, q in enumerate(asked)]


def over_steps(layers: list[tuple[Tensor, Tensor, Tensor]], bits: int, *, window: bool) -> float:
    """Return the error of the last 64 steps of all layers, in percent.

    Keys of a group that is not complete are exact; so are values, unless without ``window`` they are codes at once.
    """
    off = length = 0.0
    way = "centre" if bits == 8 else "low"
    for q, k, v in layers:
        codes = back(k, way, bits, keys=True), back(v, way, bits, keys=False)
        for stop in range(k.shape[2] - 63, k.shape[2] + 1):
            done, step = stop - stop % GROUP, q[:, :, stop - 1 : stop]
            keys = torch.cat([codes[0][:, :, :done], k[:, :, done:stop]], 2)
            values = torch.cat([codes[1][:, :, :done], v[:, :, done:stop]], 2) if window else codes[1][:, :, :stop]
            wanted = attend_grouped(step, k[:, :, :stop], v[:, :, :stop])
            off += float((attend_grouped(step, keys, values) - wanted).square().sum())
            length += float(wanted.square().sum())
    return float(100 * (off / length) ** 0.5)


@pytest.mark.slow
def test_the_figures_of_the_follow_ups_are_measured() -> None:
    cache = QuantizedCache(1, 1, 8, 64, 4096, 8, GROUP)
    share = cache.nbytes / (2 * 8 * 64 * 4096 * 4)
    least, group = min((0.25 + 0.25 / 32 + 0.5 / g + g / 4096, g) for g in range(1, 257))
    medians, turned = {}, {}
    for way in ("low", "zero", "centre"):
        draws = [planted(seed) for seed in range(DRAWS)]
        medians[way] = sorted(error(*draw, way) for draw in draws)[DRAWS // 2]
        place, angles = torch.arange(256), frequencies(16)
        turned[way] = max(error(q, rotate(k, place, angles), v, way) for q, k, v in draws)
    layers = of_tinylm()
    real = {way: [error(q[:, :, -64:], k, v, way) for q, k, v in layers] for way in ("low", "centre")}
    steps = {bits: [over_steps(layers, bits, window=window) for window in (True, False)] for bits in (8, 4)}
    figures = (
        f"at least {least:.3f} (g = {group})",
        f"g = {GROUP} gives {share:.4f}",
        f"off by {medians['zero']:.1f} % (median of {DRAWS} draws) where scale and low had {medians['low']:.1f} %",
        f"it is {medians['centre']:.1f} %",
        f"{min(real['centre']):.2f} to {max(real['centre']):.2f} % by layer",
        f"with scale and low {min(real['low']):.2f} to {max(real['low']):.2f} %",
        f"had up to {turned['centre']:.1f} %, around 0 {turned['zero']:.1f} %",
        f"around 0 {turned['zero']:.1f} %, with scale and low {turned['low']:.1f} %",
        f"with a window is {steps[8][0]:.2f} %, without {steps[8][1]:.2f} %",
        f"at 4 bits {steps[4][0]:.1f} and {steps[4][1]:.1f} %",
    )
    print("\n".join(figures))  # noqa: T201 - what the follow-up has to say
    text = tomllib.loads((files("kvcache.kivi") / "exercise.toml").read_text("utf-8"))
    answers = " ".join(followup["answer"] for followup in text["followup"])
    assert not [figure for figure in figures if figure not in answers], "measured, and not in a follow-up"
