"""Lets the tests import docs as `python -m docs.render` does, from the root of the repository."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
