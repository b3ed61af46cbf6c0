"""The production answer: one pass over a batch, integer counts that join exactly, all candidate ranges at once."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from quant.affine.solution import pieces
from quant.observers import LOWEST_EXPONENT, Histogram

SHARES = 128  # ends that are tried on each side, evenly spaced from 0 to the extreme


class MinMaxObserver:
    """The smallest and largest value of a stream."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self.low, self.high = math.inf, -math.inf

    def update(self, x: Tensor) -> None:
        """Look at a batch of any shape.

        Raises TypeError for integers, ValueError for an empty batch, NaN or inf.
        """
        low, high = _extremes(x)
        self.low, self.high = min(self.low, low), max(self.high, high)

    def merge(self, other: "MinMaxObserver") -> None:
        """Take in what another observer has seen."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    def range(self) -> tuple[float, float]:
        """Return the smallest and the largest value. Raises ValueError where nothing was seen."""
        _refuse_nothing(self.low <= self.high)
        return self.low, self.high


class MovingAverageObserver:
    """The extremes of batches, averaged with exponentially decaying weights."""

    def __init__(self, momentum: float = 0.1) -> None:
        """Start with nothing seen; ``momentum`` is the newest batch's weight. Raises ValueError outside (0, 1]."""
        if not 0 < momentum <= 1:
            msg = f"momentum is {momentum}, must be above 0 and at most 1"
            raise ValueError(msg)
        self.momentum = momentum
        self.low, self.high, self.batches = 0.0, 0.0, 0

    def update(self, x: Tensor) -> None:
        """Look at a batch of any shape.

        Raises TypeError for integers, ValueError for an empty batch, NaN or inf.
        """
        low, high = _extremes(x)
        self._join(self.momentum * low, self.momentum * high, 1)

    def merge(self, other: "MovingAverageObserver") -> None:
        """Take in another's batches, as if they came after this one's. Raises ValueError for another momentum."""
        if other.momentum != self.momentum:
            msg = f"momentum is {other.momentum} there and {self.momentum} here"
            raise ValueError(msg)
        self._join(other.low, other.high, other.batches)

    def range(self) -> tuple[float, float]:
        """Return the averages of the minima and of the maxima. Raises ValueError where nothing was seen.

        The weights of n batches are divided by their sum, ``1 - (1 - momentum)**n``. Source: Kingma and Ba 2015,
        arXiv:1412.6980, section 3.
        """
        _refuse_nothing(self.batches > 0)
        # The sum of the weights by expm1: 1 - (1 - momentum)**n loses digits where momentum is small.
        weight = 1.0 if self.momentum == 1 else -math.expm1(self.batches * math.log1p(-self.momentum))
        return self.low / weight, self.high / weight

    def _join(self, low: float, high: float, batches: int) -> None:
        """Add weighted sums that come ``batches`` later."""
        fade = (1 - self.momentum) ** batches
        self.low, self.high = fade * self.low + low, fade * self.high + high
        self.batches += batches


class HistogramObserver:
    """Counts of a stream in bins that double their width when they have to."""

    def __init__(self, choose: Callable[[Histogram], tuple[float, float]], bins: int = 4096) -> None:
        """Start with nothing seen; ``choose`` makes a range of a histogram.

        Raises ValueError unless ``bins`` is a positive multiple of 4.
        """
        if bins < 4 or bins % 4:  # noqa: PLR2004 - each half must split into pairs
            msg = f"bins is {bins}, must be a positive multiple of 4"
            raise ValueError(msg)
        self.choose = choose
        self.counts = torch.zeros(bins, dtype=torch.int64)
        self.exponent, self.extremes = LOWEST_EXPONENT, MinMaxObserver()

    def update(self, x: Tensor) -> None:
        """Look at a batch of any shape.

        Raises TypeError for integers, ValueError for an empty batch, NaN or inf.
        """
        _refuse_integers(x)
        flat = x.detach().reshape(-1).float()  # before anything else: rounding may reach the next power of two
        self.extremes.update(flat)
        low, high = self.extremes.range()
        if largest := max(-low, high):  # frexp gives 0 the exponent 0
            self._widen(math.frexp(largest)[1])
        half = len(self.counts) // 2
        # Multiplying by a power of two is exact; in float32 only upwards: downwards a small negative number becomes 0.
        scale = half * 2.0**-self.exponent
        flat = flat if scale >= 1 else flat.cpu().double()
        counts = torch.zeros(2 * half, dtype=torch.int64, device=flat.device)
        for part in pieces(flat):
            # torch.floor of a negative number goes away from zero, as the definition of a bin wants.
            index = flat[part].mul(scale).floor_().add_(half).int()
            counts += torch.bincount(index, minlength=2 * half)
        self.counts += counts.cpu()

    def merge(self, other: "HistogramObserver") -> None:
        """Take in what another observer has seen. Raises ValueError for another number of bins."""
        if len(other.counts) != len(self.counts):
            msg = f"{len(other.counts)} bins there and {len(self.counts)} here"
            raise ValueError(msg)
        self.extremes.merge(other.extremes)
        self._widen(other.exponent)
        self.counts += _widened(other.counts, self.exponent - other.exponent)

    def histogram(self) -> Histogram:
        """Return the counts so far. Raises ValueError where nothing was seen."""
        return Histogram(self.counts.clone(), self.exponent, *self.extremes.range())

    def range(self) -> tuple[float, float]:
        """Return the chosen range. Raises ValueError where nothing was seen."""
        return self.choose(self.histogram())

    def _widen(self, exponent: int) -> None:
        """Make room for numbers below ``2**exponent``."""
        if exponent > self.exponent:
            self.counts = _widened(self.counts, exponent - self.exponent)
            self.exponent = exponent


def percentile_range(histogram: Histogram, share: float = 0.9999) -> tuple[float, float]:
    """Return the range that holds ``share`` of the values and leaves as many out below as above.

    Inside a bin the values count as evenly spread; the range stays within the extremes. Raises ValueError for a share
    outside (0, 1].
    """
    if not 0 < share <= 1:
        msg = f"share is {share}, must be above 0 and at most 1"
        raise ValueError(msg)
    below = histogram.counts.cumsum(0).double()  # of each bin, and what it holds itself
    half = len(below) // 2
    wanted = below[-1] * torch.tensor([(1 - share) / 2, (1 + share) / 2], dtype=torch.float64)
    bin_ = torch.searchsorted(below, wanted).clamp(max=2 * half - 1)
    held = histogram.counts[bin_].clamp(min=1)
    inside = ((wanted - (below[bin_] - held)) / held).clamp(0, 1)
    low, high = ((bin_ - half + inside) * (2.0**histogram.exponent / half)).tolist()
    low, high = (min(max(end, histogram.low), histogram.high) for end in (low, high))
    return low, high


def mse_range(histogram: Histogram, bits: int = 8, symmetric: bool = False) -> tuple[float, float]:  # noqa: FBT001, FBT002
    """Return the range whose codes have the least expected squared error.

    A range is stretched to hold 0. Its step is its width over ``2**bits - 1``, and its codes stand for the whole
    multiples of the step from ``round(low / step)`` to ``round(high / step)``; with ``symmetric`` it is (-t, t) and has
    a code less, a step of ``2 * t / (2**bits - 2)``. What lies outside becomes the nearest end. The values of a bin
    count as its middle. Raises ValueError for bits outside 2 to 8. Source: Banner et al. 2018, arXiv:1810.05723,
    section 3.
    """
    _refuse_bits(bits)
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    if symmetric:
        low, high = -max(-low, high), max(-low, high)
    if low == high:
        return low, high
    grid = torch.linspace(1 / SHARES, 1, SHARES, dtype=torch.float64)
    steps = (1 << bits) - (2 if symmetric else 1)
    ends = _best(histogram, torch.outer(grid, torch.tensor([low, high], dtype=torch.float64)), steps)
    before = ends if symmetric else None
    # Then one end at a time, the other held: 128 candidates a turn instead of 128 * 128. No turn raises the error.
    while before is None or not torch.equal(ends, before):
        before = ends
        for side, extreme in enumerate((low, high)):
            tried = ends.repeat(SHARES, 1)
            tried[:, side] = grid * extreme
            ends = _best(histogram, tried, steps)
    return ends[0].item(), ends[1].item()


def entropy_range(histogram: Histogram, bits: int = 8) -> tuple[float, float]:
    """Return the symmetric range (-t, t) whose ``2**(bits - 1)`` magnitudes lose least of the distribution.

    Of the histogram of magnitudes (bins / 2 of them) the first n stay; P is their distribution with all that lies
    beyond counted in bin n - 1. Q is what is left of the first n bins without it when bin j shares level
    ``floor(j * 2**(bits - 1) / n)`` with others: the level's counts, spread evenly over its bins that are not empty.
    The n with the least Kullback-Leibler divergence of normalized P from normalized Q wins, the largest of equals;
    bin n - 1 must not be empty, and n must be at least ``2**(bits - 1)``, or all where there are fewer. t is the upper
    edge of bin n - 1, or the largest magnitude if that is less. Raises ValueError for bits outside 2 to 8. Source:
    Migacz 2017, 8-bit Inference with TensorRT, GTC, slides 30 to 38.
    """
    _refuse_bits(bits)
    half = len(histogram.counts) // 2
    magnitudes = (histogram.counts[half:] + histogram.counts[:half].flip(0)).double()  # (bins / 2,)
    levels, total = 1 << (bits - 1), magnitudes.sum()
    taken = magnitudes.nonzero().flatten()  # only full bins matter: in the sums the others are 0
    count, kept = magnitudes[taken], magnitudes.cumsum(0)
    largest = max(-histogram.low, histogram.high)
    best, found = math.inf, largest
    for n in (taken + 1).tolist():
        if n < min(levels, int(taken[-1]) + 1):
            continue
        inside = int(torch.searchsorted(taken, n))
        p = count[:inside].clone()
        p[-1] += total - kept[n - 1]
        level = taken[:inside] * levels // n
        sums = torch.zeros(levels, dtype=torch.float64).index_add_(0, level, count[:inside])
        share = torch.bincount(level, minlength=levels)
        q = (sums / share)[level]
        divergence = float((p * (p / q).log()).sum() / total + math.log(float(kept[n - 1] / total)))
        if divergence <= best + 1e-15:
            best, found = divergence, n * 2.0**histogram.exponent / half
    found = min(found, largest)
    return -found, found


def _best(histogram: Histogram, ranges: Tensor, steps: int) -> Tensor:
    """Return the range, (2,), of ``ranges`` (candidates, 2) float64 whose codes have the least squared error."""
    half = len(histogram.counts) // 2
    taken = histogram.counts.nonzero().flatten()
    middle = (taken - half + 0.5).double() * (2.0**histogram.exponent / half)
    low, high = ranges[:, :1], ranges[:, 1:]
    scale = (high - low) / steps  # (candidates, 1)
    code = (middle / scale).round_().clamp_((low / scale).round_(), (high / scale).round_())  # (candidates, bins)
    return ranges[int((code.mul_(scale).sub_(middle).square_() @ histogram.counts[taken].double()).argmin())]


def _widened(counts: Tensor, doublings: int) -> Tensor:
    """Return the counts in bins ``2**doublings`` times as wide."""
    half = len(counts) // 2
    signed = torch.arange(-half, half) >> min(doublings, 62)  # an arithmetic shift is floor division
    return torch.zeros_like(counts).index_add_(0, signed + half, counts)


def _extremes(x: Tensor) -> tuple[float, float]:
    """Check a batch and return its smallest and largest value."""
    _refuse_integers(x)
    if not x.numel():
        msg = f"x has shape {tuple(x.shape)}: there is nothing to look at"
        raise ValueError(msg)
    low, high = (float(side) for side in torch.aminmax(x.detach()))
    if not (math.isfinite(low) and math.isfinite(high)):
        msg = "x has NaN or inf, which no range holds"
        raise ValueError(msg)
    return low, high


def _refuse_integers(x: Tensor) -> None:
    if not x.is_floating_point():
        msg = f"x is {x.dtype}, must be floating point"
        raise TypeError(msg)


def _refuse_nothing(seen: bool) -> None:  # noqa: FBT001
    if not seen:
        msg = "nothing was seen yet: update comes first"
        raise ValueError(msg)


def _refuse_bits(bits: int) -> None:
    if not 2 <= bits <= 8:  # noqa: PLR2004
        msg = f"bits is {bits}, must be 2 to 8"
        raise ValueError(msg)
