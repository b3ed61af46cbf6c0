"""What races found, as tables on the screen and as the package's RESULTS.md."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.exercise import order

if TYPE_CHECKING:
    from harness.exercise import Exercise

FOLDER = ".benchmarks"


@dataclass(slots=True)
class Result:
    """One race: seconds of one call, per contestant and round, and who did not run and why."""

    exercise: str
    case: str
    device: str
    threads: int
    seconds: dict[str, list[float]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    limit: float = 0.0  # seconds that the machine needs at least
    limit_text: str = ""

    @property
    def key(self) -> str:
        """Name the race."""
        return f"{self.exercise} {self.case}"

    def heading(self) -> str:
        """Say what was raced, where, and what bounds it."""
        limit = f"   (limit: 1.00 = {self.limit_text})" if self.limit else ""
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        return f"{self.exercise}  {self.case}, {self.device}, {threads}{limit}"

    def summary(self) -> dict[str, Any]:
        """Return all that is worth keeping, as JSON has it."""
        return {
            "exercise": self.exercise,
            "case": self.case,
            "device": self.device,
            "threads": self.threads,
            "rounds": len(self.seconds["solution"]),
            "limit": {"seconds": self.limit, "text": self.limit_text},
            "milliseconds": {name: statistics.median(seconds) * 1e3 for name, seconds in self.seconds.items()},
            "ratios": {
                name: {rival: self.ratio(name, rival) for rival in self.seconds if rival != name}
                for name in self.seconds
            },
            "absent": self.absent,
        }

    def ratio(self, contestant: str, rival: str) -> tuple[float, float, float]:
        """Return how many times faster than ``rival``: quartile, median, quartile over the rounds."""
        pairs = zip(self.seconds[contestant], self.seconds[rival], strict=True)
        low, middle, high = statistics.quantiles([theirs / ours for ours, theirs in pairs], n=4)
        return low, middle, high

    def rivals(self) -> list[str]:
        """Return those whom the others are compared with: the baseline and the peers."""
        return [name for name in self.seconds if name not in ("starter", "solution")]


def cell(ratio: tuple[float, float, float]) -> str:
    """Print a ratio with its quartiles."""
    low, middle, high = (f"{value:.2g}" if value < 10 else f"{value:.0f}" for value in ratio)  # noqa: PLR2004
    return f"{middle}x [{low}, {high}]"


def shown(name: str) -> str:
    """Return a contestant's name as tables print it."""
    return "yours" if name == "starter" else name.removeprefix("peer_")


def table(result: Result) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows: milliseconds, times the limit, and the ratio to each rival."""
    rivals = result.rivals()
    heads = ["", "ms", "time vs limit", *(f"vs {shown(rival)}" for rival in rivals)]
    rows = []
    for name, seconds in result.seconds.items():
        middle = statistics.median(seconds)
        bound = f"{middle / result.limit:.2f}x" if result.limit else "-"
        cells = ["" if rival == name else cell(result.ratio(name, rival)) for rival in rivals]
        rows.append([shown(name), f"{middle * 1e3:.4g}", bound, *cells])
    return heads, rows


def lines(result: Result) -> list[str]:
    """Lay the table of a race out for the terminal."""
    heads, rows = table(result)
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    laid = [
        [cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        for row in [heads, *rows]
    ]
    missing = [f"  {shown(name)} did not run: {why}" for name, why in result.absent.items()]
    return [("  " + "   ".join(row)).rstrip() for row in laid] + missing


def beside(result: Result, before: dict[str, Any] | None) -> list[str]:
    """Say how the ratios stood in the last run."""
    found = []
    for name in result.seconds if before else ():
        for rival in result.rivals():
            then = before["ratios"].get(name, {}).get(rival) if before else None
            if then and rival != name:
                now = result.ratio(name, rival)
                apart = "" if now[0] <= then[2] and then[0] <= now[2] else "   quartiles apart"
                found.append(f"  {shown(name)} vs {shown(rival)}: {cell(now)}, last {cell(tuple(then))}{apart}")
    return found


def last_runs(root: Path) -> dict[str, Any]:
    """Read what was measured before, by the name of the race."""
    found: dict[str, Any] = {}
    for path in sorted((root / FOLDER).glob("*.json")):
        try:
            found |= json.loads(path.read_text("utf-8"))
        except ValueError:
            continue
    return found


def write_json(root: Path, found: list[Result]) -> None:
    """Keep the races in ``.benchmarks/PACKAGE-DEVICE.json``, each in place of its last run."""
    (root / FOLDER).mkdir(exist_ok=True)
    for package, device in sorted({(result.exercise.split(".")[0], result.device) for result in found}):
        path = root / FOLDER / f"{package}-{device}.json"
        try:
            content = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            content = {}
        content |= {r.key: r.summary() for r in found if r.exercise.split(".")[0] == package}
        write(path, json.dumps(content, indent=1))


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    scratch = path.with_name(f".{path.name}.tmp")
    scratch.write_text(text, "utf-8")
    scratch.replace(path)


def save(exercises: list[Exercise], found: list[Result], device: str, *, failed: bool) -> list[str]:
    """Write ``RESULTS.md`` of each package that raced whole; other devices' sections stay as they were measured."""
    said = []
    for folder in sorted({exercise.folder.parent.parent.parent for exercise in exercises}):
        names = [e.name for e in sorted(exercises, key=order) if e.folder.parent.parent.parent == folder]
        raced = {result.exercise for result in found}
        if failed or not raced.issuperset(names):
            missing = ", ".join(name for name in names if name not in raced) or "a race failed"
            said.append(f"{folder.name}/RESULTS.md is not written, the run is not whole: {missing}")
            continue
        path = folder / "RESULTS.md"
        before = sections(path.read_text("utf-8")) if path.exists() else {}
        ordered = sorted((r for r in found if r.exercise in names), key=lambda r: names.index(r.exercise))
        before[device] = section(ordered, device)
        write(path, page(names[0].split(".")[0], before))
        said.append(f"wrote {path}")
    return said


def sections(text: str) -> dict[str, str]:
    """Split a page into what it says of each device."""
    parts = text.split("\n## ")[1:]
    return {part.split("\n", 1)[0].strip(): part.split("\n", 1)[1].strip() for part in parts}


def page(package: str, devices: dict[str, str]) -> str:
    """Compose a page of results."""
    head = (
        f"# Results of `{package}`\n\nWritten by `nox -s bench-{package} -- --save`; nothing here is typed by hand. "
        "Ratios are medians of interleaved rounds in one process, with quartiles: above 1x is faster than the rival. "
        "`time vs limit` is the time over the least that the measured bandwidth and fp32 speed allow.\n"
    )
    return head + "".join(f"\n## {name}\n\n{devices.get(name, 'Not measured.')}\n" for name in ("cpu", "cuda", "mps"))


def section(found: list[Result], device: str) -> str:
    """Compose what the page says of one device."""
    slower, body, last = [], [], ""
    for result in found:
        if result.exercise != last:
            body += [f"### {result.exercise}", ""]
            last = result.exercise
        limit = f" (limit: {result.limit_text})" if result.limit else ""
        heads, rows = table(result)
        body += [f"**{result.case}**{limit}", "", f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
        body += [f"| {' | '.join(row)} |" for row in rows if row[0] != "yours"] + [""]
        absent = [f"{shown(name)} did not run: {why}" for name, why in result.absent.items() if name != "starter"]
        body += [*absent, ""] if absent else []
        for rival in result.rivals():
            ratio = result.ratio("solution", rival)
            if ratio[1] < 1:
                slower.append(
                    f"- {result.exercise}, {result.case}: {shown(rival)}; the solution is {cell(ratio)} of it"
                )
    verdict = ["Faster than the solution:", "", *slower] if slower else ["No rival is faster than the solution."]
    return "\n".join([machine(device, found[0].threads), "", *verdict, "", *body]).strip()


def machine(device: str, threads: int) -> str:
    """Describe where and when, with the versions that matter."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        name = next(
            (line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), name
        )
    elif sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        name = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or name  # noqa: S603
    torch = sys.modules.get("torch")
    if torch and device == "cuda":
        name = f"{torch.cuda.get_device_name()} beside {name}"
    capability = f" ({torch.backends.cpu.get_cpu_capability()})" if torch else ""
    libraries = sorted({module.partition(".")[0] for module in sys.modules})
    known = importlib.metadata.packages_distributions()
    wanted = ("torch", "numpy", "scipy", "transformers", "torchao", "statsmodels", "pingouin", "optimum")
    versions = [f"{n} {importlib.metadata.version(known[n][0])}" for n in wanted if n in libraries and n in known]
    today = datetime.now(UTC).date().isoformat()
    where = f"{name}{capability}, {os.cpu_count()} processors, {threads} threads, {platform.system()}"
    return f"{where}. {today}, Python {platform.python_version()}, {', '.join(versions)}."
