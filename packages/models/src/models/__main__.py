"""``python -m models``."""

from models.cli import main

main()
