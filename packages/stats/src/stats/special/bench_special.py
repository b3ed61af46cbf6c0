"""How fast tails and quantiles are, for one number and for many."""

import time
from typing import Any

import numpy as np
import pytest

from harness.race import Race

SIZES = [1, 101, 10_001]


def points(n: int, low: float, high: float) -> Any:
    """Return n values in order, or a number where one is asked for."""
    return float(np.float64(0.3 * low + 0.7 * high)) if n == 1 else np.linspace(low, high, n)


def falling(found: Any, *_: Any) -> None:
    assert np.all((np.asarray(found) > 0) & (np.asarray(found) < 1))
    assert np.all(np.diff(np.atleast_1d(found)) < 0)


@pytest.mark.parametrize("n", SIZES)
def bench_t_sf(race: Race, n: int) -> None:
    def check(found: Any, x: Any) -> None:
        falling(found)
        assert n == 1 or np.allclose(np.add(found, found[::-1]), 1, rtol=0, atol=1e-12), "the tails of -x and x are one"

    race(
        lambda impl, x: impl.t_tail(x, True, False, 98.0),
        inputs=lambda: (points(n, -6.0, 6.0),),
        check=check,
        clock=time.process_time,
        unit="values, 98 degrees of freedom",
    )


@pytest.mark.parametrize("n", SIZES)
def bench_chi2_sf(race: Race, n: int) -> None:
    race(
        lambda impl, x: impl.chi2_tail(x, True, False, 7.0),
        inputs=lambda: (points(n, 0.5, 40.0),),
        check=falling,
        clock=time.process_time,
        unit="values, 7 degrees of freedom",
    )


@pytest.mark.parametrize("n", SIZES)
def bench_f_sf(race: Race, n: int) -> None:
    race(
        lambda impl, x: impl.f_tail(x, True, False, 3.0, 95.0),
        inputs=lambda: (points(n, 0.1, 30.0),),
        check=falling,
        clock=time.process_time,
        unit="values, 3 and 95 degrees of freedom",
    )


@pytest.mark.parametrize("n", SIZES)
def bench_t_isf(race: Race, n: int) -> None:
    def check(found: Any, p: Any) -> None:
        assert np.all(np.diff(np.atleast_1d(found)) < 0)

    race(
        lambda impl, p: impl.t_quantile(p, True, 98.0),
        inputs=lambda: (points(n, 1e-6, 0.4),),
        check=check,
        clock=time.process_time,
        unit="values, 98 degrees of freedom",
    )


@pytest.mark.parametrize("n", SIZES)
def bench_nct_sf(race: Race, n: int) -> None:
    race(
        lambda impl, x: impl.nct_tail(x, True, False, 98.0, 2.5),
        inputs=lambda: (points(n, -1.0, 8.0),),
        check=falling,
        clock=time.process_time,
        unit="values, 98 degrees of freedom, shifted 2.5",
    )
