"""Policies, certificates and intervals by simulation: gains by hand, the bound, coverage, and the kept tables."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic import make_record

import dmpo_explore as dx
import interval_coverage
import policies
import risk_control
from _common.results import RESULTS
from dmpo_explore.fitting.fit import sweep
from dmpo_explore.fitting.risk_control import certify
from dmpo_explore.policies.rules import ConfidencePolicy


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dx.Run:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    monkeypatch.setattr(policies, "BUDGETS", (0.4, 0.6))
    monkeypatch.setattr(policies, "RESULTS", tmp_path / "results")
    make_record(300, 4, 5).save(tmp_path / "made" / "records" / "val")
    make_record(400, 4, 5, seed=1, split="test").save(tmp_path / "made" / "records" / "test")
    (tmp_path / "made" / "config.json").write_text(dx.Config().to_json())
    return dx.load_run("made")


def test_a_gain_is_read_at_the_compute_that_was_used(run: dx.Run) -> None:
    table = policies.gains(run, "test", 1)
    assert set(table["policy"]) == set(policies.ARMS) and len(table) == 2 * len(policies.ARMS)
    ((val, test),) = policies.pairs(run, "test", 1)
    curve = sweep(test)
    for arm, (name, how) in policies.ARMS.items():
        exits = dx.fit_policy(val, name, flops=0.6, **how).exits(test)
        found = dx.summarise(test, exits)
        row = table[(table["policy"] == arm) & (table["budget"] == 0.6)].iloc[0]
        assert (row["accuracy"], row["flops_fraction"]) == pytest.approx((found["accuracy"], found["flops_fraction"]))
        there = np.interp(found["flops_fraction"], curve.flops_fraction, curve.correct / 400)
        assert row["gain"] == pytest.approx(found["accuracy"] - there)
    used = dx.summarise(test, dx.fit_policy(val, flops=0.6).exits(test))
    there = np.interp(used["flops_fraction"], curve.flops_fraction, curve.correct / 400)
    assert used["accuracy"] == pytest.approx(there)  # the reference gains nothing over itself


def test_choices_look_at_val_only(run: dx.Run) -> None:
    for fitted_on, held_out in policies.pairs(run, "val", 3):
        assert fitted_on.n_images == held_out.n_images == 150 and held_out.meta.split == "val"
        assert not set(fitted_on.meta.indices.tolist()) & set(held_out.meta.indices.tolist())  # type: ignore[union-attr]
    ours = list(policies.pairs(run, "test", 2))
    assert [test.meta.split for _, test in ours] == ["test", "test"]
    assert ours[0][1].labels.tolist() != ours[1][1].labels.tolist()


def test_intervals_are_students() -> None:
    values = np.array([0.01, 0.02, 0.015, 0.0])
    table = pd.DataFrame({"run": "r", "judged": "test", "policy": "p", "budget": 0.3, "gain": values})
    found = policies.intervals(table.assign(accuracy=0.9, flops_fraction=0.25)).iloc[0]
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values) * 2)  # sd, not its error of the mean
    assert (found["gain"], found["low"], found["high"]) == pytest.approx((values.mean(), low, high))


POLICY = ConfidencePolicy((0.0,))


def test_the_last_kept_is_before_the_first_that_is_not() -> None:
    kept = np.array([[0, 1, 1, 0, 1], [1, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], bool)
    assert risk_control.last_kept(kept).tolist() == [2, 0, 4, 0]


@pytest.mark.parametrize("risk", ["too_early", "disagreement"])
def test_the_simulation_certifies_as_the_library_does(risk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(risk_control, "EPSILON", 0.06)
    record = make_record(600, 3, 4, seed=5, with_logits=False)
    found = risk_control.simulate(record, POLICY, risk, 400, resamples=8)
    loss, compute = risk_control.losses(record, POLICY, risk)
    draws = np.random.default_rng(0).multinomial(400, np.full(600, 1 / 600), size=8)
    grid, true, places = POLICY.grid(3, 4), loss.mean(axis=0), []
    for counts in draws:
        certificate = certify(record.subset(np.repeat(np.arange(600), counts)), POLICY, risk, 0.06, risk_control.DELTA)
        places.append(grid.index(certificate.threshold))
    assert found["flops_fraction"] == pytest.approx(compute[places].mean())
    assert found["violations"] == (true[places] > 0.06).mean()
    assert found["true_risk"] == pytest.approx(true[places].mean())
    assert found["plug_in_flops_fraction"] <= found["flops_fraction"]


def test_the_bound_holds_in_the_committed_results() -> None:
    table = pd.read_csv(Path(risk_control.__file__).parent / "results" / "risk_control.csv")
    assert (table["resamples"] >= 1000).all() and len(table) >= 8
    assert (table["violations"] <= table["delta"] + 2 * table["standard_error"]).all()
    assert (table["plug_in_violations"] > 1 / 3).all()  # the plug-in threshold: in more than every third set
    assert (table["flops_fraction"] > table["plug_in_flops_fraction"]).all()  # what it compute


TABLE = pd.read_csv(RESULTS / "interval_coverage.csv")
EVIDENCE, DOCS = RESULTS.parent / "EVIDENCE.md", RESULTS.parents[1] / "docs"


def held(rows: pd.DataFrame) -> tuple[float, float]:
    """The least and the most often that intervals held the difference, in per cent."""
    return 100 * rows["coverage"].min(), 100 * rows["coverage"].max()


@pytest.mark.parametrize("kind", interval_coverage.KINDS)
def test_differences_have_the_stated_spread_and_no_mean(kind: str) -> None:
    """The variance of a training's mean is 1 + spread² squared errors over images; common images do not average out."""
    generator, S, B = np.random.default_rng(0), 2, 400
    draws = np.stack([interval_coverage.KINDS[kind](generator, S, 2.0, 0.0, B) for _ in range(1000)])  # (n, S, B)
    means = draws.mean(axis=2)
    error = draws.var() / B
    assert abs(means.mean()) < 5 * (means.var() / 2000) ** 0.5
    assert means.var() / error == pytest.approx(5, rel=0.25)
    shared = np.stack([interval_coverage.KINDS[kind](generator, S, 0.0, 1.0, B) for _ in range(50)])
    assert (shared[:, 0] == shared[:, 1]).all()


def test_a_row_counts_how_often_an_interval_holds_0(monkeypatch: pytest.MonkeyPatch) -> None:
    wide, none = (lambda values: (0.0, -1e9, 1e9)), (lambda values: (1.0, 1.0, 1.0))
    monkeypatch.setattr(interval_coverage, "INTERVALS", {"wide": (wide, 20), "none": (none, 10)})
    rows = pd.DataFrame(interval_coverage.covered("normal", 3, 1.0, 0.5, B=10)).set_index("interval")
    assert rows["coverage"].tolist() == [1, 0] and rows["repeats"].tolist() == [20, 10]


def test_the_interval_in_use_covers_and_the_former_ones_do_not() -> None:
    cases = set(product(*(getattr(interval_coverage, name) for name in ("KINDS", "SEEDS", "SPREADS", "COMMON"))))
    for _, rows in TABLE.groupby("interval"):
        assert {*rows[["kind", "seeds", "spread", "common"]].itertuples(index=False, name=None)} == cases
    used = TABLE[TABLE["interval"] == "crossed"]
    assert (used["repeats"] == 4000).all()
    least = np.where(used["kind"] == "skewed", 0.89, 0.93)  # it is made for normal effects
    assert used["coverage"].between(least, 0.995).all()
    few = TABLE[(TABLE["seeds"] == 3) & (TABLE["spread"] == 4)].groupby("interval")["coverage"].max()
    assert few["resampled"] < 0.85 and few["images"] < 0.7


@pytest.mark.parametrize("S", interval_coverage.SEEDS)
def test_the_evidence_has_the_ends_of_every_interval(S: int) -> None:
    rows = TABLE[TABLE["seeds"] == S]
    crossed, skewed = rows["interval"] == "crossed", rows["kind"] == "skewed"
    columns = (crossed & ~skewed, crossed & skewed, rows["interval"] == "resampled", rows["interval"] == "images")
    cells = ("{:.1f} – {:.1f}".format(*held(rows[one])) for one in columns)
    assert f"| {S} | {' | '.join(cells)} |" in EVIDENCE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        (EVIDENCE, "in {} of simulated studies, in {} where trainings' effects are skewed"),
        (
            DOCS / "results.md",
            "In simulated studies {} held the true difference, {} where trainings' effects are skewed",
        ),
    ],
    ids=["evidence", "results"],
)
def test_the_pages_have_the_ends_over_all_studies(page: Path, sentence: str) -> None:
    ours, skewed = TABLE["interval"] == "crossed", TABLE["kind"] == "skewed"
    ends = ("{:.1f} to {:.1f} %".format(*held(TABLE[ours & kind])) for kind in (~skewed, skewed))
    assert sentence.format(*ends) in page.read_text(encoding="utf-8")


def test_a_simulation_says_whether_the_bound_holds(
    run: dx.Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tables: list[pd.DataFrame] = []
    monkeypatch.setattr(risk_control, "SIZES", (100, 300))
    monkeypatch.setattr(risk_control, "EPSILON", 0.06)
    monkeypatch.setattr(risk_control, "write_table", lambda name, table, folder: tables.append(table))
    assert risk_control.main(["made", "--resamples", "100"]) == 0
    assert "two standard errors): yes" in capsys.readouterr().out
    assert tables[0]["images"].tolist() == [100, 300] * 2 and (tables[0]["resamples"] == 100).all()
    monkeypatch.setattr(risk_control, "hoeffding_bentkus", lambda observed, *_: np.zeros_like(observed))  # proves all
    assert risk_control.main(["made", "--resamples", "100"]) == 1
