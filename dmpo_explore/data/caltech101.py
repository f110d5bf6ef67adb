"""Caltech-101 as a source: 8,677 photographs of 101 object classes, without the background class.

Caltech 101 by Fei-Fei Li, Marco Andreeto, Marc'Aurelio Ranzato and Pietro Perona (CaltechDATA, 2022), CC BY 4.0.
Ours: the split, 60/10/10/20 into train, val, calibration and test, seeded and stratified; the authors publish none.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..utils.replacing import clear_leftovers, staged
from .image_folders import class_files
from .source import ImageFiles, Pool, Source, data_dir, download, missing
from .splits import divide

BACKGROUND = "BACKGROUND_Google"
SPLIT_SEED = 0
IMAGES = 8677  # without the background


def _folder(root: Path | None) -> Path:
    return data_dir(root) / "caltech101" / "101_ObjectCategories"


def _read(split: str, root: Path | None) -> Pool:
    folder = _folder(root)
    if not folder.is_dir():
        raise missing(
            "caltech101",
            str(folder),
            ", or name the folder that holds caltech101/ with DMPO_EXPLORE_DATA or --data-root",
        )
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name != BACKGROUND))
    files, labels = class_files(folder, names)
    if len(files) != IMAGES:
        raise ValueError(
            f"{folder} has {len(files):,} images in {len(names)} classes in place of {IMAGES:,}: it is not whole; "
            "delete it and run `dmpo-explore fetch --data caltech101`"
        )
    rows = divide(labels, seed=SPLIT_SEED, calibration=True, class_names=names)[split]
    return Pool(ImageFiles([files[row] for row in rows]), labels[rows], names)


def _fetch(root: Path | None) -> Path:
    """Downloaded and unpacked beside its place first, so that what is there is whole."""
    folder = _folder(root)
    if not folder.is_dir():
        clear_leftovers(folder.parent)
        with staged(folder) as made:
            try:
                download("caltech101", "Caltech101", made)
            except FileNotFoundError as error:
                raise FileNotFoundError(str(error).replace(str(made), str(data_dir(root)))) from None
            os.replace(_folder(made), folder)
    return folder


CALTECH101 = Source(
    "Caltech-101: 8,677 colour photographs, 101 classes",
    "CC BY 4.0",
    _read,
    _fetch,
    splits=("train", "val", "calibration", "test"),
    rule=f"60/10/10/20 % of every class into train, val, calibration and test, with seed {SPLIT_SEED}",
    download_bytes=137_414_764,
)
