"""What is in the repository: its packages, exercises, commands and measured results. Nothing is imported for it."""

import ast
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PACKAGES = ROOT / "packages"
GROUP = re.compile(r'^app\.add_typer\((\w+), name="([\w-]+)"\)', re.MULTILINE)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file."""
    return tomllib.loads(path.read_text("utf-8"))


def packages() -> list[str]:
    """Name the packages."""
    return sorted(path.parent.name for path in PACKAGES.glob("*/pyproject.toml"))


@cache
def exercises() -> dict[str, dict[str, Any]]:
    """Map each exercise that a package lists, such as ``quant.affine``, to its ``exercise.toml``."""
    found = {}
    for package in packages():
        listed = read_toml(PACKAGES / package / "pyproject.toml").get("tool", {}).get("harness", {})
        for name in listed.get("exercises", []):
            path = PACKAGES / package / "src" / package / name / "exercise.toml"
            if path.exists():
                found[f"{package}.{name}"] = read_toml(path)
    return found


@cache
def core() -> dict[str, list[str]]:
    """Map each package to the exercises of its core path, such as ``quant.affine``, in the order to do them."""
    paths = read_toml(DOCS / "core.toml")["core"]
    return {package: [f"{package}.{name}" for name in names] for package, names in paths.items()}


@cache
def coming() -> dict[str, int]:
    """Map what the guide names and the repository lacks to the minutes that it is planned to take."""
    planned: dict[str, int] = read_toml(DOCS / "coming.toml")["coming"]
    return planned


def exists(name: str) -> bool:
    """Say whether a package (``fx``), an exercise (``perf.kernels``) or a tool's command (``fx export``) is there."""
    if " " in name:
        package, command = name.split(" ", 1)
        return command in commands(package)
    return name in exercises() if "." in name else name in packages()


@cache
def commands(package: str) -> dict[str, set[str]]:
    """Map the commands of a package's tool to their options; "" is the tool without a command.

    Read from the source of ``cli.py``: a function under ``@app.command("NAME")`` or ``@app.callback()``, whose
    parameters are options by their names or by the strings that begin with dashes in their ``typer.Option``. Under
    ``@tests.command("NAME")``, after ``app.add_typer(tests, name="GROUP")``, its name is "GROUP NAME".
    """
    path = PACKAGES / package / "src" / package / "cli.py"
    if not path.exists():
        return {}
    tree = ast.parse(path.read_text("utf-8"))
    aliases = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    groups = {"app": ""} | dict(GROUP.findall(path.read_text("utf-8")))
    found = {}
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            if not isinstance(decorator, ast.Call):
                continue
            owner, _, kind = ast.unparse(decorator.func).partition(".")
            if owner in groups and kind in ("command", "callback"):
                given = [each.value for each in decorator.args if isinstance(each, ast.Constant)]
                name = "" if kind == "callback" else str(given[0]) if given else node.name.replace("_", "-")
                options = {option for each in node.args.args for option in _options(each, aliases)}
                found[f"{groups[owner]} {name}".strip()] = {"--help"} | options
    return found


def _options(parameter: ast.arg, aliases: dict[str, ast.expr]) -> set[str]:
    """Name the options that a parameter of a command stands for."""
    annotation = parameter.annotation
    if isinstance(annotation, ast.Name):
        annotation = aliases.get(annotation.id, annotation)
    source = ast.unparse(annotation) if annotation else ""
    if "typer.Argument" in source or "typer.Context" in source:
        return set()
    words = {each.value for each in ast.walk(annotation) if isinstance(each, ast.Constant)} if annotation else set()
    named = {part for word in words if isinstance(word, str) and word.startswith("-") for part in word.split("/")}
    return named or {"--" + parameter.arg.replace("_", "-")}


@dataclass(frozen=True, slots=True)
class Race:
    """One case of a package's RESULTS.md: its words, the limit stated beside it, and a row for each contestant."""

    case: str
    limit: str
    rows: dict[str, dict[str, str]]


@cache
def results(exercise: str, device: str = "cpu") -> dict[str, Race]:
    """Read the races of an exercise on a device from the RESULTS.md of its package."""
    text = (PACKAGES / exercise.split(".", maxsplit=1)[0] / "RESULTS.md").read_text("utf-8")
    part = _section(_section(text, f"## {device}"), f"### {exercise}")
    found = {}
    for block in re.split(r"\n(?=\*\*)", part):
        if title := re.match(r"\*\*(.+?)\*\*(?: \((.+)\))?\n", block):
            lines = [line for line in block.splitlines() if line.startswith("|")]
            cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
            rows = {row[0]: dict(zip(cells[0][1:], row[1:], strict=True)) for row in cells[2:]}
            found[title[1]] = Race(title[1], title[2] or "", rows)
    return found


def machine(package: str, device: str = "cpu") -> str:
    """Return the line of a package's RESULTS.md that says on what, when and with which versions it was measured."""
    return _section((PACKAGES / package / "RESULTS.md").read_text("utf-8"), f"## {device}").strip().splitlines()[0]


def _section(text: str, heading: str) -> str:
    """Return what stands below a heading, up to the next one of its level or above."""
    level = heading.split(maxsplit=1)[0]
    after = re.split(rf"^{re.escape(heading)}\n", text, maxsplit=1, flags=re.MULTILINE)
    if len(after) == 1:
        msg = f"no heading {heading!r}"
        raise ValueError(msg)
    return re.split(rf"^#{{1,{len(level)}}} ", after[1], maxsplit=1, flags=re.MULTILINE)[0]
