"""Image files that change before they are recorded, or between two looks of a recording or a training at them.

The record or the weights must be those of unchanged images, or an error must name the file; an earlier record stays.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dmpo_explore as dx
from dmpo_explore.runs.run_files import WEIGHTS
from dmpo_explore.utils.files import sha256

from .judged import CLEAR, Wrong
from .small import BATCH, NAME, runs_in, small_run
from .states import same_record


def flip(file: Path, other: Path) -> None:
    """Change a pixel, and keep size and time of change."""
    del other
    status, content = file.stat(), bytearray(file.read_bytes())
    content[-30] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def link(file: Path, other: Path) -> None:
    file.unlink()
    file.symlink_to(other)


def folder(file: Path, other: Path) -> None:
    del other
    file.unlink()
    file.mkdir()


EDITS: dict[str, Callable[[Path, Path], Any]] = {
    "another image": lambda file, other: shutil.copyfile(other, file),
    "a bit": flip,
    "cut": lambda file, other: os.truncate(file, file.stat().st_size // 2),
    "empty": lambda file, other: os.truncate(file, 0),
    "gone": lambda file, other: file.unlink(),
    "renamed": lambda file, other: file.rename(file.with_name("new.png")),
    "another class": lambda file, other: file.rename(other.with_name("new.png")),
    "a link": link,
    "a folder": folder,
    "changed places": lambda file, other: (file.rename(file.with_suffix(".x")), other.rename(file),
                                           file.with_suffix(".x").rename(other)),
    "one more": lambda file, other: shutil.copyfile(other, file.with_name("new.png")),
}  # fmt: skip
MEANWHILE = "files have changed meanwhile"
SWAPPED = ("another image", "a bit", "cut", "empty", "gone")  # what can be undone while somebody reads


def make(folder: Path) -> dx.Run:
    return small_run(folder)


def trial(run: dx.Run, place: Path, chance: random.Random) -> str:
    data, whole = Path(run.config.data.name), place / "whole"
    shutil.copytree(data, whole)
    moment = chance.choice(("before recording", "while it is recorded", "while it is trained"))
    split = "train" if moment == "while it is trained" else chance.choice(("test", "test", "test", "train"))
    file = chance.choice(sorted((data / split).rglob("*.png")))
    other = chance.choice(sorted((data / split / {"cat": "dog", "dog": "cat"}[file.parent.name]).glob("*.png")))
    edit = chance.choice(list(EDITS) if moment == "before recording" else SWAPPED)
    what = f"{file.relative_to(data)} ({edit}) {moment}"
    try:
        if moment == "before recording":
            EDITS[edit](file, other)
            _record(run, place, file)
        else:
            with _changing(file, other, edit, place, chance.randint(1, 4)):
                (_train if moment == "while it is trained" else _record)(run, place, file)
    finally:
        shutil.rmtree(data)
        shutil.copytree(whole, data)
    return what


@contextmanager
def _changing(file: Path, other: Path, edit: str, place: Path, at: int) -> Iterator[None]:
    """Within it the file changes just before it is opened for the ``at``-th time, and back before the next time."""
    whole, opened, times = place / "whole.png", Path.open, itertools.count(1)
    shutil.copyfile(file, whole)

    def open_it(path: Path, *args: Any, **kwargs: Any) -> Any:
        time = next(times) if path == file else 0
        if time == at:
            EDITS[edit](file, other)
        elif time == at + 1:
            shutil.copyfile(whole, file)
        return opened(path, *args, **kwargs)

    with patch.object(Path, "open", open_it):
        yield


def _record(run: dx.Run, place: Path, file: Path) -> None:
    """Record a copy of the run again."""
    copy = dx.Run(shutil.copytree(run.path, place / "runs" / NAME))
    with runs_in(place / "runs"), _named(file):
        try:
            dx.record_run(copy, "test", device="cpu", batch_size=BATCH, force=True)
        finally:
            if not same_record(copy, run, "test"):
                raise Wrong("the record differs")


def _train(run: dx.Run, place: Path, file: Path) -> None:
    (place / "runs").mkdir()
    with runs_in(place / "runs"), _named(file):
        made = dx.train(run.config, NAME, device="cpu")
        if sha256(made.path / WEIGHTS) != sha256(run.path / WEIGHTS):
            raise Wrong("the weights differ")


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """An error inside must name the file."""
    try:
        yield
    except CLEAR as error:
        if file.name not in str(error) and MEANWHILE not in str(error):
            raise Wrong(f"the error does not name the file: {error}") from error
        raise
