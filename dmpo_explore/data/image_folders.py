"""Folders of the user's images as a data source: one folder per class, with or without splits.

In: a folder with class folders, one with split folders (train, val, calibration, test, in any case) that hold class
folders, or one folder for each split. Out: a `Source`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np

from ..utils.abbreviate import is_text
from ..utils.typing import Ints
from .image_files import image_suffixes, images_in
from .source import ImageFiles, Pool, Source
from .splits import cuts_calibration, divide, split_of


def folder_source(folder: Path, seed: int, *, calibration: bool | None = False) -> Source:
    """A folder of images by class as a `Source`: {train,val,calibration,test}/class/x.png, or class/x.png.

    The latter is divided with ``seed``, 80/10/10 into train, val and test, or 60/10/10/20 with ``calibration`` (None:
    if there are enough images, see `cuts_calibration`).

    Raises:
        ValueError: two folders for one split, or split folders beside class folders.

    Reading raises FileNotFoundError for a split without a folder, ValueError for no classes, no images, or a class
    that train does not have.
    """
    if parts := split_folders(folder):
        return split_source(parts, folder)

    @cache
    def found() -> tuple[tuple[str, ...], list[Path], Ints]:
        names = class_folders(folder)
        return names, *class_files(folder, names)

    calibrated = bool(calibration)
    if calibration is None:
        with suppress(OSError, ValueError):  # which `read` raises
            labels = found()[2]
            calibrated = cuts_calibration(None, len(labels) // 10, labels)

    def read(split: str, root: Path | None) -> Pool:
        names, files, labels = found()
        rows = divide(labels, seed=seed, calibration=calibrated, class_names=names)[split]
        return Pool(ImageFiles([files[row] for row in rows]), labels[rows], names)

    own = ("train", "val", "calibration", "test") if calibrated else ("train", "val", "test")
    shares = "60/10/10/20" if calibrated else "80/10/10"
    rule = f"{shares} % of every class into {', '.join(own)}, with seed {seed}"
    return Source(f"images in {folder}", "yours", read, lambda root: folder, splits=own, rule=rule)


def split_source(parts: Mapping[str, Path], folder: Path) -> Source:
    """A `Source` of one folder of class folders for each split; ``folder`` is their common parent."""

    def read(split: str, root: Path | None) -> Pool:
        if split not in parts:
            raise FileNotFoundError(f"{folder} has no folder {split!r} (it has {', '.join(parts)})")
        inside = class_folders(parts[split])
        names = class_folders(parts.get("train", parts[split]))
        if extra := {*inside} - {*names}:
            more = f", and so are {len(extra) - 1} more" if len(extra) > 1 else ""
            raise ValueError(
                f"{parts[split] / min(extra)} is a class that train does not have ({', '.join(names[:20])}){more}; "
                "add it to train, or remove it"
            )
        files, labels = class_files(parts[split], names)
        return Pool(ImageFiles(files), labels, names)

    rule = ", ".join(f"{split} is {path.name}/" for split, path in parts.items())
    return Source(f"images in {folder}", "yours", read, lambda root: folder, splits=tuple(parts), rule=rule)


def split_folders(folder: Path) -> dict[str, Path]:
    """Split → its folder, recognised by name in any case; empty where there is none.

    Raises:
        ValueError: two folders for one split, or folders with images beside those of splits; all are named.
    """
    inside = _folders(folder)
    found: dict[str, list[Path]] = {}
    for path in inside:
        if split := split_of(path.name):
            found.setdefault(split, []).append(path)
    for split, paths in found.items():
        if len(paths) > 1:
            names = " and ".join(f"{path.name}/" for path in paths)
            raise ValueError(
                f"{folder} has two folders for the split {split}: {names}; keep one, or move them together"
            )
    others = [path for path in inside if split_of(path.name) is None] if found else []
    if beside := [path.name for path in others if images_in(path)]:
        splits = ", ".join(f"{path.name}/" for paths in found.values() for path in paths)
        names = ", ".join(f"{name}/" for name in beside[:5]) + (f" and {len(beside) - 5} more" * (len(beside) > 5))
        raise ValueError(
            f"{folder} has folders of splits ({splits}) beside folders of images ({names}): move the latter into the "
            "former, or, if all are classes, use --train-dir or a table"
        )
    return {split: found[split][0] for split in ("train", "val", "calibration", "test") if split in found}


def class_folders(folder: Path) -> tuple[str, ...]:
    """Names of the class folders in ``folder``, sorted; FileNotFoundError without the folder.

    Raises:
        ValueError: there are none, or a name is no UTF-8, which no run can keep.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    names = tuple(path.name for path in _folders(folder))
    if not names:
        raise ValueError(f"{folder} holds no class folders; expected {folder}/CLASS/image.png")
    for name in names:
        if not name.isascii() and not is_text(name, len(name)):
            raise ValueError(f"{folder} holds a class folder whose name is no UTF-8: {os.fsencode(name)!r}; rename it")
    return names


def class_files(folder: Path, class_names: tuple[str, ...]) -> tuple[list[Path], Ints]:
    """Image files of every class folder and their labels (n,), class by class; ValueError where there are none."""
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        inside = images_in(folder / name)
        files += inside
        labels += [label] * len(inside)
    if not files:
        raise ValueError(f"{folder} holds no images ({', '.join(sorted(image_suffixes()))})")
    return files, np.asarray(labels, dtype=np.int64)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
