"""Exercises as folders: what is in them, in which order, and whose code a tool runs.

Nothing here needs pytest or the packages' own dependencies, so that a command-line tool can import it.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
import tomllib
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

OURS = ("starter", "baseline", "solution")
TODO = re.compile(
    r"TODO (?P<id>\d+) \((?P<level>core|stretch)(?:, about (?P<lines>\d+) lines?)?\): (?P<text>.+)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Todo:
    """One ``raise NotImplementedError("TODO 1 (core, about 6 lines): ...")`` of a starter."""

    id: int
    level: str
    size: str
    text: str
    line: int
    owner: str  # the top-level function or class it stands in

    @classmethod
    def parse(cls, message: str, line: int = 0, owner: str = "") -> Todo | None:
        """Read a TODO's message; None where it does not have the form."""
        found = TODO.fullmatch(message)
        if found is None:
            return None
        lines = found["lines"]
        size = f"about {lines} line{'s' * (lines != '1')}" if lines else ""
        return cls(int(found["id"]), found["level"], size, " ".join(found["text"].split()), line, owner)


def raised_message(statement: ast.stmt) -> str | None:
    """Return the message of a literal ``raise NotImplementedError("...")``, "" without one, None for any other."""
    if not isinstance(statement, ast.Raise):
        return None
    match statement.exc:
        case ast.Call(func=ast.Name(id="NotImplementedError"), args=[ast.Constant(value=str(message))]):
            return message
        case ast.Name(id="NotImplementedError") | ast.Call(func=ast.Name(id="NotImplementedError")):
            return ""
    return None


@cache  # one starter's lines are asked for by every test of it
def is_literal_raise(source: str, line: int) -> bool:
    """Tell whether ``line`` of ``source`` belongs to a literal ``raise NotImplementedError``."""
    return any(
        isinstance(node, ast.Raise)
        and node.lineno <= line <= (node.end_lineno or 0)
        and raised_message(node) is not None
        for node in ast.walk(ast.parse(source))
    )


def todos_in(source: str) -> list[Todo]:
    """List the TODOs of a starter's source in the order of their ids, then lines."""
    found = []
    for owner in ast.parse(source).body:
        for node in ast.walk(owner):
            message = raised_message(node) if isinstance(node, ast.Raise) else None
            todo = Todo.parse(message, getattr(node, "lineno", 0), getattr(owner, "name", "")) if message else None
            if todo:
                found.append(todo)
    return sorted(found, key=lambda todo: (todo.id, todo.line))


@dataclass(frozen=True)
class Exercise:
    """A folder with implementations of one interface; ``name`` is its dotted module name."""

    name: str
    folder: Path

    @property
    def short(self) -> str:
        """The folder's name, as written after ``nox -s test-X --``."""
        return self.folder.name

    @property
    def package(self) -> str:
        """The package that it belongs to."""
        return self.name.split(".")[0]

    @property
    def starter(self) -> Path:
        """The file that the reader edits."""
        return self.folder / "starter.py"

    @cached_property
    def implementations(self) -> list[str]:
        """Names of the implementations: the reader's first, peers last."""
        peers = sorted(path.stem for path in self.folder.glob("peer_*.py"))
        return [name for name in OURS if (self.folder / f"{name}.py").exists()] + peers

    @cached_property
    def info(self) -> dict[str, Any]:
        """The content of ``exercise.toml``; empty where there is none."""
        path = self.folder / "exercise.toml"
        return tomllib.loads(path.read_text("utf-8")) if path.exists() else {}

    @cached_property
    def mutants(self) -> list[dict[str, str]]:
        """The content of ``mutants.toml``: dicts with name, find and put."""
        path = self.folder / "mutants.toml"
        return tomllib.loads(path.read_text("utf-8")).get("mutant", []) if path.exists() else []

    def todos(self) -> list[Todo]:
        """List what is left to do in the starter as it stands; nothing while it does not parse."""
        try:
            return todos_in(self.starter.read_text("utf-8"))
        except (OSError, SyntaxError):
            return []


@cache
def exercise_of(path: Path) -> Exercise | None:
    """Return the exercise in whose folder ``path`` lies; asked for at each report of a test, and so remembered."""
    folder = path if path.is_dir() else path.parent
    if not (folder / "solution.py").exists() or not (folder / "__init__.py").exists():
        return None
    parts, above = [folder.name], folder.parent
    while (above / "__init__.py").exists():
        parts.insert(0, above.name)
        above = above.parent
    return Exercise(".".join(parts), folder)


def exercises_below(folder: Path) -> list[Exercise]:
    """Find the exercises in and below ``folder``, package by package in the order of ``[tool.harness] exercises``."""
    folders = {path.parent for path in folder.glob("**/solution.py")}
    found = [exercise for path in folders if (exercise := exercise_of(path))]
    return sorted(found, key=order)


def order(exercise: Exercise) -> tuple[str, int, str]:
    """Sort key: the order that the package's ``pyproject.toml`` names, then the alphabet."""
    names = listed(exercise.folder.parent)
    return exercise.package, names.index(exercise.short) if exercise.short in names else len(names), exercise.name


def listed(module: Path) -> list[str]:
    """Read ``[tool.harness] exercises`` of the package whose module lies in ``module``."""
    path = module.parent.parent / "pyproject.toml"
    settings = tomllib.loads(path.read_text("utf-8")) if path.exists() else {}
    names: list[str] = settings.get("tool", {}).get("harness", {}).get("exercises", [])
    return names


_announced: set[str] = set()


def choose(name: str, mine: str = "") -> ModuleType:
    """Return the module whose code a tool runs for the exercise ``name``, such as "quant.affine".

    ``mine`` is "" for the solution, "all" for the reader's starter where its core is solved (else the solution), or the
    name of one exercise, whose starter then has to be solved. Functions of a solved starter that are still a
    stretch TODO come from the solution. One line on stderr says whose code runs. Raises ValueError where the
    exercise asked for is unsolved or does not belong to the package.
    """
    module = importlib.import_module(name)
    exercise = Exercise(name, Path(str(module.__file__)).parent)
    siblings = [path.parent.name for path in exercise.folder.parent.glob("*/solution.py")]
    if mine not in ("", "all", *siblings):
        msg = f"--mine {mine}: {exercise.package} has no such exercise, only {', '.join(sorted(siblings))}"
        raise ValueError(msg)
    solution = importlib.import_module(f"{name}.solution")
    if mine not in ("all", exercise.short):
        return solution
    left = exercise.todos()
    core = [todo for todo in left if todo.level == "core"]
    if core and mine == exercise.short:
        places = ", ".join(map(str, sorted({todo.id for todo in core})))
        msg = f"--mine {mine}: the starter still has core TODO {places} ({exercise.starter})"
        raise ValueError(msg)
    if core:
        _announce(f"{name}: the solution's code (the starter still has core TODOs)")
        return solution
    starter = importlib.import_module(f"{name}.starter")
    borrowed = sorted({todo.owner for todo in left})
    _announce(f"{name}: your code" + (f" (but the solution's {', '.join(borrowed)})" if borrowed else ""))
    if not borrowed:
        return starter
    # A module of its own, as what is borrowed must be seen by the reader's code too, but not by the starter's tests.
    mixed = ModuleType(starter.__name__, starter.__doc__)
    mixed.__dict__.update({key: value for key, value in vars(starter).items() if key.startswith("__")})
    exec(compile(exercise.starter.read_bytes(), str(exercise.starter), "exec"), mixed.__dict__)  # noqa: S102
    mixed.__dict__.update({owner: getattr(solution, owner) for owner in borrowed})
    return mixed


def choose_all(package: str, names: tuple[str, ...], mine: str = "") -> dict[str, ModuleType]:
    """Do as ``choose`` for all exercises that one command calls, by name; ValueError where ``mine`` names another."""
    folder = Path(str(importlib.import_module(package).__file__)).parent
    if mine not in ("", "all", *names) and (folder / mine / "solution.py").exists():
        msg = f"--mine {mine}: not called here, only {', '.join(names)}"
        raise ValueError(msg)
    return {name: choose(f"{package}.{name}", mine) for name in names}


def _announce(line: str) -> None:
    if line not in _announced:
        _announced.add(line)
        sys.stderr.write(line + "\n")
