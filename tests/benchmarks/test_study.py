"""The study's runner on digits: two workers, one killed, nothing trained twice, nothing finished lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grids
import numpy as np
import pandas as pd
import pytest
import study
from tiny import tiny_config

import dmpo_explore as dx
from dmpo_explore.files import read_json

ROOT = Path(__file__).resolve().parents[2]
WORKER = """
import sys, time
sys.path[:0] = ["tests", "benchmarks"]
import optuna, study
from pathlib import Path
from tiny import tiny_config
root, epochs = Path(sys.argv[1]), int(sys.argv[2])
arms = {"one": tiny_config(epochs=epochs), "two": tiny_config(epochs=epochs, schedule="uniform")}
runs = study.plan(arms, seeds=(0, 1))
queue = study.open_queue(f"sqlite:///{root / 'queue.db'}", "test", runs, patience=2)
print("ready", flush=True)
study.work(queue, runs, root, root / "results.csv")
"""


def worker(root: Path, epochs: int) -> subprocess.Popen[str]:
    environment = os.environ | {"DMPO_EXPLORE_RUNS": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WORKER, str(root), str(epochs)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stderr=subprocess.PIPE)


def test_every_grid_can_be_planned() -> None:
    for name, grid in grids.GRIDS.items():
        runs = study.plan(grid)
        assert len(runs) == len(grid) * len(grids.SEEDS), name
        for run, config in runs.items():
            assert config.data.seed == config.training.seed == int(run[-1])
    assert grids.GRIDS["core"]["dmpo"] == grids.DEMO
    with pytest.raises(ValueError, match="no field 'rnak'"):
        grids.change(grids.DEMO, rnak=3)


def test_arms_differ_from_dmpo_in_what_their_name_says() -> None:
    core = grids.GRIDS["core"]
    assert core["dmpo-no-bypass"] == grids.change(grids.DEMO, bypass="none")
    assert core["dmpo-uniform"].training.schedule == "uniform"
    assert {core[name].model.read for name in core if name.startswith("naive")} == {"cls", "mean", "both"}
    assert len({config.to_json() for config in core.values()}) == len(core)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    first = worker(tmp_path, epochs=6)
    try:
        end = time.monotonic() + 90
        while not list(tmp_path.glob("*/checkpoint.pt")) and time.monotonic() < end and first.poll() is None:
            time.sleep(0.05)  # it has finished an epoch of its first run
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    both = [worker(tmp_path, epochs=6) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    last = worker(tmp_path, epochs=6)  # for the killed one's run, should the other two have gone before it was free
    assert last.communicate(timeout=120) and last.returncode == 0
    table = pd.read_csv(tmp_path / "results.csv")
    assert table["run"].tolist() == ["one-s0", "two-s0", "one-s1", "two-s1"]
    for name in table["run"]:
        run = dx.load_run(tmp_path / name)
        assert run.history()["epoch"].tolist() == [1, 2, 3, 4, 5, 6]  # each epoch once
        assert study.measure(run) == {k: v for k, v in read_json(tmp_path / name / study.ROW).items() if k != "run"}
        row = table.set_index("run").loc[name]
        record = run.record("test")
        assert row["first_exit"] == pytest.approx(record.correct[:, 0].mean(), abs=1e-6)


def test_the_score_is_the_mean_over_budgets() -> None:
    run = dx.load_run("demo")
    val, test = run.record("val"), run.record("test")
    accuracy = [dx.summarise(test, dx.fit_policy(val, flops=b).exits(test))["accuracy"] for b in grids.BUDGETS]
    assert study.score(val, test) == pytest.approx(np.mean(accuracy))
    single = dx.load_run("demo-single")
    assert study.score(single.record("val"), single.record("test")) is None
    assert study.at_budget(val, test, 0.05) is None


def test_a_finished_run_is_not_made_again(tmp_path: Path) -> None:
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / study.ROW).write_text('{"run": "done", "score": 0.5}')
    assert study.make_run(tmp_path / "done", tiny_config(), lambda text: None) == {"run": "done", "score": 0.5}
    table = study.write_rows(tmp_path, ["missing", "done"], tmp_path / "deep" / "results.csv")
    assert table["run"].tolist() == ["done"]
    assert pd.read_csv(tmp_path / "deep" / "results.csv")["score"].tolist() == [0.5]
