"""The plugin, run on a toy package with one exercise."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.exercise import exercise_of
from harness.race import unsolved

pytest_plugins = ["pytester"]

STARTER = '''"""Yours."""


def double(x: int) -> int:
    """Twice x."""
    raise NotImplementedError("TODO 1 (core, about 1 line): add x to itself")


def triple(x: int) -> int:
    """Three times x."""
    raise NotImplementedError("TODO 2 (stretch, about 1 line): and once more")
'''
SOLVED = '''"""Right."""


def double(x: int) -> int:
    """Twice x."""
    return x + x


def triple(x: int) -> int:
    """Three times x."""
    return x + x + x
'''
TESTS = """
import pytest
def test_double(impl): assert impl.double(2) == 4, f"double of 2 came back as {impl.double(2)}, expected 4"
def test_double_of_negative(impl): assert impl.double(-3) == -6
@pytest.mark.stretch
def test_triple(impl): assert impl.triple(2) == 6
"""
INFO = """
title = "Doubling"
minutes = 20
sources = ["Euclid"]
[[todo]]
id = 1
level = "core"
hints = ["What is twice?", "A sum.", "x + x"]
[[todo]]
id = 2
level = "stretch"
hints = ["a", "b", "c"]
[[rubric]]
listen_for = "one"
[[rubric]]
listen_for = "two"
[[rubric]]
listen_for = "three"
[[followup]]
question = "q"
answer = "1"
[[followup]]
question = "q"
answer = "2"
[[followup]]
question = "q"
answer = "3"
"""
MUTANTS = """
[[mutant]]
name = "squares"
find = "return x + x\\n"
put = "return x * x\\n"
[[mutant]]
name = "adds two"
find = "return x + x\\n"
put = "return x + 2\\n"
[[mutant]]
name = "returns x"
find = "return x + x\\n"
put = "return x\\n"
[[mutant]]
name = "forgets the sign"
find = "return x + x\\n"
put = "return abs(x + x)\\n"
[[mutant]]
name = "quadruples"
find = "x + x + x"
put = "x + x + x + x"
"""


@pytest.fixture
def toy(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lay out ``toy/src/toy/sums`` with everything an exercise has."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.syspath_prepend(pytester.path / "toy/src")
    monkeypatch.setenv("PYTHONPATH", str(pytester.path / "toy/src"))
    folder = pytester.path / "toy/src/toy/sums"
    folder.mkdir(parents=True)
    (pytester.path / "pyproject.toml").write_text('[tool.pytest]\nminversion = "9.0"\n')
    (pytester.path / "toy/pyproject.toml").write_text('[tool.harness]\nexercises = ["sums"]\n')
    (folder.parent / "__init__.py").touch()
    (folder / "__init__.py").touch()
    (folder / "starter.py").write_text(STARTER)
    for name in ("baseline", "solution"):
        (folder / f"{name}.py").write_text(SOLVED)
    (folder / "peer_math.py").write_text(
        '"""A peer without triple."""\n\n\ndef double(x: int) -> int:\n    return 2 * x\n'
    )
    (folder / "peer_absent.py").write_text("import no_such_library\n")
    (folder / "test_sums.py").write_text(TESTS)
    (folder / "bench_sums.py").write_text(
        "def bench_double(race):\n    race(lambda impl, x: impl.double(x), inputs=lambda: (2,),"
        " check=lambda out, x: out == 4 or 1 / 0, bytes=8, budget=0.05)\n"
    )
    (folder / "exercise.toml").write_text(INFO)
    (folder / "mutants.toml").write_text(MUTANTS)
    return folder


def run(pytester: pytest.Pytester, *args: str, apart: bool = False) -> pytest.RunResult:
    """Run the toy's tests, ten times faster in this process than ``apart`` in one of their own."""
    runner = pytester.runpytest_subprocess if apart else pytester.runpytest_inprocess
    return runner("toy/src", "--import-mode=importlib", "-p", "no:cacheprovider", *args)


def test_fresh_clone(pytester: pytest.Pytester, toy: Path) -> None:
    result = run(pytester)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "*yours*baseline*solution*peer_absent*peer_math*",
            "toy.sums*core 0/2*stretch 0/1*3/3*3/3*-3 skipped*2/2 -1 skipped*",
            "next: toy.sums  TODO 1 of 2 (core, about 1 line)  add x to itself",
            "*toy/src/toy/sums/starter.py:6*20 minutes*",
            "*nox -s test-toy -- sums --hint*",
            "also waiting: sums 2 TODOs",
            "*8 passed, 4 skipped, 3 todo*",
        ]
    )


def test_a_class_is_one_for_tests_and_solution(pytester: pytest.Pytester, toy: Path) -> None:
    (toy.parent / "__init__.py").write_text("from toy.sums.solution import double\n")
    (toy / "__init__.py").write_text("class Sum: pass\n")
    (toy / "solution.py").write_text("from toy.sums import Sum\n" + SOLVED)
    tests = "from toy.sums import Sum\n" + TESTS + "def test_class(impl): assert getattr(impl, 'Sum', Sum) is Sum\n"
    (toy / "test_sums.py").write_text(tests)
    found = run(pytester, "--impl", "solution", apart=True)
    assert found.ret == 0, found.stdout.str()


def test_skips_say_why(pytester: pytest.Pytester, toy: Path) -> None:
    run(pytester, "-rs").stdout.fnmatch_lines_random(
        ["*peer_math has no triple*", "*peer_absent needs no_such_library*"]
    )


def test_strict_todo_grades(pytester: pytest.Pytester, toy: Path) -> None:
    run(pytester, "--strict-todo").assert_outcomes(passed=8, failed=3, skipped=4)


def test_history(pytester: pytest.Pytester, toy: Path) -> None:
    run(pytester, "--impl=starter")
    run(pytester, "--impl=solution")
    first, second = map(json.loads, (pytester.path / ".practice/runs.jsonl").read_text().splitlines())
    assert (first["exercise"], first["impl"], first["todo"], first["todos"]) == ("toy.sums", "starter", 3, [1, 2])
    assert (second["impl"], second["passed"], second["v"]) == ("solution", 3, 1)


def test_history_that_cannot_be_written_fails_nothing(pytester: pytest.Pytester, toy: Path) -> None:
    (pytester.path / ".practice").write_text("in the way")
    assert run(pytester).ret == 0


def test_wrong_answer_names_the_mutant(pytester: pytest.Pytester, toy: Path) -> None:
    starter = toy / "starter.py"
    starter.write_text(SOLVED.replace("return x + x\n", "return x * x\n"))
    result = run(pytester)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "FAILED  *sums/test_sums.py::test_double_of_negative[[]yours[]]",
            'yours behaves exactly like this known mistake:  "squares"',
            "next: toy.sums  1 failing*",
            "*starter.py*",
        ]
    )


def test_a_mistake_that_fails_the_same_tests_otherwise_is_not_named(pytester: pytest.Pytester, toy: Path) -> None:
    (toy / "starter.py").write_text(SOLVED.replace("return x + x\n", "return max(x + x, 0)\n"))
    said = run(pytester).stdout.str()
    assert "test_double_of_negative[yours]" in said
    assert "behaves exactly" not in said, "-3 became 0; squares and x + 2 fail the same test by other numbers"


def test_a_search_that_takes_too_long_says_so(
    pytester: pytest.Pytester, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (toy / "starter.py").write_text(SOLVED.replace("return x + x\n", "return x * x\n"))
    monkeypatch.setattr("harness.score.SEARCH_SECONDS", 0.5)
    run(pytester).stdout.fnmatch_lines(["which known mistake this looks like was not found out in 0.5 s"])

    def cut_off(command: list[str], **options: Any) -> Any:
        if "--agree" in command:
            raise subprocess.TimeoutExpired(command, options["timeout"])
        return through(command, **options)

    through = subprocess.run
    monkeypatch.setattr("harness.score.SEARCH_SECONDS", 30.0)
    monkeypatch.setattr("harness.mutants.subprocess.run", cut_off)
    run(pytester).stdout.fnmatch_lines(["which known mistake this looks like was not found out in 30 s"])


def test_failing_test_speaks_the_authors_words(pytester: pytest.Pytester, toy: Path) -> None:
    (toy / "starter.py").write_text(SOLVED.replace("return x + x\n", "return x * 3\n"))
    run(pytester).stdout.fnmatch_lines(["FAILED  *test_double[[]yours[]]", "  double of 2 came back as 6, expected 4"])


def test_solved(pytester: pytest.Pytester, toy: Path) -> None:
    (toy / "starter.py").write_text(SOLVED)
    run(pytester).stdout.fnmatch_lines(["solved: toy.sums", "*nox -s bench-toy -- sums*"])


def test_todo_anywhere_but_in_a_starter_fails(pytester: pytest.Pytester, toy: Path) -> None:
    (toy / "solution.py").write_text(STARTER)
    run(pytester, "--impl=solution").assert_outcomes(failed=3)


@pytest.mark.parametrize(
    "body",
    [
        'raise_it = NotImplementedError("no kernel")\n    raise raise_it',
        "return [].no_such_thing",
        'return getattr(x, "real")()',
    ],
)
def test_what_is_not_a_literal_todo_fails(pytester: pytest.Pytester, toy: Path, body: str) -> None:
    (toy / "starter.py").write_text(SOLVED.replace("return x + x\n", body + "\n"))
    run(pytester, "--impl=starter").assert_outcomes(failed=2, passed=1)


WRAPPED = {
    "cause": "try:\n        double(x)\n    except NotImplementedError as e:\n        raise RuntimeError('b') from e",
    "context": "try:\n        double(x)\n    except NotImplementedError:\n        raise RuntimeError('b')",
    "group": "errors = []\n    for f in (double, double):\n        try:\n            f(x)\n"
    "        except Exception as e:\n            errors.append(e)\n    raise ExceptionGroup('two', errors)",
    "thread": "import threading\n    t = threading.Thread(target=double, args=(x,))\n    t.start()\n    t.join()",
    "process": "import concurrent.futures as c, multiprocessing as m\n"
    "    with c.ProcessPoolExecutor(1, m.get_context('fork')) as pool:\n        return pool.submit(double, x).result()",
    "inner": "class E(Exception): pass\n    try:\n        double(x)\n    except NotImplementedError as error:\n"
    "        e = E()\n        e.inner_exception = error\n    raise e from None",
}


@pytest.mark.parametrize("how", WRAPPED)
def test_todo_is_found_through_wrappers(pytester: pytest.Pytester, toy: Path, how: str) -> None:
    source = STARTER[: STARTER.index('    raise NotImplementedError("TODO 2')] + f"    {WRAPPED[how]}\n"
    (toy / "starter.py").write_text(source)
    run(pytester, "--impl=starter", "-W", "ignore::DeprecationWarning", apart=True).stdout.fnmatch_lines(["*3 todo*"])


def test_group_with_a_real_failure_is_a_failure(pytester: pytest.Pytester, toy: Path) -> None:
    body = WRAPPED["group"].replace("(double, double)", "(double, lambda x: 1 / 0)")
    (toy / "starter.py").write_text(STARTER[: STARTER.index('    raise NotImplementedError("TODO 2')] + f"    {body}\n")
    result = run(pytester, "--impl=starter")
    result.stdout.fnmatch_lines(["*1 failed, 2 todo*"])


def test_thread_that_dies_fails_the_test(pytester: pytest.Pytester, toy: Path) -> None:
    (toy / "test_sums.py").write_text(
        "import threading\ndef test_thread(impl):\n"
        "    t = threading.Thread(target=lambda: 1 / 0)\n    t.start()\n    t.join()\n"
    )
    run(pytester, "--impl=solution").assert_outcomes(failed=1)


def test_known(pytester: pytest.Pytester, toy: Path) -> None:
    (toy / "baseline.py").write_text(SOLVED.replace("return x + x\n", "return abs(x) * 2\n"))
    known = "@pytest.mark.known('baseline', reason='no negatives')\ndef test_double_of_negative"
    (toy / "test_sums.py").write_text(TESTS.replace("def test_double_of_negative", known))
    result = run(pytester, "--impl=baseline,solution")
    result.stdout.fnmatch_lines(["toy.sums*2/2 +1 known*3/3*", "*5 passed, 1 known*"])
    (toy / "baseline.py").write_text(SOLVED)
    result = run(pytester, "--impl=baseline")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*marked as known to fail here (no negatives) but passes*"])


@pytest.mark.parametrize("mark", ["known('solution', reason='')", "known('starter', reason='')", "only('solutoin')"])
def test_marks_are_checked(pytester: pytest.Pytester, toy: Path, mark: str) -> None:
    (toy / "test_sums.py").write_text(f"import pytest\n@pytest.mark.{mark}\ndef test_it(impl): pass\n")
    assert run(pytester).ret != 0


def test_only(pytester: pytest.Pytester, toy: Path) -> None:
    (toy / "test_sums.py").write_text(
        "import pytest\n@pytest.mark.only('starter', 'solution')\ndef test_it(impl): impl.double(1)\n"
    )
    run(pytester).stdout.fnmatch_lines(["*1 passed, 1 todo*"])


def test_unknown_names_are_usage_errors(pytester: pytest.Pytester, toy: Path) -> None:
    result = run(pytester, "--impl=solutoin")
    assert result.ret in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERRUPTED)
    (result.stdout if "no implementation" in result.stdout.str() else result.stderr).fnmatch_lines(
        ["*no implementation solutoin; there are baseline*"]
    )
    assert run(pytester, "--device=tpu").ret == pytest.ExitCode.USAGE_ERROR


def test_slow_is_left_out(pytester: pytest.Pytester, toy: Path) -> None:
    (toy / "test_sums.py").write_text(
        "import pytest\n@pytest.mark.slow\ndef test_slow(impl): pass\ndef test_f(impl): pass\n"
    )
    run(pytester, "--impl=solution").assert_outcomes(passed=1, deselected=1)
    run(pytester, "--impl=solution", "-m", "slow").assert_outcomes(passed=1, deselected=1)


def test_torch_has_one_thread_unless_asked(
    pytester: pytest.Pytester, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(set_num_threads=given.append))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    (toy / "test_sums.py").write_text(
        "import pytest\n@pytest.mark.threads(2)\ndef test_two(impl): pass\ndef test_one(impl): pass\n"
        "@pytest.mark.slow\ndef test_all(impl): pass\n"
    )
    run(pytester, "--impl=solution", "-m", "slow or not slow").assert_outcomes(passed=3)
    assert given == [2, 1, 7]


def test_warnings_are_errors_only_in_our_packages(pytester: pytest.Pytester, toy: Path) -> None:
    warning = "import warnings\n    warnings.warn('mine')\n    return x + x\n"
    (toy / "solution.py").write_text(SOLVED.replace("return x + x\n", warning))
    (toy / "peer_math.py").write_text(SOLVED.replace("return x + x\n", warning))
    run(pytester, "--impl=solution").assert_outcomes(failed=2, passed=1)
    run(pytester, "--impl=peer_math").assert_outcomes(passed=3, warnings=2)


def test_held_back_halves_are_disjoint_and_complete(pytester: pytest.Pytester, toy: Path) -> None:
    tests = "".join(f"def test_{i}(impl): pass\n" for i in range(10))
    (toy / "test_sums.py").write_text(tests)
    run(pytester, "--impl=solution", "--hold-back=7", "-v").assert_outcomes(passed=5, deselected=5)
    run(pytester, "--impl=solution", "--only-held-back=7", "-v").assert_outcomes(passed=5, deselected=5)
    seen = [set(), set()]  # type: list[set[str]]
    for one, option in zip(seen, ("--hold-back=7", "--only-held-back=7"), strict=True):
        lines = run(pytester, "--impl=solution", option, "-v").outlines
        one.update(line.split("::")[1].split()[0] for line in lines if "PASSED" in line)
    assert not seen[0] & seen[1]
    assert len(seen[0] | seen[1]) == 10


def test_hints_come_one_by_one(pytester: pytest.Pytester, toy: Path) -> None:
    run(pytester, "--hint").stdout.fnmatch_lines(["toy.sums TODO 1: add x to itself", "hint 1 of 3: What is twice?"])
    run(pytester, "--hint").stdout.fnmatch_lines(["hint 1 of 3*"])
    run(pytester)
    run(pytester, "--hint").stdout.fnmatch_lines(["hint 2 of 3: A sum."])


def test_a_hint_for_a_stretch_says_first_what_fails(pytester: pytest.Pytester, toy: Path) -> None:
    todo = 'raise NotImplementedError("TODO 1 (core, about 1 line): add x to itself")'
    (toy / "starter.py").write_text(STARTER.replace(todo, "return x * x"))
    run(pytester)
    wanted = [
        "toy.sums: 1 tests of what you wrote fail, mend them first: nox -s test-toy -- sums",
        "toy.sums TODO 2: *",
    ]
    run(pytester, "--hint").stdout.fnmatch_lines(wanted)


def test_xdist(pytester: pytest.Pytester, toy: Path) -> None:
    run(pytester, "-n2").stdout.fnmatch_lines(["toy.sums*core 0/2*stretch 0/1*3/3*3/3*", "next: toy.sums*", "*3 todo*"])


class TestCheck:
    def test_whole_exercise(self, pytester: pytest.Pytester, toy: Path) -> None:
        result = run(pytester, "--check")
        result.stdout.fnmatch_lines(["toy.sums*whole, 5 mutants rejected"])
        assert result.ret == 0

    def test_surviving_mutant(self, pytester: pytest.Pytester, toy: Path) -> None:
        (toy / "test_sums.py").write_text(TESTS.replace("def test_double_of_negative", "def untested"))
        result = run(pytester, "--check")
        result.stdout.fnmatch_lines_random(["*mutant survives: 'squares'*", "*mutant survives: 'forgets the sign'*"])
        assert result.ret == 1

    def test_tests_that_name_what_a_mutant_changes_come_first(self, pytester: pytest.Pytester, toy: Path) -> None:
        solved = SOLVED.replace("return x + x + x", "return _more(x)") + "\n\ndef _more(x):\n    return x + x + x\n"
        (toy / "solution.py").write_text(solved)
        helper = "def check(impl, x): assert impl.triple(x) == 3 * x\ndef test_triple(impl): check(impl, 2)\n"
        many = "".join(f"def test_double_{n}(impl): assert impl.double({n}) == {2 * n}\n" for n in range(3, 23))
        (toy / "test_sums.py").write_text(many + helper)
        mutant = MUTANTS.rstrip().rpartition("[[mutant]]")[2]  # the one in the helper that triple calls
        (toy / "mutants.toml").write_text("[[mutant]]" + mutant)
        run(pytester, "--check").stdout.fnmatch_lines(["=* 1 skipped, 21 todo, 1 rejected in *"])

    def test_find_that_fits_twice(self, pytester: pytest.Pytester, toy: Path) -> None:
        (toy / "mutants.toml").write_text(MUTANTS.replace('"x + x + x"', '"return"'))
        result = run(pytester, "--check")
        result.stdout.fnmatch_lines(["*'quadruples'*`find` occurs 2 times*"])
        assert result.ret == 1

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("def triple(x: int) -> int", "def triple(y: int) -> int", "*solution.py: triple(y: int)*"),
            ("def triple(x: int) -> int", "def triple(x: int = 0) -> int", "*solution.py: triple(x: int=0)*"),
            ("def triple", "def treble", "*solution.py lacks triple*"),
        ],
    )
    def test_contract(self, pytester: pytest.Pytester, toy: Path, old: str, new: str, said: str) -> None:
        (toy / "solution.py").write_text(SOLVED.replace(old, new))
        run(pytester, "--check").stdout.fnmatch_lines([said])

    def test_baseline_may_lack_what_is_stretch(self, pytester: pytest.Pytester, toy: Path) -> None:
        (toy / "baseline.py").write_text(SOLVED[: SOLVED.index("\n\ndef triple")])
        assert run(pytester, "--check").ret == 0
        run(pytester, "--impl=baseline").assert_outcomes(passed=2, skipped=1)

    def test_solved_starter_is_not_committable(self, pytester: pytest.Pytester, toy: Path) -> None:
        (toy / "starter.py").write_text(SOLVED)
        result = run(pytester, "--check")
        result.stdout.fnmatch_lines_random(["*starter.py has no TODO*", "*untouched starter passes*"])

    def test_readers_starter_is_judged_as_committed(self, pytester: pytest.Pytester, toy: Path) -> None:
        for command in (
            ["init", "-q"],
            ["add", "."],
            ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "x"],
        ):
            pytester.run("git", *command)
        (toy / "starter.py").write_text(SOLVED.replace("x + x + x", "0"))
        assert run(pytester, "--check").ret == 0

    def test_texts(self, pytester: pytest.Pytester, toy: Path) -> None:
        text = INFO.replace("minutes = 20", "minutes = 200").replace('answer = "3"', 'answer = "many"')
        (toy / "exercise.toml").write_text(text.replace('"A sum.", ', ""))
        run(pytester, "--check").stdout.fnmatch_lines_random(
            ["*minutes of the core should be 20 to 45*", "*carries no number*", "*TODO 1 needs 3 hints*"]
        )

    def test_missing_file(self, pytester: pytest.Pytester, toy: Path) -> None:
        (toy / "bench_sums.py").unlink()
        run(pytester, "--check").stdout.fnmatch_lines(["*bench_sums.py is missing"])


class TestRace:
    def race(self, pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
        options = ("-o", "python_files=bench_*.py", "-o", "python_functions=bench_*", "--benchmark-quiet")
        return run(pytester, *options, *args, apart=True)

    def test_table_and_json(self, pytester: pytest.Pytester, toy: Path) -> None:
        result = self.race(pytester)
        result.stdout.fnmatch_lines(
            [
                "toy.sums  double, cpu, * thread*",
                "*ms*time vs limit*vs baseline*vs math*",
                "  baseline*",
                "  solution*x [[]*",
            ]
        )
        result.stdout.fnmatch_lines_random(["  yours did not run: todo", "  absent did not run: *no_such_library*"])
        content = json.loads((pytester.path / ".benchmarks/toy-cpu.json").read_text())
        assert set(content["toy.sums double"]["ratios"]["solution"]) == {"baseline", "peer_math"}

    def test_yours_joins_once_its_tests_pass(self, pytester: pytest.Pytester, toy: Path) -> None:
        (toy / "starter.py").write_text(SOLVED)
        self.race(pytester).stdout.fnmatch_lines(["  yours did not run: its tests have not run since it changed*"])
        run(pytester)
        self.race(pytester).stdout.fnmatch_lines(["  yours  *x [[]*"])

    def test_a_wrong_stretch_shuts_no_race_and_a_wrong_core_does(self, pytester: pytest.Pytester, toy: Path) -> None:
        (toy / "starter.py").write_text(SOLVED.replace("return x + x + x\n", "return x + x\n"))
        run(pytester, "--impl=starter").assert_outcomes(failed=1, passed=2)
        self.race(pytester).stdout.no_fnmatch_line("  yours did not run*")
        (toy / "starter.py").write_text(SOLVED.replace("return x + x\n", "return x * x\n"))
        run(pytester, "--impl=starter")
        self.race(pytester).stdout.fnmatch_lines(["  yours did not run: 1 of its core tests fail*"])
        history = pytester.path / ".practice/runs.jsonl"
        history.write_text(history.read_text().replace('"failed_core": 1, ', ""))
        found = exercise_of(toy / "test_sums.py")
        assert found is not None
        assert unsolved(found, pytester.path) == "1 of its core tests fail", "as an older line says it"

    def test_wrong_contestant_is_out(self, pytester: pytest.Pytester, toy: Path) -> None:
        (toy / "peer_math.py").write_text(SOLVED.replace("return x + x\n", "return 5\n"))
        self.race(pytester).stdout.fnmatch_lines(["  math did not run: ZeroDivisionError*"])

    def test_compare(self, pytester: pytest.Pytester, toy: Path) -> None:
        self.race(pytester)
        self.race(pytester, "--compare").stdout.fnmatch_lines(["  solution vs baseline: *, last *"])

    def test_save(self, pytester: pytest.Pytester, toy: Path) -> None:
        self.race(pytester, "--save").stdout.fnmatch_lines(["wrote *RESULTS.md"])
        text = (pytester.path / "toy/RESULTS.md").read_text()
        assert "| solution |" in text
        assert "## cuda\n\nNot measured." in text
        assert self.race(pytester, "--save", "-k", "double").ret == pytest.ExitCode.USAGE_ERROR
