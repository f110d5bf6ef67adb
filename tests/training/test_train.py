"""Whole trainings, tiny: what they report, what a run folder holds, and which epoch and images count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tiny import tiny_config
from tiny_training import CONFIG, FILES, files, same_history, stop_after

from dmpo_explore.data.image_set import ImageSet
from dmpo_explore.data.images import images_of
from dmpo_explore.data.torch_loaders import make_loader
from dmpo_explore.models.dmpo import DMPO, evaluating
from dmpo_explore.models.factory import build_model
from dmpo_explore.records.record import ExitRecord
from dmpo_explore.runs.run import Run
from dmpo_explore.runs.store import load_run
from dmpo_explore.runs.torch_model import read_weights
from dmpo_explore.training import loop as validator
from dmpo_explore.training.checkpoint import read_checkpoint
from dmpo_explore.training.loop import EpochResult
from dmpo_explore.training.schedules import loss_weights
from dmpo_explore.training.train import default_name, train, train_epochs
from dmpo_explore.utils.torch_tools import seeded

pytestmark = pytest.mark.usefixtures("runs")


def test_every_epoch_can_be_looked_at(runs: Path) -> None:
    seen: list[tuple[int, float]] = []
    results = list(
        train_epochs(
            tiny_config(),
            "run",
            device="cpu",
            on_epoch=lambda model, result: seen.append((result.epoch, float(model.stages[0].scale.detach()))),
        )
    )
    assert [epoch for epoch, _ in seen] == [result.epoch for result in results] == [1, 2]
    best = max(result.epoch for result in results if result.best)
    assert dict(seen)[best] == pytest.approx(float(read_weights(runs / "run")["stages.0.scale"]))


def test_train_returns_the_run_and_reports_epochs_and_steps(straight: tuple[Run, list[EpochResult]]) -> None:
    epochs: list[EpochResult] = []
    steps: list[tuple[int, int]] = []
    looked: list[int] = []
    run = train(
        CONFIG,
        "run",
        progress=lambda result: epochs.append(result),
        on_step=lambda done, total, loss: steps.append((done, total)),
        on_epoch=lambda model, result: looked.append(len(epochs)),
        device="cpu",
    )
    assert isinstance(run, Run) and run.path == epochs[-1].run.path and files(run.path) == FILES
    assert looked == [0, 1, 2]  # before each epoch is saved and reported
    assert [result.losses for result in epochs] == [result.losses for result in straight[1]]
    assert steps == [(done, 4) for done in (1, 2, 3, 4)] * 3
    same_history(run, straight[0])


def test_a_run_folder_holds_what_it_should(straight: tuple[Run, list[EpochResult]]) -> None:
    run, results = straight
    assert files(run.path) == FILES
    assert run.config == CONFIG
    assert [r.run for r in results[:-1]] == [None, None]
    history = run.history()
    assert history["epoch"].tolist() == [1, 2, 3]
    for epoch, result in enumerate(results):
        row = history.iloc[epoch]
        assert (row["lambda_1"], row["lambda_2"]) == pytest.approx(loss_weights("linear", epoch, 3, 2))
        assert [row["accuracy_1"], row["accuracy_2"], row["area"]] == pytest.approx([*result.accuracy, result.area])
        assert row["loss"] == pytest.approx(row["lambda_1"] * row["loss_1"] + row["lambda_2"] * row["loss_2"], rel=1e-4)
    assert history["loss_2"].iloc[-1] < history["loss_2"].iloc[0]
    card = run.card()
    assert card.startswith("# straight\n") and "test_vit at 32 px" in card and "100 training images of digits" in card


def test_the_best_epoch_by_area_is_kept(straight: tuple[Run, list[EpochResult]]) -> None:
    run, results = straight
    areas = [r.area for r in results]
    best = int(np.argmax(areas))
    assert [r.best for r in results] == [a > max([-1.0, *areas[:i]]) for i, a in enumerate(areas)]
    assert f"Kept: epoch {best + 1}" in run.card()
    stop_after(best + 1, name="again")  # the last thing it saw is the best
    kept, there = read_weights(run.path), read_checkpoint(load_run("again").path / "checkpoint.pt")
    assert kept.keys() == there["weights"].keys()
    assert all(torch.equal(kept[name], there["weights"][name]) for name in kept)


def test_an_epoch_that_is_not_better_does_not_replace_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    areas = iter([0.5, 0.9, 0.6])
    monkeypatch.setattr(validator, "area", lambda record, name: next(areas))
    seen = []
    for result in train_epochs(CONFIG, "falling", device="cpu"):
        seen.append((result.best, read_weights(load_run("falling").path)))
    assert [best for best, _ in seen] == [True, True, False]
    name = "stages.1.predictor.linear.weight" if "stages.1.predictor.linear.weight" in seen[0][1] else min(seen[0][1])
    assert not torch.equal(seen[0][1][name], seen[1][1][name])
    assert all(torch.equal(seen[1][1][name], seen[2][1][name]) for name in seen[1][1])


def test_the_run_opens_without_its_data_and_gives_the_trained_model(
    straight: tuple[Run, list[EpochResult]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, results = straight
    val = validator.spread(images_of(CONFIG.data, "val"), CONFIG.training.validation_size)
    monkeypatch.setattr("dmpo_explore.data.image_data.ImageData.images", None)
    model = load_run(run.path).model("cpu")
    assert load_run(run.path).class_names == tuple("0123456789")
    loader = make_loader(val, model.preprocess, batch_size=60)
    images, labels = next(iter(loader))
    with torch.inference_mode():
        accuracy = (model(images).argmax(-1) == labels[:, None]).float().mean(0)
    best = max(results, key=lambda result: result.area)
    assert accuracy.tolist() == pytest.approx(best.accuracy, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        *({"tuning": tuning} for tuning in ("lora", "adapter", "oft", "vpt", "full")),
        {"tuning": "lora", "backbone": "test_efficientnet", "image_size": 64, "exits": (1, 2, 5)},
    ],
)
def test_frozen_weights_in_bf16_change_no_number(
    model: dict[str, Any], runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(precision="bf16", model=model)
    carried = replace(config, training=replace(config.training, frozen_precision="bf16"))
    inside: set[torch.dtype] = set()
    between: set[torch.dtype] = set()
    record = validator.record_split

    def frozen(model: DMPO) -> set[torch.dtype]:
        layers = (m for m in model.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d))
        return {p.dtype for m in layers for p in m.parameters() if not p.requires_grad}

    def spy(model: DMPO, *given: Any, **options: Any) -> ExitRecord:
        inside.update(frozen(model))
        return record(model, *given, **options)

    def look(model: DMPO, _: EpochResult) -> None:
        between.update(frozen(model))
        with seeded(config.training.seed):
            other = build_model(config.model, 10).eval()
        other.load_trainable(model.trainable_state())
        images = torch.randn(2, 3, config.model.image_size, config.model.image_size)
        with evaluating(model), torch.inference_mode():
            assert torch.equal(model(images), other(images))

    *_, plain = train_epochs(config, "plain", device="cpu")
    monkeypatch.setattr(validator, "record_split", spy)
    next(iter(train_epochs(carried, "carried", device="cpu", on_epoch=look)))  # stopped behind its first epoch
    *_, other = train_epochs(carried, "carried", resume=True, device="cpu", on_epoch=look)
    nothing = model["tuning"] == "full"
    assert inside == (set() if nothing else {torch.bfloat16}) and between == (set() if nothing else {torch.float32})
    assert (other.losses, other.accuracy, other.area) == (plain.losses, plain.accuracy, plain.area)
    ours, theirs = (read_weights(runs / name) for name in ("carried", "plain"))
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items()) and ours.keys() == theirs.keys()
    size = config.model.image_size
    assert load_run(runs / "carried").model("cpu")(torch.zeros(1, 3, size, size)).dtype == torch.float32


def test_validation_images_are_spread_over_the_classes() -> None:
    val = images_of(CONFIG.data, "val")
    few = validator.spread(val, 60)
    counts = np.bincount(few.labels, minlength=10)
    assert len(few) == 60 and counts.min() >= 5 and counts.max() <= 7
    assert np.array_equal(few.indices, validator.spread(val, 60).indices)
    assert validator.spread(val, 10_000) is val


def test_the_test_split_is_not_read_by_training(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    read = ImageSet.__getitem__

    def spy(images: ImageSet, i: int) -> npt.NDArray[np.uint8]:
        seen.append(images.split)
        return read(images, i)

    monkeypatch.setattr(ImageSet, "__getitem__", spy)
    stop_after(1)
    assert sorted(set(seen)) == ["train", "val"]


def test_without_a_name_data_predictor_and_time_name_it() -> None:
    name = default_name(CONFIG)
    assert name.startswith("digits-covariance-") and len(name) == len("digits-covariance-20250101-120000")
