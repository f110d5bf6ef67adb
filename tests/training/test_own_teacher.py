"""A teacher that a training makes for itself, first: what it is, that it goes on after a kill, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_config
from tiny_training import same_history

from dmpo_explore.config import Config
from dmpo_explore.jobs.estimate import Rates, estimate_training, measure_rates
from dmpo_explore.runs.store import list_runs, load_run
from dmpo_explore.training.own_teacher import own_teacher
from dmpo_explore.training.train import other_options, train, train_epochs

pytestmark = pytest.mark.usefixtures("runs")


def own(**training: Any) -> Config:
    options = {"teacher": "own", "teacher_epochs": 2, "teacher_size": 48, "crop_scale": 0.7, "epochs": 2}
    return tiny_config(**options | training)


def never(done: int, total: int) -> None:
    raise AssertionError("a teacher is trained")


@pytest.mark.slow
def test_it_is_a_run_of_its_own_and_teaches_as_any_other() -> None:
    done: list[tuple[int, int]] = []
    run = train(own(), "mine", device="cpu", on_teacher=lambda *step: done.append(step))
    teacher = load_run("mine-teacher")
    assert done[-1][0] == done[-1][1] and [step for step, _ in done] == [*range(1, len(done) + 1)]
    assert (teacher.config.model.exits, teacher.config.model.image_size, len(teacher.history())) == (1, 48, 2)
    assert teacher.config.training.crop_scale == 1 and teacher.manifest and run.manifest
    assert teacher.manifest.fingerprints == run.manifest.fingerprints  # the same images are held out
    assert run.config.get("training.teacher") == "mine-teacher" and not other_options(own(), run)
    other = train(own(teacher="mine-teacher"), "other", device="cpu")
    same_history(other, run)
    train(replace(own(), model=run.config.model), "mine", device="cpu", force=True, on_teacher=never)  # it is there


@pytest.mark.slow
def test_it_goes_on_where_it_was_stopped_and_another_is_not_replaced() -> None:
    steps = 0

    def stop(done: int, total: int) -> None:
        nonlocal steps
        steps += 1
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(own(), "mine", device="cpu", on_teacher=stop)
    assert len(load_run("mine-teacher").history()) == 1
    assert "mine" not in list_runs()
    done: list[int] = []
    train(own(), "mine", device="cpu", on_teacher=lambda step, total: done.append(step))
    assert done[0] == steps and len(load_run("mine-teacher").history()) == 2
    with pytest.raises(FileExistsError, match="run 'mine' exists"):
        train(own(teacher_epochs=3), "mine", device="cpu", on_teacher=never)
    load_run("mine").path.rename(load_run("mine").path.with_name("gone"))
    with pytest.raises(FileExistsError, match="run 'mine-teacher' exists"):
        train(own(teacher_epochs=3), "mine", device="cpu", on_teacher=never)


@pytest.mark.parametrize(
    ("training", "model", "match"),
    [
        ({"teacher_exit": 2}, {}, "teacher_exit=2: an own teacher has one exit"),
        ({"teacher_share": "0.5,0.9,0.9"}, {}, "3 shares for 2 exits"),
        ({}, {"exits": (99,)}, "99"),
        ({"teacher_size": 3}, {}, "3"),
    ],
)
def test_what_cannot_be_is_said_before_it_is_trained(
    runs: Path, training: dict[str, Any], model: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValueError, match=match) as error:
        next(train_epochs(own(**training, model=model), "mine", device="cpu", on_teacher=never))
    assert "\n" not in str(error.value) and not [*runs.glob("mine*")]


@pytest.mark.slow
def test_an_estimate_counts_it(tmp_path: Path) -> None:
    config = own(teacher_epochs=20)
    rates = measure_rates(config, "cpu")
    assert rates.teacher and rates.answering == rates.teacher.recording and rates.start > 0
    assert Rates.from_dict(vars(rates)) == rates
    found = estimate_training(config, rates)
    alone = estimate_training(own_teacher(config), rates.teacher)
    plain = estimate_training(config, replace(rates, teacher=None))
    assert found.teaching == alone.training[1]
    assert found.training == pytest.approx([a + b for a, b in zip(alone.training, plain.training, strict=True)])
