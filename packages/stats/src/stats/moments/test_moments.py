"""What every implementation of ``stats.moments`` has to do."""

import copy
import math
import tracemalloc
from collections import Counter
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

EPS = float(np.finfo(float).eps)
NAMES = ("mean", "variance", "skewness", "kurtosis")
PAIRWISE = 1e-12  # a two-pass sum of a thousand terms in float64 loses far less
# NIST's StRD data sets for univariate statistics, by their construction: a centre, and the same number of values a step
# below and above it. itl.nist.gov/div898/strd/univ/numacc1.html
NUMACC = {
    "NumAcc1": [10000001.0, 10000003.0, 10000002.0],
    "NumAcc2": [1.2, *[1.1, 1.3] * 500],
    "NumAcc3": [1000000.2, *[1000000.1, 1000000.3] * 500],
    "NumAcc4": [10000000.2, *[10000000.1, 10000000.3] * 500],
}


def exact(values: Any) -> dict[str, float]:
    """Return the moments of float64 data in rational arithmetic, rounded once at the end."""
    counts = Counter(np.asarray(values, float).tolist())
    ratios = [(*value.as_integer_ratio(), count) for value, count in counts.items()]
    n, scale = (
        counts.total(),
        max(bottom for _, bottom, _ in ratios),
    )  # a power of two, so whole numbers do for the sums
    whole = [(top * (scale // bottom), count) for top, bottom, count in ratios]
    total = sum(count * v for v, count in whole)
    mean = Fraction(total, n * scale)
    m2, m3, m4 = (Fraction(sum(c * (n * v - total) ** p for v, c in whole), (n * scale) ** p) for p in (2, 3, 4))
    found = {"mean": float(mean), "variance": float(m2 / (n - 1)) if n > 1 else math.nan}
    found["skewness"] = math.sqrt(n) * float(m3) / float(m2) ** 1.5 if m2 else math.nan
    found["kurtosis"] = float(n * m4 / m2**2 - 3) if m2 else math.nan
    return found


def seen(impl: ModuleType, *chunks: Any, **options: int) -> Any:
    moments = impl.Moments(**options)
    for chunk in chunks:
        moments.update(chunk)
    return moments


def assert_close(moments: Any, values: Any, tolerance: float, names: tuple[str, ...] = NAMES) -> None:
    wanted = exact(values)
    for name in names:
        found = getattr(moments, name)
        # Skewness and excess kurtosis are of the order of 1, and may be 0.
        error = abs(found - wanted[name]) / (abs(wanted[name]) if name in NAMES[:2] else 1 + abs(wanted[name]) or 1)
        digits = "no digit" if not error < 1 else f"{-math.log10(max(error, 1e-17)):.1f} digits"
        assert error <= tolerance, f"{name} of {len(values)} values is {wanted[name]!r}, got {found!r}: {digits} right"


def sample(n: int, seed: int = 0, centre: float = 0.0) -> np.ndarray:
    return centre + np.random.default_rng(seed).gamma(2.0, size=n)


def test_a_small_sample_by_hand(impl: ModuleType) -> None:
    moments = seen(impl, [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
    assert moments.n == 8
    assert moments.mean == 5.0, f"the mean of 2 4 4 4 5 5 7 9 is 5, got {moments.mean}"
    assert moments.variance == pytest.approx(32 / 7), f"the sample variance is 32/7, got {moments.variance}"
    assert moments.skewness == pytest.approx(42 / 8 / 8), f"the skewness is 0.65625, got {moments.skewness}"
    assert moments.kurtosis == pytest.approx(356 / 8 / 16 - 3), f"the kurtosis is -0.21875, got {moments.kurtosis}"


@pytest.mark.parametrize("n", [500, 20_000])
def test_one_chunk_of_skewed_values(impl: ModuleType, n: int) -> None:
    values = sample(n)
    assert_close(seen(impl, values), values, PAIRWISE)


@pytest.mark.parametrize("sizes", [(1, 499), (250, 250), (499, 1), (100,) * 5, (3, 0, 197, 300)])
def test_chunks_of_any_size_are_one_stream(impl: ModuleType, sizes: tuple[int, ...]) -> None:
    values = sample(500, seed=1)
    parts = np.split(values, np.cumsum(sizes)[:-1])
    assert_close(seen(impl, *parts), values, PAIRWISE)


def test_single_values_are_a_stream_too(impl: ModuleType) -> None:
    values = sample(60, seed=2)
    assert_close(seen(impl, *values), values, PAIRWISE)


@pytest.mark.parametrize("cut", [0, 1, 7, 40, 79, 80])
def test_merged_streams_are_the_whole(impl: ModuleType, cut: int) -> None:
    values = sample(80, seed=3)
    first, second = seen(impl, values[:cut]), seen(impl, values[cut:])
    both = first.merge(second)
    assert (both.n, first.n, second.n) == (80, cut, 80 - cut), "merge changes neither stream and counts both"
    assert_close(both, values, PAIRWISE)
    first.update([100.0])
    assert both.n == 80, "the merged moments changed with one of their streams"


def test_merging_nothing_is_nothing(impl: ModuleType) -> None:
    assert impl.Moments().merge(impl.Moments()).n == 0


@pytest.mark.known("baseline", reason="rounds the mean at every value")
@pytest.mark.parametrize("name", NUMACC)
def test_nist_data_to_the_last_digit(impl: ModuleType, name: str) -> None:
    values = NUMACC[name]
    if impl.__name__.endswith("baseline") and name in ("NumAcc1", "NumAcc2"):
        pytest.skip("only the two hard ones are known to fail")
    assert_close(seen(impl, values), values, PAIRWISE, names=("mean", "variance"))


@pytest.mark.parametrize("name", ["NumAcc3", "NumAcc4"])
def test_nist_data_in_chunks(impl: ModuleType, name: str) -> None:
    values = NUMACC[name]
    condition = exact(values)["mean"] / math.sqrt(exact(values)["variance"])
    moments = seen(impl, *np.array_split(np.array(values), 7))
    # Joining rounds a mean to eps of its size, which is condition * eps of the spread.
    assert_close(moments, values, 8 * condition * EPS, names=("mean", "variance"))


def test_the_smallest_and_the_largest_numbers(impl: ModuleType) -> None:
    tiny = seen(impl, [1e-150, 2e-150, 4e-150])
    assert tiny.variance == pytest.approx(7 / 3 * 1e-300, rel=1e-12)
    large = seen(impl, [1e100, 3e100])
    assert large.variance == pytest.approx(2e200, rel=1e-12)


def test_constant_data_have_no_shape(impl: ModuleType) -> None:
    moments = seen(impl, [0.1] * 1000, [0.1] * 7)
    assert moments.mean == pytest.approx(0.1, rel=4 * EPS)
    assert moments.variance <= 1e-32, f"the variance of 1007 times 0.1 is 0, got {moments.variance}"


@pytest.mark.only("starter", "baseline", "solution")
def test_constant_integers_have_variance_zero_and_no_skewness(impl: ModuleType) -> None:
    moments = seen(impl, [3] * 50, [3])
    assert (moments.mean, moments.variance) == (3.0, 0.0)
    assert math.isnan(moments.skewness)
    assert math.isnan(moments.kurtosis)


def test_any_real_dtype_and_shape(impl: ModuleType) -> None:
    for values in (np.arange(12, dtype=np.int8), np.arange(12).reshape(3, 4), np.arange(12, dtype=np.float32)[::-1]):
        assert_close(seen(impl, values), range(12), PAIRWISE)
    assert seen(impl, [True, False, True, True]).mean == 0.75


def test_the_input_is_left_alone(impl: ModuleType) -> None:
    values = sample(50)
    before = values.copy()
    seen(impl, values)
    assert (values == before).all(), "the values were changed in place"


UNLIKE = np.concatenate([sample(9_000, seed=1) / 1000, 4.0 + sample(31_000) / 10])


def test_a_long_chunk_whose_beginning_is_unlike_the_rest(impl: ModuleType) -> None:
    assert_close(seen(impl, UNLIKE), UNLIKE, PAIRWISE)


@pytest.mark.only("starter", "solution")  # a running mean and scipy's skewness round to eps of the values' size
def test_a_long_chunk_far_from_zero(impl: ModuleType) -> None:
    assert_close(seen(impl, 1e6 + UNLIKE), 1e6 + UNLIKE, PAIRWISE)


@pytest.mark.only("starter", "solution")
def test_a_very_long_chunk_that_begins_elsewhere(impl: ModuleType) -> None:
    values = np.concatenate([np.resize([-0.1, 0.1], 10_000), np.resize([30.1, 30.3], 2_000_000)])
    assert_close(seen(impl, values), values, 64 * EPS)


@settings(max_examples=40)
@given(
    st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=2, max_size=40),
    st.integers(0, 40),
    st.integers(0, 40),
)
def test_the_order_of_merging_does_not_matter(impl: ModuleType, values: list[float], a: int, b: int) -> None:
    first, second = sorted((a % len(values), b % len(values)))
    parts = [seen(impl, values[:first]), seen(impl, values[first:second]), seen(impl, values[second:])]
    left, right = parts[0].merge(parts[1]).merge(parts[2]), parts[0].merge(parts[1].merge(parts[2]))
    spread = 1e-13 * (1 + max(map(abs, values))) ** 2
    assert left.n == right.n == len(values)
    assert left.mean == pytest.approx(right.mean, rel=1e-12, abs=1e-9)
    assert left.variance == pytest.approx(right.variance, rel=1e-9, abs=spread)


@pytest.mark.only("starter", "solution")
def test_too_few_values(impl: ModuleType) -> None:
    moments = impl.Moments()
    for name in NAMES:
        with pytest.raises(ValueError, match="0 values"):
            getattr(moments, name)
    moments.update([1.0])
    assert moments.mean == 1.0
    with pytest.raises(ValueError, match="1 values"):
        _ = moments.variance


@pytest.mark.only("starter", "solution")
def test_bad_values_change_nothing(impl: ModuleType) -> None:
    moments = seen(impl, [1.0, 2.0])
    before = copy.copy(moments)
    for bad in ([1.0, math.nan], [math.inf], [-math.inf, math.inf]):
        with pytest.raises(ValueError, match="NaN or inf"):
            moments.update(bad)
    for words in (["a"], [1j]):
        with pytest.raises(TypeError, match="real"):
            moments.update(words)
    assert (moments.n, moments.mean, moments.variance) == (before.n, before.mean, before.variance)


@pytest.mark.only("solution")
def test_memory_does_not_grow_with_the_stream(impl: ModuleType) -> None:
    moments = seen(impl, *(sample(1000, seed=seed) for seed in range(30)))
    assert not any(isinstance(getattr(moments, name), np.ndarray) for name in moments.__slots__)


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
@pytest.mark.parametrize(
    "values", [*map(np.array, NUMACC.values()), sample(20_000), 1.5 + sample(9), UNLIKE, UNLIKE - 4.3]
)
def test_mean_and_variance_alone_keep_their_digits(impl: ModuleType, values: np.ndarray) -> None:
    assert_close(seen(impl, values, order=2), values, PAIRWISE, names=("mean", "variance"))
    # Joining rounds a mean to eps of its size, which is condition * eps of the spread.
    condition = abs(exact(values)["mean"]) / math.sqrt(exact(values)["variance"])
    parts = seen(impl, *np.array_split(values, 3), order=2)
    assert_close(parts, values, max(PAIRWISE, 8 * condition * EPS), names=("mean", "variance"))


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
@pytest.mark.parametrize("distance", [0.0, 1.0, 1.9, 2.0, 2.1, 3.0, 100.0, 1e8])
def test_a_mean_at_any_distance_costs_a_digit_at_most(impl: ModuleType, distance: float) -> None:
    values = distance + np.random.default_rng(6).normal(size=9_000)
    assert_close(seen(impl, values, order=2), values, 64 * EPS, names=("mean", "variance"))


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_two_moments_of_a_very_long_chunk_that_begins_elsewhere(impl: ModuleType) -> None:
    values = np.concatenate([np.resize([-0.1, 0.1], 10_000), np.resize([30.1, 30.3], 2_000_000)])
    assert_close(seen(impl, values, order=2), values, 64 * EPS, names=("mean", "variance"))


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_a_stream_of_two_moments_refuses_the_others(impl: ModuleType) -> None:
    two, four = seen(impl, [1.0, 2.0, 4.0], order=2), seen(impl, [8.0])
    for moments in (two, two.merge(four), four.merge(two), impl.Moments(order=2).merge(four)):
        for name in NAMES[2:]:
            with pytest.raises(ValueError, match="order"):
                getattr(moments, name)
    assert_close(four.merge(two), [8.0, 1.0, 2.0, 4.0], PAIRWISE, names=("mean", "variance"))
    for order in (0, 1, 3, 5):
        with pytest.raises(ValueError, match=f"order is {order}"):
            impl.Moments(order=order)


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_bad_values_change_nothing_in_two_moments_either(impl: ModuleType) -> None:
    moments = seen(impl, [1.0, 2.0], order=2)
    for bad in ([1.0, math.nan], [math.inf], [-math.inf, math.inf, 3.0]):
        with pytest.raises(ValueError, match="NaN or inf"):
            moments.update(bad)
    assert (moments.n, moments.mean, moments.variance) == (2, 1.5, 0.5)


@pytest.mark.stretch
@pytest.mark.only("solution")
def test_two_moments_near_zero_write_no_array(impl: ModuleType) -> None:
    values = sample(1 << 20)
    tracemalloc.start()
    seen(impl, values, order=2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 17, f"{peak} bytes were asked for beside {values.nbytes} of values"
