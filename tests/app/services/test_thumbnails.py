"""A changed file is a crossed tile, no picture; images are read once, also where they are not the record's."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from dmpo_explore_app.services import thumbnails


def test_a_changed_image_is_a_crossed_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    class Images:
        def __getitem__(self, row: int) -> object:
            raise ValueError(f"{row}.png has been changed since the training")

    monkeypatch.setattr(thumbnails, "image_set_at", lambda stamp: Images())
    monkeypatch.setattr(thumbnails.records, "stamp", lambda run, split: ("a run of this test", split, 0, 0))
    thumbnail = thumbnails.thumbnails(SimpleNamespace(), "test")  # type: ignore[arg-type]
    assert thumbnail(3) == thumbnails.not_read() and thumbnails.not_read().startswith("data:image/png;base64,")


def test_images_that_are_not_the_records_are_read_once_and_not_at_every_release(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image_set = Mock(side_effect=ValueError("classes or labels differ"))
    monkeypatch.setattr(thumbnails.own_runs, "run_at", lambda path: SimpleNamespace(image_set=image_set))
    stamp = ("a run whose images are others", "test", 0, 0)
    for _ in range(3):
        with pytest.raises(ValueError, match="classes or labels differ"):
            thumbnails.image_set_at(stamp)
    image_set.assert_called_once_with("test")


def test_images_that_are_not_here_are_looked_for_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may have been fetched meanwhile."""
    images = SimpleNamespace()
    image_set = Mock(side_effect=[FileNotFoundError("fetch them first"), images])
    monkeypatch.setattr(thumbnails.own_runs, "run_at", lambda path: SimpleNamespace(image_set=image_set))
    stamp = ("a run whose images are fetched", "test", 0, 0)
    with pytest.raises(FileNotFoundError):
        thumbnails.image_set_at(stamp)
    assert thumbnails.image_set_at(stamp) is images


def test_a_package_that_is_missing_is_as_images_that_are_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    image_set = Mock(side_effect=ImportError("needs datasets, which is not installed"))
    monkeypatch.setattr(thumbnails.own_runs, "run_at", lambda path: SimpleNamespace(image_set=image_set))
    with pytest.raises(FileNotFoundError, match="needs datasets"):
        thumbnails.image_set_at(("a run on hfds", "test", 0, 0))
