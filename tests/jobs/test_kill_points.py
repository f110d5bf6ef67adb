"""A job that is killed before or after any of its renames: its status is true, and going on ends as if undisturbed.

The disk is copied at each of these moments while one job runs undisturbed: what a kill there would leave, temporary
files included.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from background import wait
from tiny import tiny_config
from typer.testing import CliRunner

import dmpo_explore.jobs.jobs as starting
from dmpo_explore import jobs
from dmpo_explore.cli import app
from dmpo_explore.jobs.jobs import PROCESS_GONE, Job
from dmpo_explore.jobs.progress_file import DONE
from dmpo_explore.runs import Run, runs_root
from dmpo_explore.runs.run_files import CHECKPOINT, WEIGHTS, checkpoint_epoch, finished_epochs

CONFIG = tiny_config(60, epochs=2, batch_size=10, validation_size=40)  # of which the second epoch is the better one


@dataclass(frozen=True)
class Killed:
    """A copy of the runs root as a kill leaves it: ``moment`` is before or after a rename to ``name``."""

    moment: str
    name: str
    copy: Path

    @property
    def run(self) -> Path:
        """The run's folder in the copy."""
        return self.copy / "mine"

    def restore(self, root: Path) -> Path:
        """Put the copy at ``root``; the run's folder there."""
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.copy, root)
        return root / "mine"


@contextmanager
def copied_at_renames(root: Path, copies: Path, moments: list[Killed]) -> Iterator[None]:
    """Within it, ``root`` is copied before and after every rename of this process, and once more at the end."""

    def copy(moment: str, name: str) -> None:
        moments.append(Killed(moment, name, copies / f"{len(moments)}"))
        shutil.copytree(root, moments[-1].copy)

    def watched(rename: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def wrapper(old: Any, new: Any) -> Any:
            if Path(new).name.startswith("progress-"):
                return rename(old, new)
            copy("before", Path(new).name)
            answer = rename(old, new)
            copy("after", Path(new).name)
            return answer

        return wrapper

    with patch.object(os, "replace", watched(os.replace)):
        yield
    copy("after", "everything")


class Gone:
    """A process that has ended already."""

    pid = 2**30

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def wait(self) -> int:
        return -9


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Killed]]:
    """All moments of a whole job (training, recording), in order; the last is its end."""
    place = tmp_path_factory.mktemp("job")
    root, moments = place / "runs", list[Killed]()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMPO_EXPLORE_RUNS", str(root))
        patch.setattr(starting, "subprocess", SimpleNamespace(Popen=Gone, DEVNULL=None, STDOUT=None))
        job = jobs.start(CONFIG, "mine")
        with copied_at_renames(root, place, moments):
            perform(job)
        yield moments


def perform(job: Job) -> None:
    """Run a job's command in this process."""
    done = CliRunner().invoke(app, list(job.arguments[2:]))
    assert done.exit_code == 0, done.output


def same_result(run: Path, undisturbed: Path) -> None:
    """Weights, history, policies and records are equal, and nothing else is there."""
    assert names(run) == names(undisturbed)
    for file in (WEIGHTS, "policies.json"):
        assert (run / file).read_bytes() == (undisturbed / file).read_bytes(), file
    a, b = (Run(path).history().drop(columns="seconds") for path in (run, undisturbed))
    pd.testing.assert_frame_equal(a, b)
    same_records(run, undisturbed, ("val", "test"))


def same_records(run: Path, undisturbed: Path, splits: tuple[str, ...]) -> None:
    for split in splits:
        ours, theirs = Run(run).record(split), Run(undisturbed).record(split)
        for name in ("labels", "prediction", "confidence", "entropy", "margin", "logits"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name)), (split, name)


def names(run: Path) -> list[str]:
    return sorted(str(path.relative_to(run)) for path in run.rglob("*"))


def visible(moment: Killed) -> dict[str, bytes]:
    """The files of the run but for temporary ones and the card, whose results follow a record."""
    files = [path for path in moment.run.rglob("*") if path.is_file() and path.name != "card.md"]
    short = {str(path.relative_to(moment.run)): path for path in files}
    return {name: path.read_bytes() for name, path in short.items() if not any(p[0] == "." for p in Path(name).parts)}


def at(killed: list[Killed], moment: str, name: str) -> Killed:
    """The last such moment."""
    return [k for k in killed if (k.moment, k.name) == (moment, name)][-1]


def go_on(moment: Killed) -> Path:
    """Resume the job of that moment to its end, as the app's button does; the run's folder."""
    run = moment.restore(runs_root())
    job = jobs.load_job("mine")
    assert jobs.job_status(job).state == jobs.FAILED and jobs.job_status(job).reason == PROCESS_GONE
    perform(jobs.resume("mine"))
    end = jobs.job_status(jobs.load_job("mine"))
    assert (end.state, end.epoch, end.recorded) == (jobs.FINISHED, 2, ("val", "test"))
    return run


@pytest.mark.slow
def test_all_renames_of_a_job_are_watched(killed: list[Killed]) -> None:
    seen = {k.name for k in killed}
    assert seen >= {CHECKPOINT, WEIGHTS, "history.csv", "card.md", "mine", "policies.json", "val", "test"}
    first, last = at(killed[:-1], "after", "mine"), killed[-1]
    assert (first.run / WEIGHTS).read_bytes() != (last.run / WEIGHTS).read_bytes()  # else all tests here see nothing


@pytest.mark.slow
def test_a_status_is_true_at_every_moment(killed: list[Killed]) -> None:
    """What counts as finished has the weights, history and records of the undisturbed job."""
    end = killed[-1]
    for moment in killed:
        run = moment.restore(runs_root())
        status, where = jobs.job_status(jobs.load_job("mine")), (moment.moment, moment.name)
        saved = checkpoint_epoch(run / CHECKPOINT) or 0
        assert status.epoch in (saved, saved - 1) and status.epoch == finished_epochs(run), where
        assert status.epoch < 2 or (run / WEIGHTS).read_bytes() == (end.run / WEIGHTS).read_bytes(), where
        assert list(status.recorded) == sorted(Run(run).splits(), reverse=True), where
        same_records(run, end.run, status.recorded)
        ended = status.progress is not None and status.progress.what == DONE
        finished = status.epoch == 2 and status.recorded == ("val", "test") and ended
        assert status.state == (jobs.FINISHED if finished else jobs.FAILED), where
        assert status.resumable != finished, where


@pytest.mark.slow
@pytest.mark.parametrize("name", [CHECKPOINT, "policies.json"])
def test_a_job_killed_behind_its_last_epoch_or_within_recording_goes_on(name: str, killed: list[Killed]) -> None:
    same_result(go_on(at(killed, "after", name)), killed[-1].run)


@pytest.mark.slow
def test_a_job_killed_at_any_moment_goes_on(killed: list[Killed]) -> None:
    seen = []
    for moment in killed[:-1]:
        if (state := visible(moment)) not in seen and state != visible(killed[-1]):
            seen.append(state)
            same_result(go_on(moment), killed[-1].run)
    assert len(seen) >= 7


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
@pytest.mark.parametrize("file", [CHECKPOINT, "records/val/meta.json"])
def test_a_real_process_killed_in_the_middle_goes_on(
    file: str, killed: list[Killed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(starting, "subprocess", subprocess)
    job = jobs.start(CONFIG, "mine")
    run = tmp_path / "runs" / "mine"
    wait((run / file).exists)
    os.kill(job.pid, signal.SIGKILL)
    wait(lambda: not jobs.job_status(job).active)
    assert jobs.job_status(job).resumable
    again = jobs.resume("mine")
    wait(lambda: not jobs.job_status(again).active)
    assert jobs.job_status(again).state == jobs.FINISHED, again.log()
    same_result(run, killed[-1].run)
