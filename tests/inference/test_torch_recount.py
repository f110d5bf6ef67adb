"""Counting FLOPs anew: records of earlier versions open as they are, and are counted as deployed by one command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.inference.torch_recount import recount_run, run_flops
from dmpo_explore.records.record import CONVENTION_OF_OLD
from dmpo_explore.runs.store import BUNDLED_RUNS


@pytest.fixture
def old(tmp_path: Path) -> dx.Run:
    """demo-cnn as an earlier version left it: no calibration record, FLOPs as trained."""
    path = tmp_path / "old"
    ignored = shutil.ignore_patterns("calibration", "weights.safetensors")
    shutil.copytree(BUNDLED_RUNS / "demo-cnn", path, ignore=ignored)
    for meta in path.glob("records/*/meta.json"):
        values: dict[str, Any] = json.loads(meta.read_text(encoding="utf-8"))
        values |= {"flops": values.pop("flops_trained"), "flops_convention": CONVENTION_OF_OLD}
        meta.write_text(json.dumps(values), encoding="utf-8")
    return dx.load_run(path)


def test_an_old_record_opens_and_says_how_it_was_counted(old: dx.Run) -> None:
    record = old.record("test")
    assert record.meta.counted == "as trained" and record.meta.flops_trained == ()
    assert record.flops_fraction.round(3).tolist() == [0.212, 0.318, 0.45, 0.706, 1.108]
    assert old.fitting_split == "val"
    assert dx.fit_run_policy(old, "confidence", dx.Target.flops(0.5)).fitted["split"] == "val"


def test_it_is_counted_anew_and_its_policies_follow(old: dx.Run) -> None:
    scores = np.array(old.record("test").confidence)
    found = recount_run(old)
    assert sorted(found) == ["test", "val"]
    for split in found:
        record = old.record(split)
        assert record.meta.to_dict() == found[split].to_dict() and record.meta.counted == "as deployed"
        assert record.flops_fraction.round(3).tolist() == [0.182, 0.279, 0.403, 0.65, 1.044]
        assert record.meta.flops_trained == run_flops(old).as_trained
    np.testing.assert_array_equal(old.record("test").confidence, scores)
    for policy in old.policies().values():
        assert policy.fitted["split"] == "val"  # there is no calibration record
        expected = dx.fit_policy(old.record("val"), target=dx.Target.from_dict(policy.fitted["target"]))
        assert policy.thresholds == expected.thresholds
    assert recount_run(old)["val"].to_dict() == found["val"].to_dict()


def test_what_cannot_be_counted_is_refused(old: dx.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(run: dx.Run, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            recount_run(run)

    test = old.record("test")
    refused(dx.load_run("demo"), "run 'demo' is bundled and stays as it is")
    with monkeypatch.context() as patch:
        patch.setattr(dx.Run, "record", lambda _, split: test if split == "test" else make_record(9, 4))
        refused(old, "the val record of run 'old' has 4 exits, its model 5")
    assert old.record("test").meta.to_dict() == test.meta.to_dict()  # nothing was written
    shutil.rmtree(old.path / "records")
    refused(old, "run 'old' has no record; make one with")
