"""The design questions are whole: files, links, commands, numbers, rubrics and scored samples."""

import ast
import importlib.util
import re
import sys
import tomllib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).resolve().parents[1]
ROOT = HERE.parent
FENCE = re.compile(r"^```\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
LEVELS = ("below", "mid", "senior", "staff")
FILES = (
    "prompt.md",
    "interviewer.md",
    "answer.md",
    "rubric.toml",
    "sample_weak.md",
    "sample_strong.md",
)
# What a template may say in digits without computing it: names of things, sources, minutes of the interview.
NAMES = [
    r"arXiv:\d{4}\.\d{5}",
    r"doi:\S+",
    r"\b(?:19|20)\d\d\b",  # years
    r"question[ _]0?\d(?:_\w+)?(?:\.md)?",
    r"[Mm]inutes? \d+(?: to \d+)?",
    r"^\| \d+(?:-\d+)? \|",  # the interviewer's table of minutes
    r"^\d\. ",  # numbered lists
    r"\b(?:[A-Z]\d{1,3}S?|2:4|int[48]|fp(?:8|16|32)|bf16|E4M3|W\dA\d+|p\d\d|PyTorch 2|S3|BM25|SHA-256|F1|Q[1-5])\b",
    r"\b99th percentile",
    r"\b429\b",
    r"&#\d+;",
]


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


render = load(HERE / "render.py")
FOLDERS = render.folders()
PAGES = sorted(path for path in HERE.rglob("*.md") if ".pytest_cache" not in path.parts)


def name(path: Path) -> str:
    return str(path.relative_to(HERE))


each = pytest.mark.parametrize("folder", FOLDERS, ids=name)


@cache
def written(folder: Path) -> dict[Path, bytes]:
    pages: dict[Path, bytes] = render.pages(folder)
    return pages


@cache
def rubric(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "rubric.toml").read_text("utf-8"))


@each
def test_a_question_has_all_its_files_and_an_entry_page(folder: Path) -> None:
    missing = [file for file in FILES if not (folder / file).is_file()]
    assert not missing, f"{folder.name} lacks {', '.join(missing)}"
    entry = folder.with_suffix(".md").read_text("utf-8")
    unnamed = [file for file in FILES if f"{folder.name}/{file}" not in entry]
    assert not unnamed, f"{folder.name}.md does not lead to {', '.join(unnamed)}"


@each
def test_what_is_written_is_what_the_numbers_say(folder: Path) -> None:
    late = [path.name for path, content in written(folder).items() if render.stale(path, content)]
    assert not late, f"out of date in {folder.name}: {', '.join(late)}; run `nox -s guide -- --fix`"


@each
def test_no_number_is_typed_by_hand(folder: Path) -> None:
    sources = [*folder.glob("*.md.in"), folder / "pictures.toml"]
    assert {"answer.md.in", "interviewer.md.in", "sample_strong.md.in"} <= {path.name for path in sources}
    stray = []
    for source in sources:
        for number, line in enumerate(source.read_text("utf-8").splitlines(), 1):
            given = " ".join(re.findall(r'text = "([^"]*)"', line)) if source.suffix == ".toml" else line
            rest = render.PLACE.sub("", given.replace("\\n", " "))
            rest = re.sub(r"\]\([^)]*\)", "]", rest)  # where links lead is checked elsewhere
            for pattern in NAMES:
                rest = re.sub(pattern, "", rest)
            stray += [f"{name(source)}:{number}: {word}" for word in re.findall(r"\S*\d\S*", rest)]
    assert not stray, f"no name in braces stands for {', '.join(stray)}"


@each
def test_what_is_given_is_really_said(folder: Path) -> None:
    module = render.quantities(folder)
    said = " ".join(f"{(folder / file).read_text('utf-8')}" for file in ("prompt.md", "interviewer.md"))
    said = " ".join(said.split())
    silent = [text for text in module.GIVEN.values() if text not in said]
    assert not silent, f"neither prompt.md nor interviewer.md of {folder.name} says {'; '.join(silent)}"


@each
def test_every_quantity_is_used(folder: Path) -> None:
    module = render.quantities(folder)
    text = "".join(path.read_text("utf-8") for path in [*folder.glob("*.md.in"), folder / "pictures.toml"])
    used = set(render.PLACE.findall(text))
    defined = render.values(module).keys() - {"assumptions"} - module.GIVEN.keys() - module.ASSUMED.keys()
    defined |= module.RUNS.keys() | module.QUOTES.keys()
    assert not defined - used, f"{folder.name} computes what nobody reads: {', '.join(sorted(defined - used))}"
    assert "assumptions" in used, f"{folder.name}/answer.md.in does not list what it assumes"


def test_a_wrong_number_a_stray_number_and_an_unknown_name_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = FOLDERS[0]
    page = folder / "answer.md"
    content = written(folder)[page]
    monkeypatch.setattr(Path, "read_bytes", lambda path: content.replace(b"1", b"2", 1))
    assert render.stale(page, content)
    with pytest.raises(ValueError, match="does not define 'nonsense'"):
        render.filled("{nonsense}", render.quantities(folder), {})


# Rubrics and samples


@each
def test_a_rubric_has_anchors_and_maps_every_follow_up(folder: Path) -> None:
    rows = {row["name"]: row for row in rubric(folder)["row"]}
    assert len(rows) == len(rubric(folder)["row"]) >= 6
    for row in rows.values():
        anchors = [row[level] for level in LEVELS[1:]]
        assert len(set(anchors)) == 3, f"{row['name']}: mid, senior and staff are not three different anchors"
    follow_ups = rubric(folder)["followup"]
    assert len(follow_ups) >= 4
    for follow_up in follow_ups:
        assert follow_up["row"] in rows, f"{follow_up['question']!r} belongs to no row"
        target, anchor = follow_up["answer"].split("#")
        assert anchor in anchors_of(folder / target), f"{follow_up['question']!r}: {target} has no #{anchor}"
        assert f"**{follow_up['question']}**" in (folder / "answer.md").read_text("utf-8"), follow_up["question"]


@each
@pytest.mark.parametrize("sample", ["weak", "strong"])
def test_scores_of_a_sample_quote_it(folder: Path, sample: str) -> None:
    scores = rubric(folder)["samples"][sample]
    text = " ".join((folder / f"sample_{sample}.md").read_text("utf-8").split())
    assert list(scores) == [row["name"] for row in rubric(folder)["row"]], f"{sample}: not one score for each row"
    for row, score in scores.items():
        assert score["level"] in LEVELS, f"{sample}, {row}: no level {score['level']!r}"
        evidence = " ".join(score["evidence"].split())
        assert len(evidence) >= 15, f"{sample}, {row}: {evidence!r} is too short to be evidence"
        assert evidence in text, f"{sample}, {row}: the sample does not say {evidence!r}"
    quotes = [score["evidence"] for score in scores.values()]
    assert len(set(quotes)) == len(quotes), f"{sample}: one quotation serves two rows"


@each
def test_the_strong_sample_is_stronger_in_every_row(folder: Path) -> None:
    samples = rubric(folder)["samples"]
    levels = {
        sample: [LEVELS.index(score["level"]) for score in samples[sample].values()] for sample in ("weak", "strong")
    }
    assert all(weak < strong for weak, strong in zip(levels["weak"], levels["strong"], strict=True))
    overall = {sample: sorted(found)[(len(found) - 1) // 2] for sample, found in levels.items()}  # the lower median
    assert overall["weak"] <= LEVELS.index("mid"), f"{folder.name}: the weak sample is {LEVELS[overall['weak']]}"
    assert overall["strong"] == LEVELS.index("staff"), f"{folder.name}: the strong one is {LEVELS[overall['strong']]}"


@each
def test_an_interview_has_stages(folder: Path) -> None:
    text = (folder / "interviewer.md").read_text("utf-8")
    for heading in ("## Answers to clarifying questions", "## Minute 20: ", "## Minute 30: ", "## Follow-ups"):
        assert f"\n{heading}" in text, f"{folder.name}/interviewer.md has no {heading!r}"
    answer = (folder / "answer.md").read_text("utf-8")
    for heading in ("Requirements", "Numbers", "Architecture", "Scalability", "Failures", "Cost", "Trade-offs"):
        assert f"\n## {heading}\n" in answer, f"{folder.name}/answer.md has no section {heading!r}"
    assert 2 <= len(re.findall(r"^## Deep dive: ", answer, flags=re.MULTILINE)) <= 3
    assert "## Rollout and rollback\n" in answer
    assert len(re.findall(r"!\[[^\]]+\]\(\w+\.svg\)", answer)) >= 2, "an answer has at least two pictures"


# Links, commands and packages


@cache
def anchors_of(page: Path) -> set[str]:
    """Return a page's anchors as GitHub makes them."""
    text = FENCE.sub("", page.read_text("utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        assert not target.startswith("http"), f"{name(page)} leads outside: {target}"
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.is_file(), f"{name(page)}: nothing is at {target}"
        assert not anchor or anchor in anchors_of(there), f"{name(page)}: no anchor {target}"


@cache
def sessions() -> set[str]:
    """Return the sessions of the noxfile: those it defines, and those it gives each package."""
    tree = ast.parse((ROOT / "noxfile.py").read_text("utf-8"))
    plain = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list}
    packages = [path.parent for path in ROOT.glob("packages/*/pyproject.toml")]
    with_exercises = [path for path in packages if list(path.glob("src/*/*/starter.py"))]
    tools = [path for path in packages if list(path.glob("src/*/__main__.py"))]
    of = {"test": packages, "slow": packages, "bench": with_exercises, "run": tools}
    return plain | {f"{kind}-{path.name}" for kind, paths in of.items() for path in paths}


@cache
def tool(package: str) -> tuple[dict[str, set[str]], set[str]]:
    """Return a tool's commands with their parameters, and every option that its source spells out."""
    tree = ast.parse((ROOT / f"packages/{package}/src/{package}/cli.py").read_text("utf-8"))
    commands = {}
    for node in tree.body:
        for mark in node.decorator_list if isinstance(node, ast.FunctionDef) else []:
            if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Attribute) and mark.func.attr == "command":
                assert isinstance(node, ast.FunctionDef)
                called = mark.args[0].value if mark.args and isinstance(mark.args[0], ast.Constant) else node.name
                commands[str(called)] = {"--" + arg.arg.replace("_", "-") for arg in node.args.args}
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return commands, {text for text in constants if isinstance(text, str) and text.startswith("--")} | {"--mine"}


def wrong(command: str) -> str:  # noqa: PLR0911 - one answer for each thing that can be wrong
    """Say what is wrong with a command, "" where nothing is."""
    words = command.split()
    if words[0] == "nox":
        unknown = [word for word in words[2:] if word not in sessions()] if "--" not in words else []
        session = words[2].strip('"').split("(")[0]
        rest = words[words.index("--") + 1 :] if "--" in words else []
        package = session.partition("-")[2]
        if session not in sessions() or unknown:
            return f"there is no session {session if session not in sessions() else unknown[0]}"
        if session.startswith(("test-", "bench-")):
            exercises = {path.parent.name for path in ROOT.glob(f"packages/{package}/src/*/*/__init__.py")}
            return next((f"{package} has no {w}" for w in rest if not w.startswith("-") and w not in exercises), "")
        return wrong(f"python -m {package} {' '.join(rest)}") if session.startswith("run-") else ""
    if words[:2] == ["python", "-m"]:
        if not (ROOT / f"packages/{words[2]}/src/{words[2]}/__main__.py").exists():
            return f"there is no tool {words[2]}"
        commands, spelled = tool(words[2])
        rest = words[3:]
        if not rest:
            return ""
        if rest[0] not in commands:
            return f"{words[2]} has no command {rest[0]}"
        options = [word for word in rest[1:] if word.startswith("--")]
        return next((f"{rest[0]} has no {o}" for o in options if o not in commands[rest[0]] | spelled), "")
    if words[0] == "python":
        return "" if (ROOT / words[1]).is_file() else f"there is no {words[1]}"
    return "only nox and python are known here"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_exists(page: Path) -> None:
    for fence in FENCE.findall(page.read_text("utf-8")):
        for line in fence.splitlines():
            if line.startswith(("$ ", "nox ", "python ")):
                assert not (why := wrong(line.removeprefix("$ "))), f"{name(page)}: {line}: {why}"


@pytest.mark.parametrize(
    "command",
    [
        "nox -s test-nothing",
        "nox -s test-capacity -- nonsense",
        "nox -s run-quant -- nonsense",
        "python -m nothing",
        "python -m capacity nothing",
        "python -m capacity serve --nothing 3",
        "rm -rf everything",
    ],
)
def test_commands_that_do_not_exist_are_found(command: str) -> None:
    assert wrong(command)


def test_what_is_coming_is_not_here_yet() -> None:
    here = [package for package in render.COMING if (ROOT / "packages" / package / "README.md").exists()]
    assert not here, f"{', '.join(here)} has come: take it off COMING in render.py, and write the pages again"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_packages_that_are_coming_are_said_to_be(page: Path) -> None:
    text = page.read_text("utf-8")
    for package in render.COMING:
        for match in re.finditer(rf"`{package}[`. ]", text):
            assert text[match.start() :].startswith(f"`{package}` (coming)"), (
                f"{name(page)}: `{package}` is not here yet"
            )


def test_exercises_that_pages_name_exist() -> None:
    """On entry pages, what stands in backticks after a package's link is an exercise of it."""
    for folder in FOLDERS:
        text = " ".join(folder.with_suffix(".md").read_text("utf-8").split())
        for package, names in re.findall(r"\[`(\w+)`\]\([^)]+\):? ((?:`\w+`(?:, | and )?)+)", text):
            for exercise in re.findall(r"`(\w+)`", names):
                path = ROOT / f"packages/{package}/src/{package}/{exercise}/__init__.py"
                assert path.exists(), f"{folder.name}.md: {package} has no exercise {exercise}"


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
