"""``python -m stats ab``: an experiment from one record a unit."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as oracle

from stats.ab import Guardrail, guardrail_of, weights_of
from stats.cli import main
from stats.experiments import solution as experiments

Rows = list[dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write rows into ``e.csv`` and run a command on it; returns the exit status, and what it wrote."""
    monkeypatch.chdir(tmp_path)

    def command(rows: Rows, *arguments: str) -> tuple[int, str, str]:
        lines = [",".join(map(str, rows[0]))] if rows else ["unit,variant,metric"]
        lines += [",".join(map(str, row.values())) for row in rows]
        Path("e.csv").write_text("\n".join(lines) + "\n")
        monkeypatch.setattr(sys, "argv", ["stats", "ab", "e.csv", *arguments])
        with pytest.raises(SystemExit) as done:
            main()
        said = capsys.readouterr()
        return int(done.value.code or 0), said.out, said.err

    return command


def experiment(n: int = 200, arms: tuple[str, ...] = ("control", "new"), seed: int = 0) -> Rows:
    generator = np.random.default_rng(seed)
    rows: Rows = []
    for i in range(n):
        arm, taste = arms[i % len(arms)], generator.normal(10, 3)
        spent = taste + (1.0 if arm == "new" else 0.0) + generator.normal()
        row = {"unit": f"u{i}", "variant": arm, "metric": spent, "earlier": taste + generator.normal()}
        rows.append(row | {"views": int(generator.integers(1, 9)), "latency": 100 + generator.normal()})
    return rows


def side(rows: Rows, arm: str, name: str) -> np.ndarray:
    return np.array([row[name] for row in rows if row["variant"] == arm], float)


def found(run: Any, rows: Rows, *arguments: str) -> dict[str, Any]:
    status, out, err = run(rows, *arguments, "--json")
    assert status == 0, err
    document: dict[str, Any] = json.loads(out)
    return document


def test_means_are_compared_by_welch(run: Any) -> None:
    rows = experiment()
    got = found(run, rows)
    a, b = side(rows, "new", "metric"), side(rows, "control", "metric")
    wanted: Any = oracle.ttest_ind(a, b, equal_var=False)
    (one,) = got["contrasts"]
    assert (got["control"], one["arm"], got["units"]) == ("control", "new", {"control": 100, "new": 100})
    assert got["srm_pvalue"] == 1
    assert one["estimate"] == pytest.approx(a.mean() - b.mean()), "arm less control"
    assert one["means"] == pytest.approx([a.mean(), b.mean()])
    assert one["pvalue"] == one["adjusted"] == pytest.approx(wanted.pvalue)
    assert one["confidence_interval"] == pytest.approx(list(wanted.confidence_interval(0.95)))
    back = found(run, rows, "--control", "new")["contrasts"][0]
    assert (back["arm"], back["estimate"]) == ("control", -one["estimate"])


def test_a_covariate_shortens_the_interval(run: Any) -> None:
    rows = experiment()
    one = found(run, rows, "--before", "earlier")["contrasts"][0]
    sides = [side(rows, arm, name) for name in ("metric", "earlier") for arm in ("new", "control")]
    wanted = experiments.cuped(*sides)
    assert (one["estimate"], one["pvalue"]) == pytest.approx((wanted.estimate, wanted.pvalue))
    plain = experiments.ratio_metric(sides[0], np.ones(100), sides[1], np.ones(100)).standard_error
    assert one["shorter"] == pytest.approx(1 - wanted.standard_error / plain)
    assert one["shorter"] > 0.3
    status, out, _ = run(rows, "--before", "earlier")
    assert status == 0
    assert f"CUPED, Welch's t: the interval is {one['shorter']:.0%} shorter" in out


def test_a_ratio_adds_up_the_parts_of_a_unit(run: Any) -> None:
    rows = experiment()
    one = found(run, rows, "--per", "views")["contrasts"][0]
    sides = [side(rows, arm, name) for arm in ("new", "control") for name in ("metric", "views")]
    wanted = experiments.ratio_metric(*sides)
    assert (one["estimate"], one["pvalue"]) == pytest.approx((wanted.estimate, wanted.pvalue))
    assert one["means"] == pytest.approx([sides[0].sum() / sides[1].sum(), sides[2].sum() / sides[3].sum()])
    parts = [{**row, "metric": row["metric"] / 2, "views": row["views"] / 2} for row in rows for _ in range(2)]
    again = found(run, parts, "--per", "views")
    assert again["contrasts"][0]["pvalue"] == pytest.approx(one["pvalue"])
    assert again["units"]["new"] == 100, "two records are one unit"


def test_who_peeks_gets_an_interval_for_it(run: Any) -> None:
    rows = experiment(300)
    generator = np.random.default_rng(1)
    rows = [rows[i] for i in generator.permutation(300)]
    values = [row["metric"] for row in rows]
    peeks = experiments.msprt(values, [row["variant"] == "new" for row in rows])
    document = found(run, rows, "--sequential")
    contrast = document["contrasts"][0]
    assert contrast["pvalue"] == pytest.approx(float(peeks.pvalue[-1]), rel=1e-9), "the units' order is the file's"
    assert contrast["confidence_interval"] == pytest.approx([peeks.low[-1], peeks.high[-1]], rel=1e-9)
    low, high = found(run, rows)["contrasts"][0]["confidence_interval"]
    assert contrast["confidence_interval"][1] - contrast["confidence_interval"][0] > high - low, "peeking has a price"
    assert "valid at any look" in run(rows, "--sequential")[1]
    for more, words in ((("--before", "earlier"), "--before"), (("--guardrail", "latency:5%"), "--guardrail")):
        status, _, said = run(rows, "--sequential", *more)
        assert (status != 0, said.count("\n")) == (True, 1)
        assert words in said


def test_a_broken_split_is_said_first(run: Any) -> None:
    rows = [row for i, row in enumerate(experiment(800)) if i % 2 or i % 3]
    got = found(run, rows)
    assert got["srm_pvalue"] == pytest.approx(oracle.chisquare(list(got["units"].values())).pvalue)
    status, out, _ = run(rows)
    assert status == 0
    assert out.startswith("sample ratio")
    assert "the split cannot be trusted: find the bug first" in out.split("\n")[0]
    share = got["units"]["new"] / len(rows)
    wanted = found(run, rows, "--weights", f"new={share},control={1 - share}")
    assert wanted["srm_pvalue"] == pytest.approx(1), "weights belong to their arms"


def test_guardrails_are_kept_or_not_shown(run: Any) -> None:
    rows = experiment()
    specs = ("latency:1:rise", "latency:1%:rise", "latency:0.001:fall")
    arguments = [word for spec in specs for word in ("--guardrail", spec)]
    kept = found(run, rows, *arguments)["contrasts"][0]["guardrails"]
    a, b = side(rows, "new", "latency"), side(rows, "control", "latency")
    margins = (1, 0.01 * b.mean(), 0.001)
    harms: tuple[Any, ...] = ("rise", "rise", "fall")
    for got, margin, harm in zip(kept, margins, harms, strict=True):
        wanted = experiments.guardrail(a, b, margin, harm=harm)
        assert got["margin"] == pytest.approx(margin)
        assert got["pvalue"] == pytest.approx(wanted.pvalue)
        assert got["limit"] == pytest.approx(wanted.confidence_interval(0.95)[harm == "rise"])
        assert got["safe"] == (wanted.pvalue <= 0.05)
    assert [got["safe"] for got in kept] == [True, True, False]
    assert "NOT SHOWN SAFE" in run(rows, "--guardrail", specs[2])[1]
    assert "NOT SHOWN SAFE" not in run(rows, "--guardrail", specs[0])[1]


def test_several_arms_are_corrected_and_drawn(run: Any) -> None:
    rows = experiment(300, ("control", "new", "other"))
    got = found(run, rows, "--out", "r")
    new, other = got["contrasts"]
    assert (new["arm"], other["arm"]) == ("new", "other")
    small, large = sorted((new, other), key=lambda one: one["pvalue"])
    assert small["adjusted"] == pytest.approx(min(1, 2 * small["pvalue"]))
    assert large["adjusted"] == pytest.approx(max(large["pvalue"], small["adjusted"]))
    assert "</svg>" in Path("r/ab.svg").read_text()
    assert "p, Holm" in run(rows)[1]


def test_fields_have_the_names_that_people_give_them(run: Any) -> None:
    rows = [{"user_id": row["unit"], "group": row["variant"], "value": row["metric"]} for row in experiment()]
    assert found(run, rows)["metric"] == "value"
    odd = [{"who": row["unit"], "what": row["variant"], "sum": row["metric"]} for row in experiment()]
    names = ("--unit", "who", "--variant", "what", "--metric", "sum")
    assert found(run, odd, *names)["contrasts"] == found(run, rows)["contrasts"]


def test_few_units_are_noted_in_one_line(run: Any) -> None:
    status, _, err = run(experiment(6))
    assert (status, err) == (0, "note: 3.0 units expected in an arm: the p-value is rough below 5\n")


def test_words_for_guardrails_and_weights() -> None:
    assert guardrail_of("latency:5%:rise") == Guardrail("latency", 0.05, relative=True, harm="rise")
    assert guardrail_of("a:b:0.1") == Guardrail("a:b", 0.1, relative=False, harm="fall")
    assert weights_of("control=0.9, new=0.1") == {"control": 0.9, "new": 0.1}


ROW = {"unit": "u", "variant": "a", "metric": 1.0}


@pytest.mark.parametrize(
    ("rows", "arguments", "words"),
    [
        ([], (), "e.csv: 0 variant, none; at least two are needed"),
        ([ROW], (), "e.csv: 1 variant, a; at least two are needed"),
        ([ROW, {**ROW, "variant": "b"}], (), "e.csv, record 2: the unit 'u' is in 'b' and was in 'a'"),
        ([ROW, ROW], (), "e.csv, record 2: the unit 'u' comes twice"),
        ([ROW, {"unit": "v", "variant": "b", "metric": 2}], (), "e.csv: 1 unit in a, at least 2 are needed"),
        ([{**ROW, "metric": ""}], (), "e.csv, record 1: metric is '', must be a number"),
        ([{**ROW, "metric": "much"}], (), "e.csv, record 1: metric is 'much', must be a finite number"),
        ([{**ROW, "metric": "inf"}], (), "e.csv, record 1: metric is 'inf', must be a finite number"),
        ([{**ROW, "metric": "1,2"}], (), "e.csv, record 1: has not as many values as there are fields, 3"),
        (experiment(), ("--metric", "clicks"), "e.csv, record 1: no field 'clicks', only unit, variant, metric"),
        (experiment(), ("--control", "old"), "--control old: no such variant, only control, new"),
        (experiment(), ("--before", "earlier", "--per", "views"), "a ratio has no covariate here"),
        (experiment(), ("--weights", "control=0.5,new=0.4"), "weights are [0.5, 0.4], must not be negative and sum"),
        (experiment(), ("--weights", "control=0.5,old=0.5"), "counts have the arm 'new', weights only"),
        (experiment(), ("--weights", "0.5,0.5"), "--weights 0.5,0.5: must name each variant once"),
        (experiment(), ("--weights", "control=x,new=0.5"), "'x' is no number"),
        (experiment(), ("--guardrail", "latency"), "--guardrail latency: must be METRIC:MARGIN:HARM"),
        (experiment(), ("--guardrail", "latency:-1:rise"), "--guardrail latency:-1:rise: must be METRIC:MARGIN"),
        (experiment(), ("--guardrail", "speed:1:rise"), "e.csv, record 1: no field 'speed'"),
        (experiment(), ("--mine", "experiments"), "--mine experiments: the starter still has core TODO"),
        ([{**row, "metric": 1} for row in experiment()], (), "both arms are constant: without any spread"),
        ([{**row, "earlier": 1} for row in experiment()], ("--before", "earlier"), "the covariate is constant"),
        ([{**row, "views": 0} for row in experiment()], ("--per", "views"), "first_per must not be negative, nor sum"),
        ([{**row, "latency": 0} for row in experiment()], ("--guardrail", "latency:5%"), "the mean of latency is 0"),
    ],
)
def test_mistakes_are_one_line(run: Any, rows: Rows, arguments: tuple[str, ...], words: str) -> None:
    status, out, err = run(rows, *arguments)
    assert status != 0
    assert not out
    assert err.startswith(f"error: {words}"), err
    assert err.count("\n") == 1
