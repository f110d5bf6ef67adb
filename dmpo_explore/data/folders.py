"""Folders of the user's images: one folder per class, with or without splits.

A folder of class folders; one with split folders (train, val, calibration, test, in any case) that hold class folders;
or one folder for each split. An undivided folder is divided with the config's seed, 80/10/10 into train, val and test,
or 60/10/10/20 with a calibration split (where none is asked for: if there are enough images, see `cuts_calibration`).
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ..config import DataConfig
from ..utils.files import expanded
from ..utils.texts import is_text
from ..utils.typing import Ints
from .image_data import ALL, BESIDE, ImageData, Listing, absolute, count_entries, list_classes, relative_path
from .image_files import image_suffixes, images_in
from .image_set import ImageFiles, Pool
from .names import unknown_data
from .splits import SPLITS, cuts_calibration, divide, split_of

DIRS = {"train": "train_dir", "val": "val_dir", "calibration": "calibration_dir", "test": "test_dir"}


class FolderData(ImageData):
    """Images in a folder, or in one folder for each split.

    Raises:
        ValueError: the folders of the splits lie on different drives, or beside another ``--data``.

    Opening raises ValueError for two folders for one split, for split folders beside class folders, and for no folder;
    reading FileNotFoundError for a split without a folder, ValueError for no classes, no images, or a class that train
    does not have.
    """

    def __init__(self, config: DataConfig) -> None:
        self.dirs = {split: absolute(text) for split, key in DIRS.items() if (text := getattr(config, key)) is not None}
        super().__init__(_with_common_folder(config, self.dirs) if self.dirs else config)

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

    @cached_property
    def _undivided(self) -> tuple[tuple[str, ...], list[Path], Ints]:
        names = class_folders(self.folder)
        return names, *class_files(self.folder, names)

    @cached_property
    def _calibrated(self) -> bool:
        """Whether an undivided folder gets a calibration split."""
        if self.config.calibration is None:
            with suppress(OSError, ValueError):  # which `read` raises
                labels = self._undivided[2]
                return cuts_calibration(None, len(labels) // 10, labels)
        return bool(self.config.calibration)

    @cached_property
    def _divided(self) -> dict[str, Ints]:
        names, _, labels = self._undivided
        return divide(labels, seed=self.config.seed, calibration=self._calibrated, class_names=names)

    @property
    def given(self) -> tuple[str, ...]:
        return tuple(self.parts) or ("train", "val", *["calibration"] * self._calibrated, "test")

    @property
    def given_rule(self) -> str:
        if self.parts:
            return ", ".join(f"{split} is {path.name}/" for split, path in self.parts.items())
        shares = "60/10/10/20" if self._calibrated else "80/10/10"
        return f"{shares} % of every class into {', '.join(self.given)}, with seed {self.config.seed}"

    def read(self, split: str) -> Pool:
        if not self.parts:
            (names, files, labels), rows = self._undivided, self._divided[split]
            return Pool(ImageFiles([files[row] for row in rows]), labels[rows], names)
        if split not in self.parts:
            raise FileNotFoundError(f"{self.folder} has no folder {split!r} (it has {', '.join(self.parts)})")
        place = self.parts[split]
        inside = class_folders(place)
        names = class_folders(self.parts.get("train", place))
        if extra := {*inside} - {*names}:
            more = f", and so are {len(extra) - 1} more" if len(extra) > 1 else ""
            raise ValueError(
                f"{place / min(extra)} is a class that train does not have ({', '.join(names[:20])}){more}; add it to "
                "train, or remove it"
            )
        files, labels = class_files(place, names)
        return Pool(ImageFiles(files), labels, names)

    def fetch(self) -> Path:
        """The folder; there is nothing to download."""
        _ = self.parts
        return self.folder

    def located(self) -> DataConfig:
        found = super().located()
        there = self.folder.exists()  # what is not there is perhaps a misspelt name
        return replace(found, name=str(absolute(self.folder))) if there else found

    def moved(self, place: str | Path) -> DataConfig:
        new = self.moved_to(absolute(place), "images in a folder")
        dirs = {DIRS[split]: str(new / path.relative_to(self.folder)) for split, path in self.dirs.items()}
        return replace(self.config, name=str(new), **dirs)  # type: ignore[arg-type]

    def listing(self) -> Listing:
        found = Listing([], [], [], [])
        for split, folder in self.dirs.items():
            list_classes(folder, split, found)
        if not self.dirs:
            list_classes(self.folder, "", found)
        return found

    def names(self) -> list[str]:
        folders = self.dirs.values() or [self.folder]
        return [relative_path(file, self.folder) for folder in folders for file in images_in(folder)]

    def inputs(self, listing: Listing) -> dict[str, int]:
        """Place → number of entries: files, links to folders, folders that cannot be listed. Hidden ones are none."""
        if self.dirs:
            return {split: count_entries(folder) for split, folder in self.dirs.items()}
        inside = [entry for entry in os.scandir(self.folder) if not entry.name.startswith(".")]
        splits = {split: entry for entry in inside if entry.is_dir() and (split := split_of(entry.name))}
        if not splits:
            return {ALL: count_entries(self.folder)}
        rest = sum(
            count_entries(Path(entry)) if entry.is_dir() else 1 for entry in inside if entry not in splits.values()
        )
        found = {split: count_entries(Path(splits[split])) for split in SPLITS if split in splits}
        return found | ({BESIDE: rest} if rest else {})

    def recounted(self) -> dict[str, int]:
        try:
            return self.inputs(Listing([], [], [], []))
        except OSError:  # a folder of a split that is not read is not there
            return {}


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
