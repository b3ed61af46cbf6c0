"""The reader's history: one line for each exercise and implementation of each run, and the hints already given."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = ".practice"


@dataclass(slots=True)
class Run:
    """What one run said of one implementation of one exercise."""

    exercise: str
    impl: str
    device: str
    passed: int = 0
    failed: int = 0  # core and stretch
    todo: int = 0
    failing: list[str] = field(default_factory=list)
    todos: list[int] = field(default_factory=list)
    seconds: float = 0.0
    ratios: dict[str, float] = field(default_factory=dict)
    failed_core: int | None = None  # unknown to older lines
    v: int = 1
    time: float = field(default_factory=time.time)


def append(root: Path, runs: list[Run]) -> None:
    """Append ``runs`` to the history below ``root``; a disk that refuses must not fail a test run."""
    lines = "".join(json.dumps(asdict(run)) + "\n" for run in runs)
    try:
        (root / FOLDER).mkdir(exist_ok=True)
        # One write to a file opened for appending keeps the lines of runs that end together whole.
        handle = os.open(root / FOLDER / "runs.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, lines.encode())
        finally:
            os.close(handle)
    except OSError:
        return


def read(root: Path) -> list[Run]:
    """Read the history, oldest first; lines of another version or cut off by a crash are passed over."""
    path = root / FOLDER / "runs.jsonl"
    runs = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            runs.append(Run(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return [run for run in runs if run.v == 1]


def next_hint(root: Path, exercise: str, todo: int, hints: list[str]) -> tuple[int, str, bool]:
    """Return number and text of the hint to show for a TODO, and whether it was shown before.

    The first is free; each further one needs an unfinished run since the last.
    """
    path = root / FOLDER / "hints.json"
    try:
        given: dict[str, list[int]] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        given = {}
    tried = sum(1 for run in read(root) if (run.exercise, run.impl) == (exercise, "starter") and run.failed + run.todo)
    key = f"{exercise}:{todo}"
    number, then = given.get(key, [0, -1])
    again = tried <= then or number == len(hints)
    if not again:
        number += 1
        given[key] = [number, tried]
        path.parent.mkdir(exist_ok=True)
        scratch = path.with_suffix(".tmp")
        scratch.write_text(json.dumps(given), "utf-8")
        scratch.replace(path)
    return number, hints[number - 1], again
