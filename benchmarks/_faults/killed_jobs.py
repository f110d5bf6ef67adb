"""Jobs of the app whose process is killed at a random moment, or whose app is before it has written which one that is.

After it the status says so, and going on as the app offers it ends with the files of an undisturbed job. The processes
are those of `commands`, which need no second for their imports; their number stands for their command line.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import dmpo_explore as dx
from dmpo_explore import jobs
from dmpo_explore.jobs import jobs as starting
from dmpo_explore.jobs import jobs as status
from dmpo_explore.jobs.jobs import MODULE, NOT_KNOWN, Job

from .commands import start
from .contents import contents
from .judged import Wrong
from .small import MODEL, NAME, runs_in

CONFIG = dx.Config(
    dx.DataConfig("digits", train_size=100), MODEL,
    dx.TrainingConfig(epochs=2, precision="no", batch_size=20, validation_size=60),
)  # fmt: skip
WRITE = starting._write


class Made(NamedTuple):
    """What an undisturbed job leaves, and its seconds."""

    files: dict[str, str]
    seconds: float


def make(folder: Path) -> Made:
    for place in (folder / "first", folder / "second"):  # the first one starts the server
        began = time.monotonic()
        with _processes(place) as started:
            jobs.start(CONFIG, NAME)
            started[0].join()
            if (found := jobs.job_status(jobs.load_job(NAME))).state != jobs.FINISHED:
                raise RuntimeError(found)
    return Made(contents(place / NAME), time.monotonic() - began)


def trial(made: Made, place: Path, chance: random.Random) -> str:
    root, done = place / "runs", []
    with _processes(root) as started:
        for _ in range(chance.randint(1, 2)):
            if app := chance.random() < 0.2:  # it is killed before it has written the job's process
                with patch.object(starting, "_write", _unless_started):
                    if not _go_on():
                        break
            elif not _go_on():
                break
            time.sleep(chance.uniform(0, made.seconds))
            done.append("the app as it started the job" if app else "the job")
            if not app or chance.random() < 0.5:
                started[-1].kill()
            started[-1].join()
        while _go_on():
            started[-1].join()
            if (now := jobs.job_status(jobs.load_job(NAME))).state != jobs.FINISHED:
                raise Wrong(f"killed: {', '.join(done)}; then {now.state}: {now.reason}")
    found = contents(root / NAME)
    if wrong := sorted(file for file in {*found, *made.files} if found.get(file) != made.files.get(file)):
        raise Wrong(f"killed: {', '.join(done)}; then {', '.join(wrong[:5])} differ")
    return f"killed: {', '.join(done)}"


def _go_on() -> bool:
    """Start the job or resume it, as the app offers it; whether there was anything to do."""
    try:
        job = jobs.load_job(NAME)
    except ValueError:
        jobs.start(CONFIG, NAME)
        return True
    now = jobs.job_status(job)
    if now.active:
        raise Wrong("a job whose process was killed counts as running")
    if now.resumable:
        jobs.resume(NAME)
    return now.resumable


def _unless_started(job: Job) -> None:
    if job.pid == NOT_KNOWN:
        WRITE(job)


@contextmanager
def _processes(root: Path) -> Iterator[list[BaseProcess]]:
    """Within it jobs under ``root`` are started as `commands` are; all that were, the last one last."""
    started: list[BaseProcess] = []

    def start_process(arguments: Sequence[str], stream: Any) -> BaseProcess:
        started.append(start(list(arguments[len(MODULE) :]), root, Path(stream.name)))
        return started[-1]

    def process_of(job: Job) -> Any:
        alive = started and started[-1].is_alive() and job.pid in (NOT_KNOWN, started[-1].pid)
        return SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=0)) if alive else None

    root.mkdir()
    with (
        runs_in(root),
        patch.object(starting, "start_process", start_process),
        patch.object(starting, "process_of", process_of),
        patch.object(status, "process_of", process_of),
    ):
        try:
            yield started
        finally:
            for process in started:
                process.kill()
                process.join()
