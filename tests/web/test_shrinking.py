"""Weights are stored in fewer bytes only where nearly all images keep exit and label, or where that was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dmpo_explore.web import export as shrinking
from dmpo_explore.web.export import Agreement, shrink_export

IMAGES = [np.zeros((8, 8, 3), np.uint8)] * 4


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An export whose graphs are texts; `answers` decides what each kind of weights answers."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "stage-1.onnx").write_text("float32")
    monkeypatch.setattr(shrinking, "shrink_graph", lambda source, target, kind: target.write_text(kind))
    return tmp_path / "stages"


def answering(monkeypatch: pytest.MonkeyPatch, **exits: list[int]) -> None:
    def answers(folder: Path, images: Any, kind: str, progress: Any) -> tuple[Any, Any]:
        return np.array(exits.get(kind, [0, 0, 1, 1])), np.array([5, 6, 7, 8])

    monkeypatch.setattr(shrinking, "_answers", answers)


def test_the_smallest_kind_that_answers_alike_is_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch)
    assert shrink_export(folder, IMAGES) == Agreement("int8", 4, 4, 4)
    assert (folder / "stage-1.onnx").read_text() == "int8"
    assert [path.name for path in folder.parent.iterdir()] == ["stages"]


def test_one_image_of_a_hundred_may_answer_otherwise() -> None:
    assert Agreement("int8", 1000, 990, 1000).alike and not Agreement("int8", 1000, 989, 1000).alike
    assert not Agreement("int8", 1000, 1000, 989).alike


def test_a_kind_that_moves_more_exits_is_not_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, int8=[0, 0, 1, 0])
    assert shrink_export(folder, IMAGES).kind == "float16"
    assert (folder / "stage-1.onnx").read_text() == "float16"


def test_where_none_answers_alike_float32_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, int8=[0, 0, 1, 0], float16=[0, 0, 0, 0])
    assert shrink_export(folder, IMAGES).described() == "float32 weights, as trained"
    assert (folder / "stage-1.onnx").read_text() == "float32"
    assert [path.name for path in folder.parent.iterdir()] == ["stages"]


def test_a_kind_that_is_named_is_taken_and_its_agreement_stated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, int8=[0, 0, 1, 0])
    agreement = shrink_export(folder, IMAGES, "int8")
    assert agreement == Agreement("int8", 4, 3, 4) and not agreement.alike
    assert "of 4 images, 3 have the exit and 4 the label of float32" in agreement.described()


def test_without_images_nothing_is_compared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch)
    assert shrink_export(folder, []).kind == "float32"
