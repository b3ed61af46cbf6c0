"""``python -m stats``: what it reads, prints and refuses."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as oracle

import stats.pairing.solution as pairing
from stats.cli import main
from stats.compare import compare, mcnemar_power, read

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


@pytest.mark.parametrize(("n", "share"), [(6, 0.5), (9, 0.9), (17, 0.2), (30, 0.4)])
@pytest.mark.parametrize("effect", [0.0, 0.1, -0.2, 0.6])
def test_mcnemars_power_is_that_of_all_tables(n: int, share: float, effect: float) -> None:
    up, down = (max(share, abs(effect)) + effect) / 2, (max(share, abs(effect)) - effect) / 2
    wanted = 0.0
    for b in range(n + 1):
        for c in range(n + 1 - b):
            tail = sum(math.comb(b + c, i) for i in range(min(b, c) + 1)) / 2 ** (b + c)
            if 2 * tail <= 0.05:
                ways = math.comb(n, b) * math.comb(n - b, c)
                wanted += ways * up**b * down**c * max(0.0, 1 - up - down) ** (n - b - c)
    assert mcnemar_power(n, share)(effect) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_a_larger_difference_is_found_more_often() -> None:
    for n, share in ((8, 0.5), (300, 0.07), (4000, 0.3)):
        power = mcnemar_power(n, share)
        found = [power(effect) for effect in np.linspace(0, 1, 60)]
        assert (np.diff(found) >= -1e-12).all(), f"{n} items, {share:.0%} apart"
        assert found[0] < 0.05, "without a difference McNemar's test errs on the safe side"
        assert found[-1] == pytest.approx(1), "all items apart, all in one direction"


@pytest.mark.parametrize(("n", "apart", "up"), [(8, 3, 3), (40, 10, 9), (1500, 25, 15), (2000, 600, 330)])
def test_the_detectable_difference_of_right_and_wrong(n: int, apart: int, up: int) -> None:
    first = [1.0] * up + [0.0] * (n - up)
    second = [0.0] * up + [1.0] * (apart - up) + [0.0] * (n - apart)
    found = compare(scored(first), scored(second), pairing)
    assert found.detectable is not None
    power = mcnemar_power(n, apart / n)
    assert power(found.detectable) >= 0.8 > power(found.detectable * (1 - 1e-5))
    assert found.power == pytest.approx(power(found.estimate))


def spread_out(n: int) -> np.ndarray:
    """Return differences with a mean of 0 and a standard deviation of 1."""
    d = np.random.default_rng(0).normal(0, 1, n)
    return np.asarray((d - d.mean()) / d.std(ddof=1))


def test_the_detectable_difference_is_found_with_the_power_that_was_asked() -> None:
    d = spread_out(400)
    found = compare(scored(list(d)), scored([0.0] * 400), pairing)
    assert found.detectable is not None
    cut = oracle.t.isf(0.025, 399)
    shift = 20 * found.detectable
    both = oracle.nct.sf(cut, 399, shift) + oracle.nct.cdf(-cut, 399, shift)
    assert both == pytest.approx(0.8, rel=1e-9), "the paired t-test's power"
    assert found.power == pytest.approx(0.05), "no difference was seen: as many alarms as were allowed"
    again = compare(scored(list(d + found.detectable)), scored([0.0] * 400), pairing)
    assert again.power == pytest.approx(0.8, rel=1e-9)


def test_the_power_of_scores_is_what_sign_flips_have() -> None:
    wanted = compare(scored(list(spread_out(25) + 0.5)), scored([0.0] * 25), pairing).power
    generator, runs = np.random.default_rng(1), 500
    hits = sum(
        pairing.permutation_test(generator.normal(0.5, 1, 25), np.zeros(25), resamples=999, seed=i).pvalue <= 0.05
        for i in range(runs)
    )
    assert wanted is not None
    # Three standard errors, and 0.02 for a test that is not quite the one whose power is told.
    assert abs(hits / runs - wanted) < 3 * math.sqrt(wanted * (1 - wanted) / runs) + 0.02, f"{hits} of {runs}, {wanted}"


def test_clusters_of_one_size_have_the_power_of_their_means() -> None:
    means = spread_out(30) + 0.4
    docs = [str(i) for i in range(30) for _ in range(5)]
    together = compare(scored(list(np.repeat(means, 5)), docs), scored([0.0] * 150, docs), pairing, clustered=True)
    alone = compare(scored(list(means)), scored([0.0] * 30), pairing)
    assert together.power == pytest.approx(alone.power, rel=1e-9)
    assert together.detectable == pytest.approx(alone.detectable, rel=1e-9)
    assert "29.0 degrees of freedom" in together.basis


def test_few_items_find_nothing_however_large() -> None:
    docs, zeros = [name for name in "abcde" for _ in range(20)], scored([0.0] * 100)
    for found, units in (
        (compare(scored([1, 1, 1, 1, 0]), scored([0] * 5), pairing), "5 items"),
        (compare(scored([0.3, 0.4, 0.9]), scored([0.1] * 3), pairing), "3 items"),
        (compare(scored(list(spread_out(100)), docs), zeros, pairing, clustered=True), "5 clusters"),
    ):
        assert (found.power, found.detectable) == (0.0, None)
        assert found.basis.startswith(f"{units} have")
    six = compare(scored([1] * 5 + [0]), scored([0] * 6), pairing)
    assert six.detectable == pytest.approx(0.8 ** (1 / 6), rel=1e-5), "all six have to differ, and in one direction"


def test_scores_that_never_differ_say_nothing_of_what_could_be_found() -> None:
    for values in ([1, 0], [1.0] * 500, [0.5, 0.5]):
        found = compare(scored(values), scored(values), pairing)
        assert (found.pvalue, found.detectable, found.power) == (1.0, None, None)
    found = compare(scored([0.3, 0.7, 0.2] * 9), scored([0.2, 0.6, 0.1] * 9), pairing)
    assert (found.detectable, found.power) == (None, None), "0.1 each time, but for rounding"


def test_thousands_of_scores_of_any_size() -> None:
    generator = np.random.default_rng(1)
    first = generator.random(1500)
    found = compare(scored(list(first)), scored(list(first - 0.01 * generator.random(1500))), pairing)
    assert found.pvalue == pytest.approx(1 / 10_001)
    assert found.method == "sign-flip, 10000 patterns"


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
    for arguments in (
        ["ttest", "--n", "64"],
        ["anova", "--n", "64", "--power", "0.8"],
        ["ttest", "--effect", "0", "--power", "0.8"],
        ["ttest", "--effect", "0.2", "--power", "1"],
        ["ttest", "--effect", "0.2", "--power", "0.03"],
        ["ttest", "--effect", "0.2", "--n", "1"],
        ["proportions", "--n", "3", "--power", "0.99"],
        ["chi2", "--effect", "-0.2", "--power", "0.8"],
    ):
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


def test_the_readme_shows_what_the_tool_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    shown = [command for block in text.split("```")[1::2] for command in block.split("$ python -m stats")[1:]]
    assert len(shown) >= 4
    for command in shown:
        arguments, _, wanted = command.partition("\n")
        assert run(monkeypatch, tmp_path, *arguments.split()) == 0
        said = [line.rstrip() for line in capsys.readouterr().out.rstrip().split("\n")]
        assert said == wanted.rstrip().split("\n"), arguments


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.jsonl", "missing.jsonl"], "[Errno 2]"),
        (["a.jsonl", "other.jsonl"], "the items are not the same: 4 are in one file only, such as '1'"),
        (["a.jsonl", "twice.jsonl"], "twice.jsonl, record 2: the id '0' comes twice"),
        (["a.jsonl", "words.jsonl"], "words.jsonl, line 1 is not JSON"),
        (["a.jsonl", "empty.jsonl"], "empty.jsonl has no records"),
        (["a.jsonl", "a.jsonl", "--metric", "score"], "a.jsonl, record 1: no field 'score', only id, correct, doc"),
        (["a.jsonl", "a.jsonl", "--metric", "doc"], "a.jsonl, record 1: doc is 'x', must be a finite number"),
        (["a.jsonl", "a.jsonl", "--cluster-by", "doc"], "1 cluster, at least two"),
        (["a.jsonl", "nan.jsonl"], "nan.jsonl, record 1: correct is nan, must be a number"),
        (["a.jsonl", "a.jsonl", "--mine", "moments"], "--mine moments: not called here, only pairing, sample_size"),
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
