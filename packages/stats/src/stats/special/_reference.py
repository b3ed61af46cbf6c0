"""Write ``reference.json``, tails with 30 and more digits behind them: ``python -m stats.special._reference``.

Each tail is integrated by mpmath with 40 digits in a variable in which the density is smooth, over all of the range in
which it is not below 1e-45 of what it is at the start: nothing is shared with the solution, which sums series and uses
expansions. Rows are name, arguments, lower and upper tail, logarithms of both.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mpmath import mp, mpf

Real = Any  # a number of mpmath's
Tails = tuple[Real, Real]
DIGITS, HALF = 40, 0.5
FAR = 105  # natural logarithms: 1e-45
CALM, STEEP, WIDEST = 2, 5, 8  # bounds of the changes over a piece, and of its width
LOWEST = 1e-300  # of the tails wanted; farther out only logarithms are asked for


def integral(log_density: Callable[[Real], Real], start: Real, sign: int) -> Real:
    """Return the integral of exp(log_density) from ``start`` to where it no longer counts, in one direction."""
    top = log_density(start)
    step, peak = mpf(1) / 2**60, top
    edges = [start]
    while log_density(edges[-1]) > peak - FAR:
        here = edges[-1]
        # Steps over which the logarithm changes by no more than about 4, so that each piece is easy.
        while abs(log_density(here + sign * step) - log_density(here)) < CALM and step < WIDEST:
            step *= 2
        while abs(log_density(here + sign * step) - log_density(here)) > STEEP:
            step /= 2
        edges.append(here + sign * step)
        peak = max(peak, log_density(edges[-1]))
    return abs(mp.quad(lambda s: mp.exp(log_density(s) - top), edges, maxdegree=6)) * mp.exp(top)


def both(log_density: Callable[[Real], Real], start: Real, mode: Real) -> Tails:
    """Return the logarithms of the lower and the upper tail: the smaller one integrated, the other its complement."""
    sign = -1 if start < mode else 1
    tail = integral(log_density, start, sign)
    return (tail, 1 - tail) if sign < 0 else (1 - tail, tail)


def norm(z: float) -> Tails:
    """Return both tails of the normal distribution."""
    root = mp.sqrt(2)
    return mp.erfc(-mpf(z) / root) / 2, mp.erfc(mpf(z) / root) / 2


def t(x: float, df: float) -> Tails:
    """Integrate over asinh(x / sqrt(df))."""
    nu = mpf(df)
    constant = mp.loggamma((nu + 1) / 2) - mp.loggamma(nu / 2) - mp.log(mp.pi) / 2
    return both(lambda s: constant - nu * mp.log(mp.cosh(s)), mp.asinh(mpf(x) / mp.sqrt(nu)), mpf(0))


def gamma(a: float, x: float) -> Tails:
    """Integrate over log x."""
    shape = mpf(a)
    constant = mp.loggamma(shape)
    return both(lambda s: shape * s - mp.exp(s) - constant, mp.log(mpf(x)), mp.log(shape))


def chi2(x: float, df: float) -> Tails:
    """Return twice a gamma variate's tails."""
    return gamma(mpf(df) / 2, mpf(x) / 2)


def beta(a: float, b: float, x: Real, y: Real = None) -> Tails:
    """Integrate over the logit of x; y is 1 - x."""
    one, two, x = mpf(a), mpf(b), mpf(x)
    y = 1 - x if y is None else y
    constant = mp.loggamma(one + two) - mp.loggamma(one) - mp.loggamma(two)

    def log_density(s: Real) -> Real:
        return constant - one * mp.log1p(mp.exp(-s)) - two * mp.log1p(mp.exp(s))

    return both(log_density, mp.log(x / y), mp.log(one / two))


def f(x: float, dfn: float, dfd: float) -> Tails:
    """Return the tails of the beta variate dfn x / (dfn x + dfd)."""
    scaled, n = mpf(x) * mpf(dfn), mpf(dfd)
    return beta(mpf(dfn) / 2, n / 2, scaled / (scaled + n), n / (scaled + n))


def binom(k: int, n: int, p: float) -> Tails:
    """More than k successes: a beta variate of shapes k + 1 and n - k is below p."""
    above, below = beta(k + 1, n - k, mpf(p))
    return below, above


def nct(x: float, df: float, nc: float) -> Tails:
    """Integrate the normal tail over the logarithm of sqrt(V / df), for the smaller tail."""
    nu, t, shift = mpf(df), mpf(x), mpf(nc)
    flip = t < 0
    t, shift = (-t, -shift) if flip else (t, shift)
    a = nu / 2
    constant = mp.log(2) + a * mp.log(a) - mp.loggamma(a)
    sign = 1 if t > shift else -1

    def log_integrand(s: Real) -> Real:
        tail = mp.erfc(sign * (t * mp.exp(s) - shift) / mp.sqrt(2)) / 2
        return constant + nu * s - a * mp.exp(2 * s) + mp.log(tail)

    # The peak, by golden section; the rest as two halves from there.
    low, high, ratio = mpf(-400), mpf(6), (mp.sqrt(5) - 1) / 2
    while high - low > mpf(10) ** -12:
        one, two = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, two) if log_integrand(one) > log_integrand(two) else (one, high)
    tail = integral(log_integrand, low, 1) + integral(log_integrand, low, -1)
    return (1 - tail, tail) if (sign > 0) != flip else (tail, 1 - tail)


def ncx2(x: float, df: float, nc: float) -> Tails:
    """Integrate the density with its Bessel function over log x."""
    k, shift = mpf(df), mpf(nc)
    order = k / 2 - 1

    def log_density(s: Real) -> Real:
        at = mp.exp(s)
        # (x / 2)**(k / 2) exp(-(x + nc) / 2) 0F1(; k / 2; nc x / 4) / Gamma(k / 2)
        inner = mp.log(mp.hyp0f1(order + 1, shift * at / 4))
        return (order + 1) * (s - mp.log(2)) - (at + shift) / 2 + inner - mp.loggamma(order + 1)

    # Both start in the direction of the smaller tail; the mean is near enough to the mode of log x for that.
    return both(log_density, mp.log(mpf(x)), mp.log(k + shift))


CASES: dict[str, Callable[..., Tails]] = {
    "norm": norm, "t": t, "chi2": chi2, "f": f, "binom": binom, "beta": beta, "gamma": gamma, "nct": nct, "ncx2": ncx2
}  # fmt: skip


def draw(name: str, rng: random.Random) -> tuple[float, ...]:  # noqa: C901, PLR0911 - one short case each
    """Draw arguments of a distribution: degrees of freedom from 0.5 to 1e10, up to 37 standard deviations out."""

    def df() -> float:
        value = 10 ** rng.uniform(-0.301, 10)
        return max(0.5, float(f"{value:.4g}")) if rng.random() < HALF else max(1.0, float(round(value)))

    def near(mean: float, sd: float) -> float:
        out = rng.choice((1.0, 5.0, 36.0))
        return float(f"{max(mean * 10 ** rng.uniform(-3, 0), mean + sd * rng.uniform(-out, out)):.6g}")

    match name:
        case "norm":
            return (float(f"{rng.uniform(-37, 37):.5g}"),)
        case "t":
            return float(f"{rng.choice((1, 3, 37)) * rng.uniform(-1, 1) * 10 ** rng.choice((0, 0, 3)):.6g}"), df()
        case "chi2":
            nu = df()
            return near(nu, (2 * nu) ** 0.5), nu
        case "gamma":
            a = df() / 2
            return a, near(a, a**0.5)
        case "f":
            m, n = df(), df()
            return near(1.0, (2 / m + 2 / n) ** 0.5), m, n
        case "beta":
            a, b = df() / 2, df() / 2
            mean = a / (a + b)
            return a, b, min(near(mean, (mean * (1 - mean) / (a + b + 1)) ** 0.5), 0.999999)
        case "binom":
            n, p = max(2, round(df())), float(f"{rng.uniform(0.01, 0.99) ** rng.choice((1, 3)):.4g}")
            return float(min(max(0, round(n * p + (n * p * (1 - p)) ** 0.5 * rng.uniform(-9, 9))), n - 1)), n, p
        case "nct":
            nc = float(f"{rng.choice((1, 5, 30)) * rng.uniform(-1, 1):.4g}")
            return float(f"{nc + rng.choice((1, 5, 30)) * rng.uniform(-1, 1):.5g}"), df(), nc
        case _:
            nu, nc = df(), float(f"{10 ** rng.uniform(-2, 3.5):.4g}")
            return near(nu + nc, (2 * nu + 4 * nc) ** 0.5), nu, nc


def beyond(rng: random.Random) -> list[tuple[str, tuple[float, ...]]]:
    """Draw arguments so far out that only the logarithm of the tail, down to -1e6, is a float64."""
    cases: list[tuple[str, tuple[float, ...]]] = []
    for _ in range(12):
        z = float(f"{10 ** rng.uniform(1.6, 3.15) * rng.choice((-1, 1)):.5g}")
        df = float(f"{10 ** rng.uniform(3, 9):.4g}")
        cases += [("norm", (z,)), ("t", (z, df)), ("chi2", (float(f"{df + abs(z) * (2 * df) ** 0.5:.8g}"), df))]
    return cases


def row(name: str, arguments: tuple[float, ...]) -> list[Any]:
    """Compute one line of the table."""
    mp.dps = DIGITS
    lower, upper = CASES[name](*arguments)
    with mp.workdps(DIGITS * 10):  # log(1 - tail) of a tail of 1e-300
        logs = (
            float(mp.log(each) if each < HALF else mp.log1p(-other)) for each, other in ((lower, upper), (upper, lower))
        )
        return [name, list(arguments), float(lower), float(upper), *logs]


def main(seed: int = 1, each: int = 40) -> None:
    """Draw cases, keep those whose smaller tail is above 1e-300, and write them."""
    rng = random.Random(seed)  # noqa: S311 - cases, not secrets
    rows: list[list[Any]] = []
    for name in CASES:
        kept: list[list[Any]] = []
        while len(kept) < each:
            found = row(name, draw(name, rng))
            kept += [found] if min(found[2], found[3]) > LOWEST else []
        rows += kept
    rows += [row(name, arguments) for name, arguments in beyond(rng)]
    path = Path(__file__).with_name("reference.json")
    path.write_text("[\n" + ",\n".join(json.dumps(each) for each in rows) + "\n]\n")


if __name__ == "__main__":
    main()
