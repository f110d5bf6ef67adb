"""Maps of images: near each other where the last exit sees images alike, from features first, kept once."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from synthetic import make_record

from dmpo_explore.analysis.image_map import image_map, kept_map, map_source

ROWS = np.arange(10, 70)
MODULE = import_module("dmpo_explore.analysis.image_map")  # its function has the same name


pytestmark = pytest.mark.usefixtures("cache")


def test_images_that_the_last_exit_sees_alike_are_near() -> None:
    record = make_record(100, with_logits=False)
    groups = np.arange(100) % 3
    features = np.zeros((100, record.n_exits, 60), np.float32)
    features[:, -1] = 20 * np.eye(60)[groups] + np.random.default_rng(0).normal(size=(100, 60))
    record = replace(record, features=features)
    places = image_map(record, ROWS)
    middles = np.stack([places[groups[ROWS] == g].mean(axis=0) for g in range(3)])
    nearest = np.linalg.norm(places[:, None] - middles, axis=2).argmin(axis=1)
    assert map_source(record) == "features" and (nearest == groups[ROWS]).all()


def test_it_is_made_once_and_a_broken_one_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = make_record(100)
    assert map_source(record) == "logits" and kept_map(record, ROWS) is None
    assert image_map(record, ROWS, keep=False).shape == (60, 2) and not [*cache.rglob("*.npy")]
    made = image_map(record, ROWS)
    (file,) = cache.rglob("*.npy")
    with monkeypatch.context() as patch:
        patch.setattr(MODULE, "_neighbours", lambda values: pytest.fail("it is made a second time"))
        assert np.array_equal(image_map(record, ROWS), made)
    file.write_bytes(file.read_bytes()[:90])
    assert kept_map(record, ROWS) is None and np.array_equal(image_map(record, ROWS), made)


def test_a_map_of_a_subset_is_not_taken_for_one_of_its_whole_record() -> None:
    record, first = make_record(100), np.arange(40)
    later = record.subset(slice(50, 100))
    image_map(later, first)
    assert kept_map(record, first) is None and kept_map(record, first + 50) is not None


@pytest.mark.parametrize(("logits", "rows", "words"), [(False, 60, "neither"), (True, 7, "too few")])
def test_what_has_no_map_says_why(logits: bool, rows: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        image_map(make_record(100, with_logits=logits), np.arange(rows))
    assert kept_map(make_record(100, with_logits=logits), np.arange(rows)) is None
