"""A live run without a page: its model, the race before and after it, its words and cards, its results as files."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dmpo_explore_app.components import live_panel
from dmpo_explore_app.services import live_export, live_session, models, race_data, run_facts
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.state import live_choices
from made_up import HOSTILE
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.inference.live import Arms, LiveStats
from dmpo_explore.policies.rules import ConfidencePolicy


class Model:
    """Stands for a model, which only its arms hold."""


def arms_of(run: dx.Run, split: str, model: Model, size: int, *_: Any, **__: Any) -> Arms:
    """Arms that read the record."""
    record = run.record(split)

    def early(rows: np.ndarray[Any, Any], policy: dx.Policy) -> dx.InferenceResult:
        assert model
        outcome = dx.apply(policy, record.subset(rows))
        return dx.InferenceResult(outcome.exits, outcome.prediction, outcome.confidence)

    return Arms(lambda rows: rows, early, lambda rows: record.prediction[rows, -1], size=size)


def ended(run: dx.Run) -> live_session.LiveSession:
    policy = dx.fit_policy(run.record("val"), flops=0.5)
    session = live_session.open_session(run, "test", policy, live_session.LiveSettings(100, 200))
    session.live.start()
    session.live._thread.join(20)
    assert session.look().state == "done"
    return session


def test_a_live_run_that_has_ended_holds_no_model_and_its_results_outlive_the_run(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Model]] = []

    def model(*_: Any, **__: Any) -> Model:
        one = Model()
        made.append(weakref.ref(one))
        return one

    monkeypatch.setattr(models, "model", model)
    monkeypatch.setattr(dx.inference, "open_arms", arms_of)
    shutil.copytree(runs / "four", tmp_path / "gone")
    session = ended(dx.load_run(tmp_path / "gone"))
    gc.collect()
    assert [one() for one in made] == [None]
    assert live_session.kept(session.token) is session and session.look().count.images == 200
    shutil.rmtree(tmp_path / "gone")
    saved = json.loads(live_export.as_json(session))
    assert (saved["run"], saved["split"], saved["images"]) == ("gone", "test", 200)


@pytest.mark.parametrize(("engine", "loaded"), [("infer", "bf16"), ("stream", "bf16"), ("onnx", "no")])
def test_the_model_is_loaded_in_the_chosen_precision(
    runs: Path, monkeypatch: pytest.MonkeyPatch, engine: str, loaded: str
) -> None:
    """Autocast would cast its weights in every call."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(models, "model", lambda *_, **how: (asked.append(how), Model())[1])
    monkeypatch.setattr(dx.inference, "open_arms", arms_of)
    run = dx.load_run("four")
    settings = live_session.LiveSettings(100, 200, engine, "bf16", device="cpu")
    session = live_session.open_session(run, "test", dx.fit_policy(run.record("val"), flops=0.5), settings)
    assert asked == [{"merge": True, "precision": loaded}] and session.device.startswith("CPU, ")


def test_a_row_for_each_exit() -> None:
    latency = (dx.inference.Latency((0.010, 0.020), (3, 1)), dx.inference.Latency((), ()))
    speed = dx.inference.Speed(4, 1.0, 1.0, 1.0)
    m = dx.inference.Measured(1, speed, speed, 1.0, 1.0, 1.0, 2.0, (4, 0), 1.0, 1.0, latency)
    table = live_export.table(m)
    assert table["images"].tolist() == [4, 0] and table["share"].tolist() == [1.0, 0.0]
    assert np.isclose(table["latency_mean_ms"][0], 12.5) and np.isclose(table["latency_p50_ms"][0], 10.0)
    assert table["latency_mean_ms"].isna().tolist() == [False, True]
    assert live_export.rows(m)[1]["latency_p95_ms"] is None  # NaN is no JSON


def test_before_a_measurement_the_race_is_the_record_with_speeds_expected_or_recorded() -> None:
    run = dx.load_run("demo")
    point = OperatingPoint(run, "test", run_facts.usual_policy(run, "test"))
    found, summary = race_data.before(point, None, None), point.outcome.summary()
    assert found["origin"] == "expected" and "expected from FLOPs" in found["alt"]
    assert found["speed_up"] == pytest.approx(1 / summary["flops_fraction"])
    assert found["counts"] == np.bincount(point.outcome.exits, minlength=6).tolist()
    assert found["gates"][-1] == 1 and len(found["runners"]) == race_data.SHOWN
    share = summary["flops_fraction"]
    timings = dx.runs.Timings("a processor", 2, None, 64, 100, "no", 50.0, (share / 2, 2 * share), (400.0, 100.0))
    found = race_data.before(point, timings, None)
    seconds = 1 / 400 + (1 / 100 - 1 / 400) / 3  # a third of the way from share / 2 to 2 share
    assert found["origin"] == "recorded" and "by recorded timings" in found["alt"] and not found["running"]
    assert found["speed_up"] == pytest.approx(1 / 50 / seconds)
    assert found["lanes"] == ["Early exits · 5 ms an image · 200 images/s", "Full depth · 20 ms an image · 50 images/s"]


def test_afterwards_the_race_is_what_was_measured() -> None:
    record = make_record(20)
    last = (dx.inference.Answer(3, 1, int(record.labels[3]), 0.9), dx.inference.Answer(4, 2, -1, 0.4))
    early, full = dx.inference.Speed(10, 0.5, 0.5, 0.5), dx.inference.Speed(10, 1.5, 1.5, 1.5)
    m = dx.inference.Measured(1, early, full, 3.0, 3.0, 3.0, 3.5, (5, 3, 2, 0), 0.9, 0.9)
    count = dx.inference.Count(None, 10, 10, 10, m, (), last, (), ())
    found = race_data.measured(record, dx.inference.Look("running", count, 20, None), m, lambda row: f"image {row}")
    assert (
        found["origin"] == "measured" and found["running"] and found["speed_up"] == 3.0 and "3.00 times" in found["alt"]
    )
    assert [(one["src"], one["exit"], one["correct"]) for one in found["runners"]] == [
        ("image 3", 1, True),
        ("image 4", 2, False),
    ]
    assert found["lanes"] == ["Early exits · 50 ms an image · 20 images/s", "Full depth · 150 ms an image · 7 images/s"]


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
    body = live_panel.answers(record, last, None)
    assert "<img" not in body and "&lt;img" in body
    table = live_panel.differences(record, [dx.inference.Disagreement(0, 0, 1, 0, 1, None)])
    assert table["prediction"][0].startswith(r"\<img ")


def test_a_disagreement_is_told_with_its_distance_to_the_threshold() -> None:
    record = make_record(4)
    shown = [dx.inference.Disagreement(3, 0, 1, 2, 2, distance) for distance in (3e-6, None, 0.2)]
    table = live_panel.differences(record, shown)
    assert table["score to threshold"].tolist() == ["3.0e-06", "", "2.0e-01"]
    assert table["exit taken"].tolist() == ["1"] * 3 and table["recorded exit"].tolist() == ["2"] * 3


@pytest.mark.parametrize(
    ("images", "counts", "default", "number"),
    [(60, ["all", "endless"], "all", 60), (1500, ["200", "1000", "all", "endless"], "1000", 1000)],
)
def test_numbers_of_images(state: dict[str, Any], images: int, counts: list[str], default: str, number: int) -> None:
    record = make_record(images)
    live_choices.validate(record)
    assert (
        live_choices.counts_for(record) == counts
        and state[live_choices.COUNT] == default
        and live_choices.n_images(record) == number
    )
    state[live_choices.COUNT] = "endless"
    assert live_choices.n_images(record) is None


def test_the_address_holds_what_differs_from_the_defaults(state: dict[str, Any]) -> None:
    state |= {live_choices.BATCH: "8", live_choices.ENGINE: "../x"}
    live_choices.validate(make_record(1500))
    assert live_choices.address() == {"batch": "8"} and len(state["said"]) == 1
    live_choices.end()  # there is none
    assert live_choices.current() is None
