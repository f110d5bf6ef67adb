"""File of a run's manifest, and its splits: only the first line is read, so that frequent reading is cheap."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path

PLAIN, PACKED = "manifest.csv", "manifest.csv.gz"


def manifest_file(folder: Path) -> Path | None:
    """The manifest's file in a run folder; None in those of earlier versions."""
    return next((folder / name for name in (PLAIN, PACKED) if (folder / name).is_file()), None)


def manifest_splits(folder: Path) -> tuple[str, ...]:
    """The splits that a run folder's manifest lists; empty where there is none, or none that can be read.

    Example:
        >>> manifest_splits(Path("nowhere"))
        ()
    """
    path = manifest_file(folder)
    if path is None:
        return ()
    try:
        with gzip.open(path, "rb") if path.name == PACKED else path.open("rb") as stream:
            return tuple(json.loads(stream.readline())["counts"])
    except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError):
        return ()
