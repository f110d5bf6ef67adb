"""Trainings in the background: processes that continue when their starter ends, their folder, log and status."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Protocol

import psutil
from filelock import FileLock, Timeout

from ..config import Config
from ..data.images import open_data
from ..pretrained.weights import find_weights
from ..runs.run import Run, outdated_splits
from ..runs.run_data import default_splits
from ..runs.run_files import RUN_NAME, WEIGHTS, finished_epochs, read_config
from ..runs.store import BUNDLED_RUNS, clear_runs, new_run_path, runs_root
from ..utils.files import read_json, write_json, write_text
from .estimate import Rates
from .progress_file import DONE, Progress, read_progress

KIND = ["nice", "-n", "10"] if shutil.which("nice") else []  # a lower priority than the app's
NOT_KNOWN = 0  # the number of a process whose starter was killed before it could write it


class Started(Protocol):
    """A process that was started: its number and its command line without the interpreter."""

    @property
    def pid(self) -> int: ...
    @property
    def arguments(self) -> tuple[str, ...]: ...


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock under which processes whose files are in ``folder`` are started and stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=20):
            yield
    except Timeout:
        raise OSError(f"another process holds {folder / '.lock'}; try again") from None


def start_process(arguments: Sequence[str], stream: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start Python with these arguments as a process that survives this one; ``stream`` gets its output."""
    process = subprocess.Popen([*KIND, sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=stream,
                               stderr=subprocess.STDOUT, env=child_environment(), **detached())  # fmt: skip
    threading.Thread(target=process.wait, daemon=True).start()  # so that it does not stay a zombie
    return process


def child_environment() -> dict[str, str]:
    """Environment of a job: this process's runs root, unbuffered output."""
    return os.environ | {"DMPO_EXPLORE_RUNS": str(runs_root().resolve()), "PYTHONUNBUFFERED": "1"}


def detached() -> dict[str, Any]:
    """`subprocess.Popen` arguments of a process that survives this one."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.BELOW_NORMAL_PRIORITY_CLASS}
    return {"start_new_session": True}


def stop_signals() -> tuple[int, ...]:
    """The signals that end a job, from the mildest to the last."""
    if sys.platform == "win32":
        return (signal.CTRL_BREAK_EVENT, signal.SIGTERM)
    return (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


def process_of(job: Started) -> psutil.Process | None:
    """A job's process, if it runs; None also for a process that may not be inspected."""
    if job.pid == NOT_KNOWN:
        return next((process for process in psutil.process_iter() if _command(process, job) == job.arguments), None)
    with suppress(psutil.Error):
        process = psutil.Process(job.pid)
        for _ in range(20):
            if command := _command(process, job):
                return process if command == job.arguments else None
            time.sleep(0.01)  # it has none for a moment while it becomes another program
    return None


def _command(process: psutil.Process, job: Started) -> tuple[str, ...]:
    with suppress(psutil.Error):
        return tuple(process.cmdline()[-len(job.arguments) :])
    return ()


def end_process(job: Started, grace: float) -> None:
    """Interrupt a job's process; after ``grace`` seconds terminate it, after as many more kill it."""
    for kind in stop_signals():
        end = time.monotonic() + grace
        if (process := process_of(job)) is not None:
            try:
                process.send_signal(kind)
            except psutil.NoSuchProcess:
                return
        while time.monotonic() < end:
            if process_of(job) is None:
                return
            time.sleep(0.05)


# A training in the background: its folder, configuration and log.

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


# Status of a background training: state, epochs, recorded splits, reason of a failure.

RUNNING = "running"
STOPPING = "stopping"
FINISHED = "finished"
STOPPED = "stopped"
FAILED = "failed"
DELETED = "deleted"
ACTIVE = (RUNNING, STOPPING)
PROCESS_GONE = "the process ended without an error message: it was killed, memory ran out, or the machine was restarted"


ERROR_LINE = re.compile(r"error: |[A-Za-z_.]*(Error|Exception)\b")  # how an error's line begins


@dataclass(frozen=True)
class Status:
    """Status of a background training.

    Args:
        state: running, stopping, finished, stopped, failed, or deleted (its run was removed).
        reason: why it failed. epoch, epochs: finished and planned. recorded: splits recorded with the present weights.
        progress: the last that was written. memory: bytes that the process holds, 0 if it does not run.

    Example:
        >>> status = Status(FAILED, "memory ran out", 1, 3, (), None, 0)
        >>> status.active, status.resumable
        (False, True)
    """

    state: str
    reason: str
    epoch: int
    epochs: int
    recorded: tuple[str, ...]
    progress: Progress | None
    memory: int

    @property
    def active(self) -> bool:
        """Whether its process runs."""
        return self.state in ACTIVE

    @property
    def resumable(self) -> bool:
        """Whether `resume` can continue it."""
        return self.state in (STOPPED, FAILED)


def job_status(job: Job) -> Status:
    """The status of a job, read from its files, its run's files and its process.

    Example:
        A job that was stopped before its first epoch, its process long gone:

        >>> job = Job("never-trained", 4321, ("-m", "dmpo_explore.cli", "train"), 0.0, 0, "progress-1.json", True)
        >>> job_status(job).state
        'stopped'
    """
    process = process_of(job)  # first: files are read once it is known whether the process has ended
    run = Run(runs_root() / job.name)
    epochs = 0
    with suppress(OSError, ValueError):
        epochs = job.config.training.epochs
    epoch, recorded = finished_epochs(run.path), _recorded(run)
    progress = read_progress(job.folder / job.progress)
    memory = 0
    if process is not None:
        with suppress(psutil.Error):
            memory = process.memory_info().rss
    state, reason = STOPPING if job.stop_asked else RUNNING, ""
    if process is None:
        ended = progress is None or progress.what == DONE  # else the card's results may be missing
        complete = 0 < epochs <= epoch and recorded == default_splits(run.path) and ended
        state, reason = _ended(job, complete=complete, progress=progress, run=run)
    return Status(state, reason, epoch, epochs, recorded, progress, memory)


def _recorded(run: Run) -> tuple[str, ...]:
    """Splits whose record is of the present weights; these are read again only where a file has changed."""
    splits, records = default_splits(run.path), run.path / "records"
    weights, *made = stamps = [_stamp(run.path / WEIGHTS), *(_stamp(records / name / "meta.json") for name in splits)]
    outdated = _outdated(run.path, tuple(stamps))
    return tuple(name for name, stamp in zip(splits, made, strict=True) if stamp and weights and name not in outdated)


@lru_cache(maxsize=64)
def _outdated(path: Path, stamps: tuple[object, ...]) -> tuple[str, ...]:
    del stamps
    return tuple(outdated_splits(Run(path)))


def _stamp(path: Path) -> tuple[int, ...]:
    """Values that change with a file; empty if there is no such file. No order of times is assumed: clocks jump."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _ended(job: Job, *, complete: bool, progress: Progress | None, run: Run) -> tuple[str, str]:
    """State and reason of a job whose process has ended."""
    if complete:
        return FINISHED, ""
    if progress is not None and progress.what == DONE and not (run.path / "config.json").is_file():
        return DELETED, ""
    if job.stop_asked:
        return STOPPED, ""
    path = job.folder / "log.txt"
    size = path.stat().st_size if path.is_file() else 0
    return FAILED, error_line(log_tail(path, min(20_000, max(0, size - job.log_from)))) or PROCESS_GONE


def error_line(text: str) -> str:
    """The last line of a log that names an error; empty if there is none."""
    lines = [line.strip() for line in text.splitlines() if ERROR_LINE.match(line.strip())]
    return lines[-1].removeprefix("error: ") if lines else ""


# Background trainings: each is a process of the command line that continues when its starter ends.
#
# In: a config and a name. Out: ``.jobs/NAME/`` under the runs root (config.json, job.json, log.txt, a progress file)
# and the run that `dmpo-explore train --record` makes. A job's status is read from these files and its process, so any
# process can read it, also after a restart.
#
# A process is identified by its number and its whole command line, which contains a random word: another process with
# the same number later is never taken for it. User input never becomes an option: the config is passed as a file, the
# name after ``--name=``.

MOST_AT_ONCE = 4  # jobs of one runs root


def start(config: Config, name: str, *, beside: bool = False) -> Job:
    """Train a new run in the background and record val and test.

    Args:
        beside: start although another job runs.

    Raises:
        ValueError: an invalid run name, or that of a bundled run.
        FileExistsError: there is such a run, or another job runs.
        OSError: it cannot be started.

    Example:
        >>> import unittest.mock
        >>> import dmpo_explore as dx
        >>> config = dx.Config(dx.DataConfig("digits"), dx.ModelConfig("test_vit", "random", 32))
        >>> with tempfile.TemporaryDirectory() as runs, unittest.mock.patch.dict(os.environ, DMPO_EXPLORE_RUNS=runs):
        ...     job = start(config, "first")
        ...     print(job.name, job_status(job).state)
        ...     stop("first")
        first running
    """
    check_name(name)
    with _locked():
        _refuse_second(name, beside)
        folder = job_folder(name)
        if folder.exists():  # of a job that left no run, or whose run was deleted
            shutil.rmtree(folder)
        write_text(folder / "config.json", config.to_json() + "\n")
        return _launch(name, _training(name))


def resume(name: str, *, beside: bool = False) -> Job:
    """Continue a job after its last finished epoch, or record what is missing; without an epoch, start again.

    Raises:
        ValueError: no such job, or it is finished. FileExistsError: it runs, or another one does.

    Example:
        >>> import unittest.mock
        >>> import dmpo_explore as dx
        >>> config = dx.Config(dx.DataConfig("digits"), dx.ModelConfig("test_vit", "random", 32))
        >>> with tempfile.TemporaryDirectory() as runs, unittest.mock.patch.dict(os.environ, DMPO_EXPLORE_RUNS=runs):
        ...     _ = start(config, "first")
        ...     stop("first")
        ...     print(job_status(resume("first")).state)
        ...     stop("first")
        running
    """
    with _locked():
        job = load_job(name)
        _refuse_second(name, beside)
        now = job_status(job)
        if not now.resumable:
            raise ValueError(f"{name!r} is {now.state}; there is nothing to resume")
        if not now.epoch:
            command = _training(name)
        elif now.epoch < now.epochs:
            command = ["train", f"--resume={name}", "--record"]
        else:
            missing = [f"--split={split}" for split in default_splits(runs_root() / name) if split not in now.recorded]
            command = ["record", *(["--force", *missing] if missing else []), "--", name]
        return _launch(name, command)


def stop(name: str, grace: float = 10.0) -> None:
    """Stop a job and wait until its process has ended; its finished epochs are kept.

    Sends an interrupt (Ctrl-C); after ``grace`` seconds a termination, after as many more a kill.

    Raises:
        ValueError: no such job.

    Example:
        >>> import unittest.mock
        >>> import dmpo_explore as dx
        >>> config = dx.Config(dx.DataConfig("digits"), dx.ModelConfig("test_vit", "random", 32))
        >>> with tempfile.TemporaryDirectory() as runs, unittest.mock.patch.dict(os.environ, DMPO_EXPLORE_RUNS=runs):
        ...     _ = start(config, "first")
        ...     stop("first")
        ...     print(job_status(load_job("first")).state)
        stopped
    """
    with _locked():
        job = load_job(name)
        if process_of(job) is None:
            return
        _write(replace(job, stop_asked=True))
    end_process(job, grace)


def forget(name: str) -> None:
    """Remove a job's files; its run stays.

    Raises:
        ValueError: no such job. FileExistsError: it runs.

    Example:
        >>> import unittest.mock
        >>> import dmpo_explore as dx
        >>> config = dx.Config(dx.DataConfig("digits"), dx.ModelConfig("test_vit", "random", 32))
        >>> with tempfile.TemporaryDirectory() as runs, unittest.mock.patch.dict(os.environ, DMPO_EXPLORE_RUNS=runs):
        ...     _ = start(config, "first")
        ...     stop("first")
        ...     forget("first")
        ...     list_jobs()
        []
    """
    with _locked():
        job = load_job(name)
        if process_of(job) is not None:
            raise FileExistsError(f"{name!r} is running; stop it first")
        shutil.rmtree(job.folder)


def check_name(name: str) -> None:
    """Check that a new run can have this name.

    Raises:
        ValueError: forbidden characters, a leading dash, or a bundled run's name. FileExistsError: it is taken.

    Example:
        >>> check_name("my-first-run")
        >>> check_name("demo")
        Traceback (most recent call last):
        ValueError: run 'demo' is bundled; choose another name
    """
    if name.startswith("-"):
        raise ValueError(f"run name {name!r} begins with a dash, like an option; choose another name")
    new_run_path(name)
    if (BUNDLED_RUNS / name).exists():
        raise ValueError(f"run {name!r} is bundled; choose another name")


def check_ready(config: Config) -> None:
    """Check that data and weights are present.

    Raises:
        FileNotFoundError, ValueError: as `ImageData.images` and `find_weights`; the message names the fix.

    Example:
        >>> import dmpo_explore as dx
        >>> check_ready(dx.Config(dx.DataConfig("digits"), dx.ModelConfig("test_vit", "random", 32)))
    """
    data = open_data(config.data)
    for split in ("train", "val", "test"):
        data.images(split)
    find_weights(config.model.backbone, config.model.weights)


def measure(config: Config, timeout: float = 600) -> Rates:
    """`estimate.measure_rates` in a process of its own, with a job's priority.

    Raises:
        ValueError: it failed, with the command's message. TimeoutError: it took too long.

    Example:
        The steps take some seconds, more than is allowed here:

        >>> import dmpo_explore as dx
        >>> config = dx.Config(dx.DataConfig("digits"), dx.ModelConfig("test_vit", "random", 32))
        >>> measure(config, timeout=0.1)
        Traceback (most recent call last):
        TimeoutError: a few steps took more than 0.1 s; nothing was measured
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        write_text(path, config.to_json())
        command = [*KIND, sys.executable, *MODULE, "train", f"--config={path}", "--estimate", "--json"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False,
                                  stdin=subprocess.DEVNULL, env=child_environment(), **detached())  # fmt: skip
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"a few steps took more than {timeout:g} s; nothing was measured") from None
    try:
        return Rates.from_dict(json.loads(done.stdout)["rates"])
    except (ValueError, LookupError, TypeError):
        raise ValueError(error_line(done.stderr) or PROCESS_GONE) from None


# -- processes --


def _launch(name: str, command: list[str]) -> Job:
    """Start a job's process; it is written before, so that a starter killed meanwhile leaves no unknown training."""
    folder = job_folder(name)
    for old in folder.glob("progress-*.json"):
        old.unlink(missing_ok=True)
    progress = f"progress-{secrets.token_hex(8)}.json"
    arguments = [*MODULE, command[0], f"--progress={folder / progress}", *command[1:]]
    with (folder / "log.txt").open("ab") as stream:
        begin = f"{time.strftime('%Y-%m-%d %H:%M:%S')}  dmpo-explore {' '.join(command)}\n"
        stream.write(begin.encode())
        stream.flush()
        job = Job(name, NOT_KNOWN, tuple(arguments), time.time(), stream.seek(0, os.SEEK_END), progress)
        _write(job)
        try:
            process = start_process(arguments, stream)
        except OSError as error:
            stream.write(f"error: {error}\n".encode())
            raise
    try:
        job = replace(job, pid=process.pid)
        _write(job)
    except BaseException:
        process.kill()
        raise
    return job


def _training(name: str) -> list[str]:
    return ["train", f"--config={job_folder(name) / 'config.json'}", f"--name={name}", "--record"]


@contextmanager
def _locked() -> Iterator[None]:
    """Hold the lock under which jobs of this runs root are started and stopped."""
    with locked(runs_root() / ".jobs"):
        clear_runs()
        yield


def _refuse_second(name: str, beside: bool) -> None:
    running = [job.name for job in list_jobs() if process_of(job) is not None]
    if name in running:
        raise FileExistsError(f"{name!r} is already running")
    if len(running) >= MOST_AT_ONCE:
        raise FileExistsError(
            f"{len(running)} trainings are already running ({', '.join(running)}); wait for one, or stop it"
        )
    if running and not beside:
        raise FileExistsError(
            f"{running[0]!r} is being trained; wait for it, stop it, or start beside it (beside=True)"
        )


# -- files --


def _write(job: Job) -> None:
    write_json(job.folder / "job.json", {name: value for name, value in vars(job).items() if name != "name"})
