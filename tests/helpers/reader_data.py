"""Small data sets in the forms that timm's readers open: tar shards, and a table of `datasets`."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

from PIL import Image


def coloured(number: int) -> Image.Image:
    """An image whose colour tells its number."""
    return Image.new("RGB", (9, 7), (number % 251, number // 251, 77))


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def encoded(number: int, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    coloured(number).save(stream, form)
    return stream.getvalue()


def shard(path: Path, first: int, count: int) -> Path:
    """A tar file with images ``first`` to ``first + count - 1``; the class of an image is its number modulo 2."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for number in range(first, first + count):
            add(archive, f"{number:04d}.png", encoded(number))
            add(archive, f"{number:04d}.cls", str(number % 2).encode())
    return path


def two_shards(folder: Path, count: int = 20) -> Path:
    """``folder`` with two shards of ``count`` images each, without splits."""
    for i in range(2):
        shard(folder / f"images-{i}.tar", i * count, count)
    return folder


def split_shards(folder: Path) -> Path:
    """``folder`` with shards of train, val and test: 20, 4 and 4 images."""
    for part, first, count in (("train", 0, 20), ("val", 20, 4), ("test", 24, 4)):
        shard(folder / f"{part}-0000.tar", first, count)
    return folder


def table(numbers: range, *, image: str = "image", label: str = "label") -> Any:
    """A table of `datasets` with encoded images and the classes even and odd."""
    import datasets

    kinds = datasets.Features({image: datasets.Image(), label: datasets.ClassLabel(names=["even", "odd"])})
    columns = {image: [{"bytes": encoded(n), "path": None} for n in numbers], label: [n % 2 for n in numbers]}
    return datasets.Dataset.from_dict(columns, features=kinds)


def saved_tables(folder: Path, **fields: str) -> Path:
    """``folder`` as `save_to_disk` of `datasets` writes it: train, validation and test of 20, 4 and 4 images."""
    import datasets

    parts = {"train": range(20), "validation": range(20, 24), "test": range(24, 28)}
    tables = datasets.DatasetDict({part: table(numbers, **fields) for part, numbers in parts.items()})
    tables.save_to_disk(folder)
    return folder
