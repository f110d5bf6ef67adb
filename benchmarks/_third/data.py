"""Data sets of the study's third edition, each with 1,000 training images, as in VTAB (Zhai et al. 2019).

In: data sets of the library, and three folders beside Caltech-101's (``DMPO_EXPLORE_DATA``): ``birds100`` and
``scenes15`` with ``train/CLASS`` and ``test/CLASS``, ``trashnet`` with a folder per class. Out: `SETS`, name →
source.

Ours: 1,000 training images in proportion to the classes, at least two of each; the rest of the training split is val
and calibration, at most 2,000 each; at most 2,000 test images. Where a data set has val and calibration of its own they
stay. The draw is fixed: trainings differ in their seeds alone. Of TrashNet, which is undivided, 30 % are test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dmpo_explore.data import DATASETS
from dmpo_explore.data.folders import class_files
from dmpo_explore.data.image_set import ImageFiles, Pixels, Pool
from dmpo_explore.data.names import Source, data_dir, missing
from dmpo_explore.data.splits import SPLITS, stratified_rows
from dmpo_explore.utils.typing import Ints

TRAIN, MOST, SEED = 1000, 2000, 0
RULE = f"{TRAIN:,} training images; val and calibration of the rest; at most {MOST:,} images a split, with seed {SEED}"
Read = Callable[[str, Path | None], Pool]


def draw(labels: Ints, size: int, least: int = 0) -> Ints:
    """At most ``size`` rows, in proportion to the classes."""
    return stratified_rows(labels, size, seed=SEED, least=least) if size < len(labels) else np.arange(len(labels))


def part_of(train: Pool, split: str) -> Ints:
    """The rows of an undivided training split that are train, val or calibration."""
    chosen = draw(train.labels, TRAIN, 2)
    rest = np.setdiff1d(np.arange(len(train.labels)), chosen)
    half = rest[draw(train.labels[rest], len(rest) // 2)]
    rows = {"train": chosen, "val": half, "calibration": np.setdiff1d(rest, half)}[split]
    return rows[draw(train.labels[rows], MOST)]


def regime(read: Read, given: tuple[str, ...]) -> Read:
    """A reader of the four splits from a reader of those ``given``: train and test, or all four."""

    def divided(split: str, root: Path | None) -> Pool:
        pool = read(split if split in given else "train", root)
        if split in given and split != "train":
            rows = draw(pool.labels, MOST)
        else:
            rows = draw(pool.labels, TRAIN, 2) if set(SPLITS) <= set(given) else part_of(pool, split)
        return taken(pool, rows)

    return divided


@dataclass(frozen=True)
class Chosen:
    """Some of the images of a pool, by position among these."""

    pixels: Pixels
    rows: Ints

    def __getitem__(self, index: int, /) -> Any:
        return self.pixels[int(self.rows[index])]


def taken(pool: Pool, rows: Ints) -> Pool:
    """Some images of a pool."""
    found = pool.pixels
    pixels: Pixels = (
        ImageFiles([found.paths[row] for row in rows]) if isinstance(found, ImageFiles) else Chosen(found, rows)
    )
    return Pool(pixels, pool.labels[rows], pool.class_names, None if pool.groups is None else pool.groups[rows])


def folder(name: str) -> Read:
    """A reader of ``train/CLASS`` and ``test/CLASS`` in a folder beside Caltech-101's."""

    def read(split: str, root: Path | None) -> Pool:
        place = data_dir(root) / name
        if not (place / split).is_dir():
            raise missing(name, str(place))
        names = tuple(sorted(path.name for path in (place / "train").iterdir() if path.is_dir()))
        files, labels = class_files(place / split, names)
        return Pool(ImageFiles(files), labels, names)

    return read


def undivided(name: str, test: float) -> Read:
    """A reader of ``CLASS`` folders, of which the share ``test`` is test."""

    def read(split: str, root: Path | None) -> Pool:
        place = data_dir(root) / name
        if not place.is_dir():
            raise missing(name, str(place))
        names = tuple(sorted(path.name for path in place.iterdir() if path.is_dir()))
        files, labels = class_files(place, names)
        held = draw(labels, round(test * len(labels)))
        rows = held if split == "test" else np.setdiff1d(np.arange(len(labels)), held)
        return Pool(ImageFiles([files[row] for row in rows]), labels[rows], names)

    return read


def _source(name: str, read: Read, given: tuple[str, ...], title: str, licence: str) -> Source:
    return Source(title, licence, regime(read, given), lambda root: data_dir(root) / name, splits=SPLITS, rule=RULE)


def _of_library(name: str) -> Source:
    known = DATASETS[name]
    return _source(name, known.read, known.splits, known.title, known.licence)


TWO = ("train", "test")
SETS = {
    "fashion-mnist": _of_library("fashion-mnist"),
    "caltech101": _of_library("caltech101"),
    "grocery": _of_library("grocery"),
    "birds100": _source("birds100", folder("birds100"), TWO, "Birds: 100 classes", "research only"),
    "scenes15": _source("scenes15", folder("scenes15"), TWO, "Scenes: 15 classes", "research only"),
    "trashnet": _source("trashnet", undivided("trashnet", 0.3), TWO, "TrashNet: 6 materials", "MIT"),
    "grocery-shops": _of_library("grocery-shops"),
}
