"""The bundled photographs of groceries: verified, read by position, and divided so that no group is in two splits."""

from __future__ import annotations

import csv
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiny import tiny_config

import dmpo_explore as dx
from dmpo_explore.config import DataConfig
from dmpo_explore.data import SPLITS, fetch_data, known, load_images, make_manifest, open_data
from dmpo_explore.data.image_files import decode_image
from dmpo_explore.data.known import COLUMNS, FOLDER, IMAGES, INDEX, NAMES, photographs


def rows() -> list[dict[str, str]]:
    with (FOLDER / INDEX).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the bundled files in place of them."""
    for name in (IMAGES, INDEX):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    monkeypatch.setattr(known, "FOLDER", tmp_path)
    photographs.cache_clear()
    yield tmp_path
    photographs.cache_clear()


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("grocery", (2817, 649, 655, 1300)),
        ("grocery-shops", (2640, 296, 830, 1655)),
        ("grocery-same-shops", (1493, 414, 355, 674)),
    ],
)
def test_the_splits_are_all_photographs_and_never_change(name: str, counts: tuple[int, ...]) -> None:
    sets = {split: load_images(name, split) for split in SPLITS}
    least = {"grocery": (10, 4), "grocery-shops": (10, 4), "grocery-same-shops": (6, 0)}  # images of a class
    assert tuple(map(len, sets.values())) == counts
    assert open_data(DataConfig(name, calibration=False)).splits == SPLITS
    assert len({images.pixels.hashes[i] for images in sets.values() for i in images.indices}) == sum(counts)  # type: ignore[attr-defined]
    assert {images.class_names for images in sets.values()} == {photographs().class_names}
    assert photographs().class_names[4] == "Royal Gala" and len(photographs().class_names) == 81
    for split in ("train", "test"):
        assert np.bincount(sets[split].labels, minlength=81).min() >= least[name][split == "test"]


def test_a_class_of_four_groups_is_in_every_split_and_shops_are_mixed_alike() -> None:
    every = photographs()
    for label in range(81):
        own = every.labels == label
        if len(np.unique(every.groups[own])) >= 4:
            assert {*every.splits["grocery"][own]} == {*SPLITS}, every.class_names[label]
    tested = np.asarray([row["file"].startswith("test/") for row in rows()])
    mix = [tested[every.splits["grocery"] == split].mean() for split in SPLITS]
    assert max(mix) - min(mix) < 0.01


def test_the_shops_are_those_of_the_published_lists() -> None:
    for row in rows():
        given = row["file"].partition("/")[0]
        assert row["grocery-shops"] == given or (given, row["grocery-shops"]) == ("test", "calibration")
        assert (row["grocery-same-shops"] == "") is (given == "test")
        assert Path(row["file"]).stem.rpartition("_")[0].replace("-", " ") == row["class"]
        assert row.keys() == {*COLUMNS}


@pytest.mark.parametrize("name", NAMES)
def test_no_group_is_divided(name: str) -> None:
    every = photographs()
    pairs = {*zip(every.groups.tolist(), every.splits[name].tolist(), strict=True)}
    assert len(pairs) == len(np.unique(every.groups)) > 800
    assert sum(split != "" for _, split in pairs) > 450


def test_six_consecutive_files_are_of_one_group() -> None:
    runs: dict[tuple[str, int], set[str]] = {}
    for row in rows():
        where, _, number = row["file"].removesuffix(".jpg").rpartition("_")
        runs.setdefault((where, (int(number) - 1) // 6), set()).add(row["group"])
    assert {len(groups) for groups in runs.values()} == {1}


def difference_hash(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(256,) whether each of 16 x 17 grey areas is darker than the one to its right."""
    grey = np.asarray(Image.fromarray(pixels).convert("L").resize((17, 16), Image.Resampling.LANCZOS))
    return (grey[:, 1:] > grey[:, :-1]).ravel()


@pytest.mark.slow
def test_no_two_splits_share_a_near_duplicate() -> None:
    """By the rule that made the groups: at most 72 of 256 bits of the difference hash differ."""
    every = photographs()
    hashes = np.asarray([difference_hash(every.images[row]) for row in range(len(every.labels))])
    signs = np.where(hashes, 1, -1).astype(np.float32)
    pairs = np.argwhere(np.triu((256 - signs @ signs.T) / 2 <= 72, 1))
    assert len(pairs) > 200  # the rule finds some
    for name in NAMES:
        splits = every.splits[name]
        assert (splits[pairs[:, 0]] == splits[pairs[:, 1]]).all()


def test_images_are_read_by_position_and_by_loader_processes() -> None:
    every, images, content = photographs(), load_images("grocery", "test"), (FOLDER / IMAGES).read_bytes()
    assert len(content) == sum(int(row["bytes"]) for row in rows())
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 18e6
    rows_of_test = np.flatnonzero(every.splits["grocery"] == "test")
    starts = np.cumsum([0, *(int(row["bytes"]) for row in rows())])
    again = pickle.loads(pickle.dumps(images))
    for position in (0, 700, len(images) - 1):
        start, end = starts[rows_of_test[position]], starts[rows_of_test[position] + 1]
        expected = decode_image(content[start:end], "")
        assert min(expected.shape[:2]) == 128 and content[start : start + 4] == b"RIFF"
        np.testing.assert_array_equal(images[position], expected)
        np.testing.assert_array_equal(again[position], expected)


def other_byte(whole: bytes) -> bytes:
    middle = len(whole) // 2
    return whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]


@pytest.mark.parametrize("name", [IMAGES, INDEX])
@pytest.mark.parametrize("damaged", [other_byte, lambda whole: whole[:-1], lambda whole: b"", None])
def test_a_damaged_byte_is_found_before_an_image_is_read(
    name: str, damaged: Callable[[bytes], bytes] | None, copied: Path
) -> None:
    whole = (copied / name).read_bytes()
    (copied / name).write_bytes(damaged(whole)) if damaged else (copied / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is damaged or missing .*; install dmpo-explore again"):
        load_images("grocery", "val")
    (copied / name).write_bytes(whole)
    assert len(load_images("grocery", "val")) == 649


def test_they_come_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched, and no folder of data is looked at."""
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DMPO_EXPLORE_DATA", str(tmp_path / "data"))
    images = load_images("grocery", "calibration", root=tmp_path / "elsewhere")
    assert images[0].dtype == np.uint8 and images[0].shape[2] == 3
    assert fetch_data("grocery-shops") == FOLDER and not list(tmp_path.iterdir())
    manifest = make_manifest(DataConfig("grocery", train_size=200))
    assert manifest.counts == {"train": 200, "val": 649, "calibration": 655} and not manifest.listed
    assert manifest.images(DataConfig("grocery"), "val").fingerprint == load_images("grocery", "val").fingerprint


@pytest.mark.slow
def test_a_training_and_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    config = tiny_config(epochs=1)
    run = dx.train(dx.Config(DataConfig("grocery-shops", train_size=162), config.model, config.training), "tiny")
    record = dx.record_run(run, "calibration", device="cpu")
    assert record.n_images == 830 and record.meta.class_names == photographs().class_names
    rows = np.asarray([5, 400])
    out = dx.infer(run.model("cpu"), run.inputs("calibration", rows), dx.fit_policy(record, threshold=1.0))
    np.testing.assert_array_equal(out.label, record.prediction[rows, -1])
