"""Photographs of a notebook: public-domain ones in a build and where no others are, else those of this computer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dmpo_explore.course.photographs import PUBLIC, photographs, public_photographs


def test_public_ones_are_colour_images() -> None:
    found = public_photographs(5)
    assert tuple(found) == PUBLIC
    assert all(image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8 for image in found.values())


@pytest.fixture
def caltech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ant", "bass", "dalmatian"):
        folder = tmp_path / "caltech101" / "101_ObjectCategories" / name
        folder.mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (12, 10), (i, 0, 0)).save(folder / f"image_{i:04d}.jpg")
    monkeypatch.setenv("DMPO_EXPLORE_DATA", str(tmp_path))
    monkeypatch.setattr("dmpo_explore.data.known.CALTECH_IMAGES", 60)
    monkeypatch.delenv("NOTEBOOK_PUBLIC", raising=False)


@pytest.mark.usefixtures("caltech")
def test_those_of_this_computer_are_taken() -> None:
    found = photographs(3)
    assert list(found) == ["dalmatian", "ant", "bass"]  # first what ImageNet has, too
    assert all(image.shape == (10, 12, 3) for image in found.values())
    assert list(photographs(1)) == ["dalmatian"]


@pytest.mark.usefixtures("caltech")
def test_a_build_takes_public_ones_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTEBOOK_PUBLIC", "1")
    assert tuple(photographs(2)) == PUBLIC[:2]


def test_without_data_public_ones_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_DATA", str(tmp_path))
    monkeypatch.delenv("NOTEBOOK_PUBLIC", raising=False)
    assert tuple(photographs(1)) == PUBLIC[:1]
