"""A training with unlabelled images: the teacher alone answers them, and they may be what is held out."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calls import call, fails
from own_images_folder import fill, paint
from teaching import count_images, taught, train_teacher
from tiny import tiny_config, tiny_options
from tiny_training import same_history, stop_after

from dmpo_explore.config import Config, DataConfig
from dmpo_explore.data.image_set import ImageSet
from dmpo_explore.jobs.estimate import measure_rates
from dmpo_explore.runs.run import Run
from dmpo_explore.runs.run_data import move_data
from dmpo_explore.runs.store import load_run
from dmpo_explore.runs.torch_model import stack_inputs
from dmpo_explore.training.fitted_earlier_exits import FittedEarlierExits
from dmpo_explore.training.parts import Batch
from dmpo_explore.training.teacher import TaughtExits
from dmpo_explore.training.train import train, train_epochs


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


def batches(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    seen: list[Batch] = []
    views = TaughtExits.views
    monkeypatch.setattr(TaughtExits, "views", lambda self, batch: (seen.append(views(self, batch)), seen[-1])[1])
    return seen


def test_they_are_answered_and_have_no_label(folder: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = batches(monkeypatch)
    run = train(config(folder, augment="light", epochs=1), "run", device="cpu")
    rows, labels, answers = (
        torch.cat(parts) for parts in zip(*((b.indices, b.labels, b.notes["teacher"]) for b in seen), strict=True)
    )
    assert sorted(rows.tolist()) == [*range(57)] and torch.equal(labels == -1, rows >= 32)
    assert answers.shape == (57, 2) and np.isfinite(run.history()["loss"]).all()
    assert run.manifest is not None and len(run.manifest.unlabelled) == 25
    assert f"32 training images of {folder / 'own'} and 25 unlabelled ones, 1 epoch, " in run.card()


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"model": {"earlier_exits": True}}], ids=["plain", "earlier exits"])
def test_a_resumed_run_is_bit_equal(folder: Path, runs: Path, more: dict[str, Any]) -> None:
    whole = train(config(folder, **more), "whole", device="cpu")
    stop_after(1, config(folder, **more))
    same_history(train(config(folder, **more), "run", resume=True, device="cpu"), whole)


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
    seen = batches(monkeypatch)
    run = train(config(folder, epochs=1, model={"earlier_exits": True}), "run", device="cpu")
    assert "32 training images" in run.card() and "and 22 unlabelled ones" in run.card()
    (images,) = held
    rows = torch.cat([batch.indices for batch in seen if batch.indices is not None])
    assert len(images) == 3 and images.split == "unlabelled" and len(rows) == 32 + 25 - 3  # a tenth of the labelled
    teacher = Run(folder / "big")
    with torch.no_grad():
        found = teacher.model("cpu")(stack_inputs(images, teacher.preprocess()))[:, -1].argmax(-1)
    assert images.labels.tolist() == found.tolist()


def test_where_they_are_few_labelled_ones_are_held_out(folder: Path, runs: Path, tmp_path: Path) -> None:
    for i in range(2):
        paint(tmp_path / "few" / f"{i}.png", 200 + i)
    one = config(folder, epochs=1, model={"earlier_exits": True})
    run = train(replace(one, data=replace(one.data, unlabelled=str(tmp_path / "few"))), "run", device="cpu")
    assert "29 training images" in run.card() and "and 2 unlabelled ones" in run.card()


def test_without_a_teacher_or_with_held_out_images_no_step_is_made(folder: Path, runs: Path, tmp_path: Path) -> None:
    plain = replace(tiny_config(), data=config(folder).data)
    with pytest.raises(ValueError, match="unlabelled images are answered by a teacher: give its run, --teacher RUN"):
        next(train_epochs(plain, "run", device="cpu"))
    images = train(config(folder, epochs=1), "first", device="cpu").split_images("test")
    shutil.copytree(folder / "more", tmp_path / "more")
    shutil.copy(images.pixels.paths[0], tmp_path / "more" / "secret.png")  # type: ignore[attr-defined]
    leaking = config(folder)
    leaking = replace(leaking, data=replace(leaking.data, unlabelled=str(tmp_path / "more")))
    for config_ in (leaking, leaking.updated({"training.teacher": "own"})):
        with pytest.raises(
            ValueError, match=r"1 unlabelled image is in val, calibration or test too.*secret\.png = .*test"
        ):
            next(train_epochs(config_, "run", device="cpu"))
    assert not [*runs.glob("run*")]  # no teacher either


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
    teacher = train_teacher(
        tmp_path, replace(tiny_config(batch_size=4, epochs=1), data=DataConfig(str(tmp_path / "few")))
    )
    few = taught(teacher, batch_size=4, epochs=1, model={"earlier_exits": True})
    data = DataConfig(str(tmp_path / "few"), unlabelled=str(folder / "more"))
    run = train(replace(few, data=data), "run", device="cpu")
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
    one = config(folder, epochs=2)
    one = replace(one, data=replace(one.data, unlabelled=str(tmp_path / "old")))
    stop_after(1, one)
    (tmp_path / "old").rename(tmp_path / "new")
    cure = "if they were moved: dmpo-explore train --resume run --unlabelled FOLDER"
    with pytest.raises(FileNotFoundError, match=f"no folder .*old, where the images of run 'run' lay; {cure}"):
        next(train_epochs(one, "run", resume=True, device="cpu"))
    resume = ("train", "--resume", "run", "--device", "cpu", "--unlabelled", str(tmp_path / "new"))
    before = (tmp_path / "new" / "3.png").read_bytes()
    (tmp_path / "new" / "3.png").write_bytes(before + b" ")
    assert "1 changed (3.png)" in fails(*resume)
    (tmp_path / "new" / "3.png").write_bytes(before)
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
def test_changed_ones_stop_a_resumed_training_at_once(folder: Path, runs: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "more", tmp_path / "more")
    one = config(folder, epochs=2)
    one = replace(one, data=replace(one.data, unlabelled=str(tmp_path / "more")))
    stop_after(1, one)
    path, steps = tmp_path / "more" / "3.png", list[int]()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # the same size
    with pytest.raises(ValueError, match=r"more is not what run 'run' was trained on: 1 changed \(3\.png\)"):
        next(train_epochs(one, "run", resume=True, device="cpu", on_step=lambda *step: steps.append(1)))
    assert not steps


@pytest.mark.slow
def test_beside_a_known_data_set_a_reader_hears_of_them(runs: Path, tmp_path: Path) -> None:
    teacher = train_teacher(tmp_path, tiny_config(40, epochs=1))
    paint(tmp_path / "more" / "good.png", 1)
    (tmp_path / "more" / "bad.png").write_bytes(b"no image")
    options = tiny_options(train_size=40, epochs=1, teacher=teacher.path, unlabelled=tmp_path / "more")
    told = call("train", *options, "--skip-broken", "--device", "cpu").stderr
    assert "data: 40 train, 143 val, 1 unlabelled, " in told
    assert f"unlabelled: 1 image is left out as broken or too large: {tmp_path}/more/bad.png" in told
