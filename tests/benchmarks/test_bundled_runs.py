"""Bundled runs are rounded first and recorded then, and hold no checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_config

import bundled_runs
import dmpo_explore as dx
from bundled_runs import PLAN, Planned
from dmpo_explore.models.flops import config_flops
from dmpo_explore.runs.torch_model import read_weights
from dmpo_explore.training.checkpoint import read_checkpoint

EARLIER = ("fashion", "fashion-naive", "fashion-single", "caltech")  # made by earlier versions, with other recipes


@pytest.mark.slow
def test_a_run_is_rounded_recorded_and_copied_as_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    config = tiny_config(epochs=1).updated({"data.name": "grocery-same-shops", "data.train_size": 162})
    plan = Planned(config, other_data="grocery-shops", left_out=("history.csv",))
    path = bundled_runs.bundle("shops", plan, tmp_path / "runs", tmp_path / "bundled", lambda text: None)
    assert path == tmp_path / "bundled" / "shops"
    run, best = dx.load_run(path), read_checkpoint(tmp_path / "runs" / "shops" / "checkpoint.pt")["best"]
    assert all(torch.equal(read_weights(path)[key], value.half()) for key, value in best.items())
    assert not (path / "history.csv").exists() and not (path / "checkpoint.pt").exists()
    away = ["grocery-shops-calibration", "grocery-shops-test"]
    assert run.splits() == ["calibration", *away, "test", "val"]
    assert [run.record(split).n_images for split in ("calibration", "test", *away)] == [355, 674, 830, 1655]
    assert {run.record(split).logits.dtype for split in run.splits()} == {np.dtype("float16")}  # type: ignore[union-attr]
    model, rows = run.model(device="cpu"), np.asarray([5, 600])
    for split in ("test", away[1]):  # records are of the rounded weights
        record, last = run.record(split), dx.fit_policy(run.record("val"), threshold=1.0)
        out = dx.infer(model, run.inputs(split, rows), last)
        np.testing.assert_array_equal(out.label, record.prediction[rows, -1])
        np.testing.assert_allclose(out.confidence, record.score("confidence")[rows, -1], atol=1e-5)


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


@pytest.mark.slow
def test_a_weight_that_float16_cannot_hold_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    run = dx.train(tiny_config(epochs=1), "tiny")
    saved = torch.load(run.path / "checkpoint.pt", weights_only=True)
    saved["best"]["stages.0.scale"] = torch.tensor(1e6)
    torch.save(saved, run.path / "checkpoint.pt")
    with pytest.raises(ValueError, match="run 'tiny': stages.0.scale does not fit into float16"):
        bundled_runs.halve(run)
