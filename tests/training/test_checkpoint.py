"""Trainings that go on: after a kill bit by bit, for more epochs than planned, beside a run of that name."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from tiny import tiny_config
from tiny_training import CONFIG, FILES, files, same_history, same_training, stop_after
from torch import nn

from dmpo_explore import Config, DataConfig, EpochResult, ModelConfig, Run, TrainingConfig, load_run
from dmpo_explore.models.flops import CONVENTION, ModelFlops
from dmpo_explore.runs import read_weights, runs_root
from dmpo_explore.runs.run_files import RUN_NAME
from dmpo_explore.training import TRAINING_PARTS, Validation, fit, loss_weights
from dmpo_explore.training.checkpoint import read_checkpoint, run_card, unfinished
from dmpo_explore.training.optimizer import rate_factor
from dmpo_explore.training.train import default_name, train, train_epochs
from dmpo_explore.utils.files import write_text

pytestmark = pytest.mark.usefixtures("runs")


def interrupt(done: int, steps: int, loss: float) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_finished_run_without_its_weights_is_finished_again(straight: tuple[Run, list[EpochResult]]) -> None:
    run, epochs = copied(straight[0]), list[int]()
    (run.path / "weights.safetensors").unlink()
    assert unfinished(run.path)
    train(CONFIG, "run", resume=True, device="cpu", progress=lambda result: epochs.append(result.epoch))
    assert read_weights(run.path).keys() == read_weights(straight[0].path).keys() and not unfinished(run.path)
    assert not epochs


RESUMED: list[tuple[str, dict[str, Any]]] = [  # training part, and options that ask for it
    ("", {}),
    ("earlier exits", {"model": {"earlier_exits": True}}),
    ("augmented views", {"augment": "light", "coupling": "sigmoid", "label_smoothing": 0.1}),
    ("augmented views", {"augment": "strong", "coupling": "sigmoid", "label_smoothing": 0.1}),
    ("class balance", {"class_balance": "weights"}),
    ("class balance", {"class_balance": "sampler"}),
    ("second phase", {"schedule_rate": "full", "schedule": "switch", "phase_ratio": 0.3}),
    ("learned weights", {"schedule": "learned"}),
    ("self-regularisation", {"self_regularise": 0.5, "cutout": "attentive", "model": {"tuning": "oft"}}),
    ("self-regularisation", {"self_regularise": 0.5, "cutout": "random", "model": {"tuning": "oft"}}),
    ("self-regularisation", {"self_regularise": 0.5, "precision": "bf16", "class_balance": "weights"}),
]
QUICK = ({}, {"class_balance": "sampler"})


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [pytest.param(changes, marks=[] if changes in QUICK else pytest.mark.slow) for _, changes in RESUMED],
    ids=str,
)
@pytest.mark.parametrize("epochs", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_resuming_is_bit_equal(changes: dict[str, Any], epochs: int) -> None:
    config = tiny_config(epochs=3, batch_size=25, **changes)
    assert Config.from_json(config.to_json()) == config
    whole = train(config, "whole", device="cpu")
    stop_after(epochs, config)
    assert len(load_run("run").history()) == epochs
    torch.manual_seed(999)
    results = list(train_epochs(config, "run", resume=True, device="cpu"))
    assert [result.epoch for result in results] == list(range(epochs + 1, 4))
    same_training(results[-1].run, whole)
    assert load_run("run").config == config


def test_every_training_part_is_resumed() -> None:
    """That of a teacher is resumed in test_taught_exits.py."""
    assert {name for name, _ in RESUMED} == {"", *TRAINING_PARTS} - {"teacher"}


@pytest.mark.slow
def test_the_precision_that_is_fast_is_kept_on_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(epochs=2, batch_size=25, precision="auto")
    for fast in ("no", "bf16"):
        monkeypatch.setattr("dmpo_explore.training.train.fast_precision", lambda kind, fast=fast: fast)
        stop_after(1, config, resume=fast == "bf16")
        assert load_run("run").config.training.precision == "no"


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("config", "name", "kind", "message"),
    [
        (CONFIG, "straight", ValueError, "is finished .3 epochs"),
        (
            tiny_config(epochs=4, batch_size=20),
            "straight",
            ValueError,
            r"another config; resume it without changing training\.batch_size$",
        ),
        (CONFIG, "nobody", ValueError, "unknown run 'nobody'"),
        (CONFIG, "bare", FileNotFoundError, "nothing to resume"),
    ],
)
def test_what_cannot_be_resumed_is_refused(
    straight: tuple[Run, list[EpochResult]], runs: Path, config: Config, name: str, kind: type[Exception], message: str
) -> None:
    write_text(runs / "bare" / "config.json", CONFIG.to_json())
    place = str(straight[0].path) if name == "straight" else name
    with pytest.raises(kind, match=message):
        next(train_epochs(config, place, resume=True, device="cpu"))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", "half", pickle.dumps(Path("x")), {"weights": {}}])
def test_what_is_no_checkpoint_is_refused(
    straight: tuple[Run, list[EpochResult]], runs: Path, content: bytes | str | dict[str, Any]
) -> None:
    write_text(runs / "bad" / "config.json", CONFIG.to_json())
    path, whole = runs / "bad" / "checkpoint.pt", (straight[0].path / "checkpoint.pt").read_bytes()
    if isinstance(content, dict):
        torch.save(content, path)
    else:
        path.write_bytes(whole[: len(whole) // 2] if isinstance(content, str) else content)
    said = "is not a checkpoint of a run" if isinstance(content, dict) else "is not a readable checkpoint"
    with pytest.raises(ValueError, match=said):
        next(train_epochs(CONFIG, "bad", resume=True, device="cpu"))


def test_a_pickle_with_code_is_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "boom"),)

    torch.save({"state": Bomb(), "weights": {}, "best": {}, "history": [], "plans": []}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="is not a readable checkpoint"):
        read_checkpoint(tmp_path / "checkpoint.pt")
    assert not (tmp_path / "boom").exists()


STEPS = 4  # of an epoch of `CONFIG`


def planned_for(epochs: int, config: Config = CONFIG) -> Config:
    return replace(config, training=replace(config.training, epochs=epochs))


def copied(run: Run) -> Run:
    """A copy of a finished run to go on with, ``run`` under the runs root."""
    shutil.copytree(run.path, runs_root() / "run")
    return load_run("run")


@pytest.mark.slow
def test_what_a_reader_wrote_into_the_card_stays(straight: tuple[Run, list[EpochResult]]) -> None:
    card = copied(straight[0]).path / "card.md"
    card.write_text(card.read_text() + "\n## Licence\n\nMIT\n\n## Results\n\nof earlier weights\n", encoding="utf-8")
    list(train_epochs(planned_for(4), "run", resume=True, device="cpu"))
    text = card.read_text()
    assert text.endswith("\n\n## Licence\n\nMIT\n") and text.startswith("# run\n") and "4 epochs" in text


@pytest.mark.slow
def test_a_finished_run_is_trained_longer(straight: tuple[Run, list[EpochResult]]) -> None:
    copied(straight[0])
    longer = planned_for(5)
    results = list(train_epochs(longer, "run", resume=True, device="cpu"))
    assert [(result.epoch, result.epochs) for result in results] == [(4, 5), (5, 5)]
    run, training = results[-1].run, CONFIG.training
    assert run is not None and run.config == longer and files(run.path) == FILES
    history = run.history()
    same = straight[0].history().drop(columns="seconds")
    assert history.drop(columns="seconds").iloc[:3].equals(same)
    for epoch in (3, 4):
        row = history.iloc[epoch]
        weights = loss_weights(training.schedule, epoch, 5, 2)
        assert [row["lambda_1"], row["lambda_2"]] == pytest.approx(weights)
        rate = training.predictor_lr * rate_factor(epoch * STEPS, 5 * STEPS, training.warmup_epochs * STEPS)
        assert row["learning_rate"] == pytest.approx(rate) and row["learning_rate"] > 0
    assert read_checkpoint(run.path / "checkpoint.pt")["plans"] == [3, 3, 3, 5, 5]
    assert "their schedules are made for: 3 planned for 3, then 2 planned for 5." in run.card()
    assert "planned" not in straight[0].card()
    best = int(history["area"].argmax())
    assert f"Kept: epoch {best + 1}," in run.card()
    with pytest.raises(ValueError, match=r"is finished \(5 epochs\); to train it longer, give a larger number"):
        train(longer, "run", resume=True, device="cpu")
    with pytest.raises(ValueError, match=r"has 5 finished epochs; epochs=4 includes them, so give more"):
        train(planned_for(4), "run", resume=True, device="cpu")


def test_the_first_further_step_has_the_rate_of_the_longer_training() -> None:
    """The rate that ended the first plan is 0: with it the step would change nothing."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.Unflatten(1, (2, 3)))
    loader = torch.utils.data.DataLoader([(torch.ones(3, 2, 2), 1) for _ in range(8)], batch_size=4)
    settings = replace(CONFIG.training, epochs=1)
    ((_, state),) = fit(model, loader, settings, 2, validate=lambda model: Validation((0.5, 0.75), 0.6))
    assert state["optimizer"]["param_groups"][0]["lr"] == 0
    before, moved = model[1].weight.detach().clone(), list[bool]()

    def look(done: int, steps: int, loss: float) -> None:
        moved.append(not torch.equal(model[1].weight, before))

    longer = replace(settings, epochs=2)
    ((result, _),) = fit(
        model, loader, longer, 2, validate=lambda model: Validation((0.5, 0.75), 0.6), state=state, on_step=look
    )
    assert result.epoch == 2 and moved == [True, True]
    assert result.learning_rate == pytest.approx(settings.predictor_lr * rate_factor(2, 4, 1))


@pytest.mark.slow
def test_an_interrupted_extension_goes_on_bit_by_bit(
    straight: tuple[Run, list[EpochResult]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer, results = planned_for(5), []
    for place in ("at once", "stopped"):
        monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / place))
        run = copied(straight[0])
        if place == "stopped":
            with pytest.raises(KeyboardInterrupt):
                list(train_epochs(longer, "run", resume=True, device="cpu", on_step=interrupt))
            assert load_run("run").config == longer and len(load_run("run").history()) == 3
            assert files(run.path) == FILES and read_weights(run.path).keys() == read_weights(straight[0].path).keys()
            running = train_epochs(load_run("run").config, "run", resume=True, device="cpu")
            next(running)
            running.close()
        results.append(train(longer, "run", resume=True, device="cpu"))
    same_training(*results)
    assert [read_checkpoint(run.path / "checkpoint.pt")["plans"] for run in results] == [[3, 3, 3, 5, 5]] * 2


def digest(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files(folder)}


@pytest.mark.slow
def test_an_existing_run_is_kept_unless_forced_and_then_until_the_first_epoch_is_done() -> None:
    stop_after(1)
    path = load_run("run").path
    before = digest(path)
    with pytest.raises(FileExistsError, match="'run' exists.*--force"):
        next(train_epochs(CONFIG, "run", device="cpu"))
    (path / "records" / "old").mkdir(parents=True)
    write_text(path / "records" / "old" / "meta.json", "of the old run")

    with pytest.raises(KeyboardInterrupt):
        next(train_epochs(CONFIG, "run", device="cpu", force=True, on_step=interrupt))
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


@pytest.mark.parametrize("name", ["../out", "a/b", ".hidden", "a b", "x" * 101, ".."])
def test_names_that_climb_out_are_refused(name: str, runs: Path) -> None:
    with pytest.raises(ValueError, match="run name"):
        next(train_epochs(CONFIG, name, device="cpu"))
    assert not runs.exists()


@pytest.mark.slow
def test_a_training_does_not_write_into_the_run_that_has_replaced_its_own(runs: Path) -> None:
    running = train_epochs(CONFIG, "run", device="cpu")
    next(running)
    list(train_epochs(tiny_config(epochs=1, batch_size=50), "run", device="cpu", force=True))
    other = digest(runs / "run")
    with pytest.raises(FileExistsError, match="was replaced by another training meanwhile; it is left as it is"):
        next(running)
    assert digest(runs / "run") == other
    shutil.rmtree(runs / "run")
    stop_after(1)
    running = train_epochs(CONFIG, "run", device="cpu", resume=True)
    next(running)  # its own history, of the epoch before the stop too
    shutil.rmtree(runs / "run")
    with pytest.raises(FileNotFoundError, match="was removed while it was trained"):
        next(running)
    assert not (runs / "run").exists()


@pytest.mark.parametrize(
    ("config", "begins"),
    [
        (CONFIG, "digits-covariance-"),
        (Config(DataConfig("digits"), ModelConfig(exits=(6,))), "digits-linear-"),  # the only exit's predictor
        (Config(DataConfig("/photos/My holiday (2024).csv")), "My-holiday-2024-covariance-"),
        (Config(DataConfig("x" * 200 + "/" + "y" * 200)), "y"),
    ],
)
def test_without_a_name_data_predictor_and_time_name_a_run(config: Config, begins: str) -> None:
    name = default_name(config)
    assert name.startswith(begins) and RUN_NAME.fullmatch(name)
    assert len(begins) == 1 or len(name) == len(begins) + len("20250101-120000")


def test_runs_begun_in_one_second_have_their_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    noon = Mock(**{"datetime.now.return_value": datetime(2025, 1, 1, 12)})
    monkeypatch.setattr("dmpo_explore.training.train.datetime", noon)
    names = []
    for _ in range(3):
        names.append(default_name(CONFIG))
        (runs_root() / names[-1]).mkdir(parents=True)
    first = "digits-covariance-20250101-120000"
    assert names == [first, f"{first}-2", f"{first}-3"]


def test_card_names_the_kept_epoch_and_costs() -> None:
    cost = ModelFlops(10, (40, 40), (1, 1), (5, 0), (4, 4), 90, {"trunk": 1234, "trainable": 56}, (63, 111))
    history = [
        {"epoch": 1, "accuracy_1": 0.5, "accuracy_2": 0.6, "area": 0.55, "seconds": 10.0},
        {"epoch": 2, "accuracy_1": 0.7, "accuracy_2": 0.8, "area": 0.75, "seconds": 11.0},
        {"epoch": 3, "accuracy_1": 0.6, "accuracy_2": 0.7, "area": 0.65, "seconds": 12.0},
    ]
    card = run_card("mine", Config(), cost, history, 2000, [900, 1100])
    assert "balance" not in card
    balanced = Config(training=TrainingConfig(class_balance="weights", balance_beta=0.999))
    stated = run_card("mine", balanced, cost, history, 2000, [900, 1100])
    assert "Class balance `weights`, β 0.999. Classes have 900 to 1,100 training images." in stated
    assert card.startswith("# mine\n") and "at 70 px, images squashed to a square; tuning" in card
    cropped = run_card("mine", Config(model=ModelConfig(resize="crop")), cost, history, 2000)
    assert "at 70 px, images aspect kept, centre crop; tuning" in cropped
    assert "2,000 training images of fashion-mnist, 3 epochs, 33 s" in card
    assert "Kept: epoch 2" in card and "(0.7500)" in card
    assert "| 1 | 0.7000 | 0.6667 | 0.7000 |" in card  # (10 + 40 + 1 + 5 + 4) / 90, and 63 / 90 as trained
    assert "| 2 | 0.8000 | 1.1667 | 1.2333 |" in card  # every earlier bypass and predictor counted
    assert "| trunk | 1,234 |" in card and CONVENTION in card


def test_a_single_exit_has_the_last_ones_parts() -> None:
    cost = ModelFlops(10, (40,), (0,), (0,), (4,), 60, {}, (57,))
    history = [{"epoch": 1, "accuracy_1": 0.5, "area": 0.5, "seconds": 1.0}]
    for exits in (1, (6,)):
        card = run_card("mine", Config(model=ModelConfig(exits=exits, last_predictor="moment")), cost, history, 20)
        assert "bypass `none`, predictor `moment`" in card
    for name in ("demo-single", "demo-cnn-single", "fashion-single"):
        assert "bypass `none`, predictor `linear`" in load_run(name).card()
