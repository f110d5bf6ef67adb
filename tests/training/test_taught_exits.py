"""Exits that learn a teacher's answers: to the very views that they see, once for all trainings, and resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import COMMAND_LINE, run_in_two
from teaching import count_images, taught, train_teacher
from tiny import tiny_config
from tiny_training import same_history, stop_after

from dmpo_explore.config import Config
from dmpo_explore.data.image_set import ImageSet
from dmpo_explore.runs.run import Run
from dmpo_explore.runs.store import load_run
from dmpo_explore.runs.torch_model import read_weights
from dmpo_explore.training import teacher as taught_exits
from dmpo_explore.training.augmented_views import make_views
from dmpo_explore.training.kinds import TRAINING_PARTS, PartKind
from dmpo_explore.training.losses import cross_entropies, divergence
from dmpo_explore.training.part_options import TeacherOptions
from dmpo_explore.training.parts import Batch, TrainingPart
from dmpo_explore.training.teacher import TaughtExits, answers_to, open_teacher
from dmpo_explore.training.train import train, train_epochs


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
    part.context, part.shares = _context(), torch.tensor([0.25, 1.0])
    batch = Batch(torch.zeros(5, 3, 4, 4), labels, labelled=labels >= 0, notes={"teacher": answers})
    found = part.label_losses(batch, outputs) + part.losses(batch, outputs)
    wanted = (answers / T).softmax(-1)[:, None]
    divergences = T**2 * (wanted * (wanted.log() - (outputs / T).log_softmax(-1))).sum(-1)
    hard = torch.cat([cross_entropies(outputs[:4], labels[:4]), torch.zeros(1, 2)])
    torch.testing.assert_close(found, torch.tensor([0.75, 0.0]) * hard + torch.tensor([0.25, 1.0]) * divergences)
    torch.testing.assert_close(divergence(outputs, outputs, T), torch.zeros(5, 2), atol=1e-5, rtol=0)


def _context() -> Any:
    from unittest.mock import Mock

    return Mock(config=tiny_config().training)


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
        run = train(config, name, resume=True, device="cpu")
        same_history(run, whole)
        ours, theirs = read_weights(run.path), read_weights(whole.path)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


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
        monkeypatch.setattr(taught_exits, rule, 0.1)
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
