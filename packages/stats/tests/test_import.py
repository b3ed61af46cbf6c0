"""What ``import stats`` costs beside ``import numpy``, counted in modules: time would depend on the machine."""

import subprocess
import sys

FEW = {"copy", "dataclasses", "numpy.typing", "numpy._typing._add_docstring"}  # a millisecond or two together
COUNT = """
import sys, numpy
before = set(sys.modules)
import stats
print(*sorted(set(sys.modules) - before))
"""


def test_little_more_than_numpy_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, check=True, encoding="utf-8")
    loaded = set(done.stdout.split())
    assert "stats.special.solution" in loaded
    more = {name for name in loaded if name.split(".")[0] != "stats"} - FEW
    assert not more, f"import stats also loads {', '.join(sorted(more))}: import them where they are needed"
    tools = {"stats.cli", "stats.ab", "stats.single", "stats.compare", "stats.records"} & loaded
    assert not tools, f"{tools} belong to the tool, not to the library"
