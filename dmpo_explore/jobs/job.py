"""A training in the background: its folder, configuration and log."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..config import Config
from ..runs.config_file import read_config
from ..runs.run_files import RUN_NAME
from ..runs.store import runs_root
from ..utils.files import read_json
from .process import NOT_KNOWN

MODULE = ["-m", "dmpo_explore.cli"]


@dataclass(frozen=True)
class Job:
    """A background training: its process and files.

    Args:
        name: of the run and of the job. pid, arguments: its process, without the interpreter.
        began: seconds since 1970. log_from: where its part of the log begins. progress: name of its progress file.
        stop_asked: whether `stop` was called.

    Example:
        >>> job = Job("first", 4321, ("-m", "dmpo_explore.cli", "train"), 0.0, 0, "progress-1.json")
        >>> job.folder.parts[-2:]
        ('.jobs', 'first')
    """

    name: str
    pid: int
    arguments: tuple[str, ...]
    began: float
    log_from: int
    progress: str
    stop_asked: bool = False

    @property
    def folder(self) -> Path:
        """The folder of its files."""
        return job_folder(self.name)

    @property
    def config(self) -> Config:
        """The config of its training; raises as `read_config`."""
        return read_config(self.folder / "config.json")

    def log(self, most: int = 20_000) -> str:
        """The end of its log, at most ``most`` bytes."""
        return log_tail(self.folder / "log.txt", most)


def load_job(name: str) -> Job:
    """Read the job of this name; ValueError if there is none, or its file is broken.

    Example:
        >>> import tempfile, unittest.mock
        >>> with tempfile.TemporaryDirectory() as runs, unittest.mock.patch.dict(os.environ, DMPO_EXPLORE_RUNS=runs):
        ...     try:
        ...         load_job("first")
        ...     except ValueError as error:
        ...         print(error)
        there is no job 'first' in ...
    """
    path = job_folder(name) / "job.json"
    if not RUN_NAME.fullmatch(name) or not path.is_file():
        raise ValueError(f"there is no job {name!r} in {runs_root()}")
    try:
        values = read_json(path)
        job = Job(**values | {"name": name, "arguments": tuple(values["arguments"])})
        kinds = [type(value) for value in (job.pid, job.began, job.log_from, job.progress)]
        if kinds != [int, float, int, str] or job.pid < NOT_KNOWN:
            raise TypeError
    except (TypeError, LookupError):
        raise ValueError(f"{path} does not describe a job; remove its folder") from None
    if list(job.arguments[:2]) != MODULE or f"--progress={path.parent / job.progress}" not in job.arguments:
        raise ValueError(f"{path} does not describe a job of this folder; remove it")
    return job


def list_jobs() -> list[Job]:
    """All jobs under the runs root that can be read, the newest first.

    Example:
        >>> import tempfile, unittest.mock
        >>> with tempfile.TemporaryDirectory() as runs, unittest.mock.patch.dict(os.environ, DMPO_EXPLORE_RUNS=runs):
        ...     list_jobs()
        []
    """
    found = []
    for path in (runs_root() / ".jobs").glob("*/job.json"):
        try:
            found.append(load_job(path.parent.name))
        except (OSError, ValueError):
            continue
    return sorted(found, key=lambda job: job.began, reverse=True)


def job_folder(name: str) -> Path:
    """``.jobs/NAME`` under the runs root."""
    return runs_root().resolve() / ".jobs" / name


def log_tail(path: Path, most: int) -> str:
    """The last ``most`` bytes of a log file as text; empty if there is none."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - most))
            return stream.read(most).decode("utf-8", errors="replace")
    except OSError:
        return ""
