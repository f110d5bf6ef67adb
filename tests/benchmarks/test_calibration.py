"""The calibration command: temperatures from val where there is no calibration record, errors from test."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest
from synthetic import make_record

import calibration
import dmpo_explore as dx
from dmpo_explore.analysis.calibration import calibration_error
from dmpo_explore.fitting.temperature import fit_temperatures


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    monkeypatch.setattr(calibration, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(calibration, "write_figure", lambda *_: sys.stdout.write("figure\n"))
    for split, seed in (("val", 1), ("test", 2)):
        make_record(300, 3, 4, seed=seed, split=split).save(tmp_path / "made" / "records" / split)
    (tmp_path / "made" / "config.json").write_text(dx.Config().to_json())
    assert calibration.main(["made"]) == 0
    run = dx.load_run("made")
    table = pd.read_csv(tmp_path / "results" / "calibration.csv")
    after = table[table["when"] == "after"]
    assert after["temperature"].tolist() == pytest.approx(fit_temperatures(run.record("val")), rel=1e-5)
    before = table[table["when"] == "before"]
    assert before["ece"].tolist() == pytest.approx(calibration_error(run.record("test")).tolist(), rel=1e-5)
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == lines.pop() == "figure"  # a missing browser loses nothing
    assert len(lines) == 2 + 3 and lines[2].startswith(f"| 1 | {after['temperature'].iloc[0]:.3f} | ")
