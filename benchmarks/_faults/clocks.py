"""Clocks that jump: times of change of a run's and its images' files years away, and `time.time` that leaps to and fro.

Records stay those of the run's weights, and become outdated with other ones; work under a leaping clock leaves the
files of undisturbed work, but for dates; a finished folder that a killed writer moved aside comes back.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import dmpo_explore as dx
from dmpo_explore.jobs import Job, job_status
from dmpo_explore.runs.run import outdated_splits
from dmpo_explore.runs.run_data import kept_records
from dmpo_explore.runs.run_files import WEIGHTS
from dmpo_explore.utils.files import clear_leftovers, staged, write_text

from .contents import contents
from .judged import Lost, Wrong
from .small import BATCH, NAME, runs_in, small_run

YEARS = 20 * 365 * 86400
SPLITS = ("val", "test")


class Made(NamedTuple):
    """A run, what its folder holds, and other weights of its kind."""

    run: dx.Run
    files: dict[str, str]
    other: bytes


def make(folder: Path) -> Made:
    run = small_run(folder)
    with runs_in(folder / "runs"):
        config = run.config.updated({"training.seed": 1})
        other = dx.train(config, "other", device="cpu")
    return Made(run, contents(run.path), (other.path / WEIGHTS).read_bytes())


def trial(made: Made, place: Path, chance: random.Random) -> str:
    return chance.choice((times_of_files, times_of_files, leaping_clock, leftovers))(made, place, chance)


def times_of_files(made: Made, place: Path, chance: random.Random) -> str:
    """Any times of change, with the weights that were recorded, or with others."""
    run = dx.Run(shutil.copytree(made.run.path, place / "runs" / NAME))
    if replaced := chance.random() < 0.5:
        (run.path / WEIGHTS).write_bytes(made.other)
    data = Path(run.config.data.name)
    for file in [*run.path.rglob("*"), *data.rglob("*.png")]:
        moment = time.time() + chance.uniform(-YEARS, YEARS)
        os.utime(file, (moment, moment))
    outdated = list(SPLITS) if replaced else []
    with runs_in(place / "runs"):
        if sorted(outdated_splits(run)) != sorted(outdated):
            raise Wrong(f"outdated: {outdated_splits(run)}")
        job = Job(NAME, 2**30, ("-m", "dmpo_explore.cli"), 0.0, 0, "progress-1.json")
        if (found := job_status(job).recorded) != (() if replaced else SPLITS):
            raise Wrong(f"{'other' if replaced else 'the same'} weights, and the job's status has records of {found}")
        if replaced:
            dx.record_run(run, "test", device="cpu", batch_size=BATCH, force=True)
            if outdated_splits(run) != ["val"] or job_status(job).recorded != ("test",):
                raise Wrong(f"recorded again, and outdated are {outdated_splits(run)}")
            run.record("val")  # refused
        elif {*kept_records(run, [*SPLITS])} != {*SPLITS}:
            raise Wrong("records are not kept")
    return "times of files"


def leaping_clock(made: Made, place: Path, chance: random.Random) -> str:
    """A training and its records while the clock leaps at every look."""
    now, place = time.time, place / "runs"
    place.mkdir()
    with runs_in(place), patch.object(time, "time", lambda: now() + chance.uniform(-YEARS, YEARS)):
        run = dx.train(made.run.config, NAME, device="cpu")
        for split in SPLITS:
            dx.record_run(run, split, device="cpu", batch_size=BATCH)
    found = contents(run.path)
    if wrong := sorted(file for file in {*found, *made.files} if found.get(file) != made.files.get(file)):
        raise Wrong(f"a leaping clock: {', '.join(wrong)} differ")
    return "a leaping clock"


def leftovers(made: Made, place: Path, chance: random.Random) -> str:
    """What a killed writer left is cleared or put back, what a running one holds stays, whatever the clock says."""
    run = dx.Run(shutil.copytree(made.run.path, place / NAME))
    records, now = run.path / "records", time.time
    (records / "test").rename(records / ".test.0123abcd.old")
    if chance.random() < 0.5:
        (records / ".test.0123abcd.lock").touch()  # else of an earlier version
    leap = chance.choice((-1, 1)) * chance.uniform(3, YEARS)
    with staged(records / "val") as running, patch.object(time, "time", lambda: now() + leap):
        write_text(running, "")
        clear_leftovers(records)
        if not running.is_file():
            raise Lost(f"{leap:+.0f} s: a running writer's file")
        with runs_in(place):
            if run.record("test").n_images != made.run.record("test").n_images:
                raise Wrong("another record")
    return f"leftovers, {leap:+.0f} s"
