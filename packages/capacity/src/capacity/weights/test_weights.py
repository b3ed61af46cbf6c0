"""What every implementation of ``capacity.weights`` has to do."""

from dataclasses import replace
from math import ceil
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity import zoo
from capacity.weights import Model, Precision

SMALL = Model(layers=3, hidden=64, heads=8, kv_heads=2, head_dim=8, intermediate=100, vocab=1000)
SPARSE = pytest.mark.known("baseline", reason="dense models with ordinary attention only")
BF16, INT4 = Precision.named("bf16"), Precision.named("int4")


def count(impl: ModuleType, model: Model, kind: str) -> int:
    return sum(m.size for m in impl.matrices(model) if m.kind == kind)


def expect(what: str, found: float, wanted: float) -> None:
    assert found == wanted, f"{what}: {found:,} came back, {wanted:,} expected ({found - wanted:+,})"


def test_attention_has_fewer_keys_than_queries(impl: ModuleType) -> None:
    # q and o are 64 x 64; k and v have 2 heads of 8 instead of 8
    expect("attention of 3 layers", count(impl, SMALL, "attention"), 3 * (2 * 64 * 64 + 2 * 64 * 16))


def test_a_gated_mlp_has_three_matrices(impl: ModuleType) -> None:
    expect("gated MLP of 3 layers", count(impl, SMALL, "mlp"), 3 * 3 * 64 * 100)
    expect("plain MLP of 3 layers", count(impl, replace(SMALL, gated=False), "mlp"), 3 * 2 * 64 * 100)


def test_a_head_dim_of_its_own(impl: ModuleType) -> None:
    wide = replace(SMALL, head_dim=16)  # 8 heads of 16 are twice the hidden size
    expect("attention", count(impl, wide, "attention"), 3 * (2 * 64 * 128 + 2 * 64 * 32))


def test_a_tied_head_is_counted_once(impl: ModuleType) -> None:
    free, tied = impl.parameters(SMALL), impl.parameters(replace(SMALL, tied=True))
    expect("what tying saves", free - tied, 64 * 1000)


def test_rows_are_outputs(impl: ModuleType) -> None:
    shapes = {(m.rows, m.cols) for m in impl.matrices(SMALL) if m.kind == "mlp"}
    assert shapes == {(100, 64), (64, 100)}, f"MLP 64 to 100 to 64 has matrices (rows, cols) {shapes}"


@pytest.mark.parametrize(
    ("field", "extra"),
    [
        ("qkv_bias", 3 * (64 + 2 * 16)),
        ("out_bias", 3 * 64),
        ("mlp_bias", 3 * (100 + 100 + 64)),
        ("qk_norm", 3 * 2 * 8),
        ("norm_bias", 7 * 64),
    ],
)
def test_small_parameters_count_too(impl: ModuleType, field: str, extra: int) -> None:
    with_it = replace(SMALL, **{field: True})  # type: ignore[arg-type]
    expect(field, impl.parameters(with_it) - impl.parameters(SMALL), extra)


def test_norms_of_a_layer_and_the_last(impl: ModuleType) -> None:
    matrices = sum(m.size for m in impl.matrices(SMALL))
    expect("norms of 3 layers and the last", impl.parameters(SMALL) - matrices, 7 * 64)
    expect("two more in each layer", impl.parameters(replace(SMALL, norms=4)) - impl.parameters(SMALL), 6 * 64)


# Counted on the models themselves, as transformers builds them
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("llama-3.1-8b", 8_030_261_248),
        ("llama-3.1-70b", 70_553_706_496),
        ("qwen2.5-0.5b", 494_032_768),
        ("qwen2.5-7b", 7_615_616_512),
        ("gemma-3-1b", 999_885_952),
    ],
)
def test_real_models(impl: ModuleType, name: str, wanted: int) -> None:
    expect(name, impl.parameters(zoo.load(name)), wanted)


def test_bf16_is_two_bytes_a_parameter(impl: ModuleType) -> None:
    model = replace(SMALL, qkv_bias=True, mlp_bias=True)
    expect("bytes", impl.weight_bytes(model, BF16), 2 * impl.parameters(model))


def test_scales_of_each_group(impl: ModuleType) -> None:
    # Rows of 64 have 2 groups of 32, rows of 100 have 4: the last holds 4 columns.
    groups = 3 * (2 * (64 + 64 + 2 * 16) + 2 * 2 * 100 + 4 * 64)
    linear = count(impl, SMALL, "attention") + count(impl, SMALL, "mlp")
    rest = impl.parameters(SMALL) - linear
    wanted = ceil((4 * linear + (16 + 4) * groups + 16 * rest) / 8)
    expect("int4 in groups of 32", impl.weight_bytes(SMALL, Precision(linear=4, group=32, zero=4)), wanted)


def test_one_scale_a_row_without_groups(impl: ModuleType) -> None:
    linear = count(impl, SMALL, "attention") + count(impl, SMALL, "mlp")
    rows = 3 * (64 + 64 + 2 * 16 + 2 * 100 + 64)
    wanted = linear + 2 * rows + 2 * (impl.parameters(SMALL) - linear)
    expect("int8 per channel", impl.weight_bytes(SMALL, Precision(linear=8)), wanted)


def test_the_embedding_has_bits_of_its_own(impl: ModuleType) -> None:
    less = impl.weight_bytes(SMALL, BF16) - impl.weight_bytes(SMALL, Precision(embedding=8))
    expect("embedding and head at 8 bits save", less, 2 * 64 * 1000)


def test_fractions_of_a_byte_round_up(impl: ModuleType) -> None:
    odd = Model(layers=1, hidden=1, heads=1, kv_heads=1, head_dim=1, intermediate=1, vocab=1)
    # 7 linear weights of 3 bits; embedding, head and 3 norms of 16 bits
    plan = Precision(linear=3, scale=0)
    expect("bytes", impl.weight_bytes(odd, plan), ceil((7 * 3 + 5 * 16) / 8))


@pytest.mark.parametrize(("bits", "least", "most"), [(16, 141, 142), (4, 37, 40)])
def test_seventy_billion(impl: ModuleType, bits: int, least: float, most: float) -> None:
    plan = BF16 if bits == 16 else INT4
    found = impl.weight_bytes(zoo.load("llama-3.1-70b"), plan) / 1e9
    assert least < found < most, f"70B at {bits} bits takes {found:.1f} GB, {least} to {most} expected"


@settings(max_examples=25)
@given(st.integers(1, 6), st.sampled_from([32, 96, 100]), st.sampled_from([0, 16, 128]), st.booleans())
def test_fewer_bits_never_take_more(impl: ModuleType, layers: int, hidden: int, group: int, tied: bool) -> None:
    model = replace(SMALL, layers=layers, hidden=hidden, tied=tied)
    sizes = [impl.weight_bytes(model, Precision(linear=bits, group=group)) for bits in (3, 4, 6, 8)]
    assert sizes == sorted(sizes), f"3, 4, 6 and 8 bits take {sizes} bytes"
    assert sizes[0] > 0


# Stretch


@SPARSE
@pytest.mark.stretch
@pytest.mark.parametrize(
    ("name", "wanted"),
    [("mixtral-8x7b", 46_702_792_704), ("qwen3-30b-a3b", 30_532_122_624), ("deepseek-v3", 671_026_419_200)],
)
def test_real_mixtures(impl: ModuleType, name: str, wanted: int) -> None:
    expect(name, impl.parameters(zoo.load(name)), wanted)


MIXED = replace(SMALL, experts=8, chosen=2, expert_size=10)


@pytest.mark.stretch
def test_shared_experts_and_dense_layers(impl: ModuleType) -> None:
    model = replace(MIXED, shared=1, dense_layers=1)
    found = {kind: sum(m.size for m in impl.expert_matrices(model) if m.kind == kind) for kind in ("expert", "router")}
    expect("routed and shared experts of 2 layers", found["expert"], 2 * 9 * 3 * 64 * 10)
    expect("routers", found["router"], 2 * 8 * 64)


@pytest.mark.stretch
def test_compressed_queries_are_optional(impl: ModuleType) -> None:
    model = replace(SMALL, latent=32, rope_dim=4, value_dim=6)
    direct = sum(m.size for m in impl.latent_matrices(model))
    expect("latent attention", direct, 3 * (64 * 8 * 12 + 64 * 36 + 32 * 8 * 14 + 8 * 6 * 64))
    through = sum(m.size for m in impl.latent_matrices(replace(model, query_latent=16)))
    expect("queries by way of 16 values", through - direct, 3 * (64 * 16 + 16 * 96 - 64 * 96))


@SPARSE
@pytest.mark.stretch
@pytest.mark.parametrize(("name", "least", "most"), [("mixtral-8x7b", 12.8, 12.9), ("qwen3-30b-a3b", 3.3, 3.4)])
def test_active_parameters(impl: ModuleType, name: str, least: float, most: float) -> None:
    found = impl.active_parameters(zoo.load(name)) / 1e9
    assert least < found < most, f"a token of {name} uses {found:.2f} billion parameters, {least} to {most} published"


@SPARSE
@pytest.mark.stretch
def test_shared_experts_are_always_active(impl: ModuleType) -> None:
    model = replace(MIXED, shared=1)
    idle = impl.parameters(model) - impl.active_parameters(model)
    expect("parameters of 6 idle experts in 3 layers", idle, 3 * 6 * 3 * 64 * 10)


@pytest.mark.stretch
def test_a_dense_model_reads_all_but_the_embedding(impl: ModuleType) -> None:
    wanted = impl.weight_bytes(SMALL, BF16) - 2 * 64 * (1000 - 4)
    expect("bytes for 4 tokens", impl.bytes_read(SMALL, BF16, 4), wanted)
    tied = replace(SMALL, tied=True)
    expect("a tied head is read whole", impl.bytes_read(tied, BF16, 4), impl.weight_bytes(tied, BF16))
    expect("never more than all", impl.bytes_read(SMALL, BF16, 5000), impl.weight_bytes(SMALL, BF16))


@SPARSE
@pytest.mark.stretch
def test_a_batch_touches_more_experts_than_a_token(impl: ModuleType) -> None:
    model = replace(MIXED, tied=True, shared=1)
    each = 2 * 3 * 64 * 10  # bytes of one expert in bf16
    whole = impl.weight_bytes(model, BF16)
    for batch in (1, 4, 64):
        idle = 8 * (1 - 2 / 8) ** batch  # experts that nobody picked
        found = impl.bytes_read(model, BF16, batch)
        assert abs(found - (whole - 3 * each * idle)) <= 1, (
            f"{batch} tokens pick 2 of 8 experts each: {found:,} bytes read, "
            f"all {whole:,} but {idle:.3g} idle experts of {each:,} in 3 layers expected"
        )


@pytest.mark.stretch
@pytest.mark.only("starter", "solution")
def test_a_step_has_tokens(impl: ModuleType) -> None:
    with pytest.raises(ValueError, match="at least one token, not 0"):
        impl.bytes_read(SMALL, BF16, 0)
