"""What a training does to a run of its name that is there already, and which names it takes."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from tiny import tiny_config
from tiny_training import CONFIG, FILES, files, stop_after

from dmpo_explore.config import Config, DataConfig, ModelConfig
from dmpo_explore.runs.run_files import RUN_NAME
from dmpo_explore.runs.store import load_run
from dmpo_explore.training.train import default_name, train_epochs

pytestmark = pytest.mark.usefixtures("runs")


def digest(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files(folder)}


@pytest.mark.slow
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


def test_names_made_of_the_data_fit_and_name_the_only_exits_predictor() -> None:
    assert RUN_NAME.fullmatch(default_name(Config(DataConfig("x" * 200 + "/" + "y" * 200))))
    single = Config(DataConfig("digits"), ModelConfig(exits=(6,)))
    assert default_name(single).startswith("digits-linear-") and default_name(Config(DataConfig("digits"))) > "digits-c"
