"""Draw the guide's diagrams: `python -m docs.draw` writes docs/img/*.svg, with ``--late`` those whose data changed.

What a diagram shows comes from the interviews page and from capacity. Its digest is kept in the file, so that a test
without matplotlib notices a diagram whose data have changed.
"""

import hashlib
import json
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from capacity import Precision, decode, gpu, prefill
from capacity.zoo import load
from docs.repository import DOCS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

IMAGES = DOCS / "img"
INK, SOFT, BLUE, ORANGE, GREEN = "#1f2933", "#7b8794", "#2b6cb0", "#c05621", "#2f855a"


def rounds() -> dict[str, list[tuple[str, list[tuple[int, bool]]]]]:
    """Read the rounds of each structure from the interviews page: name, minutes of its parts, which are yours."""
    found: dict[str, list[tuple[str, list[tuple[int, bool]]]]] = {}
    text = (DOCS / "interviews.md").read_text("utf-8")
    for structure in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title = structure.splitlines()[0]
        for part in re.split(r"^### ", structure, flags=re.MULTILINE)[1:]:
            name = part.splitlines()[0]
            rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", part, re.MULTILINE)
            steps = [(int(number), what.strip() == "your questions") for number, what in rows]
            found.setdefault(title, []).append((name, steps))
    return found


def steps() -> dict[str, Any]:
    """Count points of the roofline: operations for each byte, and operations/s at the bound."""
    model, card, plan = load("llama-3.1-8b"), gpu("h100"), Precision.named("bf16")
    points = []
    for batch in (1, 8, 64, 256):
        step = decode(model, card, plan, batch, 1000)
        points.append((f"decode, {batch}", step.flops / step.bytes, step.flops / step.seconds))
    for tokens in (128, 1000):
        step = prefill(model, card, plan, tokens)
        points.append((f"prefill, {tokens}", step.flops / step.bytes, step.flops / step.seconds))
    return {"gpu": card.name, "peak": card.peak("bf16"), "bandwidth": card.bandwidth, "points": points}


def levels() -> list[tuple[str, str, str]]:
    """Name the levels of an H100's memory: size, who shares it (sources stand beside the table of the page)."""
    card = gpu("h100")
    return [
        ("registers", "256 KiB per multiprocessor", "one thread: accumulators"),
        ("shared memory, L1", "256 KiB per multiprocessor", "a block: tiles that are used again"),
        ("L2", "50 MB", "the GPU: what neighbouring blocks read"),
        ("HBM", f"{card.memory / (1 << 30):.1f} GiB, {card.bandwidth / 1e12:.2f} TB/s", "the GPU: weights, cache"),
        ("NVLink", f"{card.link / 1e9:.0f} GB/s each way", "a node: what tensor parallelism adds up"),
    ]


DATA: dict[str, Callable[[], Any]] = {"interviews": rounds, "roofline": steps, "memory": levels}


def digest(name: str) -> str:
    """Return a short digest of what a diagram shows."""
    return hashlib.sha256(json.dumps(DATA[name](), sort_keys=True).encode()).hexdigest()[:16]


def _interviews(axes: "Axes") -> None:
    structures = rounds()
    row: float = 0
    labels: list[tuple[float, str]] = []
    for structure, parts in structures.items():
        if not any(steps for _, steps in parts):
            continue
        axes.text(0, row - 0.55, structure, fontsize=11, fontweight="bold", color=INK)
        row += 0.3
        for name, minutes in parts:
            at = 0
            for index, (length, yours) in enumerate(minutes):
                shade = SOFT if yours else (BLUE, "#4a86c5")[index % 2]
                axes.barh(row, length, left=at, height=0.62, color=shade, edgecolor="white", linewidth=1.2)
                axes.text(at + length / 2, row, str(length), ha="center", va="center", color="white", fontsize=8)
                at += length
            labels.append((row, re.sub(r" \(\d+\)$", "", name)))
            row += 1
        row += 1.1
    axes.set_yticks([where for where, _ in labels], [name for _, name in labels], fontsize=9)
    axes.set_ylim(row - 1.2, -1.1)
    axes.set_xlim(0, 61)
    axes.set_xticks(range(0, 61, 10))
    axes.set_xlabel("minutes (grey: your questions)", fontsize=9, color=INK)
    axes.tick_params(length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _roofline(axes: "Axes") -> None:
    data = steps()
    peak, bandwidth = data["peak"], data["bandwidth"]
    ridge = peak / bandwidth
    axes.loglog([0.5, ridge, 3000], [0.5 * bandwidth / 1e12, peak / 1e12, peak / 1e12], color=INK, linewidth=2)
    axes.axvline(ridge, color=SOFT, linewidth=1, linestyle=":")
    axes.text(ridge * 1.08, 2.2, f"ridge: {ridge:.0f} FLOP/byte", color=SOFT, fontsize=9)
    axes.text(2.6, 13, f"{bandwidth / 1e12:.2f} TB/s", rotation=39, color=INK, fontsize=9, ha="center", va="center")
    axes.text(1200, peak / 1e12 * 1.12, f"{peak / 1e12:.0f} TFLOP/s", color=INK, fontsize=9)
    for name, intensity, speed in data["points"]:
        kind = BLUE if name.startswith("decode") else ORANGE
        axes.plot(intensity, speed / 1e12, "o", color=kind, markersize=7)
        unit = "request" if name == "decode, 1" else "requests" if kind == BLUE else "tokens"
        beside = (8, -12) if kind == BLUE else (-86, 6) if intensity < ridge else (-30, -16)
        axes.annotate(
            f"{name} {unit}",
            (intensity, speed / 1e12),
            textcoords="offset points",
            xytext=beside,
            fontsize=8.5,
            color=kind,
            zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    axes.set_xlim(0.5, 3000)
    axes.set_ylim(1.5, 2500)
    axes.set_xlabel("operations for each byte read or written")
    axes.set_ylabel("TFLOP/s at most")
    axes.set_title(f"{data['gpu']}, bf16: Llama 3.1 8B, 1,000 tokens of context", fontsize=10, loc="left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _memory(axes: "Axes") -> None:
    rows = levels()
    for index, (name, size, use) in enumerate(rows):
        half = 3.2 + 0.7 * index
        axes.barh(
            -index, 2 * half, left=-half, height=0.78, color=(GREEN, GREEN, BLUE, ORANGE, SOFT)[index], alpha=0.92
        )
        axes.text(0, -index + 0.13, name, ha="center", va="center", color="white", fontsize=10, fontweight="bold")
        axes.text(0, -index - 0.2, size, ha="center", va="center", color="white", fontsize=7.6)
        axes.text(6.5, -index, use, ha="left", va="center", color=INK, fontsize=9)
    axes.text(-7.4, 0, "in the core", ha="center", va="center", fontsize=9, color=INK)
    axes.text(-7.4, -2, "on the chip", ha="center", va="center", fontsize=9, color=INK)
    axes.text(-7.4, -3, "beside it", ha="center", va="center", fontsize=9, color=INK)
    axes.text(-7.4, -4, "outside", ha="center", va="center", fontsize=9, color=INK)
    axes.set_xlim(-8.6, 13.8)
    axes.set_ylim(-4.6, 0.6)
    axes.axis("off")


def main() -> int:
    """Write every diagram."""
    import matplotlib as mpl  # noqa: PLC0415 - the tests of the guide read this module without it

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    plt.rcParams.update({"svg.hashsalt": "guide", "font.family": "DejaVu Sans", "axes.edgecolor": SOFT})
    for name, size, draw in (
        ("interviews", (8.2, 5.4), _interviews),
        ("roofline", (7.6, 4.8), _roofline),
        ("memory", (8.6, 3.6), _memory),
    ):
        path = IMAGES / f"{name}.svg"
        if "--late" in sys.argv and path.exists() and digest(name) in path.read_text("utf-8"):
            continue
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        draw(axes)
        temporary = path.with_suffix(".tmp")
        figure.savefig(temporary, format="svg", facecolor="white", metadata={"Date": None, "Description": digest(name)})
        plt.close(figure)
        # A figure of matplotlib ends its lines with blanks here and there, which git complains about.
        temporary.write_text(
            "\n".join(line.rstrip() for line in temporary.read_text("utf-8").splitlines()) + "\n", "utf-8"
        )
        temporary.replace(path)
        sys.stderr.write(f"drew {path.relative_to(DOCS.parent)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
