"""Lets the tests import docs as `python -m docs.render` does, and writes anew what is late before they run."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WRITERS = (["-m", "docs.render"], ["-m", "docs.draw", "--late"], ["system_design/render.py"])
sys.path.insert(0, str(ROOT))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--fix``, under the name that the session of the linter takes."""
    parser.addoption("--fix", action="store_true", help="write what the guide and the designs quote and compute anew")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Do it, and name the pages that were late; UsageError where a page cannot be written."""
    for writer in WRITERS if session.config.getoption("fix") else ():
        done = subprocess.run([sys.executable, *writer], cwd=ROOT, check=False, capture_output=True, encoding="utf-8")  # noqa: S603 - our own words
        if done.returncode:
            raise pytest.UsageError(done.stderr.strip().splitlines()[-1].removeprefix("error: "))
        session.config.get_terminal_writer().write(done.stderr)
