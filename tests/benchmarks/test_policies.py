"""The comparison of policies on synthetic runs: gains by hand, intervals by Student's t, a verdict that can be none."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic import make_record

import dmpo_explore as dx
import policies
from dmpo_explore.fitting.fit import sweep


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


def test_the_verdict_can_say_none() -> None:
    rows = [("a", 0.01, 0.002), ("b", 0.005, 0.001), ("c", 0.01, -0.001)]
    table = pd.DataFrame([("r", "test", p, 0.3, g, low, 2 * g - low) for p, g, low in rows])
    table.columns = pd.Index(["run", "judged", "policy", "budget", "gain", "low", "high"])
    assert policies.verdict(table)[2] == "| r | test | 30 % | a +1.00 [+0.20, +1.80]; b +0.50 [+0.10, +0.90] |"
    assert policies.verdict(table[table["policy"] == "c"])[2].endswith("| none |")


def test_the_command_writes_what_it_prints(
    run: dx.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policies, "write_figure", lambda *_: sys.stdout.write("figure\n"))
    assert policies.main(["made", "--resamples", "2"]) == 0
    table = pd.read_csv(tmp_path / "results" / "policies.csv")
    assert len(table) == 2 * 2 * len(policies.ARMS)
    printed, _ = capsys.readouterr().out.split("figure\n")  # last: a missing browser loses nothing
    assert len(printed.splitlines()) == 2 + 4
    assert (tmp_path / "results" / "policies.md").read_text() == f"Made by `scripts/bench policies`.\n\n{printed}"


def test_a_large_fit_is_quick_enough_to_be_small_here() -> None:
    record = policies.large_record(500, 6)
    assert record.confidence.shape == (500, 6)
    assert (np.diff(record.correct.mean(axis=0)) > -0.05).all()
    assert record.correct.mean() == pytest.approx(record.confidence.mean(), abs=0.05)
