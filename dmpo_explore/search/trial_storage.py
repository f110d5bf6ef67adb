"""Trials in optuna's storage, which processes and machines share.

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
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from filelock import FileLock, Timeout

from ..utils.lazy import extra_imports
from .domains import Choice, Range
from .learning_curves import LearningCurve
from .space import Params, SearchSpace

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
