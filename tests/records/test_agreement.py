"""Scores that belong to other logits are found when a folder is checked: `records.agreement`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from synthetic import record_from_logits

from dmpo_explore.records.record import ExitRecord
from dmpo_explore.records.validation import problems

RNG = np.random.default_rng(0)


@pytest.fixture(params=[1.0, 30.0])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A record of 40 images, 3 exits and 7 classes, with small or with large logits."""
    record_from_logits(request.param * RNG.normal(size=(40, 3, 7)), RNG.integers(0, 7, 40)).save(tmp_path / "val")
    return tmp_path / "val"


def test_scores_of_the_logits_agree_with_them(folder: Path) -> None:
    assert problems(folder) == []


def test_negated_logits_are_found(folder: Path) -> None:
    np.save(folder / "logits.npy", -np.load(folder / "logits.npy"))
    (text,) = problems(folder)
    assert "prediction.npy: another class has the largest logit at image 0 (counted from 0), exit 1" in text
    assert "(120 such values)" in text


def test_one_prediction_of_another_class_is_found(folder: Path) -> None:
    prediction = np.load(folder / "scores" / "prediction.npy")
    prediction[17, 1] = (prediction[17, 1] + 1) % 7
    np.save(folder / "scores" / "prediction.npy", prediction)
    (text,) = problems(folder)
    assert "another class has the largest logit at image 17 (counted from 0), exit 2" in text


def test_confidences_of_another_temperature_are_found(folder: Path) -> None:
    confidence = np.load(folder / "scores" / "confidence.npy")
    np.save(folder / "scores" / "confidence.npy", np.maximum(np.float32(1 / 7), confidence**2))
    found = [text for text in problems(folder) if "confidence.npy" in text]
    assert len(found) == 1 and "not the largest softmax probability of the logits" in found[0]


def test_a_margin_above_the_confidence_is_found_without_logits_too(folder: Path) -> None:
    np.save(folder / "scores" / "margin.npy", np.full((40, 3), 0.99, np.float32))
    confidence = np.load(folder / "scores" / "confidence.npy")
    (folder / "logits.npy").unlink()
    (text,) = problems(folder)
    assert "margin.npy: the margin is above the confidence" in text
    assert f"({int((confidence < 0.989).sum())} such values)" in text


def test_a_record_that_does_not_agree_is_still_opened(folder: Path) -> None:
    np.save(folder / "logits.npy", -np.load(folder / "logits.npy"))
    assert ExitRecord.load(folder).n_images == 40
