"""The sheet of small pictures is exact where images are small and alike, and never distorts others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from dmpo_explore.web.single import InFolder
from dmpo_explore.web.tiles import SMALL, varied, write_pictures, write_running


def test_small_images_are_kept_to_the_pixel(tmp_path: Path) -> None:
    images = list(np.random.default_rng(0).integers(256, size=(23, 28, 20, 3), dtype=np.uint8))
    facts = write_pictures(InFolder(tmp_path), images, [0, 22])
    sheet = np.asarray(Image.open(tmp_path / facts["sheet"]["url"]).convert("RGB"))
    assert (facts["exact"], facts["width"], facts["height"], facts["samples"]) == (True, 20, 28, {})
    for i, image in enumerate(images):
        top, left = i // facts["columns"] * 28, i % facts["columns"] * 20
        assert np.array_equal(sheet[top : top + 28, left : left + 20], image)


def test_larger_images_are_small_in_the_sheet_and_have_files_to_classify(tmp_path: Path) -> None:
    images = [np.full((300, 400, 3), 200, np.uint8), np.full((900, 450, 3), (9, 99, 199), np.uint8)]
    facts = write_pictures(InFolder(tmp_path), images, [1])
    assert not facts["exact"] and list(facts["samples"]) == ["1"]
    with Image.open(tmp_path / facts["samples"]["1"]["url"]) as picture:
        assert picture.size == (320, 640)
    sheet = np.asarray(Image.open(tmp_path / facts["sheet"]["url"]).convert("RGB"))
    middle = SMALL // 2
    assert abs(int(sheet[middle, middle, 0]) - 200) < 5 and sheet.shape[:2] == (SMALL, 40 * SMALL)


def test_an_image_is_never_distorted(tmp_path: Path) -> None:
    """In the sheet its middle square is shown; what runs through the network is whole."""
    wide = np.zeros((90, 270, 3), np.uint8)
    wide[:, 90:180] = 250  # the middle square
    facts = write_pictures(InFolder(tmp_path), [wide])
    sheet = np.asarray(Image.open(tmp_path / facts["sheet"]["url"]).convert("L"))
    assert sheet[:SMALL, 2 : SMALL - 2].min() > 240
    (running,) = write_running(InFolder(tmp_path), [wide])
    with Image.open(tmp_path / running["url"]) as picture:
        assert picture.size == (270, 90)


def test_every_exit_occurs_among_the_pictures_to_classify() -> None:
    rng = np.random.default_rng(0)
    exits, labels = np.minimum(rng.geometric(0.7, 200) - 1, 4), rng.integers(10, size=200)
    rows = varied(exits, labels, 18)
    assert len(rows) == len(set(rows)) == 18
    assert set(exits[rows]) == set(exits) and len(set(labels[rows])) >= 8
    assert varied(np.array([0]), np.array([0]), 18) == [0]
