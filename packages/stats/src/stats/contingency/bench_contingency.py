"""How fast tables of counts are tested, beside scipy."""

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.race import Race


def tables(rows: int, columns: int) -> Callable[[], tuple[np.ndarray]]:
    seeds = itertools.count()
    return lambda: (np.random.default_rng(next(seeds)).integers(20, 60, (rows, columns)),)


def sound(found: Any, *_: Any) -> None:
    assert 0 <= found.pvalue <= 1
    assert found.log_pvalue <= 0


@pytest.mark.parametrize("side", [2, 4, 16])
def bench_chi2_contingency(race: Race, side: int) -> None:
    race(
        lambda impl, table: impl.chi2_contingency(table),
        inputs=tables(side, side),
        check=sound,
        clock=time.process_time,
        unit="rows and columns",
    )


@pytest.mark.parametrize("cells", [2, 10, 50])
def bench_chisquare(race: Race, cells: int) -> None:
    race(
        lambda impl, table: impl.chisquare(table[0]),
        inputs=tables(1, cells),
        check=sound,
        clock=time.process_time,
        unit="counts",
    )
