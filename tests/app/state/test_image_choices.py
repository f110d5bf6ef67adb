"""Session state of the image choice and of the attribution choices."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from dmpo_explore_app.state import attribution, image_choices, notes
from image_files import REFUSED, TAKEN
from synthetic import make_record

import dmpo_explore as dx

RECORD = make_record(12, 3, 5, seed=2)
NAMES = RECORD.meta.class_names
OUTCOME = dx.apply(dx.POLICIES["confidence"]((0.9,)), RECORD)
POINT: Any = SimpleNamespace(run=dx.load_run("demo"), split="test", record=RECORD, outcome=OUTCOME)
FIRST = dx.analysis.telling_image(OUTCOME)


class Upload:
    """Stands for what Streamlit's uploader holds."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name, self.data = name, data

    def getvalue(self) -> bytes:
        return self.data


@pytest.mark.parametrize(("given", "row"), [(None, FIRST), ("7", 7), (11, 11)])
def test_a_row_of_the_record_is_taken(state: dict[str, Any], given: object, row: int) -> None:
    state[image_choices.IMAGE] = given
    chosen = image_choices.chosen(POINT)
    assert chosen is not None and chosen.row == row == state[image_choices.ROW]
    assert "said" not in state and image_choices.address(chosen) == {"image": str(row)}


@pytest.mark.parametrize("given", ["12", "-1", "x", "²", ""])
def test_another_row_is_reported(state: dict[str, Any], given: str) -> None:
    state[image_choices.IMAGE] = given
    assert image_choices.validate_row(RECORD, lambda: 5) == 0
    assert "they go from 0 to 11" in state["said"][0]


def test_an_unknown_source_is_reported(state: dict[str, Any]) -> None:
    state[image_choices.SOURCE] = "disk"
    assert (
        image_choices.validate_source(dx.load_run("demo")) == "record" == image_choices.source()
        and "disk" in state["said"][0]
    )


def test_an_upload_comes_and_goes(state: dict[str, Any]) -> None:
    state |= {image_choices.SOURCE: "file", image_choices.FILE: Upload("colour.png", TAKEN["colour.png"])}
    assert image_choices.chosen(POINT) is None
    image_choices.receive_upload(image_choices.FILE)
    chosen = image_choices.chosen(POINT)
    assert chosen is not None and chosen.upload is not None and chosen.row is None
    assert image_choices.address(chosen) == {"source": "file"}
    state[image_choices.FILE] = None
    image_choices.receive_upload(image_choices.FILE)
    assert image_choices.chosen(POINT) is None and not notes.read(notes.UPLOAD)


def test_the_camera_does_not_keep_the_file(state: dict[str, Any]) -> None:
    state |= {image_choices.SOURCE: "file", image_choices.FILE: Upload("colour.png", TAKEN["colour.png"])}
    image_choices.receive_upload(image_choices.FILE)
    assert image_choices.chosen(POINT) is not None
    state[image_choices.SOURCE] = "camera"
    assert image_choices.chosen(POINT) is None
    state[image_choices.PHOTO] = Upload("text.png", REFUSED["text.png"][0])
    image_choices.receive_upload(image_choices.PHOTO)
    assert notes.read(notes.UPLOAD)
    state[image_choices.SOURCE] = "file"  # its widget is drawn anew, and empty
    assert image_choices.chosen(POINT) is None and not notes.read(notes.UPLOAD)


def test_a_refused_upload_has_a_reason(state: dict[str, Any]) -> None:
    data, reason = REFUSED["text.png"]
    state |= {image_choices.SOURCE: "file", image_choices.FILE: Upload("text.png", data)}
    image_choices.receive_upload(image_choices.FILE)
    assert reason in notes.read(notes.UPLOAD) and image_choices.chosen(POINT) is None


def test_a_click_opens_an_image_of_the_record(state: dict[str, Any]) -> None:
    state[image_choices.SOURCE] = "file"
    for what in ("", "image", "image x", "class 3"):
        image_choices.open_clicked(what)
    assert state == {image_choices.SOURCE: "file"}
    image_choices.open_clicked("image 7")
    assert state == {image_choices.SOURCE: "record", image_choices.IMAGE: 7}


def test_a_row_is_of_its_images(state: dict[str, Any]) -> None:
    image_choices.open_row(7)
    assert image_choices.validate_row(RECORD, lambda: 5) == 7 == image_choices.validate_row(RECORD, lambda: 5)
    assert (
        image_choices.validate_row(replace(RECORD, meta=replace(RECORD.meta, split="other")), lambda: 5) == 5
        and "said" not in state
    )


@pytest.mark.parametrize(("target", "found"), [("score", "score"), ("last", 2), ("here", 1), ("4", 3)])
def test_the_target_of_an_attribution(state: dict[str, Any], target: str, found: object) -> None:
    one = RECORD.subset([0])
    one.prediction[0] = [0, 1, 2]
    state[attribution.TARGET] = target
    attribution.validate(NAMES)
    question = attribution.question(one, 1)
    assert question == ("token_grad_cam", found, "black") and "said" not in state
    assert attribution.address() == ({} if target == "score" else {"target": target})


def test_a_target_class_is_of_its_names(state: dict[str, Any]) -> None:
    state[attribution.TARGET] = "4"
    for names, target in ((NAMES, 4), (NAMES, 4), (tuple("abcde"), attribution.SCORE)):
        attribution.validate(names)
        assert state[attribution.TARGET] == target
    state[attribution.TARGET] = attribution.HERE
    attribution.validate(NAMES)
    assert state[attribution.TARGET] == attribution.HERE and "said" not in state


def test_choices_that_are_not_offered_are_reported(state: dict[str, Any]) -> None:
    state |= {attribution.METHOD: "deep_lift", attribution.TARGET: "6", attribution.BASELINE: "white"}
    attribution.validate(NAMES)
    assert attribution.question(RECORD.subset([0]), 0).method == "token_grad_cam" and len(state["said"]) == 3
    assert attribution.address() == {}
