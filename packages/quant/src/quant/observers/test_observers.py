"""What every implementation of ``quant.observers`` has to do."""

import math
import pickle
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quant.observers import LOWEST_EXPONENT, Histogram

OURS = pytest.mark.only("starter", "solution")
# Sums of n weighted float64 numbers, in two orders.
ROUNDING = 1e-12
BINS = pytest.mark.known("peer_torch", reason="torch.ao's bins are spread over the range seen so far")
JOIN = pytest.mark.known("peer_torch", reason="torch.ao's histograms cannot be joined")
LOST = pytest.mark.known("peer_torch", reason="torch.ao loses counts when it spreads its bins anew")
KINDS = ("MinMaxObserver", "MovingAverageObserver", "HistogramObserver")


def normal(*shape: int, seed: int = 0, device: str = "cpu") -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)


def laplace(count: int, seed: int = 0) -> Tensor:
    uniform = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.5
    return -(uniform.sign() * torch.log1p(-2 * uniform.abs())).float()


def keep_all(histogram: Histogram) -> tuple[float, float]:
    return histogram.low, histogram.high


def make(impl: ModuleType, kind: str, bins: int = 64) -> "object":
    return impl.HistogramObserver(keep_all, bins) if kind == "HistogramObserver" else getattr(impl, kind)()


def seen(impl: ModuleType, x: Tensor, bins: int = 4096) -> Histogram:
    observer = impl.HistogramObserver(keep_all, bins)
    observer.update(x)
    found: Histogram = observer.histogram()
    return found


def by_definition(x: Tensor, bins: int) -> tuple[list[int], int]:
    """Count as the docstring of Histogram says, in exact arithmetic."""
    exponent = max([LOWEST_EXPONENT, *(math.frexp(value)[1] for value in x.tolist() if value)])
    counts = [0] * bins
    for value in x.tolist():
        counts[math.floor(math.ldexp(value, -exponent) * (bins // 2)) + bins // 2] += 1
    return counts, exponent


def squared_error(x: Tensor, low: float, high: float, bits: int, *, symmetric: bool) -> float:
    scale = (high - low) / (2**bits - (2 if symmetric else 1))
    codes = (x.double() / scale).round().clamp(round(low / scale), round(high / scale))
    return float((codes * scale - x.double()).square().mean())


# Extremes


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 3, 4)])
def test_minmax_is_the_extremes_of_all_batches(impl: ModuleType, device: str, shape: tuple[int, ...]) -> None:
    observer = impl.MinMaxObserver()
    batches = [normal(*shape, seed=seed, device=device) for seed in range(4)]
    for batch in batches:
        observer.update(batch)
    together = torch.stack(batches)
    assert observer.range() == (together.min().item(), together.max().item())


def test_minmax_of_one_sided_data_does_not_invent_a_zero(impl: ModuleType, device: str) -> None:
    observer = impl.MinMaxObserver()
    observer.update(torch.tensor([3.0, 5.0], device=device))
    assert observer.range() == (3.0, 5.0), f"3 and 5 were seen, the range is {observer.range()}"


def test_minmax_observers_join(impl: ModuleType, device: str) -> None:
    first, second = impl.MinMaxObserver(), impl.MinMaxObserver()
    first.update(torch.tensor([-1.0, 2.0], device=device))
    second.update(torch.tensor([-3.0, 1.0], device=device))
    first.merge(second)
    assert first.range() == (-3.0, 2.0), f"[-1, 2] and [-3, 1] joined to {first.range()}"


def test_the_average_of_one_batch_is_its_extremes(impl: ModuleType, device: str) -> None:
    observer = impl.MovingAverageObserver(0.01)
    observer.update(torch.tensor([-4.0, 8.0], device=device))
    assert observer.range() == pytest.approx((-4.0, 8.0), rel=ROUNDING), (
        f"one batch spans [-4, 8], its average {observer.range()}: divide by the weight that the batches have together"
    )


@pytest.mark.parametrize("momentum", [0.1, 0.5, 1.0])
def test_newer_batches_weigh_more(impl: ModuleType, device: str, momentum: float) -> None:
    observer = impl.MovingAverageObserver(momentum)
    highs = [1.0, 4.0, 2.0, 16.0]
    for high in highs:
        observer.update(torch.tensor([-2 * high, high], device=device))
    weights = [(1 - momentum) ** age for age in (3, 2, 1, 0)]
    wanted = sum(w * high for w, high in zip(weights, highs, strict=True)) / sum(weights)
    assert observer.range() == pytest.approx((-2 * wanted, wanted), rel=ROUNDING), (
        f"maxima {highs} with momentum {momentum} average to {observer.range()[1]:.6g}, {wanted:.6g} is right"
    )


@pytest.mark.parametrize("cut", [0, 1, 3, 5])
def test_averages_join_as_if_one_stream_went_on(impl: ModuleType, device: str, cut: int) -> None:
    batches = [normal(10, seed=seed, device=device) for seed in range(5)]
    whole, first, second = (impl.MovingAverageObserver(0.2) for _ in range(3))
    for number, batch in enumerate(batches):
        whole.update(batch)
        (first if number < cut else second).update(batch)
    first.merge(second)
    assert first.range() == pytest.approx(whole.range(), rel=ROUNDING), (
        f"{cut} batches joined with the other {5 - cut} average to {first.range()}, all five in turn to {whole.range()}"
    )


def test_a_small_momentum_loses_no_digits(impl: ModuleType) -> None:
    observer = impl.MovingAverageObserver(1e-12)
    for _ in range(3):
        observer.update(torch.tensor([-1.0, 2.0]))
    assert observer.range() == pytest.approx((-1.0, 2.0), rel=1e-9), f"[-1, 2] thrice averages to {observer.range()}"


# The histogram


@BINS
@pytest.mark.parametrize("bins", [4, 64, 4096])
def test_bins_are_as_defined(impl: ModuleType, device: str, bins: int) -> None:
    x = torch.cat([normal(500), torch.tensor([0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -1e-9, 1e-9, 3.9999998])])
    counts, exponent = by_definition(x, bins)
    found = seen(impl, x.to(device), bins)
    assert found.exponent == exponent, f"the largest magnitude is {x.abs().max():.4g}: exponent {exponent}"
    wrong = [i for i in range(bins) if int(found.counts[i]) != counts[i]]
    assert not wrong, f"bin {wrong[0]} of {bins} holds {int(found.counts[wrong[0]])}, {counts[wrong[0]]} belong there"
    assert (found.low, found.high) == (x.min().item(), x.max().item())


@BINS
@pytest.mark.parametrize("value", [1.0, -1.0, 0.75, 1e-30, 1e30, 2.0**-100, 2.0**-101])
def test_a_single_value_has_its_bin(impl: ModuleType, device: str, value: float) -> None:
    found = seen(impl, torch.full((3,), value, device=device), 64)
    counts, exponent = by_definition(torch.full((3,), value), 64)
    assert (found.counts.tolist(), found.exponent) == (counts, exponent), f"three times {value:g}"


@BINS
def test_zeros_are_counted(impl: ModuleType, device: str) -> None:
    found = seen(impl, torch.zeros(5, 5, device=device), 16)
    inside, total = int(found.counts[8]), int(found.counts.sum())
    assert (inside, total) == (25, 25), f"25 zeros: {inside} in the bin that begins at 0, {total} in all"
    wanted = LOWEST_EXPONENT
    assert found.exponent == wanted, f"zeros alone have the lowest exponent, {wanted}, not {found.exponent}"


@pytest.mark.parametrize("kind", ["MinMaxObserver", pytest.param("HistogramObserver", marks=BINS)])
def test_order_and_chunks_do_not_matter(impl: ModuleType, device: str, kind: str) -> None:
    x = torch.cat([normal(400) * 2.0**k for k in (-20, 0, 3, -3, 9)]).to(device)
    x[7] = 0.0
    whole, parts = make(impl, kind), make(impl, kind)
    whole.update(x)  # type: ignore[attr-defined]
    for part in x.flip(0).split(37):
        parts.update(part)  # type: ignore[attr-defined]
    assert parts.range() == whole.range()  # type: ignore[attr-defined]
    if kind == "HistogramObserver":
        one, many = whole.histogram(), parts.histogram()  # type: ignore[attr-defined]
        assert many.exponent == one.exponent
        moved = int((many.counts - one.counts).abs().sum()) // 2
        assert moved == 0, f"{moved} of {len(x)} values are in other bins when they come in chunks"


@JOIN
@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=8).map(torch.tensor), min_size=1, max_size=6
    ),
    st.integers(0, 5),
)
def test_joined_histograms_are_the_histogram_of_all(impl: ModuleType, batches: list[Tensor], cut: int) -> None:
    first, second = (impl.HistogramObserver(keep_all, 16) for _ in range(2))
    for number, batch in enumerate(batches):
        (first if number < cut else second).update(batch)
    first.merge(second)
    counts, exponent = by_definition(torch.cat(batches), 16)
    found = first.histogram()
    assert (found.exponent, found.counts.tolist()) == (exponent, counts), (
        f"batches {[b.tolist() for b in batches]}, joined after {cut}: exponent {found.exponent} and counts "
        f"{found.counts.tolist()}, expected {exponent} and {counts}"
    )
    assert (found.low, found.high) == (torch.cat(batches).min().item(), torch.cat(batches).max().item())


@JOIN
@pytest.mark.parametrize("factor", [64.0, 1 / 64])
def test_a_wide_and_a_narrow_histogram_join(impl: ModuleType, device: str, factor: float) -> None:
    first, second = (impl.HistogramObserver(keep_all, 32) for _ in range(2))
    x, y = normal(100), factor * normal(100, seed=1)
    first.update(x.to(device))
    second.update(y.to(device))
    first.merge(second)
    counts, exponent = by_definition(torch.cat([x, y]), 32)
    found = first.histogram()
    assert (found.exponent, found.counts.tolist()) == (exponent, counts), f"values of size 1 and of size {factor:g}"


@JOIN
def test_merging_leaves_the_other_as_it_was(impl: ModuleType, device: str) -> None:
    first, second = (impl.HistogramObserver(keep_all, 16) for _ in range(2))
    first.update(100 * normal(50, device=device))
    second.update(normal(50, seed=1, device=device))
    before = second.histogram()
    first.merge(second)
    first.update(normal(50, seed=2, device=device))
    assert torch.equal(second.histogram().counts, before.counts)
    assert second.range() == (before.low, before.high)


@LOST
def test_the_state_does_not_grow(impl: ModuleType, device: str) -> None:
    observer = impl.HistogramObserver(keep_all, 256)
    for seed in range(5):
        observer.update(normal(1000, seed=seed, device=device) * 4.0**seed)
    found = observer.histogram()
    assert found.counts.shape == (256,)
    assert found.counts.dtype == torch.int64
    assert int(found.counts.sum()) == 5000


@OURS
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_kept_but_a_few_numbers(impl: ModuleType, device: str, kind: str) -> None:
    observer = make(impl, kind)
    held = []
    for seed in range(20):
        observer.update(normal(1000, seed=seed, device=device))  # type: ignore[attr-defined]
        state = {name: part for name, part in vars(observer).items() if not callable(part)}
        held.append(len(pickle.dumps(state)))
    assert held[-1] < held[0] + 200, f"{held[0]} bytes of state after a batch, {held[-1]} after 20 of 1000 numbers"


@OURS
def test_a_histogram_that_was_returned_stays_as_it_is(impl: ModuleType, device: str) -> None:
    observer = impl.HistogramObserver(keep_all, 16)
    observer.update(normal(50, device=device))
    found = observer.histogram()
    before = found.counts.clone()
    observer.update(normal(50, seed=1, device=device) / 2)
    assert torch.equal(found.counts, before), "a later batch changed a histogram that was returned before"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_seen_too(impl: ModuleType, device: str, dtype: torch.dtype) -> None:
    if device == "mps" and dtype == torch.float64:
        pytest.skip("MPS has no float64")
    x = normal(3, 50, device=device).to(dtype).T  # not contiguous
    for kind in KINDS:
        observer = make(impl, kind)
        observer.update(x)  # type: ignore[attr-defined]
        wanted = x.float().min().item(), x.float().max().item()
        assert observer.range() == pytest.approx(wanted, rel=1e-6)  # type: ignore[attr-defined]


@OURS
def test_a_float64_that_rounds_up_to_a_power_of_two_has_a_bin(impl: ModuleType) -> None:
    found = seen(impl, torch.tensor([1 - 1e-12, -0.5], dtype=torch.float64), 8)
    assert int(found.counts.sum()) == 2


# Ranges


@pytest.mark.parametrize("share", [0.5, 0.99, 0.999, 1.0])
def test_percentiles_leave_out_what_they_say(impl: ModuleType, share: float) -> None:
    x = laplace(100_000)
    histogram = seen(impl, x)
    low, high = impl.percentile_range(histogram, share)
    width = 2.0**histogram.exponent / 2048
    wanted = torch.quantile(x.double(), torch.tensor([(1 - share) / 2, (1 + share) / 2], dtype=torch.float64))
    for name, found, right in (("lower", low, wanted[0].item()), ("upper", high, wanted[1].item())):
        assert abs(found - right) <= width, f"the {name} end for a share of {share} is {found:.5g}, not {right:.5g}"


def test_values_count_as_spread_over_their_bin(impl: ModuleType) -> None:
    low, high = impl.percentile_range(Histogram(torch.tensor([0, 0, 100, 0]), 1, 0.0, 1.0), 0.5)
    assert (low, high) == pytest.approx((0.25, 0.75)), f"half of 100 values from 0 to 1: [{low:.4g}, {high:.4g}]"


def test_a_percentile_of_one_sided_data_starts_at_it(impl: ModuleType) -> None:
    x = laplace(20_000).abs()
    low, high = impl.percentile_range(seen(impl, x), 0.998)
    assert 0 <= low < 0.01, f"nothing is below 0, the range starts at {low:.4g}"
    assert high == pytest.approx(torch.quantile(x, 0.999).item(), abs=0.02)


def test_all_of_it_is_the_extremes(impl: ModuleType, device: str) -> None:
    x = 3 * normal(1000, device=device)
    assert impl.percentile_range(seen(impl, x), 1.0) == (x.min().item(), x.max().item())


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("shape", ["normal", "laplace", "one-sided", "outlier"])
def test_no_other_range_is_much_better(impl: ModuleType, shape: str, bits: int, symmetric: bool) -> None:
    x = {
        "normal": normal(20_000),
        "laplace": laplace(20_000),
        "one-sided": laplace(20_000).abs() - 0.1,
        "outlier": torch.cat([normal(20_000), torch.tensor([40.0])]),
    }[shape]
    low, high = impl.mse_range(seen(impl, x), bits, symmetric)
    ours = squared_error(x, low, high, bits, symmetric=symmetric)
    bottom, top = min(x.min().item(), 0.0), max(x.max().item(), 0.0)
    if symmetric:
        bottom, top = -max(-bottom, top), max(-bottom, top)
    shares = [i / 16 for i in range(1, 17)]
    pairs = [(a, a) for a in shares] if symmetric else [(a, b) for a in shares for b in shares]
    best = min((squared_error(x, a * bottom, b * top, bits, symmetric=symmetric), a, b) for a, b in pairs)
    # A bin of 4096 is up to 1/16 of a step at 8 bits; moving each value by half of it adds 2**-8 of the error.
    assert ours <= 1.01 * best[0], (
        f"[{low:.4g}, {high:.4g}] has a mean squared error of {ours:.4g}; "
        f"[{best[1] * bottom:.4g}, {best[2] * top:.4g}] has {best[0]:.4g}"
    )


@pytest.mark.parametrize(("bits", "sigmas"), [(3, 2.15), (4, 2.55), (5, 2.93)])
def test_the_range_of_normal_data_is_the_published_one(impl: ModuleType, bits: int, sigmas: float) -> None:
    # Banner et al. 2018, section 3, give the ends for 2**bits codes, one more than here; the minimum is flat.
    _, high = impl.mse_range(seen(impl, normal(200_000)), bits, symmetric=True)
    assert high == pytest.approx(sigmas, rel=0.1), f"{bits} bits: [-{high:.3g}, {high:.3g}] sigma, {sigmas} published"


@pytest.mark.parametrize("value", [0.0, 3.0, -0.75])
def test_the_range_of_a_constant_is_that_constant(impl: ModuleType, value: float) -> None:
    assert impl.percentile_range(seen(impl, torch.full((100,), value))) == pytest.approx((value, value), abs=1e-12)


def test_the_values_of_a_bin_count_as_its_middle(impl: ModuleType) -> None:
    _, high = impl.mse_range(Histogram(torch.tensor([0, 0, 0, 9]), 0, 0.6, 0.9), 2, symmetric=True)
    assert high == pytest.approx(0.75, rel=0.02), f"all values are in the bin from 0.5 to 1, the range ends at {high}"


def test_a_symmetric_range_is_symmetric(impl: ModuleType) -> None:
    low, high = impl.mse_range(seen(impl, laplace(5000).clamp(min=-0.5)), 8, symmetric=True)
    assert low == -high


def test_the_range_of_one_sided_data_starts_at_zero(impl: ModuleType) -> None:
    low, high = impl.mse_range(seen(impl, laplace(5000).abs() + 1), 8)
    assert low == 0, f"all values are above 1: [{low:.4g}, {high:.4g}] must hold 0 and nothing below"


def test_zeros_have_a_range(impl: ModuleType) -> None:
    assert impl.mse_range(seen(impl, torch.zeros(10)), 8) == (0, 0)


def divergences(x: Tensor, bits: int, bins: int) -> dict[int, float]:
    """Return the divergence of every threshold as the docstring of entropy_range says, in plain Python."""
    counts, _ = by_definition(x, bins)
    half, levels = bins // 2, 2 ** (bits - 1)
    magnitudes = [counts[half + i] + counts[half - 1 - i] for i in range(half)]
    found = {}
    last = max(i for i in range(half) if magnitudes[i])
    for n in range(min(levels, last + 1), last + 2):
        if not magnitudes[n - 1]:
            continue
        p = magnitudes[:n]
        p[-1] += sum(magnitudes[n:])
        q = [0.0] * n
        for level in range(levels):
            members = [j for j in range(n) if j * levels // n == level and magnitudes[j]]
            for j in members:
                q[j] = sum(magnitudes[k] for k in members) / len(members)
        found[n] = sum(a / sum(p) * math.log(a / sum(p) / (b / sum(q))) for a, b in zip(p, q, strict=True) if a)
    return found


@pytest.mark.stretch
@pytest.mark.parametrize(("bits", "seed"), [(2, 0), (4, 0), (5, 8), (5, 10)])
def test_the_threshold_has_the_least_divergence(impl: ModuleType, bits: int, seed: int) -> None:
    tail = torch.randint(4, 31, (40,), generator=torch.Generator().manual_seed(seed)) + 0.3  # with empty bins between
    x = torch.cat([laplace(3000, seed), tail])
    low, high = impl.entropy_range(seen(impl, x, 256), bits)
    every = divergences(x, bits, 256)
    best = min(every.values())
    width = 32 / 128
    n = math.ceil(high / width - 1e-9)
    assert low == -high
    assert n in every, f"{high:.4g} is the edge of no bin that has values"
    assert every[n] == pytest.approx(best, abs=1e-9), (
        f"{high:.4g} has a divergence of {every[n]:.5g} nats, "
        f"{min(every, key=lambda k: every[k]) * width:.4g} has {best:.5g}"
    )


@pytest.mark.stretch
def test_outliers_do_not_stretch_the_range(impl: ModuleType) -> None:
    x = torch.cat([normal(50_000), torch.tensor([60.0, -55.0])])
    _, high = impl.entropy_range(seen(impl, x), 8)
    assert 2.5 < high < 10, f"two of 50,002 normal values are outliers at 60; the range ends at {high:.4g} sigma"


@pytest.mark.stretch
def test_evenly_spread_values_are_all_kept(impl: ModuleType) -> None:
    x = torch.linspace(-1, 1, 20_001)[1:-1]
    _, high = impl.entropy_range(seen(impl, x), 8)
    assert high > 0.95, f"values spread evenly to 1 are cut at {high:.4g}"


def test_the_observer_asks_its_rule(impl: ModuleType, device: str) -> None:
    observer = impl.HistogramObserver(lambda histogram: (0.0, float(histogram.counts.sum())))
    observer.update(normal(30, device=device))
    observer.update(normal(12, device=device))
    assert observer.range() == (0.0, 42.0)


# Bad input


@OURS
@pytest.mark.parametrize("kind", KINDS)
def test_bad_batches_are_refused(impl: ModuleType, device: str, kind: str) -> None:
    observer = make(impl, kind)
    with pytest.raises(ValueError, match=r"(?i)nothing|seen|empty|update"):
        observer.range()  # type: ignore[attr-defined]
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match=r"(?i)nan|inf|finite"):
            observer.update(torch.tensor([1.0, value], device=device))  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"(?i)\bx\b|empty|shape|nothing|[(\[]\d"):
        observer.update(torch.empty(0, 3, device=device))  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=r"(?i)int|float|dtype"):
        observer.update(torch.tensor([1, 2], device=device))  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"(?i)nothing|seen|empty|update"):
        observer.range()  # type: ignore[attr-defined]


@OURS
def test_bad_options_are_refused(impl: ModuleType) -> None:
    for momentum in (0.0, -0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match="momentum"):
            impl.MovingAverageObserver(momentum)
    for bins in (0, -4, 6):
        with pytest.raises(ValueError, match=r"bins|multiple of 4"):
            impl.HistogramObserver(keep_all, bins)
    histogram = Histogram(torch.tensor([0, 1, 2, 0]), 0, -0.25, 0.25)
    for share in (0.0, 1.1, math.nan):
        with pytest.raises(ValueError, match="share"):
            impl.percentile_range(histogram, share)
    for bits in (1, 9):
        with pytest.raises(ValueError, match="bits"):
            impl.mse_range(histogram, bits)
    with pytest.raises(ValueError, match="momentum"):
        impl.MovingAverageObserver(0.1).merge(impl.MovingAverageObserver(0.2))
    with pytest.raises(ValueError, match="bins"):
        impl.HistogramObserver(keep_all, 8).merge(impl.HistogramObserver(keep_all, 16))


@OURS
@pytest.mark.stretch
def test_bad_bits_are_refused_by_entropy(impl: ModuleType) -> None:
    with pytest.raises(ValueError, match="bits"):
        impl.entropy_range(Histogram(torch.tensor([0, 1, 2, 0]), 0, -0.25, 0.25), 9)
