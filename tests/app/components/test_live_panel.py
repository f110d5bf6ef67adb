"""Live statistics in words and HTML, and single images of a live run."""

from __future__ import annotations

from dmpo_explore_app.components import live_answers, live_panel
from dmpo_explore_app.services import live_session
from made_up import HOSTILE
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.inference.live import LiveStats
from dmpo_explore.policies.rules import ConfidencePolicy


def test_words_for_states_and_thresholds() -> None:
    count = LiveStats(make_record(30)).count()
    running = dx.inference.Look("running", count, None, None)
    assert "progress" not in live_panel.status(running)  # until stopped: no end to show
    assert 'max="30" value="0"' in live_panel.status(dx.inference.Look("warming up", count, 30, None))
    latest, earliest = (
        ConfidencePolicy((end,)) for end in (ConfidencePolicy.threshold_none, ConfidencePolicy.threshold_all)
    )
    assert [live_panel.thresholds(policy) for policy in (latest, earliest)] == ["none early", "all at exit 1"]
    assert live_panel.thresholds(ConfidencePolicy((0.25, 0.5))) == "0.25, 0.5"


def test_a_quantile_is_shown_once_there_are_calls_to_take_it_of() -> None:
    arms = dx.inference.Speed(64, 1.0, 0.123, 0.456), dx.inference.Speed(64, 2.0, 0.234, 0.567)
    settings = live_session.LiveSettings(64, None)
    session = live_session.LiveSession(None, ("runs/a", "test"), None, settings, device="here")  # type: ignore[arg-type]
    shown = {}
    for calls in (1, 19, 20):
        measured = dx.inference.Measured(calls, *arms, 2.0, 1.9, 2.1, 2.5, exits=(64,), accuracy=1, full_accuracy=1)
        look = dx.inference.Look("running", LiveStats(make_record(30)).count(), None, None)
        shown[calls] = live_panel.cards(session, look, measured)
    assert "p95 after 20 calls, 1 so far" in shown[1] and "p50" not in shown[1]
    assert "456 ms" not in shown[19] and "567 ms" not in shown[19]
    assert "p95 456 ms" in shown[20] and "p95 567 ms" in shown[20] and "p50" in shown[20]
    assert live_panel.after(10, measured, "1.90 to 2.10×") == "1.90 to 2.10×"


def test_names_are_text() -> None:
    record = make_record(4, class_names=(HOSTILE, "b", "c", "d", "e"))
    last = [dx.inference.Answer(0, 0, 0, 0.5), dx.inference.Answer(1, 3, 1, 0.9)]
    body = live_answers.answers(record, last, None)
    assert "<img" not in body and "&lt;img" in body
    table = live_answers.table(record, [dx.inference.Disagreement(0, 0, 1, 0, 1, None)])
    assert table["prediction"][0].startswith(r"\<img ")


def test_a_disagreement_is_told_with_its_distance_to_the_threshold() -> None:
    record = make_record(4)
    shown = [dx.inference.Disagreement(3, 0, 1, 2, 2, distance) for distance in (3e-6, None, 0.2)]
    table = live_answers.table(record, shown)
    assert table["score to threshold"].tolist() == ["3.0e-06", "", "2.0e-01"]
    assert table["exit taken"].tolist() == ["1"] * 3 and table["recorded exit"].tolist() == ["2"] * 3
