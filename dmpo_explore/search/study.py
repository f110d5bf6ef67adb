"""A study: the trials of one search in optuna's storage, and the front over all their epochs.

In: a study's name, and the URL of its storage (default: one SQLite file in the runs root). Out: an `optuna.Study` that
carries its space, or a `SearchFront`. No model is trained here and no torch is imported.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..data.images import open_data
from ..runs.run_files import RUN_NAME
from ..runs.store import runs_root
from ..utils.files import read_json
from ..utils.lazy import extra_imports
from ..utils.registry import unknown
from .goal import Goal
from .space import SearchSpace, default_space
from .trial_storage import State, epochs_of, latest, open_storage

with extra_imports("search", "search"):
    import optuna
    from optuna.study import StudyDirection

MARK = "search.json"  # in a run folder that a search makes: study and its id, trial, epoch
IDENTITY = "id"  # user attribute that tells studies of one name in two storages apart; earlier versions had none
POINT = ["accuracy", "flops_fraction", "threshold"]
STATES = {
    State.COMPLETE: "finished",
    State.PRUNED: "stopped",
    State.RUNNING: "running",
    State.WAITING: "waiting",
    State.FAIL: "failed",
}


@dataclass(frozen=True, eq=False)
class SearchFront:
    """The front of a study.

    Args:
        table: a row per point, rising in compute: ``run``, ``trial``, ``epoch``, ``accuracy``, ``flops_fraction``,
            ``threshold``, ``seconds`` (of training up to that epoch), ``settings`` (those tried), ``here`` (whether the
            run is in this runs root). epochs: a row per epoch of any trial, in the order they ended: the same, with
            lists for its points, and ``hypervolume`` after it. trials: state → how many.
    """

    study: str
    goal: Goal
    table: pd.DataFrame
    epochs: pd.DataFrame
    hypervolume: float
    trials: Mapping[str, int] = field(default_factory=dict)

    @property
    def runs(self) -> list[str]:
        """Names of the runs on the front that are here, the cheapest first.

        Example:
            >>> table = pd.DataFrame({"run": ["a-000-e1", "a-001-e2"], "here": [True, False]})
            >>> SearchFront("a", Goal(), table, pd.DataFrame(), hypervolume=0.4).runs
            ['a-000-e1']
        """
        return list(dict.fromkeys(self.table.loc[self.table["here"].astype(bool), "run"]))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        reference = {"accuracy": 0.0, "flops_fraction": self.goal.max_flops}
        if self.goal.max_seconds is not None:
            reference["seconds"] = self.goal.max_seconds
        return {
            "study": self.study,
            "hypervolume": self.hypervolume,
            "reference": reference,
            "trials": dict(self.trials),
            "epochs": len(self.epochs),
            "runs": self.runs,
            "front": self.table.to_dict("records"),
        }


def load_front(study: str, storage: str | None = None) -> SearchFront:
    """The front of a study as it is now.

    Raises:
        ValueError: no such study (those there are listed), or no such storage.

    Example:
        A study without a trial yet:

        >>> import os, tempfile, unittest.mock
        >>> space = SearchSpace.from_dict({"space": {"bypass": ["none", "conv"]}})
        >>> optuna.logging.set_verbosity(optuna.logging.ERROR)
        >>> with tempfile.TemporaryDirectory() as runs, unittest.mock.patch.dict(os.environ, DMPO_EXPLORE_RUNS=runs):
        ...     _ = open_study("tiny", space, None, resume=False, patience=300)
        ...     front = load_front("tiny")
        >>> front.study, front.runs, front.hypervolume
        ('tiny', [], 0.0)
    """
    return read_front(load_study(study, storage))


def read_front(study: optuna.Study) -> SearchFront:
    """The front over all epochs of all trials."""
    found = study.get_trials(deepcopy=False)
    goal = Goal.from_dict(study.user_attrs["space"]["goal"])
    rows = [
        {"run": kept_name(study, number, epoch), "trial": number, "epoch": epoch}
        | dict(entry)
        | {"settings": trial.params}
        for number, trial in latest(found).items()
        for epoch, entry in epochs_of(trial).items()
    ]
    columns = ["run", "trial", "epoch", *POINT, "seconds", "settings", "hypervolume", "ended"]
    epochs = pd.DataFrame(rows, columns=columns).sort_values("ended", kind="stable", ignore_index=True)
    table = epochs.drop(columns=["hypervolume", "ended"]).explode(POINT, ignore_index=True).dropna(subset=POINT)
    points = table[["accuracy", "flops_fraction", "seconds"]].to_numpy(np.float64)
    front = table[goal.front(points)].sort_values("flops_fraction", kind="stable", ignore_index=True)
    front[POINT] = front[POINT].astype(np.float64)
    front["here"] = [is_own(runs_root() / run, study) for run in front["run"]]
    states = [STATES[t.state] for t in latest(found).values()]
    counts = {word: states.count(word) for word in STATES.values()}
    return SearchFront(study.study_name, goal, front, epochs, goal.hypervolume(points), counts)


def open_study(
    name: str, space: SearchSpace | None, storage: str | None, *, resume: bool, patience: int
) -> optuna.Study:
    """A new or continued study; trials without a heartbeat for ``patience`` seconds go back to the queue.

    Raises:
        ValueError: a bad name, one that is taken, another space than the study's; see `load_study` too.
    """
    if resume:
        study = load_study(name, storage, patience)
        if space is not None and (others := _other_settings(study.user_attrs["space"], space)):
            raise ValueError(
                f"study {name!r} was begun with another space ({others}); resume it without one (--resume {name}), or "
                "choose a new name"
            )
        return study
    if not RUN_NAME.fullmatch(name) or len(name) > 80:
        raise ValueError(f"study name {name!r} must be 1 to 80 letters, digits, '.', '_' or '-', without a leading dot")
    wanted = _located(space or default_space())
    directions = [StudyDirection.MAXIMIZE] + [StudyDirection.MINIMIZE] * (len(wanted.goal.reference) - 1)
    how: dict[str, Any] = {"storage": _storage(storage, patience, make=True), "study_name": name}
    try:
        study = optuna.create_study(directions=directions, **how)
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(**how)
        new = not study.user_attrs and not study.get_trials(deepcopy=False) and study.directions == directions
        if not new:  # else the worker that began it was killed before it had its space
            raise ValueError(f"study {name!r} exists; continue it (--resume {name}) or choose another name") from None
    study.set_user_attr("space", wanted.to_dict())
    study.set_user_attr(IDENTITY, secrets.token_hex(8))
    return study


def _located(space: SearchSpace) -> SearchSpace:
    """The space with the place of its images, so that a search continues from any folder."""
    return replace(space, base=replace(space.base, data=open_data(space.base.data).located()))


def _other_settings(before: Mapping[str, Any], space: SearchSpace) -> str:
    """Settings in which a space differs from a study's, wherever its images are said to be."""
    differences = list[list[str]]()
    for now in (space.to_dict(), _located(space).to_dict()):
        a, b = (pd.json_normalize(dict(values)).iloc[0].to_dict() for values in (before, now))
        differences.append([str(key) for key in {**a, **b} if a.get(key) != b.get(key)])
    fewest = min(differences, key=len)
    return ", ".join(fewest)


def is_begun(name: str, storage: str | None) -> bool:
    """Whether a storage holds a study of that name, with its space."""
    try:
        return load_study(name, storage) is not None
    except ValueError:
        return False


def load_study(name: str, url: str | None, patience: int = 300) -> optuna.Study:
    """An existing study; ValueError (listing the existing ones) for another name, or a study of another program."""
    storage = _storage(url, patience, make=False)
    names = optuna.get_all_study_names(storage)
    if name not in names:
        raise ValueError(unknown("study", name, names))
    study = optuna.load_study(study_name=name, storage=storage)
    if "space" not in study.user_attrs:
        raise ValueError(f"study {name!r} in {url or storage_file()} is not a search of dmpo-explore")
    return study


def _storage(url: str | None, patience: int, *, make: bool) -> Any:
    if url is None:
        if not make and not storage_file().is_file():
            raise ValueError(f"there is no search yet: no file {storage_file()}")
        storage_file().parent.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{storage_file().resolve()}"
    return open_storage(url, patience)


def storage_file() -> Path:
    """The default storage: ``searches.db`` in the runs root."""
    return runs_root() / "searches.db"


def trial_name(study: optuna.Study, trial: int) -> str:
    """The run in which a trial is trained."""
    return f"{study.study_name}-{trial:03d}"


def kept_name(study: optuna.Study, trial: int, epoch: int) -> str:
    """The run that keeps one epoch of a trial."""
    return f"{trial_name(study, trial)}-e{epoch}"


def mark_of(study: optuna.Study, trial: int) -> dict[str, Any]:
    """What a run of a trial keeps to be known as this study's."""
    return {"study": study.study_name, "trial": trial, IDENTITY: study.user_attrs.get(IDENTITY)}


def is_own(folder: Path, study: optuna.Study) -> bool:
    """Whether this study made the run, and not another of its name in another storage."""
    try:
        mark = read_json(folder / MARK)
        return bool((mark["study"], mark.get(IDENTITY)) == (study.study_name, study.user_attrs.get(IDENTITY)))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def settings_text(params: Mapping[str, Any]) -> str:
    """``rank 16, bypass none``: settings in words, without the part they belong to."""
    return ", ".join(
        f"{key.partition('.')[2]} {value:.3g}" if isinstance(value, float) else f"{key.partition('.')[2]} {value}"
        for key, value in params.items()
    )
