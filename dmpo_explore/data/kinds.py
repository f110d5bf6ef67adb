"""Kinds of data: what a kind says of its inputs, and how it reads one. Entries of `joints.DATA_KINDS`.

A kind lists everything that lies in some data (`Kind.inputs`: one row an input) and reads an image by its name
(`Kind.content`); files below a folder need no more than the list. Everything else is the same for all kinds and made
from that list: classes, splits, findings, manifest (`frame.Data`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pandas as pd

from ..config import DataConfig
from ..utils.files import expanded
from .image_files import is_image_file
from .image_set import ImageFiles, ImageSet, Pixels, StoredImages

COLUMNS = ("path", "split", "label", "why")
FORMAT, OUTSIDE = "of another format", "outside the class folders"
LINKED, CLOSED = "in linked folders, which are not followed", "in folders that cannot be listed"


class Inputs(NamedTuple):
    """Everything that lies in some data.

    Args:
        frame: a row an input: ``path`` is its name, for a file relative to the data's folder; ``split`` one of `SPLITS`
            where the data say so, else empty; ``label`` the name or the number of its class; ``why`` it is no image of
            a class, else empty; ``group``, if there is one, of images that must stay in one split.
        classes: their names in order; none: those of train, sorted, numbers as numbers.
        rule: how the images came into their splits, in words.
        given: the splits; none: those in ``frame``, without which the images are divided by the project's rule.
        errors: split → why it cannot be read.

    Example:
        >>> from dmpo_explore.data import open_data
        >>> found = open_data(DataConfig("digits")).inputs
        >>> len(found.frame), found.classes[:3], found.rule
        (1797, ('0', '1', '2'), 'a fixed fifth of every class is test')
    """

    frame: pd.DataFrame
    classes: tuple[str, ...] = ()
    rule: str = ""
    given: tuple[str, ...] = ()
    errors: Mapping[str, Exception] = {}


class Kind:
    """A kind of data, opened by a config; nothing is read before it is asked for.

    Args:
        config: of the run.

    Example:
        >>> from dmpo_explore.data import open_data
        >>> kind = open_data(DataConfig("digits")).kind
        >>> kind.own, kind.files, kind.inputs().given
        (False, False, ('train', 'test'))
    """

    own: ClassVar[bool] = True  # whether the images are the user's, not those of a known data set
    files: ClassVar[bool] = True  # whether every image is a file of its own in `folder`
    moved_cure: ClassVar[str] = "record the run with --data FOLDER"  # what a reader does where they were moved
    val_size: int | None = None  # images that are taken from train where there is no val; None: 10 %

    def __init__(self, config: DataConfig) -> None:
        self.config = config

    @classmethod
    def takes(cls, config: DataConfig) -> bool:
        """Whether data of this config are of this kind; the first kind that takes them opens them."""
        raise NotImplementedError

    @property
    def folder(self) -> Path:
        """Folder that the paths of files are relative to."""
        raise NotImplementedError

    def inputs(self) -> Inputs:
        """Everything that lies in the data.

        Raises:
            ValueError, FileNotFoundError, ImportError: the data cannot be opened.
        """
        raise NotImplementedError

    def content(self, name: str) -> bytes:
        """The bytes of an image that is no file of its own; KeyError where there is none of this name."""
        raise NotImplementedError

    def pixels(self, split: str, names: Sequence[str], hashes: Sequence[str] | None = None) -> Pixels:
        """The images of these names, by position; ``split``: the one that the data say, or were divided into."""
        if self.files:
            return ImageFiles([self.folder / name for name in names], hashes)
        return StoredImages(names, self.content, hashes)

    def image_set(self, split: str) -> ImageSet | None:
        """The images of a split that needs no other one to be read; None: it is taken from all inputs."""
        return None

    def sources(self) -> Sequence[Path]:
        """Files that say what the images are, such as a table."""
        return ()

    def fetch(self) -> Path:
        """Download the data unless they are here, and return their folder; FileNotFoundError where that fails."""
        self.inputs()
        return self.folder

    def fetch_missing(self) -> None:
        """Download what a new run names, if that is a data set of a hub that is not here; raises as `fetch`."""

    def moved(self, place: str | Path) -> DataConfig:
        """The same data in another location: a folder, a table, or the root of a known data set.

        Raises:
            FileNotFoundError: no such file or folder. ValueError: it is of another kind.
        """
        raise NotImplementedError

    def located(self) -> DataConfig:
        """The config with absolute paths, so that the data are found from any folder."""
        given = (self.config.root, self.config.class_names, self.config.unlabelled)
        root, names, unlabelled = (text if text is None else str(absolute(text)) for text in given)
        return replace(self.config, root=root, class_names=names, unlabelled=unlabelled)


def moved_to(place: Path, was: str) -> Path:
    """The folder ``place``, if there is one; ``was``: what the run was trained on."""
    if not place.exists():
        raise FileNotFoundError(f"no folder {place}")
    if not place.is_dir():
        raise ValueError(f"{place} is no folder; the run was trained on {was}")
    return place


def frame_of(rows: Sequence[Sequence[Any]], columns: Sequence[str] = COLUMNS) -> pd.DataFrame:
    """A table of texts; names of files may be no text in UTF-8, which pandas' own strings cannot hold."""
    return pd.DataFrame(rows, columns=list(columns), dtype=object)


def walk(folder: Path, base: Path) -> list[tuple[str, str]]:
    """Everything in a folder and its subfolders, sorted: its path relative to ``base``, and why it is no image file.

    Hidden files are left out; linked folders are not followed.
    """
    closed = list[OSError]()
    found = list[tuple[Path, str]]()
    for top, folders, files in os.walk(folder, onerror=closed.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [(path, LINKED) for name in folders if (path := Path(top, name)).is_symlink()]
        there = (Path(top, name) for name in files if not name.startswith("."))
        found += [(path, "" if is_image_file(path) else FORMAT) for path in there]
    found += [(Path(error.filename), CLOSED) for error in closed]
    return [(relative_path(path, base), why) for path, why in sorted(found)]


def visible(folder: Path) -> Iterator[Path]:
    """What lies in a folder, sorted, without hidden files."""
    return iter(sorted(path for path in folder.iterdir() if not path.name.startswith(".")))


def absolute(text: str | Path) -> Path:
    """An absolute path without links; ``~`` is the home folder."""
    return expanded(text).resolve()


def relative_path(path: Path, folder: Path) -> str:
    """``path`` relative to ``folder``, or absolute if it is outside."""
    full, base = os.path.abspath(path), os.path.abspath(folder)
    inside = full.startswith(os.path.join(base, ""))
    return Path(os.path.relpath(full, base) if inside else full).as_posix()
