"""Names of data: what ``--data`` may name, told apart by the name alone, and the folder of known data sets.

A key of `joints.DATASETS`; timm's name of a data set: ``hfds/NAME`` or ``wds/FOLDER``; the
path of a table; else the path of a folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from ..joints import DATASETS
from ..utils.files import cache_dir, expanded
from ..utils.registry import unknown
from .image_set import Pool
from .splits import SPLITS, split_of

READERS = {
    "hfds": "Hugging Face's datasets",
    "wds": "tar shards of webdataset",
}
TABLES = (".csv", ".parquet", ".jsonl")


class ReaderName(NamedTuple):
    """A data set's name in two parts: timm's reader, a key of `READERS`, and the name for that reader."""

    reader: str
    rest: str

    def __str__(self) -> str:
        return f"{self.reader}/{self.rest}"

    @property
    def folder(self) -> Path | None:
        """The folder on this machine that it names; None where it names a published data set."""
        path = expanded(self.rest)
        return path if self.reader == "wds" or path.is_absolute() or path.is_dir() else None


def reader_name(name: str) -> ReaderName | None:
    """The parts of timm's name of a data set; None for any other name.

    Raises:
        ValueError: a folder of that name is here too.

    Example:
        >>> reader_name("photos/cats") is None, reader_name("WDS//data/shards")
        (True, ReaderName(reader='wds', rest='/data/shards'))
    """
    reader, _, rest = name.partition("/")
    if reader.lower() not in READERS or not rest:
        return None
    if Path(name).exists():
        raise ValueError(f"{name!r} is timm's name of a data set, and a folder here; write ./{name} for the folder")
    return ReaderName(reader.lower(), rest)


def is_table(name: str) -> bool:
    """Whether data of this name are a table of images; it need not exist."""
    path = expanded(name)
    return path.suffix.lower() in TABLES and not path.is_dir() and reader_name(name) is None


def splits_of_parts(name: object, parts: Iterable[str]) -> dict[str, str]:
    """Split → the part that it is; parts of other names are left out, and without a test part val is test."""
    found: dict[str, str] = {}
    for part in parts:
        split = split_of(part)
        if split in found:
            raise ValueError(f"{name} has two parts for the split {split}: {found[split]} and {part}")
        if split is not None:
            found[split] = part
    if "train" not in found:
        raise ValueError(f"{name} has no part 'train' (it has {', '.join(parts) or 'none'})")
    if "test" not in found and "val" in found:
        found["test"] = found.pop("val")
    return {split: found[split] for split in SPLITS if split in found}


def unknown_data(name: str) -> ValueError:
    """The error of a name that is no data set, and of which there is no folder and no table."""
    if near := _near(expanded(name)):
        return ValueError(f"no folder or table {name}. Did you mean {str(near)!r}?")
    if name.lower().startswith(("torch/", "tfds/")):
        return ValueError(f"{name} is not read any more; save its images as folders by class, or as shards: wds/FOLDER")
    readers = ", ".join(f"{reader}/…" for reader in READERS)
    either = f"or the path of an image folder or of a table ({', '.join(TABLES)}), or timm's {readers}"
    return ValueError(f"{unknown('data', name, DATASETS)}, {either}")


def _near(place: Path) -> Path | None:
    """The folder or table beside ``place`` whose name is most like it."""
    names: list[str] = []
    with suppress(OSError):
        names = [path.name for path in place.parent.iterdir() if path.is_dir() or path.suffix.lower() in TABLES]
    return next((place.with_name(found) for found in get_close_matches(place.name, names, n=1, cutoff=0.8)), None)


def data_dir(root: Path | None) -> Path:
    """Folder of known data sets: ``root``, else the environment's ``DMPO_EXPLORE_DATA``, else the cache."""
    own = os.environ.get("DMPO_EXPLORE_DATA", "").strip()
    return root if root is not None else expanded(own) if own else cache_dir() / "data"


# Source: what a known data set is, an entry of `joints.DATASETS`; and the errors of one that is not here.


@dataclass(frozen=True)
class Source:
    """A known data set.

    Args:
        title, licence: in words.
        read: (one of ``splits``; root or None) → `Pool`.
        fetch: root or None → the folder that holds the data afterwards.
        val_size: images taken from train if there is no ``val``; None means 10 %.
        splits: those of the source itself; others are taken from train.
        rule: how the images came into these splits, in words.
        grouped: whether images have groups that must not be divided.
        download_bytes: of what ``fetch`` downloads, about; 0: nothing, or not known.

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
    download_bytes: int = 0


def missing(name: str, where: str, more: str = "") -> FileNotFoundError:
    """The error of a known data set that has not been fetched."""
    return FileNotFoundError(f"{name} is not in {where}. Run `dmpo-explore fetch --data {name}`{more}")


def download(name: str, kind: str, root: Path | None, more: str = "", **options: bool) -> None:
    """Let torchvision download a data set; FileNotFoundError that names the alternatives where it cannot."""
    folder = data_dir(root)
    try:
        from torchvision import datasets

        folder.mkdir(parents=True, exist_ok=True)
        getattr(datasets, kind)(folder, download=True, **options)
    except (OSError, RuntimeError, ImportError) as error:
        advice = more or "; copy the files torchvision would download into that folder"
        raise FileNotFoundError(f"{name} could not be downloaded into {folder} ({error}). Try again{advice}") from None
