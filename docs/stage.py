"""Stage the site: `python -m docs.stage` fills docs/staged and writes docs/staged.toml for zensical.

Pages keep the repository's layout, so that their links need no change. A link to a file that is no page (a problem, a
plan's data) becomes a page that shows it; one to a folder becomes one to its README.
"""

import json
import re
import shutil
import sys
from itertools import chain
from pathlib import Path

from docs.repository import DOCS, ROOT, packages

LINK = re.compile(r"(\[[^\]]*\]\()([^)\s#]+)((?:#[^)]*)?\))")
ORDER = ["README", "topics", "interviews", "two_weeks", "four_weeks", "practice", "sheets", "deep_dives"]
ORDER += ["tensorrt", "cuda_triton", "resources", "checklists"]
LANGUAGES = {".py": "python", ".toml": "toml", ".csv": "text", ".c": "c", ".yml": "yaml"}


def guide() -> list[Path]:
    """List the guide's pages in the order of the navigation; ValueError where a page has no place in it."""
    found = {path.stem: path for path in DOCS.glob("*.md")}
    if set(found) != set(ORDER):
        msg = f"docs/stage.py orders {sorted(set(ORDER) ^ set(found))}, which is not what docs/ holds"
        raise ValueError(msg)
    return [found[name] for name in ORDER]


def designs() -> dict[Path, list[Path]]:
    """Map each design question's page to the pages in its folder."""
    return {
        page: sorted(page.with_suffix("").glob("*.md"))
        for page in sorted((ROOT / "system_design").glob("question_*.md"))
    }


def readmes() -> dict[str, list[Path]]:
    """Map each package to its pages."""
    folders = {name: ROOT / "packages" / name for name in packages()}
    return {name: [*folder.glob("README.md"), *folder.glob("RESULTS.md")] for name, folder in folders.items()}


def stage(page: Path, folder: Path, shown: set[Path]) -> None:
    """Copy a page below ``folder``; collect in ``shown`` the files it links to that are no pages."""

    def retarget(match: re.Match[str]) -> str:
        target = match[2]
        if re.match(r"[a-z]+:", target):
            return match[0]
        path = (page.parent / target).resolve()
        if path.is_dir():
            return f"{match[1]}{target.rstrip('/')}/README.md{match[3]}"
        if path.suffix in LANGUAGES or path.name == "LICENSE":
            shown.add(path)
            return f"{match[1]}{target}.md{match[3]}"
        if path.suffix != ".md" and path.exists():
            _write(path, folder, path.read_bytes())
        return match[0]

    _write(page, folder, LINK.sub(retarget, page.read_text("utf-8")).encode())


def show(path: Path, folder: Path) -> None:
    """Make a page of a file."""
    name, text = path.relative_to(ROOT), path.read_text("utf-8").rstrip()
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    page = f"# `{name.name}`\n\n`{name}`\n\n{fence}{LANGUAGES.get(path.suffix, 'text')}\n{text}\n{fence}\n"
    _write(path.with_name(path.name + ".md"), folder, page.encode())


def _write(path: Path, folder: Path, content: bytes) -> None:
    target = folder / path.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def title(page: Path) -> str:
    """Return the first heading of a page, without what would be markup."""
    heading = re.search(r"^# (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return re.sub(r"[`*]", "", heading[1]) if heading else page.stem


def navigation() -> str:
    """Write the navigation as a TOML value: titles and staged paths."""

    def entries(pages: list[Path]) -> list[dict[str, str]]:
        return [{title(page): page.relative_to(ROOT).as_posix()} for page in pages]

    parts: list[dict[str, object]] = [{"Start": "README.md"}, {"The guide": entries(guide())}]
    if questions := designs():
        parts.append({"System design": [{title(page): entries([page, *below])} for page, below in questions.items()]})
    parts.append({"Packages": [{name: entries(pages)} for name, pages in readmes().items()]})
    return _toml(parts)


def _toml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def stage_all(folder: Path) -> Path:
    """Stage everything anew in ``folder``/staged, and return the settings that zensical is to read."""
    staged, shown = folder / "staged", set[Path]()
    shutil.rmtree(staged, ignore_errors=True)
    questions = [page for question, below in designs().items() for page in (question, *below)]
    for page in [ROOT / "README.md", *guide(), *questions, *chain(*readmes().values())]:
        stage(page, staged, shown)
    for path in sorted(shown):
        show(path, staged)
    settings = (DOCS / "zensical.toml").read_text("utf-8")
    path = folder / "staged.toml"
    path.write_text(settings.replace("[project]\n", f"[project]\nnav = {navigation()}\n", 1), "utf-8")
    return path


def main() -> int:
    """Stage everything in docs/; one readable line where that cannot be done."""
    try:
        stage_all(DOCS)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
