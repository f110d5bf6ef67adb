from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dmpo_explore.config import DataConfig
from dmpo_explore.data import known
from dmpo_explore.data.images import DATASETS, ImageSet, fetch_data, images_of, load_images

SPLITS = ("train", "val", "test")


def test_bundled_fashion_mnist_is_the_published_test_split() -> None:
    test = load_images("fashion-mnist", "test")
    assert len(test) == 10_000
    assert np.bincount(test.labels).tolist() == [1000] * 10
    assert test.labels[:8].tolist() == [9, 2, 1, 1, 6, 1, 4, 6]
    assert test.class_names[test.labels[0]] == "Ankle boot"
    picture = test[0]
    assert (picture.shape, picture.dtype) == ((28, 28, 3), np.uint8)
    assert (picture == picture[:, :, :1]).all()
    assert int(picture[:, :, 0].sum()) == 33_456


def test_val_is_5000_fixed_pictures_cut_from_train(fashion_train: ImageSet) -> None:
    val = load_images("fashion-mnist", "val", train_size=100, seed=7, calibration=False)
    assert np.bincount(val.labels).tolist() == [500] * 10
    assert val.indices[:6].tolist() == [17, 28, 50, 66, 72, 89]  # published: must never change
    assert len(fashion_train) == 55_000
    both = np.sort(np.concatenate([fashion_train.indices, val.indices]))
    assert np.array_equal(both, np.arange(60_000))


@pytest.mark.usefixtures("fashion_train")
def test_train_size_counts_what_val_leaves() -> None:
    val = load_images("fashion-mnist", "val")
    first = load_images("fashion-mnist", "train", train_size=1000)
    again = load_images("fashion-mnist", "train", train_size=1000)
    other = load_images("fashion-mnist", "train", train_size=1000, seed=1)
    assert np.bincount(first.labels).tolist() == [100] * 10
    assert np.array_equal(first.indices, again.indices)
    assert not np.array_equal(first.indices, other.indices)
    assert not np.intersect1d(first.indices, val.indices).size
    with pytest.raises(ValueError, match="train_size=50001: fashion-mnist has 1 to 50000 training images"):
        load_images("fashion-mnist", "train", train_size=50_001)


@pytest.mark.usefixtures("fashion_train")
@pytest.mark.parametrize("split", ["train", "val", "calibration"])
def test_images_by_name_are_those_of_a_run(split: str) -> None:
    of_run = images_of(DataConfig("fashion-mnist"), split)
    assert np.array_equal(load_images("fashion-mnist", split).indices, of_run.indices)


def test_digits_splits_do_not_overlap() -> None:
    splits = {split: load_images("digits", split) for split in SPLITS}
    assert {name: len(part) for name, part in splits.items()} == {"train": 1295, "val": 143, "test": 359}
    assert not np.intersect1d(splits["train"].indices, splits["val"].indices).size
    assert all(part.class_names == tuple("0123456789") for part in splits.values())
    assert all(np.bincount(part.labels, minlength=10).min() >= 2 for part in splits.values())
    assert splits["test"][0].max() == 255
    assert splits["val"].indices[:6].tolist() == [4, 5, 31, 34, 45, 52]  # must never change


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return load_images("digits", "test")


@given(rows=st.lists(st.integers(0, 358), max_size=20))
def test_subset_and_at_agree(digits: ImageSet, rows: list[int]) -> None:
    test = digits.subset(np.arange(359)[::-1])  # indices that fall
    some = test.subset(rows)
    found = test.at(some.indices)
    assert len(some) == len(rows)
    assert np.array_equal(found.indices, some.indices)
    assert np.array_equal(found.labels, some.labels)
    assert found.labels.dtype == found.indices.dtype == np.int64
    assert all(np.array_equal(some[i], test[row]) for i, row in enumerate(rows))


def test_subset_by_mask_and_slice() -> None:
    test = load_images("digits", "test")
    threes = test.subset(test.labels == 3)
    assert len(threes) == (test.labels == 3).sum() > 0
    assert set(threes.labels.tolist()) == {3}
    assert np.array_equal(test.subset(slice(2, 5)).indices, test.indices[2:5])
    assert sum(1 for _ in test.subset([0, 1, 2])) == 3  # iterating ends
    with pytest.raises(IndexError):
        test[len(test)]
    with pytest.raises(ValueError, match="digits test has no image with index 99999"):
        test.at([0, 99_999])
    with pytest.raises(ValueError, match="digits test has no image with index 0"):
        test.subset([]).at([0])


def test_unknown_names_list_the_valid_ones() -> None:
    for name in ("cifar", "", "/nowhere/at/all"):
        with pytest.raises(ValueError, match="unknown data") as error:
            load_images(name, "test")
        assert all(valid in str(error.value) for valid in DATASETS)
        assert "image folder" in str(error.value)
    with pytest.raises(ValueError, match=r"unknown split 'valid'\. Did you mean 'val'"):
        load_images("digits", "valid")
    with pytest.raises(ValueError, match="train_size=0 must be at least 1"):
        load_images("digits", "train", train_size=0)
    with pytest.raises(ValueError, match="unknown data"):
        fetch_data("mnist")


def _paint(path: Path, colour: tuple[int, int, int] = (200, 10, 30), size: tuple[int, int] = (6, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def test_a_folder_without_splits_is_divided(tmp_path: Path) -> None:
    for i in range(40):
        _paint(tmp_path / "cat" / f"{i:02d}.png", (i, 0, 0))
        _paint(tmp_path / "dog" / "deep" / f"{i:02d}.PNG", (i, 1, 0))
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    parts = {split: load_images(str(tmp_path), split) for split in SPLITS}
    assert {name: np.bincount(part.labels).tolist() for name, part in parts.items()} == {
        "train": [32, 32],
        "val": [4, 4],
        "test": [4, 4],
    }
    seen = {tuple(int(v) for v in picture[0, 0]) for part in parts.values() for picture in part}
    assert len(seen) == 80  # every picture once
    assert parts["train"].class_names == ("cat", "dog")
    assert all(part[i][0, 0, 1] == part.labels[i] for part in parts.values() for i in range(len(part)))
    reds = [[int(p[0, 0, 0]) for p in load_images(str(tmp_path), "test", seed=seed)] for seed in (0, 0, 1)]
    assert reds[0] == reds[1] != reds[2]
    assert fetch_data(str(tmp_path)) == tmp_path


def test_a_folder_with_train_and_test_has_val_cut_from_train(tmp_path: Path) -> None:
    for i in range(12):
        _paint(tmp_path / "train" / "a" / f"{i}.png")
        _paint(tmp_path / "train" / "b" / f"{i}.png")
    _paint(tmp_path / "test" / "b" / "x.png")
    train, val, test = (load_images(str(tmp_path), split) for split in SPLITS)
    assert (np.bincount(train.labels).tolist(), np.bincount(val.labels).tolist()) == ([10, 10], [2, 2])
    assert (test.labels.tolist(), test.class_names) == ([1], ("a", "b"))
    assert test[0].shape == (4, 6, 3)
    assert test[0][0, 0].tolist() == [200, 10, 30]


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no class folders"):
        load_images(str(tmp_path), "train")
    (tmp_path / "train" / "a").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds no images"):
        load_images(str(tmp_path), "train")
    _paint(tmp_path / "train" / "a" / "0.png")
    with pytest.raises(ValueError, match="class 'a' has 1 image; it needs at least 3"):
        load_images(str(tmp_path), "val")
    with pytest.raises(FileNotFoundError, match=r"no folder 'test' \(it has train\)"):
        load_images(str(tmp_path), "test")
    _paint(tmp_path / "test" / "new" / "0.png")
    with pytest.raises(ValueError, match="new is a class that train does not have"):
        load_images(str(tmp_path), "test")


def test_an_unreadable_picture_is_named(tmp_path: Path) -> None:
    for name in ("0", "1"):
        _paint(tmp_path / "test" / "a" / f"{name}.png")
    (tmp_path / "test" / "a" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n rest is missing")
    test = load_images(str(tmp_path), "test")
    assert test[0].shape == (4, 6, 3)
    with pytest.raises(ValueError, match=r"1\.png cannot be read as an image"):
        test[1]


def test_grey_alpha_and_rotated_files_become_rgb(tmp_path: Path) -> None:
    folder = tmp_path / "test" / "a"
    folder.mkdir(parents=True)
    Image.new("L", (3, 2), 7).save(folder / "0.png")
    Image.new("RGBA", (3, 2), (255, 0, 0, 51)).save(folder / "1.png")  # a fifth of red, on white
    turned = Image.new("RGB", (3, 2))
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    turned.save(folder / "2.jpg", exif=exif)
    grey, alpha, quarter = load_images(str(tmp_path), "test")
    assert grey[1, 2].tolist() == [7, 7, 7]
    assert alpha[0, 0].tolist() == [255, 204, 204]
    assert quarter.shape == (3, 2, 3)


@pytest.mark.slow
def test_pictures_need_no_torch() -> None:
    code = (
        "import sys, dmpo_explore.data.images as i; i.load_images('fashion-mnist', 'test')[0]; "
        "i.load_images('digits', 'val'); assert not {'torch', 'torchvision', 'timm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_source_says_what_it_is() -> None:
    assert all(source.title and source.licence for source in DATASETS.values())
    assert DATASETS is known.DATASETS
