"""What every implementation of ``capacity.rooflines`` has to do."""

from dataclasses import replace
from types import ModuleType

import pytest

from capacity import zoo
from capacity.caching import FULL, SLIDING
from capacity.gpus import Gpu, gpu
from capacity.rooflines import BOUND, READING, TYPICAL, Efficiency, Estimate
from capacity.weights import Model, Precision
from capacity.weights.solution import bytes_read

ONE = pytest.mark.known("baseline", reason="dense models with full attention on one GPU only")
BF16, FP8 = Precision.named("bf16"), Precision.named("fp8")
SMALL = Model(layers=4, hidden=64, heads=8, kv_heads=2, head_dim=8, intermediate=100, vocab=1000)
BODY = 4 * (2 * 64 * 64 + 2 * 64 * 16 + 3 * 64 * 100)  # weights that multiply each token
HEAD, TOKEN, PAIR = 64 * 1000, 256, 4 * 4 * 8 * 8  # the head; bytes of a cached token; FLOPs of a query and a key
CARD = Gpu("a card", 10**9, 1e9, 1e8, {"bf16": 1e12})
LLAMA, SEVENTY = zoo.load("llama-3.1-8b"), zoo.load("llama-3.1-70b")


def same(what: str, found: float, wanted: float) -> None:
    assert found == pytest.approx(wanted, rel=1e-12), f"{what}: {found:.8g} came back, {wanted:.8g} expected"


def terms(found: Estimate) -> dict[str, float]:
    return {"compute": found.compute, "memory": found.memory, "link": found.link, "overhead": found.overhead}


def test_flops_of_a_prompt(impl: ModuleType) -> None:
    # 10 tokens through the layers, the last through the head; 55 pairs of a query and a key that is not later
    same("FLOPs of 10 tokens", impl.prefill(SMALL, CARD, BF16, 10).flops, 20 * BODY + 2 * HEAD + 55 * PAIR)
    same("three such prompts", impl.prefill(SMALL, CARD, BF16, 10, 3).flops, 3 * (20 * BODY + 2 * HEAD + 55 * PAIR))


def test_bytes_of_a_prompt(impl: ModuleType) -> None:
    wanted = bytes_read(SMALL, BF16, 30) + 30 * TOKEN
    same("weights once, cache of 30 tokens", impl.prefill(SMALL, CARD, BF16, 10, 3).bytes, wanted)


def test_flops_of_a_step(impl: ModuleType) -> None:
    same("FLOPs of 3 requests after 99 tokens", impl.decode(SMALL, CARD, BF16, 3, 99).flops,
         3 * (2 * (BODY + HEAD) + 100 * PAIR))  # fmt: skip


def test_bytes_of_a_step(impl: ModuleType) -> None:
    wanted = bytes_read(SMALL, BF16, 3) + 3 * 100 * TOKEN
    same("weights once, three caches read and added to", impl.decode(SMALL, CARD, BF16, 3, 99).bytes, wanted)
    empty = bytes_read(SMALL, BF16, 3) + 3 * TOKEN
    same("with empty caches", impl.decode(SMALL, CARD, BF16, 3, 0).bytes, empty)


@pytest.mark.parametrize("step", ["prefill", "decode"])
def test_time_is_the_longer_of_the_two(impl: ModuleType, step: str) -> None:
    for card in (CARD, replace(CARD, bandwidth=1e15), replace(CARD, flops={"bf16": 1e7})):
        found = getattr(impl, step)(SMALL, card, BF16, 5, 20)
        same("compute", found.compute, found.flops / card.flops["bf16"])
        same("memory", found.memory, found.bytes / card.bandwidth)
        same("seconds", found.seconds, max(found.compute, found.memory))
        assert found.bound == ("compute" if found.compute > found.memory else "memory"), (
            f"{terms(found)}: {found.bound}"
        )


@pytest.mark.parametrize("step", ["prefill", "decode"])
def test_overhead_is_a_term_of_its_own(impl: ModuleType, step: str) -> None:
    run = getattr(impl, step)
    slow = run(SMALL, CARD, BF16, 5, 20, 1, Efficiency(compute=0.5, bandwidth=0.25, overhead=1.0))
    bare = run(SMALL, CARD, BF16, 5, 20)
    same("compute at half the peak", slow.compute, 2 * bare.compute)
    same("memory at a quarter of the bandwidth", slow.memory, 4 * bare.memory)
    same("seconds", slow.seconds, 1.0 + max(slow.compute, slow.memory))
    assert slow.bound == "overhead", f"of {terms(slow)} overhead is the longest, not {slow.bound}"


def test_decoding_reads_and_prefill_computes(impl: ModuleType) -> None:
    h100 = gpu("h100")
    assert impl.prefill(LLAMA, h100, BF16, 4096).bound == "compute"
    assert impl.decode(LLAMA, h100, BF16, 1, 1000).bound == "memory"
    step = impl.decode(LLAMA, h100, BF16, 1, 0).seconds
    assert 4.4e-3 < step < 4.6e-3, f"15 GB over 3.35 TB/s is 4.5 ms, not {step * 1e3:.2f}"
    first = impl.prefill(LLAMA, h100, BF16, 4096).seconds
    assert 0.058 < first < 0.066, f"62 TFLOP over 989 TFLOP/s is 62 ms, not {first * 1e3:.1f}"


def test_precision_counts_twice(impl: ModuleType) -> None:
    h100 = gpu("h100")
    half = impl.prefill(LLAMA, h100, FP8, 4096).compute / impl.prefill(LLAMA, h100, BF16, 4096).compute
    same("compute in fp8 over bf16", half, 989.4 / 1978.9)
    read = impl.decode(LLAMA, h100, FP8, 1, 0).bytes / impl.decode(LLAMA, h100, BF16, 1, 0).bytes
    assert 0.5 < read < 0.55, f"fp8 reads {read:.2f} of what bf16 reads, a little over half expected"


@pytest.mark.only("starter", "solution")
def test_impossible_steps(impl: ModuleType) -> None:
    with pytest.raises(ValueError, match="tokens must be at least 1, not 0"):
        impl.prefill(SMALL, CARD, BF16, 0)
    with pytest.raises(ValueError, match="batch must be at least 1, not 0"):
        impl.decode(SMALL, CARD, BF16, 0, 10)
    with pytest.raises(ValueError, match="context must be at least 0, not -1"):
        impl.decode(SMALL, CARD, BF16, 1, -1)
    with pytest.raises(ValueError, match="has no fp8 tensor cores, only bf16, int8"):
        impl.decode(SMALL, gpu("a100"), FP8, 1, 10)


# Stretch


@ONE
@pytest.mark.stretch
def test_windows_end_attention(impl: ModuleType) -> None:
    mixed = replace(SMALL, layer_types=(SLIDING, SLIDING, SLIDING, FULL), window=8)
    pairs = (3 * (36 + 12 * 8) + 210) / 4  # 20 tokens: 8 * 9 / 2, then whole windows; 20 * 21 / 2
    same("FLOPs of 20 tokens", impl.prefill(mixed, CARD, BF16, 20).flops, 40 * BODY + 2 * HEAD + pairs * PAIR)
    found = impl.decode(mixed, CARD, BF16, 1, 99)
    same("FLOPs of a step", found.flops, 2 * (BODY + HEAD) + (3 * 8 + 100) / 4 * PAIR)


@ONE
@pytest.mark.stretch
def test_a_token_multiplies_its_experts_only(impl: ModuleType) -> None:
    mixed = replace(SMALL, experts=8, chosen=2, shared=1, expert_size=10)
    attention = 4 * (2 * 64 * 64 + 2 * 64 * 16)
    touched = attention + 4 * (3 * 3 * 64 * 10 + 64 * 8) + HEAD
    same("FLOPs of a step", impl.decode(mixed, CARD, BF16, 1, 0).flops, 2 * touched + PAIR)


@pytest.mark.stretch
@pytest.mark.parametrize(("compute", "memory", "wanted"), [(3.0, 4.0, 5.0), (0.0, 2.0, 2.0), (1.0, 1.0, 2**0.5)])
def test_the_corner_is_rounded(impl: ModuleType, compute: float, memory: float, wanted: float) -> None:
    same(f"compute {compute} s, memory {memory} s", impl.smooth(compute, memory), wanted)


@pytest.mark.stretch
@pytest.mark.known("baseline", reason="it has the plain roofline only")
def test_rounding_is_an_option(impl: ModuleType) -> None:
    found = impl.decode(SMALL, CARD, BF16, 5, 20, 1, Efficiency(rounded=True))
    same("seconds", found.seconds, (found.compute**2 + found.memory**2) ** 0.5)


@pytest.mark.stretch
@pytest.mark.parametrize(("gpus", "share"), [(2, 1.0), (4, 1.5), (8, 1.75)])
def test_a_ring_sends_almost_twice(impl: ModuleType, gpus: int, share: float) -> None:
    same(f"1 GB over 100 MB/s on {gpus} GPUs", impl.all_reduce(1e9, gpus, 1e8), share * 10)


@ONE
@pytest.mark.stretch
def test_tensor_parallelism_sends_twice_a_layer(impl: ModuleType) -> None:
    one, two = impl.prefill(SMALL, CARD, BF16, 10), impl.prefill(SMALL, CARD, BF16, 10, 1, 2)
    same("half the FLOPs on each", two.flops, one.flops / 2)
    same("half the bytes on each", two.bytes, one.bytes / 2)
    same("two all-reduces of 10 x 64 numbers in 4 layers", two.link, 8 * 10 * 64 * 2 / 1e8)
    same("seconds", two.seconds, max(two.compute, two.memory) + two.link)


@ONE
@pytest.mark.stretch
def test_more_gpus_than_kv_heads_read_copies(impl: ModuleType) -> None:
    found = impl.decode(SMALL, CARD, BF16, 3, 99, 8)
    same("an eighth of the weights, half the cache", found.bytes, bytes_read(SMALL, BF16, 3) / 8 + 3 * 100 * TOKEN / 2)


@ONE
@pytest.mark.stretch
def test_overhead_is_most_of_a_step_on_eight_gpus(impl: ModuleType) -> None:
    found = impl.decode(SEVENTY, gpu("h100"), FP8, 1, 200, 8, Efficiency(0.5, 0.8, 0.7, 8e-3))
    assert found.bound == "overhead"
    assert found.overhead > found.seconds / 2, f"8 of {found.seconds * 1e3:.1f} ms"


@pytest.mark.stretch
@pytest.mark.parametrize("gpus", [1, pytest.param(4, marks=ONE)])
def test_calibration_finds_what_made_the_measurements(impl: ModuleType, gpus: int) -> None:
    truth = Efficiency(0.37, READING, 0.7, 4.2e-3, rounded=True)
    ttft = impl.prefill(LLAMA, gpu("h100"), BF16, 1500, 1, gpus, truth).seconds
    itl = impl.decode(LLAMA, gpu("h100"), BF16, 1, 1500, gpus, truth).seconds
    found = impl.calibrate(LLAMA, gpu("h100"), BF16, 1500, ttft, itl, gpus)
    assert found.compute == pytest.approx(truth.compute, rel=1e-6), f"compute {found.compute}, {truth.compute} made it"
    assert found.overhead == pytest.approx(truth.overhead, rel=1e-6), f"overhead {found.overhead}, {truth.overhead}"
    assert found.rounded


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
@pytest.mark.parametrize(
    ("ttft", "itl", "words"),
    [
        (0.1, 1e-3, "itl of 0.001 s is impossible"),
        (6e-3, 6e-3, "leaves no time to compute"),
        (0.02, 6e-3, "of the peak"),
    ],
)
def test_impossible_measurements(impl: ModuleType, ttft: float, itl: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        impl.calibrate(LLAMA, gpu("h100"), BF16, 1500, ttft, itl)


def test_the_bound_is_below_what_is_typical(impl: ModuleType) -> None:
    for batch in (1, 64, 512):
        least = impl.decode(LLAMA, gpu("h100"), BF16, batch, 1000, 1, BOUND).seconds
        usual = impl.decode(LLAMA, gpu("h100"), BF16, batch, 1000, 1, replace(TYPICAL, rounded=False)).seconds
        assert least < usual, f"batch {batch}: at least {least:.4g} s, typically {usual:.4g} s"
