"""Thumbnails of a record's images: one whose file was changed is a crossed tile, never another picture."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from dmpo_explore_app.services import thumbnails


def test_a_changed_image_is_a_crossed_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    class Images:
        def __getitem__(self, row: int) -> object:
            raise ValueError(f"{row}.png has been changed since the training")

    monkeypatch.setattr(thumbnails, "_image_set", lambda stamp: Images())
    monkeypatch.setattr(thumbnails.records, "stamp", lambda run, split: ("a run of this test", split, 0, 0))
    thumbnail = thumbnails.thumbnails(SimpleNamespace(), "test")  # type: ignore[arg-type]
    assert thumbnail(3) == thumbnails.not_read() and thumbnails.not_read().startswith("data:image/png;base64,")
