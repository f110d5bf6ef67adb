"""Attribution on One image: maps and their quality are the library's, made once and on request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import visiting
from dmpo_explore_app import messages
from dmpo_explore_app.services import images, model_queries, models
from dmpo_explore_app.state import panels
from one_image import VIEW, opened, press, said, tiny
from visiting import checked

import dmpo_explore as dx


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*convergence delta")
def test_maps_and_their_quality_are_the_librarys(trained_runs: Path) -> None:
    run, _ = tiny()
    address = {"run": "tiny", "image": "3", "target": "2", "baseline": "mean", "method": "integrated_gradients"}
    app = visiting.opened(VIEW, state={panels.QUALITY: True}, **address)
    assert not app.get("plotly_chart")  # nothing is explained before one asks
    press(app, "Explain every exit")
    expected = dx.compare_exits(run.model("cpu"), run.inputs("test", [3])[0], 1, baseline="mean")
    question = model_queries.Question("integrated_gradients", 1, "mean")
    found = model_queries.cached_maps(images.ChosenImage(run, "test", 3), question)
    assert found is not None and np.allclose(found.heat, expected.heat, atol=1e-6)
    for one, there in zip(found.attributions, expected.attributions, strict=True):
        assert one.delta == pytest.approx(there.delta, abs=1e-4)
        numbers = (messages.signed(there.logit).removeprefix("+"), messages.signed(there.difference))
        assert all(text in app.table[0].value.to_string() for text in numbers)
    assert len(app.get("plotly_chart")) == 1 and "not checked" in app.table[0].value.to_string()
    press(app, "Check them by hiding parts")
    quality = expected.attributions[0].quality(perturbations=0, orders=4)
    checked_numbers = app.table[0].value.to_string()
    assert f"{quality.unexplained:.0%} " in checked_numbers and f"{quality.insertion_area:.2f} (" in checked_numbers
    elsewhere = models._answers(8)  # a session's own store, of images that it sent
    elsewhere.keep(("maps",), found)
    models._model.clear()
    assert not models._shared() and not elsewhere  # maps would keep the model in memory


def test_a_cheap_method_answers_at_once_and_others_wait(trained_runs: Path) -> None:
    app = opened(run="tiny", image="3", method="saliency")
    assert len(app.get("plotly_chart")) == 1
    checked(app.selectbox(key="method").set_value("occlusion").run())
    assert not app.get("plotly_chart")
    checked(app.selectbox(key="method").set_value("saliency").run())
    assert len(app.get("plotly_chart")) == 1


def test_what_decides_is_explained_first_and_an_incorrect_exit_is_set_beside_a_correct_one(trained_runs: Path) -> None:
    run, record = tiny()
    mended = np.flatnonzero(~record.correct[:, 0] & record.correct[:, 1])
    row = int(mended[0])
    app = opened(run="tiny", image=str(row))
    maps = dx.compare_exits(run.model("cpu"), run.inputs("test", [row])[0], "score", "token_grad_cam")
    assert [one.target for one in maps.attributions] == record.prediction[row].tolist()
    found = model_queries.cached_maps(
        images.ChosenImage(run, "test", row), model_queries.Question("token_grad_cam", "score", "black")
    )
    assert found is not None and np.allclose(found.heat, maps.heat, atol=1e-5)
    (chart,) = app.get("plotly_chart")
    titles = [note["text"] for note in json.loads(chart.proto.spec)["layout"]["annotations"]]
    assert titles == ["Exit 1", "Exit 2", "Exit 3", "Exit 2 − Exit 1"]
    assert any("exit 2, correct, minus that of exit 1, incorrect" in caption.value for caption in app.caption)


@pytest.mark.slow
def test_an_explanation_is_asked_once(trained_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened(run="tiny", image="3", method="token_grad_cam")
    assert len(app.get("plotly_chart")) == 1
    monkeypatch.setattr("dmpo_explore.compare_exits", None)
    checked(app.text_input(key="threshold").set_value("0.9").run())  # not in a threshold's path
    other = opened(run="tiny", image="3", method="token_grad_cam")  # another session
    assert len(app.get("plotly_chart")) == len(other.get("plotly_chart")) == 1


def test_what_a_method_cannot_do_is_a_notice(trained_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **options: Any) -> None:
        raise ValueError("attention cannot be read here")

    monkeypatch.setattr("dmpo_explore.compare_exits", broken)
    app = opened(run="tiny", image="3", method="attention_rollout")
    assert "attention cannot be read here" in said(app)


@pytest.mark.slow
def test_only_a_map_with_signs_is_called_evidence(trained_runs: Path) -> None:
    methods = ("token_grad_cam", "saliency", "attention_rollout")
    cam, saliency, rollout = (
        " ".join(caption.value for caption in opened(run="tiny", image="3", method=method).caption).replace("\\", "")
        for method in methods
    )
    assert "Evidence for the logarithm of each exit's confidence (orange) and against it (blue), on one scale." in cam
    assert "Evidence for" not in saliency and "for the logarithm of each exit's confidence, on one scale." in saliency
    assert "Evidence for" not in rollout and "Attention rollout, on one scale." in rollout  # of no class


def test_a_negative_similarity_has_a_minus_sign(trained_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dx.ExitComparison, "similarity", lambda self: -0.125 * np.ones((len(self.exits),) * 2))
    row = int(np.flatnonzero(~tiny()[1].correct[:, 0] & tiny()[1].correct[:, 1])[0])
    text = " ".join(caption.value for caption in opened(run="tiny", image=str(row), method="saliency").caption)
    assert "cosine similarity is −0.12" in text and "-0.12" not in text
