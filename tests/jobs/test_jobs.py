"""Trainings in the background: real ones, killed and resumed; and names that start nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from background import CONFIG, SLEEPS, SPEAKS, become, wait
from tiny import tiny_config
from typer.testing import CliRunner

from dmpo_explore import jobs
from dmpo_explore.cli import app
from dmpo_explore.config import Config, DataConfig
from dmpo_explore.inference.torch_recording import record_run
from dmpo_explore.jobs.jobs import PROCESS_GONE
from dmpo_explore.jobs.progress_file import read_progress
from dmpo_explore.runs.run_files import WEIGHTS
from dmpo_explore.runs.store import list_runs, load_run
from dmpo_explore.runs.torch_model import read_weights

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")


# -- the real thing --


@pytest.mark.slow
def test_a_training_is_killed_goes_on_and_is_recorded(root: Path) -> None:
    job = jobs.start(CONFIG, "mine")
    assert jobs.load_job("mine") == job and job.config == CONFIG and jobs.job_status(job).active
    with pytest.raises(FileExistsError, match="'mine' is being trained; wait for it, stop it"):
        jobs.start(CONFIG, "other")
    with pytest.raises(FileExistsError, match="stop it first"):
        jobs.forget("mine")
    wait(lambda: jobs.job_status(job).epoch >= 2 and "epoch 2/12" in job.log())  # the log follows the history
    seen = jobs.job_status(job)
    assert seen.progress and seen.progress.what == "training" and seen.progress.epochs == 12
    assert seen.memory > 50 << 20 and seen.progress.loss is not None
    os.kill(job.pid, signal.SIGKILL)
    wait(lambda: not jobs.job_status(job).active)
    killed = jobs.job_status(job)
    assert (killed.state, killed.reason) == (jobs.FAILED, PROCESS_GONE) and killed.resumable and killed.epoch >= 2
    record_run(load_run("mine"), "val", device="cpu")  # of weights that are going to change
    assert jobs.job_status(job).recorded == ("val",)
    again = jobs.resume("mine")
    assert "--resume=mine" in again.arguments
    wait(lambda: not jobs.job_status(again).active)
    end = jobs.job_status(again)
    assert end.state == jobs.FINISHED and end.epoch == end.epochs == 12 and end.recorded == ("val", "test"), again.log()
    assert "mine" in list_runs() and load_run("mine").history()["epoch"].tolist() == list(range(1, 13))
    assert load_run("mine").record("test").n_images == 359 and read_weights(root / "mine")
    recorded = np.array(load_run("mine").record("val").confidence)
    assert np.allclose(recorded, record_run(load_run("mine"), "val", device="cpu", force=True).confidence, atol=1e-4)
    assert not end.reason and not end.resumable
    with pytest.raises(ValueError, match="is finished; there is nothing to resume"):
        jobs.resume("mine")
    (root / "mine" / WEIGHTS).touch()
    assert jobs.job_status(again).recorded == ("val", "test")  # of these very weights
    content = bytearray((root / "mine" / WEIGHTS).read_bytes())
    content[-1] ^= 1  # as a training does that goes on without recording
    (root / "mine" / WEIGHTS).write_bytes(content)
    os.utime(root / "mine" / WEIGHTS, (0, 0))  # a clock that was set back
    assert jobs.job_status(again).recorded == () and jobs.job_status(again).resumable
    jobs.forget("mine")
    assert not jobs.list_jobs() and "mine" in list_runs()


@pytest.mark.slow
def test_measuring_is_real_and_what_is_missing_names_the_way_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = jobs.measure(CONFIG)
    assert len(rates.steps) == 4 and rates.train == 1295 and rates.memory > 50 << 20 and rates.start > 0.2
    assert not list(root.glob("*"))
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(root / "cache"))
    absent = Config(DataConfig("cifar10"), CONFIG.model, CONFIG.training)
    with pytest.raises(FileNotFoundError, match="dmpo-explore fetch --data cifar10"):
        jobs.check_ready(absent)


@pytest.mark.slow
def test_train_records_and_says_how_far_it_is(root: Path, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(tiny_config(epochs=1).to_json())
    options = ["--config", "c.json", "--name", "new", "--record", "--progress", "p.json", "--device", "cpu", "--json"]
    done = CliRunner().invoke(app, ["train", *options])
    assert done.exit_code == 0, done.output
    assert [row["split"] for row in json.loads(done.stdout)["records"]] == ["val", "test"]
    assert load_run("new").splits() == ["test", "val"]
    found = read_progress(tmp_path / "p.json")
    assert found and found.what == "done"


# -- names and arguments --


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "/abs", "-x", "--force", "-", "a b", "a\nb", "$(touch x)", ";ls", "x" * 101, ".jobs",
     "\0", "a\\b", "ü", "demo", "demo-cnn"],
)  # fmt: skip
def test_a_bad_name_starts_nothing(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **o: pytest.fail("something was started"))
    with pytest.raises(ValueError, match="choose another name|must be 1 to 100"):
        jobs.start(CONFIG, name)
    assert not root.exists()
    if not name.startswith("demo"):
        for ask in (jobs.load_job, jobs.stop, jobs.forget, jobs.resume):
            with pytest.raises(ValueError, match="there is no job"):
                ask(name)


def test_nothing_typed_becomes_an_option(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(SPEAKS, monkeypatch, tmp_path)
    hostile = Config(DataConfig("--force; touch hacked", root="$(touch hacked)"))
    job = jobs.start(hostile, "mine")
    wait(lambda: not jobs.job_status(job).active)
    _, command, progress, config, name, record = json.loads((tmp_path / "argv.json").read_text())
    folder = root / ".jobs" / "mine"
    assert (command, name, record) == ("train", "--name=mine", "--record")
    assert config == f"--config={folder / 'config.json'}" and progress.startswith(f"--progress={folder / 'progress-'}")
    assert job.config == hostile and not (tmp_path / "hacked").exists()
    assert jobs.job_status(job).reason == "no luck today"
    assert os.getpgid(os.getpid()) != job.pid and sorted(os.listdir(root)) == [".jobs"]


def test_a_run_of_that_name_is_not_touched(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(SLEEPS, monkeypatch, tmp_path)
    (root / "mine").mkdir(parents=True)
    (root / "mine" / "config.json").write_text(CONFIG.to_json())
    with pytest.raises(FileExistsError, match="'mine' exists"):
        jobs.start(CONFIG, "mine")
    (tmp_path / "elsewhere").mkdir()
    (root / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError, match="not a folder"):
        jobs.start(CONFIG, "link")
    assert not jobs.list_jobs()
