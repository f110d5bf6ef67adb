"""The example images of notebook 07: a folder per class, and new ones from where no training image is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dmpo_explore.course.own_images import CALTECH, PUBLIC, SIDE, make_images


def test_public_pictures_are_a_folder_per_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTEBOOK_PUBLIC", "1")
    assert make_images(tmp_path, 12, new=3) == "6 classes: cuts of six pictures in the public domain, of scikit-image"
    for part, count in (("images", 12), ("new", 3)):
        assert {path.name: len(list(path.iterdir())) for path in (tmp_path / part).iterdir()} == dict.fromkeys(
            PUBLIC, count
        )
    with Image.open(tmp_path / "images" / "coffee" / "0000.png") as image:
        assert image.size == (SIDE, SIDE) and image.mode == "RGB"


def test_new_cuts_share_no_pixel_with_those_to_train_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from skimage import data

    monkeypatch.setenv("NOTEBOOK_PUBLIC", "1")
    picture = np.arange(120 * 400, dtype=np.uint16).reshape(120, 400)
    for name in PUBLIC:
        monkeypatch.setattr(data, name, lambda: picture, raising=False)
    make_images(tmp_path, 20, new=5)
    seen, new = (
        {int(value) for path in (tmp_path / part / "brick").iterdir() for value in np.asarray(Image.open(path)).ravel()}
        for part in ("images", "new")
    )
    assert seen and new and not seen & new


def test_photographs_of_this_computer_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "data" / "caltech101" / "101_ObjectCategories"
    for c, name in enumerate(CALTECH):
        (root / name).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (12, 10), (i, c, 0)).save(root / name / f"image_{i:04d}.png")
    monkeypatch.setenv("DMPO_EXPLORE_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("NOTEBOOK_PUBLIC", raising=False)
    assert make_images(tmp_path, 15, new=5) == "6 classes: photographs of Caltech-101 (CC BY 4.0)"
    files = sorted((tmp_path / "images" / "ketch").iterdir()) + sorted((tmp_path / "new" / "ketch").iterdir())
    reds = [Image.open(path).getpixel((0, 0))[0] for path in files]  # type: ignore[index]
    assert len(set(reds)) == 20  # no image twice
