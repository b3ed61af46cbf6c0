"""What the reader sees at the end of a run: the score, what comes next, and a hint where there is one."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness import mutants, runs
from harness.exercise import OURS, Exercise, Todo, exercise_of, order
from harness.mutants import test_key

if TYPE_CHECKING:
    import pytest

SEARCH_SECONDS = 20.0
WIDTH = 100  # columns
SHOWN_FAILURES = 3


def held_back(items: list[pytest.Item], seed: str) -> set[str]:
    """Choose half of each exercise's test functions, the same half for every run with ``seed``."""
    functions: dict[str, set[str]] = defaultdict(set)
    keys: dict[str, set[str]] = defaultdict(set)
    for item in items:
        if exercise := exercise_of(item.path):
            name = item.nodeid.partition("[")[0]
            functions[exercise.name].add(name)
            keys[name].add(test_key(item))
    held: set[str] = set()
    for names in functions.values():
        ranked = sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).hexdigest())
        for name in ranked[: len(ranked) // 2]:
            held |= keys[name]
    return held


@dataclass
class Tally:
    """Outcomes of one implementation of one exercise."""

    core: Counter[str] = field(default_factory=Counter)
    stretch: Counter[str] = field(default_factory=Counter)
    failing: list[str] = field(default_factory=list)
    todos: set[str] = field(default_factory=set)
    outcomes: dict[str, str] = field(default_factory=dict)
    messages: list[tuple[str, str]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def all(self) -> Counter[str]:
        """Core and stretch together."""
        return self.core + self.stretch

    def text(self, *, reader: bool) -> str:
        """Say it in a cell of the table."""
        if reader:
            parts = [_share(name, count) for name, count in (("core", self.core), ("stretch", self.stretch)) if count]
            return "   ".join(parts)
        count = self.all
        ran = count["passed"] + count["failed"]
        notes = f" +{count['known']} known" * bool(count["known"]) + f" -{count['skipped']} skipped" * bool(
            count["skipped"]
        )
        return f"{count['passed']}/{ran}{notes}" if ran else notes.strip()


def _share(name: str, count: Counter[str]) -> str:
    wrong = f" ({count['failed']} wrong)" if count["failed"] else ""
    return f"{name} {count['passed']}/{count['passed'] + count['failed'] + count['todo']}{wrong}"


class Score:
    """Collects the reports of a run, prints the table, appends to the history."""

    def __init__(self, config: pytest.Config) -> None:
        """Start with nothing seen."""
        self.config = config
        self.exercises: dict[str, Exercise] = {}
        self.tally: dict[str, dict[str, Tally]] = defaultdict(lambda: defaultdict(Tally))

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Remember the exercises, in this process; xdist's reports bring only names."""
        if exercise := exercise_of(item.path):
            self.exercises[exercise.name] = exercise

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count one outcome; a test counts at its call, or where set-up or tear-down went another way."""
        properties = dict(report.user_properties)
        if "impl" not in properties or (report.when != "call" and report.passed):
            return
        exercise, impl = str(properties["exercise"]), str(properties["impl"])
        self._remember(exercise, report)
        one = self.tally[exercise][impl]
        outcome = "todo" if hasattr(report, "todo") else "known" if hasattr(report, "known") else report.outcome
        (one.stretch if properties["level"] == "stretch" else one.core)[outcome] += 1
        one.seconds += report.duration
        one.todos.update(getattr(report, "todo", ()))
        key = _key(report.nodeid, impl)
        if outcome == "failed":
            one.failing.append(key.rpartition("/")[2].partition("::")[2])
            one.messages.append((report.nodeid, _message(report)))
            one.places += [report.place] if hasattr(report, "place") else []
        if outcome in ("passed", "failed"):
            one.outcomes[key] = getattr(report, "mistake", "failed") if outcome == "failed" else ""

    def _remember(self, name: str, report: pytest.TestReport) -> None:
        if name not in self.exercises and (
            found := exercise_of(self.config.rootpath / report.nodeid.partition("::")[0])
        ):
            self.exercises[name] = found

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table and what comes next."""
        if not self.tally or self.config.option.check or self.config.option.agree:
            return
        ordered = sorted((self.exercises[name] for name in self.tally), key=order)
        self._table(terminalreporter, ordered)
        self._failures(terminalreporter, ordered)
        self._next(terminalreporter, ordered)
        self._record()

    def _table(self, out: pytest.TerminalReporter, ordered: list[Exercise]) -> None:
        """One row an exercise, one column an implementation; peers that do not fit go below."""
        seen = {name for row in self.tally.values() for name in row}
        columns = [*(name for name in OURS if name in seen), *sorted(seen.difference(OURS))]
        tallies = {(e.name, c): self.tally[e.name].get(c, Tally()) for e in ordered for c in columns}
        texts = {key: one.text(reader=key[1] == "starter") for key, one in tallies.items()}
        heads = {name: "yours" if name == "starter" else name for name in columns}
        widths = {c: max(len(heads[c]), *(len(texts[e.name, c]) for e in ordered)) + 3 for c in columns}
        first = max(len(exercise.name) for exercise in ordered) + 3
        blocks: list[list[str]] = [[]]
        for name in columns:
            if blocks[-1] and first + sum(widths[c] for c in [*blocks[-1], name]) - 3 > WIDTH:
                blocks.append([])
            blocks[-1].append(name)
        out.section("exercises")
        for block in blocks:
            out.line((" " * first + "".join(heads[c].ljust(widths[c]) for c in block)).rstrip(), bold=True)
            for exercise in ordered:
                if not any(texts[exercise.name, c] for c in block):
                    continue
                out.write(exercise.name.ljust(first))
                for name in block:
                    count, text = tallies[exercise.name, name].all, texts[exercise.name, name]
                    colour = "red" if count["failed"] else "yellow" if count["todo"] else "green"
                    out.write(text or "-", **{colour: bool(text)})
                    out.write(" " * (widths[name] - len(text or "-")) if name != block[-1] else "")
                out.line("")
            out.line("")

    def _failures(self, out: pytest.TerminalReporter, ordered: list[Exercise]) -> None:
        """Say shortly what is wrong with the reader's code, and which known mistake it looks like."""
        end = time.monotonic() + SEARCH_SECONDS
        for exercise in ordered:
            mine = self.tally[exercise.name].get("starter")
            if mine is None or not mine.failing:
                continue
            for nodeid, message in mine.messages[:SHOWN_FAILURES]:
                out.line(f"FAILED  {nodeid.rpartition(f'{exercise.package}/')[2]}", red=True)
                out.line("".join(f"  {line}\n" for line in message.splitlines()[:3]).rstrip())
            if more := len(mine.messages) - SHOWN_FAILURES:
                out.line(f"  and {more} more" if more > 0 else "")
            names = self._search(exercise, mine, end)
            if names is None:
                out.line(f"which known mistake this looks like was not found out in {SEARCH_SECONDS:g} s")
            for name in (names or [])[:2]:
                out.line(f'yours behaves exactly like this known mistake:  "{name}"', yellow=True)

    def _search(self, exercise: Exercise, mine: Tally, end: float) -> list[str] | None:
        left = end - time.monotonic()
        if not exercise.mutants or os.environ.get("CI"):
            return []
        if left < 1:
            return None
        arguments = ["--device", self.config.option.device, "--rootdir", str(self.config.rootpath)]
        arguments += ["-c", str(self.config.inipath)] if self.config.inipath else []
        return mutants.agreeing_with(exercise, mine.outcomes, arguments, left)

    def _next(self, out: pytest.TerminalReporter, ordered: list[Exercise]) -> None:
        """Say where to go on: a failing exercise first, then the first TODO, core before stretch."""
        rows = [(e, self.tally[e.name]["starter"]) for e in ordered if "starter" in self.tally[e.name]]
        if not rows:
            return
        waiting = {e.name: e.todos() for e, _ in rows}
        failing = [(e, mine) for e, mine in rows if mine.failing]
        pending = [e for e, _ in rows if any(t.level == "core" for t in waiting[e.name])]
        pending = pending or [e for e, _ in rows if waiting[e.name]]
        if failing:
            exercise, mine = failing[0]
            place = mine.places[0] if mine.places else str(exercise.starter)
            out.line(f"next: {exercise.name}  {len(mine.failing)} failing, first {mine.failing[0]}", bold=True)
            out.line(f"      {self._relative(place)}")
        elif pending:
            exercise = pending[0]
            todo = first_todo(waiting[exercise.name])
            ids = {t.id for t in waiting[exercise.name]}
            size = f", {todo.size}" if todo.size else ""
            out.line(
                f"next: {exercise.name}  TODO {todo.id} of {max(ids)} ({todo.level}{size})  {todo.text}", bold=True
            )
            minutes = exercise.info.get("minutes")
            about = f"        {minutes} minutes for the core" if minutes else ""
            out.line(f"      {self._relative(f'{exercise.starter}:{todo.line}')}{about}")
        else:
            out.line(f"solved: {', '.join(e.name for e, _ in rows)}", green=True)
            session = f"nox -s bench-{rows[0][0].package} -- {rows[0][0].short}"
            out.line(f"      {session:<38} your speed beside the solution's and the libraries'")
            return
        session = f"nox -s test-{exercise.package} -- {exercise.short}"
        out.line(f"      {session:<38} only this exercise")
        out.line(f"      {session + ' --hint':<38} a hint")
        counts = {name: len({todo.id for todo in todos}) for name, todos in waiting.items() if todos}
        if counts:
            listed = [f"{name.rpartition('.')[2]} {count}" for name, count in counts.items()]
            out.line(
                f"also waiting: {listed[0]} TODO{'s' * (not listed[0].endswith(' 1'))}"
                + "".join(f", {x}" for x in listed[1:])
            )

    def _relative(self, place: str) -> str:
        here = f"{self.config.rootpath}{os.sep}"
        return place.removeprefix(here)

    def _record(self) -> None:
        """Append this run to the history."""
        lines = [
            runs.Run(
                exercise,
                impl,
                self.config.option.device,
                one.all["passed"],
                one.all["failed"],
                one.all["todo"],
                one.failing,
                sorted({todo.id for message in one.todos if (todo := Todo.parse(message))}),
                round(one.seconds, 3),
                failed_core=one.core["failed"],
            )
            for exercise, row in self.tally.items()
            for impl, one in row.items()
        ]
        runs.append(self.config.rootpath, lines)


def first_todo(todos: list[Todo]) -> Todo:
    """Return the TODO to do first: core before stretch, then by number."""
    return min(todos, key=lambda todo: (todo.level, todo.id, todo.line))


def _key(nodeid: str, impl: str) -> str:
    """Name the test of a report as ``mutants.test_key`` names its item."""
    head, bracket, parameters = nodeid.partition("[")
    return head + bracket + parameters.replace("yours" if impl == "starter" else impl, "*", 1)


def _message(report: pytest.TestReport) -> str:
    """Return what a failing test says, without pytest's introspection of the expression."""
    crash: Any = getattr(report.longrepr, "reprcrash", None)
    text = str(crash.message) if crash else str(report.longrepr)
    text = text.removeprefix("AssertionError: ")
    lines = text.splitlines()
    cut = next((i for i, line in enumerate(lines) if line.startswith("assert ") and i), len(lines))
    return "\n".join(lines[:cut])


def print_hint(config: pytest.Config, exercises: list[Exercise]) -> int:
    """Print the next hint for the first unfinished TODO of the exercises given."""
    for exercise in sorted(exercises, key=order):
        todos = exercise.todos()
        if not todos:
            continue
        todo = first_todo(todos)
        hints = {entry["id"]: entry["hints"] for entry in exercise.info.get("todo", [])}.get(todo.id, [])
        if not hints:
            print(f"{exercise.name} TODO {todo.id}: no hints")  # noqa: T201
            return 0
        tried = [run for run in runs.read(config.rootpath) if (run.exercise, run.impl) == (exercise.name, "starter")]
        if todo.level == "stretch" and tried and (failing := tried[-1].failing):
            say = f"nox -s test-{exercise.package} -- {exercise.short}"
            print(f"{exercise.name}: {len(failing)} tests of what you wrote fail, mend them first: {say}")  # noqa: T201
        number, text, again = runs.next_hint(config.rootpath, exercise.name, todo.id, hints)
        print(f"{exercise.name} TODO {todo.id}: {todo.text}\nhint {number} of {len(hints)}: {text}")  # noqa: T201
        if again and number < len(hints):
            session = f"nox -s test-{exercise.package} -- {exercise.short}"
            print(f"(the next one after another try: {session})")  # noqa: T201
        return 0
    print("nothing left to do here")  # noqa: T201
    return 0
