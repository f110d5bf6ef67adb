"""Finished epochs of a run, counted without torch.

A training continues from ``checkpoint.pt``; it is written first, then the files made from it, history.csv last.
An epoch counts once it is in both: then all of its files are on disk.
"""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path

from .run import Run

CHECKPOINT = "checkpoint.pt"


def finished_epochs(folder: Path) -> int:
    """Number of complete epochs in a run folder; by the history alone if there is no readable checkpoint."""
    try:
        rows = len(Run(folder).history())
    except (OSError, ValueError):
        rows = 0
    saved = checkpoint_epoch(folder / CHECKPOINT)
    return rows if saved is None else min(rows, saved)


def checkpoint_epoch(path: Path) -> int | None:
    """The epoch after which a checkpoint was saved; None if there is none or it cannot be read.

    Nothing is unpickled: it is the number after the first name ``epoch`` in the list of the file's pickle operations.
    """
    named = False
    try:
        with zipfile.ZipFile(path) as archive:
            (member,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(member) as stream:
                for operation, value, _ in pickletools.genops(stream):
                    if named and operation.name in ("BININT", "BININT1", "BININT2"):
                        return int(str(value))
                    if operation.name not in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):  # which follow every text
                        named = value == "epoch"
    except (OSError, ValueError, LookupError, NotImplementedError, zipfile.BadZipFile):
        return None
    return None
