"""Exits that learn a teacher's answers: to the very views that they see, to unlabelled images too, and resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from calls import COMMAND_LINE, call, fails, run_in_two
from image_files import fill, paint
from tiny import tiny_config, tiny_options
from tiny_training import count_images, same_training, stop_after, taught, train_teacher

from dmpo_explore import Config, DataConfig, Run, load_run, train, train_epochs
from dmpo_explore.data.image_set import ImageSet
from dmpo_explore.jobs.estimate import measure_rates
from dmpo_explore.runs.run_data import move_data
from dmpo_explore.runs.torch_model import stack_inputs
from dmpo_explore.training import TRAINING_PARTS, Batch, PartKind, TrainingPart
from dmpo_explore.training import teacher as teacher_module
from dmpo_explore.training.augmented_views import make_views
from dmpo_explore.training.fitted_earlier_exits import FittedEarlierExits
from dmpo_explore.training.losses import cross_entropies, divergence
from dmpo_explore.training.part_options import TeacherOptions
from dmpo_explore.training.teacher import TaughtExits, answers_to, open_teacher


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(autouse=True)
def cache(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "teacher-answers"


def noted(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """The batches of the trainings that follow."""
    seen: list[Batch] = []
    views = TaughtExits.views

    def note(self: TaughtExits, batch: Batch) -> Batch:
        seen.append(views(self, batch))
        return seen[-1]

    monkeypatch.setattr(TaughtExits, "views", note)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("augment", ["none", "light", "strong"])
def test_the_student_sees_the_very_view_that_the_teacher_answered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, augment: str
) -> None:
    """A teacher of the same size gives the kept answers for the student's own images, mixed ones too."""
    same_size = train_teacher(tmp_path, tiny_config(epochs=1))
    seen, model = noted(monkeypatch), same_size.model("cpu")
    train(taught(same_size, augment=augment, epochs=2, workers=1), "student", device="cpu")
    assert len(seen) == 10
    for batch in seen:
        with torch.no_grad():
            expected = model(batch.images)[:, -1]
        torch.testing.assert_close(batch.notes["teacher"], expected, rtol=3e-3, atol=3e-3)
    single = torch.cat([batch.labels >= 0 if batch.labelled is None else batch.labelled for batch in seen])
    assert bool(single.all()) == (augment != "strong")


@pytest.mark.slow
def test_the_teacher_answers_each_view_once_for_all_trainings(
    teacher: Run, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, told = count_images(monkeypatch), list[tuple[int, int]]()
    train(taught(teacher, epochs=2), "one", device="cpu", on_answers=lambda *at: told.append(at))
    assert sum(answered) == 2 * 100  # no epoch sees the third view
    assert told == [(0, 200), (100, 200), (100, 200), (200, 200)]
    train(taught(teacher, epochs=4, seed=1, tuning_lr=1e-3), "two", device="cpu")
    assert sum(answered) == 3 * 100
    train(taught(teacher, epochs=7, seed=2), "three", device="cpu")
    assert sum(answered) == 3 * 100  # its epochs ask for nothing
    assert len([*cache.iterdir()]) == 1 and len([*cache.rglob("view-*.npy")]) == 3
    train(taught(teacher, augment="light"), "four", device="cpu")
    assert sum(answered) == 6 * 100 and len([*cache.iterdir()]) == 2


def test_the_loss_has_a_share_of_labels_and_one_of_answers() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, answers = torch.randn(5, 2, 4, generator=generator), torch.randn(5, 4, generator=generator)
    labels, T = torch.tensor([0, 1, 2, 3, -1]), 2.0
    part = TaughtExits(None, int, None, TeacherOptions("big", teacher_share="0.25,1", teacher_temperature=T), "")  # type: ignore[arg-type]
    part.context, part.shares = Mock(config=tiny_config().training), torch.tensor([0.25, 1.0])
    batch = Batch(torch.zeros(5, 3, 4, 4), labels, labelled=labels >= 0, notes={"teacher": answers})
    found = part.label_losses(batch, outputs) + part.losses(batch, outputs)
    wanted = (answers / T).softmax(-1)[:, None]
    divergences = T**2 * (wanted * (wanted.log() - (outputs / T).log_softmax(-1))).sum(-1)
    hard = torch.cat([cross_entropies(outputs[:4], labels[:4]), torch.zeros(1, 2)])
    torch.testing.assert_close(found, torch.tensor([0.75, 0.0]) * hard + torch.tensor([0.25, 1.0]) * divergences)
    torch.testing.assert_close(divergence(outputs, outputs, T), torch.zeros(5, 2), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_exits_learn_the_answers_and_not_the_labels(teacher: Run) -> None:
    """With a share of 1 they come nearer to the teacher than those that learn the labels alone."""

    def distance(run: Run) -> float:
        with torch.no_grad():
            answers = teacher.model("cpu")(teacher.inputs("val"))[:, -1]
            own = run.model("cpu")(run.inputs("val"))
        return float(divergence(own, answers[:, None].expand_as(own)).mean())

    runs = {
        share: train(taught(teacher, augment="none", teacher_share=share, epochs=5), f"share-{share}", device="cpu")
        for share in ("0", "1")
    }
    assert distance(runs["1"]) < 0.8 * distance(runs["0"])


CHANGES: list[dict[str, Any]] = [
    {"coupling": "sigmoid", "schedule": "linear-by-depth", "schedule_rate": "full", "teacher_share": "0.5,0.9"},
    {"distill": 0.5, "class_balance": "weights", "augment": "light", "teacher_temperature": 2.0, "precision": "bf16"},
    {"class_balance": "sampler", "schedule": "mixed", "label_smoothing": 0.1, "accumulation": 2},
    {"schedule": "learned", "self_regularise": 0.3, "cutout": "random"},
]


@pytest.mark.slow
@pytest.mark.parametrize("changes", CHANGES)
def test_a_resumed_run_is_bit_equal_with_kept_answers_and_without(
    teacher: Run, cache: Path, changes: dict[str, Any]
) -> None:
    config = taught(teacher, **changes)
    whole = train(config, "whole", device="cpu")
    assert Config.from_json(config.to_json()) == config and whole.config.plugins == ()
    for name, forget in (("kept", False), ("gone", True)):
        stop_after(2, config, name)
        if forget:
            shutil.rmtree(cache)
        torch.manual_seed(999)
        same_training(train(config, name, resume=True, device="cpu"), whole)


@pytest.mark.slow
def test_trained_longer_the_further_views_are_answered(teacher: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    train(taught(teacher, epochs=2), "run", device="cpu")
    answered = count_images(monkeypatch)
    longer = train(taught(teacher, epochs=4), "run", resume=True, device="cpu")
    assert len(longer.history()) == 4 and sum(answered) == 100


@pytest.mark.slow
def test_a_teacher_that_changed_is_refused_before_it_answers(
    teacher: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Run(shutil.copytree(teacher.path, tmp_path / "copy"))
    stop_after(1, taught(copy))
    other = train_teacher(tmp_path / "other", tiny_config(seed=1, model={"image_size": 48}))
    shutil.copy(other.path / "weights.safetensors", copy.path)
    answered = count_images(monkeypatch)
    with pytest.raises(ValueError, match="has other weights than when this training began; restore them, or start ag"):
        next(train_epochs(taught(copy), "run", resume=True, device="cpu"))
    shutil.rmtree(copy.path)
    with pytest.raises(FileNotFoundError, match="teacher .* is not a run folder"):
        next(train_epochs(taught(copy), "run", resume=True, device="cpu"))
    assert not answered and len(load_run("run").history()) == 1


@pytest.mark.slow
def test_kept_answers_depend_on_the_rules_that_draw_a_view(teacher: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    images, config = teacher.split_images("train"), taught(teacher)
    found = open_teacher(config.training.part(TeacherOptions))
    how = (found, teacher.preprocess(), config.training, make_views(config, len(images)))
    folders = {answers_to([images], *how, kept=True)[0].folder}
    for rule in ("AREA", "STRENGTHS", "MIXED"):
        monkeypatch.setattr(teacher_module, rule, 0.1)
        folders.add(answers_to([images], *how, kept=True)[0].folder)
    assert len(folders) == 4


def test_a_part_that_adds_images_is_refused_beside_a_teacher(teacher: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class More(TrainingPart):
        def sources(self) -> Sequence[ImageSet]:
            return (teacher.split_images("train"),)

    monkeypatch.setitem(TRAINING_PARTS, "more", PartKind(lambda setup: More()))
    answered = count_images(monkeypatch)
    with pytest.raises(ValueError, match="training part 'More' adds images that 'teacher' does not know; leave one"):
        next(train_epochs(taught(teacher), "run", device="cpu"))
    assert not answered


@pytest.mark.slow
def test_a_run_names_its_teacher(teacher: Run, runs: Path) -> None:
    run = train(taught(teacher, epochs=1), "student", device="cpu")
    assert f"Taught by run `{teacher.path}` (its last exit): 1 view an image, share of the loss 0.9" in run.card()
    shutil.copytree(teacher.path, runs / "big")
    again = train(taught(teacher, epochs=1, teacher="big", teacher_exit=1), "again", device="cpu")
    assert again.config.get("training.teacher") == "big" and "Taught by run `big` (exit 1)" in again.card()


@pytest.mark.slow
def test_two_processes_do_what_one_does(teacher: Run, runs: Path, cache: Path, tmp_path: Path) -> None:
    more: dict[str, Any] = {"teacher": "own", "teacher_epochs": 1, "model": {"predictor": "linear"}}
    config = taught(teacher, epochs=2, **more)
    (tmp_path / "config.json").write_text(config.to_json())
    words = ["train", "--config", tmp_path / "config.json", "--name", "two", "--device", "cpu", "--json"]
    said = run_in_two(COMMAND_LINE, tmp_path, *words)
    assert json.loads(said)["run"] == "two" and len([*cache.rglob("view-*.npy")]) == 2
    shutil.rmtree(cache)
    one = train(config.updated({"training.teacher": "two-teacher"}), "one", device="cpu").history()
    assert len(load_run("two-teacher").history()) == 1
    assert load_run("two").history()["loss"].tolist() == pytest.approx(one["loss"].tolist(), rel=1e-4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images of two classes, 25 more without one, and a teacher of the former."""
    folder = tmp_path_factory.mktemp("images")
    fill(folder / "own")
    for i in range(25):
        paint(folder / "more" / f"{i}.png", 200 + i)
    train_teacher(folder, replace(tiny_config(batch_size=16, epochs=1), data=DataConfig(str(folder / "own"))))
    return folder


def config(folder: Path, **changes: Any) -> Config:
    data = DataConfig(str(folder / "own"), unlabelled=str(folder / "more"))
    return replace(taught(Run(folder / "big"), batch_size=16, **changes), data=data)


@pytest.mark.slow
def test_they_are_answered_and_have_no_label(folder: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = noted(monkeypatch)
    run = train(config(folder, augment="light", epochs=1), "run", device="cpu")
    rows, labels, answers = (
        torch.cat(parts) for parts in zip(*((b.indices, b.labels, b.notes["teacher"]) for b in seen), strict=True)
    )
    assert sorted(rows.tolist()) == [*range(57)] and torch.equal(labels == -1, rows >= 32)
    assert answers.shape == (57, 2) and np.isfinite(run.history()["loss"]).all()
    assert run.manifest is not None and len(run.manifest.rows("unlabelled")) == 25
    assert f"32 training images of {folder / 'own'} and 25 unlabelled ones, 1 epoch, " in run.card()


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"model": {"earlier_exits": True}}], ids=["plain", "earlier exits"])
def test_a_resumed_run_is_bit_equal(folder: Path, runs: Path, more: dict[str, Any]) -> None:
    whole = train(config(folder, **more), "whole", device="cpu")
    stop_after(1, config(folder, **more))
    same_training(train(config(folder, **more), "run", resume=True, device="cpu"), whole)


@pytest.mark.slow
def test_those_held_out_for_earlier_exits_are_unlabelled_and_have_the_teachers_classes(
    folder: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[ImageSet] = []
    init = FittedEarlierExits.__init__

    def note(self: FittedEarlierExits, model: Any, images: ImageSet, precision: str) -> None:
        held.append(images)
        init(self, model, images, precision)

    monkeypatch.setattr(FittedEarlierExits, "__init__", note)
    seen = noted(monkeypatch)
    run = train(config(folder, epochs=1, model={"earlier_exits": True}), "run", device="cpu")
    assert "32 training images" in run.card() and "and 22 unlabelled ones" in run.card()
    (images,) = held
    rows = torch.cat([batch.indices for batch in seen if batch.indices is not None])
    assert len(images) == 3 and images.split == "unlabelled" and len(rows) == 32 + 25 - 3  # a tenth of the labelled
    teacher = Run(folder / "big")
    with torch.no_grad():
        found = teacher.model("cpu")(stack_inputs(images, teacher.preprocess()))[:, -1].argmax(-1)
    assert images.labels.tolist() == found.tolist()


@pytest.mark.slow
def test_where_they_are_few_labelled_ones_are_held_out(folder: Path, runs: Path, tmp_path: Path) -> None:
    for i in range(2):
        paint(tmp_path / "few" / f"{i}.png", 200 + i)
    one = config(folder, epochs=1, model={"earlier_exits": True})
    run = train(one.updated({"data.unlabelled": str(tmp_path / "few")}), "run", device="cpu")
    assert "29 training images" in run.card() and "and 2 unlabelled ones" in run.card()


@pytest.mark.slow
def test_without_a_teacher_no_step_is_made_and_held_out_images_are_left_out(
    folder: Path, runs: Path, tmp_path: Path
) -> None:
    plain = replace(tiny_config(), data=config(folder).data)
    with pytest.raises(ValueError, match="unlabelled images are answered by a teacher: give its run, --teacher RUN"):
        next(train_epochs(plain, "run", device="cpu"))
    images = train(config(folder, epochs=1), "first", device="cpu").split_images("test")
    shutil.copytree(folder / "more", tmp_path / "more")
    shutil.copy(images.pixels.paths[0], tmp_path / "more" / "secret.png")  # type: ignore[attr-defined]
    assert not [*runs.glob("run*")]
    leaking = config(folder, epochs=1).updated({"data.unlabelled": str(tmp_path / "more")})
    with pytest.warns(UserWarning, match=r"1 image of unlabelled is a copy of .* left out \(first secret\.png .*test"):
        run = train(leaking, "run", device="cpu")
    assert run.manifest is not None and "secret.png" not in {*run.manifest.rows("unlabelled")["path"]}


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"model": {"earlier_exits": True}}], ids=["plain", "earlier exits"])
def test_an_estimate_counts_them_and_the_teachers_answers_and_leaves_no_file(
    folder: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "cache"))
    rates = measure_rates(config(folder, **more), "cpu")
    assert rates.unlabelled == 25 and rates.train == 32 and rates.answering > 0 and rates.start > 0
    assert not (tmp_path / "cache").exists() and not runs.exists()


@pytest.mark.slow
def test_of_few_labelled_images_one_is_held_out(folder: Path, runs: Path, tmp_path: Path) -> None:
    for part, first, count in (("train", 0, 4), ("val", 300, 2), ("test", 320, 2)):
        fill(tmp_path / "few" / part, first=first, count=count)
    data = DataConfig(str(tmp_path / "few"))
    teacher = train_teacher(tmp_path, replace(tiny_config(batch_size=4, epochs=1), data=data))
    few = taught(teacher, batch_size=4, epochs=1, model={"earlier_exits": True})
    run = train(replace(few, data=replace(data, unlabelled=str(folder / "more"))), "run", device="cpu")
    assert "8 training images" in run.card() and "and 24 unlabelled ones" in run.card()


@pytest.mark.slow
def test_a_teacher_that_must_not_teach_answers_no_held_out_image(
    folder: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a new training, and of a resumed one whose teacher has other weights."""
    copy = shutil.copytree(folder / "big", tmp_path / "big")
    reading = config(folder, teacher=str(copy), model={"earlier_exits": True})
    stop_after(1, reading)
    other = train_teacher(tmp_path / "other", replace(load_run(str(copy)).config).updated({"training.seed": 1}))
    shutil.copy(other.path / "weights.safetensors", copy)
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "cache"))
    answered = count_images(monkeypatch)
    with pytest.raises(ValueError, match="has other weights than when this training began"):
        next(train_epochs(reading, "run", resume=True, device="cpu"))
    seeded = replace(reading, data=replace(reading.data, seed=1))
    with pytest.raises(ValueError, match="was trained on images that this run holds out"):
        next(train_epochs(seeded, "new", device="cpu"))
    assert not answered


@pytest.mark.slow
def test_moved_ones_are_found_again_and_changed_ones_before_the_first_step(
    folder: Path, runs: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / "more", tmp_path / "old")
    one = config(folder, epochs=2).updated({"data.unlabelled": str(tmp_path / "old")})
    stop_after(1, one)
    (tmp_path / "old").rename(tmp_path / "new")
    cure = "if they were moved: dmpo-explore train --resume run --unlabelled FOLDER"
    with pytest.raises(FileNotFoundError, match=f"no folder .*old, where the images of run 'run' lay; {cure}"):
        next(train_epochs(one, "run", resume=True, device="cpu"))
    resume = ("train", "--resume", "run", "--device", "cpu", "--unlabelled", str(tmp_path / "new"))
    path = tmp_path / "new" / "3.png"
    before = path.read_bytes()
    for changed in (before + b" ", before[:-1] + bytes([before[-1] ^ 1])):  # the latter of the same size
        path.write_bytes(changed)
        assert "1 changed (3.png)" in fails(*resume)
    path.write_bytes(before)
    call(*resume)
    run = load_run("run")
    assert run.config.data.unlabelled == str(tmp_path / "new") and len(run.history()) == 2
    shutil.rmtree(tmp_path / "new")  # a record needs them no more
    shutil.copytree(folder / "own", tmp_path / "own")
    assert move_data(run, str(tmp_path / "own")).config.data.name == str(tmp_path / "own")
    stop_after(1, tiny_config(), "plain")
    with pytest.raises(ValueError, match="run 'plain' was trained without unlabelled images; leave out --unlabelled"):
        move_data(load_run("plain"), None, unlabelled=str(tmp_path / "new"))


@pytest.mark.slow
def test_beside_a_known_data_set_a_reader_hears_of_them(runs: Path, tmp_path: Path) -> None:
    teacher = train_teacher(tmp_path, tiny_config(40, epochs=1))
    paint(tmp_path / "more" / "good.png", 1)
    (tmp_path / "more" / "bad.png").write_bytes(b"no image")
    options = tiny_options(train_size=40, epochs=1, teacher=teacher.path, unlabelled=tmp_path / "more")
    told = call("train", *options, "--skip-broken", "--device", "cpu").stderr
    assert "data: 40 train, 143 val, 1 unlabelled, " in told
    assert "unlabelled: 1 image is left out as broken or too large: bad.png" in told
