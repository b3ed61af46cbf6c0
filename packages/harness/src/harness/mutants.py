"""Named wrong answers: each is one edit of the solution, and the exercise's tests have to reject it."""

from __future__ import annotations

import ast
import importlib.util
import json
import linecache
import math
import re
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.exercise import Exercise, exercise_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import ModuleType

PREFIX = "mutant_"
COMMITTED = "starter@HEAD"


def variants(exercise: Exercise, *, starter: bool) -> list[str]:
    """Return the names under which ``load`` knows the mutants and, if asked for, the starter as committed."""
    names = [f"{PREFIX}{number}" for number in range(len(exercise.mutants))]
    return ([COMMITTED] if starter and exercise.starter.exists() else []) + names


def stands_for(impl: str) -> str:
    """Return the implementation whose tests a variant takes."""
    return "starter" if impl == COMMITTED else "solution" if impl.startswith(PREFIX) else impl


def committed_path(exercise: Exercise) -> Path:
    """Return the name that tracebacks of the committed starter show."""
    return exercise.starter.with_name(f"{COMMITTED}.py")


@cache
def committed(path: Path) -> str:
    """Return a file as committed, or as it stands where git does not know it; asked for often, and so remembered."""
    command = ["git", "show", f"HEAD:./{path.name}"]
    found = subprocess.run(command, cwd=path.parent, capture_output=True, check=False, encoding="utf-8")  # noqa: S603
    return found.stdout if found.returncode == 0 else path.read_text("utf-8")


def mutate(exercise: Exercise, number: int) -> str:
    """Return the source of the solution with one mutant's edit made; ValueError unless it fits exactly once."""
    mutant = exercise.mutants[number]
    source = (exercise.folder / "solution.py").read_text("utf-8")
    if (times := source.count(mutant["find"])) != 1:
        msg = f"{exercise.name}, mutant {mutant['name']!r}: `find` occurs {times} times in solution.py, must be once"
        raise ValueError(msg)
    return source.replace(mutant["find"], mutant["put"])


def load(exercise: Exercise, name: str) -> ModuleType | None:
    """Load a variant as a fresh module; None where ``name`` is an ordinary implementation."""
    if name == COMMITTED:
        source, path = committed(exercise.starter), committed_path(exercise)
    elif name.startswith(PREFIX):
        source = mutate(exercise, int(name.removeprefix(PREFIX)))
        path = exercise.folder / f"{name}.py"
    else:
        return None
    full = f"{exercise.name}.{name.replace('@', '_')}"
    spec = importlib.util.spec_from_loader(full, loader=None, origin=str(path))
    if spec is None:
        raise ImportError(full)
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    module.__package__ = exercise.name
    # inspect, dataclasses and torch.compile look the source up by file name.
    linecache.cache[str(path)] = (len(source), None, source.splitlines(keepends=True), str(path))
    sys.modules[full] = module
    exec(compile(source, str(path), "exec"), module.__dict__)  # noqa: S102
    return module


def test_key(item: pytest.Item) -> str:
    """Name a test without the implementation that it runs for."""
    head, bracket, parameters = item.nodeid.partition("[")
    shown = str(getattr(item, "callspec", None) and item.callspec.params.get("impl"))  # type: ignore[attr-defined]
    shown = "yours" if shown == "starter" else shown
    return head + bracket + parameters.replace(shown, "*", 1)


NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?")


def mistake(item: pytest.Item, call: pytest.CallInfo[None]) -> str:
    """Say where in the test something failed and how, "" where nothing did; numbers are cut to two digits.

    Two answers that fail the same test may do so for reasons of their own: in another of its lines, by other numbers.
    """
    if call.excinfo is None:
        return ""
    lines = [entry.lineno + 1 for entry in call.excinfo.traceback if Path(entry.path) == item.path]
    words = str(call.excinfo.value).partition("\n")[0].replace(impl_of(item), "impl")
    return f"{lines[-1:]} {NUMBER.sub(lambda found: f'{float(found[0]):.1e}', words)}"


def impl_of(item: pytest.Item) -> str:
    """Return the name of the implementation that ``item`` tests, "" where it tests none."""
    return str(getattr(getattr(item, "callspec", None), "params", {}).get("impl", ""))


@cache
def mentions(source: str) -> dict[str, set[str]]:
    """Map what a module defines (functions, classes, their methods, constants) to the names that stand in it."""
    found: dict[str, set[str]] = defaultdict(set)
    for node in ast.parse(source).body:
        for one in (node, *(node.body if isinstance(node, ast.ClassDef) else ())):
            names = {n for each in ast.walk(one) for n in _names(each)}
            for name in _defined(one):
                found[name] |= names
    return found


def _names(node: ast.AST) -> set[str]:
    """Return the names that one node of a tree carries; those of a test's parameters are its fixtures."""
    return {str(getattr(node, field)) for field in ("id", "attr", "arg", "name") if hasattr(node, field)}


def _defined(node: ast.stmt) -> set[str]:
    targets = {t.id for t in getattr(node, "targets", [getattr(node, "target", None)]) if isinstance(t, ast.Name)}
    return targets | ({node.name} if isinstance(node, ast.FunctionDef | ast.ClassDef) else set())


@cache
def _spans(source: str) -> list[tuple[int, int, set[str]]]:
    """List first line, last line and names of what a module defines, and of what stands within that after it."""
    statements = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)]
    named = [(node, _defined(node) & set(mentions(source))) for node in statements]
    return [(node.lineno, node.end_lineno or node.lineno, names) for node, names in named if names]


def distances(exercise: Exercise, number: int) -> dict[str, int]:
    """Tell how near each name of the solution is to a mutant's edit: 0 where it is made, 1 in what mentions that."""
    source = (exercise.folder / "solution.py").read_text("utf-8")
    line = 1 + source[: source.find(exercise.mutants[number]["find"].lstrip())].count("\n")
    around = [names for first, last, names in _spans(source) if first <= line <= last]
    queue = list(around[-1]) if around else []
    found = dict.fromkeys(queue, 0)
    for name in queue:
        for other, names in mentions(source).items():
            if name in names and other not in found:
                found[other] = found[name] + 1
                queue.append(other)
    return found


@cache
def used_by(path: Path, test: str) -> set[str]:
    """Return the names in a test and in the helpers and fixtures of its file that it uses."""
    local = mentions(path.read_text("utf-8"))
    queue = [test]
    for name in queue:
        queue += sorted(local.get(name, set()) - set(queue))
    return set(queue)


class Trial:
    """Runs tests over variants instead of implementations, and drops each at its first disagreement.

    With ``--check`` a mutant is expected to pass (so the first failure rejects it) and a starter to be all todo. With
    ``--agree FILE`` the mistakes in FILE are expected, and the mutants left at the end are written back to it.
    """

    def __init__(self, config: pytest.Config) -> None:
        """Read the outcomes to agree with, if any."""
        self.file = Path(config.option.agree) if config.option.agree else None
        self.expected: dict[str, str] = json.loads(self.file.read_text("utf-8")) if self.file else {}
        self.dropped: set[tuple[str, str]] = set()
        self.started = 0  # items, in the session's order
        self.ran: dict[tuple[str, str], int] = defaultdict(int)
        self.starters: dict[str, list[str]] = defaultdict(
            list
        )  # exercise -> tests an untouched starter passes or fails

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what tests no variant, and put the tests that tell most first."""
        kept = [item for item in items if _variant(item) and (not self.file or test_key(item) in self.expected)]
        left = set(items).difference(kept)
        config.hook.pytest_deselected(items=[item for item in items if item in left])
        if self.file:
            kept.sort(key=lambda item: not self.expected[test_key(item)])  # what failed first
        else:
            kept.sort(key=_by_distance(kept))
        items[:] = kept

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self) -> None:
        """Count, to know what comes next."""
        self.started += 1

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Pass over the tests that are left of a variant that is out."""
        if _variant(item) in self.dropped:
            pytest.skip("rejected already")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Compare what happened with what was expected."""
        report = yield
        variant = _variant(item)
        if variant is None or variant in self.dropped or (report.when != "call" and report.passed):
            return report
        if variant[1] == COMMITTED:
            if not report.skipped:
                self.starters[variant[0]].append(f"{'passes' if report.passed else 'fails'} {item.nodeid}")
        elif not report.skipped:
            self.ran[variant] += 1
            if mistake(item, call) != self.expected.get(test_key(item), ""):
                self.dropped.add(variant)
                self._leave_out_the_rest(item.session.items, variant)
        if report.failed:
            report.outcome = "skipped"
            report.longrepr = (str(item.path), 0, "rejected")
            report.rejected = True  # type: ignore[attr-defined]
        return report

    def _leave_out_the_rest(self, items: list[pytest.Item], variant: tuple[str, str]) -> None:
        """Take what comes next of a variant that is out off the list, but one: pytest tears down towards that."""
        end = self.started
        while end < len(items) and _variant(items[end]) == variant:
            end += 1
        del items[self.started : end - 1]

    def pytest_sessionfinish(self) -> None:
        """Write down which mutants agree, where that was the question."""
        if self.file:
            agreeing = sorted(variant[1] for variant in self.ran if variant not in self.dropped)
            self.file.with_suffix(".answer").write_text(json.dumps(agreeing), "utf-8")

    def survivors(self, exercise: Exercise) -> list[str]:
        """Name the mutants of ``exercise`` that no test rejected."""
        names = enumerate(mutant["name"] for mutant in exercise.mutants)
        return [name for number, name in names if (exercise.name, f"{PREFIX}{number}") not in self.dropped]


def _by_distance(items: list[pytest.Item]) -> Callable[[pytest.Item], tuple[int, float]]:
    """Return a sorting key that keeps variants together and begins with the tests of what a mutant changes."""
    place: dict[tuple[str, str] | None, int] = {}
    near: dict[tuple[str, str] | None, dict[str, int]] = {None: {}}
    for item in items:
        variant, exercise = _variant(item), exercise_of(item.path)
        if variant and exercise and variant not in place:
            place[variant] = len(place)
            number = variant[1].removeprefix(PREFIX)
            near[variant] = distances(exercise, int(number)) if number.isdigit() else {}

    def key(item: pytest.Item) -> tuple[int, float]:
        variant = _variant(item)
        names = used_by(item.path, getattr(item, "originalname", item.name))
        return place.get(variant, -1), min((near[variant][n] for n in names if n in near[variant]), default=math.inf)

    return key


def _variant(item: pytest.Item) -> tuple[str, str] | None:
    """Return exercise and variant that ``item`` tests."""
    impl, exercise = impl_of(item), exercise_of(item.path)
    return (exercise.name, impl) if exercise and stands_for(impl) != impl else None


def agreeing_with(
    exercise: Exercise, outcomes: dict[str, str], arguments: list[str], seconds: float
) -> list[str] | None:
    """Name the mutants that make the mistakes of ``outcomes``, by test; None where ``seconds`` were not enough."""
    import tempfile  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "outcomes.json"
        file.write_text(json.dumps(outcomes), "utf-8")
        command = [sys.executable, "-m", "pytest", str(exercise.folder), "--agree", str(file), "-q", *arguments]
        try:
            subprocess.run(command, timeout=seconds, capture_output=True, check=False)  # noqa: S603
        except subprocess.TimeoutExpired:
            return None
        answer = file.with_suffix(".answer")
        names: list[str] = json.loads(answer.read_text("utf-8")) if answer.exists() else []
    return [exercise.mutants[int(name.removeprefix(PREFIX))]["name"] for name in names]
