"""Fill the pages in: every number of an answer is computed, every output shown comes from the command above it.

    python system_design/render.py            rewrite what is out of date
    python system_design/render.py --check    only say what is, and exit 1

A folder ``question_*`` has templates ``X.md.in``, from which ``X.md`` is written. In braces stand names from the
folder's ``quantities.py``:

- ``GIVEN``: what the interviewer gives; each text stands in prompt.md or interviewer.md.
- ``ASSUMED``: what the answer chooses or assumes, each with its reason; ``{assumptions}`` is the table of them all.
- ``computed()``: what follows, by the public functions of packages/capacity.
- ``RUNS``: commands of the capacity tool, run here, their output shown.
- ``QUOTES``: commands that take longer or need torch; their output is taken from the README that shows it.

``{package:X}`` becomes a link to packages/X, or says that it is coming. ``plots()`` and pictures.toml make the SVGs.
"""
# ruff: noqa: INP001 - a script, not a package

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
COMING = ("fx", "perf", "rag", "docai", "lora", "coach")  # packages that pages name and that are not here yet
PLACE = re.compile(r"\{([^{}\n]+)\}")
HEADER = "<!-- Written by system_design/render.py from {source}: edit that one. -->\n\n"
KINDS = {"ours": "#dbe9f6", "gpu": "#d9f0d3", "store": "#fdebc8", "outside": "#eeeeee", "alarm": "#f8d7d3"}


def folders() -> list[Path]:
    """Return the questions' folders, in order."""
    return sorted(path for path in HERE.glob("question_*") if path.is_dir())


@cache
def quantities(folder: Path) -> ModuleType:
    """Load a folder's quantities.py."""
    name = f"{folder.name}_quantities"
    spec = importlib.util.spec_from_file_location(name, folder / "quantities.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def values(module: ModuleType) -> dict[str, str]:
    """Return all texts of a folder by name; ValueError where two have the same name."""
    found: dict[str, str] = {}
    assumed = {name: text for name, (text, _) in module.ASSUMED.items()}
    for source in (module.GIVEN, assumed, module.computed()):
        if twice := found.keys() & source.keys():
            msg = f"{module.__name__} has {', '.join(sorted(twice))} twice"
            raise ValueError(msg)
        found |= source
    rows = [f"| {text} | {why} |" for text, why in module.ASSUMED.values()]
    found["assumptions"] = "\n".join(["| assumed or chosen | why |", "| --- | --- |", *rows])
    return found


def output(command: str) -> str:
    """Run a command of the capacity tool; ValueError where it fails."""
    words = command.split()
    if words[:3] != ["python", "-m", "capacity"]:
        msg = f"only commands of capacity are run, not {command!r}"
        raise ValueError(msg)
    env = os.environ | {"NO_COLOR": "1", "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, *words[1:]], check=False, capture_output=True, encoding="utf-8", env=env
    )
    if done.returncode:
        msg = f"{command}: {done.stderr.strip()}"
        raise ValueError(msg)
    return "\n".join(line.rstrip() for line in done.stdout.rstrip().splitlines())


def quoted(readme: str, first: str, last: str) -> str:
    """Return the lines of a README from the one that begins with ``first`` to the next that begins with ``last``."""
    lines = (ROOT / readme).read_text("utf-8").splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith(first)), None)
    end = start if start is None else next((i for i in range(start, len(lines)) if lines[i].startswith(last)), None)
    if start is None or end is None:
        msg = f"{readme} has no lines from {first!r} to {last!r}"
        raise ValueError(msg)
    return "\n".join(lines[start : end + 1])


def block(command: str, text: str) -> str:
    """Show a command with what it printed."""
    return f"```\n$ {command}\n{text}\n```"


def package(name: str) -> str:
    """Name a package: with a link where it is here, as coming where it is not."""
    if (ROOT / "packages" / name).exists():
        return f"[`{name}`](../../packages/{name}/README.md)"
    if name not in COMING:
        msg = f"no package {name!r}, neither here nor coming"
        raise ValueError(msg)
    return f"`{name}` (coming)"


def filled(text: str, module: ModuleType, known: dict[str, str]) -> str:
    """Put values in for all names in braces; ValueError for a name that nobody defines."""

    def put(match: re.Match[str]) -> str:
        name = match[1]
        if name.startswith("package:"):
            return package(name.removeprefix("package:"))
        if name in module.RUNS:
            return block(module.RUNS[name], output(module.RUNS[name]))
        if name in module.QUOTES:
            command, readme, first, last = module.QUOTES[name]
            return block(command, quoted(readme, first, last))
        if name not in known:
            msg = f"{module.__name__} does not define {name!r}"
            raise ValueError(msg)
        return known[name]

    return PLACE.sub(put, text)


def pages(folder: Path) -> dict[Path, bytes]:
    """Return everything that is written in a folder: its pages and its pictures."""
    module = quantities(folder)
    known = values(module)
    found = {}
    for source in sorted(folder.glob("*.md.in")):
        text = HEADER.format(source=source.name) + filled(source.read_text("utf-8"), module, known)
        found[source.with_suffix("")] = text.encode()
    for name, drawing in tomllib.loads(folder.joinpath("pictures.toml").read_text("utf-8")).items():
        found[folder / f"{name}.svg"] = svg(diagram(drawing, lambda text: filled(text, module, known)))
    for name, plot in module.plots().items():
        found[folder / f"{name}.svg"] = svg(curves(**plot))
    return found


def svg(figure: Figure) -> bytes:
    """Return a figure as SVG, the same each time; letters are outlines, so that it looks the same everywhere."""
    buffer = BytesIO()
    with mpl.rc_context({"svg.hashsalt": "system_design", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def words(picture: bytes) -> list[str]:
    """Return the texts of such an SVG: matplotlib notes each beside its outlines."""
    return re.findall(r"<!-- (.*?) -->", picture.decode(), flags=re.DOTALL)


def diagram(drawing: dict[str, Any], fill: Any) -> Figure:  # noqa: ANN401 - a function from text to text
    """Draw boxes and arrows on a grid; ``at`` is a box's column and row, counted from the top left."""
    wide, high, gap = drawing.get("box", [2.3, 0.95, 0.6])
    boxes = {box["id"]: box for box in drawing["boxes"]}
    columns = max(box["at"][0] + box.get("span", 1) for box in boxes.values())
    rows = max(box["at"][1] + 1 for box in boxes.values())
    size = columns * (wide + gap), rows * (high + gap)
    figure = Figure(figsize=(size[0] * 0.92, size[1] * 0.92), layout="constrained", facecolor="white")
    axes = figure.add_subplot(xlim=(0, size[0]), ylim=(size[1], 0))
    axes.set_axis_off()
    patches = {}
    for name, box in boxes.items():
        left, top = box["at"][0] * (wide + gap) + gap / 2, box["at"][1] * (high + gap) + gap / 2
        width = wide + (box.get("span", 1) - 1) * (wide + gap)
        patch = FancyBboxPatch(
            (left, top), width, high, boxstyle="round,pad=0,rounding_size=0.08", ec="#444444", fc=KINDS[box["kind"]]
        )
        patches[name] = (axes.add_patch(patch), left + width / 2, top + high / 2)
        axes.text(*patches[name][1:], fill(box["text"]), ha="center", va="center", fontsize=8.5, parse_math=False)
    for arrow in drawing.get("arrows", []):
        (start, *begins), (end, *ends) = patches[arrow["from"]], patches[arrow["to"]]
        tail, tip = (begins[0], begins[1]), (ends[0], ends[1])
        style = {
            "arrowstyle": arrow.get("style", "-|>"),
            "patchA": start,
            "patchB": end,
            "shrinkA": 0,
            "shrinkB": 1,
            "color": "#444444",
            "linestyle": arrow.get("line", "-"),
            "connectionstyle": f"arc3,rad={arrow.get('bend', 0)}",
        }
        axes.annotate("", tip, tail, arrowprops=style)
        if "text" in arrow:
            shift = arrow.get("shift", [0, 0])
            axes.text(
                (tail[0] + tip[0]) / 2 + shift[0],
                (tail[1] + tip[1]) / 2 + shift[1],
                fill(arrow["text"]),
                ha="center",
                va="center",
                fontsize=7.5,
                color="#333333",
                parse_math=False,
                bbox={"fc": "white", "ec": "none", "pad": 1},
            )
    return figure


def curves(
    title: str,
    x: str,
    y: str,
    lines: dict[str, tuple[list[float], list[float]]],
    limits: dict[str, float],
    log: str = "",
) -> Figure:
    """Draw ``lines`` of points, and ``limits`` of y as dotted lines; ``log`` names the axes that are logarithmic."""
    figure = Figure(figsize=(7, 4), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    for label, (across, up) in lines.items():
        axes.plot(across, up, marker="o", markersize=3, label=label)
    for number, (label, at) in enumerate(limits.items()):
        axes.axhline(at, color="grey", linestyle=(":", "--")[number % 2], label=label)
    axes.set(xlabel=x, ylabel=y, title=title)
    for axis in log:
        getattr(axes, f"set_{axis}scale")("log")
        scale = getattr(axes, f"{axis}axis")
        scale.set_major_locator(LogLocator(subs=(1, 2, 5)))
        scale.set_major_formatter(StrMethodFormatter("{x:g}"))
        scale.set_minor_formatter(NullFormatter())
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
    axes.grid(alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def stale(path: Path, content: bytes) -> bool:
    """Say whether a file is not as it should be; of a picture the texts count, since fonts differ."""
    if not path.exists():
        return True
    old = path.read_bytes()
    return words(old) != words(content) if path.suffix == ".svg" else old != content


def main() -> int:
    """Write what is stale, or only name it."""
    check, late = "--check" in sys.argv, 0
    named = [word for word in sys.argv[1:] if not word.startswith("-")]
    for folder in folders():
        if named and not any(word in folder.name for word in named):
            continue
        for path, content in pages(folder).items():
            if stale(path, content) or (not check and path.suffix == ".svg" and path.read_bytes() != content):
                late += 1
                sys.stderr.write(f"{'out of date' if check else 'written'}: {path.relative_to(ROOT)}\n")
                if not check:
                    scratch = path.with_name(f".{path.name}.tmp")
                    scratch.write_bytes(content)
                    scratch.replace(path)
    return 1 if check and late else 0


if __name__ == "__main__":
    sys.exit(main())
