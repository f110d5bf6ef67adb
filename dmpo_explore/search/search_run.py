"""A search over training settings: a space and a goal → a front of runs, accuracy against compute.

Epochs of a trial: their points are stored in the study, and weights that extend the front in a run of their own.
Optuna's artifacts are files of a trial without a name; these are runs, which every command and the app open.
In: model and result after an epoch (``on_epoch`` of `dmpo_explore.train_epochs`). Out: a user attribute of the trial,
and run folders ``STUDY-TRIAL-eEPOCH`` with config, history, weights, card and val record, of the epochs on the front.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..config import Config
from ..data.images import open_data
from ..data.manifest import PACKED, PLAIN, Manifest, write_manifest
from ..runs.run_files import CHECKPOINT, finished_epochs
from ..runs.store import clear_runs, load_run, new_run_path, runs_root
from ..training.part_options import has_own_teacher, teacher_name
from ..utils.files import atomic_file, atomic_folder, remove_at_once, write_json, write_text
from ..utils.lazy import extra_imports
from ..utils.options import read_options
from .goal import Goal, LearningCurve, all_points, operating_points
from .samplers import SamplerConfig
from .space import SearchSpace
from .study import (
    EPOCH,
    MARK,
    POINT,
    STATES,
    SearchFront,
    State,
    epochs_of,
    free_stale_trials,
    give_back,
    identity,
    is_given_up,
    is_own,
    kept_name,
    latest,
    losses,
    mark_of,
    open_study,
    points_of,
    read_curves,
    read_front,
    settings_text,
    suggest,
    trial_name,
    working,
)

if TYPE_CHECKING:
    from ..models.dmpo import DMPO
    from ..records.record import ExitRecord
    from ..training.loop import EpochResult, StepHook

with extra_imports("search", "search"):
    import optuna


FILES = {"config.json", "history.csv", "weights.safetensors", "records", "card.md", PLAIN, PACKED, MARK}  # all of them


class Keeper:
    """Callback after every epoch: store its points; if it extends the front, keep it as a run.

    Args:
        trial: the running attempt. number: of the trial. config: of the trial. goal: of the study. device: that trains.
    """

    def __init__(
        self, study: optuna.Study, trial: optuna.Trial, number: int, config: Config, goal: Goal, device: str = "auto"
    ) -> None:
        self.study, self.trial, self.number, self.config, self.goal = study, trial, number, config, goal
        self.device = device
        self.run = trial_name(study, number)
        self.manifest: Manifest | None = None

    def on_data(self, manifest: Manifest) -> None:
        """Take the manifest of the trial's images, for the runs that are kept."""
        self.manifest = manifest

    def __call__(self, model: DMPO, result: EpochResult) -> None:
        """Store the points, then keep the run: an epoch stored without its run will be trained again."""
        history = [] if result.epoch == 1 else load_run(runs_root() / self.run).history().to_dict("records")
        rows = pd.DataFrame([*history, result.row()])
        assert result.record is not None  # a search trains in one process
        points = operating_points(result.record, self.goal)
        entry: dict[str, Any] = {column: points[column].tolist() for column in POINT}
        entry |= {"seconds": float(rows["seconds"].sum()), "ended": self._now()}
        together = np.concatenate([self._before(result.epoch), points_of(entry)])
        entry["hypervolume"] = self.goal.hypervolume(together)
        path = runs_root() / kept_name(self.study, self.number, result.epoch)
        extends = len(points) and self.goal.front(together)[-len(points) :].any()
        if extends and path.exists() and not is_own(path, self.study):
            raise FileExistsError(f"{path} is not of this search; rename it, or search under another name")
        self.trial.set_user_attr(f"{EPOCH}{result.epoch}", entry)
        if extends:
            self._keep(model, result.epoch, result.record, rows, entry)

    def _now(self) -> float:
        """Now, and after every epoch that is stored: of equal points the first is kept, whatever clocks say."""
        trials = latest(self.study.get_trials(deepcopy=False)).values()
        last = max((entry["ended"] for trial in trials for entry in epochs_of(trial).values()), default=0.0)
        return max(time.time(), float(np.nextafter(last, np.inf)))

    def _trained_with(self, epoch: int) -> Config:
        """The config with all that the training has decided; its run is not there before the first epoch is kept."""
        from ..training.train import prepared

        if epoch == 1:
            return prepared(self.config, self.run, self.device, resume=False)
        return load_run(runs_root() / self.run).config

    def _before(self, epoch: int) -> npt.NDArray[np.float64]:
        """(P, 3): all points of other trials, and of this one those before ``epoch``."""
        found = [(t, t.trial == self.number) for t in read_curves(self.study.get_trials(deepcopy=False))]
        return np.concatenate([np.empty((0, 3)), *(t.points(1, epoch - 1 if own else None) for t, own in found)])

    def _keep(
        self, model: DMPO, epoch: int, record: ExitRecord, history: pd.DataFrame, entry: Mapping[str, Any]
    ) -> None:
        from ..runs.torch_model import save_weights

        config, path = self._trained_with(epoch), runs_root() / kept_name(self.study, self.number, epoch)
        with atomic_folder(path) as folder:
            write_text(folder / "config.json", config.to_json() + "\n")
            if self.manifest is not None:
                write_manifest(folder, self.manifest)
            with atomic_file(folder / "history.csv") as temporary:
                history.to_csv(temporary, index=False)
            save_weights(folder, model.trainable_state(), config.model, record.meta.class_names, model.frozen_sha256)
            record.save(folder / "records" / "val")
            about = mark_of(self.study, self.number) | {"epoch": epoch}
            write_json(folder / MARK, about)
            write_text(folder / "card.md", _card(about, self.trial.params, entry, record.n_images))


def trial_mark(study: optuna.Study, number: int) -> dict[str, str]:
    """File → text, by which the run of a trial and its teacher are known as this study's."""
    return {MARK: json.dumps(mark_of(study, number)) + "\n"}


def remove_trial(folder: Path, study: optuna.Study) -> None:
    """Remove the run of a trial, and the teacher that was trained for it, where they are this study's."""
    for place in (folder.with_name(teacher_name(folder.name)), folder):
        if is_own(place, study):
            remove_at_once(place)


def tidy(study: optuna.Study) -> None:
    """Remove runs of this study whose epoch is no longer on the front, unless they hold files that others added, and
    the folders of trials that no worker of theirs has removed: killed as the trial had just ended, or once too often.
    """
    name = study.study_name
    for number, trial in latest(study.get_trials(deepcopy=False)).items():
        folder = runs_root() / trial_name(study, number)
        with suppress(OSError):
            ours = {path.name for path in folder.iterdir()} <= FILES | {CHECKPOINT}
            over = trial.state in (State.COMPLETE, State.PRUNED) or (trial.state is State.FAIL and is_given_up(trial))
            ended = trial.datetime_complete if over else None
            if ours and ended and folder.stat().st_mtime <= ended.timestamp():  # else it is a later run of that name
                remove_trial(folder, study)
    kept = [path.parent for path in runs_root().glob(f"{name}-*-e*/{MARK}")]  # listed before the front is read
    front = set(read_front(study).table["run"])
    for folder in kept:
        with suppress(OSError, ValueError):  # another worker has removed it meanwhile
            ours = is_own(folder, study) and {path.name for path in folder.iterdir()} <= FILES
            if ours and folder.name not in front and [path.name for path in (folder / "records").iterdir()] == ["val"]:
                remove_at_once(folder)


def _card(about: Mapping[str, Any], params: Mapping[str, Any], entry: Mapping[str, Any], images: int) -> str:
    rows = zip(entry["flops_fraction"], entry["accuracy"], entry["threshold"], strict=True)
    return "\n".join(
        [
            f"# {about['study']}, trial {about['trial']}, epoch {about['epoch']}",
            "",
            f"Settings that the search tried: {settings_text(params)}.",
            f"Kept because it was on the front. On {images:,} validation images, with one confidence threshold:",
            "",
            "| compute, share of the plain backbone | validation accuracy | threshold |",
            "|---|---|---|",
            *(f"| {flops:.4f} | {accuracy:.4f} | {threshold:.4g} |" for flops, accuracy, threshold in rows),
            "",
        ]
    )


# A search over training settings: a space and a goal → a front of runs, accuracy against compute.
#
# In: a `SearchSpace`. Out: run folders ``STUDY-TRIAL-eEPOCH``, one for every epoch on the front, and the front itself.
# Every epoch of every trial is a candidate. Settings are proposed by a sampler of optuna's or another of the joint
# (`samplers`). Trials are stored by optuna, and workers may share them: a worker trains a trial in the run folder
# ``STUDY-TRIAL``, and another one continues from its last epoch if the heartbeat ends. All numbers are of at most
# ``validation_size`` images of val and, as the best of many, a little too high. Test is not read here:
# ``dmpo-explore record RUN --force`` reads it, and records all of val again, in float32.

with extra_imports("search", "search"):
    import optuna
    from optuna.trial import FrozenTrial


Rule: TypeAlias = Callable[[LearningCurve, Sequence[LearningCurve], Goal], bool]
FAILURES = 5  # in a row, and the space is not worth going on with


@dataclass(frozen=True)
class SearchStep:
    """One event of a search: ``what`` is ``epoch``, ``finished``, ``stopped`` or ``failed``.

    ``trials`` counts those finished or stopped so far. ``front``: (accuracy, FLOPs fraction) of its points, rising;
    ``hypervolume``: that of the front. ``note`` is the reason of a failure.

    Example:
        >>> step = SearchStep("epoch", trial=0, epoch=1, epochs=3, trials=0, front=((0.8, 0.5),), hypervolume=0.4)
        >>> f"trial {step.trial}, epoch {step.epoch} of {step.epochs}: hypervolume {step.hypervolume}"
        'trial 0, epoch 1 of 3: hypervolume 0.4'
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
    sampler: str | SamplerConfig | None = None,
    seed: int | None = None,
    stopping: bool = False,
    patience: int = 300,
    progress: Callable[[SearchStep], None] | None = None,
    on_step: StepHook | None = None,
) -> SearchFront:
    """Search until there are ``trials`` or ``minutes`` have passed; returns the front.

    Ctrl-C, a kill or the end of ``minutes`` loses at most the current epoch: ``resume`` continues that trial.

    Args:
        study: its name, which its runs' names begin with. space: None: `default_space`, or the study's own to resume.
        resume: continue this study, or add a worker to it. trials: finished or stopped ones in the whole study.
        minutes: of this worker; checked after every epoch.
        storage: URL of a database that all workers share; default: SQLite in the runs root.
        sampler: which proposes settings, of `SAMPLERS`; None: the preferred one, or the study's to resume.
        seed: of one worker's proposals. patience: seconds without a heartbeat until a trial goes back to the queue.
        stopping: stop trials that cannot extend the front, by the sampler's rule; it gave no gain in our measurement.
        progress: called after every epoch and trial. on_step: of `dmpo_explore.train`.

    Raises:
        ValueError: no limit, a name that is taken or unknown, another space than the study's.
        RuntimeError: `FAILURES` trials in a row that could not be trained. OSError: see `dmpo_explore.train`.

    Example:
        >>> import os, tempfile, unittest.mock
        >>> import dmpo_explore as dx
        >>> fixed = {"data.name": "digits", "train_size": 40, "epochs": 1, "batch_size": 20, "validation_size": 20}
        >>> fixed |= {"backbone": "test_vit", "weights": "random", "image_size": 32, "exits": [2, 6], "channels": 8}
        >>> space = dx.SearchSpace.from_dict({"fixed": fixed, "space": {"bypass": ["none", "conv"]}})
        >>> with tempfile.TemporaryDirectory() as runs, unittest.mock.patch.dict(os.environ, DMPO_EXPLORE_RUNS=runs):
        ...     front = dx.run_search("tiny", space, trials=1, progress=lambda step: print(step.what))
        epoch
        finished
        >>> front.trials["finished"], front.runs
        (1, ['tiny-000-e1'])
    """
    if trials is None and minutes is None:
        raise ValueError("a search needs an end: give trials, minutes or both")
    for name, limit in (("trials", trials), ("minutes", minutes), ("patience", patience)):
        if limit is not None and not 0 < limit < math.inf:
            raise ValueError(f"{name}={limit!r} must be above 0, and finite")
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it would write to stderr
    named = SamplerConfig(sampler) if isinstance(sampler, str) else sampler
    opened = open_study(study, space, storage, resume=resume, patience=patience)
    own, chosen = _space(opened), _sampler(opened, named)
    opened.sampler = chosen.make(opened, own, seed)
    rule = chosen.kind.can_extend if stopping else None
    clear_runs()
    with nullcontext() if storage else working(opened, runs_root()):
        end = None if minutes is None else time.monotonic() + 60 * minutes
        worker = _Worker(opened, own, device, end, rule, progress or (lambda step: None), on_step)
        while worker.in_time() and worker.open_places(trials):
            worker.work()
        tidy(opened)
    return read_front(opened)


def _space(study: optuna.Study) -> SearchSpace:
    """The study's space; raises where its images are not there: no trial is to blame for that."""
    space = SearchSpace.from_dict(study.user_attrs["space"])
    _ = open_data(space.base.data).inputs
    return space


def _sampler(study: optuna.Study, named: SamplerConfig | None) -> SamplerConfig:
    """The named sampler, or else the study's; a new study keeps it."""
    if "sampler" not in study.user_attrs:
        study.set_user_attr("sampler", (named or SamplerConfig()).values())
    return named or read_options(SamplerConfig, study.user_attrs["sampler"], "sampler")


# -- one worker --


class _TimeIsUp(Exception):
    """Raised after an epoch; the trial goes back to the queue."""


class _Untrainable(Exception):
    """These settings cannot be trained; the trial failed."""


# what ends a worker, but is not its trial's fault
NO_LOSS = (KeyboardInterrupt, _TimeIsUp, OSError, optuna.exceptions.OptunaError)


@dataclass
class _Worker:
    """A worker of a search: trains trials and keeps their epochs."""

    study: optuna.Study
    space: SearchSpace
    device: str
    end: float | None
    can_extend: Rule | None
    progress: Callable[[SearchStep], None]
    on_step: StepHook | None
    failures: int = 0
    refused: bool = False

    def in_time(self) -> bool:
        return self.end is None or time.monotonic() < self.end

    def open_places(self, trials: int | None) -> bool:
        """Whether another trial may start; optuna's `MaxTrialsCallback` asks only after one."""
        free_stale_trials(self.study)
        taken = self.study.get_trials(deepcopy=False, states=(State.COMPLETE, State.PRUNED, State.RUNNING))
        return trials is None or len(taken) < trials

    def work(self) -> None:
        """One trial; if it is interrupted, it goes back to the queue as it is."""
        taken: list[optuna.Trial] = []
        pressed: list[KeyboardInterrupt] = []

        def objective(trial: optuna.Trial) -> tuple[float, ...]:
            taken.append(trial)
            try:
                return self.train(trial)
            except KeyboardInterrupt as stop:
                pressed.append(stop)
                raise
            except FileExistsError as error:  # the run folder is not this study's: leave it
                with suppress(optuna.exceptions.UpdateFinishedTrialError):
                    trial.set_user_attr("error", str(error))
                raise

        try:
            self.study.optimize(objective, n_trials=1, catch=(_Untrainable,))
        except ValueError:  # optuna's, where the trial was given away, as this worker had been silent for too long
            if not taken or self._stored(taken[0].number).state is State.RUNNING:
                raise
            if pressed:
                raise pressed[0] from None
        except (Exception, KeyboardInterrupt) as stop:
            if taken and not isinstance(stop, FileExistsError):
                give_back(self.study, taken[0].number, lost=not isinstance(stop, NO_LOSS))
            if not isinstance(stop, _TimeIsUp):
                raise
        else:
            self._ended(taken[0].number)
        tidy(self.study)

    def train(self, trial: optuna.Trial) -> tuple[float, ...]:
        """Train one trial, or continue it; its values are those of its representative point."""
        from ..training.train import UNTRAINABLE

        number = identity(self._stored(trial.number))
        try:
            self._epochs(trial, number)
            return self.space.goal.values(self._state(number).points())
        except Exception as error:
            again = not isinstance(error, NO_LOSS) and losses(self._stored(trial.number)) > 0
            if not again and not isinstance(error, UNTRAINABLE):
                raise
            trial.set_user_attr("error", str(error) or type(error).__name__)
            self.refused = isinstance(error, ValueError)
            raise _Untrainable from error

    def _epochs(self, trial: optuna.Trial, number: int) -> None:
        """Train until the last epoch; TrialPruned after an epoch if the front can no longer be extended."""
        from ..training.train import train_epochs

        begun = "planned" in self._stored(trial.number).user_attrs  # then the folder of that name is its own
        config, folder = self.space.config(suggest(trial, self.space)), runs_root() / trial_name(self.study, number)
        if not begun:
            new_run_path(folder.name)
        for place in (folder, *[folder.with_name(teacher_name(folder.name))] * has_own_teacher(config)):
            if place.exists() and not is_own(place, self.study):
                raise OSError(
                    f"{place} has no mark of search {self.study.study_name!r}: rename or "
                    f"remove it, and trial {number} begins again"
                )
        trial.set_user_attr("planned", config.training.epochs)
        started = begun and (folder / "checkpoint.pt").is_file()
        if started and finished_epochs(folder) >= config.training.epochs:
            return  # it was killed behind its last epoch
        goal, device = self.space.goal, self.device
        keep = Keeper(self.study, trial, number, config, goal, device)  # raises where the trial was given away
        epochs = train_epochs(config, folder.name, resume=started, force=begun and not started, device=device,
                              on_step=self.on_step, on_epoch=keep, on_data=keep.on_data,
                              files=trial_mark(self.study, number))  # fmt: skip
        for result in epochs:
            now = self._state(number)  # where the folder is on another machine, epochs are known before they are made
            now = replace(now, epochs={epoch: p for epoch, p in now.epochs.items() if epoch <= result.epoch})
            self._tell("epoch", now)
            if result.epoch == result.epochs:
                return
            others = [t for t in read_curves(self.study.get_trials(deepcopy=False)) if t.trial != number]
            if self.can_extend and not self.can_extend(now, others, self.space.goal):
                raise optuna.TrialPruned
            if not self.in_time():
                raise _TimeIsUp

    def _ended(self, attempt: int) -> None:
        """After a trial's end is stored: report it, and remove the files that were needed to continue it."""
        ended = self._stored(attempt)
        number, note = identity(ended), str(ended.user_attrs.get("error", ""))
        if ended.state is not State.FAIL or not self.refused:  # what refused to train may be no fault of its epochs
            remove_trial(runs_root() / trial_name(self.study, number), self.study)
        self._tell(STATES[ended.state], self._state(number), note)
        self.failures = self.failures + 1 if ended.state is State.FAIL else 0
        if self.failures >= FAILURES:
            raise RuntimeError(f"{FAILURES} trials in a row could not be trained; the last: {note}")

    def _stored(self, attempt: int) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[attempt]

    def _state(self, number: int) -> LearningCurve:
        trial = latest(self.study.get_trials(deepcopy=False))[number]
        found = read_curves([trial])
        return found[0] if found else LearningCurve(number, trial.params, int(trial.user_attrs.get("planned", 0)))

    def _tell(self, what: str, now: LearningCurve, note: str = "") -> None:
        found = self.study.get_trials(deepcopy=False)
        points, goal = all_points(read_curves(found)), self.space.goal
        done = sum(t.state in (State.COMPLETE, State.PRUNED) for t in found)
        best = sorted(points[goal.front(points), :2].tolist(), key=lambda point: point[1])
        front = tuple((accuracy, flops) for accuracy, flops in best)
        self.progress(SearchStep(what, now.trial, now.last, now.planned, done, front, goal.hypervolume(points), note))
