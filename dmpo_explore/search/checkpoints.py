"""Epochs of a trial: their points are stored in the study, and weights that extend the front in a run of their own.

Optuna's artifacts are files of a trial without a name; these are runs, which every command and the app open.
In: model and result after an epoch (``on_epoch`` of `dmpo_explore.train_epochs`). Out: a user attribute of the trial,
and run folders ``STUDY-TRIAL-eEPOCH`` with config, history, weights, card and val record, of the epochs on the front.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..config import Config
from ..data.manifest import PACKED, PLAIN, Manifest, write_manifest
from ..runs.run_files import CHECKPOINT
from ..runs.store import load_run, runs_root
from ..training.own_teacher import teacher_name
from ..utils.files import atomic_file, atomic_folder, remove_at_once, write_json, write_text
from ..utils.lazy import extra_imports
from .goal import Goal, operating_points
from .study import MARK, POINT, is_own, kept_name, mark_of, read_front, settings_text, trial_name
from .trial_storage import EPOCH, State, epochs_of, is_given_up, latest, points_of, read_curves

with extra_imports("search", "search"):
    import optuna

if TYPE_CHECKING:
    from ..models.dmpo import DMPO
    from ..records.record import ExitRecord
    from ..training.loop import EpochResult

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
