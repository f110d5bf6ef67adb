"""Names of data sets as timm writes them: ``torch/NAME``, ``hfds/NAME``, ``wds/FOLDER``, ``tfds/NAME``."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

READERS = {
    "torch": "torchvision's data sets",
    "hfds": "Hugging Face's datasets",
    "wds": "tar shards of webdataset",
    "tfds": "TensorFlow Datasets",
}


class ReaderName(NamedTuple):
    """A data set's name in two parts: timm's reader, a key of `READERS`, and the name for that reader."""

    reader: str
    rest: str

    def __str__(self) -> str:
        return f"{self.reader}/{self.rest}"

    @property
    def folder(self) -> Path | None:
        """The folder on this machine that it names; None where it names a published data set."""
        path = Path(self.rest).expanduser()
        return path if self.reader == "wds" or (self.reader == "hfds" and path.is_dir()) else None


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
