"""Commands on a small file system that fills up at any byte of what they write.

In: seconds and a seed; a tmpfs of a few MiB is mounted, which Linux lets root alone do. Out: `run`, counts of commands
that found no room; of those that ended with status 1 and one line, left nothing half-written, and, given room, did
the rest as if nothing had been; and of finished files that were damaged or gone.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image

from dmpo_explore.records.writer import BATCHES
from dmpo_explore.runs.run import Run
from dmpo_explore.runs.run_files import finished_epochs

from .commands import EPOCHS, TRAIN, perform
from .outcome import Outcome
from .states import SPLITS, damaged, files

NAME, ROOM = "mine", 16 * 2**20
MIDWAY = 2**18  # bytes left to a recording until it has begun
BATCH = ["--batch-size", "5", "--device", "cpu"]  # always the same: another size may round the last bit otherwise
WORDS = "needs root on Linux, for a tmpfs"
# name → its arguments, and how many bytes it may find: none, to about what it writes
COMMANDS: dict[str, tuple[list[str], int]] = {
    "record": (["record", "--force", *BATCH, NAME], 60_000),
    "train": (["train", "--name", NAME, "--force", *TRAIN], 4_000_000),
    "first record": (["record", *BATCH, NAME], 60_000),
    "export": (["export", NAME, "--out", "{disk}/export", "--force", "--flops", "0.9"], 3_000_000),
    "predict": (["predict", NAME, "{disk}/images", "--output", "{disk}/answers.csv", "--device", "cpu"], 8_000),
    "search": (["search", "--name", "study", "--trials", "1", *TRAIN], 400_000),
    # here the room ends once the first images are recorded
    "record midway": (["record", "--split", "test", *BATCH, NAME], MIDWAY),
}


def run(seconds: float, seed: int = 0, least: int = 1) -> Outcome:
    """Let every command in turn find a random number of bytes, for ``seconds``, but ``least`` commands."""
    outcome, chance = Outcome(), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder) / "disk") as disk:
        if disk is None:
            outcome.skipped = WORDS
            return outcome
        log, whole = Path(folder) / "log", Path(folder) / "whole"
        for command in (["train", "--name", NAME, "--force", *TRAIN], COMMANDS["first record"][0]):
            if (done := perform(command, whole, log)).status:
                raise RuntimeError(done.errors)
        end, number = time.monotonic() + seconds, 0
        while number < least or time.monotonic() < end:
            name = list(COMMANDS)[number % len(COMMANDS)]
            _trial(name, disk, whole, log, chance, outcome)
            number += 1
    return outcome


@contextmanager
def small_disk(place: Path) -> Iterator[Path | None]:
    """A file system of its own in memory; None where it may not be mounted."""
    place.mkdir()
    mounted = sys.platform == "linux" and os.geteuid() == 0
    if mounted:
        command = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(place)]
        try:
            mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            mounted = False
    try:
        yield place if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=False)


def _trial(name: str, disk: Path, whole: Path, log: Path, chance: random.Random, outcome: Outcome) -> None:
    arguments, most = COMMANDS[name]
    command = [text.format(disk=disk) for text in arguments]
    _lay_out(name, disk, whole)
    before = files(disk)
    if name == "record midway":
        _fill(disk, most)
        done = perform(command, disk, log, meanwhile=lambda: _fill_once_begun(disk))
    else:
        _fill(disk, chance.randrange(most))
        done = perform(command, disk, log)
    (disk / "filling").unlink()
    if done.status == 0:
        return  # there was enough room
    outcome.trials += 1
    wrong = [] if done.names_full_disk else [f"status {done.status}: {done.errors.strip()[-300:]}"]
    lost = _lost(name, disk, whole, before)
    outcome.lost += len(lost)
    again = perform(_going_on(name, disk, command), disk, log)
    if again.status:
        wrong.append(f"with room, status {again.status}: {again.errors.strip()[-300:]}")
    elif name != "search":
        wrong += damaged(disk / NAME, whole / NAME, EPOCHS, () if name == "train" else SPLITS)
    wrong += [f"left: {file}" for file in files(disk) if file.endswith((".part", ".old")) or ".partial/" in file]
    if lost + wrong:
        outcome.wrong(f"{name}: {'; '.join(lost + wrong)}")


def _lay_out(name: str, disk: Path, whole: Path) -> None:
    """What the command needs, and nothing else."""
    for path in disk.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if name not in ("train", "search"):
        shutil.copytree(whole / NAME, disk / NAME)
    if name == "record midway":
        shutil.rmtree(disk / NAME / "records" / "test")
    if name == "first record":
        shutil.rmtree(disk / NAME / "records")
        (disk / NAME / "policies.json").unlink()
    if name == "predict":
        (disk / "images").mkdir()
        for number in range(100):
            pixels = np.full((8, 8, 3), number, np.uint8)
            Image.fromarray(pixels).save(disk / "images" / f"{'long-name-' * 10}{number}.png")


def _fill(disk: Path, left: int) -> None:
    """Write a file, or go on with it, until ``left`` bytes are free, in whole pages."""
    with (disk / "filling").open("ab", buffering=0) as stream:
        for size in (2**20, 2**15, 2**12):
            with suppress(OSError):
                while shutil.disk_usage(disk).free >= left + size:
                    stream.write(bytes(size))


def _fill_once_begun(disk: Path) -> bool:
    """Fill the disk if the first images are recorded; whether that was done."""
    try:
        begun = any((disk / NAME / "records" / ".test.partial" / BATCHES).read_bytes())
    except OSError:
        return False
    if begun:
        _fill(disk, 0)
    return begun


def _lost(name: str, disk: Path, whole: Path, before: set[str]) -> list[str]:
    """Finished files that are damaged or gone, and half-written ones."""
    wrong = damaged(disk / NAME, whole / NAME, EPOCHS, SPLITS if name in ("record", "export", "predict") else ())
    wrong += [f"{file} is gone" for file in sorted(before - files(disk))]
    if name == "predict" and (disk / "answers.csv").exists():
        wrong.append("answers.csv is half-written")
    if name == "export" and (disk / "export").exists():
        wrong.append("the export is half-written")
    return wrong


def _going_on(name: str, disk: Path, command: list[str]) -> list[str]:
    if name == "train" and (disk / NAME).exists() and finished_epochs(disk / NAME):
        return ["train", "--resume", NAME, "--device", "cpu"]
    if name == "first record":
        missing = [split for split in SPLITS if split not in Run(disk / NAME).splits()]
        return ["record", *(text for split in missing for text in ("--split", split)), *BATCH, NAME]
    return command
