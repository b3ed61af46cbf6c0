"""``python -m harness reset quant.affine``: put an attempt aside and start again."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from harness import runs
from harness.exercise import exercises_below
from harness.mutants import committed


def reset(name: str, root: Path) -> Path:
    """Copy the starter of ``name`` to ``.practice/attempts`` and restore the committed one; return the copy's path.

    Raises ValueError where there is no such exercise or nothing to reset.
    """
    found = {exercise.name: exercise for exercise in exercises_below(root / "packages")}
    if name not in found:
        msg = f"no exercise {name!r}; there are {', '.join(found)}"
        raise ValueError(msg)
    starter = found[name].starter
    skeleton = committed(starter)
    attempt = starter.read_text("utf-8") if starter.exists() else ""
    if attempt == skeleton:
        msg = f"{name} is as committed: nothing to put aside"
        raise ValueError(msg)
    kept = root / runs.FOLDER / "attempts" / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.py"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(attempt, "utf-8")
    scratch = starter.with_suffix(".tmp")
    scratch.write_text(skeleton, "utf-8")
    scratch.replace(starter)
    return kept


def main() -> int:
    """Run the command line."""
    match sys.argv[1:]:
        case ["reset", name]:
            try:
                kept = reset(name, Path.cwd())
            except (ValueError, OSError) as error:
                sys.stderr.write(f"error: {error}\n")
                return 2
            sys.stdout.write(f"your attempt is in {kept.relative_to(Path.cwd())}; the starter is fresh\n")
            return 0
        case _:
            sys.stderr.write("error: usage: nox -s reset -- PACKAGE.EXERCISE, such as quant.affine\n")
            return 2


if __name__ == "__main__":
    sys.exit(main())
