"""A teacher that a training makes for itself, first: what it is, that it goes on after a kill, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from own_images_folder import fill, paint
from tiny import tiny_config
from tiny_training import same_history

from dmpo_explore import Config, DataConfig, list_runs, load_run
from dmpo_explore.jobs.estimate import Rates, estimate_training, measure_rates
from dmpo_explore.training.checkpoint import held_run
from dmpo_explore.training.part_options import own_teacher
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
    ("training", "how", "match"),
    [
        ({"teacher_exit": 2}, {}, "teacher_exit=2: an own teacher has one exit"),
        ({"teacher_share": "0.5,0.9,0.9"}, {}, "3 shares for 2 exits"),
        ({"model": {"exits": (99,)}}, {}, "99"),
        ({"teacher_size": 3}, {}, "^teacher_size=3: image_size=3"),
        ({"schedule": "uniform", "schedule_rate": "full"}, {}, "schedule='uniform' has none in 2 epochs"),
        ({"cutout": "attentive", "model": {"backbone": "resnet10t"}}, {}, "cutout='attentive' needs a ViT"),
        ({"train_size": 10, "model": {"earlier_exits": True}}, {}, "class '0' has 1 image; it needs at least 2"),
        ({}, {"trackers": ("tensorbored",)}, "unknown tracker 'tensorbored'"),
    ],
)
def test_what_cannot_be_is_said_before_it_is_trained(
    runs: Path, training: dict[str, Any], how: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValueError, match=match) as error:
        next(train_epochs(own(**training), "mine", device="cpu", on_teacher=never, **how))
    assert "\n" not in str(error.value) and not [*runs.glob("mine*")]


def test_a_run_of_another_config_needs_no_teacher_to_be_compared() -> None:
    assert "training.teacher" in other_options(own(), load_run("fashion"))


@pytest.mark.slow
def test_it_is_kept_for_the_images_that_it_was_trained_on_alone(tmp_path: Path) -> None:
    def stop(*_: Any) -> None:
        raise InterruptedError

    config = replace(own(teacher_epochs=1), data=DataConfig(str(fill(tmp_path / "photos"))))
    train(own_teacher(config), "mine-teacher", device="cpu")
    with pytest.raises(InterruptedError):
        next(train_epochs(config, "mine", device="cpu", on_teacher=never, on_data=stop))
    paint(tmp_path / "photos" / "cat" / "more.png", 200)
    with pytest.raises(FileExistsError, match=r"run 'mine-teacher', the teacher, was trained on other images.*--force"):
        next(train_epochs(config, "mine", device="cpu", on_teacher=never))
    with pytest.raises(InterruptedError):
        next(train_epochs(config, "mine", device="cpu", force=True, on_teacher=stop))


def test_it_is_held_while_it_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmpo_explore.training.train.WORKERS_END", 0.0)
    with held_run("mine-teacher"), pytest.raises(BlockingIOError, match="another command trains run 'mine-teacher'"):
        next(train_epochs(own(), "mine", device="cpu", on_teacher=never))


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
