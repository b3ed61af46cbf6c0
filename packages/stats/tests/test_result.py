"""The one type that all tests return."""

import dataclasses
import math

import numpy as np
import pytest

import stats
from stats import Result


def test_it_is_frozen_and_unpacks() -> None:
    found = Result(2.0, 0.05, math.log(0.05), math.inf, 1.0, 0.5, 10, "two-sided", "by hand")
    statistic, pvalue = found
    assert (statistic, pvalue) == (2.0, 0.05)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.pvalue = 0.01  # type: ignore[misc]


def test_the_normal_law_stands_behind_infinite_df() -> None:
    for alternative, low, high in (
        ("two-sided", 1 - 0.5 * stats.norm.isf(0.05), 1 + 0.5 * stats.norm.isf(0.05)),
        ("equivalence", 1 - 0.5 * stats.norm.isf(0.05), 1 + 0.5 * stats.norm.isf(0.05)),
        ("greater", 1 - 0.5 * stats.norm.isf(0.1), math.inf),
        ("less", -math.inf, 1 + 0.5 * stats.norm.isf(0.1)),
    ):
        found = Result(2.0, 0.05, math.log(0.05), math.inf, 1.0, 0.5, 10, alternative, "by hand")
        assert found.confidence_interval(0.9) == pytest.approx((low, high), rel=1e-12)


def test_many_tests_have_many_intervals() -> None:
    ones = np.ones(3)
    found = Result(ones, ones, 0 * ones, 5.0 * ones, ones, np.array([1.0, math.nan, 0.0]), ones, "two-sided", "by hand")
    low, high = found.confidence_interval()
    assert low[0] == pytest.approx(1 - stats.t.isf(0.025, 5))
    assert math.isnan(low[1])
    assert low[2] == high[2] == 1


def test_a_test_may_have_limits_of_its_own_or_none() -> None:
    own = Result(1.0, 0.5, math.log(0.5), 3, 1.0, 1.0, 4, "two-sided", "own", lambda level: (1 - level, 1 + level))
    assert own.confidence_interval(0.75) == (0.25, 1.75)
    none = Result(1.0, 0.5, math.log(0.5), math.nan, 1.0, math.nan, 4, "two-sided", "none")
    assert all(map(math.isnan, none.confidence_interval()))
    for level in (0.0, 1.0, 95):
        with pytest.raises(ValueError, match=f"level is {level}"):
            own.confidence_interval(level)
