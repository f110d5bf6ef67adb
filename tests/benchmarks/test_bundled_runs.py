"""Bundled runs are rounded first and recorded then, and hold no checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_config

import bundled_runs
import dmpo_explore as dx
from _bundled.plan import PLAN, Planned
from dmpo_explore.models.flops import config_flops
from dmpo_explore.runs.torch_model import read_weights
from dmpo_explore.training.checkpoint import read_checkpoint

EARLIER = ("fashion", "fashion-naive", "fashion-single", "caltech")  # made by earlier versions, with other recipes


@pytest.mark.slow
def test_a_run_is_rounded_recorded_and_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    told: list[str] = []
    plan = Planned(tiny_config(epochs=1), logits=False, left_out=("history.csv",))
    path = bundled_runs.bundle("tiny", plan, tmp_path / "runs", tmp_path / "bundled", told.append)
    assert path == tmp_path / "bundled" / "tiny" and told[-1] == "tiny: recording test"
    run, weights = dx.load_run(path), read_weights(path)
    assert {value.dtype for value in weights.values()} == {torch.float16}
    best = read_checkpoint(tmp_path / "runs" / "tiny" / "checkpoint.pt")["best"]
    assert all(torch.equal(weights[key], value.half()) for key, value in best.items())
    assert run.card().startswith("# tiny\n") and len(run.class_names) == 10
    assert not (path / plan.left_out[0]).exists()
    assert not (path / "checkpoint.pt").exists() and not (path / "records" / "test" / "logits.npy").exists()
    record, model = run.record("test"), run.model(device="cpu")
    assert record.meta.indices is None and run.record("val").meta.indices is not None
    assert {value.dtype for value in model.state_dict().values() if value.is_floating_point()} == {torch.float32}
    out = dx.infer(model, run.inputs("test"), dx.fit_policy(run.record("val"), threshold=1.0))
    np.testing.assert_array_equal(out.label, record.prediction[:, -1])  # of the rounded weights
    np.testing.assert_allclose(out.confidence, record.score("confidence")[:, -1], atol=1e-5)


@pytest.mark.slow
def test_logits_and_records_of_other_data_are_kept_as_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    config = tiny_config(epochs=1).updated({"data.name": "grocery-same-shops", "data.train_size": 162})
    plan = Planned(config, other_data="grocery-shops")
    run = dx.load_run(bundled_runs.bundle("shops", plan, tmp_path / "runs", tmp_path / "bundled", lambda text: None))
    away = ["grocery-shops-calibration", "grocery-shops-test"]
    assert run.splits() == ["calibration", *away, "test", "val"]
    assert [run.record(split).n_images for split in ("calibration", "test", *away)] == [355, 674, 830, 1655]
    assert {run.record(split).logits.dtype for split in run.splits()} == {np.dtype("float16")}  # type: ignore[union-attr]
    found = dx.analysis.transfer_run(run, "grocery-shops", [dx.Target.accuracy_drop(0.0)])
    assert len(found.exits) == 2 and len(found.thresholds) == 4
    rows = np.asarray([5, 900])
    out = dx.infer(run.model("cpu"), run.inputs(away[1], rows), dx.fit_policy(run.record("val"), threshold=1.0))
    np.testing.assert_array_equal(out.label, run.record(away[1]).prediction[rows, -1])


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAN)
def test_every_planned_config_is_valid(name: str) -> None:
    plan = PLAN[name]
    assert dx.Config.from_dict(plan.config.to_dict()) == plan.config
    data = dx.data.open_data(plan.config.data)
    assert {"train", "val", "test"} <= {*data.splits} and ("calibration" in data.splits or name in EARLIER)
    flops = config_flops(plan.config.model, 81)
    assert list(flops.cumulative) == sorted(flops.cumulative) and len(flops.cumulative) in (1, 5, 6)
    if name in EARLIER:
        assert bundled_runs.has(plan.config, dx.runs.BUNDLED_RUNS / name)
    else:
        recipe, teacher = dx.training.RECIPES["photographs"].options, plan.config.get("training.teacher")
        size = recipe["model.image_size" if teacher else "training.teacher_size"]
        assert plan.logits and plan.config.get("model.image_size") == size
        assert teacher in ("", "own") or [*PLAN].index(teacher) < [*PLAN].index(name)
    assert not plan.other_data or plan.other_data in dx.data.DATASETS


def test_a_weight_that_float16_cannot_hold_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    run = dx.train(tiny_config(epochs=1), "tiny")
    saved = torch.load(run.path / "checkpoint.pt", weights_only=True)
    saved["best"]["stages.0.scale"] = torch.tensor(1e6)
    torch.save(saved, run.path / "checkpoint.pt")
    with pytest.raises(ValueError, match="run 'tiny': stages.0.scale does not fit into float16"):
        bundled_runs.halve(run)


@pytest.mark.slow
def test_timings_cover_both_ends_and_are_read_by_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    run = dx.train(tiny_config(epochs=1), "tiny")
    record = dx.record_run(run, "test", device="cpu", keep_logits=False)
    bundled_runs.time_run(run, lambda text: None, images=70, rounds=1)
    timings = dx.runs.read_timings(run.path)
    assert timings is not None and timings.images == 70 and timings.full_rate > 0
    assert timings.flops_fraction[0] == pytest.approx(record.flops_fraction[0], rel=1e-4)
    assert timings.flops_fraction[-1] == pytest.approx(record.flops_fraction[-1], rel=1e-4)
