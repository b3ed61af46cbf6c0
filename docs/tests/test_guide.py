"""What the guide says is so: links, anchors, commands, exercises, hours, numbers."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from docs import draw, numbers, render, stage
from docs.repository import (
    DOCS,
    PACKAGES,
    ROOT,
    Race,
    coming,
    commands,
    core,
    exercises,
    exists,
    packages,
    read_toml,
    results,
)

GUIDE = sorted(DOCS.glob("*.md"))
PAGES = [ROOT / "README.md", *GUIDE, *sorted((ROOT / "system_design").rglob("*.md")), *chain(*stage.readmes().values())]
PLANS = {path.stem: read_toml(path) for path in sorted((DOCS / "plans").glob("*.toml"))}
FENCE = re.compile(r"^(`{3,})[^\n]*\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")
CURE = "run `nox -s guide -- --fix`"
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def each(pages: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=named)


@cache
def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return FENCE.sub("", page.read_text("utf-8"))


@cache
def anchors(page: Path) -> set[str]:
    """Return the anchors of a page as GitHub names them: a heading that comes twice gets a number."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", prose(page), re.MULTILINE):
        slug = render.slug(heading)
        found[slug] = found.get(slug, -1) + 1
        if found[slug]:
            found[f"{slug}-{found[slug]}"] = 0
    return set(found)


def links(page: Path) -> list[str]:
    return LINK.findall(CODE.sub("", prose(page)))


# What is rendered -----------------------------------------------------------------------------------------------------


@each([ROOT / "README.md", *GUIDE])
def test_a_page_is_what_its_data_render(page: Path) -> None:
    text = page.read_text("utf-8")
    wanted = render.render(text, page.name)
    differ = [
        new for old, new in zip(render.SLOT.findall(text), render.SLOT.findall(wanted), strict=True) if old != new
    ]
    assert not differ, f"{page.name}: stale, {CURE}: {differ[0][0]} is now {differ[0][1][:200]!r}"
    opened, closed = text.count("<!--= "), text.count("<!--/-->")
    assert opened == closed == len(render.SLOT.findall(text)), f"{page.name}: a slot is not closed"


def test_a_number_typed_by_hand_is_noticed() -> None:
    slot = '<!--= number "ridge" -->300<!--/-->'
    assert render.render(slot) == f'<!--= number "ridge" -->{numbers.VALUES["ridge"]()}<!--/-->' != slot


def test_a_sentence_that_measurements_refute_is_refused() -> None:
    case = "append 8192 fp32, 4 layers, 8 heads of 64"
    assert float(results("kvcache.caches")[case].rows["solution"]["vs baseline"].split("x")[0]) > 1
    with pytest.raises(ValueError, match="the sentence around says slower"):
        render.render(f'<!--= slower kvcache.caches "{case}" solution "vs baseline" --><!--/-->')


def test_fix_writes_before_the_tests_run_and_says_what_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "system_design").mkdir()
    (tmp_path / "docs" / "conftest.py").write_text((DOCS / "conftest.py").read_text("utf-8"), "utf-8")
    (tmp_path / "docs" / "render.py").write_text("import sys; sys.stderr.write('rendered one\\n')")
    (tmp_path / "docs" / "draw.py").write_text("import sys; sys.stderr.write('drew one\\n')")
    (tmp_path / "system_design" / "render.py").write_text("import sys; sys.exit('error: a page contradicts')")
    command = [sys.executable, "-m", "pytest", "docs", "-q"]
    done = [
        subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, check=False, text=True)
        for more in ([], ["--fix"])
    ]
    assert "one" not in done[0].stdout
    assert "rendered one\ndrew one" in done[1].stdout
    assert done[1].stderr == "ERROR: a page contradicts\n\n"


def test_wins_and_losses_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = {"a 1": "2x [1.5, 3]", "a 2": "0.9x [0.8, 0.95]", "a 3": "1x [0.9, 1.2]", "a 4": "", "b": "3x [2, 4]"}
    found = {case: Race(case, "", {"ours": {"vs it": cell}}) for case, cell in cells.items()}
    monkeypatch.setattr(render, "results", lambda _: found)
    assert render.score("x.y", "a", "ours", "vs it") == "ahead in 1 of 3 cases, behind in 1 and even in 1"
    assert render.score("x.y", "b", "ours", "vs it") == "ahead in 1 of 1 cases, behind in 0"
    with pytest.raises(ValueError, match=r"no case of x\.y begins with 'c'"):
        render.score("x.y", "c", "ours", "vs it")


@pytest.mark.parametrize("slot", ["ref nothing.here", "number nonsense", "cell quant.affine nowhere solution ms", "x"])
def test_what_cannot_be_filled_names_page_and_slot(slot: str) -> None:
    with pytest.raises(ValueError, match=r"page\.md: cannot fill"):
        render.render(f"<!--= {slot} --><!--/-->", "page.md")


@pytest.mark.parametrize("package", packages())
def test_every_row_of_a_results_file_is_read(package: str) -> None:
    path = PACKAGES / package / "RESULTS.md"
    if not path.exists():
        pytest.skip(f"{package} has no RESULTS.md")
    text = path.read_text("utf-8").split("## cuda")[0]
    races = [race for name in exercises() if name.startswith(f"{package}.") for race in races_of(name)]
    assert len(races) == len(re.findall(r"^\*\*", text, re.MULTILINE))
    assert sum(races) == len(re.findall(r"^\| [a-z]", text, re.MULTILINE))


def races_of(exercise: str) -> list[int]:
    try:
        return [len(race.rows) for race in results(exercise).values()]
    except ValueError:  # not raced yet
        return []


@pytest.mark.parametrize("name", draw.DATA)
def test_a_diagram_shows_its_data(name: str) -> None:
    text = (draw.IMAGES / f"{name}.svg").read_text("utf-8")
    assert draw.digest(name) in text, f"{name}.svg is stale, {CURE}"
    assert not re.search(r'(?:href|src)="(?!#)|url\((?!#)|@import', text), f"{name}.svg loads something"


# Names ----------------------------------------------------------------------------------------------------------------


def test_nothing_that_is_here_is_called_coming() -> None:
    here = [name for name in coming() if exists(name)]
    assert not here, f"{', '.join(here)}: here now, remove from docs/coming.toml and {CURE}"


def test_all_that_is_coming_is_named_somewhere() -> None:
    texts = [path.read_text("utf-8") for path in [*GUIDE, DOCS / "topics.toml", *(DOCS / "plans").glob("*.toml")]]
    for name in coming():
        used = re.compile(rf"""<!--= refs? [^>]*{re.escape(name)}|["']{re.escape(name)}["']""")
        assert any(used.search(text) for text in texts), f"{name}: in coming.toml, and nowhere in the guide"


@each(GUIDE)
def test_what_a_page_names_by_hand_exists(page: Path) -> None:
    known = {*packages(), *(name.split(".")[0] for name in coming())}
    text = re.sub(r"<!--= .*?<!--/-->", "", page.read_text("utf-8"), flags=re.DOTALL)
    for code in CODE.findall(text):
        if re.fullmatch(r"[a-z]+(\.[a-z_0-9]+)?", code) and code.split(".")[0] in known:
            assert exists(code), f"{page.name}: `{code}` does not exist; write <!--= ref {code} --><!--/-->"


@each(GUIDE)
def test_what_is_to_come_is_marked_where_it_is_named(page: Path) -> None:
    for slot, text in render.SLOT.findall(page.read_text("utf-8")):
        for name in [word for word in shlex.split(slot)[1:] if word in coming()]:
            assert f"`{name}` {render.TO_COME}" in text, f"{page.name}: {name} without {render.TO_COME}"


def test_topics_name_every_exercise() -> None:
    topics = read_toml(DOCS / "topics.toml")["topic"]
    listed = {name for topic in topics for name in topic.get("exercises", [])}
    missing = set(exercises()) - listed
    assert not missing, f"no topic of topics.toml trains with {', '.join(sorted(missing))}"
    assert all(topic["priority"] in (1, 2, 3) for topic in topics)


# Plans ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("plan", "days", "holds"), [("two_weeks", 14, 300), ("four_weeks", 24, 150)])
def test_a_day_holds_what_is_planned_for_it(plan: str, days: int, holds: int) -> None:
    data = PLANS[plan]
    assert (len(data["day"]), data["holds"]) == (days, holds)
    for count, day in enumerate(data["day"], 1):
        spent = render.minutes(day, data)
        parts = ", ".join(str(render.item_minutes(item, data)) for item in day["items"])
        assert 0.8 * holds <= spent <= holds, f"{plan}, day {count}: {parts} are {spent} minutes, the day holds {holds}"


@pytest.mark.parametrize("plan", PLANS)
def test_the_hours_on_the_page_add_up(plan: str) -> None:
    text = (DOCS / f"{plan}.md").read_text("utf-8")
    total = 0
    for day in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        items = [int(number) for number in re.findall(r"^- \[ \] (\d+) min: ", day, re.MULTILINE)]
        said = re.search(r"^Together (\d+):(\d\d)\.$", day, re.MULTILINE)
        assert said
        assert sum(items) == 60 * int(said[1]) + int(said[2])
        total += sum(items)
    assert f"| **{total // 60}:{total % 60:02d}** |" in text


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_says_what_to_do_until_a_thing_is_there(plan: str) -> None:
    for day in PLANS[plan]["day"]:
        for item in day["items"]:
            name = render.named(item)
            assert name or set(item) == {"do", "minutes"}, f"{plan}, {day['title']}: {item}"
            if name and not exists(name):
                assert name in coming(), f"{plan}: {name} is neither here nor in coming.toml"
                assert item.get("instead"), f"{plan}: {name} is to come: say what to do instead"
            if "package" in item:
                assert not exists(name), f"{plan}: {name} is here now: name its exercises instead of the package"


@pytest.mark.parametrize("plan", PLANS)
def test_no_exercise_is_planned_twice(plan: str) -> None:
    planned = [item["exercise"] for day in PLANS[plan]["day"] for item in day["items"] if "exercise" in item]
    assert len(planned) == len(set(planned))


def test_the_two_weeks_follow_the_order_of_subjects() -> None:
    wanted = {1: "quant", 2: "quant", 3: "kvcache", 4: "kvcache", 5: "stats", 6: "fx", 7: "fx", 8: "rag", 9: "docai"}
    wanted |= {10: "capacity", 11: "lora", 12: "lora"}
    for count, subject in wanted.items():
        day = PLANS["two_weeks"]["day"][count - 1]
        found = {render.named(item).split(".")[0] for item in day["items"]}
        assert subject in found, f"day {count} is {day['title']}, without {subject}"


# Counts and minutes ---------------------------------------------------------------------------------------------------


def test_a_title_keeps_its_names() -> None:
    assert render.uncapitalised("Bits where they matter: INT4") == "bits where they matter: INT4"
    assert render.uncapitalised("SmoothQuant: outliers") == "SmoothQuant: outliers"
    assert render.uncapitalised("A cache") == "a cache"
    assert render.uncapitalised("GPTQ: errors") == "GPTQ: errors"


def test_a_core_path_takes_two_to_three_hours() -> None:
    packages = {name.split(".")[0] for name in exercises()}
    assert set(core()) == packages, "each package with exercises needs a core path, in docs/core.toml"
    for package, names in core().items():
        assert set(names) <= set(exercises()), f"{package}: {set(names) - set(exercises())} are no exercises"
        minutes = sum(exercises()[name]["minutes"] for name in names)
        assert 120 <= minutes <= 180, f"{package}: its core path takes {minutes} minutes"


def test_the_two_weeks_hold_the_core_paths_of_the_coding_rounds() -> None:
    planned = {item.get("exercise") for day in PLANS["two_weeks"]["day"] for item in day["items"]}
    for package in ("quant", "stats", "kvcache"):
        assert set(core()[package]) <= planned, f"not planned: {sorted(set(core()[package]) - planned)}"


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_has_each_exercise_or_says_that_it_has_not(plan: str) -> None:
    planned = [item["exercise"] for day in PLANS[plan]["day"] for item in day["items"] if "exercise" in item]
    left = re.findall(r"\[`([\w.]+)`\]", render.left_out(plan))
    here = sorted(name for name in planned if name in exercises())
    assert sorted([*here, *left]) == sorted(exercises()), f"{plan} and what it leaves out are not all exercises"


def test_minutes_of_a_round_add_up() -> None:
    found = 0
    for parts in draw.rounds().values():
        for name, steps in parts:
            length = re.search(r"\((\d+)\)$", name)
            assert length, f"{name}: no minutes"
            assert sum(minutes for minutes, _ in steps) == int(length[1]), f"{name}: its parts do not add up"
            found += 1
    assert found == 10


def test_minutes_of_a_design_round_add_up() -> None:
    part = prose(DOCS / "practice.md").split("## System design")[1].split("## Six pitfalls")[0]
    assert sum(map(int, re.findall(r"^\| [a-z -]+ \| (\d+) \|", part, re.MULTILINE))) == 45


def test_the_sheets_have_what_they_promise() -> None:
    sheets = prose(DOCS / "sheets.md")
    asked = re.findall(r"^(\d+)\. .+\?$", sheets, re.MULTILINE)
    assert asked == [str(number) for number in range(1, 16)], "15 questions, each of them one"
    times = re.findall(r"^\| (\d):(\d\d) \|", sheets, re.MULTILINE)
    starts = [60 * int(minute) + int(second) for minute, second in times]
    assert starts == sorted(starts)
    assert starts[-1] < 300
    stories = sheets.split("## Stories")[1].split("##")[0]
    assert len(re.findall(r"^\| (?!story|---)", stories, re.MULTILINE)) == 6


def test_ten_metrics_and_six_pitfalls() -> None:
    metrics = prose(DOCS / "checklists.md").split("## Final checklist")[0]
    assert len(re.findall(r"^- \[ \] ", metrics, re.MULTILINE)) == 10
    pitfalls = prose(DOCS / "practice.md").split("## Six pitfalls")[1]
    assert len(re.findall(r"^\| (?!pitfall|---)", pitfalls, re.MULTILINE)) == 6


@pytest.mark.parametrize("package", sorted({name.split(".")[0] for name in exercises()}))
def test_a_readme_lists_every_exercise_with_its_minutes(package: str) -> None:
    text = (PACKAGES / package / "README.md").read_text("utf-8")
    listed = dict(re.findall(r"^\| `(\w+)` \| .* \| (\d+)(?: min)? \|$", text, re.MULTILINE))
    wanted = {
        name.split(".")[1]: str(each["minutes"]) for name, each in exercises().items() if name.startswith(f"{package}.")
    }
    assert listed == wanted


# Links ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("Two numbers decide", "two-numbers-decide"),
        ("A & B: `c_d`, e.f (g)", "a--b-c_d-ef-g"),
        ("Mock interviews, second structure; close", "mock-interviews-second-structure-close"),
        ("[linked](page.md) and *marked*", "linked-and-marked"),
    ],
)
def test_anchors_are_those_of_github(heading: str, anchor: str) -> None:
    assert render.slug(heading) == anchor


@each(PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            url = urlsplit(link)
            assert url.scheme == "https", f"{named(page)}: {link}"
            assert re.fullmatch(r"([a-z0-9-]+\.)+[a-z]{2,}", url.netloc), f"{named(page)}: {link} has no host"
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / unquote(target)).resolve() if target else page
        assert path.exists(), f"{named(page)}: {link} leads nowhere"
        assert path.is_relative_to(ROOT), f"{named(page)}: {link} leads out of the repository"
        if anchor:
            assert anchor in anchors(path), f"{named(page)}: {link}: {path.name} has only {sorted(anchors(path))}"


# Commands -------------------------------------------------------------------------------------------------------------


def said(page: Path) -> Iterator[str]:
    """Yield the commands on a page: lines of code blocks and code in sentences that begin like one."""
    text = page.read_text("utf-8")
    lines = [line for _, block in FENCE.findall(text) for line in block.splitlines()] + CODE.findall(prose(page))
    for line in lines:
        command = re.split(r"\s{2,}|\s#\s", line.strip().removeprefix("$ "))[0]
        for part in re.split(r"\s*(?:&&|;|\|)\s*", command):
            if re.match(r"(nox|python3?|pip|uv|zensical|pytest|git) ", part):
                yield part


@cache
def sessions() -> set[str]:
    """Ask nox for its sessions, under the names that it takes."""
    listing = [sys.executable, "-m", "nox", "--list", "--json", "-k", "not nothing"]  # all, not the default ones alone
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return {each["name"] for each in found} | {each["session"] for each in found}


@cache
def pytest_options() -> set[str]:
    """Ask pytest, with the harness's plugin, for its options."""
    listing = [sys.executable, "-m", "pytest", "--help"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", done.stdout))


def wrong_with(command: str) -> str:
    """Say what does not exist in a command, "" where all of it does."""
    words = shlex.split(command)
    if words[0] == "nox":
        return wrong_with_nox(words[1:])
    if words[:2] == ["python", "-m"] and len(words) > 2:
        module, *rest = words[2:]
        if module in packages():
            return wrong_with_tool(module, rest)
        return "" if (ROOT / f"{module.replace('.', '/')}.py").exists() else f"there is no module {module}"
    return "" if words == ["pip", "install", "nox[uv]"] else f"{words[0]} is no command of this repository"


def wrong_with_nox(words: list[str]) -> str:
    own, after = words, list[str]()
    if "--" in words:
        own, after = words[: words.index("--")], words[words.index("--") + 1 :]
    if "-P" in own:
        at = own.index("-P")
        own = own[:at] + own[at + 2 :]
    if own[:1] != ["-s"] or len(own) < 2:
        return "" if not own else "nox without -s"
    if strangers := [name for name in own[1:] if name not in sessions()]:
        return f"there is no session {strangers[0]}"
    return wrong_after(own[1].split("(")[0], after) if after else ""


def wrong_after(session: str, after: list[str]) -> str:
    """Check the words after ``--``."""
    kind, _, package = session.partition("-")
    if kind == "run":
        return wrong_with_tool(package, after)
    if kind == "reset":
        return "" if len(after) == 1 and after[0] in exercises() else f"reset takes one exercise, not {after}"
    if kind == "docs":
        return "" if after == ["serve"] else f"docs takes serve, not {after}"
    options = {"--fix"} if kind == "lint" else pytest_options() | ({"--fix"} if kind == "guide" else set())
    for word in after:
        if word.startswith("-"):
            if word.split("=")[0] not in options:
                return f"{session} has no option {word}"
        elif f"{package}.{word}" not in exercises():
            return f"{package} has no exercise {word}"
    return ""


def wrong_with_tool(package: str, words: list[str]) -> str:
    """Check a tool's command and its options."""
    if package not in packages():
        return f"there is no package {package}"
    if not words or words[0].startswith("-"):
        known, rest = commands(package).get("", set()), words
    elif " ".join(words[:2]) in commands(package):  # a command of a group
        known, rest = commands(package)[" ".join(words[:2])], words[2:]
    elif words[0] in commands(package):
        known, rest = commands(package)[words[0]], words[1:]
    else:
        return f"{package} has no command {words[0]}, only {', '.join(filter(None, commands(package)))}"
    strange = [word for word in rest if word.startswith("--") and word.split("=")[0] not in known]
    return f"{package} has no option {strange[0]}, only {', '.join(sorted(known))}" if strange else ""


@each(PAGES)
def test_commands_exist(page: Path) -> None:
    for command in said(page):
        wrong = wrong_with(command)
        assert not wrong, f"{named(page)}: `{command}`: {wrong}"


@pytest.mark.parametrize(
    "command",
    [
        "nox -s test-nothing",
        "nox -s test-quant -- nothing",
        "nox -s test-quant -- affine --hunt",
        "nox -s run-quant -- reprot",
        "nox -s run-quant -- report --modle tinylm",
        "nox -s reset -- affine",
        "nox -s reset -- quant.affine quant.int8",
        "python -m capacity sevre",
        "python -m stats test tsett 5.2,1.1,30 4.8,1.0,40",
        "python -m stats test ttest 5.2,1.1,30 4.8,1.0,40 --aplha 0.1",
        "python -m docs.nothing",
        "pip install nothing",
    ],
)
def test_a_command_that_does_not_exist_is_noticed(command: str) -> None:
    assert wrong_with(command)


def test_the_guide_names_commands() -> None:
    assert len({command for page in GUIDE for command in said(page)}) > 15
