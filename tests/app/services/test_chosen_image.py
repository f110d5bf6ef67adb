"""The chosen image: what its drawer shows is the library's, and its neighbours are those of One image."""

from __future__ import annotations

from pathlib import Path

import pytest
from dmpo_explore_app.services import chosen_image, selection
from dmpo_explore_app.services.policies import OperatingPoint
from made_up import save_run

import dmpo_explore as dx


@pytest.mark.parametrize("calibrate", [False, True])
def test_facts_are_the_librarys(tmp_path: Path, calibrate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    save_run(tmp_path, "mine", images=60, logits_of=("test", "val"))
    run = dx.load_run(tmp_path / "mine")
    record, target = run.record("test"), dx.Target.threshold((0.7,), calibrate=calibrate)
    policy = dx.fit_policy(run.record("val"), "confidence", target=target)
    chosen = selection.Selection(0, 0, "incorrect", "number", 7)
    point = OperatingPoint(run, "test", policy)
    facts = chosen_image.facts(point, chosen)
    assert facts is not None
    read = dx.fitting.tempered_record(record, policy.temperatures) if calibrate else record
    names = record.meta.class_names
    assert [answer for answer, _, _ in facts["answers"]] == [names[label] for label in record.prediction[7]]
    assert [correct for _, correct, _ in facts["answers"]] == record.correct[7].tolist()
    assert [share for *_, share in facts["answers"]] == pytest.approx(read.confidence[7], abs=1e-5)
    assert facts["why"] == dx.analysis.trace_decision(record, policy, 7).sentence()
    place = selection.place(point.outcome, chosen.alone, 7)
    assert (facts["before"], facts["after"], facts["label"]) == (place.before, place.after, names[record.labels[7]])
    assert chosen_image.facts(point, chosen.alone) is None
    monkeypatch.setattr(chosen_image.thumbnails, "are_here", lambda stamp: False)
    without = chosen_image.facts(point, chosen)
    assert without is not None and without["picture"] != facts["picture"]  # of images that may be fetched later
