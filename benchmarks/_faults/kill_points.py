"""A job killed before and after each of its renames, which are the moments at which a run folder changes.

In: seconds and a seed. Out: `run`, counts of moments; of those whose files were whole and that went on to the
undisturbed result; and of finished files that were damaged or gone. One job runs undisturbed, and the disk is copied at
each of these moments: what a kill there would leave, temporary files included.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from dmpo_explore.utils import files as replacing

from .commands import EPOCHS, TRAIN, clear, perform
from .kills import NAME, next_command
from .outcome import Outcome
from .states import damaged, different


@dataclass(frozen=True)
class Killed:
    """A copy of the runs root as a kill leaves it: ``moment`` is before or after a rename to ``name``."""

    moment: str
    name: str
    copy: Path

    @property
    def run(self) -> Path:
        """The run's folder in the copy."""
        return self.copy / NAME

    def restore(self, root: Path) -> Path:
        """Put the copy at ``root``; the run's folder there."""
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.copy, root)
        return root / NAME


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

    with (
        patch.object(os, "replace", watched(os.replace)),
        patch.object(replacing, "exchange", watched(replacing.exchange)),
    ):
        yield
    copy("after", "everything")


def run(seconds: float, seed: int = 0, least: int = 1) -> Outcome:
    """Go on from the moments of a training with its records, in random order, for ``seconds``, but ``least`` times."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        place, moments = Path(folder), list[Killed]()
        root = place / "runs"
        root.mkdir()
        with copied_at_renames(root, place, moments):
            _train_here(root)
        undisturbed, end = moments[-1].run, time.monotonic() + seconds
        order = random.Random(seed).sample(moments[:-1], len(moments) - 1)
        for moment in order:
            if outcome.trials >= least and time.monotonic() > end:
                break
            path = moment.restore(root)
            outcome.trials += 1
            wrong = damaged(path, undisturbed, EPOCHS)
            outcome.lost += len(wrong)
            while command := next_command(path):
                if (done := perform(command, root, place / "log")).status:
                    wrong.append(done.errors.strip()[-300:])
                    break
            clear(root)
            if wrong := wrong or different(path, undisturbed, EPOCHS):
                outcome.wrong(f"{moment.moment} {moment.name}: {'; '.join(wrong)}")
        outcome.note = f"of {len(order)} moments"
    return outcome


def _train_here(root: Path) -> None:
    from dmpo_explore.cli import app
    from dmpo_explore.utils.torch_tools import one_thread

    environment, silent = patch.dict(os.environ, DMPO_EXPLORE_RUNS=str(root)), io.StringIO()
    with one_thread(), environment, redirect_stdout(silent), redirect_stderr(silent):  # as in the other processes
        app(["train", "--name", NAME, "--force", "--record", *TRAIN], standalone_mode=False)
