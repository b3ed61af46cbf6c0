#!/usr/bin/env -S uv run --script --quiet
# /// script
# dependencies = ["nox[uv]>=2026.2"]
# ///
"""Every chore of the repository, one package at a time or all at once.

nox -s test-quant                        practise: the score of your starters beside baseline, solution and peers
nox -s test-quant -- affine --hint       a hint for one exercise; what follows -- goes to pytest or to the tool
nox -s "bench-quant(cuda)"               speed beside the baseline and the peers, on one device
nox -s bench-quant -- int4 --peers-extra the same with the peers that need more than they are usually worth, such as hqq
nox -s run-quant -- report --mine        the package's tool, with your code in it
nox -s check                             are the exercises whole, and do their tests reject every known mistake?
nox -s test -P 3.13                      every package, on another Python
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import nox

nox.needs_version = ">=2026.2"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "guide", "check", "test"]

ROOT = Path("packages")
PACKAGES = sorted(path.parent for path in ROOT.glob("*/pyproject.toml"))
HERE = {
    "cpu": True,
    "cuda": shutil.which("nvidia-smi") is not None,
    "mps": (platform.system(), platform.machine()) == ("Darwin", "arm64"),
}
DEVICES = [nox.param(device, id=device, tags=[device]) for device in HERE]
EXTRA = "--peers-extra"  # after --: install the peers that tests and benchmarks go without as well
BENCH = ["-o", "python_files=bench_*.py", "-o", "python_functions=bench_*", "--benchmark-quiet"]

if wheels := os.environ.get("PIP_FIND_LINKS"):  # uv does not read pip's settings
    os.environ.setdefault("UV_FIND_LINKS", wheels)
SOURCES = ("UV_FIND_LINKS", "UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "PIP_INDEX_URL")
if not any(os.environ.get(name) for name in SOURCES):  # the registry's default build brings gigabytes of CUDA
    os.environ.setdefault("UV_TORCH_BACKEND", "auto")


def settings(package: Path) -> dict[str, Any]:
    """Read a package's pyproject.toml."""
    return tomllib.loads((package / "pyproject.toml").read_text("utf-8"))


def local(package: Path) -> list[Path]:
    """Return ``package`` and, after it, every local package that it needs."""
    found = [package]
    for each in found:
        sources = settings(each).get("tool", {}).get("uv", {}).get("sources", {})
        paths = [Path(os.path.normpath(each / source["path"])) for source in sources.values() if "path" in source]
        found += [path for path in paths if path not in found]
    return found


def exercises(package: Path) -> list[str]:
    """Name the exercises of a package."""
    return sorted(path.parent.name for path in package.glob("src/*/*/starter.py"))


def install(
    session: nox.Session, *packages: Path, groups: tuple[str, ...] = ("test",), extra: tuple[str, ...] = ()
) -> None:
    """Install packages for editing, with those of their dependency groups, at the versions of constraints.txt."""
    args = ["-c", "constraints.txt", *extra]
    for package in dict.fromkeys(path for each in packages for path in local(each)):
        args += ["-e", str(package)]
    for package in packages:
        args += [
            f"--group={package}/pyproject.toml:{g}"
            for g in groups
            if g in settings(package).get("dependency-groups", {})
        ]
    session.install(*args)


def lacks(package: Path, device: str) -> str:
    """Say why a package cannot run on ``device`` here, "" where it can."""
    if not HERE[device]:
        return f"this machine ({platform.system()} {platform.machine()}) has no {device}"
    needs_torch = any("torch" in name for name in settings(package)["project"].get("dependencies", []))
    return "" if device == "cpu" or needs_torch else f"{package.name} has no torch: nothing of it runs on {device}"


def pytest(session: nox.Session, package: Path, device: str, *args: str) -> None:
    """Run pytest over a package, or over the exercises that the words after ``--`` name."""
    if why := lacks(package, device):
        session.skip(why)
    words = [word for word in session.posargs if word != EXTRA]
    install(session, package, groups=("test", "peers", *(["peers-extra"] if EXTRA in session.posargs else [])))
    names = exercises(package)
    chosen = [f"{package}/src/{package.name}/{word}" for word in words if word in names]
    everything = [str(path) for path in (package / "src", package / "tests") if path.exists()]
    rest = [word for word in words if word not in names]
    session.run("pytest", *(chosen or everything), f"--device={device}", *args, *rest)


def add_sessions(package: Path) -> None:
    """Give a package its sessions."""

    @nox.session(name=f"test-{package.name}", tags=["test"])
    @nox.parametrize("device", DEVICES)
    def test(session: nox.Session, device: str) -> None:
        pytest(session, package, device)

    @nox.session(name=f"slow-{package.name}", tags=["slow"])
    @nox.parametrize("device", DEVICES)
    def slow(session: nox.Session, device: str) -> None:
        pytest(session, package, device, "-m", "slow")

    if exercises(package):

        @nox.session(name=f"bench-{package.name}", tags=["bench"])
        @nox.parametrize("device", DEVICES)
        def bench(session: nox.Session, device: str) -> None:
            pytest(session, package, device, *BENCH)

    if list(package.glob("src/*/__main__.py")):

        @nox.session(name=f"run-{package.name}", tags=["run"])
        def run(session: nox.Session) -> None:
            install(session, package)
            session.run("python", "-m", package.name, *session.posargs)


for each in PACKAGES:
    add_sessions(each)


def each_of(session: nox.Session, kind: str, *posargs: str) -> None:
    """Queue one kind of session for every package that has it, on every device of this machine."""
    for package in PACKAGES:
        if kind != "bench" or exercises(package):
            for device in HERE:
                if not lacks(package, device):
                    session.notify(f"{kind}-{package.name}({device})", posargs=[*posargs, *session.posargs])


@nox.session(venv_backend="none")
def test(session: nox.Session) -> None:
    """Test every package on every device of this machine."""
    each_of(session, "test")


@nox.session(venv_backend="none")
def bench(session: nox.Session) -> None:
    """Race every package on every device of this machine."""
    each_of(session, "bench")


@nox.session(venv_backend="none")
def check(session: nox.Session) -> None:
    """Check every exercise: its contract, its texts, and that its tests reject its mutants."""
    # In the environments of the tests; by a nox of its own, as a session is run once, and the tests would be left out.
    chosen = [f"test-{package.name}(cpu)" for package in PACKAGES if exercises(package)]
    session.run(sys.executable, "-m", "nox", "-s", *chosen, "--", "--check", "-q", *session.posargs, external=True)


@nox.session(tags=["static"])
def lint(session: nox.Session) -> None:
    """Check style, format and workflows; `nox -s lint -- --fix` repairs what it can."""
    session.install("-c", "constraints.txt", "--group=pyproject.toml:lint")
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", *([] if "--fix" in session.posargs else ["--diff"]))
    workflows = [str(path) for path in Path(".github/workflows").glob("*.yml")]
    session.run("zizmor", "--offline", "--quiet", *workflows)
    session.run("check-jsonschema", "--builtin-schema=vendor.github-workflows", *workflows)


@nox.session(tags=["static"])
def types(session: nox.Session) -> None:
    """Check the types of every package with mypy --strict."""
    install(session, *PACKAGES, extra=("--group=pyproject.toml:dev",))
    bases = os.pathsep.join(str(package / "src") for package in PACKAGES)
    everything = ("packages", "docs", "system_design", ".github", "noxfile.py")
    session.run("mypy", *session.posargs or everything, env={"MYPYPATH": bases})


@nox.session(tags=["static"])
def guide(session: nox.Session) -> None:
    """Test that the guide and the designs are true: links, commands, exercises, numbers, the built site."""
    groups = ("--group=pyproject.toml:docs", "--group=pyproject.toml:guide")
    install(session, ROOT / "capacity", extra=groups)
    session.run("pytest", "docs", "system_design", *session.posargs)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the guide as a site in docs/site; `nox -s docs -- serve` shows it."""
    session.install("-c", "constraints.txt", "--group=pyproject.toml:docs")
    session.run("python", "-m", "docs.stage")
    session.run("zensical", *(session.posargs or ["build", "--strict"]), "--config-file=docs/staged.toml")


@nox.session(default=False)
def coach(session: nox.Session) -> None:
    """Practise interviews: what follows -- goes to the coach."""
    if ROOT / "coach" not in PACKAGES:
        session.skip("there is no packages/coach")
    install(session, ROOT / "coach")
    session.run("python", "-m", "coach", *session.posargs)


@nox.session(default=False)
def reset(session: nox.Session) -> None:
    """Put your attempt aside and start again: `nox -s reset -- quant.affine`."""
    install(session, ROOT / "harness")
    session.run("python", "-m", "harness", "reset", *session.posargs)


@nox.session(default=False, venv_backend="uv")
def lock(session: nox.Session) -> None:
    """Renew constraints.txt: one version of everything, for every Python and system."""
    files = [str(package / "pyproject.toml") for package in PACKAGES]
    groups = [
        f"--group={f}:{g}" for f in ["pyproject.toml", *files] for g in settings(Path(f).parent)["dependency-groups"]
    ]
    strangers = [
        f"--no-emit-package={package.name}" for package in PACKAGES
    ]  # a local name may be taken on the registry
    options = ["--universal", "--upgrade", "--no-header", "--no-annotate", "--all-extras", *strangers]
    command = ["uv", "pip", "compile", *options, *files, *groups, "-o", "constraints.txt"]
    session.run(*command, env={"UV_FIND_LINKS": None}, external=True)


if __name__ == "__main__":
    nox.main()
