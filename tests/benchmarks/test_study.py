"""The study's runner on digits: two workers, one killed, nothing trained twice, nothing finished lost."""

from __future__ import annotations

import re
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from calls import Program, start
from tiny import tiny_config

import dmpo_explore as dx
import study
from _study import grids
from _study import run as run_module
from dmpo_explore.utils.files import read_json

EPOCHS = 4
PATIENCE = 5  # seconds without a heartbeat until a run is free again
EPOCHS_ONCE = [*range(1, EPOCHS + 1)]
NAMES = ["one-s0", "two-s0", "one-s1", "two-s1"]
WORKER = """
import os, sys, time
import study
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from tiny import tiny_config
root, epochs, patience, last = Path(sys.argv[1]), *map(int, sys.argv[2:])
study.RESULTS = root / "results"
how = {"model": {"exits": (1, 2)}, "epochs": epochs}
arms = {"one": tiny_config(**how), "two": tiny_config(**how, schedule="uniform")}
study.EVIDENCE["core"] = {"two": ("gradients", "stages")}
make_run = study.make_run
def noted(path, result, config, progress, **how):
    def tell(text):
        with (root / "told.txt").open("a") as stream:
            stream.write(f"{os.getpid()} {text}\\n")
        progress(text)
        if f"epoch {last}/" in text:
            time.sleep(180)
    tell(f"{path.name}: begins")
    return make_run(path, result, config, tell, **how)
study.make_run = noted
options = Namespace(root=root, storage=None, patience=patience, device="cpu")
study.run_grid("core", study.plan(arms, seeds=(0, 1)), options)
"""


def worker(root: Path, last: int = 0) -> Program:
    """A worker; one with a ``last`` epoch does nothing more after it."""
    return start(WORKER, root, root, EPOCHS, PATIENCE, last, DMPO_EXPLORE_RUNS=str(root))


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
    first = worker(tmp_path, last=2).process
    end = time.monotonic() + 90
    while not list(tmp_path.glob("core/[!.]*/checkpoint.pt")) and time.monotonic() < end and first.is_alive():
        time.sleep(0.01)  # it has finished an epoch of its first run
    first.kill()
    first.join()
    free = time.monotonic() + PATIENCE
    for program in [worker(tmp_path), worker(tmp_path)]:
        program.ended(120)
    time.sleep(max(0, free + 1 - time.monotonic()))  # the other two may have gone before the killed one's run was free
    worker(tmp_path).ended(120)
    told = [line.split(" ", 2) for line in (tmp_path / "told.txt").read_text().splitlines()]  # pid, run:, what
    begun = {name: [pid for pid, who, what in told if (who, what) == (f"{name}:", "begins")] for name in NAMES}
    (shared,) = (name for name, pids in begun.items() if str(first.pid) in pids)
    assert [len(pids) for name, pids in begun.items() if name != shared] == [1, 1, 1]
    heir = begun[shared][1:]
    assert len(heir) == 1 and f"{heir[0]} {shared}: epoch 1/{EPOCHS}" not in (tmp_path / "told.txt").read_text()
    results = tmp_path / "results"
    table = pd.read_csv(results / "study-core.csv")
    assert table["run"].tolist() == NAMES
    for name in table["run"]:
        run = dx.load_run(tmp_path / "core" / name)
        assert run.history()["epoch"].tolist() == EPOCHS_ONCE
        kept = results / "study" / "core" / name
        assert {"run": name, **run_module.measure(run, run.record("val"), run.record("test"))} == read_json(
            kept / "row.json"
        )
        row = table.set_index("run").loc[name]
        record = run.record("test")
        assert row["first_exit"] == pytest.approx(record.correct[:, 0].mean(), abs=1e-6)
        with np.load(kept / "outcomes.npz", allow_pickle=False) as outcomes:
            assert (outcomes["last exit"] == record.correct[:, -1]).all()
        if name.startswith("two"):
            gradients, stages = (pd.read_csv(kept / f"{what}.csv") for what in ("gradients", "stages"))
            assert gradients["epoch"].tolist() == EPOCHS_ONCE and gradients["cosine"].between(-1, 1).all()
            assert stages["exit"].tolist() == [1, 2] and stages["kept"].between(0, 1 + 1e-9).all()
            assert stages["label_trunk"].between(0, 1).all()
        else:
            assert not (kept / "gradients.csv").exists()


def test_the_queue_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    url, configs = f"sqlite:///{tmp_path / 'queue.db'}", dict.fromkeys(("a", "b", "c", "d"), tiny_config())
    made: list[str] = []

    def make(name: str, tell: Callable[[str], None]) -> float:
        made.append(name)
        if made == ["a", "b"]:
            raise KeyboardInterrupt
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        study.work(study.open_queue(url, "test", configs), configs, make)
    missing = {name: configs[name] for name in ("b", "c", "d")}  # a has a result
    study.work(study.open_queue(url, "test", missing), missing, make)
    assert made == ["a", "b", "c", "d", "b"]


def test_a_run_that_was_queued_twice_is_made_once(tmp_path: Path) -> None:
    url, configs = f"sqlite:///{tmp_path / 'queue.db'}", {"a": tiny_config()}
    queue = study.open_queue(url, "test", configs)
    queue.enqueue_trial({}, user_attrs={"run": "a"})  # by a second worker, which saw it silent at the same moment
    made: list[str] = []

    def make(name: str, tell: Callable[[str], None]) -> float:
        made.append(name)
        return 1.0

    study.work(queue, configs, make)
    assert made == ["a"]


def test_the_score_is_the_mean_over_budgets() -> None:
    run = dx.load_run("fashion")
    val, test = run.record("val"), run.record("test")
    accuracy = [dx.summarise(test, dx.fit_policy(val, flops=b).exits(test))["accuracy"] for b in grids.BUDGETS]
    assert run_module.score(val, test) == pytest.approx(np.mean(accuracy))
    single = dx.load_run("fashion-single")
    assert run_module.score(single.record("val"), single.record("test")) is None
    assert run_module.at_budget(val, test, 0.05) is None


def test_a_finished_run_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "RESULTS", tmp_path / "results")
    done = tmp_path / "results" / "study" / "core" / "done-s0"
    done.mkdir(parents=True)
    (done / "row.json").write_text('{"run": "done-s0", "score": 0.5}')
    (done / "config.json").write_text(tiny_config().to_json())
    options = Namespace(root=tmp_path / "runs", storage="none", patience=2, device="cpu")  # no queue: it would fail
    table = study.run_grid("core", {"done-s0": tiny_config()}, options)
    assert table["run"].tolist() == ["done-s0"]
    assert pd.read_csv(tmp_path / "results" / "study-core.csv")["score"].tolist() == [0.5]
    assert run_module.make_run(tmp_path / "done-s0", done, tiny_config(), print)["score"] == 0.5
    with pytest.raises(ValueError, match="done-s0 was made with another config: give the changed arm a new name"):
        study.run_grid("core", {"done-s0": tiny_config(epochs=9)}, options)


def test_a_training_that_diverges_is_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*_: object, **__: object) -> None:
        raise FloatingPointError("the loss became nan in epoch 1, step 2")

    monkeypatch.setattr("dmpo_explore.train", diverge)
    monkeypatch.setattr(study, "RESULTS", tmp_path / "results")
    options = Namespace(root=tmp_path, storage=None, patience=2, device="cpu")
    table = study.run_grid("recipe", {"tuning-lr-0.004-s0": tiny_config()}, options)
    assert table.to_dict("list") == {"run": ["tuning-lr-0.004-s0"], "diverged": [True]}
    assert study.run_grid("recipe", {"tuning-lr-0.004-s0": tiny_config()}, options).equals(table)  # not again


def test_a_run_made_elsewhere_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(study, "RESULTS", tmp_path / "results")
    url, configs = f"sqlite:///{tmp_path / 'queue.db'}", {"dmpo-s0": tiny_config()}
    queue = study.open_queue(url, "core", configs)
    queue.optimize(lambda trial: 1.0, n_trials=1)
    study.run_grid("core", configs, Namespace(root=tmp_path, storage=url, patience=2, device="cpu"))
    assert re.search(r"made elsewhere, so bring their folders to .*: dmpo-s0", capsys.readouterr().out)


def test_bundled_runs_are_the_first_seed_of_the_headlines() -> None:
    """Rows that are published can be made again from the bundled runs; their compute is counted as trained."""

    def as_trained(record: dx.ExitRecord) -> dx.ExitRecord:
        return replace(record, meta=replace(record.meta, flops=record.meta.flops_trained))

    names = {arm: name for name, arm in grids.SHIPPED.items()}
    table = pd.read_csv(study.RESULTS / "study-shipped.csv").set_index("run")
    for arm, name in names.items():
        run = run_module.bundled(study.plan(grids.GRIDS["shipped"])[f"{arm}-s0"])
        assert run is not None and run.name == name
        published = table.loc[f"{arm}-s0"].dropna()
        records = as_trained(run.record("val")), as_trained(run.record("test"))
        assert published.to_dict() == pytest.approx(run_module.measure(run, *records), rel=1e-4), name
        with np.load(study.RESULTS / "study" / "shipped" / f"{arm}-s0" / "outcomes.npz", allow_pickle=False) as kept:
            again = run_module.outcomes(*records)
            assert set(kept) == set(again)
            assert all((kept[what] == correct).all() for what, correct in again.items())


def test_the_command_names_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert study.main(["core", "--device", "cuda"]) == 1
    assert "no usable NVIDIA GPU" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        study.main(["core", "--seeds", "4"])
    assert stop.value.code == 2 and "--seeds 4 must lie" in capsys.readouterr().err


def test_some_arms_can_be_wanted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    wanted: list[str] = []

    def run_grid(grid: str, configs: dict[str, dx.Config], options: Namespace) -> pd.DataFrame:
        wanted.extend(configs)
        return pd.DataFrame()

    monkeypatch.setattr(study, "run_grid", run_grid)
    assert study.main(["core", "--seeds", "2", "--arms", "single", "dmpo"]) == 0
    assert wanted == ["single-s0", "dmpo-s0", "single-s1", "dmpo-s1"]
    with pytest.raises(SystemExit):
        study.main(["core", "--arms", "dmpo", "dmop"])
    assert "--arms dmop: the grid core has single, naive-cls," in capsys.readouterr().err


def test_runs_that_are_not_wanted_now_keep_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "RESULTS", tmp_path)
    for name in ("dmpo-s0", "dmpo-s1", "single-s0"):
        folder = tmp_path / "study" / "core" / name
        folder.mkdir(parents=True)
        (folder / "row.json").write_text(f'{{"run": "{name}"}}')
        (folder / "config.json").write_text(grids.GRIDS["core"]["dmpo"].to_json())
    options = Namespace(root=tmp_path / "runs", storage="none", patience=2, device="cpu")
    wanted = {"dmpo-s0": grids.GRIDS["core"]["dmpo"]}
    assert study.run_grid("core", wanted, options)["run"].tolist() == ["single-s0", "dmpo-s0", "dmpo-s1"]
