"""The tool: real text, stable JSON, one readable line for what is wrong."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import models
from harness.exercise import choose_all
from kvcache.cli import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["kvcache", *arguments])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_generate_streams_the_text_of_transformers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = "def main(argv):\n"
    model, tokenizer = models.load("tinylm")
    ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    options: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": -1, "pad_token_id": 0}
    wanted = tokenizer.decode(model.generate(ids, attention_mask=torch.ones_like(ids), **options)[0, ids.shape[1] :])
    for cache in ("contiguous", "paged", "sliding", "kivi8"):
        assert run(monkeypatch, "generate", "--prompt", prompt, "--tokens", "12", "--cache", cache) == 0
        out, err = capsys.readouterr()
        assert out.rstrip("\n") == (prompt + wanted).rstrip("\n"), f"{cache}: {out!r}"
        assert "tokens/s" in err


def test_generate_draws_by_its_seed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def text(*options: str) -> str:
        assert run(monkeypatch, "generate", "--tokens", "12", *options) == 0
        return capsys.readouterr().out

    drawn = [text("--temperature", "1.5", "--seed", seed) for seed in ("1", "1", "2")]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    greedy = text()
    for narrow in (("--top-k", "1"), ("--top-p", "1e-6"), ("--min-p", "1")):
        assert text("--temperature", "1.5", *narrow) == greedy, f"{narrow} leaves the most likely token"


@pytest.mark.parametrize(("tokens", "sampling"), [("12", ()), ("30", ("--temperature", "1.5", "--seed", "3"))])
def test_generate_keeps_to_a_pattern(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, tokens: str, sampling: Any
) -> None:
    wanted = r"[a-z]+(, [a-z]+)*\."
    assert run(monkeypatch, "generate", "--prompt", "x = ", "--tokens", tokens, "--regex", wanted, *sampling) == 0
    text = capsys.readouterr().out.removeprefix("x = ").removesuffix("\n")
    assert re.fullmatch(wanted, text), text
    file = tmp_path / "schema.json"
    properties = {"name": {"type": "string"}, "tags": {"type": "array", "items": {"enum": ["a", 1]}, "minItems": 1}}
    file.write_text(json.dumps({"type": "object", "properties": properties, "required": ["name", "tags"]}))
    assert run(monkeypatch, "generate", "--prompt", "x = ", "--tokens", "40", "--schema", str(file), *sampling) == 0
    found = json.loads(capsys.readouterr().out.removeprefix("x = "))
    assert isinstance(found["name"], str)
    assert set(found["tags"]) <= {"a", 1}
    assert found["tags"]


@pytest.mark.parametrize("cache", ["contiguous", "paged", "sliding"])
def test_the_readers_code_attends_and_turns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cache: str
) -> None:
    command = ("generate", "--tokens", "8", "--cache", cache)
    assert run(monkeypatch, *command) == 0
    wanted, calls = capsys.readouterr().out, dict.fromkeys(("attention", "rotary"), 0)

    def own(package: str, names: tuple[str, ...], mine: str) -> dict[str, ModuleType]:
        found = choose_all(package, names, mine)
        for name in calls.keys() & found.keys():
            function = "attend_grouped" if name == "attention" else "rotate"
            wrapped = counted(name, getattr(found[name], function))
            found[name] = ModuleType(f"{package}.{name}.starter")
            setattr(found[name], function, wrapped)
        return found

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            calls[name] += 1
            return function(*given)

        return call

    monkeypatch.setattr("kvcache.cli.choose_all", own)
    assert run(monkeypatch, *command) == 0
    assert capsys.readouterr().out == wanted, "the same functions in the reader's place give the same text"
    assert calls["attention"] == (0 if cache == "sliding" else 5 * 8), "5 layers, 8 steps"
    assert calls["rotary"] == 5 * 8 * (2 if cache == "sliding" else 1)


def test_memory_counts_bytes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("memory", "--context", "100", "--batch", "3", "--gigabytes", "1", "--json")
    assert run(monkeypatch, *arguments) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["bytes_per_token"] == 2 * 5 * 2 * 64 * 2
    assert facts["bytes_of_batch"] == 300 * facts["bytes_per_token"]
    assert facts["requests_that_fit"] == (10**9 - facts["weight_bytes"]) // (100 * facts["bytes_per_token"])
    model, _ = models.load("tinylm")
    assert facts["parameters"] == sum(p.numel() for p in model.parameters())
    assert run(monkeypatch, "memory") == 0
    assert "2,560" in capsys.readouterr().out


def test_compare_as_json_and_as_a_picture(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    few, wanted = ("--tokens", "6", "--rounds"), tmp_path / "both.svg"
    assert run(monkeypatch, "compare", "--json", "--contexts", "16", "--out", str(wanted), *few, "2") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert {"transformers DynamicCache", "transformers StaticCache", "contiguous", "paged"} <= set(rows)
    for name in ("contiguous", "paged", "transformers StaticCache"):
        assert rows[name]["tokens_equal"], f"{name} gives other tokens than generate"
        assert rows[name]["tokens_per_second"] > 0
    assert rows["transformers DynamicCache"]["ratio_to_generate"] == 1
    assert rows["contiguous"]["cache_bytes"] == 22 * 2 * 5 * 2 * 64 * 4
    picture = tmp_path / "compare.png"
    assert run(monkeypatch, "compare", "--contexts", "8,16", *few, "1", "--out", str(picture)) == 0
    assert "contiguous" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["both.svg", "compare.png"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("generate", "--cache", "none"), "--cache none: one of contiguous, sliding, paged, kivi4, kivi8"),
        (("generate", "--tokens", "0"), "--tokens 0"),
        (("generate", "--tokens", "600"), "the model's limit is 512"),
        (("generate", "--cache", "sliding", "--window", "0"), "window is 0"),
        (("generate", "--temperature", "-1"), "temperature is -1"),
        (("generate", "--top-k", "-1"), "top-k is -1"),
        (("generate", "--top-p", "0"), "top-p is 0"),
        (("generate", "--min-p", "1.5"), "min-p is 1.5"),
        (("generate", "--mine", "nothing"), "no such exercise"),
        (("generate", "--mine", "attention"), "--mine attention: the starter still has core TODO 1, 2, 3, 4"),
        (("generate", "--mine", "sampling"), "not called here, only attention, rotary, caches"),
        (("generate", "--mine", "attention", "--cache", "sliding"), "not called here, only rotary, caches"),
        (("compare", "--mine", "speculation"), "not called here, only attention, rotary, caches, paging, kivi"),
        (("generate", "--regex", "(a"), "'(a' is not a regular expression"),
        (("generate", "--regex", "^a"), "no anchors"),
        (("generate", "--regex", "a{90}", "--tokens", "5"), "5 are left"),
        (("generate", "--schema", "nowhere.json"), "nowhere.json"),
        (("generate", "--tokens", "1000000000000"), "the model's limit is 512"),
        (("generate", "--prompt", "x" * 2000), "the model's limit is 512"),
        (("generate", "--prompt", ""), "--prompt has no token"),
        (("generate", "--cache", "sliding", "--window", "1000000000000"), "beyond the model's limit of 512"),
        (("generate", "--cache", "sliding", "--sinks", "-1"), "sinks is -1"),
        (("generate", "--temperature", "nan"), "temperature is nan"),
        (("generate", "--temperature", "inf"), "temperature is inf"),
        (("generate", "--top-p", "nan"), "top-p is nan"),
        (("generate", "--top-p", "1.01"), "top-p is 1.01"),
        (("generate", "--top-p", "half"), "--top-p"),
        (("generate", "--temperature", "1", "--seed", "-1"), "--seed -1"),
        (("generate", "--temperature", "1", "--seed", str(2**70)), "2**63 - 1"),
        (("generate", "--model", "nowhere"), "no model at 'nowhere'"),
        (("generate", "--regex", "a", "--schema", "s.json"), "one of them is wanted"),
        (("generate", "--regex", "(" * 5000 + "a" + ")" * 5000), "is nested too deeply"),
        (("generate", "--regex", "(a{1000}){1000}"), "needs more than"),
        (("memory", "--context", "-1"), "--context -1"),
        (("memory", "--gigabytes", "nan"), "--gigabytes nan"),
        (("memory", "--gigabytes", "inf"), "--gigabytes inf"),
        (("memory", "--weight-bits", "0"), "--weight-bits 0"),
        (("memory", "--model", "nowhere"), "no model at 'nowhere'"),
        (("compare", "--contexts", ""), "positive numbers are wanted"),
        (("compare", "--contexts", "8", "--rounds", "0"), "--rounds 0"),
        (("compare", "--contexts", "8", "--tokens", "-3"), "--tokens -3"),
        (("compare", "--contexts", "8,x"), "positive numbers are wanted"),
        (("compare", "--contexts", "500"), "beyond the model's limit of 512"),
        (("compare", "--out", "table.txt"), "ends in .png, .svg, .pdf"),
        (("compare", "--out", f"{__file__}/compare.png", "--contexts", "500"), "test_cli.py"),
        (("generate", "--device", "tpu"), "no device 'tpu' here"),
        (("compare", "--device", "tpu"), "no device 'tpu' here"),
        (("generate", "--nope"), "--nope"),
    ],
)
def test_bad_input_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert run(monkeypatch, *arguments) != 0
    err = capsys.readouterr().err.strip()
    assert err.startswith("error: ")
    assert "\n" not in err
    assert words in err, err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"type": "string", "pattern": "a"}', "pattern cannot be kept to"),
        (b'{"enum": [NaN]}', "JSON"),
        (b"3", "a schema is an object, not 3"),
    ],
)
def test_bad_schemas_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes, words: str
) -> None:
    file = tmp_path / "schema.json"
    file.write_bytes(content)
    assert run(monkeypatch, "generate", "--schema", str(file)) != 0
    err = capsys.readouterr().err.strip()
    assert err.startswith("error: ")
    assert "\n" not in err
    assert words in err, err


CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 61,
    "max_position_embeddings": 64,
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "mistral"}, "unknown architecture"),
        ({"num_key_value_heads": 3}, "not a multiple of 3"),
        ({"model_type": "no such thing"}, "no such thing"),
    ],
)
def test_a_config_that_does_not_fit_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, change: Any, words: str
) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(CONFIG))
    assert run(monkeypatch, "memory", "--model", str(tmp_path), "--json") == 0
    assert json.loads(capsys.readouterr().out)["bytes_per_token"] == 2 * 2 * 2 * 8 * 2
    file.write_text(json.dumps(CONFIG | change))
    assert run(monkeypatch, "memory", "--model", str(tmp_path)) != 0
    err = capsys.readouterr().err.strip()
    assert err.startswith("error: ")
    assert "\n" not in err
    assert words in err, err
