"""Whole trainings, tiny: what they report, what a run folder holds, which epoch and images count, what stops them."""

from __future__ import annotations

import shutil
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from image_files import fill, paint
from synthetic import make_record
from tiny import tiny_config
from tiny_training import CONFIG, FILES, files, same_history, stop_after

from dmpo_explore import (
    OPTIONS,
    Config,
    DataConfig,
    EpochResult,
    ExitRecord,
    Run,
    build_model,
    fit_policy,
    load_run,
    record_run,
)
from dmpo_explore.data import ImageSet, Manifest, images_of, make_loader
from dmpo_explore.models.dmpo import DMPO, evaluating
from dmpo_explore.policies.catalogue import read_policies, write_policies
from dmpo_explore.runs import BUNDLED_RUNS, read_weights
from dmpo_explore.training import loop, loss_weights, read_checkpoint
from dmpo_explore.training.part_options import RECIPES, described_recipes, with_recipe
from dmpo_explore.training.train import refusal, train, train_epochs
from dmpo_explore.utils.torch_tools import seeded

pytestmark = pytest.mark.usefixtures("runs")


@pytest.mark.slow
def test_train_returns_the_run_and_reports_epochs_and_steps(straight: tuple[Run, list[EpochResult]]) -> None:
    """Each epoch can be looked at before it is saved and reported."""
    epochs, steps, looked = list[EpochResult](), list[tuple[int, int]](), dict[int, float]()
    run = train(
        CONFIG, "run", device="cpu",
        progress=lambda result: epochs.append(result),
        on_step=lambda done, total, loss: steps.append((done, total)),
        on_epoch=lambda model, result: looked.update({len(epochs): float(model.stages[0].scale.detach())}),
    )  # fmt: skip
    assert isinstance(run, Run) and run.path == epochs[-1].run.path and files(run.path) == FILES
    assert [*looked] == [0, 1, 2]
    best = max(result.epoch for result in epochs if result.best)
    assert looked[best - 1] == pytest.approx(float(read_weights(run.path)["stages.0.scale"]))
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_an_epoch_that_is_not_better_does_not_replace_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    areas = iter([0.5, 0.9, 0.6])
    monkeypatch.setattr(loop, "area", lambda record, name: next(areas))
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
    val = loop.spread(images_of(CONFIG.data, "val"), CONFIG.training.validation_size)
    monkeypatch.setattr("dmpo_explore.data.frame.Data.images", None)
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
    record = loop.record_split

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
    monkeypatch.setattr(loop, "record_split", spy)
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
    few = loop.spread(val, 60)
    counts = np.bincount(few.labels, minlength=10)
    assert len(few) == 60 and counts.min() >= 5 and counts.max() <= 7
    assert np.array_equal(few.indices, loop.spread(val, 60).indices)
    assert loop.spread(val, 10_000) is val


def test_the_test_split_is_not_read_by_training(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    read = ImageSet.__getitem__

    def spy(images: ImageSet, i: int) -> npt.NDArray[np.uint8]:
        seen.append(images.split)
        return read(images, i)

    monkeypatch.setattr(ImageSet, "__getitem__", spy)
    stop_after(1)
    assert sorted(set(seen)) == ["train", "val"]


BAD = [
    ({"model": {"backbone": "test_vitt"}}, "unknown .*backbone 'test_vitt'.*test_vit"),
    ({"model": {"image_size": 33}}, "image_size=33 is not a multiple of the patch"),
    ({"model": {"exits": (2, 99)}}, r"exits=\[2, 99\].*6 blocks"),
    ({"model": {"exits": 99}}, "exits=99.*6"),
    ({"model": {"tuning": "lorra"}}, "unknown tuning 'lorra'.*lora-all"),
    ({"model": {"bypass": "convv"}}, "unknown bypass 'convv'.*ladder"),
    ({"model": {"predictor": "quadratic"}}, "unknown predictor 'quadratic'.*moment"),
    ({"model": {"normalisation": "cube"}}, "normalisation"),
    ({"model": {"read": "all"}}, "read"),
    ({"schedule": "lineer"}, "unknown schedule 'lineer'"),
    ({"coupling": "x"}, "unknown coupling 'x'"),
    ({"train_size": 0}, "train_size=0"),
    ({"train_size": 5000}, "5000.*1295"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[str(change) for change, _ in BAD])
def test_a_bad_config_is_one_clear_error_and_leaves_nothing(change: dict[str, Any], message: str, runs: Path) -> None:
    with pytest.raises(ValueError, match=message):
        next(train_epochs(tiny_config(**change), "run", device="cpu"))
    assert not runs.exists()


def test_a_huge_learning_rate_stops_with_the_cause(runs: Path) -> None:
    config = tiny_config(epochs=2, tuning_lr=1e30, predictor_lr=1e30, warmup_epochs=0.0)
    with pytest.raises(FloatingPointError, match=r"(in epoch 1, step \d+|on val).*[Ll]ower the learning rates"):
        list(train_epochs(config, "run", device="cpu"))
    assert not runs.exists()


@pytest.mark.parametrize("split", ["val", "train"])
def test_an_image_that_is_changed_meanwhile_is_named_and_no_learning_rate_blamed(tmp_path: Path, split: str) -> None:
    manifests: list[Manifest] = []

    def spoil(step: int, steps: int, loss: float) -> None:
        if step == steps:
            for path in manifests[0].rows(split)["path"]:
                paint(folder / path, 222)

    folder = fill(tmp_path / "own")
    config = tiny_config(epochs=1, model={"earlier_exits": split == "train"})  # which reads held-out training images
    config = replace(config, data=DataConfig(str(folder)))
    with pytest.raises(ValueError, match="changed since the training"):
        next(train_epochs(config, "run", device="cpu", on_data=manifests.append, on_step=spoil))


def test_a_broken_picture_stops_and_is_named(tmp_path: Path, runs: Path) -> None:
    for path in (fill(tmp_path / "pictures") / "cat").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"cat/\d+\.png cannot be read as an image"):
        next(train_epochs(replace(CONFIG, data=DataConfig(str(tmp_path / "pictures"))), "run", device="cpu"))
    assert not runs.exists()


def test_a_disk_without_room_for_a_run_is_seen_before_the_first_step(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Namespace(free=1000))
    with pytest.raises(OSError, match=r"a run needs about .* GB and 1e-06 GB are free; make room"):
        next(train_epochs(CONFIG, "run", device="cpu", on_step=lambda *_: pytest.fail("a step was made")))
    assert not runs.exists()


@pytest.fixture
def run(straight: tuple[Run, list[EpochResult]], tmp_path: Path) -> Run:
    """A trained run of the test's own, without records."""
    return Run(shutil.copytree(straight[0].path, tmp_path / "straight"))


@pytest.mark.slow
def test_tensorboard_writes_into_the_run_folder(runs: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stop_after(1, trackers=("tensorboard",))
    list(train_epochs(CONFIG, "run", resume=True, device="cpu", trackers=("tensorboard",)))
    events = sorted(runs.rglob("events.out.tfevents*"))
    assert events and all((runs / "run") in path.parents for path in events)
    values: dict[int, float] = {}
    for path in events:
        log = EventAccumulator(str(path)).Reload()
        values |= {e.step: e.value for e in log.Scalars("area")} if "area" in log.Tags()["scalars"] else {}
    assert values == pytest.approx(dict(enumerate(load_run("run").history()["area"], start=1)))


def test_recording_both_splits(run: Run) -> None:
    steps: list[tuple[int, int]] = []
    val = record_run(run, "val", device="cpu", progress=lambda done, total: steps.append((done, total)), batch_size=50)
    test = record_run(run, "test", device="cpu", keep_logits=False)
    assert run.splits() == ["test", "val"] and steps[-1] == (val.n_images, val.n_images)
    assert (val.n_exits, val.meta.exit_blocks, val.meta.split) == (2, run.record("val").meta.exit_blocks, "val")
    assert val.logits is not None and test.logits is None
    assert np.array_equal(run.image_set("test").labels, test.labels)
    assert val.flops_fraction[0] < 1 < val.flops_fraction[1]  # bypass and predictors count
    for name, policy in read_policies(run.path / "policies.json").items():
        budget = int(name.removeprefix("confidence-").removesuffix("%")) / 100
        assert policy.fitted["target"] == {"flops": budget} and policy.fitted["split"] == "val"
    with pytest.raises(FileExistsError, match="has a val record"):
        record_run(run, "val", device="cpu")
    assert np.array_equal(record_run(run, "val", device="cpu", force=True).prediction, val.prediction)
    with pytest.raises(ValueError, match="unknown split 'tset'"):
        record_run(run, "tset", device="cpu")


def test_recording_keeps_saved_policies_and_leaves_bundled_runs_alone(run: Run) -> None:
    mine = fit_policy(record_run(run, "val", device="cpu"), "entropy", threshold=0.5)
    write_policies(run.path / "policies.json", {"mine": mine})
    record_run(run, "val", device="cpu", force=True)
    assert run.policies()["mine"] == mine and len(run.policies()) > 1
    other = fit_policy(make_record(300, 2, 10), "entropy", accuracy_drop=0.1)
    write_policies(run.path / "policies.json", {"other": other})
    again = record_run(run, "val", device="cpu", force=True)
    assert run.policies()["other"] == fit_policy(again, "entropy", accuracy_drop=0.1)  # of the record there is now
    with pytest.raises(ValueError, match="'demo' is bundled and stays as it is"):
        record_run(load_run(BUNDLED_RUNS / "demo"), "test", force=True)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_changes_its_options_alone(name: str) -> None:
    base = Config(DataConfig("digits", train_size=40))
    found, options = with_recipe(name, base), RECIPES[name].options
    assert all(
        found.get(key) == OPTIONS[key].default if key not in options else True for key in OPTIONS if key[:4] != "data"
    )
    assert Config.from_json(found.to_json()) == found and found.data == base.data
    assert " ".join(found.to_arguments()[4:]) == RECIPES[name].arguments() in described_recipes()


def test_an_unknown_recipe_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown recipe 'photograph'. Did you mean 'photographs'\?"):
        with_recipe("photograph", CONFIG)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"model.weights": "no-such-file.safetensors"}, ""),  # no weights are read
        ({"model.exits": 99}, "exits=99"),
        ({"model.backbone": "resnet10t", "model.tuning": "vpt"}, "tuning='vpt'"),
        ({"model.backbone": "resnet10t", "training.cutout": "attentive"}, "cutout='attentive' needs a ViT"),
    ],
)
def test_a_refusal_names_the_option(changes: dict[str, object], words: str) -> None:
    found = refusal(tiny_config(40).updated(changes))
    assert words in found and bool(found) == bool(words)
