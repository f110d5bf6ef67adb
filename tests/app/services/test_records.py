"""Records in the app's cache, own scores among them: few files stay open, nothing stays of what was closed."""

from __future__ import annotations

import gc
import inspect
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from dmpo_explore_app.services import comparison, own_runs, policies, records
from dmpo_explore_app.services.policies import OperatingPoint
from run_folders import make_run
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.records import validation as arrays
from dmpo_explore.utils.files import sha256


@pytest.fixture
def run(tmp_path: Path) -> Path:
    make_record(8, 3, 5, split="test").save(make_run(tmp_path / "mine") / "records/test")
    return tmp_path / "mine"


@pytest.mark.slow
@pytest.mark.parametrize(("whole", "most"), [(arrays.WHOLE, 0), (0, arrays.MANY)])
def test_300_records_viewed(run: Path, monkeypatch: pytest.MonkeyPatch, whole: int, most: int) -> None:
    monkeypatch.setattr(arrays, "WHOLE", whole)
    before = psutil.Process().num_fds()
    for state in range(300):
        assert records.record_at((str(run), "test", state, 0)).n_images == 8
        assert psutil.Process().num_fds() <= before + most
    recent = inspect.getattr_static(records.record_at, "__wrapped__")
    recent.cache_clear()
    recent.__wrapped__.clear()
    assert psutil.Process().num_fds() <= before


def test_a_record_is_checked_again_when_the_weights_change(tmp_path: Path) -> None:
    run = dx.load_run(make_run(tmp_path / "mine"))
    weights = run.path / dx.runs.WEIGHTS
    weights.write_bytes(b"first")
    record = make_record(8, 3, 5, split="test")
    replace(record, meta=replace(record.meta, weights_sha256=sha256(weights))).save(run.path / "records/test")
    assert records.record(run, "test").n_images == 8
    weights.write_bytes(b"trained on")
    with pytest.raises(ValueError, match="is of earlier weights"):
        records.record(run, "test")


def opened(split: str, seed: int = 0) -> own_runs.OwnRun:
    return own_runs.opened("mine", {split: own_runs.OwnScores(make_record(60, split=split, seed=seed), "")}, None)


def test_a_split_that_they_lack_is_named() -> None:
    run = opened("val")
    for read in (run.record, run.stamp, lambda split: records.record(run, split)):
        with pytest.raises(FileNotFoundError, match=r"no scores of split 'test' \(it has val\)"):
            read("test")


@pytest.mark.parametrize("splits", [("calibration", "val"), ("val", "calibration"), ("test", "val")])
def test_thresholds_are_fitted_on_the_split_that_is_not_on_screen(splits: tuple[str, str]) -> None:
    scores = {split: own_runs.OwnScores(make_record(60, split=split), "") for split in splits}
    assert own_runs.opened("mine", scores, None).fitting_split == splits[1]


def test_compare_begins_without_scores_of_another_split() -> None:
    run = opened("val")
    found = comparison.usual_runs(
        [run.name, "demo", "demo-naive"], "demo", lambda name: run if name == run.name else dx.load_run(name)
    )
    assert found == ["demo", "demo-naive"]


def test_decide_begins_with_runs_on_the_same_images_whatever_their_image_size() -> None:
    found = comparison.usual_runs(dx.list_runs(), "demo")
    assert found[:2] == ["demo", "demo-naive"] and "demo-single" in found and "fashion" not in found


def test_nothing_of_their_records_is_kept_when_they_are_closed() -> None:
    kept = []
    for seed in range(3):
        run = opened("test", seed)
        point = OperatingPoint(run, "test", policies.full_depth("confidence"))
        assert records.record(run, "test") is point.record and point.outcome is records_outcome(run)
        records.calibrated(run, "test", (1.5,) * 4)
        records.novelty_detector(run, "test", logits=True)
        kept += [weakref.ref(point.record), weakref.ref(point.outcome)]
        key = str(run.path)
        assert own_runs.run_at(key) is run
        del run, point
    gc.collect()
    assert [one() for one in kept] == [None] * 6
    with pytest.raises(FileNotFoundError, match="have been closed"):
        own_runs.run_at(key)


def records_outcome(run: dx.Run) -> dx.Outcome:
    """The outcome as another drawing of a page gets it."""
    return OperatingPoint(run, "test", policies.full_depth("confidence")).outcome


def kept(target: dx.Target, early_errors: int = 0, **numbers: Any) -> str:
    """`policies.kept` of a hundred images with these numbers."""
    correct = np.arange(100) >= early_errors
    outcome = SimpleNamespace(
        record=SimpleNamespace(correct=np.ones((100, 1), bool)),
        correct=correct,
        summary=lambda: {
            "flops_fraction": 0.5, "accuracy_drop": 0.0, "accuracy": 0.9, "exit_accuracy": [0.9],
            "too_early": early_errors / 100, **numbers,
        },
    )  # fmt: skip
    return policies.kept(SimpleNamespace(split="test", outcome=outcome), target)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "numbers", "said"),
    [
        (dx.Target.flops(0.3), {"flops_fraction": 0.3004}, "kept: 30.0% compute"),
        (dx.Target.flops(0.3), {"flops_fraction": 0.3011}, "missed: 30.1% compute"),
        (dx.Target.accuracy_drop(0.0), {"accuracy_drop": 4e-5}, "kept: level with the last exit"),
        (dx.Target.near_best(0.01), {"accuracy": 0.885}, "missed: 1.50 points below the best exit"),
    ],
)
def test_a_target_is_judged_by_the_number_that_is_shown(
    target: dx.Target, numbers: dict[str, float], said: str
) -> None:
    assert said in kept(target, **numbers)


def test_a_bound_on_risk_is_missed_where_chance_does_not_explain_it() -> None:
    target = dx.Target.risk("too_early", epsilon=0.01)
    assert "exceeded, but within chance: 2.00% early-exit errors (95%: 0.55% to 7.00%)" in kept(target, early_errors=2)
    assert "missed: 20.00%" in kept(target, early_errors=20)
