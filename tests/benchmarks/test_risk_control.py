"""The simulation takes the thresholds that the library certifies; its results show whether the bound holds."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import make_record

import dmpo_explore as dx
import risk_control
from dmpo_explore.fitting.risk_control import certify
from dmpo_explore.policies.rules import ConfidencePolicy

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


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    monkeypatch.setattr(risk_control, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(risk_control, "SIZES", (100, 300))
    monkeypatch.setattr(risk_control, "EPSILON", 0.06)
    monkeypatch.setattr(risk_control, "write_figure", lambda *_: sys.stdout.write("figure\n"))
    for split, n in (("val", 200), ("test", 300)):
        make_record(n, 3, 4, seed=n, split=split).save(tmp_path / "made" / "records" / split)
    (tmp_path / "made" / "config.json").write_text(dx.Config().to_json())
    assert risk_control.pooled(dx.load_run("made")).n_images == 500
    assert risk_control.main(["made", "--resamples", "100"]) == 0
    table = pd.read_csv(tmp_path / "results" / "risk_control.csv")
    assert table["images"].tolist() == [100, 300] * 2 and (table["resamples"] == 100).all()
    out = capsys.readouterr().out
    assert out.endswith("\nfigure\n")  # a missing browser loses nothing
    assert (
        "bound holds in every row (at most 5% and two standard errors): yes" in out
        and "| early-exit error | 300 |" in out
    )
    monkeypatch.setattr(
        risk_control, "hoeffding_bentkus", lambda observed, *_: np.zeros_like(observed)
    )  # proves anything
    assert risk_control.main(["made", "--resamples", "100"]) == 1
    assert "two standard errors): no" in capsys.readouterr().out


def test_the_bound_holds_in_the_committed_results() -> None:
    table = pd.read_csv(Path(risk_control.__file__).parent / "results" / "risk_control.csv")
    assert (table["resamples"] >= 1000).all() and len(table) >= 8
    assert (table["violations"] <= table["delta"] + 2 * table["standard_error"]).all()
    assert (table["plug_in_violations"] > 1 / 3).all()  # the plug-in threshold: in more than every third set
    assert (table["flops_fraction"] > table["plug_in_flops_fraction"]).all()  # what it compute
