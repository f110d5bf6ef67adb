"""Trainings in the background: each is a process of the command line that outlives whoever started it.

In: a config and a name. Out: ``.jobs/NAME/`` under the runs root (config.json, job.json, log.txt, a progress file) and
the run that `dmpo-explore train --record` makes. What a job is doing is read from these files and its process, so that
any process may ask, also after a restart.

A process is known by its number and its whole command line, which holds a random word: another process with a
recycled number is never taken for it or sent a signal. (The time at which it began moves with the clock; it is kept
for people.) Nothing that was typed is an option: the config travels as a file, the name behind ``--name=``.
"""

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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from ..config import Config
from ..data.images import load_pictures
from ..pretrained.weights import find_weights
from ..runs.run import BUNDLED_RUNS, RUN_NAME, WEIGHTS, Run, new_run_path, read_config, runs_root
from ..utils.files import read_json, write_json, write_text
from .estimate import Rates
from .progress import DONE, Progress, read_progress

SPLITS = ("val", "test")
RUNNING, STOPPING, FINISHED, STOPPED, FAILED, DELETED = (
    "running",
    "stopping",
    "finished",
    "stopped",
    "failed",
    "deleted",
)
ACTIVE = (RUNNING, STOPPING)
MODULE = ["-m", "dmpo_explore.cli"]
VANISHED = "its process is gone without a word: it was killed, memory ran out, or the machine was restarted"
TOLD = re.compile(r"error: |[A-Za-z_.]*(Error|Exception)\b")  # how a line begins that says why a command ended
KIND = ["nice", "-n", "10"] if shutil.which("nice") else []  # whoever looks on comes first


@dataclass(frozen=True)
class Job:
    """A training that was started here.

    Args:
        name: of the run and of the job. pid, arguments: its process, without the interpreter.
        began: seconds since 1970. log_from: where its part of the log begins. progress: name of its progress file.
        stop_asked: whether somebody stopped it.
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
        """Where its files lie."""
        return _folder(self.name)

    @property
    def config(self) -> Config:
        """What it was asked to train; raises as `read_config`."""
        return read_config(self.folder / "config.json")

    def log(self, most: int = 20_000) -> str:
        """The end of its log, at most ``most`` bytes."""
        return _tail(self.folder / "log.txt", most)


@dataclass(frozen=True)
class Status:
    """How a job stands.

    Args:
        state: running, stopping, finished, stopped, failed, or deleted (its run is gone).
        reason: why it failed. epoch, epochs: finished and planned. recorded: splits, with the weights of now.
        progress: its last word. memory: bytes that it holds now, 0 if it does not run.
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
        """Whether `resume` has something to do."""
        return self.state in (STOPPED, FAILED)


def start(config: Config, name: str, *, beside: bool = False) -> Job:
    """Train a new run in the background and record val and test.

    Args:
        beside: although another job runs.

    Raises:
        ValueError: a name that no run may have, or that of a bundled run.
        FileExistsError: there is such a run, or another job runs.
        OSError: it cannot be started.
    """
    check_name(name)
    with _alone():
        _refuse_second(name, beside)
        folder = _folder(name)
        if folder.exists():  # of a job that left no run, or whose run was deleted
            shutil.rmtree(folder)
        write_text(folder / "config.json", config.to_json() + "\n")
        return _launch(name, _training(name))


def resume(name: str, *, beside: bool = False) -> Job:
    """Go on behind the last finished epoch, or record the splits that have to be; without any epoch, begin anew.

    Raises:
        ValueError: no such job, or it is finished. FileExistsError: it runs, or another one does.
    """
    with _alone():
        job = load_job(name)
        _refuse_second(name, beside)
        now = status(job)
        if not now.resumable:
            raise ValueError(f"{name!r} is {now.state}; there is nothing to go on with")
        if not now.epoch:
            command = _training(name)
        elif now.epoch < now.epochs:
            command = ["train", f"--resume={name}", "--record"]
        else:
            missing = [f"--split={split}" for split in SPLITS if split not in now.recorded]
            command = ["record", "--force", *missing, "--", name]
        return _launch(name, command)


def stop(name: str, grace: float = 10.0) -> None:
    """End a job; its finished epochs stay. Returns when its process is gone.

    It is asked as by Ctrl-C, and after ``grace`` seconds each ended and then killed.

    Raises:
        ValueError: no such job.
    """
    with _alone():
        job = load_job(name)
        if _process(job) is None:
            return
        _write(replace(job, stop_asked=True))
    for kind in _signals():
        end = time.monotonic() + grace
        if (process := _process(job)) is not None:
            try:
                process.send_signal(kind)
            except psutil.NoSuchProcess:
                return
        while time.monotonic() < end:
            if _process(job) is None:
                return
            time.sleep(0.05)


def forget(name: str) -> None:
    """Remove a job's files; its run stays.

    Raises:
        ValueError: no such job. FileExistsError: it runs.
    """
    with _alone():
        job = load_job(name)
        if _process(job) is not None:
            raise FileExistsError(f"{name!r} runs; stop it first")
        shutil.rmtree(job.folder)


def load_job(name: str) -> Job:
    """The job of this name; ValueError if there is none, or its file is broken."""
    path = _folder(name) / "job.json"
    if not RUN_NAME.fullmatch(name) or not path.is_file():
        raise ValueError(f"there is no job {name!r} in {runs_root()}")
    try:
        values = read_json(path)
        job = Job(**values | {"name": name, "arguments": tuple(values["arguments"])})
        kinds = [type(value) for value in (job.pid, job.began, job.log_from, job.progress)]
        if kinds != [int, float, int, str] or job.pid < 1:
            raise TypeError
    except (TypeError, LookupError):
        raise ValueError(f"{path} does not describe a job; remove its folder") from None
    if list(job.arguments[:2]) != MODULE or f"--progress={path.parent / job.progress}" not in job.arguments:
        raise ValueError(f"{path} does not describe a job of this folder; remove it")
    return job


def list_jobs() -> list[Job]:
    """All jobs under the runs root that can be read, the newest first."""
    found = []
    for path in (runs_root() / ".jobs").glob("*/job.json"):
        try:
            found.append(load_job(path.parent.name))
        except (OSError, ValueError):
            continue
    return sorted(found, key=lambda job: job.began, reverse=True)


def status(job: Job) -> Status:
    """How it stands, from its files, its run's files and its process."""
    process = _process(job)  # first: what it leaves behind is read after it is known to be gone
    run = Run(runs_root() / job.name)
    epochs = _planned(job)
    epoch, recorded = _finished(run), _recorded(run)
    progress = read_progress(job.folder / job.progress)
    memory = 0
    if process is not None:
        with suppress(psutil.Error):
            memory = process.memory_info().rss
    state, reason = STOPPING if job.stop_asked else RUNNING, ""
    if process is None:
        state, reason = _ended(job, complete=0 < epochs <= epoch and recorded == SPLITS, progress=progress, run=run)
    return Status(state, reason, epoch, epochs, recorded, progress, memory)


def check_name(name: str) -> None:
    """Whether a new run may have this name.

    Raises:
        ValueError: letters that no name has, a leading dash, or a bundled run's name. FileExistsError: it is taken.
    """
    if name.startswith("-"):
        raise ValueError(f"run name {name!r} begins with a dash, like an option; choose another name")
    new_run_path(name)
    if (BUNDLED_RUNS / name).exists():
        raise ValueError(f"run {name!r} is bundled; choose another name")


def check_ready(config: Config) -> None:
    """Whether pictures and weights are here.

    Raises:
        FileNotFoundError, ValueError: as `load_pictures` and `find_weights`; the message names the fix.
    """
    data = config.data
    for split in ("train", *SPLITS):
        load_pictures(data.name, split, root=data.root, train_size=data.train_size, seed=data.seed)
    find_weights(config.model.backbone, config.model.weights)


def measure(config: Config, timeout: float = 600) -> Rates:
    """`estimate.measure_rates` in a process of its own, as slow or quick as a job's.

    Raises:
        ValueError: it failed; the message is the command's. TimeoutError: it took too long.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        write_text(path, config.to_json())
        command = [*KIND, sys.executable, *MODULE, "train", f"--config={path}", "--estimate", "--json"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False,
                                  stdin=subprocess.DEVNULL, env=_environment(), **_apart())  # fmt: skip
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"a few steps took more than {timeout:g} s; nothing was measured") from None
    try:
        return Rates.from_dict(json.loads(done.stdout)["rates"])
    except (ValueError, LookupError, TypeError):
        raise ValueError(_said(done.stderr) or VANISHED) from None


# -- processes --


def _launch(name: str, command: list[str]) -> Job:
    folder = _folder(name)
    for old in folder.glob("progress-*.json"):
        old.unlink(missing_ok=True)
    progress = f"progress-{secrets.token_hex(8)}.json"
    arguments = [*MODULE, command[0], f"--progress={folder / progress}", *command[1:]]
    with (folder / "log.txt").open("ab") as stream:
        begin = f"{time.strftime('%Y-%m-%d %H:%M:%S')}  dmpo-explore {' '.join(command)}\n"
        stream.write(begin.encode())
        stream.flush()
        log_from = stream.seek(0, os.SEEK_END)
        process = subprocess.Popen([*KIND, sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=stream,
                                   stderr=subprocess.STDOUT, env=_environment(), **_apart())  # fmt: skip
    threading.Thread(target=process.wait, daemon=True).start()  # so that it does not stay a zombie
    try:
        job = Job(name, process.pid, tuple(arguments), time.time(), log_from, progress)
        _write(job)
    except BaseException:
        process.kill()
        raise
    return job


def _training(name: str) -> list[str]:
    return ["train", f"--config={_folder(name) / 'config.json'}", f"--name={name}", "--record"]


def _environment() -> dict[str, str]:
    return os.environ | {"DMPO_EXPLORE_RUNS": str(runs_root().resolve()), "PYTHONUNBUFFERED": "1"}


def _apart() -> dict[str, Any]:
    """Arguments of a process that does not end with ours and lets others go first."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.BELOW_NORMAL_PRIORITY_CLASS}
    return {"start_new_session": True}


def _signals() -> tuple[int, ...]:
    if sys.platform == "win32":
        return (signal.CTRL_BREAK_EVENT, signal.SIGTERM)
    return (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


def _process(job: Job) -> psutil.Process | None:
    """The job's process, if it is alive and really its own; one that we may not look into is somebody else's."""
    with suppress(psutil.Error):
        process = psutil.Process(job.pid)
        for _ in range(20):
            line = process.cmdline()
            if line:
                break
            time.sleep(0.01)  # it has none for a moment while it becomes another program
        if tuple(line[-len(job.arguments) :]) == job.arguments:
            return process
    return None


@contextmanager
def _alone() -> Iterator[None]:
    """Nobody else starts or stops a job under this runs root meanwhile."""
    folder = runs_root() / ".jobs"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=20):
            yield
    except Timeout:
        raise OSError(f"another process holds {folder / '.lock'}; try again") from None


def _refuse_second(name: str, beside: bool) -> None:
    running = [job.name for job in list_jobs() if _process(job) is not None]
    if name in running:
        raise FileExistsError(f"{name!r} runs already")
    if running and not beside:
        raise FileExistsError(
            f"{running[0]!r} is being trained; wait for it, stop it, or start beside it (beside=True)"
        )


# -- files --


def _folder(name: str) -> Path:
    return runs_root().resolve() / ".jobs" / name


def _write(job: Job) -> None:
    values = {name: value for name, value in vars(job).items() if name != "name"}
    write_json(job.folder / "job.json", values)


def _planned(job: Job) -> int:
    try:
        return job.config.training.epochs
    except (OSError, ValueError):
        return 0


def _finished(run: Run) -> int:
    try:
        return len(run.history())
    except (OSError, ValueError):
        return 0


def _recorded(run: Run) -> tuple[str, ...]:
    """Splits whose record was made after the weights were written for the last time."""
    weights = _written(run.path / WEIGHTS)
    return tuple(split for split in SPLITS if 0 < weights <= _written(run.path / "records" / split / "meta.json"))


def _written(path: Path) -> int:
    """When, in nanoseconds since 1970; 0 if there is no such file."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _ended(job: Job, *, complete: bool, progress: Progress | None, run: Run) -> tuple[str, str]:
    """State and reason of a job whose process is gone."""
    if complete:
        return FINISHED, ""
    if progress is not None and progress.what == DONE and not (run.path / "config.json").is_file():
        return DELETED, ""
    if job.stop_asked:
        return STOPPED, ""
    path = job.folder / "log.txt"
    size = path.stat().st_size if path.is_file() else 0
    return FAILED, _said(_tail(path, min(20_000, max(0, size - job.log_from)))) or VANISHED


def _said(text: str) -> str:
    """The last line that says why a command ended; empty if none does."""
    lines = [line.strip() for line in text.splitlines() if TOLD.match(line.strip())]
    return lines[-1].removeprefix("error: ") if lines else ""


def _tail(path: Path, most: int) -> str:
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - most))
            return stream.read(most).decode("utf-8", errors="replace")
    except OSError:
        return ""
