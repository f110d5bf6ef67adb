"""A part of a data set that timm has opened: images by position, targets, class names; and their bytes.

`create` is `timm.data.create_dataset`, with errors that name the data set and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...utils.texts import check_regular
from ..image_set import StoredImages, pack
from ..names import ReaderName
from .tar_shards import Sample


@dataclass(frozen=True)
class OpenedPart:
    """One part of a data set: its images, the target of each, and class names where the reader gives them."""

    images: StoredImages
    targets: Sequence[Any]
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Keys:
    """Names of the fields of image and class; None: the only field of their kind."""

    image: str | None = None
    label: str | None = None


def numbered(part: str, count: int) -> list[str]:
    """Names of images that have none: the part and the position."""
    return [f"{part}/{position}" for position in range(count)]


def file_bytes(path: Path) -> bytes:
    """The bytes of a regular file; raises as `check_regular`."""
    check_regular(path)
    return path.read_bytes()


@dataclass(frozen=True)
class FileContent:
    """Position → bytes of a file."""

    paths: Sequence[Path]

    def __call__(self, position: int) -> bytes:
        return file_bytes(self.paths[position])


@dataclass(frozen=True)
class ArrayContent:
    """Position → `pack`ed pixels of a data set of Pillow's images and targets."""

    images: Any

    def __call__(self, position: int) -> bytes:
        return pack(np.asarray(self.images[position][0].convert("RGB"), np.uint8))


@dataclass(frozen=True)
class TableContent:
    """Position → bytes of an encoded image in a table of datasets, or of the file that it names below ``places``."""

    table: Any
    field: str
    places: tuple[Path, ...]

    def __call__(self, position: int) -> bytes:
        image = self.table[position][self.field] or {}
        if not image.get("bytes") and not image.get("path"):
            raise ValueError(f"row {position} (counted from 0) has no {self.field}; remove it")
        if image.get("bytes"):
            return bytes(image["bytes"])
        path = Path(image["path"]).resolve()
        if not any(path.is_relative_to(place) for place in self.places):
            raise ValueError(
                f"row {position} (counted from 0) names a file outside its data set: {path}; save it again"
            )
        return file_bytes(path)


@dataclass(frozen=True)
class ShardContent:
    """Position → bytes of an image in a shard."""

    samples: Sequence[Sample]

    def __call__(self, position: int) -> bytes:
        return self.samples[position].image.read()


def create(name: ReaderName, part: str, root: Path | None, **options: Any) -> Any:
    """timm's data set; its errors for missing data become a FileNotFoundError."""
    import timm.data

    try:
        return timm.data.create_dataset(str(name), root=path_text(root), split=part, is_training=False, **options)
    except (OSError, RuntimeError, AssertionError) as error:
        cause = " ".join(str(error).split())
        fix = f"fetch it with `dmpo-explore fetch --data {name}`, or name its folder with --data-root"
        raise FileNotFoundError(f"{name} ({part}) cannot be opened{in_folder(root)}: {cause}. {fix}") from None


def path_text(root: Path | None) -> str | None:
    return None if root is None else str(root)


def in_folder(root: Path | None) -> str:
    return "" if root is None else f" in {root}"
