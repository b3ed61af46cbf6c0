"""``python -m stats``."""

from stats.cli import main

main()
