"""Time implementations against each other, round by round, so that a noisy machine is noisy for all of them."""

from __future__ import annotations

import functools
import math
import statistics
import sys
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from harness import results, runs
from harness.exercise import Exercise, exercise_of, exercises_below
from harness.plugin import all_threads, find_todos, lacks, load
from harness.results import Result

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

    from pytest_benchmark.fixture import BenchmarkFixture

BUDGET = 2.0  # seconds for the rounds of one race
FEWEST, MOST = 5, 200  # rounds
SLICE = 1e-3  # seconds: what is shorter is repeated within a round, well above the clock's step
RESULTS = pytest.StashKey[list[Result]]()
LIMITS = pytest.StashKey[dict[str, float]]()
LAST = pytest.StashKey[dict[str, Any]]()


class Race:
    """Runs all implementations of an exercise on the same work, interleaved."""

    def __init__(self, request: pytest.FixtureRequest, benchmark: BenchmarkFixture, exercise: Exercise) -> None:
        """Remember whose race this is."""
        self.request, self.benchmark, self.exercise = request, benchmark, exercise
        self.config: pytest.Config = request.config
        self.device: str = self.config.option.device

    def __call__(
        self,
        run: Callable[..., object],
        *,
        inputs: Callable[[], tuple[Any, ...]] = lambda: (),
        check: Callable[..., object] | None = None,
        prepare: Callable[[ModuleType], Any] | None = None,
        bytes: int = 0,  # noqa: A002 - the field's word
        flops: int = 0,
        unit: str = "",
        clock: Callable[[], float] = time.perf_counter,
        budget: float = BUDGET,
    ) -> Result:
        """Race ``run(implementation, *inputs())``, each output checked once by ``check(output, *inputs)``.

        ``prepare`` makes a contestant's state outside the clock; ``run`` gets it in place of the module. ``bytes`` and
        ``flops`` are what any implementation has to move and compute; with them the table states the physical limit.
        """
        sync = self._settle_torch()
        result = Result(self.exercise.name, self._case(unit), self.device, all_threads())
        result.limit, result.limit_text = self._limit(bytes, flops)
        states = self._contestants(result, run, inputs, check, prepare)
        times = self._warm_up(states, run, inputs(), sync, clock)
        deadline = time.perf_counter() + budget
        names = list(states)
        result.seconds = {name: [] for name in names}
        for turn in range(MOST):
            if turn >= FEWEST and time.perf_counter() > deadline:
                break
            given = inputs()
            # Everyone starts equally often, and the direction alternates: nobody always finds another's cache.
            shift = turn // 2 % len(names)
            for name in (names[shift:] + names[:shift])[:: -1 if turn % 2 else 1]:
                call = functools.partial(run, states[name], *given)
                result.seconds[name].append(_seconds(call, times[name], sync, clock))
        self._record(result)
        self.benchmark.group = f"{result.exercise} {result.case}"
        pedantic: Callable[..., object] = self.benchmark.pedantic
        pedantic(run, args=(states["solution"], *inputs()), rounds=3, iterations=times["solution"])
        return result

    def _settle_torch(self) -> Callable[[], object]:
        """Fix the number of threads; return how to wait for the device."""
        torch = sys.modules.get("torch")
        if torch is None:
            return lambda: None
        torch.set_num_threads(all_threads())
        return torch.accelerator.synchronize if self.device != "cpu" else lambda: None

    def _case(self, unit: str) -> str:
        name, _, parameters = self.request.node.name.removeprefix("bench_").partition("[")
        return " ".join(part for part in (name.replace("_", " "), parameters.rstrip("]"), unit) if part)

    def _limit(self, amount: int, flops: int) -> tuple[float, str]:
        """Return the least seconds that the machine needs, and what bounds it."""
        cache = self.config.stash.setdefault(LIMITS, {})
        bounds = []
        if amount:
            speed = cache.setdefault("bandwidth", 0.0) or measure_bandwidth(self.device)
            cache["bandwidth"] = speed
            bounds.append((amount / speed, f"{amount / 1e6:.4g} MB at {speed / 1e9:.3g} GB/s"))
        if flops:
            speed = cache.setdefault("flops", 0.0) or measure_flops(self.device)
            cache["flops"] = speed
            bounds.append((flops / speed, f"{flops / 1e6:.4g} MFLOP at {speed / 1e9:.4g} GFLOP/s"))
        return max(bounds, default=(0.0, ""))

    def _contestants(
        self,
        result: Result,
        run: Callable[..., object],
        inputs: Callable[[], tuple[Any, ...]],
        check: Callable[..., object] | None,
        prepare: Callable[[ModuleType], Any] | None,
    ) -> dict[str, Any]:
        """Let in who is there and gives the right answer; nobody else's time means anything."""
        states = {}
        asked = [name for name in self.config.option.impl.split(",") if name]
        for name in self.exercise.implementations:
            if asked and name not in (*asked, "solution"):
                continue
            if name == "starter" and (why := unsolved(self.exercise, self.config.rootpath)):
                result.absent[name] = why
                continue
            try:
                module = load(self.exercise, name)
                state = prepare(module) if prepare else module
                given = inputs()
                output = run(state, *given)
                if check:
                    check(output, *given)
            except pytest.skip.Exception as reason:
                result.absent[name] = str(reason)
            except Exception as error:
                if name == "solution":
                    raise
                missing = lacks(error, self.exercise, name)
                todo = name == "starter" and find_todos(error, self.exercise)
                first = str(error).strip().split("\n")[0][:80]
                words = f"has no {missing}" if missing else "todo" if todo else f"{type(error).__name__}: {first}"
                result.absent[name] = words
            else:
                states[name] = state
        return states

    @staticmethod
    def _warm_up(
        states: dict[str, Any],
        run: Callable[..., object],
        given: tuple[Any, ...],
        sync: Callable[[], object],
        clock: Callable[[], float],
    ) -> dict[str, int]:
        """Return how often a round repeats each contestant's call."""
        once = {name: _seconds(functools.partial(run, state, *given), 2, sync, clock) for name, state in states.items()}
        return {name: max(1, min(10_000, math.ceil(SLICE / max(seconds, 1e-9)))) for name, seconds in once.items()}

    def _record(self, result: Result) -> None:
        """Keep the result for the closing table and for the JSON file."""
        self.config.stash.setdefault(RESULTS, []).append(result)
        self.benchmark.extra_info.update(result.summary())


def _seconds(call: Callable[[], object], times: int, sync: Callable[[], object], clock: Callable[[], float]) -> float:
    """Return the seconds of one call, averaged over ``times`` of them."""
    sync()
    start = clock()
    for _ in range(times):
        call()
    sync()
    return (clock() - start) / times


def measure_bandwidth(device: str) -> float:
    """Measure bytes read per second: the best of several sums over 256 MB."""
    if torch := sys.modules.get("torch"):
        data = torch.ones(1 << 26, device=device)
        sync = torch.accelerator.synchronize if device != "cpu" else lambda: None
        best = min(_seconds(data.sum, 1, sync, time.perf_counter) for _ in range(7))
    else:
        import numpy as np  # noqa: PLC0415

        array = np.ones(1 << 25)
        best = min(_seconds(array.sum, 1, lambda: None, time.perf_counter) for _ in range(7))
    return (1 << 28) / best


def measure_flops(device: str) -> float:
    """Measure fp32 operations per second: the best of several products of 2048 x 2048 matrices."""
    if torch := sys.modules.get("torch"):
        a = torch.ones(2048, 2048, device=device)
        sync = torch.accelerator.synchronize if device != "cpu" else lambda: None
    else:
        import numpy as np  # noqa: PLC0415

        a, sync = np.ones((2048, 2048), np.float32), lambda: None
    return 2 * 2048**3 / min(_seconds(lambda: a @ a, 1, sync, time.perf_counter) for _ in range(5))


def unsolved(exercise: Exercise, root: Path) -> str:
    """Say why the reader's starter may not race yet, "" where its core tests passed since it changed."""
    if any(todo.level == "core" for todo in exercise.todos()):
        return "todo"
    changed = exercise.starter.stat().st_mtime
    last = next((r for r in reversed(runs.read(root)) if (r.exercise, r.impl) == (exercise.name, "starter")), None)
    if last is None or last.time < changed:
        return f"its tests have not run since it changed: nox -s test-{exercise.package} -- {exercise.short}"
    failed = last.failed if last.failed_core is None else last.failed_core
    return f"{failed} of its core tests fail" if failed else ""


@pytest.fixture
def race(request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> Race:
    """Return the race of the exercise in whose folder the benchmark lies."""
    exercise = exercise_of(request.path)
    if exercise is None:
        msg = "`race` outside an exercise's folder"
        raise pytest.UsageError(msg)
    return Race(request, benchmark, exercise)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what concerns races."""
    group = parser.getgroup("exercises")
    group.addoption("--compare", action="store_true", help="set this run's ratios beside the last one's")
    group.addoption("--save", action="store_true", help="write the package's RESULTS.md; only on a full run")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to save part of a run, and read the last one before it is overwritten."""
    if config.option.save:
        options = config.option
        found = [e for arg in config.args for e in exercises_below(config.invocation_params.dir / arg)]
        if options.keyword or options.markexpr or options.impl or not found:
            msg = "--save writes RESULTS.md whole: run it without -k, -m, --impl and exercises' names"
            raise pytest.UsageError(msg)
    config.stash[LAST] = results.last_runs(config.rootpath) if config.option.compare else {}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print one table a race; append to the history; write RESULTS.md where asked."""
    found = config.stash.get(RESULTS, [])
    if not found:
        return
    terminalreporter.section("speed (medians of interleaved rounds with quartiles; above 1x is faster than the rival)")
    for result in found:
        terminalreporter.line(result.heading(), bold=True)
        for line in results.lines(result):
            terminalreporter.line(line)
        for line in results.beside(result, config.stash[LAST].get(result.key)):
            terminalreporter.line(line)
        terminalreporter.line("")
    results.write_json(config.rootpath, found)
    _append(config, found)
    if config.option.save:
        exercises = [e for arg in config.args for e in exercises_below(config.invocation_params.dir / arg)]
        failed = bool(terminalreporter.stats.get("failed"))
        for line in results.save(exercises, found, config.option.device, failed=failed):
            terminalreporter.line(line)


def _append(config: pytest.Config, found: list[Result]) -> None:
    """Write the geometric mean of each contestant's ratios into the reader's history."""
    logs: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for result in found:
        for name in result.seconds:
            for rival in result.seconds:
                if rival != name:
                    logs[result.exercise, name][rival].append(math.log(result.ratio(name, rival)[1]))
    lines = []
    for (exercise, name), rivals in logs.items():
        ratios = {rival: round(math.exp(statistics.fmean(values)), 4) for rival, values in rivals.items()}
        lines.append(runs.Run(exercise, name, found[0].device, ratios=ratios))
    runs.append(config.rootpath, lines)
