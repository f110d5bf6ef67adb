"""Trainings that go on where they were stopped: bit by bit, and only from a checkpoint of the same config."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_config
from tiny_training import CONFIG, FILES, files, same_history, stop_after

from dmpo_explore.runs.run import Run
from dmpo_explore.runs.store import load_run
from dmpo_explore.runs.torch_model import read_weights
from dmpo_explore.training.checkpoint import read_checkpoint, unfinished
from dmpo_explore.training.loop import EpochResult
from dmpo_explore.training.train import train, train_epochs

pytestmark = pytest.mark.usefixtures("runs")


@pytest.mark.slow
def test_train_goes_on_with_a_run(straight: tuple[Run, list[EpochResult]]) -> None:
    stop_after(2)
    epochs: list[int] = []
    run = train(CONFIG, "run", resume=True, device="cpu", progress=lambda result: epochs.append(result.epoch))
    assert epochs == [3]
    same_history(run, straight[0])
    with pytest.raises(ValueError, match="is finished"):
        train(CONFIG, "run", resume=True, device="cpu")
    (run.path / "weights.safetensors").unlink()
    assert unfinished(run.path)
    train(CONFIG, "run", resume=True, device="cpu")
    assert read_weights(run.path).keys() == read_weights(straight[0].path).keys() and not unfinished(run.path)


@pytest.mark.parametrize("epochs", [pytest.param(1, marks=pytest.mark.slow), 2])
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
    with pytest.raises(ValueError, match=r"another config; resume it without changing training\.batch_size$"):
        next(train_epochs(tiny_config(epochs=4, batch_size=20), name, resume=True, device="cpu"))
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

    torch.save({"state": Bomb(), "weights": {}, "best": {}, "history": [], "plans": []}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="is not a readable checkpoint"):
        read_checkpoint(tmp_path / "checkpoint.pt")
    assert not (tmp_path / "boom").exists()
