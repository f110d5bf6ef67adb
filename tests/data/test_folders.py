"""Folders of one's own images as a source."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from dmpo_explore.config import DataConfig
from dmpo_explore.data.folders import FolderData, class_files, split_folders


def opened(folder: Path, seed: int = 0) -> FolderData:
    return FolderData(DataConfig(str(folder), seed=seed, calibration=False))


def fill(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(folder / f"{i:02d}.png")


def test_an_undivided_folder_is_divided_by_the_seed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fill(tmp_path / name, 20)
    source = opened(tmp_path)
    pools = {split: source.read(split) for split in ("train", "val", "test")}
    assert [len(pool.labels) for pool in pools.values()] == [32, 4, 4] and "val" in source.given
    assert pools["val"].class_names == ("a", "b") and pools["val"].labels.tolist() == [0, 0, 1, 1]
    other = opened(tmp_path, 1).read("test")
    reds = [[int(pool.pixels[i][0, 0, 0]) for i in range(4)] for pool in (pools["test"], other)]
    assert reds[0] != reds[1]


def test_a_folder_of_splits_is_read_as_it_is(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("test", 2)):
        fill(tmp_path / split / "a", count)
    source = opened(tmp_path)
    assert len(source.read("train").labels) == 3 and "val" not in source.given
    assert source.fetch() == tmp_path
    with pytest.raises(FileNotFoundError, match="has no folder 'val'"):
        source.read("val")
    fill(tmp_path / "test" / "b", 1)
    with pytest.raises(ValueError, match="is a class that train does not have"):
        source.read("test")


def test_a_folder_without_classes_or_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no class folders; expected .*CLASS/image.png"):
        opened(tmp_path).read("train")
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="holds no images"):
        opened(tmp_path).read("train")


@pytest.mark.parametrize("names", [("Train", "Test"), ("TRAINING", "Testing"), ("train", "valid", "test")])
def test_folders_of_splits_are_recognised_in_any_case(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        for label in ("a", "b"):
            fill(tmp_path / name / label, 5)
    source = opened(tmp_path)
    expected = ("train", "val", "test") if len(names) == 3 else ("train", "test")
    assert source.given == expected and source.read("train").class_names == ("a", "b")
    assert source.given_rule == ", ".join(f"{split} is {name}/" for split, name in zip(expected, names, strict=True))
    assert split_folders(tmp_path) == {split: tmp_path / name for split, name in zip(expected, names, strict=True)}


def test_two_folders_for_one_split_are_named(tmp_path: Path) -> None:
    for name in ("train", "val", "Validation"):
        fill(tmp_path / name / "a", 3)
    with pytest.raises(ValueError, match=r"two folders for the split val: Validation/ and val/; keep one"):
        _ = opened(tmp_path).given


def test_folders_of_splits_beside_classes_are_named(tmp_path: Path) -> None:
    for name in ("car", "plane", "train"):
        fill(tmp_path / name, 3)
    with pytest.raises(ValueError, match=r"folders of splits \(train/\) beside folders of images \(car/, plane/\)"):
        _ = opened(tmp_path).given
    for path in (tmp_path / "car", tmp_path / "plane"):
        path.rename(tmp_path / f".{path.name}")
    (tmp_path / "notes").mkdir()  # without images it does not matter
    assert opened(tmp_path).given == ("train",)


def test_every_suffix_that_pillow_reads_counts_and_nothing_hidden(tmp_path: Path) -> None:
    for name in ("x.jfif", "y.WEBP", "z.tif", ".hidden.png", ".cache/w.png", "deep/v.bmp"):
        path = tmp_path / "a" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path, {".jfif": "JPEG"}.get(path.suffix))
    (tmp_path / "a" / "notes.txt").write_text("no image")
    files, labels = class_files(tmp_path, ("a",))
    assert [path.name for path in files] == ["v.bmp", "x.jfif", "y.WEBP", "z.tif"] and labels.tolist() == [0] * 4
