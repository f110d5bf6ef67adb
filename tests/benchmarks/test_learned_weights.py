"""The comparison of learned loss weights: its protocol, its tables from made-up runs, and those that are committed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from tiny import tiny_config

import dmpo_explore as dx
import learned_weights
from _common.results import RESULTS
from _learned.protocol import ARMS, STUDIES, Study, arm_of, passes
from _learned.report import finished, gains, learned
from _learned.run import make_row
from _study.run import keep

STUDY = Study(tiny_config(epochs=1), images=60)


@pytest.fixture
def schedules() -> Iterator[None]:
    """Schedules that are registered in a test are gone after it."""
    before = dict(dx.training.SCHEDULES)
    yield
    for name in dx.training.SCHEDULES.keys() - before.keys():
        del dx.training.SCHEDULES[name]


@pytest.mark.usefixtures("schedules")
def test_every_arm_differs_in_its_schedule_alone() -> None:
    for study in STUDIES.values():
        plan = study.plan()
        assert plan[: len(ARMS)] == [(arm, 0) for arm in ARMS] and len(plan) == 3 * len(ARMS)
        for arm, seed in plan:
            config = arm_of(study, arm, seed)
            assert config.training.seed == config.data.seed == seed and config.data.calibration
            same = replace(config, data=replace(config.data, seed=0), training=study.base.training)
            assert same == study.base
    one, other = (arm_of(STUDIES["fashion"], "random-1", seed).training.schedule for seed in (0, 1))
    weights = np.array([dx.training.loss_weights(one, e, 4, 4) for e in range(4)])
    assert weights.sum(axis=1) == pytest.approx([4] * 4) and (weights > 0).all()
    assert not np.allclose(weights[0], dx.training.loss_weights(other, 0, 4, 4))


@pytest.mark.usefixtures("schedules")
def test_the_compute_is_what_a_training_does() -> None:
    config = arm_of(STUDIES["fashion"], "learned", 0)
    steps = -(-540 // 64)
    assert passes(config, 600, 60, steps) == pytest.approx((2 * 540 + 7 * steps) / 600)
    assert passes(arm_of(STUDIES["fashion"], "linear", 0), 600, 60, steps) == 1


def made(folder: Path, arm: str, seed: int, rate: float, area: float) -> None:
    """A finished run whose images are correct at this rate, at every budget."""
    correct = np.random.default_rng(seed).uniform(size=400) < rate
    row: dict[str, Any] = {"run": f"{arm}-s{seed}", "arm": arm, "seed": seed, "passes": 1.0, "area_val": area}
    row |= {f"lambda_{k}_{epoch}": float(k) for k in (1, 2) for epoch in (1, 2, 3)} | {"kept_epoch": 2}
    keep(folder / row["run"], STUDY.base, row, {f"{b}%": correct for b in (30, 40, 50)})


def test_the_tables_of_made_up_runs(tmp_path: Path) -> None:
    for seed in (0, 1):
        for arm, rate, area in (("learned", 0.9, 0.5), ("linear", 0.8, 0.5), ("random-1", 0.5, 0.4)):
            made(tmp_path, arm, seed, rate, area)
    made(tmp_path, "random-2", 0, 0.95, 0.3)  # worse on val, better on test: not chosen; seed 1 has no second trial
    rows = finished(tmp_path)
    assert rows["random", 0]["run"] == "random-1-s0" and rows["random", 0]["passes"] == 2 and ("random", 1) not in rows
    table = gains(tmp_path).set_index(["against", "budget"])
    assert table.index.get_level_values("against").unique().tolist() == ["linear", "random"]
    found = table.loc[("linear", "30%")]
    assert found["low"] < found["points"] < found["high"] and found["points"] == pytest.approx(10, abs=4)
    assert len(found["seeds"].split()) == 2 and len(table.loc[("random", "30%")]["seeds"].split()) == 1
    way = learned(tmp_path)
    assert len(way) == 2 * 3 and way["lambda_2"].tolist() == [2.0] * 6 and way["kept"].sum() == 2


@pytest.mark.slow
@pytest.mark.usefixtures("schedules")
def test_a_row_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    config = arm_of(STUDY, "learned", 0)
    config = replace(config, data=replace(config.data, train_size=100, calibration=True))
    row = make_row(tmp_path / "runs" / "learned-s0", tmp_path / "kept", config, STUDY, print)
    assert row["arm"] == "learned" and 1.8 < row["passes"] < 2.1 and 0 <= row["exit_1"] <= 1
    assert row["lambda_1_1"] + row["lambda_2_1"] == pytest.approx(2)
    kept = np.load(tmp_path / "kept" / "outcomes.npz")
    assert kept["exit 1"].shape == (60,)
    assert make_row(tmp_path / "nowhere", tmp_path / "kept", config, STUDY, print) == row


@pytest.mark.usefixtures("schedules")
def test_what_is_left_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(learned_weights, "RESULTS", tmp_path)
    monkeypatch.setattr(learned_weights, "STUDIES", {"tiny": STUDY})
    made(tmp_path / "neighbours" / "learned-tiny", "uniform", 0, 0.5, 0.5)
    (tmp_path / "neighbours" / "learned-tiny" / "uniform-s0" / "config.json").write_text(
        arm_of(STUDY, "uniform", 0).to_json()
    )
    assert learned_weights.main(["tiny", "--list"]) == 0
    left = capsys.readouterr().out.split()
    assert "uniform-s0" not in left and len(left) == 14


@pytest.mark.parametrize("study", ["fashion"])  # those that have run
def test_committed_tables_are_those_of_the_committed_runs(study: str) -> None:
    folder = RESULTS / "neighbours"
    for name, make in (("gains", gains), ("lambda", learned)):
        committed = pd.read_csv(folder / f"learned-{study}-{name}.csv")
        made_again = make(folder / f"learned-{study}").reset_index(drop=True)
        assert_frame_equal(made_again, committed, rtol=1e-4, atol=1e-5, check_dtype=False)  # 1.0 is written as 1
