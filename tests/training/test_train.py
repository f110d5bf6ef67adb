"""Whole trainings, tiny: what a run folder holds, resuming bit by bit, and what is left when something stops it."""

from __future__ import annotations

import hashlib
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import tiny_config

from dmpo_explore.config import Config
from dmpo_explore.data.images import ImageSet
from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.inference import torch_recording
from dmpo_explore.inference.torch_recording import record_run
from dmpo_explore.models.dmpo import DMPO, evaluating
from dmpo_explore.models.factory import build_model
from dmpo_explore.policies.catalogue import read_policies, write_policies
from dmpo_explore.records.record import ExitRecord
from dmpo_explore.runs.run import Run
from dmpo_explore.runs.store import BUNDLED_RUNS, load_run
from dmpo_explore.runs.torch_weights import read_weights
from dmpo_explore.training import train as train_module
from dmpo_explore.training.checkpoint import read_checkpoint
from dmpo_explore.training.loop import EpochResult
from dmpo_explore.training.schedules import loss_weights
from dmpo_explore.training.train import default_name, train, train_epochs
from dmpo_explore.utils.torch_seeding import seeded

CONFIG = tiny_config(epochs=3, batch_size=25)
FILES = ["card.md", "checkpoint.pt", "config.json", "history.csv", "weights.safetensors"]


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[EpochResult]]:
    """Three epochs without a stop."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path_factory.mktemp("straight")))
        results = list(train_epochs(CONFIG, "straight", device="cpu"))
    return results[-1].run, results


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def digest(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files(folder)}


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
    assert seen[-1][1] == pytest.approx(float(read_weights(runs / "run")["stages.0.scale"])) or not results[-1].best


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


def test_train_goes_on_with_a_run(straight: tuple[Run, list[EpochResult]]) -> None:
    stop_after(2)
    epochs: list[int] = []
    run = train(CONFIG, "run", resume=True, device="cpu", progress=lambda result: epochs.append(result.epoch))
    assert epochs == [3]
    same_history(run, straight[0])
    with pytest.raises(ValueError, match="is finished"):
        train(CONFIG, "run", resume=True, device="cpu")


def stop_after(epochs: int, config: Config = CONFIG, name: str = "run", **options: Any) -> None:
    """A kill: the generator is dropped."""
    running = train_epochs(config, name, device="cpu", **options)
    for _ in range(epochs):
        next(running)
    running.close()


def same_history(a: Run, b: Run) -> None:
    pd.testing.assert_frame_equal(a.history().drop(columns="seconds"), b.history().drop(columns="seconds"))


# -- a run --


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
    monkeypatch.setattr(train_module, "area", lambda record, name: next(areas))
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
    val = train_module._sample(torch_recording.split_images(CONFIG, "val"), CONFIG.training.validation_size)
    monkeypatch.setattr("dmpo_explore.data.images.load_images", None)
    model = load_run(run.path).model("cpu")
    assert load_run(run.path).class_names == tuple("0123456789")
    loader = train_module.make_loader(val, model.preprocess, batch_size=60)
    images, labels = next(iter(loader))
    with torch.inference_mode():
        accuracy = (model(images).argmax(-1) == labels[:, None]).float().mean(0)
    best = max(results, key=lambda result: result.area)
    assert accuracy.tolist() == pytest.approx(best.accuracy, abs=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        {"tuning": "lora"},
        pytest.param({"tuning": "adapter"}, marks=pytest.mark.slow),
        pytest.param({"tuning": "full"}, marks=pytest.mark.slow),
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
    record = train_module.record_split

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
    monkeypatch.setattr(train_module, "record_split", spy)
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
    val = torch_recording.split_images(CONFIG, "val")
    few = train_module._sample(val, 60)
    counts = np.bincount(few.labels, minlength=10)
    assert len(few) == 60 and counts.min() >= 5 and counts.max() <= 7
    assert np.array_equal(few.indices, train_module._sample(val, 60).indices)
    assert train_module._sample(val, 10_000) is val


def test_without_a_name_data_predictor_and_time_name_it() -> None:
    name = default_name(CONFIG)
    assert name.startswith("digits-covariance-") and len(name) == len("digits-covariance-20250101-120000")


# -- resuming --


@pytest.mark.parametrize("epochs", [1, 2])
def test_resuming_is_bit_equal(straight: tuple[Run, list[EpochResult]], epochs: int) -> None:
    stop_after(epochs)
    assert len(load_run("run").history()) == epochs
    torch.manual_seed(999)
    results = list(train_epochs(CONFIG, "run", resume=True, device="cpu"))
    assert [r.epoch for r in results] == list(range(epochs + 1, 4))
    run = results[-1].run
    same_history(run, straight[0])
    a, b = (read_checkpoint(r.path / "checkpoint.pt") for r in (run, straight[0]))
    for part in ("weights", "best"):
        assert a[part].keys() == b[part].keys()
        assert all(torch.equal(a[part][name], b[part][name]) for name in a[part]), part
    assert a["state"]["optimizer"]["state"].keys() == b["state"]["optimizer"]["state"].keys()
    for key, moments in a["state"]["optimizer"]["state"].items():
        assert all(torch.equal(moments[m], b["state"]["optimizer"]["state"][key][m]) for m in moments)
    ours, theirs = read_weights(run.path), read_weights(straight[0].path)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_kill_inside_an_epoch_loses_that_epoch_only(straight: tuple[Run, list[EpochResult]]) -> None:
    def die(done: int, steps: int, loss: float) -> None:
        dead.append(done)
        if len(dead) == 7:  # the third of four steps of epoch 2
            raise KeyboardInterrupt

    dead: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        list(train_epochs(CONFIG, "run", device="cpu", on_step=die))
    assert dead[-1] == 3 and len(load_run("run").history()) == 1
    run = list(train_epochs(CONFIG, "run", resume=True, device="cpu"))[-1].run
    same_history(run, straight[0])


def test_a_kill_while_saving_leaves_the_epoch_before(
    straight: tuple[Run, list[EpochResult]], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = train_epochs(CONFIG, "run", device="cpu")
    next(running)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", lambda value, path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            next(running)
    assert files(load_run("run").path) == FILES  # no halves
    assert read_checkpoint(load_run("run").path / "checkpoint.pt")["state"]["epoch"] == 1
    run = list(train_epochs(CONFIG, "run", resume=True, device="cpu"))[-1].run
    same_history(run, straight[0])


def test_resuming_refuses_another_config_a_finished_run_and_what_is_no_checkpoint(
    straight: tuple[Run, list[EpochResult]], tmp_path: Path
) -> None:
    name = str(straight[0].path)
    with pytest.raises(ValueError, match="is finished .3 epochs"):
        next(train_epochs(CONFIG, name, resume=True, device="cpu"))
    with pytest.raises(ValueError, match=r"another config.*training\.epochs"):
        next(train_epochs(tiny_config(epochs=4, batch_size=25), name, resume=True, device="cpu"))
    with pytest.raises(ValueError, match="unknown run 'nobody'"):
        next(train_epochs(CONFIG, "nobody", resume=True, device="cpu"))

    folder = tmp_path / "runs" / "bad"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(CONFIG.to_json())
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        next(train_epochs(CONFIG, "bad", resume=True, device="cpu"))
    whole = (straight[0].path / "checkpoint.pt").read_bytes()
    for content in (b"", b"not a checkpoint", whole[: len(whole) // 2], pickle.dumps(Path("x"))):
        (folder / "checkpoint.pt").write_bytes(content)
        with pytest.raises(ValueError, match="is not a readable checkpoint"):
            next(train_epochs(CONFIG, "bad", resume=True, device="cpu"))
    torch.save({"weights": {}}, folder / "checkpoint.pt")
    with pytest.raises(ValueError, match="is not a checkpoint of a run"):
        next(train_epochs(CONFIG, "bad", resume=True, device="cpu"))


def test_a_pickle_with_code_is_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "boom"),)

    torch.save({"state": Bomb(), "weights": {}, "best": {}, "history": []}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="is not a readable checkpoint"):
        read_checkpoint(tmp_path / "checkpoint.pt")
    assert not (tmp_path / "boom").exists()


# -- what is there already --


def test_an_existing_run_is_kept_unless_forced_and_then_until_the_first_epoch_is_done() -> None:
    stop_after(1)
    path = load_run("run").path
    before = digest(path)
    with pytest.raises(FileExistsError, match="'run' exists.*--force"):
        next(train_epochs(CONFIG, "run", device="cpu"))
    (path / "records").mkdir()
    (path / "records" / "old").write_text("of the old run")

    def die(done: int, steps: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(train_epochs(CONFIG, "run", device="cpu", force=True, on_step=die))
    assert {name: value for name, value in digest(path).items() if name in before} == before
    other = tiny_config(epochs=1, batch_size=50)
    list(train_epochs(other, "run", device="cpu", force=True))
    assert load_run("run").config == other
    assert files(path) == FILES  # nothing of the old one


def test_a_run_that_appears_meanwhile_is_not_overwritten(runs: Path) -> None:
    running = train_epochs(
        CONFIG,
        "run",
        device="cpu",
        on_step=lambda done, steps, loss: (runs / "run" / "x").mkdir(parents=True, exist_ok=True),
    )
    with pytest.raises(FileExistsError, match="'run' exists"):
        next(running)
    assert [p.name for p in (runs / "run").iterdir()] == ["x"]


@pytest.mark.parametrize("name", ["../out", "a/b", ".hidden", "", "a b", "x" * 101, ".."])
def test_names_that_climb_out_are_refused(name: str, runs: Path) -> None:
    if name:
        with pytest.raises(ValueError, match="run name"):
            next(train_epochs(CONFIG, name, device="cpu"))
    assert not runs.exists()


# -- what stops a training, and that nothing half-written is left --

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


def test_a_loss_that_is_not_finite_stops_with_step_and_cause(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **options: Any) -> Any:
        batches = list(loader(*arguments, **options))
        if options.get("shuffle"):
            batches[2][0][:] = float("nan")
        return torch.utils.data.DataLoader([pair for x, y in batches for pair in zip(x, y, strict=True)], batch_size=25)

    loader = train_module.make_loader
    monkeypatch.setattr(train_module, "make_loader", broken)
    with pytest.raises(FloatingPointError, match=r"nan in epoch 1, step 3 \(exit 1, 2\)"):
        next(train_epochs(CONFIG, "run", device="cpu"))
    assert not runs.exists()


def test_a_huge_learning_rate_stops_with_the_cause() -> None:
    config = tiny_config(epochs=2, tuning_lr=1e30, predictor_lr=1e30, warmup_epochs=0.0)
    with pytest.raises(FloatingPointError, match=r"(in epoch 1, step \d+|on val).*[Ll]ower the learning rates"):
        list(train_epochs(config, "run", device="cpu"))


def test_a_broken_picture_stops_and_is_named(tmp_path: Path, runs: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(20):
            Image.fromarray(rng.integers(255, size=(9, 9, 3), dtype=np.uint8)).save(
                tmp_path / f"pictures/{name}/{i}.png"
            )
    for path in (tmp_path / "pictures" / "a").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    config = Config.from_dict(CONFIG.to_dict() | {"data": {"name": str(tmp_path / "pictures")}})
    with pytest.raises(ValueError, match=r"a/\d+\.png cannot be read as an image"):
        next(train_epochs(config, "run", device="cpu"))
    assert not runs.exists()


# -- trackers, records --


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


def test_recording_both_splits(straight: tuple[Run, list[EpochResult]]) -> None:
    run, _ = straight
    steps: list[tuple[int, int]] = []
    val = record_run(run, "val", device="cpu", progress=lambda done, total: steps.append((done, total)), batch_size=50)
    test = record_run(run, "test", device="cpu", keep_logits=False)
    assert run.splits() == ["test", "val"] and steps[-1] == (val.n_images, val.n_images)
    assert (val.n_exits, val.meta.exit_blocks, val.meta.split) == (
        2,
        load_run(run.path).record("val").meta.exit_blocks,
        "val",
    )
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


def test_recording_keeps_saved_policies_and_leaves_bundled_runs_alone(straight: tuple[Run, list[EpochResult]]) -> None:
    run, _ = straight
    mine = fit_policy(record_run(run, "val", device="cpu", force=True), "entropy", threshold=0.5)
    write_policies(run.path / "policies.json", {"mine": mine})
    record_run(run, "val", device="cpu", force=True)
    assert run.policies()["mine"] == mine and len(run.policies()) > 1
    with pytest.raises(ValueError, match="'demo' is bundled and stays as it is"):
        record_run(load_run(BUNDLED_RUNS / "demo"), "test", force=True)


def test_the_test_split_is_not_read_by_training(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    load = torch_recording.load_images

    def spy(name: str, split: str, **options: Any) -> ImageSet:
        seen.append(split)
        return load(name, split, **options)

    monkeypatch.setattr(torch_recording, "load_images", spy)
    stop_after(1)
    assert sorted(set(seen)) == ["train", "val"]
