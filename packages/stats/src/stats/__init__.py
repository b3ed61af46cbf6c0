"""Hypothesis tests from scratch, with numpy alone: the solutions of the exercises, as a library."""

from stats.moments.solution import Moments

__all__ = ["Moments"]
