"""Tails of the noncentral t and chi-square distributions, one integral each, by the trapezoidal rule.

On analytic functions that fall off at both ends the rule converges exponentially (Trefethen and Weideman 2014, SIAM
Review 56(3)). Both integrals are taken where nothing cancels, so the farthest tail has the digits of the centre.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
BLOCK = 32  # nodes added at a time
MOST = 200  # blocks
HELD = 1e100  # what can be squared
NEAR = 1e-4  # to the peak, where Newton's method stops
SMALL = 1e-18  # terms below this share of the sum no longer count


def t_tail(
    x: Vector,
    df: Vector,
    nc: Vector,
    constant: Vector,
    erfcx: Callable[[Vector], Vector],
    exp_rest: Callable[[Vector], Vector],
) -> tuple[NDArray[np.bool_], Vector, Vector, Vector, Vector]:
    """Return whether the upper tail was computed, its exponent as a pair, ratio, and density of asinh(x).

    With w = sqrt(V / df) and s = log w, P(T > t) is the integral over s of the density of s, constant *
    exp(-df / 2 (exp(2 s) - 1 - 2 s)), times P(Z > t exp(s) - nc): a positive function with one peak.
    """
    flip = x < 0  # -T has the noncentrality -nc
    t, shift = np.minimum(np.abs(x), HELD), np.where(flip, -nc, nc)
    beyond = t > shift
    sign = np.where(beyond, 1.0, -1.0)
    t, shift, nu, sign = (each[:, None] for each in (t, shift, df, sign))

    def log_integrand(s: Vector) -> tuple[Vector, Vector, Vector]:
        """Return the logarithm, the normal hazard rate in it, and where that was taken."""
        s = np.minimum(s, 300)  # where nothing is left, and t * exp(s) is finite
        z = sign * np.where(s < -1, t * np.exp(s) - shift, (t - shift) + t * np.expm1(s))
        scaled = erfcx(math.sqrt(0.5) * np.abs(z))
        falling = np.exp(-0.5 * z * z)
        tail = np.where(z > 0, np.log(0.5 * scaled) - 0.5 * z * z, np.log1p(-0.5 * scaled * falling))
        hazard = math.sqrt(2 / math.pi) * np.where(z > 0, 1 / scaled, falling / (2 - scaled * falling))
        return tail - 0.5 * nu * exp_rest(2 * s), hazard, z

    # The peak: where the hazard rate is about z the equation is quadratic; Newton's steps do the rest.
    total = nu + t * t
    root = np.sqrt((t * shift) ** 2 + 4 * nu * total)
    s = np.log(np.where(shift > 0, (t * shift + root) / (2 * total), 2 * nu / (root - t * shift)))
    for _ in range(8):
        _, hazard, z = log_integrand(s)
        moved = sign * t * np.exp(s)
        slope = -nu * np.expm1(2 * s) - hazard * moved
        bend = -2 * nu * np.exp(2 * s) - hazard * (hazard - z) * moved**2 - hazard * moved
        bend = np.minimum(bend, -0.1 * nu * np.exp(2 * s))
        move = np.clip(-slope / bend, -0.5, 0.5)
        s = s + move
        if (np.abs(move) < NEAR).all():
            break
    top = log_integrand(s)[0]
    # P(Z > ...) turns within 1 / shift of where t exp(s) = shift, the density of s within 1 / sqrt(df) of 0: the
    # variable u, s = turn + width sinh(u), sees both, and the peak, at one scale. Where the density is over long before
    # P(Z > ...) turns, it need not be seen.
    width = 1 / np.maximum(shift, 1)
    turn = np.where(shift > 1, np.log(np.maximum(shift, 1) / np.maximum(t, 1 / HELD)), s)
    turn = np.minimum(turn, s + 3)
    stretch = np.hypot(width, s - turn)
    step = np.minimum(0.35 / (np.sqrt(-bend) * stretch), 0.06 / np.maximum(1, stretch))
    start = np.arcsinh((s - turn) / width)

    def add(nodes: NDArray[Any]) -> Vector:
        """Add the terms at some nodes, and return them."""
        u = start + step * nodes
        at = turn + width * np.sinh(u)
        level, hazard, _ = log_integrand(at)
        terms: Vector = np.exp(level - top) * width * np.cosh(u)
        slopes = np.where(terms > 0, terms * hazard * np.exp(at), 0.0)  # 0 * inf far out
        sums[:, 0] += terms.sum(1)
        sums[:, 1] += slopes.sum(1)
        return terms

    sums = np.zeros((len(x), 2))
    first = add(np.arange(-BLOCK, BLOCK))
    for side, last in ((1, first[:, -1]), (-1, first[:, 0])):
        for block in range(1, MOST):
            if not (last > SMALL * sums[:, 0]).any():
                break
            last = add(side * (np.arange(BLOCK) + block * BLOCK + (side < 0)))[:, -1]  # noqa: PLW2901
    scale = (constant * step[:, 0])[:, None] * sums
    # Beyond what can be squared the tail is a power of t.
    high = np.where(np.abs(x) > HELD, df * np.log(np.abs(x) / HELD), 0.0) - top[:, 0]
    return beyond ^ flip, high, 0 * x, scale[:, 0], scale[:, 1] * np.hypot(1, t[:, 0])


def chi2_tail(x: Vector, df: Vector, nc: Vector) -> tuple[NDArray[np.bool_], Vector, Vector, Vector, Vector]:
    """Return whether the upper tail was computed, its exponent as a pair, ratio, and density of log x.

    With r = 1 - 2 s the moment generating function at s is r**(-df / 2) exp(nc / 2 (1 / r - 1)), and the tail is the
    integral of exp(F(r)) / |1 - r| / (2 pi i) over a path that crosses the real axis near the saddle point of F, at 0
    < r < 1 for the upper tail and at r > 1 for the lower one. The path is the parabola that leaves the saddle point
    in the direction of steepest descent; it keeps its distance from the pole at r = 1.
    """
    half, a, shift = 0.5 * np.maximum(x, 1 / HELD), 0.5 * df, 0.5 * nc
    right = half > a + shift
    spread = 1.2 / np.sqrt(a + 2 * shift)
    saddle = (a + np.sqrt(a * a + 4 * half * shift)) / (2 * half)
    r = np.where(right, np.minimum(saddle, 1 / (1 + spread)), np.maximum(saddle, 1 + spread))
    apart = _sum(a, shift, -half)
    gap = 1 - r
    near = apart * gap + a * _log_rest(-gap) + shift * gap * gap / r
    top = np.where(np.abs(gap) < 1, near, shift / r - shift - half * gap - a * np.log(r))
    second = a / r**2 + 2 * shift / r**3
    bend = -(2 * a / r**3 + 6 * shift / r**4) / (6 * second)
    slope = np.where(r == saddle, 0.0, -apart - a * gap / r - shift * gap * (2 - gap) / r**2)
    strip = 0.7 * np.minimum(np.abs(gap), r)
    step = np.minimum(0.5 / np.sqrt(second), 2 * math.pi * strip / 36)

    r, a, shift, bend, slope, step, gap = (each[:, None] for each in (r, a, shift, bend, slope, step, gap))
    sums = np.zeros((len(x), 2))
    for block in range(MOST):
        k = np.arange(BLOCK) + block * BLOCK
        height = step * k
        w = 1j * height + bend * height**2
        level = slope * w + a * _log_rest(w / r) + shift * w * w / ((r + w) * r * r)
        terms = np.exp(level) * (1 - 2j * bend * height) * np.where(k == 0, 0.5, 1.0)
        tail = terms / np.abs(gap) / (1 - w / gap)
        sums += np.stack([tail.real.sum(1), terms.real.sum(1)], axis=1)
        if not (np.abs(tail[:, -1]) > SMALL * np.abs(sums[:, 0])).any():
            break
    scale = step / math.pi * sums
    # Below what can be squared the tail is a power of x.
    high = np.where(x * HELD < 1, -0.5 * df * (np.log(x) + math.log(HELD)), 0.0) - top
    return right, high, 0 * x, scale[:, 0], scale[:, 1] * half


def _sum(a: Vector, b: Vector, c: Vector) -> Vector:
    """Return a + b + c with one rounding or little more."""
    total = a + b
    part = total - a
    rest = (a - (total - part)) + (b - part)
    return (total + c) + rest


def _log_rest(w: Any) -> Any:  # noqa: ANN401 - real or complex
    """Return w - log(1 + w) without cancellation, of real or complex numbers."""
    close = np.abs(w) < 0.3  # noqa: PLR2004
    z = np.where(close, w / (2 + w), 0.0)
    square, total = z * z, np.zeros_like(z)
    for k in range(19, 1, -2):
        total = total * square + 1 / k
    return np.where(close, z * (w - 2 * square * total), w - np.log(1 + w))
