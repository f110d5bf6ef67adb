"""The example images of notebook 07: a folder per class, and new ones that are not among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dmpo_explore as dx
from dmpo_explore.course.own_images import CALTECH, GARMENTS, make_images


def test_bundled_clothes_are_a_folder_per_class_and_no_image_comes_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTEBOOK_PUBLIC", "1")
    assert make_images(tmp_path, 12, new=3) == "6 classes: clothes of Fashion-MNIST (MIT licence)"
    files = {part: sorted((tmp_path / part).glob("*/*.png")) for part in ("images", "new")}
    for part, count in (("images", 12), ("new", 3)):
        assert [path.parent.name for path in files[part]] == [name for name in GARMENTS for _ in range(count)]
    pixels = {path.read_bytes() for path in files["images"] + files["new"]}
    assert len(pixels) == 15 * len(GARMENTS)
    run = dx.load_run("demo")
    first = int(np.flatnonzero(run.record("test").labels == run.class_names.index("Sandal"))[0])
    with Image.open(tmp_path / "images" / "Sandal" / "0000.png") as image:
        assert np.array_equal(np.asarray(image), run.image_set("test")[first])


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
    assert [len(list((tmp_path / part / "ketch").iterdir())) for part in ("images", "new")] == [15, 5]
    reds = [Image.open(path).getpixel((0, 0))[0] for path in files]  # type: ignore[index]
    assert len(set(reds)) == 20  # no image twice
    make_images(tmp_path / "fewer", 100, new=5)  # a class has fewer: the new ones are still kept apart
    assert [len(list((tmp_path / "fewer" / part / "ketch").iterdir())) for part in ("images", "new")] == [15, 5]
