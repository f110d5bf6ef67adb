"""Source of images, and the pool of all its images of a split."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..utils.files import cache_dir, sha256
from ..utils.typing import Array, Ints
from .image_files import open_image


class Pixels(Protocol):
    """Images by position: uint8 (H, W) or (H, W, 3)."""

    def __getitem__(self, index: int, /) -> Any: ...


class Pool(NamedTuple):
    """All images of one split as the source has them; images of one of ``groups`` (n,) must stay in one split.

    Example:
        >>> pool = Pool(np.zeros((2, 8, 8), np.uint8), np.array([0, 1]), ("cat", "dog"))
        >>> len(pool.labels), pool.groups
        (2, None)
    """

    pixels: Pixels
    labels: Ints
    class_names: tuple[str, ...]
    groups: Array | None = None


@dataclass(frozen=True)
class Source:
    """A source of images: a known data set, or a folder or table of the user's.

    Args:
        title, licence: in words.
        read: (one of ``splits``; root or None) → `Pool`.
        fetch: root or None → the folder that holds the data afterwards.
        val_size: images taken from train if there is no ``val``; None means 10 %.
        splits: those of the source itself; others are taken from train.
        rule: how the images came into these splits, in words.
        grouped: whether images have groups that must not be divided.
        download_bytes: of what `fetch` downloads, about; 0: nothing, or not known.
        parts, stored: of a data set that timm opens, the parts that are splits, and part → all its images.

    Example:
        >>> from dmpo_explore.data import DATASETS
        >>> source = DATASETS["digits"]
        >>> source.licence, source.splits, len(source.read("test", None).labels)
        ('CC BY 4.0', ('train', 'test'), 359)
    """

    title: str
    licence: str
    read: Callable[[str, Path | None], Pool]
    fetch: Callable[[Path | None], Path]
    val_size: int | None = None
    splits: tuple[str, ...] = ("train", "test")
    rule: str = "train and test are the published ones"
    grouped: bool = False
    parts: tuple[str, ...] = ()
    stored: Callable[[str], Pool] | None = None
    download_bytes: int = 0


class ImageFiles:
    """Image files by position, read one at a time: uint8 (H, W, 3).

    Args:
        paths: of the files, in order.

    Raises:
        FileNotFoundError: the file that is read is missing.
        ValueError: it is no image, or too large.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (6, 4)).save(f"{folder}/a.png")
        ...     ImageFiles([Path(folder) / "a.png"])[0].shape
        (4, 6, 3)
    """

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        return open_image(self.paths[index])


class VerifiedFiles(ImageFiles):
    """Image files whose bytes are compared with a known SHA-256 whenever one is read."""

    def __init__(self, paths: list[Path], hashes: list[str]) -> None:
        super().__init__(paths)
        self.hashes = hashes

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        """Image ``index``; FileNotFoundError without its file, ValueError where that holds other bytes."""
        path = self.paths[index]
        try:
            found = sha256(path)
        except FileNotFoundError:
            raise FileNotFoundError(f"no file {path}; restore it, or give the folder that holds it now") from None
        if found != self.hashes[index]:
            raise ValueError(f"{path} has been changed since the training (its SHA-256 differs); restore it")
        return open_image(path)


def without_files(source: Source, paths: Collection[Path]) -> Source:
    """``source`` without these files: they are taken from its splits before val is cut off and images are drawn.

    Example:
        >>> from dmpo_explore.data import DATASETS
        >>> len(without_files(DATASETS["digits"], []).read("test", None).labels)
        359
    """
    gone = {os.path.abspath(path) for path in paths}

    def read(split: str, root: Path | None) -> Pool:
        pool = source.read(split, root)
        if not gone or not isinstance(pool.pixels, ImageFiles):
            return pool
        kept = [row for row, path in enumerate(pool.pixels.paths) if os.path.abspath(path) not in gone]
        groups = None if pool.groups is None else pool.groups[kept]
        files = ImageFiles([pool.pixels.paths[row] for row in kept])
        return Pool(files, pool.labels[kept], pool.class_names, groups)

    return replace(source, read=read)


def data_dir(root: Path | None) -> Path:
    """Folder of known data sets: ``root``, else the environment's ``DMPO_EXPLORE_DATA``, else the cache.

    Example:
        >>> data_dir(Path("elsewhere")).name
        'elsewhere'
    """
    own = os.environ.get("DMPO_EXPLORE_DATA", "").strip()
    return root if root is not None else Path(own).expanduser() if own else cache_dir() / "data"


def missing(name: str, where: str, more: str = "") -> FileNotFoundError:
    """The error of a known data set that has not been fetched."""
    return FileNotFoundError(f"{name} is not in {where}. Run `dmpo-explore fetch --data {name}`{more}")


def download(name: str, kind: str, root: Path | None, more: str = "", **options: bool) -> None:
    """Let torchvision download a data set; FileNotFoundError that names the alternatives where it cannot."""
    from .torch_sources import download as download_by_torchvision

    folder = data_dir(root)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        download_by_torchvision(kind, folder, **options)
    except (OSError, RuntimeError, ImportError) as error:
        advice = more or "; copy the files torchvision would download into that folder"
        raise FileNotFoundError(f"{name} could not be downloaded into {folder} ({error}). Try again{advice}") from None
