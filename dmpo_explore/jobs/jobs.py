"""Background trainings: each is a process of the command line that continues when its starter ends.

In: a config and a name. Out: ``.jobs/NAME/`` under the runs root (config.json, job.json, log.txt, a progress file) and
the run that `dmpo-explore train --record` makes. A job's status is read from these files and its process, so
any process can read it, also after a restart.

A process is identified by its number and its whole command line, which contains a random word: another process with the
same number later is never taken for it. User input never becomes an option: the config is passed as a file, the name
after ``--name=``.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..config import Config
from ..data.images import open_data
from ..pretrained.weights import find_weights
from ..runs.run_data import default_splits
from ..runs.store import BUNDLED_RUNS, clear_runs, new_run_path, runs_root
from ..utils.files import write_json, write_text
from .estimate import Rates
from .job import MODULE, Job, job_folder, list_jobs, load_job
from .process import KIND, NOT_KNOWN, child_environment, detached, end_process, locked, process_of, start_process
from .status import PROCESS_GONE, error_line, job_status

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
    values = {name: value for name, value in vars(job).items() if name != "name"}
    write_json(job.folder / "job.json", values)
