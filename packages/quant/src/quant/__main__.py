"""``python -m quant``."""

from quant.cli import main

main()
