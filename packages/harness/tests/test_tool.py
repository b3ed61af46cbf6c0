"""How every tool speaks when something is wrong, seen from outside as a user would."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.tool import bare_mine

TOOL = """
import typer
from harness import tool
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
more = typer.Typer(no_args_is_help=True)
app.add_typer(more, name="more")

@app.command()
def half(number: int, of: str = "it", mine: str = ""):
    if number % 2:
        raise ValueError(f"number must be even, not {number}\\nsecond line")
    if number < 0:
        raise typer.Exit(3)
    if number == 0:
        raise RuntimeError("a bug")
    if number == 2:
        raise KeyboardInterrupt
    print(number // 2, mine)

@more.command()
def one(): ...
@more.command()
def two(): ...

tool.run(app)
"""


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the toy tool in a process of its own."""
    (folder / "toy.py").write_text(TOOL)
    command = [sys.executable, "toy.py", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False, encoding="utf-8")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["half", "3"], "number must be even, not 3"),
        (["half"], "number"),
        (["half", "four"], "'number'"),
        (["half", "4", "--off", "x"], "--off"),
        (["third"], "'third'"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, given: list[str], said: str) -> None:
    done = call(tmp_path, *given)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert said in done.stderr.lower()
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("given", "code"), [("-4", 3), ("2", 130)])
def test_exit_codes_and_control_c_are_kept(tmp_path: Path, given: str, code: int) -> None:
    done = call(tmp_path, "half", "--", given)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_what_goes_well_exits_with_zero(tmp_path: Path) -> None:
    done = call(tmp_path, "half", "4", "--mine")
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 all\n", "")
    assert call(tmp_path, "--help").returncode == 0


def test_group_without_a_command_shows_its_help(tmp_path: Path) -> None:
    done = call(tmp_path, "more")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "one" in done.stdout + done.stderr


def test_bug_shows_its_traceback(tmp_path: Path) -> None:
    done = call(tmp_path, "half", "0")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([], []),
        (["--mine"], ["--mine", "all"]),
        (["report", "--mine"], ["report", "--mine", "all"]),
        (["--mine", "--json"], ["--mine", "all", "--json"]),
        (["--mine", "affine", "--json"], ["--mine", "affine", "--json"]),
    ],
)
def test_a_bare_mine_means_all(given: list[str], wanted: list[str]) -> None:
    assert bare_mine(given) == wanted
