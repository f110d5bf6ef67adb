"""Folders of the user's images: one folder per class, with or without splits.

A folder of class folders; one with split folders (train, val, calibration, test, in any case) that hold class folders;
or one folder for each split.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ..config import DataConfig
from ..utils.files import expanded
from ..utils.texts import is_text
from ..utils.typing import Ints
from .image_files import images_in
from .kinds import OUTSIDE, Inputs, Kind, absolute, frame_of, moved_to, relative_path, visible, walk
from .names import unknown_data
from .splits import SPLITS, UNLABELLED, split_of

DIRS = {"train": "train_dir", "val": "val_dir", "calibration": "calibration_dir", "test": "test_dir"}


class FolderKind(Kind):
    """Images in a folder, or in one folder for each split.

    Raises:
        ValueError: the folders of the splits lie on different drives, or beside another ``--data``.

    Opening raises ValueError for two folders for one split, for split folders beside class folders, and for no class
    folders; FileNotFoundError for a folder that is not there.
    """

    def __init__(self, config: DataConfig) -> None:
        self.dirs = {split: absolute(text) for split, key in DIRS.items() if (text := getattr(config, key)) is not None}
        super().__init__(_with_common_folder(config, self.dirs) if self.dirs else config)

    @classmethod
    def takes(cls, config: DataConfig) -> bool:
        return any(getattr(config, key) is not None for key in DIRS.values())

    @property
    def folder(self) -> Path:
        return expanded(self.config.name)

    @cached_property
    def parts(self) -> dict[str, Path]:
        """Split → its folder; empty for an undivided folder."""
        if self.dirs:
            return self.dirs
        if not self.config.name or not self.folder.is_dir():
            raise unknown_data(self.config.name)
        return split_folders(self.folder)

    def inputs(self) -> Inputs:
        parts = self.parts or {"": self.folder}
        classes = class_folders(parts.get("train") or next(iter(parts.values())))
        rows = list[tuple[str, str, str, str]]()
        for split, place in parts.items():
            class_folders(place)  # each must have some
            for entry in visible(place):
                if entry.is_dir():
                    rows += [(path, split, entry.name, why) for path, why in walk(entry, self.folder)]
                else:
                    rows.append((relative_path(entry, self.folder), split, "", OUTSIDE))
        if self.parts and not self.dirs:
            for entry in visible(self.folder):
                beside = entry not in parts.values()
                files = walk(entry, self.folder) if beside and entry.is_dir() else [(entry.name, "")] * beside
                rows += [(path, "", "", why or OUTSIDE) for path, why in files]
        rule = ", ".join(f"{split} is {path.name}/" for split, path in self.parts.items())
        return Inputs(frame_of(rows), classes, rule, tuple(split for split in SPLITS if split in self.parts))

    def fetch(self) -> Path:
        """The folder; there is nothing to download."""
        _ = self.parts
        return self.folder

    def located(self) -> DataConfig:
        found = super().located()
        there = self.folder.exists()  # what is not there is perhaps a misspelt name
        return replace(found, name=str(absolute(self.folder))) if there else found

    def moved(self, place: str | Path) -> DataConfig:
        new = moved_to(absolute(place), "images in a folder")
        dirs = {DIRS[split]: str(new / path.relative_to(self.folder)) for split, path in self.dirs.items()}
        return replace(self.config, name=str(new), **dirs)  # type: ignore[arg-type]


class UnlabelledKind(Kind):
    """The folder of a config's unlabelled images, where there is one."""

    moved_cure = "resume the run with --unlabelled FOLDER"

    @property
    def folder(self) -> Path:
        assert self.config.unlabelled is not None
        return expanded(self.config.unlabelled).absolute()

    def inputs(self) -> Inputs:
        if not self.folder.is_dir():
            raise FileNotFoundError(f"unlabelled={self.config.unlabelled!r} (--unlabelled) is no folder")
        rows = [(path, UNLABELLED, "", why) for path, why in walk(self.folder, self.folder)]
        return Inputs(frame_of(rows), given=(UNLABELLED,))


def _with_common_folder(config: DataConfig, dirs: dict[str, Path]) -> DataConfig:
    """The config with absolute folders of the splits, and as ``name`` their common parent; raises as `FolderData`."""
    found = {DIRS[split]: str(path) for split, path in dirs.items()}
    try:
        common = Path(os.path.commonpath(found.values()))
    except ValueError:
        raise ValueError(f"the folders of the splits lie on different drives: {', '.join(found.values())}") from None
    if config.name != DataConfig().name and absolute(config.name) != common:
        raise ValueError(f"give either data={config.name!r} or folders of splits (train_dir …), not both")
    return replace(config, name=str(common), **found)  # type: ignore[arg-type]


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
    return {split: found[split][0] for split in SPLITS if split in found}


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
    """Image files of every class folder and their labels (n,), class by class."""
    files = [images_in(folder / name) for name in class_names]
    labels = np.repeat(np.arange(len(files)), [len(inside) for inside in files])
    return [path for inside in files for path in inside], labels


def _folders(folder: Path) -> list[Path]:
    return [path for path in visible(folder) if path.is_dir()]
