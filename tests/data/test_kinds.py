"""Every kind of data keeps the same laws, whatever holds the images: folders, tables, tar shards, a known data set."""

from __future__ import annotations

import pickle
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from image_files import add, fill

from dmpo_explore.config import DataConfig
from dmpo_explore.data import ImageSet, check_data, data_stamp, images_of, open_data
from dmpo_explore.data.manifest import Differences, make_manifest, manifest_check, read_manifest, write_manifest

NAMES = ("cat", "dog")  # 20 images of each; a shard numbers them


def rows(root: Path) -> list[tuple[str, str, str]]:
    """Path, label and split of every image below ``root``/own: of 20 of a class the first 15 are train, or val."""
    fill(root / "own")
    return [
        (f"own/{name}/{i:02d}.png", name, "val" if i in (3, 7) else "train" if i < 15 else "test")
        for name in NAMES
        for i in range(20)
    ]


def folder(root: Path) -> DataConfig:
    rows(root)
    return DataConfig(str(root / "own"))


def folder_of_splits(root: Path) -> DataConfig:
    for path, label, split in rows(root):
        place = root / "divided" / split.title() / label / Path(path).name
        place.parent.mkdir(parents=True, exist_ok=True)
        (root / path).rename(place)
    return DataConfig(str(root / "divided"))


def folders(root: Path) -> DataConfig:
    divided = Path(folder_of_splits(root).name)
    return DataConfig(train_dir=str(divided / "Train"), val_dir=str(divided / "Val"), test_dir=str(divided / "Test"))


def table(root: Path) -> DataConfig:
    pd.DataFrame(rows(root), columns=["path", "label", "split"])[["path", "label"]].to_csv(root / "a.csv", index=False)
    return DataConfig(str(root / "a.csv"))


def table_with_splits(root: Path) -> DataConfig:
    pd.DataFrame(rows(root), columns=["path", "label", "split"]).to_csv(root / "a.csv", index=False)
    return DataConfig(str(root / "a.csv"))


def parquet(root: Path) -> DataConfig:
    pytest.importorskip("pyarrow")
    pd.DataFrame(rows(root), columns=["path", "label", "split"])[["path", "label"]].to_parquet(root / "a.parquet")
    return DataConfig(str(root / "a.parquet"))


def packed(root: Path, *, divided: bool) -> DataConfig:
    (root / "shards").mkdir()
    for number, (path, label, split) in enumerate(rows(root)):
        with tarfile.open(root / "shards" / f"{split if divided else 'images'}-0.tar", "a") as archive:
            add(archive, f"{number:04d}.png", (root / path).read_bytes())
            add(archive, f"{number:04d}.cls", str(NAMES.index(label)).encode())
    return DataConfig(f"wds/{root / 'shards'}")


def saved_tables(root: Path) -> DataConfig:
    datasets = pytest.importorskip("datasets")
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=[*NAMES])})
    found, parts = rows(root), dict[str, Any]()
    for part in ("train", "val", "test"):
        own = [(path, label) for path, label, split in found if split == part]
        columns = {
            "image": [{"bytes": (root / path).read_bytes(), "path": None} for path, _ in own],
            "label": [NAMES.index(label) for _, label in own],
        }
        parts[part] = datasets.Dataset.from_dict(columns, features=kinds)
    datasets.DatasetDict(parts).save_to_disk(root / "saved")
    return DataConfig(f"hfds/{root / 'saved'}")


UNDIVIDED: dict[str, Callable[[Path], DataConfig]] = {
    "folder": folder,
    "table": table,
    "Parquet": parquet,
    "shards": lambda root: packed(root, divided=False),
}
DIVIDED: dict[str, Callable[[Path], DataConfig]] = {
    "folder of splits": folder_of_splits,
    "folder for each split": folders,
    "table with splits": table_with_splits,
    "shards of splits": lambda root: packed(root, divided=True),
    "tables of datasets": saved_tables,
}
KINDS = UNDIVIDED | DIVIDED | {"known": lambda root: DataConfig("digits")}
SPLITS = ("train", "val", "test")


def each(kinds: dict[str, Callable[[Path], DataConfig]]) -> list[Any]:
    """Names of kinds; the import of datasets takes seconds."""
    return [pytest.param(kind, marks=pytest.mark.slow if "datasets" in kind else ()) for kind in kinds]


def content_of(images: ImageSet) -> list[tuple[int, bytes]]:
    """Label and pixels of every image."""
    return [(int(label), image.tobytes()) for label, image in zip(images.labels, images, strict=True)]


def content(data: DataConfig, split: str) -> list[tuple[int, bytes]]:
    return content_of(images_of(data, split))


def colours(data: DataConfig, splits: tuple[str, ...]) -> dict[str, list[tuple[int, int]]]:
    """Split → number of every image, by its colour, and its label."""
    return {split: [(pixels[0], label) for label, pixels in content(data, split)] for split in splits}


@pytest.mark.parametrize("kind", each(UNDIVIDED))
def test_what_has_no_splits_is_divided_by_the_seed(kind: str, tmp_path: Path) -> None:
    data = UNDIVIDED[kind](tmp_path)
    assert open_data(data).splits == SPLITS  # 40 images are too few for a calibration split
    found = colours(data, SPLITS)
    assert {split: len(images) for split, images in found.items()} == {"train": 32, "val": 4, "test": 4}
    every = [image for images in found.values() for image in images]
    assert sorted(every) == [(number, number // 20) for number in range(40)]  # once, and with its label
    assert colours(data, SPLITS) == found != colours(replace(data, seed=1), SPLITS)
    four = colours(replace(data, calibration=True), ("train", "val", "calibration", "test"))
    assert [len(images) for images in four.values()] == [24, 4, 4, 8]
    assert sorted(image for images in four.values() for image in images) == sorted(every)
    assert make_manifest(data).rule == "80/10/10 % of every class into train, val, test, with seed 0"


@pytest.mark.parametrize("kind", each(DIVIDED))
def test_splits_that_are_given_stay_as_they_are(kind: str, tmp_path: Path) -> None:
    data = DIVIDED[kind](tmp_path)
    assert open_data(data).splits == open_data(data).given == SPLITS
    numbers = {"train": [*range(3), *range(4, 7), *range(8, 15)], "val": [3, 7], "test": [*range(15, 20)]}
    for split, images in colours(data, SPLITS).items():
        assert sorted(images) == [(20 * label + i, label) for label in (0, 1) for i in numbers[split]]
    assert colours(replace(data, seed=1), SPLITS) == colours(data, SPLITS)
    with pytest.raises(FileNotFoundError, match="calibration"):
        open_data(data).read("calibration")


@pytest.mark.parametrize("kind", each(KINDS))
def test_a_part_of_the_training_images_is_drawn_by_the_seed(kind: str, tmp_path: Path) -> None:
    data = KINDS[kind](tmp_path)
    drawn = replace(data, train_size=10)
    found = content(drawn, "train")
    assert len(found) == 10 and {*found} <= {*content(data, "train")}
    assert content(drawn, "train") == found != content(replace(drawn, seed=1), "train")
    assert content(drawn, "val") == content(data, "val")
    assert make_manifest(drawn).counts["train"] == 10


@pytest.mark.parametrize("kind", each(KINDS))
def test_a_manifest_gives_the_images_of_the_training_again(kind: str, tmp_path: Path) -> None:
    data = KINDS[kind](tmp_path)
    write_manifest(tmp_path, make_manifest(data))
    made = read_manifest(tmp_path)
    assert made is not None and made.class_names == images_of(data, "train").class_names
    assert manifest_check(made, data) == Differences()
    for split in made.counts:
        images = made.images(data, split)
        assert content_of(images) == content(data, split)
        assert images.fingerprint == made.fingerprints[split] != ""
        again = pickle.loads(pickle.dumps(images.pixels))  # for loader processes
        assert np.array_equal(again[images.indices[0]], images.pixels[images.indices[0]])


@pytest.mark.parametrize("kind", each(KINDS))
def test_the_check_before_a_training_accounts_for_every_image(kind: str, tmp_path: Path) -> None:
    data = KINDS[kind](tmp_path)
    found = check_data(data, thumbnails=2)
    sizes = {split: int(counts.sum()) for split, counts in found.counts.items()}
    made = make_manifest(data, check=found)
    assert found.ready and not found.findings
    assert sizes == {split: len(images_of(data, split)) for split in SPLITS}
    assert all(line.agrees for line in found.ledger.values())
    assert sum(line.found for line in found.ledger.values()) == found.n_images == len(found.hashes)
    assert {name: len(images) for name, images in found.thumbnails.items()} == dict.fromkeys(found.class_names, 2)
    assert {row.sha256 for rows in made.files.values() for row in rows} in ({*found.hashes.values()}, set())
    assert make_manifest(data).fingerprints == made.fingerprints  # which checks by itself


@pytest.mark.parametrize("kind", each(KINDS))
def test_a_place_that_was_made_absolute_is_the_same_data(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = KINDS[kind](tmp_path)
    relative: dict[str, Any] = {
        name: value.replace(f"{tmp_path}/", "")
        for name in ("name", "train_dir", "val_dir", "test_dir")
        if (value := getattr(data, name))
    }
    monkeypatch.chdir(tmp_path)
    opened = open_data(replace(data, **relative))
    assert opened.located() == open_data(opened.located()).located() == open_data(data).located()
    assert data_stamp(data) == data_stamp(opened.located())
    assert opened.own == (kind != "known")
