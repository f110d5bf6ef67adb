"""A teacher: which runs may teach, what they answer, that each answer is kept, and one that a training makes itself."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from image_files import fill, paint
from tiny import tiny_config
from tiny_training import SIZE, count_images, same_history, stop_after, taught, train_teacher

from dmpo_explore import DMPO, Config, DataConfig, Run, list_runs, load_run, train, train_epochs
from dmpo_explore.data import Manifest, make_manifest, open_data
from dmpo_explore.inference.torch_recording import Processes
from dmpo_explore.jobs.estimate import Rates, estimate_training, measure_rates
from dmpo_explore.training.checkpoint import held_run
from dmpo_explore.training.part_options import TeacherOptions, own_teacher
from dmpo_explore.training.teacher import Answers, KeptAnswers, Teacher, open_teacher, require_unseen
from dmpo_explore.training.train import other_options

pytestmark = pytest.mark.usefixtures("runs", "cache")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_teacher(tmp_path_factory.mktemp("teacher"))


def refused(config: Config, match: str, kind: type[Exception] = ValueError) -> None:
    """One line, before the first step."""
    steps: list[int] = []
    with pytest.raises(kind, match=match) as error:
        next(train_epochs(config, "student", device="cpu", on_step=lambda *step: steps.append(step[0])))
    assert not steps and "\n" not in str(error.value)


def test_its_last_exit_answers_or_another_one(teacher: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, stages = teacher.inputs("train", slice(20)), list[int]()
    with torch.no_grad():
        expected = teacher.model("cpu")(inputs)
    step = DMPO.step
    monkeypatch.setattr(DMPO, "step", lambda self, k, *rest: (stages.append(k), step(self, k, *rest))[1])
    for exit_, options in enumerate(({"teacher_exit": 1}, {})):
        found = open_teacher(TeacherOptions(str(teacher.path), **options))
        done = list[int]()
        answers = found.answer(found.model("cpu"), [(inputs[:15], 0), (inputs[15:], 0)], "no", done.append)
        assert answers.dtype == "float16" and done == [0, 15, 20]
        torch.testing.assert_close(torch.from_numpy(answers).float(), expected[:, exit_], rtol=2e-3, atol=2e-3)
    assert stages == [0, 0, 0, 1, 0, 1]  # nothing runs behind the exit that answers


@pytest.mark.slow
def test_one_whose_exits_read_earlier_answers_gives_their_sum(tmp_path: Path) -> None:
    reading = train_teacher(tmp_path, tiny_config(model={"earlier_exits": True}))
    inputs, found = reading.inputs("train", slice(8)), open_teacher(TeacherOptions(str(reading.path)))
    with torch.no_grad():
        expected = reading.model("cpu")(inputs)[:, -1]
    answers = torch.from_numpy(found.answer(found.model("cpu"), [(inputs, 0)], "no", lambda done: None)).float()
    torch.testing.assert_close(answers, expected, rtol=2e-3, atol=2e-3)


def test_it_sees_its_own_size_resized_as_the_students(teacher: Run) -> None:
    found = open_teacher(TeacherOptions(str(teacher.path)))
    student = replace(load_run("demo").preprocess(), resize="crop", crop_pct=0.9)
    seen = found.preprocess(student)
    assert (seen.image_size, seen.resize, seen.crop_pct) == (
        SIZE,
        "crop",
        0.9,
    ) and seen.mean == teacher.preprocess().mean


def test_answers_beyond_float16_and_weights_that_change_are_refused(teacher: Run, tmp_path: Path) -> None:
    copy = shutil.copytree(teacher.path, tmp_path / "copy")
    found = open_teacher(TeacherOptions(str(copy)))
    model = found.model("cpu")
    with torch.no_grad():
        model.stages[1].scale.fill_(1e9)
    with pytest.raises(ValueError, match="teacher 'copy' gives answers that are not finite, or beyond float16"):
        found.answer(model, [(teacher.inputs("train", slice(3)), 0)], "no", print)
    (copy / "weights.safetensors").write_bytes((copy / "weights.safetensors").read_bytes()[:-8] + bytes(8))
    with pytest.raises(ValueError, match="teacher 'copy': its weights were replaced while it was used; start again"):
        found.model("cpu")


# -- bad input --


def half_trained(teacher: Run, folder: Path) -> Config:
    stop_after(1, tiny_config(epochs=3), "half")
    return taught(teacher, teacher="half")


def without_weights(teacher: Run, folder: Path) -> Config:
    shutil.copytree(teacher.path, folder / "bare")
    (folder / "bare" / "weights.safetensors").unlink()
    return taught(teacher, teacher=str(folder / "bare"))


def on_digits(**data: Any) -> Callable[[Run, Path], Config]:
    return lambda teacher, _: replace(taught(teacher), data=DataConfig("digits", train_size=100, **data))


HELD_OUT = r"this run holds out: \d+ of calibration \(image \d+"


@pytest.mark.parametrize(
    ("student", "kind", "message"),
    [
        (lambda by, _: taught(by, teacher="bigg"), ValueError, "teacher 'bigg': unknown run 'bigg'"),
        (lambda by, folder: taught(by, teacher=str(folder)), FileNotFoundError, "teacher .* is not a run folder"),
        (half_trained, ValueError, "teacher 'half' has 1 of 3 epochs: it is still training, or was stopped"),
        (without_weights, FileNotFoundError, "run 'bare' has no weights"),
        (lambda by, _: taught(by, teacher_exit=3), ValueError, "teacher_exit=3: teacher 'big' has 2 exits"),
        (
            lambda by, _: tiny_config(teacher_share="0.5"),
            ValueError,
            "teacher options are set but no teacher: add --teacher RUN",
        ),
        (
            lambda by, _: taught(by, teacher_share="0.5,0.6,0.7"),
            ValueError,
            "teacher_share='0.5,0.6,0.7' has 3 shares for 2 exits",
        ),
        (on_digits(calibration=True), ValueError, f"teacher 'big' was trained on images that {HELD_OUT}"),
        (on_digits(seed=1), ValueError, HELD_OUT),  # a calibration split that can be made afterwards
        (
            lambda by, _: taught(by, schedule="uniform", schedule_rate="full"),
            ValueError,
            "schedule_rate='full' is for a second phase",
        ),
    ],
)
def test_what_cannot_teach_is_refused_before_it_answers(
    teacher: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    student: Callable[[Run, Path], Config], kind: type[Exception], message: str,
) -> None:  # fmt: skip
    config, answered = student(teacher, tmp_path), count_images(monkeypatch)
    refused(config, message, kind)
    assert not answered


@pytest.mark.parametrize("shares", ["", "a", "1.5", "0.5,-0.1", "nan"])
def test_shares_are_numbers_from_0_to_1(shares: str) -> None:
    with pytest.raises(ValueError, match="must be numbers in \\[0, 1\\]"):
        TeacherOptions("big", teacher_share=shares)


@pytest.mark.slow
def test_other_classes_or_another_order(teacher: Run, tmp_path: Path) -> None:
    fill(tmp_path / "animals")
    other = replace(taught(teacher), data=DataConfig(str(tmp_path / "animals")))
    refused(other, "teacher 'big' has 10 classes and this run 2: only the teacher has 0, 1, 2 and 7 more; only this "
                   "run has cat, dog; its answers need the same classes in the same order")  # fmt: skip
    turned = tmp_path / "turned.json"
    turned.write_text(json.dumps({"cat": "dog", "dog": "cat"}))
    own = tiny_config(batch_size=16)
    animals = train_teacher(tmp_path, replace(own, data=DataConfig(str(tmp_path / "animals"))))
    data = DataConfig(str(tmp_path / "animals"), class_names=str(turned))
    refused(replace(taught(animals), data=data), "2 classes and this run 2: the same ones in another order")


@pytest.mark.slow
def test_one_that_was_trained_on_held_out_files(tmp_path: Path, runs: Path) -> None:
    fill(tmp_path / "old")
    config = tiny_config(batch_size=16)
    old = train_teacher(tmp_path, replace(config, data=DataConfig(str(tmp_path / "old"))))
    manifest = old.manifest
    assert manifest is not None
    new = tmp_path / "new"
    fill(new / "train", first=100)
    fill(new / "val", first=150, count=4)
    fill(new / "test", first=160, count=4)
    cat = next(path for path in manifest.rows("train")["path"] if path.startswith("cat"))
    shutil.copy(tmp_path / "old" / cat, new / "val" / "cat" / "again.png")
    student = replace(taught(old, batch_size=16), data=DataConfig(str(new)))
    refused(student, r"trained on images that this run holds out: 1 of val \(val/cat/again\.png\); take a teacher")
    (new / "val" / "cat" / "again.png").rename(new / "train" / "cat" / "again.png")
    assert next(train_epochs(student, "student", device="cpu")).epoch == 1
    (old.path / "manifest.csv").unlink()
    shutil.rmtree(runs / "student")
    refused(student, "teacher 'big' has no manifest")


def trained_on(data: DataConfig, manifest: Manifest | None = None) -> Teacher:
    """A teacher of which nothing but its images is known."""
    manifest = manifest or make_manifest(data)
    run: Any = SimpleNamespace(name="big", config=Config(data), data=open_data(data), manifest=manifest)
    return Teacher(run, 0, "")


@pytest.mark.parametrize("names", [("grocery", "grocery-shops"), ("grocery-shops", "grocery")])
def test_two_data_sets_of_the_same_photographs(names: tuple[str, str]) -> None:
    of_teacher, data = map(DataConfig, names)
    require_unseen(trained_on(data), data, make_manifest(data))
    with pytest.raises(ValueError, match=r"this run holds out: \d+ of val .*, [\d,]+ of test \(image"):
        require_unseen(trained_on(of_teacher), data, make_manifest(data))


def test_images_that_chose_its_epoch_are_not_held_out(tmp_path: Path) -> None:
    """Teacher and student have other images to learn; one that was in the teacher's val comes back."""
    for name, start in (("old", 0), ("new", 200)):
        for part, more, count in (("train", 0, 10), ("val", 50, 4), ("calibration", 60, 4), ("test", 80, 4)):
            fill(tmp_path / name / part, first=start + more, count=count)
    old, new = (DataConfig(str(tmp_path / name)) for name in ("old", "new"))
    secret = tmp_path / "old" / make_manifest(old).rows("val")["path"].iloc[0]
    require_unseen(trained_on(old), new, make_manifest(new))
    copy = tmp_path / "new" / "calibration" / "cat" / "again.png"
    shutil.copy(secret, copy)
    with pytest.raises(ValueError, match=r"epoch of teacher 'big' was chosen on .* 1 of calibration \(.*again\.png\)"):
        require_unseen(trained_on(old), new, make_manifest(new))
    manifest = make_manifest(new)
    also = manifest.rows("calibration").assign(split="val")  # the run's own epoch is chosen on it as well
    require_unseen(trained_on(old), new, replace(manifest, frame=pd.concat([manifest.frame, also])))


def test_unlabelled_files_of_a_teacher_on_arrays(tmp_path: Path) -> None:
    data, digits = DataConfig(str(fill(tmp_path / "own"))), DataConfig("digits")
    own = make_manifest(data)
    unlabelled = own.rows("test").head(1).assign(split="unlabelled", label=-1)
    require_unseen(trained_on(digits), data, own)
    with pytest.raises(ValueError, match=r"this run holds out: 1 of test \("):
        require_unseen(trained_on(digits, replace(make_manifest(digits), frame=unlabelled)), data, own)


@pytest.mark.slow
def test_what_a_teachers_teacher_was_trained_on(tmp_path: Path, runs: Path) -> None:
    """The images of the first are in no split of the second, and in val of the third."""
    first, config = fill(tmp_path / "first"), tiny_config(batch_size=16, epochs=1)
    big = train_teacher(tmp_path, replace(config, data=DataConfig(str(first))))
    for name, start in (("second", 100), ("third", 300)):
        for part, more, count in (("train", 0, 10), ("val", 50, 4), ("test", 80, 4)):
            fill(tmp_path / name / part, first=start + more, count=count)
    how = {"batch_size": 16, "epochs": 1}
    mid = train(replace(taught(big, **how), data=DataConfig(str(tmp_path / "second"))), "mid", device="cpu")
    assert big.manifest is not None
    shutil.rmtree(big.path)
    student = replace(taught(mid, **how), data=DataConfig(str(tmp_path / "third")))
    assert next(train_epochs(student, "last", device="cpu")).run
    shutil.rmtree(runs / "last")
    shutil.copy(first / big.manifest.rows("train")["path"].iloc[0], tmp_path / "third" / "val" / "cat" / "again.png")
    refused(student, r"teacher 'mid' was trained on images that this run holds out: 1 of val \(val/cat/again\.png\)")


# -- before work is lost --


def test_a_run_does_not_take_its_teachers_place(teacher: Run, runs: Path) -> None:
    shutil.copytree(teacher.path, runs / "big")
    with pytest.raises(ValueError, match=r"run 'big' would replace its own teacher; give it another name \(--name\)"):
        next(train_epochs(taught(teacher, teacher="big"), "big", force=True, device="cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("data", [{"name": "own", "seed": 1}, {"name": "digits", "train_size": 400}])
def test_an_estimate_holds_out_what_the_training_does(
    data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "own")
    monkeypatch.chdir(tmp_path)
    config = replace(tiny_config(batch_size=16, epochs=1), data=DataConfig(**data))
    big = train_teacher(tmp_path, config)
    rates = measure_rates(replace(taught(big, batch_size=16), data=config.data), "cpu")
    assert rates.answering > 0


ALONE, FACTS = Processes("cpu"), {"weights": "abc", "images": "def"}


class Asked:
    """Answers a view with its number, and notes it."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.numbers: list[int] = []
        self.stop_at = stop_at

    def __call__(self, number: int, report: Callable[[int], None]) -> Answers:
        if number == self.stop_at:
            raise KeyboardInterrupt
        self.numbers.append(number)
        report(2)
        report(3)
        return np.full((3, 2), number, np.float16)


def kept(facts: Any = FACTS, shape: tuple[int, int] = (3, 2), **how: Any) -> KeptAnswers:
    return KeptAnswers(facts, shape, **how)


def test_each_view_is_answered_once_with_its_progress() -> None:
    first, told = Asked(), list[tuple[int, int]]()
    kept().complete([0, 1], first, ALONE, lambda done, total: told.append((done, total)))
    assert first.numbers == [0, 1] and told == [(2, 6), (3, 6), (5, 6), (6, 6)]
    later, found = Asked(), kept()
    found.complete([0, 1, 4], later, ALONE)
    assert later.numbers == [4]  # the others are there
    assert [found.view(number)[0, 0] for number in (0, 1, 4)] == [0, 1, 4] and found.view(4).dtype == np.float16


def test_a_kill_loses_the_present_view_alone(cache: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        kept().complete([0, 1, 2], Asked(stop_at=1), ALONE)
    assert sorted(path.name[:9] for path in kept().folder.iterdir()) == ["facts.jso", "view-000-"]
    rest = Asked()
    kept().complete([0, 1, 2], rest, ALONE)
    assert rest.numbers == [1, 2] and kept().folder.parent == cache / "teacher-answers"


def test_a_damaged_view_is_answered_again_and_a_removed_one_is_named() -> None:
    kept().complete([0, 1, 2], Asked(), ALONE)
    first, second, third = sorted(kept().folder.glob("view-*.npy"))
    first.write_bytes(b"no array")
    np.save(second, np.zeros((9, 9), np.float16))
    third.write_bytes(third.read_bytes()[:-1] + b"\x7c")  # the last number is infinite
    again = Asked()
    kept().complete([0, 1, 2], again, ALONE)
    assert again.numbers == [0, 1, 2] and kept().view(2)[2, 1] == 2
    second.unlink()
    with pytest.raises(FileNotFoundError, match="view 1 in .* was removed or damaged while it was used; resume"):
        kept().view(1)


@pytest.mark.parametrize("facts", [FACTS | {"weights": "abd"}, FACTS | {"images": "deg"}, {}])
def test_what_depends_on_something_else_has_another_place(facts: dict[str, str]) -> None:
    assert kept(facts).folder != kept().folder == kept(dict(reversed(FACTS.items()))).folder
    assert kept(shape=(4, 2)).folder != kept().folder


def test_processes_share_the_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Processes, "wait", lambda self: None)
    one = Asked()
    kept().complete([0, 1, 2], one, Processes("cpu", 1, 2))
    assert one.numbers == [1, 0, 2]  # its own, then those that no other process has made


def test_in_memory_no_file_is_written(cache: Path) -> None:
    found = kept(kept=False)
    found.complete([0, 1], Asked(), ALONE)
    assert found.view(1)[0, 0] == 1 and not cache.exists()


def test_no_room_is_said_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Namespace(free=10))
    asked = Asked()
    with pytest.raises(OSError, match="what a teacher answered needs about .* GB and 1e-08 GB are free; make room"):
        kept().complete([0, 1], asked, ALONE)
    assert asked.numbers == []


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


@pytest.mark.slow
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
