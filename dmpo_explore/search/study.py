"""A study: the trials of one search in optuna's storage, which processes share, and the front over their epochs.

Trials in optuna's storage, which processes and machines share.
In: a storage's URL. Out: an `optuna.Study` in which the trials of workers without a heartbeat return to the queue; a
trial's settings, and its `LearningCurve`. Needs optuna (the extra ``search``). Its ``trial.report`` raises for several
objectives, so the points of every epoch are stored in user attributes. Its journals have no heartbeat.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from filelock import FileLock, Timeout

from ..data.images import open_data
from ..runs.run_files import RUN_NAME
from ..runs.store import runs_root
from ..utils.files import read_json
from ..utils.lazy import extra_imports
from ..utils.registry import unknown
from .goal import Goal, LearningCurve
from .space import Choice, Params, Range, SearchSpace, default_space

with extra_imports("search", "search"):
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
    from optuna.trial import FrozenTrial, TrialState
    from sqlalchemy import Connection, NullPool, event, make_url
    from sqlalchemy.exc import OperationalError


LOCKED = 60  # seconds to wait for other workers that write into an SQLite file
EPOCH = "epoch "  # user attributes of a trial: "epoch 1", "epoch 2" …
LOST = "lost"  # another: how many epochs it had each time that its worker was killed or crashed
MOST_LOST = 2  # workers of a trial in one epoch; with one more its settings are to blame
State = TrialState


def open_storage(url: str, patience: int = 300) -> RDBStorage:
    """A storage in which a trial without a heartbeat for ``patience`` seconds goes back to the queue.

    Every read or write opens a connection and closes it again, unless the database is in memory (``sqlite://``): that
    one lasts until ``storage.engine.dispose()``.

    Raises:
        ValueError: a URL without a database.
    """
    try:
        try:
            return _connect(url, patience)
        except Exception:  # of two that start at once, both may be making the tables
            time.sleep(0.5)
            return _connect(url, patience)
    except Exception as error:  # whatever the database's driver raises
        reason = str(error).strip().split("\n", maxsplit=1)[0]
        raise ValueError(f"storage {url!r} cannot be opened: {reason}") from None


def _connect(url: str, patience: int) -> RDBStorage:
    options: dict[str, Any] = {"connect_args": {"timeout": LOCKED}} if url.startswith("sqlite") else {}
    if make_url(url).database not in (None, "", ":memory:"):
        options["poolclass"] = NullPool
    with _experimental():
        storage = RDBStorage(
            url,
            engine_kwargs=options,
            heartbeat_interval=min(30, max(1, patience // 5)),
            grace_period=patience,
            heartbeat_stale_trial_callback=_put_back,
        )
    if url.startswith("sqlite"):
        event.listen(storage.engine, "begin", _begin_alone)
    return storage


def _begin_alone(connection: Connection) -> None:
    """Begin a transaction that no other one overlaps.

    optuna reads a trial's state and then takes it. SQLite has no lock for one row, so of two workers that read at the
    same time both would take the same trial.
    """
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    except OperationalError as error:
        if not isinstance(error.orig, sqlite3.Error) or error.orig.sqlite_errorcode != sqlite3.SQLITE_READONLY:
            raise  # a file that may only be read needs no lock


def free_stale_trials(study: optuna.Study) -> None:
    """Put trials without a heartbeat back into the queue."""
    with _experimental():
        optuna.storages.fail_stale_trials(study)


def give_back(study: optuna.Study, attempt: int, *, lost: bool = True) -> None:
    """Put an interrupted trial back into the queue, as without a heartbeat.

    A trial that has ended, or that is in the queue already, is not changed. ``lost``: its worker was killed or crashed;
    a trial that loses more than `MOST_LOST` of them in the same epoch stays failed.
    """
    found = study.get_trials()  # copies: they are written into
    trial = found[attempt]
    if trial.state is State.FAIL and latest(found)[identity(trial)].number == attempt:
        _put_back(study, trial, lost=lost)


def _put_back(study: optuna.Study, trial: FrozenTrial, *, lost: bool = True) -> None:
    if lost and is_given_up(trial):
        return
    if lost:
        trial.user_attrs[LOST] = _one_more(trial)
    with _experimental():
        RetryHeartbeatStaleTrialCallback()(study, trial)


def losses(trial: FrozenTrial) -> int:
    """How many workers of the trial were killed or crashed in its present epoch before."""
    return list(trial.user_attrs.get(LOST, ())).count(len(epochs_of(trial)))


def is_given_up(trial: FrozenTrial) -> bool:
    """Whether no further worker of the trial may be lost in its present epoch."""
    return losses(trial) >= MOST_LOST


def _one_more(trial: FrozenTrial) -> list[int]:
    return [*trial.user_attrs.get(LOST, ()), len(epochs_of(trial))]


def _free(study: optuna.Study, trial: FrozenTrial) -> None:
    """Put a killed worker's running trial back into the queue, or let it fail; a stopped machine is not its fault."""
    storage, own = study._storage, trial._trial_id
    killed = trial.datetime_start is not None and trial.datetime_start.timestamp() > psutil.boot_time()
    if killed and is_given_up(trial):
        storage.set_trial_user_attr(own, "error", f"{MOST_LOST + 1} workers were killed or crashed in the same epoch")
        storage.set_trial_state_values(own, State.FAIL)
        return
    if killed:
        storage.set_trial_user_attr(own, LOST, _one_more(trial))
    storage.set_trial_state_values(own, State.WAITING)


@contextmanager
def working(study: optuna.Study, folder: Path) -> Iterator[None]:
    """Context of a worker of a study whose database lies in ``folder``: it holds a lock there while it searches.

    If no other worker holds one, trials that count as running are those of killed workers: they go back to the queue as
    they are, at once, as the same trials, and so do those that failed behind an epoch without an error: their worker
    was killed before it gave them back. Without an epoch, a run of that name may be the user's. A trial that loses more
    than `MOST_LOST` workers in the same epoch has failed. Where the file system has no locks, their heartbeats decide.
    """
    running = study.get_trials(deepcopy=False, states=(State.RUNNING,))  # read first: who made them holds a lock by now
    own = FileLock(folder / f".{study.study_name}.{secrets.token_hex(4)}.lock")
    try:
        own.acquire(timeout=0)
    except (NotImplementedError, OSError):
        yield
        return
    try:
        workers = folder.glob(f".{study.study_name}.{8 * '[0-9a-f]'}.lock")
        others = [lock for lock in workers if str(lock) != own.lock_file]
        if not any(list(map(_is_held, others))):
            for trial in running:
                with suppress(optuna.exceptions.UpdateFinishedTrialError):
                    _free(study, trial)
            for trial in latest(study.get_trials(deepcopy=False)).values():
                if trial.state is State.FAIL and "error" not in trial.user_attrs and epochs_of(trial):
                    give_back(study, trial.number)
        yield
    finally:
        own.release()
        with suppress(OSError):
            Path(own.lock_file).unlink(missing_ok=True)


def _is_held(place: Path) -> bool:
    """Whether a living process holds a lock; one that a killed process left is removed."""
    try:
        with FileLock(place, timeout=0):
            pass
    except (Timeout, OSError):
        return True
    place.unlink(missing_ok=True)
    return False


@contextmanager
def _experimental() -> Iterator[None]:
    """Context without optuna's warning that heartbeats are experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def suggest(trial: optuna.Trial, space: SearchSpace) -> Params:
    """The trial's settings, ``part.name`` → label, from the study's sampler."""
    params: Params = {}
    for key, found in distributions(space).items():
        if isinstance(found, CategoricalDistribution):
            params[key] = trial.suggest_categorical(key, found.choices)
        elif isinstance(found, IntDistribution):
            params[key] = trial.suggest_int(key, found.low, found.high, step=found.step, log=found.log)
        elif isinstance(found, FloatDistribution):
            params[key] = trial.suggest_float(key, found.low, found.high, step=found.step, log=found.log)
    return params


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The space as optuna's distributions."""
    return {key: _distribution(domain) for key, domain in space.domains.items()}


def _distribution(domain: Choice | Range) -> BaseDistribution:
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.labels())
    if domain.whole:
        return IntDistribution(int(domain.low), int(domain.high), log=domain.log, step=int(domain.step or 1))
    return FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)


def identity(trial: FrozenTrial) -> int:
    """A trial's number; that of its first attempt if it was put back."""
    number: int = trial.system_attrs.get("failed_trial", trial.number)
    return number


def latest(trials: Sequence[FrozenTrial]) -> dict[int, FrozenTrial]:
    """Trial → its last attempt."""
    return {identity(t): t for t in sorted(trials, key=lambda t: t.number)}


def epochs_of(trial: FrozenTrial) -> dict[int, dict[str, Any]]:
    """Epoch → its stored values: ``accuracy``, ``flops_fraction``, ``threshold`` (lists), ``seconds``, …"""
    return {int(key[len(EPOCH) :]): value for key, value in sorted(trial.user_attrs.items()) if key.startswith(EPOCH)}


def points_of(entry: Mapping[str, Any]) -> Any:
    """(P, 3) accuracy, FLOPs fraction and training seconds of one epoch."""
    seconds = [entry["seconds"]] * len(entry["accuracy"])
    return np.array([entry["accuracy"], entry["flops_fraction"], seconds], np.float64).T.reshape(-1, 3)


def read_curves(trials: Sequence[FrozenTrial]) -> list[LearningCurve]:
    """The learning curves of all trials with at least one finished epoch, running and failed ones included."""
    found = []
    for number, trial in latest(trials).items():
        epochs = {epoch: points_of(entry) for epoch, entry in epochs_of(trial).items()}
        if epochs:
            found.append(LearningCurve(number, trial.params, int(trial.user_attrs["planned"]), epochs))
    return found


# A study: the trials of one search in optuna's storage, and the front over all their epochs.
#
# In: a study's name, and the URL of its storage (default: one SQLite file in the runs root). Out: an `optuna.Study`
# that carries its space, or a `SearchFront`. No model is trained here and no torch is imported.

with extra_imports("search", "search"):
    import optuna
    from optuna.study import StudyDirection

MARK = "search.json"  # in a run folder that a search makes: study and its id, trial, epoch
IDENTITY = "id"  # user attribute that tells studies of one name in two storages apart
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
    return replace(space, base=replace(space.base, data=open_data(space.base.data).kind.located()))


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
