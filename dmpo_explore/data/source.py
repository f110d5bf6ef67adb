"""Source: what a known data set is, an entry of `joints.DATASETS`; and the errors of one that is not here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .image_set import Pool
from .names import data_dir


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
