"""Whether an exercise is whole: one interface, complete texts, a fair size, and tests that reject its mutants."""

from __future__ import annotations

import ast
import itertools
import tomllib
from functools import cache
from typing import TYPE_CHECKING

import pytest

from harness import mutants
from harness.exercise import Exercise, Todo, listed, raised_message, todos_in

if TYPE_CHECKING:
    from collections.abc import Iterator

MINUTES = range(20, 46)
CORE_LINES = 70  # "at most about 60 lines of baseline"
HINTS, RUBRIC, FOLLOWUPS, MUTANTS = 3, 3, 3, 5

Interface = dict[str, str]


@cache
def interface(source: str) -> Interface:
    """Map each public name of a module (``f``, ``Class.method``, ``Class.field``) to its signature as source text."""
    found: Interface = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = signature(node)
        elif isinstance(node, ast.ClassDef):
            found[node.name] = "class"
            found |= {f"{node.name}.{name}": text for name, text in _members(node)}
    return {name: text for name, text in found.items() if not name.startswith("_")}


def _members(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    is_dataclass = any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
    for member in node.body:
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
            if not member.name.startswith("_") or member.name.startswith("__"):
                yield member.name, signature(member)
        elif is_dataclass and isinstance(member, ast.AnnAssign):
            yield ast.unparse(member.target), ast.unparse(member)


def signature(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Write a function's parameters and result down; decorators that change how it is called belong to it."""
    how = [
        ast.unparse(d) for d in function.decorator_list if ast.unparse(d) in ("property", "staticmethod", "classmethod")
    ]
    returns = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    kind = "async " if isinstance(function, ast.AsyncFunctionDef) else ""
    return " ".join([*how, f"{kind}({ast.unparse(function.args)}){returns}"])


def bound_names(source: str) -> set[str]:
    """Return every name that a module binds at its top level, by import and assignment too."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names |= {(alias.asname or alias.name).split(".")[0] for alias in aliases}
            case ast.Assign(targets=targets):
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return names


def levels(source: str) -> dict[str, str]:
    """Map each top-level name of a starter to the level of its TODOs: core where any of them is."""
    found: dict[str, str] = {}
    for todo in todos_in(source):
        found[todo.owner] = min(todo.level, found.get(todo.owner, todo.level))
    return found


def may_lack(exercise: Exercise, impl: str, name: str) -> bool:
    """Tell whether an implementation may leave a public name out: peers any, a baseline what is only stretch."""
    source = mutants.committed(exercise.starter)
    if name not in interface(source):
        return False
    return impl.startswith("peer_") or (impl == "baseline" and levels(source).get(name) == "stretch")


def contract(exercise: Exercise) -> Iterator[str]:
    """Yield where an implementation departs from the interface that the starter defines."""
    wanted = interface(mutants.committed(exercise.starter))
    for impl in exercise.implementations[1:]:
        source = (exercise.folder / f"{impl}.py").read_text("utf-8")
        have, bound = interface(source), bound_names(source)
        for name, text in wanted.items():
            owner = name.split(".")[0]
            aliased = owner in bound and owner not in have
            if name in have and have[name] != text:
                yield f"{impl}.py: {name}{have[name]} should be {name}{text}, as in starter.py"
            elif name not in have and not aliased and not may_lack(exercise, impl, owner):
                yield f"{impl}.py lacks {name}, which starter.py defines"
            elif aliased and not impl.startswith("peer_"):
                yield f"{impl}.py binds {name} by import or assignment: define it, so that its signature can be read"


def starter(exercise: Exercise) -> Iterator[str]:
    """Yield what is wrong with the starter as committed."""
    source = mutants.committed(exercise.starter)
    for node in ast.walk(ast.parse(source)):
        message = raised_message(node) if isinstance(node, ast.Raise) else None
        if message is not None and Todo.parse(message) is None:
            form = "TODO n (core, about 6 lines): what to do"
            yield f"starter.py:{getattr(node, 'lineno', 0)}: write {form!r}, not {message!r}"
    todos = todos_in(source)
    if not todos:
        yield "starter.py has no TODO"
    if sorted({todo.id for todo in todos}) != list(range(1, len({todo.id for todo in todos}) + 1)):
        yield f"starter.py: number the TODOs 1, 2, 3, ...; they are {sorted({todo.id for todo in todos})}"


def texts(exercise: Exercise) -> Iterator[str]:
    """Yield what ``exercise.toml`` and ``mutants.toml`` lack."""
    try:
        info, wrong = exercise.info, exercise.mutants
    except tomllib.TOMLDecodeError as error:
        yield f"toml: {error}"
        return
    if not info:
        yield "exercise.toml is missing"
        return
    for name in ("title", "sources"):
        if not info.get(name):
            yield f"exercise.toml: {name} is missing"
    if info.get("minutes") not in MINUTES:
        yield f"exercise.toml: minutes of the core should be {MINUTES[0]} to {MINUTES[-1]}, not {info.get('minutes')}"
    yield from _todo_texts(exercise)
    if len(info.get("rubric", [])) < RUBRIC or not all(row.get("listen_for") for row in info["rubric"]):
        yield f"exercise.toml: at least {RUBRIC} [[rubric]] with listen_for"
    followups = info.get("followup", [])
    if len(followups) < FOLLOWUPS:
        yield f"exercise.toml: at least {FOLLOWUPS} [[followup]], there are {len(followups)}"
    for entry in followups:
        if not entry.get("question") or not any(char.isdigit() for char in entry.get("answer", "")):
            yield f"exercise.toml: the answer to {entry.get('question', '')[:50]!r} carries no number"
    yield from _mutant_texts(exercise, wrong)


def _todo_texts(exercise: Exercise) -> Iterator[str]:
    todos = {todo.id: todo.level for todo in todos_in(mutants.committed(exercise.starter))}
    described = {entry.get("id"): entry for entry in exercise.info.get("todo", [])}
    if set(todos) != set(described):
        yield f"exercise.toml describes TODO {sorted(described)}, starter.py has {sorted(todos)}"
    for number, entry in described.items():
        if entry.get("level") != todos.get(number, entry.get("level")):
            yield f"exercise.toml: TODO {number} is {entry.get('level')}, in starter.py {todos[number]}"
        if len(entry.get("hints", [])) != HINTS:
            yield f"exercise.toml: TODO {number} needs {HINTS} hints (a question, the idea, nearly the line)"


def _mutant_texts(exercise: Exercise, wrong: list[dict[str, str]]) -> Iterator[str]:
    if len(wrong) < MUTANTS:
        yield f"mutants.toml: at least {MUTANTS} mutants, there are {len(wrong)}"
    for number, mutant in enumerate(wrong):
        if missing := {"name", "find", "put"} - set(mutant):
            yield f"mutants.toml: mutant {number + 1} lacks {', '.join(sorted(missing))}"
            continue
        try:
            ast.parse(mutants.mutate(exercise, number))
        except (ValueError, SyntaxError) as error:
            yield f"mutants.toml: {mutant['name']!r}: {error}"


def code_lines(source: str, leave_out: set[str]) -> int:
    """Count a module's lines of code: no docstrings, comments, imports, nor the definitions in ``leave_out``."""
    lines: set[int] = set()
    for top in ast.parse(source).body:
        if isinstance(top, ast.Import | ast.ImportFrom) or getattr(top, "name", "") in leave_out:
            continue
        for node in ast.walk(top):
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            if isinstance(node, ast.stmt) and not docstring:
                body = getattr(node, "body", None)
                last = body[0].lineno - 1 if isinstance(body, list) and body else (node.end_lineno or node.lineno)
                lines.update(range(node.lineno, max(node.lineno, last) + 1))
    text = source.splitlines()
    return sum(1 for line in lines if text[line - 1].strip() and not text[line - 1].strip().startswith(("#", '"""')))


def size(exercise: Exercise) -> Iterator[str]:
    """Yield where the core is more than an interview's half hour."""
    baseline = exercise.folder / "baseline.py"
    if not baseline.exists():
        yield "baseline.py is missing"
        return
    level = levels(mutants.committed(exercise.starter))
    stretch = {name for name, value in level.items() if value == "stretch"}
    count = code_lines(baseline.read_text("utf-8"), stretch)
    if count > CORE_LINES:
        yield f"baseline.py: the core takes {count} lines of code, at most about 60; make parts of it stretch"


def whole(exercise: Exercise) -> list[str]:
    """List everything that can be said against an exercise without running it."""
    needed = ("starter.py", "exercise.toml", "mutants.toml", f"test_{exercise.short}.py", f"bench_{exercise.short}.py")
    if missing := [name for name in needed if not (exercise.folder / name).exists()]:
        return [f"{name} is missing" for name in missing]
    parts = (starter(exercise), contract(exercise), texts(exercise), size(exercise))
    return list(itertools.chain.from_iterable(parts))


class Check:
    """Adds the static checks to a run over mutants, and fails it where anything is wrong."""

    def __init__(self, config: pytest.Config, exercises: list[Exercise]) -> None:
        """Check everything that needs no run."""
        self.config = config
        self.exercises = exercises
        self.errors = {exercise.name: whole(exercise) for exercise in exercises}
        for exercise in exercises:
            names = listed(exercise.folder.parent)
            if exercise.short not in names:
                path = "pyproject.toml"
                self.errors[exercise.name].append(f"add {exercise.short!r} to [tool.harness] exercises in {path}")
            for name in names:
                if not (exercise.folder.parent / name / "solution.py").exists():
                    self.errors[exercise.name].append(f"[tool.harness] exercises names {name!r}, which has no solution")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Add what the run over the mutants found."""
        trial = session.config.pluginmanager.get_plugin("harness-mutants")
        if not isinstance(trial, mutants.Trial) or session.config.option.collectonly:
            return
        for exercise in self.exercises:
            errors = self.errors[exercise.name]
            errors += [
                f"mutant survives: {name!r}; write a test that tells it from the solution"
                for name in trial.survivors(exercise)
            ]
            errors += [f"untouched starter {what}: it should be todo" for what in trial.starters[exercise.name]]
        if any(self.errors.values()) or not self.exercises:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        elif session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.OK

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print one line for each exercise, and one for each error."""
        terminalreporter.section("check")
        for exercise in self.exercises:
            errors = self.errors[exercise.name]
            killed = f"{len(exercise.mutants)} mutants rejected"
            terminalreporter.line(
                f"{exercise.name:<24} {f'{len(errors)} errors' if errors else f'whole, {killed}'}",
                **{"red" if errors else "green": True},
            )
            for error in errors:
                terminalreporter.line(f"    {error}", red=True)
