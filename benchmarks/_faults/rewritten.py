"""Reads of a record while another process replaces it in a loop.

In: seconds. Out: `run`, counts of reads, and of those that gave the old or the new record whole. Two records take
turns whose arrays all differ, so that a mixture of both would be seen.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from dmpo_explore.records.record import ExitRecord, RecordMeta

from .commands import CONTEXT
from .outcome import Outcome

IMAGES, EXITS, CLASSES = 2000, 4, 10
FLOPS = (1.0, 2.0)  # of the first exit: which of the two records it is


def record(version: int) -> ExitRecord:
    """One of two records; every array says which one it is."""
    shape, share = (IMAGES, EXITS), 0.3 + 0.4 * version
    meta = RecordMeta(
        "made up", "val", tuple(map(str, range(CLASSES))), tuple(range(1, EXITS + 1)),
        (FLOPS[version], 3.0, 4.0, 5.0), 5.0,
    )  # fmt: skip
    scores = np.full(shape, share, np.float32)
    return ExitRecord(np.full(IMAGES, version), np.full(shape, version, np.int32), scores, scores, scores / 2, meta)


def whole(found: ExitRecord) -> bool:
    """Whether all of a record is of one version."""
    version = FLOPS.index(found.meta.flops[0])
    other = record(version)
    arrays = ("labels", "prediction", "confidence", "entropy", "margin")
    return all(np.array_equal(getattr(found, name), getattr(other, name)) for name in arrays)


def run(seconds: float, most: int = 10**9) -> Outcome:
    """Read for ``seconds``, at most ``most`` times."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "val"
        record(0).save(place)
        counter = CONTEXT.Value("q", 0)
        writer = CONTEXT.Process(target=_rewrite, args=(place, counter), daemon=True)
        writer.start()
        try:
            while not counter.value:
                if not writer.is_alive():
                    raise RuntimeError("the writing process ended")
                time.sleep(0.01)
            first, end = counter.value, time.monotonic() + seconds
            while time.monotonic() < end and outcome.trials < most:
                _read(place, outcome)
        finally:
            writer.kill()
            writer.join()
        outcome.note = f"{counter.value - first:,} replacements meanwhile"
    return outcome


def _read(place: Path, outcome: Outcome) -> None:
    outcome.trials += 1
    try:
        if not whole(ExitRecord.load(place)):
            outcome.lost += 1
            outcome.wrong("a mixture of two records")
    except Exception as error:
        outcome.wrong(f"{type(error).__name__}: {error}")


def _rewrite(place: Path, counter: Any) -> None:
    number = 0
    while True:
        number += 1
        record(number % 2).save(place, force=True)
        counter.value = number
