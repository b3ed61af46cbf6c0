"""Finding exercises, choosing whose code a tool runs, putting an attempt aside, and the history."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from harness import runs
from harness.exercise import choose, choose_all, exercise_of, exercises_below

STARTER = '''
def double(x):
    """Twice x."""
    raise NotImplementedError("TODO 1 (core, about 1 line): add x to itself")


def triple(x):
    """Three times x."""
    raise NotImplementedError("TODO 2 (stretch, about 1 line): and once more")
'''
SOLUTION = "def double(x):\n    return x + x\n\n\ndef triple(x):\n    return x + x + x\n"
SOLVED = STARTER.replace(
    'raise NotImplementedError("TODO 1 (core, about 1 line): add x to itself")', "return 2 * x  # mine"
)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """Make a package with one exercise, of a name that no other test has imported."""
    name = "toy_" + request.node.name.replace("[", "_").replace("]", "").replace("-", "_")
    folder: Path = tmp_path / "src" / name / "sums"
    folder.mkdir(parents=True)
    for path in (folder.parent / "__init__.py", folder / "__init__.py"):
        path.write_text("")
    (folder / "starter.py").write_text(STARTER)
    (folder / "solution.py").write_text(SOLUTION)
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    return folder


def name_of(folder: Path) -> str:
    return f"{folder.parent.name}.sums"


class TestChoose:
    def test_the_solution_serves_by_default(self, toy: Path) -> None:
        assert choose(name_of(toy)).__name__.endswith("solution")

    def test_an_unsolved_starter_gives_way(self, toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert choose(name_of(toy), "all").__name__.endswith("solution")
        assert "the solution's code" in capsys.readouterr().err

    def test_an_unsolved_starter_that_was_asked_for_is_an_error(self, toy: Path) -> None:
        with pytest.raises(ValueError, match="still has core TODO 1 "):
            choose(name_of(toy), "sums")

    def test_what_is_only_stretch_comes_from_the_solution(self, toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (toy / "starter.py").write_text(SOLVED)
        mixed = choose(name_of(toy), "sums")
        assert (mixed.double(4), mixed.triple(4)) == (8, 12)
        assert mixed.double.__code__.co_filename.endswith("starter.py")
        assert "the solution's triple" in capsys.readouterr().err

    def test_what_is_borrowed_serves_the_readers_code_but_not_its_tests(self, toy: Path) -> None:
        (toy / "starter.py").write_text(SOLVED + "\n\ndef six(x):\n    return double(triple(x))\n")
        assert choose(name_of(toy), "sums").six(1) == 6
        starter = importlib.import_module(f"{name_of(toy)}.starter")
        assert starter.six.__globals__["triple"].__code__.co_filename.endswith("starter.py")

    def test_unknown_exercise(self, toy: Path) -> None:
        with pytest.raises(ValueError, match="no such exercise, only sums"):
            choose(name_of(toy), "products")

    def test_an_exercise_that_the_command_does_not_call(self, toy: Path) -> None:
        package = name_of(toy).removesuffix(".sums")
        assert choose_all(package, ("sums",)) == {"sums": choose(name_of(toy))}
        with pytest.raises(ValueError, match="--mine sums: not called here, only products"):
            choose_all(package, ("products",), "sums")


def test_exercises_are_found_by_listing(toy: Path) -> None:
    found = exercise_of(toy / "test_sums.py")
    assert found is not None
    assert found.name == name_of(toy)
    assert [exercise.name for exercise in exercises_below(toy.parent)] == [name_of(toy)]
    assert exercise_of(toy.parent / "cli.py") is None


class TestRuns:
    def test_what_is_appended_is_read(self, tmp_path: Path) -> None:
        runs.append(tmp_path, [runs.Run("a.b", "starter", "cpu", passed=3)])
        runs.append(tmp_path, [runs.Run("a.b", "solution", "cpu", ratios={"baseline": 2.0})])
        first, second = runs.read(tmp_path)
        assert (first.passed, second.ratios) == (3, {"baseline": 2.0})

    def test_a_line_cut_off_is_passed_over(self, tmp_path: Path) -> None:
        runs.append(tmp_path, [runs.Run("a.b", "starter", "cpu")])
        with (tmp_path / ".practice" / "runs.jsonl").open("a") as file:
            file.write('{"exercise": "a.b", "imp')
        assert len(runs.read(tmp_path)) == 1

    def test_a_disk_that_refuses_is_no_error(self, tmp_path: Path) -> None:
        (tmp_path / ".practice").write_text("a file where the folder should be")
        runs.append(tmp_path, [runs.Run("a.b", "starter", "cpu")])


class TestReset:
    @pytest.fixture
    def repository(self, tmp_path: Path) -> Path:
        folder = tmp_path / "packages" / "toy" / "src" / "toy" / "sums"
        folder.mkdir(parents=True)
        for path in (folder.parent / "__init__.py", folder / "__init__.py"):
            path.write_text("")
        (folder / "starter.py").write_text(STARTER)
        (folder / "solution.py").write_text(SOLUTION)
        for command in (
            ["init", "-q"],
            ["add", "."],
            ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", "x"],
        ):
            subprocess.run(["git", *command], cwd=tmp_path, check=True)  # noqa: S607
        return tmp_path

    def run(self, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "harness", "reset", *words]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

    def test_the_attempt_is_kept_and_the_skeleton_restored(self, repository: Path) -> None:
        starter = repository / "packages/toy/src/toy/sums/starter.py"
        starter.write_text(SOLVED)
        done = self.run(repository, "toy.sums")
        assert done.returncode == 0, done.stderr
        assert starter.read_text() == STARTER
        attempts = list((repository / ".practice" / "attempts").rglob("*.py"))
        assert [path.read_text() for path in attempts] == [SOLVED]

    def test_an_unknown_exercise_changes_nothing(self, repository: Path) -> None:
        done = self.run(repository, "toy.products")
        assert done.returncode != 0
        assert done.stderr.strip().count("\n") == 0, done.stderr
        assert "toy.products" in done.stderr
