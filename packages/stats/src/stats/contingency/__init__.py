"""Counts in tables: whether they fit what was expected, and whether rows and columns have to do with each other.

What you write:

- ``chisquare``: do counts fit expected ones?
- ``chi2_contingency``: are rows and columns of a table independent? With Yates's correction where there is one degree
  of freedom; ``lambda_="log-likelihood"`` is the G-test.
- ``cramers_v``: how strong the association is, from 0 to 1, however many counts there are.
- ``residuals``: which cells are to blame, in standard errors.

Tests return a ``stats.result.Result``. Names and defaults are scipy's.
"""

from typing import Literal

Lambda = Literal["pearson", "log-likelihood"]
"""Pearson's sum of squares, or the G-test."""
