"""Distances between the exits' answers are the naive ones; a novel image scores high, one of the reference does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from synthetic import make_record, record_from_logits

from dmpo_explore.analysis import novelty
from dmpo_explore.analysis.novelty import NEIGHBOURS, SAMPLE, novelty_detector
from dmpo_explore.records.record import ExitRecord

RECORD = make_record(300, 3, 4, seed=5)
BARE = replace(RECORD, logits=None)
DETECTOR = novelty_detector(RECORD)


def naive(record: ExitRecord, image: ExitRecord, by: str) -> list[float]:
    """Distances one by one."""
    if by == "logits":
        assert record.logits is not None and image.logits is not None
        z = record.logits.astype(float) - record.logits.astype(float).mean(axis=2, keepdims=True)
        spread = np.sqrt((z**2).mean(axis=(0, 2)))
        one = image.logits[0].astype(float) - image.logits[0].astype(float).mean(axis=1, keepdims=True)
        return [float(np.sqrt((((row - one) / spread[:, None]) ** 2).sum())) for row in z]
    shape = (record.n_exits, len(record.meta.class_names))

    def place(r: ExitRecord, row: int) -> np.ndarray:
        point = np.zeros(shape)
        point[np.arange(shape[0]), r.prediction[row]] = r.confidence[row]
        return point

    return [float(np.linalg.norm(place(record, row) - place(image, 0))) for row in range(record.n_images)]


@pytest.mark.parametrize(("record", "by"), [(RECORD, "logits"), (BARE, "scores")])
def test_distances_and_the_nearest_are_the_naive_ones(record: ExitRecord, by: str) -> None:
    found = novelty_detector(record)
    assert found.by == by
    for row in (0, 17, 299):
        image = record.subset([row])
        expected = np.array(naive(record, image, by))
        assert np.allclose(found.distances(image), expected, atol=5e-3)
        assert found.nearest(image, 1).tolist() == [row]
        nearest = found.nearest(image, 8, without=row)
        assert row not in nearest and len(nearest) == 8
        others = np.delete(expected, row)
        assert np.allclose(np.sort(expected[nearest]), np.sort(others)[:8], atol=5e-3)
    assert len(found.nearest(record.subset([0]), 10_000)) == 300


@pytest.mark.parametrize("record", [RECORD, BARE])
def test_scores_of_the_reference_are_uniform(record: ExitRecord) -> None:
    """Leave-one-out: for images of the reference the score is a quantile, so about uniform."""
    found = novelty_detector(record)
    shares = [found.score(record.subset([row]), without=row) for row in range(record.n_images)]
    assert 0.45 < np.mean(shares) < 0.55
    assert np.mean(np.array(shares) >= 0.9) == pytest.approx(0.1, abs=0.02)


def test_a_novel_image_scores_high() -> None:
    strange = record_from_logits(np.full((1, 3, 4), [40.0, 40.0, -40.0, -40.0]), [0])
    assert novelty_detector(RECORD).score(strange) == 1.0
    certain = record_from_logits(np.full((1, 3, 4), [3.0, 0.0, 0.0, 0.0]), [0])
    assert novelty_detector(RECORD).score(certain) < 0.99


def test_reference_distances_are_without_oneself_and_of_a_sample() -> None:
    assert DETECTOR.reference_distances.shape == (300,) and DETECTOR.reference_distances.min() > 0.01
    large = novelty_detector(make_record(SAMPLE + 50, 2, 3, with_logits=False))
    assert large.reference_distances.shape == (SAMPLE,)
    tiny = novelty_detector(RECORD.subset(range(NEIGHBOURS)))
    assert tiny.reference_distances.size == 0 and np.isnan(tiny.score(RECORD.subset([0])))


def test_logits_may_be_left_out_or_be_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    assert novelty_detector(RECORD, logits=False).by == "scores"
    monkeypatch.setattr(novelty, "LARGEST", 100)
    assert novelty_detector(RECORD).by == "scores"


def test_logits_that_never_differ_are_no_division_by_zero() -> None:
    flat = record_from_logits(np.zeros((20, 2, 3)), np.zeros(20, int))
    assert novelty_detector(flat).distances(flat.subset([0])).tolist() == [0.0] * 20


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: DETECTOR.distances(RECORD.subset([0, 1])), "a record of 2 images"),
        (lambda: DETECTOR.distances(make_record(1, 4, 4)), "of 4 exits, the reference of 3"),
        (lambda: DETECTOR.distances(BARE.subset([0])), "by logits, and the image's record has none"),
    ],
)
def test_what_cannot_be_compared_is_said(ask: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ask()
