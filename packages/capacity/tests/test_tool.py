"""``python -m capacity``, the tables in the package, and the library as a whole."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import capacity
from capacity import gpus, sweeps, zoo
from capacity.plan import Question, answer, server
from capacity.rooflines import TYPICAL
from capacity.sweeps import Published, activations, audit, replayed
from capacity.weights import Model, Precision

LLAMA = zoo.load("llama-3.1-8b")
LAYER: dict[str, Any] = {
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 8,
    "intermediate_size": 100,
    "vocab_size": 1000,
}


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "capacity", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def test_every_figure_has_a_source_and_a_date() -> None:
    for name in gpus.names():
        card = capacity.gpu(name)
        assert set(card.sources) == {"memory_mib", "bandwidth", "link", *card.flops}, name
        for figure, source in card.sources.items():
            assert len(source.text) > 5, f"{name} {figure}"
            assert date(2026, 1, 1) <= source.checked, f"{name} {figure}"


def test_peaks_are_dense() -> None:
    # Eight bits run at twice the speed of sixteen; the figures with sparsity would be 624, 1,979 and 4,500
    for name, bf16 in (("a100", 312e12), ("h100", 989.4e12), ("b200", 2250e12)):
        card = capacity.gpu(name)
        assert card.peak("bf16") == bf16
        assert card.peak("int8") == pytest.approx(2 * bf16, rel=1e-3)


def test_memory_is_what_the_driver_shows() -> None:
    assert capacity.gpu("h100").memory == 81_559 << 20
    assert capacity.gpu("a100").memory == 80 << 30


def test_an_unknown_gpu() -> None:
    with pytest.raises(ValueError, match="no GPU 'tpu' in the table, only a100"):
        capacity.gpu("tpu")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "mamba"}, "model_type 'mamba'"),
        ({"model_type": "llama", "hidden_size": "wide"}, "hidden_size must be a whole number, not 'wide'"),
        ({"model_type": "llama", "num_key_value_heads": 3}, "multiple of kv_heads"),
        ({"model_type": "llama", "num_hidden_layers": 0}, "layers must be at least 1"),
        ({"model_type": "mixtral"}, "no num_local_experts"),
        ({"model_type": "llama", "layer_types": ["full_attention"]}, "layer_types names 1 layers"),
    ],
)
def test_configs_that_say_too_little(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Model.from_config(LAYER | change)


def test_defaults_of_a_config() -> None:
    plain = Model.from_config(LAYER | {"model_type": "llama"})
    assert (plain.kv_heads, plain.head_dim, plain.tied, plain.qkv_bias) == (8, 8, False, False)
    qwen = Model.from_config(LAYER | {"model_type": "qwen2", "sliding_window": 32, "use_sliding_window": False})
    assert (qwen.qkv_bias, qwen.out_bias, set(qwen.layer_types)) == (True, False, {"full_attention"})
    assert Model.from_config(LAYER | {"model_type": "gemma2"}).layer_types == ("sliding_attention", "full_attention")
    mistral = Model.from_config(LAYER | {"model_type": "mistral", "sliding_window": 32})
    assert (mistral.window, set(mistral.layer_types)) == (32, {"sliding_attention"})


def test_a_vision_model_is_read_by_its_language_model() -> None:
    nested = {"model_type": "llava", "text_config": LAYER | {"model_type": "llama"}}
    assert Model.from_config(nested).hidden == 64


@pytest.mark.parametrize("bits", [0, -1, 65])
def test_impossible_precisions(bits: int) -> None:
    with pytest.raises(ValueError, match="linear is in bits"):
        Precision(linear=bits)
    with pytest.raises(ValueError, match="no precision 'int3', only bf16"):
        Precision.named("int3")


def asked(**change: Any) -> Question:
    usual = Question(LLAMA, capacity.gpu("h100"), Precision.named("bf16"), 1, 20.0, 1000, 300, 1.0)
    return replace(usual, **change)


def test_a_plan_keeps_its_limits() -> None:
    found = answer(asked(slo=0.2))
    assert found.bound is not None
    assert found.typical is not None
    assert 1 <= found.bound.replicas <= found.typical.replicas
    for speed in (found.bound, found.typical):
        assert speed.ttft_p99 <= 0.2
        assert speed.replicas * speed.saturation >= 20.0


@pytest.mark.parametrize("name", ["llama-3.1-8b", "mixtral-8x7b"])
def test_the_simulated_steps_are_the_rooflines(name: str) -> None:
    question = asked(model=zoo.load(name), gpus=2)
    one = server(question, 256, TYPICAL)
    for batch in (1, 64, 256):
        line = one.step + one.token * batch + one.context * batch * 1150
        roof = capacity.decode(question.model, question.gpu, question.precision, batch, 1150, 2, TYPICAL).seconds
        if batch == 1 and question.model.experts:
            assert line > roof, f"{name}: one request takes {line:.4f} s, at least {roof:.4f} expected"
        else:
            assert line == pytest.approx(roof, rel=0.15), f"{name}, {batch} requests: {line:.4f} s, roofline {roof:.4f}"


def test_a_tighter_limit_never_needs_fewer() -> None:
    counts = []
    for itl in (0.0, 0.02, 0.011):
        found = answer(asked(itl=itl)).typical
        assert found is not None
        counts.append(found.replicas)
    assert counts[0] < counts[-1]
    assert counts == sorted(counts), f"no limit, 20 ms and 11 ms between tokens need {counts} replicas"


def test_a_limit_that_nothing_keeps() -> None:
    found = answer(asked(slo=0.001)).typical
    assert found is not None
    assert (found.replicas, found.binding) == (0, "slo")


def test_no_speed_for_what_does_not_fit() -> None:
    found = answer(asked(model=zoo.load("llama-3.1-70b")))
    assert (found.bound, found.typical) == (None, None)
    assert found.fit.binding == "weights"


def test_the_audit_finds_what_cannot_be() -> None:
    good = Published(10, 0.16509, 0.020763, 465.41, 200, 200)
    bad = {
        "Little's law: 12.9": replace(good, throughput=600.0),
        "first token after 5.0 ms": replace(good, ttft=0.005),
        "5.00 ms between tokens": replace(good, itl=0.005),
        "tokens/s, the peaks allow": replace(good, throughput=1100.0, itl=0.0104, ttft=0.02, concurrency=11),
    }
    seventy = zoo.load("llama-3.1-70b")
    verdicts = audit([good, *bad.values()], seventy, capacity.gpu("h100"), Precision.named("bf16"), 4)
    assert not verdicts[0].impossible, verdicts[0].impossible
    for words, verdict in zip(bad, verdicts[1:], strict=True):
        assert any(words in why for why in verdict.impossible), f"{words!r} not in {verdict.impossible}"
    idle = audit([replace(good, throughput=200.0)], seventy, capacity.gpu("h100"), Precision.named("bf16"), 4)[0]
    assert not idle.impossible
    assert "only 4.3 of 10" in idle.odd[0]
    small = audit([good], seventy, capacity.gpu("l4"), Precision.named("bf16"), 4)[0]
    assert any("does not fit" in why for why in small.impossible)


def test_the_tool_answers_with_one_document(tmp_path: Path) -> None:
    done = run("serve", "--json", "--out", "load.svg", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["fit"]["requests"] == 256
    assert document["typical"]["replicas"] >= document["bound"]["replicas"] >= 1
    assert [path.name for path in tmp_path.iterdir()] == ["load.svg"]
    assert "</svg>" in (tmp_path / "load.svg").read_text()


def test_the_tool_explains_itself(tmp_path: Path) -> None:
    done = run("serve", "--explain", "--price", "2.5", "--measured", "0.06,0.009", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in ("binding: seats", "money for a million output tokens", "H100 datasheet", "checked 2026", "overhead"):
        assert words in done.stdout, f"{words!r} is missing"
    assert "(assumed)" not in done.stdout


def test_a_model_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LAYER | {"model_type": "llama"}))
    done = run("serve", "--config", ".", "--gpu", "l4", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["fit"]["requests"] > 0, done.stderr


def test_the_published_sweep_can_be_true_and_is_predicted(tmp_path: Path) -> None:
    done = run("audit", "--replay", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert all(not row["impossible"] for row in document["rows"])
    assert document["measured"]
    assert len(document["predicted"]) == len(document["rows"]) == 8
    for row, predicted in zip((each["row"] for each in document["rows"]), document["predicted"], strict=True):
        what = f"{row['concurrency']} users: {predicted}, published {row}"
        assert predicted["itl"] == pytest.approx(row["itl"], rel=0.08), what
        assert predicted["throughput"] == pytest.approx(row["throughput"], rel=0.06), what
    alone = document["predicted"][0]
    assert alone["ttft"] == pytest.approx(0.40677, rel=0.001)
    assert alone["itl"] == pytest.approx(0.01858, rel=0.005)


def test_the_readme_says_how_far_off_the_published_sweep_is(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = sweeps.load("nim-5000-500")
    on = (zoo.load(sweep.config), capacity.gpu("h100"), Precision.named("fp8"))
    found = replayed(sweep.rows, *on, 2)
    monkeypatch.setattr(capacity.rooflines.solution, "calibrate", partial(capacity.calibrate, bandwidth=0.8))
    before = replayed(sweep.rows, *on, 2)
    extra = [500 * (1 / each.throughput - 1 / each.row.throughput) for each in found.rows[1:]]  # seconds a request
    short, long = (capacity.prefill(*on, prompt, 1, 2).compute for prompt in (500, 5000))
    first = (0.04777, sweep.rows[0].ttft)  # the row of one user with 500 + 2000 tokens, from sweep.source
    fixed = first[0] - short * (first[1] - first[0]) / (long - short)
    text = " ".join((Path(__file__).parents[1] / "README.md").read_text("utf-8").split())
    for words in (
        f"takes {min(extra) * 1e3:.0f} to {max(extra) * 1e3:.0f} ms too much",
        f"leave {fixed * 1e3:.1f} ms for it",
        f"has {found.constants.overhead * 1e3:.2f} ms of those",
        f"by a little ({before.worst[1] * 100:.1f} %, at 50 users)",
    ):
        assert words in text, words


def test_other_sweeps_say_how_far_off_they_are(tmp_path: Path) -> None:
    done = run("audit", "nim-200-200", "--replay", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "too short to show how fast batches multiply" in done.stdout
    assert done.stdout.rstrip().split("\n")[-1].startswith("largest errors: ")


@pytest.mark.parametrize("name", sweeps.names())
def test_sweeps_of_the_package_agree_with_themselves(name: str) -> None:
    sweep = sweeps.load(name)
    verdicts = audit(sweep.rows, zoo.load(sweep.config), capacity.gpu(sweep.gpu), Precision.named(sweep.precision), 4)
    for verdict in verdicts:  # a digit copied wrongly breaks Little's law
        users = verdict.row.concurrency
        assert not verdict.impossible, verdict
        assert 0.93 < verdict.in_system / users < 1.01, f"{name}: {verdict.in_system:.1f} of {users} in the system"


def test_a_prompt_read_beside_decoding_hides_the_reading_of_caches() -> None:
    asked = Question(zoo.load("llama-3.1-8b"), capacity.gpu("h100"), Precision.named("bf16"), 1, 1.0, 4000, 200, 1.0)
    first = capacity.prefill(asked.model, asked.gpu, asked.precision, 4000)
    other = capacity.decode(asked.model, asked.gpu, asked.precision, 32, 4100)
    assert first.compute > other.memory > other.compute  # at the peaks a step lasts as long as its longer term
    found = server(asked, 64, capacity.BOUND, beside=32).prompt * 4000
    wanted = first.compute + other.compute - other.memory
    assert found == pytest.approx(wanted, rel=1e-9), f"{found * 1e3:.3f} ms are added, not {wanted * 1e3:.3f}"
    alone = server(asked, 64, capacity.BOUND).prompt * 4000
    assert found < alone, "reading 32 caches behind the arithmetic saves nothing"


def test_activations_are_a_prompt_chunk_in_the_mlp() -> None:
    seventy = zoo.load("llama-3.1-70b")
    assert activations(seventy, 8192, 2) == 8192 * (2 * 8192 + 3 * 28672 // 2) * 2
    assert activations(seventy, 1, 1) == (2 * 8192 + 3 * 28672) * 2
    sparse = zoo.load("mixtral-8x7b")
    assert activations(sparse, 1) == (2 * 4096 + 3 * 2 * 14336) * 2  # two experts for each token


def test_users_beyond_the_memory_wait() -> None:
    sweep = sweeps.load("nim-5000-500")
    on = (zoo.load(sweep.config), capacity.gpu("h100"), Precision.named("fp8"), 2)
    few, many, more = (replace(sweep.rows[0], concurrency=users) for users in (40, 150, 250))
    found = replayed([sweep.rows[0], few, many, more], *on)
    _, forty, crowd, crowds = found.rows
    assert forty.ttft < 1 < crowd.ttft
    assert crowds.itl == pytest.approx(crowd.itl, rel=0.01)
    rate = crowds.throughput / 500
    assert crowds.ttft - crowd.ttft == pytest.approx(100 / rate, rel=0.02), "each more user waits its turn"


def test_a_replay_refuses_what_it_cannot_predict() -> None:
    sweep = sweeps.load("nim-5000-500")
    on = (zoo.load(sweep.config), capacity.gpu("h100"), Precision.named("fp8"))
    with pytest.raises(ValueError, match="no row has concurrency 1"):
        replayed(sweep.rows[1:], *on, 2)
    with pytest.raises(ValueError, match="chunk must be at least 1, or 0 for whole prompts, not -1"):
        replayed(sweep.rows, *on, 2, chunk=-1)
    long = [sweep.rows[0], replace(sweep.rows[1], prompt=120_000, output=400_000)]
    with pytest.raises(ValueError, match="a request of 120000 \\+ 400000 tokens does not fit"):
        replayed(long, *on, 2)
    with pytest.raises(ValueError, match="no sweep 'nim', only nim-5000-500"):
        sweeps.load("nim")


def test_an_impossible_row_is_named(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("concurrency,ttft,itl,throughput\n1,0.0346,0.0188,52.9\n4,0.05,0.004,990\n")
    done = run("audit", "table.csv", cwd=tmp_path)
    assert done.returncode == 1
    assert "IMPOSSIBLE" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "--config", "nowhere"], "no config at 'nowhere'"),
        (["serve", "--config", "bad"], "bad/config.json is not JSON"),
        (["serve", "--gpu", "abacus"], "no GPU 'abacus'"),
        (["serve", "--precision", "int3"], "no precision 'int3'"),
        (["serve", "--gpu", "a100", "--precision", "fp8"], "NVIDIA A100 SXM 80GB has no fp8 tensor cores"),
        (["serve", "--rate", "0"], "rate and slo must be above 0"),
        (["serve", "--rate", "inf"], "rate and slo must be above 0"),
        (["serve", "--itl", "nan"], "rate and slo must be above 0 and itl not negative, not 20.0, 1.0 and nan"),
        (["serve", "--price", "-1"], "price must be a number, not negative, not -1"),
        (["serve", "--out", "nowhere/load.svg"], "no folder nowhere for the picture"),
        (["serve", "--gpus", "3"], "32 heads and 8 kv_heads cannot be shared out over 3"),
        (["serve", "--measured", "fast"], "--measured takes two numbers"),
        (["serve", "--mine", "serving"], "--mine serving: the starter still has core TODO"),
        (
            ["serve", "--mine", "queueing"],
            "--mine queueing: not called here, only concurrency, rooflines, serving, costs",
        ),
        (["serve", "--mine", "nothing"], "--mine nothing: capacity has no such exercise"),
        (["audit", "missing.csv"], "no table at 'missing.csv': not a file, not one of nim-5000-500"),
        (["audit", "nan.csv"], "nan.csv, row 1: counts must be at least 1, times and rates above 0"),
        (["audit", "two.csv", "--replay"], "no row has concurrency 1"),
        (["audit", "--replay", "--chunk", "-5"], "chunk must be at least 1, or 0 for whole prompts, not -5"),
        (["audit", "empty.csv"], "empty.csv has no column concurrency, ttft, itl, throughput"),
        (["audit", "words.csv"], "words.csv, row 1: numbers are needed"),
        (["audit", "zero.csv"], "zero.csv, row 1: counts must be at least 1"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], words: str, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text("{")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "words.csv").write_text("concurrency,ttft,itl,throughput\nmany,1,1,1\n")
    (tmp_path / "nan.csv").write_text("concurrency,ttft,itl,throughput\n1,1,nan,1\n")
    (tmp_path / "two.csv").write_text("concurrency,ttft,itl,throughput\n2,0.06,0.02,100\n")
    (tmp_path / "zero.csv").write_text("concurrency,ttft,itl,throughput\n0,1,1,1\n")
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().split("\n")[-1].startswith(f"error: {words}"), done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_the_names_that_scripts_use() -> None:
    stable = (
        "Model gpu Precision weight_bytes kv_bytes_per_token request_bytes fit prefill decode calibrate simulate "
        "replicas index_bytes cost_per_1k_requests"
    )
    assert set(stable.split()) <= set(capacity.__all__)
    assert all(hasattr(capacity, name) for name in capacity.__all__)


@pytest.mark.slow
def test_a_hundred_thousand_requests() -> None:
    server = capacity.Server(0.012, 1e-4, 1e-7, 5e-5, blocks=30_000, seats=128, chunk=2048)
    found = capacity.simulate(server, capacity.Workload(100_000, 500, 200, rate=8.0, lengths="geometric"), 1)
    assert found.tokens == found.outputs.sum()
    assert found.held == 0
