"""What the command lines of all packages do alike: a bare ``--mine``, and one line where the user went wrong."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


def bare_mine(arguments: list[str]) -> list[str]:
    """Rewrite a ``--mine`` that names no exercise as ``--mine all``, which every option parser can read."""
    result = []
    for index, here in enumerate(arguments):
        result.append(here)
        after = arguments[index + 1] if index + 1 < len(arguments) else "-"
        if here == "--mine" and after.startswith("-"):
            result.append("all")
    return result


def run(app: Callable[..., object]) -> NoReturn:
    """Run a typer application on the arguments of this process, and exit.

    Bad input (ValueError, TypeError, OSError, a missing library, a wrong option or argument) is one line on stderr and
    exit code 2, so that 1 is left for a tool's verdict; Ctrl-C exits with 130. Anything else is a bug and shows its
    traceback.
    """
    try:
        code = app(bare_mine(sys.argv[1:]), standalone_mode=False)
    except (ValueError, TypeError, OSError, ImportError, NotImplementedError) as error:
        _fail(str(error).strip().split("\n")[0] or type(error).__name__)
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.exit(error.ctx.get_help())  # type: ignore[attr-defined]
        if not hasattr(error, "format_message"):  # usage errors of click, and of the copy of it within typer
            raise
        _fail(" ".join(error.format_message().split()))
    sys.exit(code if isinstance(code, int) else 0)


def _fail(said: str) -> NoReturn:
    sys.stderr.write(f"error: {said}\n")
    sys.exit(2)
