"""Fill in what the guide computes: plans, marks of what is to come, numbers.

`python -m docs.render` rewrites README.md and the pages in docs/. A page asks for a value between two comments that no
reader sees,
``<!--= NAME ARGUMENT ... -->value<!--/-->``; the names are the functions below that carry ``@value``. Nothing between
such comments is typed by hand, and a test fails where a page is not what this script would write.
"""

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from docs import numbers
from docs.repository import DOCS, PACKAGES, ROOT, coming, core, exercises, exists, machine, read_toml, results

SLOT = re.compile(r"<!--= (.+?) -->(.*?)<!--/-->", re.DOTALL)
DESIGN = re.compile(r"\[([^\]]*)\]\(\.\./(system_design/question_\w+\.md)\)")
TO_COME = "*(to come)*"
VALUES: dict[str, Callable[..., str]] = {}


def value(function: Callable[..., str]) -> Callable[..., str]:
    """Make a function's result available to the pages under its name."""
    VALUES[function.__name__] = function
    return function


@value
def ref(name: str) -> str:
    """Link an exercise or a package that is there; mark one that is not."""
    if exists(name):
        package, _, exercise = name.partition(".")
        target = f"{package}/src/{package}/{exercise}/__init__.py" if exercise else f"{package}/README.md"
        return f"`{name}`" if " " in name else f"[`{name}`](../packages/{target})"
    if name not in coming():
        msg = f"{name} is neither in the repository nor in docs/coming.toml"
        raise ValueError(msg)
    return f"`{name}` {TO_COME}"


@value
def refs(*names: str) -> str:
    """Link or mark several exercises."""
    return ", ".join(ref(name) for name in names)


@value
def design(name: str, words: str) -> str:
    """Link a design question by its page's name."""
    return f"[{words}](../system_design/{name}.md)"


@value
def number(name: str) -> str:
    """Return a number that docs/numbers.py computes."""
    return numbers.VALUES[name]()


@value
def measured_on(package: str) -> str:
    """Say on what a package's results were measured."""
    return machine(package)


@value
def cell(exercise: str, case: str, contestant: str, column: str) -> str:
    """Quote one cell of a RESULTS.md."""
    return results(exercise)[case].rows[contestant][column]


@value
def limit(exercise: str, case: str) -> str:
    """Quote the physical limit that a RESULTS.md states beside a case."""
    return results(exercise)[case].limit.removeprefix("limit: ")


@value
def races(exercise: str, start: str, contestant: str, *columns: str) -> str:
    """Tabulate the cells of one contestant over all cases whose words begin with ``start``."""
    found = [race for race in results(exercise).values() if race.case.startswith(start)]
    if not found:
        msg = f"no case of {exercise} begins with {start!r}"
        raise ValueError(msg)
    lines = [f"| {exercise}, {contestant} | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for race in found:
        row = race.rows[contestant]
        lines.append(f"| {race.case} | " + " | ".join(row[column] for column in columns) + " |")
    return "\n".join(lines)


@value
def score(exercise: str, start: str, contestant: str, column: str) -> str:
    """Count the cases that a contestant wins and loses against the rival of a column; even where quartiles hold 1."""
    cells = [race.rows[contestant][column] for case, race in results(exercise).items() if case.startswith(start)]
    bounds = [[float(bound) for bound in re.findall(r"[\d.]+", given.split("[")[1])] for given in cells if given]
    if not bounds:
        msg = f"no case of {exercise} begins with {start!r} and has {column!r}"
        raise ValueError(msg)
    ahead, behind = sum(low > 1 for low, _ in bounds), sum(high < 1 for _, high in bounds)
    even = len(bounds) - ahead - behind
    return f"ahead in {ahead} of {len(bounds)} cases, behind in {behind}" + (f" and even in {even}" if even else "")


@value
def faster(exercise: str, case: str, contestant: str, column: str) -> str:
    """Demand that a contestant is faster than the rival of a column: the words around this say so."""
    return _demand(exercise, case, contestant, column, ahead=True)


@value
def slower(exercise: str, case: str, contestant: str, column: str) -> str:
    """Demand that a contestant is slower than the rival of a column: the words around this say so."""
    return _demand(exercise, case, contestant, column, ahead=False)


def _demand(exercise: str, case: str, contestant: str, column: str, *, ahead: bool) -> str:
    given = results(exercise)[case].rows[contestant][column]
    if (float(given.split("x")[0]) > 1) is not ahead:
        msg = (
            f"{exercise}, {case}: {contestant} {column} is {given}, and the sentence around "
            f"says {'faster' if ahead else 'slower'}: rewrite it"
        )
        raise ValueError(msg)
    return given.split(" ")[0]


@value
def plan(name: str) -> str:
    """Write a plan of docs/plans out, day by day."""
    data = read_toml(DOCS / "plans" / f"{name}.toml")
    days = data["day"]
    lines = ["| day | subject | hours | not here yet |", "| --- | --- | ---: | --- |"]
    for count, day in enumerate(days, 1):
        missing = ", ".join(f"`{name}`" for item in day["items"] if (name := named(item)) and not exists(name))
        anchor = slug(heading(count, day))
        lines.append(f"| [{count}](#{anchor}) | {day['title']} | {clock(minutes(day, data))} | {missing} |")
    total = sum(minutes(day, data) for day in days)
    lines += [f"| | **{len(days)} days** | **{clock(total)}** | |"]
    for count, day in enumerate(days, 1):
        lines += ["", f"### {heading(count, day)}", "", day["goal"], ""]
        lines += [f"- [ ] {line(item, data)}" for item in day["items"]]
        lines += ["", f"Together {clock(minutes(day, data))}."]
    return "\n".join(lines)


@value
def left_out(name: str) -> str:
    """Link the exercises that a plan of docs/plans has no day for."""
    days = read_toml(DOCS / "plans" / f"{name}.toml")["day"]
    planned = {named(item) for day in days for item in day["items"]}
    return refs(*(each for each in exercises() if each not in planned))


def heading(count: int, day: dict[str, Any]) -> str:
    """Return the heading of a day."""
    return f"Day {count}: {day['title']}"


def named(item: dict[str, Any]) -> str:
    """Return the exercise or package that an item of a plan takes up, "" for reading, writing and talking."""
    return str(item.get("exercise") or item.get("package") or "")


def item_minutes(item: dict[str, Any], data: dict[str, Any]) -> int:
    """Return what an item takes: an exercise its core, here or planned, and a review; all else what the plan says."""
    if name := item.get("exercise"):
        core = exercises()[name]["minutes"] if exists(name) else coming()[name]
        return int(core) + int(data["review"])
    return int(item["minutes"])


def minutes(day: dict[str, Any], data: dict[str, Any]) -> int:
    """Add up a day."""
    return sum(item_minutes(item, data) for item in day["items"])


def line(item: dict[str, Any], data: dict[str, Any]) -> str:
    """Write an item of a plan: its minutes, what to do, and what to do instead while it is to come."""
    spent = item_minutes(item, data)
    if name := item.get("exercise"):
        package, exercise = name.split(".")
        text = f"{ref(name)}, core {spent - data['review']} and review {data['review']}"
        if exists(name):
            text += f": {uncapitalised(exercises()[name]['title'])}, `nox -s test-{package} -- {exercise}`"
            text += "" if name in core()[package] else " (after the core path)"
    elif name := item.get("package"):
        text = f"{ref(name)}: {item['do']}"
    else:
        text = item["do"]
    if named(item) and not exists(named(item)):
        text += f". Until then: {item['instead']}"
    return f"{spent} min: {text}"


def uncapitalised(title: str) -> str:
    """Begin a title with a small letter, unless its first word is a name such as GPTQ or SmoothQuant."""
    rest = title.split(maxsplit=1)[0][1:]
    return title[0].lower() + title[1:] if rest == rest.lower() else title


def clock(spent: int) -> str:
    """Write minutes as hours and minutes."""
    return f"{spent // 60}:{spent % 60:02d}"


@value
def topics() -> str:
    """Tabulate docs/topics.toml: what is tested, its priority, and what trains it."""
    lines = ["| subject | priority | you can | train with |", "| --- | --- | --- | --- |"]
    for each in read_toml(DOCS / "topics.toml")["topic"]:
        train = [ref(name) for name in each.get("exercises", [])]
        train += [f"[{title}]({target})" for title, target in each.get("pages", {}).items()]
        lines.append(f"| {each['subject']} | {each['priority']} | {each['can']} | {', '.join(train)} |")
    return "\n".join(lines)


@value
def planned() -> str:
    """List what the guide names and the repository does not have yet."""
    whole = [name for name in coming() if "." not in name and " " not in name]
    parts = [name for name in coming() if name not in whole]
    return "\n".join(
        [
            f"- packages: {', '.join(f'`{name}`' for name in whole)}" if whole else "- packages: none",
            f"- of packages: {', '.join(f'`{name}`' for name in parts)}" if parts else "- of packages: nothing",
        ]
    )


@value
def count(package: str) -> str:
    """Count the exercises of a package."""
    return str(len(_names(package)))


@value
def hours(package: str) -> str:
    """Add up the cores of a package's exercises, in hours."""
    return _hours(_names(package))


@value
def path_hours(package: str) -> str:
    """Add up the cores of a package's core path, in hours."""
    return _hours(core()[package])


def _names(package: str) -> list[str]:
    return [name for name in exercises() if name.startswith(f"{package}.")]


def _hours(names: list[str]) -> str:
    return f"{sum(int(exercises()[name]['minutes']) for name in names) / 60:.1f}"


@value
def core_hours() -> str:
    """Tabulate the packages with exercises: those of the core path and the others, with the hours of their cores."""
    lines = ["| package | core path | hours | then | hours | practise |", "| --- | --- | ---: | --- | ---: | --- |"]
    for package in sorted({name.split(".")[0] for name in exercises()}):
        first = core()[package]
        then = [name for name in _names(package) if name not in first]
        cells = [f"[{package}](../packages/{package}/README.md)"]
        for names in (first, then):
            cells += [", ".join(f"`{name.split('.')[1]}`" for name in names), _hours(names)]
        lines.append(f"| {' | '.join(cells)} | `nox -s test-{package}` |")
    return "\n".join(lines)


def slug(title: str) -> str:
    """Return the anchor that GitHub gives a heading: small letters, punctuation dropped, a hyphen for each space."""
    text = re.sub(r"<!--.*?-->", "", title)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("*", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def render(text: str, page: str = "") -> str:
    """Return a page with all that it asks for filled in; ValueError naming the page and the slot that cannot be."""

    def fill(match: re.Match[str]) -> str:
        name, *arguments = shlex.split(match[1])
        try:
            result = VALUES[name](*arguments)
        except (KeyError, TypeError, ValueError, OSError) as error:
            msg = f"{page}: cannot fill <!--= {match[1]} -->: {type(error).__name__}: {error}"
            raise ValueError(msg) from error
        result = DESIGN.sub(lambda link: link[0] if (ROOT / link[2]).exists() else f"{link[1]} {TO_COME}", result)
        result = f"\n\n{result}\n\n" if "\n" in result else result
        return f"<!--= {match[1]} -->{result}<!--/-->"

    return SLOT.sub(fill, text)


def pages() -> Iterator[Path]:
    """Yield the pages that are filled in: the guide's, and the one that the repository opens with."""
    yield ROOT / "README.md"
    yield from sorted(DOCS.glob("*.md"))


def main() -> int:
    """Rewrite every page; one readable line where that cannot be done."""
    if here := [name for name in coming() if exists(name)]:
        sys.stderr.write(f"error: {', '.join(here)} is here now: remove it from docs/coming.toml\n")
        return 2
    try:
        rendered = {page: render(page.read_text("utf-8"), page.name) for page in pages()}
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    for page, text in rendered.items():
        if text != page.read_text("utf-8"):
            temporary = page.with_suffix(".tmp")
            temporary.write_text(text, "utf-8")
            temporary.replace(page)
            sys.stderr.write(f"rendered {page.relative_to(PACKAGES.parent)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
