"""What Ctrl-C, the clock, another worker and a kill leave of a search."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from forked import start
from search_settings import PATIENCE, make_space, points

from dmpo_explore.search import search_run
from dmpo_explore.search.search_run import SearchStep, run_search
from dmpo_explore.search.study import MARK, SearchFront, State, give_back, load_front, load_study

pytestmark = [pytest.mark.usefixtures("runs"), pytest.mark.slow]


def interrupt_at(trial: int, epoch: int) -> Any:
    def progress(step: SearchStep) -> None:
        if (step.what, step.trial, step.epoch) == ("epoch", trial, epoch):
            raise KeyboardInterrupt

    return progress


@pytest.mark.slow
def test_ctrl_c_leaves_a_study_that_goes_on_with_the_same_trial(
    done: tuple[Path, SearchFront, list[SearchStep]], runs: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_search("c", make_space(), trials=3, device="cpu", seed=0, progress=interrupt_at(1, 1))
    before = load_front("c")
    assert before.trials["finished"] == 1 and before.trials["waiting"] == 1
    assert (runs / "c-001" / "checkpoint.pt").is_file() and len(before.epochs) == 3
    steps: list[SearchStep] = []
    after = run_search("c", resume=True, trials=3, device="cpu", seed=0, progress=steps.append)
    assert [(s.what, s.trial, s.epoch) for s in steps][:2] == [("epoch", 1, 2), ("finished", 1, 2)]
    assert after.trials["finished"] == 3 and after.trials["waiting"] == 0 and not (runs / "c-001").exists()
    third = max(after.epochs["trial"])  # the second one's retry took its number
    assert [(min(p[0], 2), *p[1:]) for p in points(after)] == points(done[1]) and third == 3


def test_a_second_ctrl_c_loses_no_trial(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def second(study: optuna.Study, attempt: int, *, lost: bool) -> None:
        raise KeyboardInterrupt  # between the trial's failure and its return to the queue; a kill leaves the same

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(search_run, "give_back", second)
        run_search("d", make_space(), trials=1, device="cpu", seed=0, progress=interrupt_at(0, 1))
    assert load_front("d").trials["failed"] == 1
    steps: list[SearchStep] = []
    after = run_search("d", resume=True, trials=1, device="cpu", seed=0, progress=steps.append)
    assert [(s.what, s.trial, s.epoch) for s in steps] == [("epoch", 0, 2), ("finished", 0, 2)]
    assert after.trials["finished"] == 1 and after.trials["failed"] == 0


def test_a_run_of_the_users_is_left_after_ctrl_c(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (runs / "u-000").mkdir(parents=True)
    (runs / "u-000" / "config.json").write_text(make_space().base.to_json())
    (runs / "u-000" / "notes.txt").write_text("mine")

    def pressed(*args: Any, **how: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, FileExistsError)):
        patch.setattr("dmpo_explore.training.train_data.check_data", pressed)
        run_search("u", make_space(), trials=1, device="cpu", seed=0)
    with suppress(FileExistsError):
        run_search("u", resume=True, trials=1, device="cpu", seed=0)
    assert (runs / "u-000" / "notes.txt").read_text() == "mine"


def test_a_trial_does_not_take_a_run_that_has_its_name_in_this_root(runs: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_search("f", make_space(), trials=1, device="cpu", seed=0, progress=interrupt_at(0, 1))
    (runs / "f-000" / MARK).unlink()  # as of `train --name f-000`, or of an earlier version
    for _ in range(2):
        with pytest.raises(OSError, match="f-000 has no mark of search 'f'.*: rename or remove it"):
            run_search("f", resume=True, trials=1, device="cpu", seed=0)
    assert (runs / "f-000" / "checkpoint.pt").is_file() and load_front("f").trials["waiting"] == 1


def test_when_time_is_up_the_trial_waits(runs: Path) -> None:
    front = run_search("m", make_space(), minutes=1e-4, device="cpu", seed=0)
    assert front.trials["waiting"] == 1 and len(front.epochs) == 1 and front.runs
    assert run_search("m", resume=True, trials=1, device="cpu").trials["finished"] == 1


@pytest.mark.slow
def test_a_trial_that_was_given_away_is_left_and_found_again(runs: Path) -> None:
    steps: list[SearchStep] = []

    def progress(step: SearchStep) -> None:
        steps.append(step)
        if len(steps) == 1:  # what another worker does with a trial whose worker is silent
            study = load_study("g", None)
            study.tell(0, state=State.FAIL)
            give_back(study, 0)

    front = run_search("g", make_space(), trials=1, device="cpu", seed=0, progress=progress)
    assert [(s.what, s.trial, s.epoch) for s in steps] == [("epoch", 0, 1), ("epoch", 0, 2), ("finished", 0, 2)]
    assert front.trials["finished"] == 1 and front.trials["waiting"] == front.trials["failed"] == 0


def test_ctrl_c_is_heard_though_the_trial_was_given_away(runs: Path) -> None:
    def progress(step: SearchStep) -> None:
        load_study("g", None).tell(0, state=State.FAIL)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_search("g", make_space(), trials=1, device="cpu", seed=0, progress=progress)


@pytest.mark.slow
def test_another_machine_begins_at_the_first_epoch_and_says_so(runs: Path) -> None:
    space = make_space(epochs=3)
    with pytest.raises(KeyboardInterrupt):
        run_search("o", space, trials=1, device="cpu", seed=0, progress=interrupt_at(0, 2))
    shutil.rmtree(runs / "o-000")  # the storage is shared, the folder is not
    steps: list[SearchStep] = []
    front = run_search("o", resume=True, trials=1, device="cpu", seed=0, progress=steps.append)
    assert [s.epoch for s in steps] == [1, 2, 3, 3] and len(front.epochs) == 3


FIRST = """
import time
from search_settings import PATIENCE, make_space
from dmpo_explore.search.search_run import run_search

def say(step):
    print(step.what, step.trial, step.epoch, flush=True)
    if (step.what, step.trial, step.epoch) == ("epoch", 1, 2):
        time.sleep(600)  # alive, but slow

run_search("k", make_space(epochs=4), trials=3, device="cpu", patience=PATIENCE, progress=say)
"""


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_two_workers_share_a_study_and_a_killed_one_loses_nothing(runs: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    before: list[SearchFront] = []

    def progress(step: SearchStep) -> None:
        told.append((step.what, step.trial, step.epoch))
        if told == [("epoch", 2, 1)]:
            assert first.is_alive()
            before.append(load_front("k"))
            first.kill()
            time.sleep(PATIENCE + 2)  # the database counts whole seconds

    program = start(FIRST, tmp_path)
    first = program.process
    try:
        while "epoch 1 2\n" not in program.said() and first.is_alive():
            time.sleep(0.05)
        said = program.said().splitlines()
        assert "finished 0 4" in said and "epoch 1 2" in said, said
        after = run_search("k", resume=True, trials=3, device="cpu", patience=PATIENCE, progress=progress)
    finally:
        first.kill()

    assert before[0].trials["finished"] == 1 and before[0].trials["running"] == 2
    assert told == [("epoch", 2, n) for n in (1, 2, 3, 4)] + [("finished", 2, 4)] + [
        ("epoch", 1, 3), ("epoch", 1, 4), ("finished", 1, 4)]  # on behind the last finished epoch  # fmt: skip
    assert after.trials["finished"] == 3 and after.trials["running"] == after.trials["waiting"] == 0
    assert not after.epochs.duplicated(["trial", "epoch"]).any() and len(after.epochs) == 3 * 4
    kept = set(zip(after.epochs["trial"], after.epochs["epoch"], strict=True))
    assert set(zip(before[0].epochs["trial"], before[0].epochs["epoch"], strict=True)) <= kept
    assert np.isclose(after.epochs["hypervolume"].max(), after.hypervolume)
    assert set(after.runs) == set(after.table["run"]) and not list(runs.rglob("checkpoint.pt"))
