"""Own scores as a run: splits that they lack, and the memory that they leave behind."""

from __future__ import annotations

import gc
import weakref

import pytest
from dmpo_explore_app.services import comparison, own_runs, policies, records
from dmpo_explore_app.services.policies import OperatingPoint
from synthetic import make_record

import dmpo_explore as dx


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
        del run, point
    gc.collect()
    assert [one() for one in kept] == [None] * 6


def records_outcome(run: dx.Run) -> dx.Outcome:
    """The outcome as another drawing of a page gets it."""
    return OperatingPoint(run, "test", policies.full_depth("confidence")).outcome
