"""Print the jobs that a change needs, as the JSON of a GitHub Actions matrix.

The sessions are nox's own (``nox --list --json``). A change inside packages/NAME needs the sessions of that
package and of those that depend on it; any other change needs them all.
"""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

RUNNERS: dict[str, str | list[str]] = {"cpu": "ubuntu-24.04", "mps": "macos-15", "cuda": ["self-hosted", "cuda"]}
TORCH = {"cpu": "cpu", "mps": "auto", "cuda": "auto"}


def run(*command: str) -> str:
    """Return what ``command`` prints, or nothing where it fails."""
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout


def dependents(names: set[str]) -> set[str]:
    """Add every package that needs one of ``names``, directly or not."""
    needs: dict[str, set[str]] = {}
    for path in Path("packages").glob("*/pyproject.toml"):
        sources = tomllib.loads(path.read_text("utf-8")).get("tool", {}).get("uv", {}).get("sources", {})
        needs[path.parent.name] = set(sources)
    while more := {name for name, needed in needs.items() if needed & names} - names:
        names = names | more
    return names


def changed(base: str) -> set[str] | None:
    """Name the packages to test for what changed since ``base``; None stands for all of them."""
    files = run("git", "diff", "--name-only", f"{base}...HEAD").split() if base.strip("0") else []
    folders = {tuple(file.split("/")[:2]) for file in files}
    names = {folder[1] for folder in folders if folder[0] == "packages"}
    return dependents(names) if files and len(names) == len(folders) else None


def main() -> None:
    """Print the matrix."""
    packages = changed(sys.argv[1] if len(sys.argv) > 1 else "")
    sessions = json.loads(run("uvx", "--from", "nox[uv]", "nox", "--list", "--json", "-t", "test", "static"))
    jobs = []
    for session in sessions:
        device = session["call_spec"].get("device", "cpu")
        package = session["name"].removeprefix("test-")
        if device == "cuda" and not os.environ.get("HAS_CUDA_RUNNER"):
            continue
        if packages is None or package in packages or "static" in session["tags"]:
            job = {"session": session["session"], "device": device, "runner": RUNNERS[device], "torch": TORCH[device]}
            jobs.append(job)
    print(json.dumps(jobs))


main()
