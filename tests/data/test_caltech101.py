"""Caltech-101 as a source: a made-up folder in its layout, and the real one where it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_files import fill

from dmpo_explore.config import DataConfig
from dmpo_explore.data import known
from dmpo_explore.data.images import fetch_data, load_images, open_data
from dmpo_explore.data.known import CALTECH_BACKGROUND
from dmpo_explore.data.manifest import make_manifest

PARTS = ("train", "val", "calibration", "test")


def test_a_folder_in_its_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "caltech101" / "101_ObjectCategories"
    fill(folder, ("ant", "bass", CALTECH_BACKGROUND), count=20)
    monkeypatch.setenv("DMPO_EXPLORE_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="has 40 images in 2 classes in place of 8,677: it is not whole; delete it"):
        load_images("caltech101", "test")
    monkeypatch.setattr(known, "CALTECH_IMAGES", 40)
    sets = {split: load_images("caltech101", split) for split in PARTS}
    assert {split: np.bincount(images.labels).tolist() for split, images in sets.items()} == {
        "train": [12, 12], "val": [2, 2], "calibration": [2, 2], "test": [4, 4],
    }  # fmt: skip
    assert sets["train"].class_names == ("ant", "bass") and open_data(DataConfig("caltech101")).splits == PARTS
    colours = [tuple(image[0, 0].tolist()) for images in sets.values() for image in images]
    assert len(set(colours)) == 40
    assert fetch_data("caltech101") == folder
    made = make_manifest(DataConfig("caltech101"))
    assert made.data == "caltech101" and "60/10/10/20" in made.rule
    assert made.files["test"][0].path.startswith("caltech101/101_ObjectCategories/ant/")
    monkeypatch.setenv("DMPO_EXPLORE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="caltech101 is not in .*DMPO_EXPLORE_DATA or --data-root"):
        load_images("caltech101", "test")


def test_it_is_unpacked_beside_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, kind: str, root: Path, more: str) -> None:
        fill(root / "caltech101" / "101_ObjectCategories", ("ant",), count=2)
        if stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(known, "download", download)
    stop = True
    with pytest.raises(KeyboardInterrupt):
        fetch_data("caltech101", tmp_path)
    assert not list((tmp_path / "caltech101").iterdir())
    stop = False
    folder = fetch_data("caltech101", tmp_path)
    assert len(list(folder.rglob("*.png"))) == 2 and [*(tmp_path / "caltech101").iterdir()] == [folder]


@pytest.mark.slow
def test_the_real_one() -> None:
    """Without the mark `data`: it is in no registry, so that it may skip in CI."""
    try:
        fetch_data("caltech101")
    except FileNotFoundError as error:
        pytest.skip(f"needs Caltech-101: name its folder in DMPO_EXPLORE_DATA ({error})")
    sets = {split: load_images("caltech101", split) for split in PARTS}
    sizes = {split: len(images) for split, images in sets.items()}
    assert sum(sizes.values()) == 8677 and len(sets["train"].class_names) == 101
    assert abs(sizes["test"] / 8677 - 0.2) < 0.005 and abs(sizes["train"] / 8677 - 0.6) < 0.01
    assert all(np.bincount(images.labels, minlength=101).min() >= 2 for images in sets.values())
    assert sets["test"][0].ndim == 3
