"""Folders of one's own images as a source; the laws that all kinds of data keep: test_kinds.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from image_files import paint
from PIL import Image

from dmpo_explore.config import DataConfig
from dmpo_explore.data import Data, open_data
from dmpo_explore.data.folders import class_files, split_folders
from dmpo_explore.data.images import load_images


def opened(folder: Path) -> Data:
    return open_data(DataConfig(str(folder), calibration=False))


def lay_out(root: Path, *places: str, count: int = 3) -> None:
    """So many images in each folder; none where the name ends with a slash."""
    for place in places:
        (root / place).mkdir(parents=True, exist_ok=True)
        for i in range(0 if place.endswith("/") else count):
            paint(root / place / f"{i}.png", i)


@pytest.mark.parametrize("names", [("Train", "Test"), ("TRAINING", "Testing"), ("train", "valid", "test")])
def test_folders_of_splits_are_recognised_in_any_case(tmp_path: Path, names: tuple[str, ...]) -> None:
    lay_out(tmp_path, *(f"{name}/{label}" for name in names for label in ("a", "b")), count=5)
    source = opened(tmp_path)
    expected = ("train", "val", "test") if len(names) == 3 else ("train", "test")
    assert source.division.given == expected and source.classes == ("a", "b")
    assert source.kind.fetch() == tmp_path
    assert source.division.rule == ", ".join(f"{split} is {name}/" for split, name in zip(expected, names, strict=True))
    assert split_folders(tmp_path) == {split: tmp_path / name for split, name in zip(expected, names, strict=True)}


def test_val_is_cut_from_train_and_a_class_may_lack_in_test(tmp_path: Path) -> None:
    lay_out(tmp_path, "train/a", "train/b", count=12)
    lay_out(tmp_path, "test/b", count=1)
    train, val, test = (load_images(str(tmp_path), split) for split in ("train", "val", "test"))
    assert train.labels.tolist() == [0] * 10 + [1] * 10 and val.labels.tolist() == [0, 0, 1, 1]
    assert (test.labels.tolist(), test.class_names) == ([1], ("a", "b"))


def test_a_folder_of_a_split_without_images_does_not_matter(tmp_path: Path) -> None:
    lay_out(tmp_path, "train", ".car", "notes/")
    assert opened(tmp_path).inputs.given == ("train",)


@pytest.mark.parametrize(
    ("places", "split", "error", "words"),
    [
        ([], "train", ValueError, "holds no class folders; expected .*CLASS/image.png"),
        (["a/"], "train", ValueError, "holds no images"),
        (["train/a/"], "train", ValueError, "holds no images"),
        (["train/a"], "val", ValueError, "class 'a' has 2 images; it needs at least 3"),
        (["a", "b"], "test", ValueError, "class 'a' has 2 images; it needs at least 5 to be divided"),
        (["train/a"], "test", FileNotFoundError, r"has no 'test' \(it has train, val\)"),
        (
            ["train/a", "test/new"],
            "test",
            ValueError,
            "2 images of test have a class that train does not have .*first 'new'",
        ),
        (["train/a", "val/a", "Validation/a"], "train", ValueError, "split val: Validation/ and val/; keep one"),
        (
            ["car", "plane", "train"],
            "train",
            ValueError,
            r"folders of splits \(train/\) beside folders of images \(car/, plane/\)",
        ),
    ],
)
def test_a_bad_folder_is_one_clear_error(
    tmp_path: Path, places: list[str], split: str, error: type[Exception], words: str
) -> None:
    lay_out(tmp_path, *places, count=2)
    with pytest.raises(error, match=words):
        load_images(str(tmp_path), split)


def test_an_unreadable_image_is_named_when_it_is_read(tmp_path: Path) -> None:
    lay_out(tmp_path, "test/a", count=2)
    (tmp_path / "test" / "a" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n rest is missing")
    test = load_images(str(tmp_path), "test")
    assert test[0].shape == (8, 8, 3)
    with pytest.raises(ValueError, match=r"1\.png cannot be read as an image"):
        test[1]


def test_every_suffix_that_pillow_reads_counts_and_nothing_hidden(tmp_path: Path) -> None:
    for name in ("x.jfif", "y.WEBP", "z.tif", ".hidden.png", ".cache/w.png", "deep/v.bmp"):
        path = tmp_path / "a" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path, {".jfif": "JPEG"}.get(path.suffix))
    (tmp_path / "a" / "notes.txt").write_text("no image")
    files, labels = class_files(tmp_path, ("a",))
    assert [path.name for path in files] == ["v.bmp", "x.jfif", "y.WEBP", "z.tif"] and labels.tolist() == [0] * 4
