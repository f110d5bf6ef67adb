"""Trials in a shared storage: suggested, read back as trajectories, given back when their worker falls silent."""

from __future__ import annotations

import gc
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from search_settings import SPACE

from dmpo_explore.search import study as study_module
from dmpo_explore.search.study import (
    EPOCH,
    LOCKED,
    State,
    epochs_of,
    free_stale_trials,
    give_back,
    identity,
    latest,
    open_storage,
    read_curves,
    suggest,
    working,
)

pytestmark = [pytest.mark.filterwarnings("ignore:Heartbeat of storage"), pytest.mark.slow]  # asked for without a worker
Make = Callable[..., optuna.Study]


def entry(*accuracies: float, seconds: float = 1.0) -> dict[str, Any]:
    flops = [0.2 + 0.1 * i for i in range(len(accuracies))]
    return {"accuracy": list(accuracies), "flops_fraction": flops, "threshold": [0.5] * len(flops), "seconds": seconds}


@pytest.fixture
def make_study() -> Iterator[Make]:
    """URL, seed and patience → a study; those in memory are closed behind the test."""
    opened = list[RDBStorage]()

    def make(url: str = "sqlite://", seed: int | None = 0, patience: int = 60) -> optuna.Study:
        opened.append(open_storage(url, patience))
        return optuna.create_study(
            directions=["maximize", "minimize"], storage=opened[-1], sampler=optuna.samplers.RandomSampler(seed)
        )

    yield make
    for storage in opened:
        storage.engine.dispose()


def ask(study: optuna.Study, *epochs: dict[str, Any]) -> optuna.Trial:
    trial = study.ask()
    suggest(trial, SPACE)
    trial.set_user_attr("planned", 4)
    for number, values in enumerate(epochs, start=1):
        trial.set_user_attr(f"{EPOCH}{number}", values)
    return trial


def test_trials_are_read_back_as_read_curves(make_study: Make) -> None:
    study = make_study()
    ask(study, entry(0.5, 0.6), entry(0.7, seconds=2.5))
    study.tell(ask(study), state=State.PRUNED)  # without an epoch it is no trajectory
    (one,) = read_curves(study.get_trials())
    assert (one.trial, one.planned, one.last) == (0, 4, 2)
    assert one.epochs[1].tolist() == [[0.5, 0.2, 1.0], [0.6, pytest.approx(0.3), 1.0]]
    assert one.epochs[2].tolist() == [[0.7, 0.2, 2.5]]
    assert list(epochs_of(study.get_trials()[0])) == [1, 2]


def test_a_trial_that_is_given_back_is_the_same_trial(make_study: Make) -> None:
    study = make_study()
    first = ask(study, entry(0.5))
    study.tell(first, state=State.FAIL)
    give_back(study, 0)
    assert [t.state for t in study.get_trials()] == [State.FAIL, State.WAITING]
    again = study.ask()
    assert suggest(again, SPACE) == first.params
    assert [identity(t) for t in study.get_trials()] == [0, 0] and list(latest(study.get_trials())) == [0]
    again.set_user_attr(f"{EPOCH}2", entry(0.8))
    (one,) = read_curves(study.get_trials())
    assert (one.trial, list(one.epochs)) == (0, [1, 2])
    study.tell(again, state=State.FAIL)
    give_back(study, 1)  # an epoch further
    assert study.ask().number == 2 and identity(study.get_trials()[2]) == 0
    for number, lost in ((2, False), (3, True), (4, True)):  # Ctrl-C is no loss; a third one in an epoch is its fault
        study.tell(number, state=State.FAIL)
        give_back(study, number, lost=lost)
        assert (study.get_trials()[-1].state is State.FAIL) is (number == 4)
        study.ask()


def test_what_has_ended_or_is_with_another_is_not_given_back(make_study: Make) -> None:
    study = make_study()
    for state, values in ((State.COMPLETE, (0.5, 0.2)), (State.PRUNED, None), (State.FAIL, None)):
        study.tell(ask(study, entry(0.5)), values, state=state)
    ask(study)  # running
    for attempt in (0, 1, 2, 3, 2):
        give_back(study, attempt)
    assert [t.state for t in study.get_trials()][4:] == [State.WAITING]  # once, of the one that failed
    study.ask()
    give_back(study, 2)
    assert len(study.get_trials()) == 5 and study.get_trials()[4].state == State.RUNNING


def test_a_file_that_others_write_into_is_waited_for_and_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = study_module._connect, list[str]()

    def racing(url: str, patience: int) -> RDBStorage:
        calls.append(url)
        if len(calls) == 1:
            raise RuntimeError("table studies already exists")
        return real(url, patience)

    monkeypatch.setattr(study_module, "_connect", racing)
    storage = open_storage(f"sqlite:///{tmp_path / 'a.db'}", patience=3600)
    assert len(calls) == 2 and storage.get_heartbeat_interval() == 30
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 1000 * LOCKED


def test_no_two_workers_take_the_same_trial(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    storage = open_storage(f"sqlite:///{path}")
    with storage.engine.begin() as reading:
        reading.exec_driver_sql("SELECT state FROM trials").all()  # a worker that looks whether a trial is free
        other = sqlite3.connect(path, timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")  # and one that would take it
    other.execute("BEGIN IMMEDIATE")
    other.close()


def test_a_study_that_may_only_be_read_is_opened(make_study: Make, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    ask(make_study(f"sqlite:///{path}"), entry(0.5))
    read_only = open_storage(f"sqlite:///file:{path}?mode=ro&uri=true")
    (study,) = read_only.get_all_studies()
    assert read_only.get_n_trials(study._study_id) == 1
    with pytest.raises(optuna.exceptions.StorageInternalError):
        read_only.create_new_trial(study._study_id)


def test_no_connection_stays_open(make_study: Make, tmp_path: Path) -> None:
    study = make_study(f"sqlite:///{tmp_path / 'a.db'}")
    study.tell(ask(study, entry(0.5)), (0.5, 0.2))
    (tmp_path / "text.db").write_text("no database, but a file of the length that a database's header has " * 9)
    with pytest.raises(ValueError, match="file is not a database"):
        open_storage(f"sqlite:///{tmp_path / 'text.db'}")
    assert not [c for c in gc.get_objects() if type(c) is sqlite3.Connection and is_open(c)]


def is_open(connection: sqlite3.Connection) -> bool:
    try:
        return connection.total_changes >= 0
    except sqlite3.ProgrammingError:  # closed
        return False


@pytest.mark.slow
def test_a_silent_workers_trial_goes_back_to_the_queue(make_study: Make, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    study = make_study(url, patience=1)
    storage = study._storage
    trial = ask(study, entry(0.5))
    storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]  # the worker's only sign of life
    free_stale_trials(study)
    assert [t.state for t in study.get_trials()] == [State.RUNNING]
    time.sleep(2.1)  # the database counts whole seconds
    free_stale_trials(study)
    assert [t.state for t in study.get_trials()] == [State.FAIL, State.WAITING]


def test_a_lone_worker_frees_what_failed_behind_an_epoch_without_an_error(make_study: Make, tmp_path: Path) -> None:
    study = make_study(f"sqlite:///{tmp_path / 'a.db'}")
    for epochs, error in (([entry(0.5)], ""), ([], ""), ([entry(0.5)], "out of memory")):
        trial = ask(study, *epochs)
        if error:
            trial.set_user_attr("error", error)
        study.tell(trial, state=State.FAIL)
    with working(study, tmp_path):
        waiting = study.get_trials(states=(State.WAITING,))
    assert [identity(trial) for trial in waiting] == [0]


def test_a_bad_url_is_named(tmp_path: Path) -> None:
    for url in ("nonsense", f"sqlite:///{tmp_path / 'no' / 'folder' / 'a.db'}"):
        with pytest.raises(ValueError, match=f"storage '{url}' cannot be opened: "):
            open_storage(url)
