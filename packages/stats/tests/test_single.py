"""``python -m stats test``: one test at a time, from files and from numbers that a user types."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as oracle

from stats.cli import main

FIRST = [5.1, 4.9, 6.2, 5.8, 6.0, 5.5, 4.7, 5.9]
SECOND = [4.8, 5.0, 5.1, 5.2, 5.9, 4.9, 4.1, 5.5]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command in a folder with files of numbers; returns the exit status, and what it wrote."""
    (tmp_path / "a.csv").write_text("\n".join(map(str, FIRST)) + "\n")
    (tmp_path / "b.txt").write_text(" ".join(map(str, SECOND)))
    (tmp_path / "one.csv").write_text("value\n1\n")
    (tmp_path / "same.csv").write_text("value\n" + "3\n" * 5)
    (tmp_path / "empty.csv").write_text("value\n")
    pairs = [f"{i},{x},{y}" for i, (x, y) in enumerate(zip(FIRST, SECOND, strict=True))]
    (tmp_path / "ab.csv").write_text("\n".join(["id,a,b", *pairs, "8,,5.0", "9,nan,"]) + "\n")
    (tmp_path / "words.csv").write_text("x,kind\n1,a\nfive,b\n")
    lines = [{"right": {"a": bool(i < 12), "b": bool(3 < i < 13)}, "n": i} for i in range(20)]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "table.csv").write_text("arm,yes,no\nx,30,20\ny,15,40\nz,20,22\n")
    (tmp_path / "long.csv").write_text("arm,got\n" + "x,1\n" * 30 + "x,0\n" * 20 + "y,1\n" * 15 + "y,0\n" * 40)
    (tmp_path / "bytes.csv").write_bytes(b"value\n\xff\xfe\n")
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["stats", "test", *arguments])
        with pytest.raises(SystemExit) as done:
            main()
        said = capsys.readouterr()
        return int(done.value.code or 0), said.out, said.err

    return command


def found(run: Any, *arguments: str) -> dict[str, Any]:
    status, out, err = run(*arguments, "--json")
    assert status == 0, err
    document: dict[str, Any] = json.loads(out)
    return document


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
@pytest.mark.parametrize("kind", ["one", "welch", "student", "paired"])
def test_t_is_scipys(run: Any, kind: str, alternative: Any) -> None:
    a, b = np.array(FIRST), np.array(SECOND)
    arguments: list[str]
    wanted: Any
    if kind == "one":
        arguments, effect = ["a.csv", "--popmean", "5"], (a.mean() - 5) / a.std(ddof=1)
        wanted = oracle.ttest_1samp(a, 5, alternative=alternative)
    elif kind == "paired":
        arguments, effect = ["ab.csv:a", "ab.csv:b", "--paired", "--omit"], (a - b).mean() / (a - b).std(ddof=1)
        wanted = oracle.ttest_rel(a, b, alternative=alternative)
    else:
        arguments = ["a.csv", "b.txt"] + ["--equal-var"] * (kind == "student")
        effect = (a.mean() - b.mean()) / math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
        wanted = oracle.ttest_ind(a, b, equal_var=kind == "student", alternative=alternative)
    got = found(run, "ttest", *arguments, "--alternative", alternative, "--level", "0.9")
    assert got["statistic"] == pytest.approx(wanted.statistic, rel=1e-12)
    assert got["pvalue"] == pytest.approx(wanted.pvalue, rel=1e-10)
    assert got["df"] == pytest.approx(wanted.df)
    low, high = wanted.confidence_interval(0.9)
    ends = [None if math.isinf(end) else pytest.approx(end) for end in (low, high)]
    assert got["confidence_interval"] == ends, "an end that is infinite is null: JSON has no infinity"
    assert got["effect"] == {"name": "Cohen's d", "value": pytest.approx(effect)}


@pytest.mark.parametrize("options", [[], ["--equal-var"]])
def test_summaries_say_the_same_as_the_values(run: Any, options: list[str]) -> None:
    texts = [f"{np.mean(x):.17g},{np.std(x, ddof=1):.17g},{len(x)}" for x in (FIRST, SECOND[:5])]
    Path("few.txt").write_text(" ".join(map(str, SECOND[:5])))
    for files, words in ((["a.csv", "few.txt", *options], [*texts, *options]), (["a.csv"], texts[:1])):
        one, two = (found(run, "ttest", *given, "--popmean", "4.5") for given in (files, words))
        for key in ("statistic", "pvalue", "df", "estimate", "n", "method"):
            assert two[key] == (one[key] if isinstance(one[key], str) else pytest.approx(one[key], rel=1e-9)), key
        assert two["confidence_interval"] == pytest.approx(one["confidence_interval"])
        assert two["effect"]["value"] == pytest.approx(one["effect"]["value"])


def test_a_number_below_0_is_no_option(run: Any) -> None:
    below, above = (found(run, "ttest", words) for words in ("-0.5,1,20", "0.5,1,20"))
    assert below["statistic"] == -above["statistic"]
    assert run("ttest", "a.csv", "--popmeen", "3")[2].startswith("error: ")


def test_tables_come_typed_or_from_files(run: Any) -> None:
    wanted = oracle.chi2_contingency([[30, 20], [15, 40]])
    typed, counted = (found(run, "chi2", *given) for given in (["30,20", "15,40"], ["long.csv:arm", "--across", "got"]))
    assert typed["pvalue"] == counted["pvalue"] == pytest.approx(wanted.pvalue)
    assert typed["confidence_interval"] is None
    three = oracle.chi2_contingency([[30, 20], [15, 40], [20, 22]])
    assert found(run, "chi2", "table.csv")["statistic"] == pytest.approx(three.statistic), "names are no counts"
    plain = oracle.chi2_contingency([[30, 20], [15, 40]], correction=False)
    assert found(run, "chi2", "30,20", "15,40", "--no-yates")["pvalue"] == pytest.approx(plain.pvalue)
    g = oracle.chi2_contingency([[30, 20], [15, 40]], lambda_="log-likelihood")
    assert found(run, "chi2", "30,20", "15,40", "--g")["pvalue"] == pytest.approx(g.pvalue)
    fit = oracle.chisquare([10, 20, 30], [12, 18, 30])
    assert found(run, "chi2", "10,20,30", "--expected", "0.2,0.3,0.5")["pvalue"] == pytest.approx(fit.pvalue)
    assert found(run, "chi2", "10,20,30")["statistic"] == pytest.approx(10)


def test_mcnemar_counts_the_items_that_differ(run: Any) -> None:
    ways = (["r.jsonl:right.a", "r.jsonl:right.b"], ["8,4", "1,7"])
    files, counts = (found(run, "mcnemar", *given) for given in ways)
    assert files == counts
    assert counts["pvalue"] == pytest.approx(2 * (1 + 5) / 2**5)
    assert counts["estimate"] == pytest.approx(3 / 20)
    assert counts["effect"]["value"] == 4
    low, high = counts["confidence_interval"]
    assert low < 0.15 < high
    assert found(run, "mcnemar", "8,4", "1,7", "--midp")["pvalue"] == pytest.approx((2 + 5) / 2**5)
    assert found(run, "mcnemar", "8,4", "0,7")["effect"]["value"] is None, "an odds ratio without a bound"


def test_shares(run: Any) -> None:
    got = found(run, "proportions", "56/70", "48/80")
    # The first example of Newcombe 1998, table II, method 10.
    assert got["confidence_interval"] == pytest.approx([0.0524, 0.3339], abs=5e-5)
    wanted = oracle.chi2_contingency([[56, 14], [48, 32]], correction=False)
    assert (got["pvalue"], got["estimate"]) == (pytest.approx(wanted.pvalue), pytest.approx(0.2))
    assert found(run, "proportions", "5/20", "7/20", "15/30")["df"] == 2
    one = found(run, "proportions", "13/40", "--base", "0.2")
    z = (13 - 8) / math.sqrt(40 * 0.2 * 0.8)
    assert one["pvalue"] == pytest.approx(2 * oracle.norm.sf(z))
    ends = oracle.binomtest(13, 40).proportion_ci(0.95, "wilson")
    assert one["confidence_interval"] == pytest.approx([ends.low, ends.high])


@pytest.mark.parametrize(("k", "n"), [(0, 12), (3, 10), (12, 12), (50, 80)])
def test_exact_shares(run: Any, k: int, n: int) -> None:
    got = found(run, "proportions", f"{k}/{n}", "--exact", "--base", "0.4", "--level", "0.9")
    law = oracle.binom(n, 0.4)
    wanted = min(1.0, 2 * min(law.cdf(k), law.sf(k - 1)))
    assert got["pvalue"] == pytest.approx(wanted, rel=1e-9)
    assert got["log_pvalue"] == pytest.approx(math.log(wanted), rel=1e-9, abs=1e-12)
    ends = oracle.binomtest(k, n).proportion_ci(0.9, "exact")
    assert got["confidence_interval"] == pytest.approx([ends.low, ends.high], abs=1e-9)
    two = found(run, "proportions", f"{k}/{n}", "8/12", "--exact")
    tables = oracle.hypergeom(n + 12, k + 8, n)
    gaps = np.array([abs(i / n - (k + 8 - i) / 12) for i in range(n + 1)])
    seen = np.array([tables.pmf(i) for i in range(n + 1)])
    assert two["pvalue"] == pytest.approx(seen[gaps >= abs(k / n - 8 / 12) - 1e-12].sum(), rel=1e-9)


def test_what_underflows_is_told_by_its_logarithm(run: Any) -> None:
    status, out, _ = run("chi2", "3000000,10", "20,4000000")
    assert status == 0
    got = found(run, "chi2", "3000000,10", "20,4000000")
    assert got["pvalue"] == 0
    assert f"log p {got['log_pvalue']:.6g}" in out
    assert got["log_pvalue"] == pytest.approx(-got["statistic"] / 2, rel=1e-5)
    assert "7000030 in all" in out


def test_tables_for_readers(run: Any) -> None:
    status, out, err = run("ttest", "ab.csv:a", "b.txt", "--omit", "--alternative", "greater")
    assert (status, err) == (0, "")
    assert "ab.csv:a: mean 5.5125" in out, "a name is a name: no emoji, no markup"
    assert "Welch's t, greater" in out
    assert "95 % interval" in out
    status, out, err = run("chi2", "1,2", "3,4")
    assert status == 0
    assert err.startswith("note: 1.2 counts expected in a cell")
    assert "by +3.20 standard errors" in run("chi2", "table.csv")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ttest", "nowhere.csv"], "[Errno 2] No such file or directory: 'nowhere.csv'"),
        (["ttest", "empty.csv"], "empty.csv has no numbers"),
        (["ttest", "one.csv"], "one.csv: 1 value that can be used, at least 2 are needed"),
        (["ttest", "same.csv"], "all values are the same: there is no spread"),
        (["ttest", "same.csv", "same.csv"], "all values are the same: there is no spread"),
        (["ttest", "ab.csv:a"], "ab.csv:a, value 9: missing; --omit leaves such out"),
        (["ttest", "a.csv", "ab.csv:b", "--paired"], "pairs need as many values on both sides, not 8 in a.csv and 10"),
        (["ttest", "a.csv", "--paired"], "1 samples: a t-test takes one or two, a paired one two"),
        (["ttest", "a.csv", "a.csv", "a.csv"], "3 samples: a t-test takes one or two"),
        (["ttest", "ab.csv"], "ab.csv has the fields id, a, b: name one, as ab.csv:id"),
        (["ttest", "ab.csv:c"], "ab.csv, record 1: no field 'c', only id, a, b"),
        (["ttest", "words.csv:x"], "words.csv, record 2: x is 'five', must be a finite number"),
        (["ttest", "bytes.csv"], "bytes.csv is not text in UTF-8"),
        (["ttest", "5,1,30", "a.csv"], "5,1,30 a.csv: summaries do not go with files, nor with --paired"),
        (["ttest", "5,1"], "'5,1' must be a file, or mean,sd,n"),
        (["ttest", "5,-1,30"], "'5,-1,30' must be a file, or mean,sd,n"),
        (["ttest", "5,1,nan"], "'5,1,nan' must be a file, or mean,sd,n"),
        (["ttest", "5,0,30"], "all values are the same"),
        (["ttest", "a.csv", "--alternative", "more"], "alternative is 'more', must be one of two-sided, less, greater"),
        (["ttest", "a.csv", "--level", "95"], "level is 95.0, must lie between 0 and 1"),
        (["ttest", "a.csv", "--mine", "students"], "--mine students: the starter still has core TODO"),
        (["chi2", "1,2", "3"], "the rows have 2, 1 counts"),
        (["chi2", "1,-2", "3,4"], "counts must be finite, none negative, and not all 0"),
        (["chi2", "0,2", "0,4"], "a row or column has nothing but zeros"),
        (["chi2", "0,0"], "counts must be finite, none negative, and not all 0"),
        (["chi2", "5"], "1 counts less 1 less ddof = 0 leave 0 degrees of freedom"),
        (["chi2", "1,2", "3,x"], "'3,x' must be numbers with commas between them"),
        (["chi2", "10,20", "--expected", "0.2,0.7"], "--expected [0.2, 0.7]: must be 2 shares that sum to 1"),
        (["chi2", "10,20", "--expected", "0,1"], "f_exp has shape (2,) and least 0.0"),
        (["chi2", "1,2", "3,4", "--expected", "0.5,0.5"], "--expected goes with a single row"),
        (["chi2", "10,20", "--g"], "one row: --g needs a table"),
        (["chi2", "long.csv:what", "--across", "got"], "long.csv, record 1: no field 'what', only arm, got"),
        (["chi2", "empty.csv:value", "--across", "value"], "empty.csv: value and value must have at least two values"),
        (["mcnemar", "8,4"], "1 arguments: must be two files, or two rows of counts"),
        (["mcnemar", "8,4,1", "1,7,2"], "[8.0, 4.0, 1.0, 1.0, 7.0, 2.0]: must be 2 x 2 whole counts"),
        (["mcnemar", "8,-4", "1,7"], "[8.0, -4.0, 1.0, 7.0]: must be 2 x 2 whole counts"),
        (["mcnemar", "8,nan", "1,7"], "[8.0, nan, 1.0, 7.0]: must be 2 x 2 whole counts"),
        (["mcnemar", "a.csv", "b.txt"], "a.csv and b.txt: McNemar's test takes 0 and 1"),
        (["mcnemar", "r.jsonl:right.a", "a.csv"], "pairs need as many values on both sides, not 20 in r.jsonl:right.a"),
        (["mcnemar", "0,0", "0,0"], "0 items"),
        (["proportions", "5/4"], "'5/4': successes must not be more than units"),
        (["proportions", "-5/4", "1/2"], "'-5/4' must be"),
        (["proportions", "0/0"], "'0/0': successes must not be more than units, of which at least 1"),
        (["proportions", "3/10", "--base", "1.5"], "--base 1.5: must lie between 0 and 1"),
        (["proportions", "3/10", "--level", "1"], "level is 1.0, must lie between 0 and 1"),
        (["proportions", "0/10", "0/20"], "all units are successes, or none is"),
        (["proportions", "1/10", "2/10", "3/10", "--exact"], "--exact takes one or two shares"),
    ],
)
def test_mistakes_are_one_line(run: Any, arguments: list[str], words: str) -> None:
    status, out, err = run(*arguments)
    assert status != 0
    assert not out
    assert err.startswith(f"error: {words}"), err
    assert err.count("\n") == 1
