"""Folders of one's own images as a data source: a folder per class, divided into splits or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .image_files import SUFFIXES
from .sources import ImageFiles, Pool, Source, stratified_rows


def folder_source(folder: Path, seed: int) -> Source:
    """A folder of images by class as a `Source`: {train,val,test}/class/x.png, or class/x.png.

    The latter is divided into 80/10/10 with ``seed``.

    Reading raises FileNotFoundError for a split without a folder, ValueError for no classes, no images, or a class
    that train does not have.
    """
    has = {split: (folder / split).is_dir() for split in ("train", "val", "test")}

    def read(split: str, root: Path | None) -> Pool:
        if not any(has.values()):
            return _divide(_read_classes(folder, _class_names(folder)), split, seed)
        if not has[split]:
            raise FileNotFoundError(f"{folder} has no folder {split!r} (it has {', '.join(s for s in has if has[s])})")
        return _read_classes(folder / split, _class_names(folder / ("train" if has["train"] else split)))

    own = has["val"] or not any(has.values())
    return Source(f"images in {folder}", "yours", read, lambda root: folder, has_val=own)


def _class_names(folder: Path) -> tuple[str, ...]:
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))
    if not names:
        raise ValueError(f"{folder} holds no class folders; expected {folder}/CLASS/image.png")
    return names


def _read_classes(folder: Path, class_names: tuple[str, ...]) -> Pool:
    extra = set(_class_names(folder)) - set(class_names)
    if extra:
        raise ValueError(f"{folder / min(extra)} is a class that train does not have ({', '.join(class_names)})")
    files, labels = [], []
    for label, name in enumerate(class_names):
        inside = sorted(
            p for p in (folder / name).rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
        )
        files += inside
        labels += [label] * len(inside)
    if not files:
        raise ValueError(f"{folder} holds no images ({', '.join(SUFFIXES)})")
    return Pool(ImageFiles(files), np.asarray(labels, dtype=np.int64), class_names)


def _divide(pool: Pool, split: str, seed: int) -> Pool:
    """An undivided folder: about 80/10/10 of every class, at least 2 of each for val and for test.

    Positions count in each part.
    """
    held = stratified_rows(pool.labels, 2 * (len(pool.labels) // 10), seed=seed, least=4, class_names=pool.class_names)
    test = held[stratified_rows(pool.labels[held], len(held) // 2, seed=seed, least=2)]
    train = np.setdiff1d(np.arange(len(pool.labels)), held)
    rows = {"train": train, "val": np.setdiff1d(held, test), "test": test}[split]
    paths = pool.pixels.paths if isinstance(pool.pixels, ImageFiles) else []
    return Pool(ImageFiles([paths[row] for row in rows]), pool.labels[rows], pool.class_names)
