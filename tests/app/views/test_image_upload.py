"""An uploaded image is answered as the library does or refused, and not kept outside its session."""

from __future__ import annotations

import html
import io
import re
from pathlib import Path

import pytest
from dmpo_explore_app.services import models
from image_files import REFUSED, TAKEN, encoded
from one_image import address_of, bodies, opened, reason, said, tiny, uploaded
from PIL import Image
from visiting import checked

import dmpo_explore as dx
from dmpo_explore.data.image_files import read_image
from dmpo_explore.data.torch_loaders import make_transform


@pytest.mark.parametrize("name", ["turned.jpeg", "deep.png"])  # others: tests/app/services/test_images.py
def test_a_picture_that_is_sent_is_answered_as_the_library_does(trained_runs: Path, name: str) -> None:
    run, _ = tiny()
    app = uploaded(opened(run="tiny", source="file", threshold="0.4"), name, TAKEN[name])
    model = run.model("cpu")
    image = make_transform(model.preprocess)(read_image(TAKEN[name], name))[None]
    out = dx.infer(model, image, dx.fit_policy(run.record("val"), threshold=0.4))
    assert f"exit {out.exit[0] + 1}" in reason(app) or (out.exit[0] == 2 and "last exit" in reason(app))
    label = html.escape(run.class_names[out.label[0]])
    assert f"Prediction: {label} at {out.confidence[0]:.1%}</b>" in bodies(app)
    assert len(re.findall(r'data-pick="image', bodies(app))) == 10
    assert "image" not in address_of(app) and address_of(app)["source"] == "file"


@pytest.mark.parametrize("name", ["text.png", "moving.png"])
def test_what_is_no_picture_is_refused_kindly(trained_runs: Path, name: str) -> None:
    data, why = REFUSED[name]
    app = uploaded(opened(run="tiny", source="file"), name, data)
    assert why in said(app) and name in said(app)
    assert "dx-why" not in bodies(app)
    uploaded(app, "colour.png", TAKEN["colour.png"])
    assert "dx-why" in bodies(app) and not said(app).count("cannot be used")


def test_a_name_that_is_markup_is_text(trained_runs: Path) -> None:
    app = uploaded(opened(run="tiny", source="file"), "<b>[x](javascript:y).png", TAKEN["grey.png"])
    captions = [caption.value for caption in app.caption]
    assert any(r"\<b\>\[x\]\(javascript\:y\)\.png" in caption for caption in captions)


def test_what_is_sent_stays_in_its_session_and_off_the_disk(trained_runs: Path, tmp_path: Path) -> None:
    shared = len(models._shared())
    app = uploaded(opened(run="tiny", source="file", method="saliency"), "colour.png", TAKEN["colour.png"])
    assert len(app.get("plotly_chart")) == 1  # explained too
    assert len(models._shared()) == shared
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept == []
    assert "dx-why" not in bodies(opened(run="tiny", source="file"))  # another session sees nothing of it
    recorded = opened(run="tiny", image="3", method="saliency")
    assert len(recorded.get("plotly_chart")) == 1
    assert any(path.name == "heat.npy" for path in tmp_path.rglob("*"))  # of the record's images maps are kept


def test_taking_the_file_away_forgets_it(trained_runs: Path) -> None:
    app = uploaded(opened(run="tiny", source="file"), "colour.png", TAKEN["colour.png"])
    checked(app.file_uploader(key="file").set_value(None).run())
    assert "dx-why" not in bodies(app) and app.session_state["_upload"] is None


def test_without_weights_a_sent_picture_is_shown_and_the_fix_is_named(trained_runs: Path) -> None:
    models._model.clear()  # type: ignore[attr-defined]  # another test may have loaded it
    app = opened(run="demo", source="file")
    assert any("dmpo-explore fetch" in one.value for one in app.caption)  # before one looks for a picture
    uploaded(app, "colour.png", TAKEN["colour.png"])
    assert any("dmpo-explore fetch" in one.value for one in app.caption) and "dx-why" not in bodies(app)
    assert any("12 × 9 pixels" in caption.value for caption in app.caption)


def test_a_long_image_is_shown_by_its_middle_beside_what_the_model_sees(trained_runs: Path) -> None:
    app = uploaded(opened(run="tiny", source="file"), "long.png", encoded(Image.new("RGB", (400, 20), "red"), "PNG"))
    captions = [caption.value for caption in app.caption]
    assert any("400 × 20 pixels\\, the middle is shown" in caption for caption in captions)
    assert any("the model's input, 32 × 32 pixels, squashed" in caption for caption in captions)


def test_the_camera_waits_for_its_button(trained_runs: Path) -> None:
    app = opened(run="tiny", source="camera")
    assert not app.get("camera_input")
    uploaded(checked(app.segmented_control(key="source").set_value("file").run()), "colour.png", TAKEN["colour.png"])
    assert "dx-why" in bodies(app)
    checked(app.segmented_control(key="source").set_value("camera").run())
    assert "dx-why" not in bodies(app)  # the file is not the camera's
    checked(app.toggle(key="camera on").set_value(True).run())
    (camera,) = app.get("camera_input")
    photo = io.BytesIO()
    Image.fromarray(read_image(TAKEN["colour.png"], "colour.png")).save(photo, "JPEG")
    checked(camera.set_value(("photo.jpg", photo.getvalue(), "image/jpeg")).run())
    assert "dx-why" in bodies(app)
