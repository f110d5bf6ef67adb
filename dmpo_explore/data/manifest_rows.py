"""Rows of a manifest, also for images that are not files of their own: made, found again, and compared.

In: a `Source` that timm opened, and the manifest's rows of its images. Out: `VerifiedImages`, or the missing, changed
and added images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import NamedTuple

from ..config import DataConfig
from ..utils.abbreviate import short
from ..utils.progress import Progress
from .file_hashes import few, listed_files
from .images import ImageSet
from .locations import base_folder
from .source import Pool, Source
from .splits import SPLITS
from .stored_images import ChosenImages, StoredImages, VerifiedImages

EVERY = 100  # images between two reports of progress


@dataclass(frozen=True)
class FileRow:
    """One image: the path of its file (relative to the data's folder, with ``/``), size, SHA-256 and label.

    Of a data set that timm opens ``path`` is the image's name: the part, then its place there.
    """

    path: str
    bytes: int
    sha256: str
    label: int


def check_path(path: str) -> None:
    """Raise ValueError for a path of a manifest that leads out of the data's folder, or is none.

    An absolute path is the user's own where a table lists it, see `require_inside`; no manifest is written with ``..``.

    Example:
        >>> check_path("cat/1.png")
        >>> check_path("cat/../../other.png")
        Traceback (most recent call last):
        ValueError: 'cat/../../other.png' leads out of the data's folder; a manifest lists what lies in it
    """
    if not path or "\0" in path or (".." in path and ".." in PurePath(path.replace("\\", "/")).parts):
        raise ValueError(f"{short(path)} leads out of the data's folder; a manifest lists what lies in it")


def require_inside(rows: Sequence[FileRow], data: DataConfig) -> None:
    """Raise ValueError for rows with an absolute path, unless the table or the folders of the data list this file."""
    absolute = [row.path for row in rows if PurePath(row.path).is_absolute()]
    if not absolute:
        return
    listed = {*listed_files(data)}
    if outside := [path for path in absolute if path not in listed]:
        raise ValueError(
            f"the manifest lists {len(outside):,} files outside {base_folder(data)} ({few(outside)}), which "
            "neither a table nor folders of the run's data list; they are not opened"
        )


class Place(NamedTuple):
    """Where an image is now: the part, its position there, and its label."""

    part: StoredImages
    position: int
    label: int


def stored_rows(sets: dict[str, ImageSet], progress: Progress | None = None) -> dict[str, tuple[FileRow, ...]]:
    """Split → a row for every image, which is read for it; ``progress`` is called with (images read, in all)."""
    found: dict[str, list[FileRow]] = {split: [] for split in SPLITS if split in sets}
    done, total = 0, sum(map(len, sets.values()))
    for split in found:
        images = sets[split]
        assert isinstance(images.pixels, ChosenImages)
        for index, label in zip(images.indices, images.labels, strict=True):
            found[split].append(FileRow(*images.pixels.look(int(index)), int(label)))
            check_path(found[split][-1].path)
            done += 1
            if progress and (done % EVERY == 0 or done == total):
                progress(done, total)
    return {split: tuple(rows) for split, rows in found.items()}


def stored_names(source: Source) -> list[str]:
    """Names of all images in all parts that are splits; a part that cannot be read any more has none."""
    return [name for part in source.parts for name in _places(source, part)]


def verified_images(source: Source, rows: Sequence[FileRow], what: str) -> VerifiedImages:
    """The images of the manifest, compared with their hash whenever one is read.

    Args:
        what: name of the data, for messages.

    Raises:
        FileNotFoundError: images are missing. ValueError: they have another label now.
    """
    places = _found(source, rows)
    if lost := [row.path for row in rows if row.path not in places]:
        raise FileNotFoundError(f"{len(lost):,} of {len(rows):,} images are not in {what} any more, first {lost[0]}")
    if bent := [row.path for row in rows if places[row.path].label != row.label]:
        raise ValueError(f"{len(bent):,} of {len(rows):,} images of {what} have another class now, first {bent[0]}")
    return VerifiedImages([places[row.path][:2] for row in rows], [row.sha256 for row in rows])


def compare(
    source: Source, rows: Sequence[FileRow], progress: Progress | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of images that are missing, and of those whose bytes or label have changed."""
    places, missing, changed = _found(source, rows), list[str](), list[str]()
    for done, row in enumerate(rows, start=1):
        place = places.get(row.path)
        if place is None:
            missing.append(row.path)
        elif place.label != row.label or place.part.look(place.position).sha256 != row.sha256:
            changed.append(row.path)
        if progress and (done % EVERY == 0 or done == len(rows)):
            progress(done, len(rows))
    return tuple(missing), tuple(changed)


def _found(source: Source, rows: Sequence[FileRow]) -> dict[str, Place]:
    """Name → place, in the parts that the rows name."""
    parts = dict.fromkeys(row.path.partition("/")[0] for row in rows)
    return {name: place for part in parts if part in source.parts for name, place in _places(source, part).items()}


def _places(source: Source, part: str) -> dict[str, Place]:
    assert source.stored is not None
    pool: Pool = source.stored(part)
    images = pool.pixels
    assert isinstance(images, StoredImages)
    labels = pool.labels.tolist()
    return {name: Place(images, position, labels[position]) for position, name in enumerate(images.names)}
