"""Peer: ``scipy.stats`` and ``scipy.special``."""

from collections.abc import Callable
from typing import Any

from scipy import special, stats

from stats.special import Real


def _tail(law: Any) -> Callable[..., Real]:  # noqa: ANN401 - one of scipy's distributions
    def tail(x: Real, upper: bool, log: bool, *parameters: Real) -> Real:  # noqa: FBT001
        return getattr(law, ("log" if log else "") + ("sf" if upper else "cdf"))(x, *parameters)

    return tail


def _quantile(law: Any) -> Callable[..., Real]:  # noqa: ANN401
    def quantile(p: Real, upper: bool, *parameters: Real) -> Real:  # noqa: FBT001
        return (law.isf if upper else law.ppf)(p, *parameters)

    return quantile


norm_tail, norm_quantile = _tail(stats.norm), _quantile(stats.norm)
t_tail, t_quantile = _tail(stats.t), _quantile(stats.t)
chi2_tail, chi2_quantile = _tail(stats.chi2), _quantile(stats.chi2)
f_tail, f_quantile = _tail(stats.f), _quantile(stats.f)
binom_tail, binom_quantile = _tail(stats.binom), _quantile(stats.binom)
nct_tail, nct_quantile = _tail(stats.nct), _quantile(stats.nct)
ncx2_tail, ncx2_quantile = _tail(stats.ncx2), _quantile(stats.ncx2)
betainc, betaincc = special.betainc, special.betaincc
gammainc, gammaincc = special.gammainc, special.gammaincc
