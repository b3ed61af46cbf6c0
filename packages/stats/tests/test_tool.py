"""``python -m stats``: what it reads, prints and refuses."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import stats.pairing.solution as pairing
from stats.cli import main
from stats.compare import compare, read

KEYS = {"estimate", "confidence_interval", "pvalue", "method", "n", "power", "detectable"}


def run(monkeypatch: pytest.MonkeyPatch, cwd: Path, *arguments: str) -> int:
    monkeypatch.chdir(cwd)
    monkeypatch.setattr(sys, "argv", ["stats", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    return int(done.value.code or 0)


def write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def scored(values: Sequence[float], docs: list[str] | None = None) -> dict[str, tuple[float, str]]:
    names = docs or [""] * len(values)
    return {str(i): (value, doc) for i, (value, doc) in enumerate(zip(values, names, strict=True))}


def test_right_and_wrong_take_mcnemar() -> None:
    found = compare(scored([1] * 30 + [0] * 10), scored([1] * 20 + [0] * 20), pairing)
    assert found.method == "McNemar, exact"
    assert found.pvalue == pytest.approx(2 / 2**10)
    assert (found.estimate, found.n, found.means) == (0.25, 40, (0.75, 0.5))
    low, high = found.confidence_interval
    assert 0 < low < 0.25 < high < 0.5


def test_the_detectable_difference_is_found_with_the_power_that_was_asked() -> None:
    generator = np.random.default_rng(0)
    d = generator.normal(0, 1, 400)
    d = (d - d.mean()) / d.std(ddof=1)
    found = compare(scored(list(d)), scored([0.0] * 400), pairing)
    assert found.detectable is not None
    assert found.detectable == pytest.approx((1.959964 + 0.841621) / 20, rel=1e-5)
    again = compare(scored(list(d + found.detectable)), scored([0.0] * 400), pairing)
    assert again.power == pytest.approx(0.8, abs=1e-3)


def test_scores_that_never_differ_say_nothing_of_what_could_be_found() -> None:
    for values in ([1, 0], [1.0] * 500, [0.5, 0.5]):
        found = compare(scored(values), scored(values), pairing)
        assert (found.pvalue, found.detectable, found.power) == (1.0, None, None)


def test_clusters_are_flipped_whole() -> None:
    docs = [name for name in "abcdefgh" for _ in range(50)]
    first = [1.0] * 250 + [0.0] * 150  # five documents all right, three all wrong
    apart, together = (
        compare(scored(first, docs), scored([0.0] * 400, docs), pairing, clustered=c) for c in (False, True)
    )
    assert apart.pvalue < 1e-50
    assert together.pvalue == pytest.approx(2 / 2**5), "eight documents, five of which differ: no more than 5 coins"
    assert together.clusters == 8
    assert together.estimate == apart.estimate == 0.625
    assert (together.detectable or 0) > 3 * (apart.detectable or 1)
    assert "few clusters" in together.why


def test_files_of_either_kind_are_read_alike(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"id": i, "correct": i % 2, "doc": "a"} for i in range(6)]
    write(tmp_path / "a.jsonl", rows)
    (tmp_path / "a.csv").write_text("id,correct,doc\n" + "".join(f"{i},{i % 2},a\n" for i in range(6)))
    nested: list[dict[str, object]] = [{"doc_id": i, "metrics": {"acc": i % 2}} for i in range(6)]
    write(tmp_path / "n.jsonl", nested)
    wanted = read(tmp_path / "a.jsonl", "correct", "id", "doc")
    assert wanted["3"] == (1.0, "a")
    assert read(tmp_path / "a.csv", "correct", "id", "doc") == wanted
    assert read(tmp_path / "n.jsonl", "metrics.acc", "doc_id", None)["3"] == (1.0, "")


def test_json_is_one_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.jsonl", [{"id": i, "correct": int(i > 3)} for i in range(20)])
    write(tmp_path / "b.jsonl", [{"id": i, "correct": int(i > 8)} for i in reversed(range(20))])
    assert run(monkeypatch, tmp_path, "compare", "a.jsonl", "b.jsonl", "--json", "--out", "r") == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == KEYS
    assert found["estimate"] == 0.25
    assert "</svg>" in (tmp_path / "r" / "compare.svg").read_text()


def test_sample_logs_of_the_harness_are_read_as_they_are(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"doc_id": i, "doc": {"question": "?"}, "target": "4", "filter": way, "exact_match": float(i > 3)}
        for i in range(10)
        for way in ("strict-match", "flexible-extract")
    ]
    write(tmp_path / "samples_gsm8k.jsonl", rows)
    found = read(tmp_path / "samples_gsm8k.jsonl", None, None, None)
    assert len(found) == 20
    assert found["7 strict-match"] == (1.0, "")
    write(tmp_path / "samples_arc.jsonl", [{"doc_id": i, "acc": i % 2, "acc_norm": 1} for i in range(4)])
    assert read(tmp_path / "samples_arc.jsonl", None, None, None)["1"] == (1.0, "")


def test_many_models_are_a_matrix_corrected_for_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, right in (("a", 40), ("b", 30), ("c", 29)):
        write(tmp_path / f"{name}.jsonl", [{"id": i, "correct": int(i < right)} for i in range(60)])
    assert run(monkeypatch, tmp_path, "compare", "a.jsonl", "b.jsonl", "c.jsonl", "--json", "--out", "r") == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["first"], row["second"]) for row in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [row["pvalue"] for row in found] == pytest.approx([2 / 2**10, 2 / 2**11, 1.0])
    assert [row["pvalue_holm"] for row in found] == pytest.approx([4 / 2**10, 6 / 2**11, 1.0])
    assert "</svg>" in (tmp_path / "r" / "matrix.svg").read_text()


def test_an_experiment_by_its_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, tmp_path, "ab", "530/5000", "460/5000", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["estimate"] == pytest.approx(0.014)
    error = ((0.106 * 0.894 + 0.092 * 0.908) / 4999) ** 0.5
    assert found["confidence_interval"] == pytest.approx([0.014 - 1.9602 * error, 0.014 + 1.9602 * error], rel=1e-3)
    assert found["srm_pvalue"] == 1.0
    assert found["first_better"] > 0.98
    assert run(monkeypatch, tmp_path, "ab", "530/5300", "460/4700") == 0
    assert "the split cannot be trusted" in capsys.readouterr().out
    for arguments, words in (
        (["53", "4/10"], "'53' must be successes/units"),
        (["11/10", "4/10"], "'11/10': successes must not be more"),
        (["5/10", "4/10", "--weights", "0.5"], "--weights 0.5: must be two shares"),
        (["5/10", "4/10", "--weights", "0.5,0.6"], "weights are [0.5, 0.6], must not be negative and sum to 1"),
    ):
        assert run(monkeypatch, tmp_path, "ab", *arguments) != 0
        assert capsys.readouterr().err.startswith(f"error: {words}")


def test_what_is_left_out_of_power_is_solved_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, tmp_path, "power", "ttest", "--effect", "0.5", "--power", "0.8") == 0
    assert capsys.readouterr().out.split() == ["n", "64"], "Cohen 1988, table 2.4.1: 64 in each sample"
    assert run(monkeypatch, tmp_path, "power", "ttest", "--effect", "0.5", "--n", "64", "--json") == 0
    assert json.loads(capsys.readouterr().out)["power"] == pytest.approx(0.8015, abs=1e-4)
    for arguments in (["ttest", "--n", "64"], ["anova", "--n", "64", "--power", "0.8"]):
        assert run(monkeypatch, tmp_path, "power", *arguments) != 0
        said = capsys.readouterr()
        assert said.err.startswith("error: ")
        assert said.err.count("\n") == 1
        assert not said.out


def test_the_demonstration_compares_two_real_systems(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, tmp_path) == 0
    said = capsys.readouterr().out
    assert "clusters" in said
    assert "p-value" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.jsonl", "missing.jsonl"], "[Errno 2]"),
        (["a.jsonl", "other.jsonl"], "the items are not the same: 4 are in one file only, such as '1'"),
        (["a.jsonl", "twice.jsonl"], "twice.jsonl, record 2: the id '0' comes twice"),
        (["a.jsonl", "words.jsonl"], "words.jsonl, line 1 is not JSON"),
        (["a.jsonl", "empty.jsonl"], "empty.jsonl has no records"),
        (["a.jsonl", "a.jsonl", "--metric", "score"], "a.jsonl, record 1: no field 'score', only id, correct, doc"),
        (["a.jsonl", "a.jsonl", "--metric", "doc"], "could not convert"),
        (["a.jsonl", "a.jsonl", "--cluster-by", "doc"], "1 cluster, at least two"),
        (["a.jsonl", "nan.jsonl"], "nan.jsonl, record 1: correct is nan"),
        (["a.jsonl", "a.jsonl", "--mine", "pairing"], "--mine pairing: the starter still has core TODO 1, 2, 3, 4"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(tmp_path / "a.jsonl", [{"id": i, "correct": i % 2, "doc": "x"} for i in range(3)])
    write(tmp_path / "other.jsonl", [{"id": i, "correct": 1} for i in (0, 5, 6)])
    write(tmp_path / "twice.jsonl", [{"id": 0, "correct": 1}] * 2)
    write(tmp_path / "nan.jsonl", [{"id": 0, "correct": math.nan}])
    (tmp_path / "words.jsonl").write_text("hello\n")
    (tmp_path / "empty.jsonl").write_text("\n")
    assert run(monkeypatch, tmp_path, "compare", *arguments) != 0
    said = capsys.readouterr()
    assert said.err.strip().split("\n")[-1].startswith(f"error: {words}"), said.err
    assert "Traceback" not in said.err
    assert not said.out
