"""Run an exercise's tests over every implementation of it, and show the score.

The exercise follows from the folder of the test file; ``starter``, ``baseline``, ``solution`` and every ``peer_*`` in
that folder is an implementation. A test that asks for ``impl`` runs once for each of them.
"""

from __future__ import annotations

import contextlib
import importlib
import linecache
import os
import re
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness import check, mutants, score
from harness.exercise import Exercise, exercise_of, exercises_below, is_literal_raise
from harness.mutants import impl_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from types import ModuleType, TracebackType

MARKS = (
    "stretch: the test belongs to a stretch TODO; all others are core",
    "slow: left out unless asked for with -m slow",
    "only(*implementations): run for these implementations alone",
    "known(*implementations, reason): these are expected to fail, and the test fails when they do not",
    "threads(count): how many torch has in this test; else one, in slow tests one for each processor",
)
THREAD_ERRORS = pytest.StashKey[list[BaseException]]()
IS_TODO = pytest.StashKey[bool]()
SHOWN = {"starter": "yours"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the harness's options."""
    group = parser.getgroup("exercises")
    group.addoption("--impl", default="", metavar="NAMES", help="only these implementations: starter,solution")
    group.addoption("--device", default="cpu", choices=("cpu", "cuda", "mps"), help="where tensors live")
    group.addoption("--strict-todo", action="store_true", help="a todo counts as a failure")
    group.addoption("--hint", action="store_true", help="print the next hint of the first unfinished TODO, run nothing")
    group.addoption("--check", action="store_true", help="check the exercises: contract, texts, mutants")
    group.addoption("--agree", metavar="FILE", help="find the mutants that agree with the outcomes in FILE")
    group.addoption("--hold-back", metavar="SEED", help="leave half of each exercise's tests out")
    group.addoption("--only-held-back", metavar="SEED", help="run only the half that --hold-back SEED leaves out")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks and make warnings errors where our own packages raise them."""
    for remembered in (exercise_of, mutants.committed):  # a run within a process may find other files than the last
        remembered.cache_clear()
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
    packages = sorted({found.package for found in _selected(config)})
    if packages:
        ours = rf"({'|'.join(packages)})\.(?!.*\bpeer_)"
        config.addinivalue_line("filterwarnings", f"error:::{ours}")
    config.addinivalue_line("filterwarnings", "error::pytest.PytestUnhandledThreadExceptionWarning")
    _settle_hypothesis(quick=bool(config.option.check or config.option.agree))
    config.stash[THREAD_ERRORS] = []
    config.pluginmanager.register(score.Score(config), "harness-score")
    if config.option.check or config.option.agree:
        if getattr(config.option, "numprocesses", None):
            msg = "--check drops a mutant at its first failure and so runs in one process: leave -n out"
            raise pytest.UsageError(msg)
        config.pluginmanager.register(mutants.Trial(config), "harness-mutants")
    if config.option.check:
        config.pluginmanager.register(check.Check(config, _selected(config)), "harness-check")


def _settle_hypothesis(*, quick: bool) -> None:
    """Make property tests repeatable, and waste no time on shrinking where only the verdict counts."""
    try:
        hypothesis = importlib.import_module("hypothesis")
    except ModuleNotFoundError:
        return
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    phases += [] if quick else [hypothesis.Phase.shrink]
    hypothesis.settings.register_profile(
        "harness", deadline=None, derandomize=True, database=None, phases=phases, print_blob=False
    )
    hypothesis.settings.load_profile("harness")


def _selected(config: pytest.Config) -> list[Exercise]:
    """Return the exercises in the files and folders given on the command line."""
    paths = [config.invocation_params.dir / arg.split("::")[0] for arg in config.args]
    found: dict[Path, Exercise] = {}
    for path in paths:
        inside = exercise_of(path) if path.exists() else None
        for exercise in [inside] if inside else exercises_below(path):
            found.setdefault(exercise.folder, exercise)
    return list(found.values())


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Answer ``--hint`` without running anything."""
    return score.print_hint(config, _selected(config)) if config.option.hint else None


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(module_path: Path) -> None:
    """Import the exercise's package before pytest imports a test in it.

    With ``importmode=importlib`` pytest executes the files of a test's packages itself, each once more where the one
    above has imported it meanwhile: a class would then be two, of which a test has one and a solution the other.
    """
    if exercise := exercise_of(module_path):
        with contextlib.suppress(Exception):  # pytest meets it again, and says where
            importlib.import_module(exercise.package)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for ``impl`` once for each implementation."""
    if "impl" not in metafunc.fixturenames:
        return
    exercise = exercise_of(metafunc.definition.path)
    if exercise is None:
        msg = f"{metafunc.definition.nodeid} asks for `impl` but lies in no exercise's folder"
        raise pytest.UsageError(msg)
    names = _wanted(metafunc.config, exercise)
    for mark in metafunc.definition.iter_markers("only"):
        _refuse_unknown(mark, exercise)
        names = [name for name in names if mutants.stands_for(name) in mark.args]
    metafunc.parametrize("impl", names, ids=[SHOWN.get(n, n) for n in names], indirect=True, scope="module")


def _wanted(config: pytest.Config, exercise: Exercise) -> list[str]:
    """Return the implementations of ``exercise`` to run; a name that nobody has is a usage error."""
    if config.option.check or config.option.agree:
        return mutants.variants(exercise, starter=config.option.check)
    asked = [name for name in config.option.impl.split(",") if name]
    everywhere = {name for found in _selected(config) for name in found.implementations} | set(exercise.implementations)
    if unknown := sorted(set(asked) - everywhere):
        msg = f"--impl: no implementation {', '.join(unknown)}; there are {', '.join(sorted(everywhere))}"
        raise pytest.UsageError(msg)
    return [name for name in exercise.implementations if not asked or name in asked]


def _refuse_unknown(mark: pytest.Mark, exercise: Exercise) -> None:
    """Stop at a misspelt implementation in a mark, which would silently test nothing."""
    for name in mark.args:
        if name not in exercise.implementations:
            msg = f"{mark.name}({name!r}): {exercise.name} has {', '.join(exercise.implementations)}"
            raise pytest.UsageError(msg)
        if mark.name == "known" and name in ("starter", "solution"):
            msg = f"known({name!r}): only a baseline or a peer may fall short"
            raise pytest.UsageError(msg)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Write exercise, implementation and level on the item, so that its reports carry them (xdist, junit)."""
    impl = impl_of(item)
    exercise = exercise_of(item.path)
    if impl and exercise:
        level = "stretch" if item.get_closest_marker("stretch") else "core"
        item.user_properties += [("exercise", exercise.name), ("impl", impl), ("level", level)]
        for mark in item.iter_markers("known"):
            _refuse_unknown(mark, exercise)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out slow tests unless asked for, and the half that is held back."""
    options = config.option
    seed = options.hold_back or options.only_held_back
    held = score.held_back(items, seed) if seed else set()

    def keep(item: pytest.Item) -> bool:
        if "slow" not in (options.markexpr or "") and item.get_closest_marker("slow"):
            return False
        return not seed or (mutants.test_key(item) in held) == bool(options.only_held_back)

    kept = {item for item in items if keep(item)}
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


@pytest.fixture(scope="module")
def impl(request: pytest.FixtureRequest) -> ModuleType:
    """Return the implementation under test; a peer whose library is missing skips."""
    exercise = exercise_of(request.path)
    if exercise is None:
        msg = "`impl` outside an exercise's folder"
        raise pytest.UsageError(msg)
    return load(exercise, request.param)


def load(exercise: Exercise, name: str) -> ModuleType:
    """Import one implementation, or one of its mutants; skip a peer whose library is missing."""
    if variant := mutants.load(exercise, name):
        return variant
    try:
        return importlib.import_module(f"{exercise.name}.{name}")
    except ImportError as error:
        if name.startswith("peer_") and not str(error.name).startswith(exercise.package):
            pytest.skip(f"{name} needs {error.name or error}, which is not installed")
        raise


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    """Return the device asked for with ``--device``; fail where the machine has none."""
    name: str = request.config.option.device
    if name != "cpu" and not getattr(importlib.import_module("torch"), name).is_available():
        pytest.fail(f"--device {name}: this machine has none", pytrace=False)
    return name


def all_threads() -> int:
    """Return how many threads torch may use: what the environment says, else one for each processor."""
    return int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Settle torch's threads: over small tensors they wait for each other where the machine has other work as well."""
    if torch := sys.modules.get("torch"):
        mark = item.get_closest_marker("threads")
        usual = all_threads() if item.get_closest_marker("slow") else 1
        torch.set_num_threads(mark.args[0] if mark else usual)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Remember what threads of a test raise: the test itself may only see that a result is missing."""
    errors = item.config.stash[THREAD_ERRORS]
    errors.clear()
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if args.exc_value:
            errors.append(args.exc_value)
        before(args)

    threading.excepthook = hook
    try:
        return (yield)
    finally:
        threading.excepthook = before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give outcomes of their own to what a reader has not written yet, and to known shortcomings."""
    impl, exercise = impl_of(item), exercise_of(item.path)
    known = [mark for mark in item.iter_markers("known") if impl in mark.args]
    with _quick_traceback(item, call, known=bool(known)):
        report = yield
    if not impl or exercise is None:
        return report
    if report.failed and call.excinfo:
        error = call.excinfo.value
        starter = mutants.stands_for(impl) == "starter"
        todos = find_todos(error, exercise) if starter else []
        for other in item.config.stash[THREAD_ERRORS] if starter and not todos else ():
            todos += find_todos(other, exercise)
        if item.stash.get(IS_TODO, False) and todos:
            report.outcome, report.longrepr = "passed", None  # a thread's TODO, said again at tear-down
        elif todos:
            item.stash[IS_TODO] = True
            _set(report, "failed" if item.config.option.strict_todo else "skipped", todo=todos)
        elif missing := lacks(error, exercise, impl):
            _set(report, "skipped", reason=f"{impl} has no {missing}")
        elif starter:
            report.place = _place(call.excinfo.tb, exercise)  # type: ignore[attr-defined]
            report.mistake = mutants.mistake(item, call)  # type: ignore[attr-defined]
    if known and report.failed:
        _set(report, "skipped", known=str(known[0].kwargs.get("reason", "")))
    elif known and report.passed and report.when == "call":
        report.outcome = "failed"
        report.longrepr = f"{impl} is marked as known to fail here ({known[0].kwargs.get('reason')}) but passes"
    return report


@contextlib.contextmanager
def _quick_traceback(item: pytest.Item, call: pytest.CallInfo[None], *, known: bool) -> Iterator[None]:
    """Leave pytest's own traceback out, 40 ms each, where nobody reads it: a TODO, what a peer lacks, a mutant."""
    impl, exercise, style = impl_of(item), exercise_of(item.path), item.config.option.tbstyle
    if impl and exercise and call.excinfo:
        starter, error = mutants.stands_for(impl) == "starter", call.excinfo.value
        mutant = impl.startswith(mutants.PREFIX)
        if known or mutant or (starter and find_todos(error, exercise)) or lacks(error, exercise, impl):
            item.config.option.tbstyle = "value"
    try:
        yield
    finally:
        item.config.option.tbstyle = style


def _set(report: pytest.TestReport, outcome: str, *, reason: str = "", **extra: object) -> None:
    """Change what a report says; extra attributes travel with it through xdist."""
    message = reason or next((f"{name}: {value}" for name, value in extra.items()), "")
    report.outcome = outcome  # type: ignore[assignment]
    report.longrepr = (str(report.location[0]), report.location[1] or 0, message) if outcome == "skipped" else message
    for name, value in extra.items():
        setattr(report, name, value)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions that ``error`` wraps, itself first."""
    seen: set[int] = set()
    queue: list[BaseException | None] = [error]
    while queue:
        one = queue.pop(0)
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            queue += [one.__cause__, one.__context__, getattr(one, "inner_exception", None)]


def find_todos(error: BaseException, exercise: Exercise) -> list[str]:
    """Return the messages of the TODOs that ``error`` comes from; none where something else went wrong as well."""
    if isinstance(error, BaseExceptionGroup):
        parts = [find_todos(part, exercise) for part in error.exceptions]
        return sorted({todo for part in parts for todo in part}) if all(parts) else []
    for one in _chain(error):
        if isinstance(one, BaseExceptionGroup) and (inner := find_todos(one, exercise)):
            return inner
        if isinstance(one, NotImplementedError) and _is_todo(one, exercise):
            return [str(one) or "TODO"]
    return []


def _is_todo(error: NotImplementedError, exercise: Exercise) -> bool:
    """Tell whether a literal ``raise NotImplementedError`` in the starter raised ``error``."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        places.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    if type(error.__cause__).__name__ == "_RemoteTraceback":  # raised in a child process: its frames are only text
        frames = re.findall(r'File "(.+)", line (\d+)', str(error.__cause__))
        places = [(name, int(line)) for name, line in frames]
    if not places:
        return False
    name, line = places[-1]
    if Path(name).resolve() not in (exercise.starter.resolve(), mutants.committed_path(exercise).resolve()):
        return False
    return is_literal_raise("".join(linecache.getlines(name)), line)


def lacks(error: BaseException, exercise: Exercise, impl: str) -> str:
    """Name the public name that an incomplete baseline or peer does not have, "" where that is not the cause."""
    may = impl == "baseline" or impl.startswith("peer_")
    module = getattr(error, "obj", None)
    if not may or not isinstance(error, AttributeError) or getattr(module, "__name__", "") != f"{exercise.name}.{impl}":
        return ""
    return str(error.name) if check.may_lack(exercise, impl, str(error.name)) else ""


def _place(trace: TracebackType | None, exercise: Exercise) -> str:
    """Return file and line of the innermost frame in the reader's file."""
    line = 0
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).resolve() == exercise.starter.resolve():
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{exercise.starter}:{line}" if line else str(exercise.starter)


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """Give "todo", "known" and "rejected" letters and colours of their own."""
    letters: dict[str, tuple[str, Any]] = {
        "todo": ("t", ("TODO", {"yellow": True})),
        "known": ("k", ("KNOWN", {"cyan": True})),
        "rejected": (".", ("REJECTED", {"green": True})),
    }
    for name, (letter, word) in letters.items():
        if hasattr(report, name) and not report.failed:
            return name, letter, word
    return None
