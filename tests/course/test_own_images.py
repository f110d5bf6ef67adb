"""The example images of notebook 07: a folder per class, every file readable."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from dmpo_explore.course.own_images import NAMES, make_images


def test_digits_are_a_folder_per_class(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "images", 30)
    files = sorted(folder.glob("*/*.png"))
    assert len(files) == 30 and {path.parent.name for path in files} == set(NAMES)
    with Image.open(files[0]) as image:
        assert image.size == (8, 8) and image.mode == "L"
