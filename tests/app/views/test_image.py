"""One image: the numbers of a recorded image are the library's; links lead to it and reproduce it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from dmpo_explore_app.services import images, model_queries, models
from made_up import HOSTILE
from one_image import address_of, bodies, opened, reason, said, tiny
from visiting import checked

import dmpo_explore as dx
from dmpo_explore.analysis.decision_trace import most_probable, trace_decision
from dmpo_explore.analysis.novelty import novelty_detector


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["confidence", "entropy", "patience", "gate"])
def test_a_recorded_image_says_what_the_record_knows(trained_runs: Path, policy: str) -> None:
    run, record = tiny()
    fitted = dx.fit_policy(run.record("val"), policy, flops=0.8)
    for row in (0, 7, 359 if record.n_images > 359 else record.n_images - 1):
        app = opened(run="tiny", policy=policy, threshold=str(fitted.thresholds[0]), image=str(row))
        found = trace_decision(record, fitted, row)
        assert found.exit == fitted.exits(record)[row]
        assert reason(app) == found.sentence()
        assert f"at {record.confidence[row, found.exit]:.1%}" in bodies(app)
        assert record.logits is not None
        classes, _ = most_probable(record.logits[row])
        cells = re.findall(r'title="([^":]*): [\d.]+%"', bodies(app))
        assert cells == [record.meta.class_names[classes[k, n]] for k in range(3) for n in range(5)]
        near = novelty_detector(record).nearest(record.subset([row]), 10, without=row)
        assert re.findall(r'data-pick="image (\d+)"', bodies(app)) == [str(n) for n in near]
        assert not app.error and "cannot" not in said(app)


@pytest.mark.slow
def test_every_exit_is_marked_and_a_target_keeps_its_words(trained_runs: Path) -> None:
    _, record = tiny()
    rows = [int(np.flatnonzero(record.correct[:, 0] == correct)[0]) for correct in (True, False)]
    found = [opened(run="tiny", image=str(row)) for row in rows]
    for app, row in zip(found, rows, strict=True):
        marks = re.findall(r"<ul><li [^>]*><span>(.) ", bodies(app))
        assert marks == ["✓" if correct else "✗" for correct in record.correct[row]]
    targets = [app.selectbox(key="target").options for app in found]
    assert targets[0] == targets[1]  # a browser keeps a choice by its words: with an image's class it would be lost


def test_it_opens_on_an_image_that_tells_something_and_stays_there(trained_runs: Path) -> None:
    run, record = tiny()
    app = opened(run="tiny", method="integrated_gradients")
    row = dx.analysis.telling_image(dx.apply(dx.fit_run_policy(run), record))
    assert app.number_input(key="row").value == row
    checked(app.text_input(key="threshold").set_value("0.2").run())
    assert app.number_input(key="row").value == row and address_of(app)["image"] == str(row)
    checked(app.number_input(key="row").set_value(0).run())
    assert address_of(app)["image"] == "0" and app.session_state["image"] == 0 and app.button(key="Previous").disabled


def test_no_model_is_loaded_for_what_the_record_knows(trained_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "model", None)
    slow = {"method": "integrated_gradients"}  # waits until it is asked for
    assert "Exits at" in (text := reason(opened(run="tiny", image="3", **slow))) or "last exit" in text


def test_without_weights_the_record_still_answers_and_a_notice_names_the_fix(trained_runs: Path) -> None:
    app = opened(run="bare", image="5")
    record = dx.load_run("bare").record("test")
    policy = dx.fit_run_policy(dx.load_run("bare"))
    assert reason(app) == trace_decision(record, policy, 5).sentence()
    checked(app.toggle(key="query the model").set_value(True).run())
    assert "no weights" in said(app) and "train it" in said(app)
    assert reason(app) == trace_decision(record, policy, 5).sentence() and HOSTILE not in bodies(app)


def test_a_backbone_that_is_not_fetched_is_named(trained_runs: Path) -> None:
    """The cache is empty here, and so is that of loaded models."""
    models._model.clear()
    app = opened(run="demo", image="5")
    assert bodies(app).count("<i>") == 5 * 6  # the record keeps logits
    assert any("dmpo-explore fetch --backbone vit_small_patch14_dinov2" in one.value for one in app.caption)
    assert any(button.label == "Fetch 90 MB" for button in app.button) and not app.error


@pytest.mark.slow
def test_the_model_is_asked_where_the_record_keeps_no_logits(trained_runs: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(trained_runs / "tiny", trained_runs / "short")
    try:
        for split in ("val", "test"):
            (trained_runs / "short" / "records" / split / "logits.npy").unlink()
        app = opened(run="short", image="4")
        assert bodies(app).count("<i>") == 3
        checked(app.toggle(key="query the model").set_value(True).run())
        run, record = tiny()
        now = run.model("cpu")(run.inputs("test", [4]))[0].detach().numpy()
        classes, _ = most_probable(now.astype(np.float16))
        cells = re.findall(r'title="([^":]*): [\d.]+%"', bodies(app))
        assert cells[:5] == [record.meta.class_names[c] for c in classes[0]]
    finally:
        shutil.rmtree(trained_runs / "short")


def test_what_the_model_sees_is_the_preprocessed_input(trained_runs: Path) -> None:
    run, _ = tiny()
    image = images.ChosenImage(run, "test", 9)
    seen = model_queries.model_input(image)
    mean, std = (np.array(v).reshape(3, 1, 1) for v in (run.preprocess().mean, run.preprocess().std))
    shown = (run.inputs("test", [9])[0].numpy() * std + mean).transpose(1, 2, 0)
    assert seen.shape == (32, 32, 3) and np.abs(seen / 255 - shown).max() < 0.51 / 255


def test_a_threshold_set_by_hand_moves_where_it_leaves(trained_runs: Path) -> None:
    app = opened(run="tiny", image="5", threshold="0.5")
    checked(app.text_input(key="threshold").set_value("1.01").run())
    assert "Goes to the last exit" in reason(app) and address_of(app)["threshold"] == "1.01"
    checked(app.text_input(key="threshold").set_value("0").run())
    assert "Exits at exit 1" in reason(app)
    checked(app.text_input(key="threshold").set_value("<b>x").run())
    assert "cannot be used" in said(app)


def test_a_refused_method_says_why(trained_runs: Path) -> None:
    app = opened(run="bare", method="deep_lift")
    assert "DeepLift's rules cover layers that act on one number at a time" in said(app)
    assert app.session_state["method"] == "token_grad_cam"


def test_an_image_with_unusual_answers_is_said_to_have_them(
    trained_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dmpo_explore.analysis.novelty import NoveltyDetector

    monkeypatch.setattr(NoveltyDetector, "score", lambda *args, **options: 0.996)
    text = said(opened(run="tiny", image="3"))
    assert "Its answers are unlike those on val" in text and "99.6%" in text
    monkeypatch.setattr(NoveltyDetector, "score", lambda *args, **options: 0.5)
    assert "unlike" not in said(opened(run="tiny", image="3"))


@pytest.mark.slow
def test_one_confidence_is_too_little_for_novelty(monkeypatch: pytest.MonkeyPatch) -> None:
    from dmpo_explore.analysis.novelty import NoveltyDetector

    monkeypatch.setattr(NoveltyDetector, "score", lambda *args, **options: 0.996)
    assert "unlike" not in said(opened(run="fashion-single", image="3"))  # a record without logits


# -- to take away --


@pytest.mark.slow
def test_the_shared_code_says_what_the_page_says(trained_runs: Path) -> None:
    run, record = tiny()
    app = opened(run="tiny", image="3", threshold="0.4", method="saliency")
    app.session_state["share"] = True
    from calls import printed

    code = next(block.value for block in checked(app.run()).code if "dx.compare_exits" in block.value)
    lines = printed(code.replace("run.model()", "run.model('cpu')")).splitlines()
    policy = dx.fit_policy(run.record("val"), threshold=0.4)
    assert lines[1].startswith(f"{policy.exits(record)[3] + 1} [")


def test_what_each_exit_sees_is_the_librarys(trained_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened(run="tiny", image="5", method="integrated_gradients")
    checked(app.toggle(key="show tokens").set_value(True).run())
    run, _ = tiny()
    tokens = dx.stage_tokens(run.model("cpu"), run.inputs("test", [5]))
    found = dx.inspection.patch_components(tokens)
    shares = "; ".join(f"Exit {k} {one.shares.sum():.0%}" for k, one in enumerate(found, start=1))
    assert any(shares in text.value for text in app.caption)
    spec = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert len(spec["data"]) == 1 + len(found) == 4
    bare = opened(run="bare", image="5")
    checked(bare.toggle(key="show tokens").set_value(True).run())
    assert any("The patch tokens cannot be shown here" in error.value for error in bare.error)


def test_an_edit_without_the_model_offers_its_weights_beside_the_other_offer(trained_runs: Path) -> None:
    app = opened(run="fashion-naive")
    checked(app.toggle(key="query the model").set_value(True).run())
    checked(app.pills(key="edit").set_value("grey").run())
    assert any("edited" in str(button.key) for button in app.button)


def test_an_edit_is_made_once(trained_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit = Mock(wraps=dx.data.edited)
    monkeypatch.setattr("dmpo_explore.data.edited", edit)
    app = opened(run="tiny", image="3")
    checked(app.pills(key="edit").set_value("rotate").run())
    checked(app.run())
    assert "Edited, it exits at" in bodies(app)
    edit.assert_called_once()
