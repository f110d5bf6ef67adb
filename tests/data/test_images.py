"""Images by name: the known splits, parts of them, and where the images of a run lie, in every form."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import fill

from dmpo_explore.config import DataConfig
from dmpo_explore.data import DATASETS, ImageSet, fetch_data, images_of, known, load_images, open_data
from dmpo_explore.data.names import ReaderName, data_dir, reader_name

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


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        *(
            (lambda name=name: load_images(name, "test"), "unknown data.*image folder")
            for name in ("cifar", "", "/nowhere/at/all")
        ),
        (lambda: load_images("cifar", "test"), "caltech101.*digits.*fashion-mnist.*grocery"),
        (lambda: load_images("digits", "valid"), r"unknown split 'valid'\. Did you mean 'val'"),
        (lambda: load_images("digits", "train", train_size=0), "train_size=0 must be at least 1"),
        (lambda: fetch_data("mnist"), "unknown data"),
        (lambda: load_images("digits", "test").at([0, 99_999]), "digits test has no image with index 99999"),
        (lambda: load_images("digits", "test").subset([]).at([0]), "digits test has no image with index 0"),
        (lambda: open_data(DataConfig("digits", train_dir=".")), "give either data='digits' or folders of splits"),
        *(
            (
                lambda name=name: open_data(DataConfig(name)).splits,
                r"'~no-such-user/\w+(\.csv)?': ~ names no home folder",
            )
            for name in ("~no-such-user/photos", "~no-such-user/list.csv", "wds/~no-such-user/shards")
        ),
        (
            lambda: open_data(DataConfig("digits", class_names="~no-such-user/a.csv")).kind.located(),
            "names no home folder",
        ),
        *(
            (ask, r"unknown data '(fashion|no\.csv)'.*or of a table \(\.csv, \.parquet, \.jsonl\)")
            for ask in (
                lambda: open_data(DataConfig("fashion")).splits,
                lambda: open_data(DataConfig("fashion")).kind.fetch(),
                lambda: open_data(DataConfig("no.csv")).splits,
            )
        ),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(refused: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        refused()


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


# -- where the images of a run lie --


def test_one_folder_for_each_split(tmp_path: Path) -> None:
    for part in ("training pictures", "held"):
        fill(tmp_path / part, count=12)
    data = DataConfig(train_dir=str(tmp_path / "training pictures"), test_dir=str(tmp_path / "held"))
    opened = open_data(data)
    assert opened.own and opened.folder == tmp_path and opened.splits == ("train", "val", "test")
    assert [len(opened.images(split)) for split in ("train", "val", "test")] == [20, 4, 24]
    assert opened.division.rule == "train is training pictures/, test is held/"
    again = opened.kind.located()
    assert again.name == str(tmp_path) and open_data(again).kind.located() == again == opened.config
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere"):
        images_of(DataConfig(train_dir=str(tmp_path / "nowhere")), "train")


def test_paths_become_absolute_and_names_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "own")
    (tmp_path / "link").symlink_to(tmp_path / "own")
    monkeypatch.chdir(tmp_path)
    data = open_data(DataConfig("link", root="x", class_names="names.csv")).kind.located()
    assert (data.name, data.root, data.class_names) == tuple(str(tmp_path / p) for p in ("own", "x", "names.csv"))
    assert open_data(DataConfig("digits")).kind.located() == DataConfig("digits")
    assert open_data(DataConfig("fashion")).kind.located().name == "fashion"  # the error names it as it was typed


def test_a_misspelt_folder_or_table_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "photos")
    (tmp_path / "list.csv").write_text("path,label\n")
    for typed, meant in (("photo", "photos"), ("lists.csv", "list.csv")):
        with pytest.raises(ValueError, match=rf"no folder or table .*{typed}\. Did you mean '.*{meant}'\?"):
            _ = open_data(DataConfig(str(tmp_path / typed))).splits


def test_moved_to_another_kind_of_place(tmp_path: Path) -> None:
    own = DataConfig(str(fill(tmp_path / "own")))
    (tmp_path / "list.csv").write_text("path,label\n")
    with pytest.raises(ValueError, match="is no folder; the run was trained on images in a folder"):
        open_data(own).kind.moved(tmp_path / "list.csv")
    with pytest.raises(ValueError, match="the run was trained on digits; give the folder that holds"):
        open_data(DataConfig("digits")).kind.moved(tmp_path / "list.csv")
    assert open_data(DataConfig("digits")).kind.moved(tmp_path).root == str(tmp_path)
    gone = open_data(DataConfig(str(tmp_path / "old" / "list.csv")))
    assert gone.kind.moved(tmp_path).name == str(tmp_path / "list.csv")


def test_known_data_sets_are_looked_for_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_DATA", str(tmp_path))
    assert data_dir(None) == tmp_path and data_dir(tmp_path / "x") == tmp_path / "x"
    monkeypatch.setenv("DMPO_EXPLORE_DATA", " ")
    assert data_dir(None).name == "data"


# -- timm's names of data sets: told from folders, kept as absolute paths, and moved --


def placed(name: str, **more: str) -> DataConfig:
    return open_data(DataConfig(name, **more)).kind.located()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["photos", "torch/mnist", "hfds/", "a/hfds/b", "digits", "list.csv"])
def test_other_names_are_none(name: str) -> None:
    assert reader_name(name) is None


def test_a_folder_of_that_name_is_ambiguous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wds" / "cats").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="'wds/cats' is timm's name of a data set, and a folder here; write ./wds/ca"):
        reader_name("wds/cats")
    assert reader_name("./wds/cats") is None
    assert placed("./wds/cats").name == str(tmp_path / "wds" / "cats")


def test_a_place_is_absolute_and_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path)
    for reader in ("hfds", "wds"):
        data = open_data(placed(f"{reader}/a"))
        assert data.config.name == f"{reader}/{tmp_path / 'a'}" and data.own and data.folder == tmp_path / "a"
        assert data.kind.located() == data.config
        for place in (str(tmp_path / "b"), f"{reader}/b"):
            assert data.kind.moved(place).name == f"{reader}/{tmp_path / 'b'}"
        with pytest.raises(FileNotFoundError, match="no folder .*/c"):
            data.kind.moved("c")
    published = placed("hfds/beans", root="a")
    assert published.root == str(tmp_path / "a") and open_data(published).kind.moved("b").root == str(tmp_path / "b")
    assert placed("hfds/beans").name == "hfds/beans"
    assert ReaderName("hfds", "beans").folder is None
