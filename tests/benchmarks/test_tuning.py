"""The comparison of tunings: its protocol, a run on digits, and the table recomputed from what is committed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny import tiny_config

import tuning
from _common.results import RESULTS
from _tuning import protocol, report, run
from dmpo_explore.utils.files import read_json

FOLDER = RESULTS / "neighbours"


def test_every_run_has_its_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "CHOSEN", dict.fromkeys(protocol.TUNINGS, 2e-3))
    for study in protocol.STUDIES.values():
        configs = {plan: study.config(*plan) for plan in study.plan()}
        assert len(configs) == 3 * 3 * len(protocol.ARMS) == len({c.to_json() for c in configs.values()})
        assert {c.data.calibration for c in configs.values()} == {True}
        assert len(study.trials()) == 6
    few = protocol.STUDIES["fashion"].config("oft", "few-4", 1)
    assert (few.data.train_size, few.training.epochs, few.training.seed, few.data.seed) == (40, 20, 1, 1)


@pytest.mark.slow
def test_a_run_reads_clean_and_corrupted_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    tiny = tiny_config(epochs=1)
    base = replace(tiny, data=replace(tiny.data, calibration=True))
    study = protocol.Study(base, 10)
    monkeypatch.setattr(tuning, "STUDIES", {"tiny": study})
    monkeypatch.setattr(tuning, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(protocol, "CHOSEN", dict.fromkeys(protocol.TUNINGS, 2e-3))
    monkeypatch.setattr(tuning, "CHOSEN", protocol.CHOSEN)
    monkeypatch.setattr(run, "CORRUPTED", 20)
    monkeypatch.setattr(run, "BUDGET", 0.8)
    monkeypatch.setattr(protocol.Study, "regimes", {"full": {}})
    options = ["tiny", "--seeds", "1", "--arms", "lora", "oft-sr-attentive", "--root", str(tmp_path / "runs")]
    assert tuning.main(options) == 0
    row = read_json(tmp_path / "results" / "tuning-tiny" / "oft-sr-attentive-full-s0" / "row.json")
    with np.load(tmp_path / "results" / "tuning-tiny" / "oft-sr-attentive-full-s0" / "outcomes.npz") as kept:
        assert kept["clean last"].mean() == row["exit_2"] and kept["corrupted last"].shape == (20,)
        strengths = [row[f"corrupted_{s}"] for s in range(1, 6)]
        assert kept["corrupted last"].mean() == pytest.approx(np.mean(strengths))
    found = pd.read_csv(tmp_path / "results" / "tuning-tiny-table.csv")
    assert set(found["arm"]) == {"lora", "oft-sr-attentive"} and (found["seeds"] == 1).all()
    own = found[found["arm"] == "lora"]
    assert (own[["difference", "low", "high"]] == 0).all(axis=None)
    capsys.readouterr()
    assert tuning.main(options) == 0 and "epoch" not in capsys.readouterr().out
    assert tuning.main([*options, "--list"]) == 0 and capsys.readouterr().out == ""


def test_the_rates_are_those_that_val_chose() -> None:
    rates = pd.read_csv(FOLDER / "tuning-fashion-rates.csv")
    best = rates.sort_values("area").groupby("tuning")["rate"].last()
    assert best.to_dict() == protocol.CHOSEN


@pytest.mark.slow
@pytest.mark.parametrize("study", ["fashion"])  # those that have run
def test_the_committed_table_follows_from_the_committed_runs(study: str) -> None:
    found = report.table(FOLDER / f"tuning-{study}", protocol.STUDIES[study])
    pd.testing.assert_frame_equal(found, pd.read_csv(FOLDER / f"tuning-{study}-table.csv"), rtol=1e-4, atol=1e-3)
    rows = pd.read_csv(FOLDER / f"tuning-{study}.csv")
    assert set(rows["run"]) == {folder.name for folder in (FOLDER / f"tuning-{study}").iterdir()}
