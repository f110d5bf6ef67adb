"""Data sets of the study's third edition: 1,000 training images each, no image in two splits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dmpo_explore as dx
from _third.data import MOST, SETS, TRAIN, register
from dmpo_explore.data import DATASETS
from dmpo_explore.data.image_set import ImageFiles
from dmpo_explore.data.splits import SPLITS


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    register()
    yield
    for name in SETS:
        del DATASETS[f"third-{name}"]


def test_bundled_groceries_keep_their_splits() -> None:
    found = {split: dx.load_images("third-grocery", split) for split in SPLITS}
    assert {split: len(images) for split, images in found.items()} == {
        "train": TRAIN, "val": 649, "calibration": 655, "test": 1300,
    }  # fmt: skip
    whole = dx.load_images("grocery", "test")
    assert all(np.array_equal(found["test"][i], whole[i]) for i in (0, 1299))
    assert np.unique(found["train"].labels).size == 81


def paint(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("L", (2, 2), i % 256).save(folder / f"{i:04}.png")


@pytest.mark.parametrize("name", ["birds100", "trashnet"])
def test_a_folder_is_divided_without_overlap(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_DATA", str(tmp_path))
    parts = ("train", "test") if name == "birds100" else ("",)
    for part in parts:
        for label, count in (("a", 900), ("b", 700)):
            paint(tmp_path / name / part / label, count)
    sets = {split: dx.load_images(f"third-{name}", split) for split in SPLITS}
    files = {}
    for split, images in sets.items():
        assert isinstance(images.pixels, ImageFiles)
        files[split] = {images.pixels.paths[i] for i in images.indices}
    assert len(files["train"]) == TRAIN and len(set.union(*files.values())) == sum(map(len, files.values()))
    rest = (1600 if name == "birds100" else 1120) - TRAIN
    assert len(files["val"]) == len(files["calibration"]) == rest // 2
    assert len(files["test"]) == (1600 if name == "birds100" else 480) <= MOST


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_DATA", str(tmp_path))
    for name in ("birds100", "scenes15", "trashnet"):
        with pytest.raises(FileNotFoundError, match=f"{name} is not in "):
            SETS[name].read("train", None)
