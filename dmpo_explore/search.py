"""The best training settings for *your* trade-off: a space and a goal → a front of runs.

In: a `SearchSpace`. Out: run folders ``STUDY-TRIAL-eEPOCH``, one for every epoch on the front, and the front itself.
Every epoch of every trial is a candidate; a trial that cannot extend the front any more is stopped (`trajectory`, after
arXiv 2405.15303). Trials live in optuna's storage, which workers may share: a trial is trained by one of them in the
run folder ``STUDY-TRIAL``, and another goes on from its last epoch should that one fall silent. All numbers are of val
and, being the best of many, a little too good: test is not read here (``dmpo-explore record`` reads it).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import optuna

from .keeping import Keeper, tidy
from .run import load_run, runs_root
from .space import SearchSpace
from .studies import SearchFront, open_study, read_front, trial_name
from .trajectory import Trajectory, all_points, can_extend
from .trials import State, TrajectorySampler, free_stale_trials, give_back, identity, latest, suggest, trajectories

if TYPE_CHECKING:
    from .training import StepHook

FAILURES = 5  # in a row, and the space is not worth going on with


@dataclass(frozen=True)
class SearchStep:
    """What has just happened: ``what`` is ``epoch``, ``finished``, ``stopped`` or ``failed``.

    ``trials`` counts those finished or stopped so far. ``front``: (accuracy, FLOPs fraction) of its points, rising;
    ``hypervolume``: that of the front. ``note`` says why a trial failed.
    """

    what: str
    trial: int
    epoch: int
    epochs: int
    trials: int
    front: tuple[tuple[float, float], ...]
    hypervolume: float
    note: str = ""


def run_search(
    study: str,
    space: SearchSpace | None = None,
    *,
    resume: bool = False,
    trials: int | None = None,
    minutes: float | None = None,
    storage: str | None = None,
    device: str = "auto",
    seed: int | None = None,
    stopping: bool = True,
    patience: int = 300,
    progress: Callable[[SearchStep], None] | None = None,
    on_step: StepHook | None = None,
) -> SearchFront:
    """Search until there are ``trials`` or ``minutes`` have passed; returns the front.

    Ctrl-C, a kill or the end of ``minutes`` loses at most the running epoch: ``resume`` goes on with that trial.

    Args:
        study: its name, which its runs' names begin with. space: None: `default_space`, or the study's own to resume.
        resume: go on with this study, or join the workers that are at it.
        trials: finished or stopped ones in the whole study. minutes: of this worker; looked at after every epoch.
        storage: URL of a database that all workers see; default: SQLite in the runs root.
        seed: makes one worker's proposals repeatable. stopping: end trials that cannot extend the front.
        patience: seconds until a silent worker's trial is given away.
        progress: told after every epoch and trial. on_step: of `dmpo_explore.train`.

    Raises:
        ValueError: no limit, a name that is taken or unknown, another space than the study's.
        RuntimeError: `FAILURES` trials in a row that could not be trained.
        FileNotFoundError, FileExistsError: see `dmpo_explore.train`.
    """
    if trials is None and minutes is None:
        raise ValueError("a search needs an end: give trials, minutes or both")
    for name, limit in (("trials", trials), ("minutes", minutes), ("patience", patience)):
        if limit is not None and not limit > 0:
            raise ValueError(f"{name}={limit!r} must be above 0")
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it would write to stderr
    opened = open_study(study, space, storage, resume=resume, patience=patience)
    own = SearchSpace.from_dict(opened.user_attrs["space"])
    opened.sampler = TrajectorySampler(own, seed)
    end = None if minutes is None else time.monotonic() + 60 * minutes
    worker = _Worker(opened, own, device, end, stopping, progress or (lambda step: None), on_step)
    while worker.in_time() and worker.open_places(trials):
        worker.work()
    tidy(opened)
    return read_front(opened)


# -- one worker --


class _TimeIsUp(Exception):
    """Raised after an epoch; the trial goes back to the queue."""


class _Worker:
    """Takes trials, trains them, keeps their epochs."""

    def __init__(
        self,
        study: optuna.Study,
        space: SearchSpace,
        device: str,
        end: float | None,
        stopping: bool,
        progress: Callable[[SearchStep], None],
        on_step: StepHook | None,
    ) -> None:
        self.study, self.space, self.device = study, space, device
        self.end, self.stopping, self.progress, self.on_step = end, stopping, progress, on_step
        self.failures = 0

    def in_time(self) -> bool:
        return self.end is None or time.monotonic() < self.end

    def open_places(self, trials: int | None) -> bool:
        """Whether a trial is left to take."""
        free_stale_trials(self.study)
        states = [t.state for t in self.study.get_trials(deepcopy=False)]
        taken = sum(s in (State.COMPLETE, State.PRUNED, State.RUNNING) for s in states)
        return trials is None or taken < trials

    def work(self) -> None:
        """One trial; if it is interrupted, it goes back to the queue as it is."""
        current: list[optuna.Trial] = []

        def objective(trial: optuna.Trial) -> tuple[float, ...]:
            current.append(trial)
            return self.train(trial)

        try:
            self.study.optimize(objective, n_trials=1, catch=(ValueError, FloatingPointError))
        except (KeyboardInterrupt, _TimeIsUp) as stop:
            for trial in current:
                give_back(self.study, self.study.get_trials(deepcopy=False)[trial.number])
            if isinstance(stop, KeyboardInterrupt):
                raise
        tidy(self.study)

    def train(self, trial: optuna.Trial) -> tuple[float, ...]:
        """Train one trial, or go on with it; its values are those of the point that stands for it."""
        number = identity(self.study.get_trials(deepcopy=False)[trial.number])
        folder = runs_root() / trial_name(self.study, number)
        try:
            self._epochs(trial, number, folder)
        except (ValueError, FloatingPointError) as error:
            trial.set_user_attr("error", str(error))
            self._tell("failed", self._state(number), note=str(error))
            shutil.rmtree(folder, ignore_errors=True)
            self.failures += 1
            if self.failures >= FAILURES:
                raise RuntimeError(f"{FAILURES} trials in a row could not be trained; the last: {error}") from error
            raise
        self.failures = 0
        now = self._state(number)
        stopped = now.last < now.planned
        self._tell("stopped" if stopped else "finished", now)
        shutil.rmtree(folder, ignore_errors=True)
        if stopped:
            raise optuna.TrialPruned
        return self.space.goal.values(now.points())

    def _epochs(self, trial: optuna.Trial, number: int, folder: Path) -> None:
        """Train until the last epoch, or the one behind which the front is out of reach."""
        from .experiment import train

        config = self.space.config(suggest(trial, self.space))
        trial.set_user_attr("planned", config.training.epochs)
        again = number != trial.number
        started = again and (folder / "checkpoint.pt").is_file()
        if started and len(load_run(folder).history()) >= config.training.epochs:
            return  # it was killed behind its last epoch
        keep = Keeper(self.study, trial, number, config, self.space.goal)
        epochs = train(config, folder.name, resume=started, force=again and not started, device=self.device,
                       on_step=self.on_step, on_epoch=keep)  # fmt: skip
        for result in epochs:
            now = self._state(number)
            self._tell("epoch", now)
            if result.epoch == result.epochs:
                return
            others = [t for t in trajectories(self.study.get_trials(deepcopy=False)) if t.trial != number]
            if self.stopping and not can_extend(now, others, self.space.goal):
                return
            if not self.in_time():
                raise _TimeIsUp

    def _state(self, number: int) -> Trajectory:
        trial = latest(self.study.get_trials(deepcopy=False))[number]
        found = trajectories([trial])
        return found[0] if found else Trajectory(number, trial.params, int(trial.user_attrs.get("planned", 0)))

    def _tell(self, what: str, now: Trajectory, note: str = "") -> None:
        found = self.study.get_trials(deepcopy=False)
        points, goal = all_points(trajectories(found)), self.space.goal
        done = sum(t.state in (State.COMPLETE, State.PRUNED) for t in found) + (what in ("finished", "stopped"))
        best = sorted(points[goal.front(points), :2].tolist(), key=lambda point: point[1])
        front = tuple((accuracy, flops) for accuracy, flops in best)
        self.progress(SearchStep(what, now.trial, now.last, now.planned, done, front, goal.hypervolume(points), note))
