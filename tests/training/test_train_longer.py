"""Trainings that go on to more epochs than planned: schedules, history, checkpoint, and card."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_training import CONFIG, FILES, files, same_history
from torch import nn

from dmpo_explore.config import Config
from dmpo_explore.runs.run import Run
from dmpo_explore.runs.store import load_run, runs_root
from dmpo_explore.runs.torch_model import read_weights
from dmpo_explore.training.checkpoint import read_checkpoint
from dmpo_explore.training.loop import EpochResult, Validation, fit
from dmpo_explore.training.optimizer import rate_factor
from dmpo_explore.training.schedules import loss_weights
from dmpo_explore.training.train import train, train_epochs

pytestmark = pytest.mark.usefixtures("runs")
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
    def interrupt(done: int, steps: int, loss: float) -> None:
        raise KeyboardInterrupt

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
    same_history(*results)
    a, b = (read_checkpoint(run.path / "checkpoint.pt") for run in results)
    assert a["plans"] == b["plans"] == [3, 3, 3, 5, 5]
    assert all(torch.equal(a["weights"][name], b["weights"][name]) for name in a["weights"])
