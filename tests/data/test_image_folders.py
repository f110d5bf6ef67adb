"""Folders of one's own images as a source."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from dmpo_explore.data.image_folders import folder_source


def fill(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(folder / f"{i:02d}.png")


def test_an_undivided_folder_is_divided_by_the_seed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fill(tmp_path / name, 20)
    source = folder_source(tmp_path, 0)
    pools = {split: source.read(split, None) for split in ("train", "val", "test")}
    assert [len(pool.labels) for pool in pools.values()] == [32, 4, 4] and source.has_val
    assert pools["val"].class_names == ("a", "b") and pools["val"].labels.tolist() == [0, 0, 1, 1]
    other = folder_source(tmp_path, 1).read("test", None)
    reds = [[int(pool.pixels[i][0, 0, 0]) for i in range(4)] for pool in (pools["test"], other)]
    assert reds[0] != reds[1]


def test_a_folder_of_splits_is_read_as_it_is(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("test", 2)):
        fill(tmp_path / split / "a", count)
    source = folder_source(tmp_path, 0)
    assert len(source.read("train", None).labels) == 3 and not source.has_val
    assert source.fetch(None) == tmp_path
    with pytest.raises(FileNotFoundError, match="has no folder 'val'"):
        source.read("val", None)
    fill(tmp_path / "test" / "b", 1)
    with pytest.raises(ValueError, match="is a class that train does not have"):
        source.read("test", None)


def test_a_folder_without_classes_or_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no class folders; expected .*CLASS/image.png"):
        folder_source(tmp_path, 0).read("train", None)
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="holds no images"):
        folder_source(tmp_path, 0).read("train", None)
