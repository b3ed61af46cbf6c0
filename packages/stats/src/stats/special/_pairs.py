"""Sums of two float64 that carry 32 digits between them: plenty for an exponent of several hundred.

An error of 1e-16 in the logarithm of a tail of 1e-300 is 690 times as large in the tail itself. So exponents are kept
as pairs ``(high, low)``, of floats or of arrays. Source: Dekker 1971, A floating-point technique for extending the
available precision.
"""

import math
from functools import cache
from typing import Any

import numpy as np

Real = Any  # a float or an array of float64
Pair = tuple[Real, Real]

SPLIT = 134217729.0  # 2**27 + 1
CELLS = 128  # cells of the table of logarithms for each power of two


def two_sum(a: Real, b: Real) -> Pair:
    """Return a + b exactly. Source: Knuth 1997, volume 2, 4.2.2, theorem B."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def two_product(a: Real, b: Real) -> Pair:
    """Return a * b exactly, for factors up to 1e300. Source: Veltkamp 1968; Dekker 1971."""
    product = a * b
    a_high = a * SPLIT
    a_high = a_high - (a_high - a)
    b_high = b * SPLIT
    b_high = b_high - (b_high - b)
    a_low, b_low = a - a_high, b - b_high
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def add(a: Pair, b: Pair) -> Pair:
    """Return the sum of two pairs."""
    total, rest = two_sum(a[0], b[0])
    return _tidy(total, rest + (a[1] + b[1]))


def times(a: Pair, b: Pair) -> Pair:
    """Return the product of two pairs."""
    product, rest = two_product(a[0], b[0])
    return _tidy(product, rest + (a[0] * b[1] + a[1] * b[0]))


def over(a: Pair, b: Pair) -> Pair:
    """Return the quotient of two pairs."""
    quotient = a[0] / b[0]
    product, rest = two_product(quotient, b[0])
    return _tidy(quotient, ((a[0] - product) - rest + a[1] - quotient * b[1]) / b[0])


def log(a: Pair) -> Pair:
    """Return the natural logarithm of a positive pair, of 25 digits.

    a = 2**e * c * (1 + small) with c on a grid whose logarithms are known; the rest by its series.
    """
    if isinstance(a[0], float):
        high, low = _lists()
        part, exponent = math.frexp(a[0])
        rest, cell = math.ldexp(a[1], -exponent), int(part * CELLS + 0.5)
    else:
        high, low = _tables()
        part, exponent = np.frexp(a[0])
        rest, cell = np.ldexp(a[1], -exponent), (part * CELLS + 0.5).astype(np.int64)
    grid = cell / CELLS
    known = high[cell] + exponent * high[0], low[cell] + exponent * low[0]
    return add(known, _twice_atanh(over(two_sum(part - grid, rest), add((part, rest), (grid, 0.0)))))


def log1p(a: Pair) -> Pair:
    """Return log(1 + a) of a pair from 0 to 1."""
    if isinstance(a[0], float):
        return _log1p_small(a) if a[0] < 1 / CELLS else log(add(a, (1.0, 0.0)))
    small, large = _log1p_small(a), log(add(a, (1.0, 0.0)))
    return np.where(a[0] < 1 / CELLS, small[0], large[0]), np.where(a[0] < 1 / CELLS, small[1], large[1])


def _log1p_small(a: Pair) -> Pair:
    return _twice_atanh(over(a, add(a, (2.0, 0.0))))


def _twice_atanh(z: Pair) -> Pair:
    """Return 2 atanh(z) for |z| below 1/256: the first term as a pair, the others are small enough."""
    square = z[0] * z[0]
    cubes = 2 * z[0] * square * (1 / 3 + square * (1 / 5 + square * (1 / 7 + square / 9)))
    return _tidy(2 * z[0], 2 * z[1] + cubes)


def _tidy(high: Real, low: Real) -> Pair:
    total = high + low
    return total, low - (total - high)


@cache
def _tables() -> tuple[Any, Any]:
    """Return the logarithms of c / CELLS by c, as pairs; number 0 holds that of 2, rounded so that e times it is exact.

    The first part has so few bits that adding a multiple of log 2 loses nothing that matters.
    """
    from decimal import Context, Decimal  # noqa: PLC0415 - not everybody who imports the package gets here

    context = Context(prec=40)
    logs = [context.ln(Decimal(2))] + [context.ln(Decimal(max(cell, 1)) / CELLS) for cell in range(1, CELLS + 1)]
    high = np.array([math.ldexp(round(math.ldexp(float(value), 40)), -40) for value in logs])
    low = np.array([float(value - Decimal(float(part))) for value, part in zip(logs, high, strict=True)])
    return high, low


@cache
def _lists() -> tuple[list[float], list[float]]:
    """Return the same tables for single numbers, for which a list is the faster one to look in."""
    high, low = _tables()
    return high.tolist(), low.tolist()
