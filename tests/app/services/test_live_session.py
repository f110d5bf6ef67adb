"""A live run that has ended: its model is let go, and its results can still be saved."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dmpo_explore_app.services import live_export, live_session, models

import dmpo_explore as dx
from dmpo_explore.inference.live import Arms


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


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Model]]:
    """The models that live runs have loaded."""
    found: list[weakref.ref[Model]] = []

    def model(*_: Any, **__: Any) -> Model:
        made = Model()
        found.append(weakref.ref(made))
        return made

    monkeypatch.setattr(models, "model", model)
    monkeypatch.setattr(dx.inference, "open_arms", arms_of)
    return found


def ended(run: dx.Run) -> live_session.LiveSession:
    policy = dx.fit_policy(run.record("val"), flops=0.5)
    session = live_session.open_session(run, "test", policy, live_session.LiveSettings(100, 200))
    session.live.start()
    session.live._thread.join(20)
    assert session.look().state == "done"
    return session


def test_a_live_run_that_has_ended_holds_no_model(runs: Path, made: list[weakref.ref[Model]]) -> None:
    session = ended(dx.load_run("four"))
    gc.collect()
    assert [model() for model in made] == [None]
    assert live_session.kept(session.token) is session and session.look().count.images == 200


def test_results_are_saved_after_the_run_was_deleted(
    runs: Path, tmp_path: Path, made: list[weakref.ref[Model]]
) -> None:
    shutil.copytree(runs / "four", tmp_path / "gone")
    session = ended(dx.load_run(tmp_path / "gone"))
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
