"""The controls: equal weights, the plan, rows that are made once, and a queue that can be paused."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock

import controls
import dmpo_explore as dx
from _controls import predictors, protocol, run
from dmpo_explore.models.backbone import ExitShape
from dmpo_explore.models.bypass import BYPASSES
from dmpo_explore.models.predictors import PREDICTORS
from dmpo_explore.utils.torch_tools import seeded

OF_DEMO = 226_985  # trainable weights of an early exit: 384 wide, 81 classes


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", "")
    predictors.register()
    yield
    for name in predictors.NEW:
        del PREDICTORS[name]


@pytest.mark.parametrize("n_classes", [81, 100, 101])
def test_exits_of_equal_weights_differ_by_less_than_three_per_cent(n_classes: int) -> None:
    shape, found = ExitShape(384, (6, 6), 1, True), {}
    for arm, changes in protocol.ARMS.items():
        model = protocol.SHORT.updated(changes).model
        with seeded(0):
            bypass = BYPASSES[model.bypass].at(shape, model)
            predictor = PREDICTORS[model.predictor].at(shape, n_classes, model, "both")
            assert predictor(bypass(torch.randn(2, 37, 384))[0]).shape == (2, n_classes)
        found[arm] = predictors.count(bypass, predictor)
    ours = found[protocol.DMPO]
    assert n_classes != 81 or ours == OF_DEMO
    equal = (*protocol.EQUAL, "two-layers-bypass", "attention-pooling-bypass")
    assert all(abs(found[arm] / ours - 1) < 0.03 for arm in equal)
    assert found["linear"] < found["linear-bypass"] < found["covariance"] < 0.9 * ours


def test_a_query_weighs_the_patches_it_agrees_with() -> None:
    pooling = predictors.AttentionPooling(4, 3, prefix=1, read="cls", inner=8)
    tokens = torch.randn(2, 10, 4)
    moved = tokens[:, torch.tensor([0, *range(9, 0, -1)])]
    torch.testing.assert_close(pooling(tokens), pooling(moved))  # their order does not matter
    with torch.no_grad():
        pooling.query.zero_()  # agrees with all alike
        mean = pooling.value(tokens[:, 1:]).mean(dim=1)
        torch.testing.assert_close(pooling(tokens), pooling.first(tokens) + pooling.second(mean))


def test_the_plan_has_every_job_once_and_the_comparisons_their_arms() -> None:
    jobs = protocol.plan()
    assert len({job.name for job in jobs}) == len(jobs)
    assert [sum(job.experiment == name for job in jobs) for name in protocol.EXPERIMENTS] == [54, 18, 9]
    numbers = []
    for name, experiment in protocol.EXPERIMENTS.items():
        arms = {job.arm for job in jobs if job.experiment == name}
        assert {arm for pair in experiment.compared for arm in pair} <= arms
        numbers.append(len(protocol.comparisons(experiment)) * len(experiment.sets))
    assert numbers == [252, 45, 17]
    assert f"In all {sum(numbers)}." in " ".join((protocol.__doc__ or "").split())
    e2 = [job for job in jobs if job.experiment == "E2" and job.seed == 0]
    assert [(job.arm, job.rate, job.read) for job in e2[:4]] == [
        ("teacher", None, "test"), ("naive-covariance", 5e-4, "val"), ("naive-covariance", 2e-3, "val"),
        ("naive-covariance", None, "test"),
    ]  # fmt: skip


def test_arms_differ_in_what_their_names_say_alone() -> None:
    e1, e2 = protocol.EXPERIMENTS["E1"], protocol.EXPERIMENTS["E2"]
    assert differing(e1, "covariance-bypass", "two-layers") == {"model.bypass", "model.predictor"}
    assert differing(e1, "covariance-bypass", "covariance") == {"model.bypass"}
    assert differing(e2, "dmpo", "naive-covariance") == {"model.bypass", "training.schedule"}
    config = e2.config("grocery", "dmpo", 1, 2e-3)
    assert (config.training.epochs, config.get("training.teacher"), config.training.seed) == (24, "teacher-s1", 1)
    assert e2.config("grocery", "teacher", 1).model.image_size == e2.reference


def differing(experiment: protocol.Experiment, *arms: str) -> set[str]:
    data = next(iter(experiment.sets))
    a, b = (experiment.config(data, arm, 0, 5e-4) for arm in arms)
    return {key for key in dx.OPTIONS if a.get(key) != b.get(key)}


# -- rows --


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> protocol.Experiment:
    """Two rates, a teacher and one arm on digits, as the only experiment."""
    base = dx.Config(
        dx.DataConfig("digits", train_size=60, calibration=True),
        dx.ModelConfig("test_vit", "random", 32, exits=(2, 4, 6), rank=2, bypass_width=8, channels=8),
        dx.TrainingConfig(
            epochs=2, batch_size=30, precision="no", validation_size=20, teacher="own", teacher_epochs=1,
            teacher_views=1,
        ),
    )  # fmt: skip
    arms = {"two-layers": {"model.predictor": "two-layers", "model.bypass": "none"}}
    experiment = protocol.Experiment(
        base, arms, {"digits": "digits"}, (0,), 96, compared=(), full="teacher", rates=(1e-3, 1e-2)
    )
    monkeypatch.setattr(protocol, "EXPERIMENTS", {"tiny": experiment})
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "cache"))
    return experiment


@pytest.mark.slow
def test_an_experiment_is_made_once_and_reads_test_for_the_rate_that_val_chose(
    tiny: protocol.Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = protocol.plan(("tiny",), {"tiny": tiny})
    assert len(controls.left(jobs, tmp_path)) == len(jobs) == 4
    controls.work(jobs, tmp_path / "runs", tmp_path, "abc")
    rows, outcomes = run.read_rows(tmp_path), pd.read_parquet(tmp_path / run.OUTCOMES)
    assert [*rows.index] == [job.name for job in jobs] and not controls.left(jobs, tmp_path)
    assert {*rows["commit"]} == {"abc"} and [*rows["read"]] == ["test", "val", "val", "test"]
    for name, row in rows.iterrows():
        for at in outcomes[outcomes["name"] == name]["at"]:
            column = at.replace(" ", "_") if "exit" in at else f"accuracy_{at}"
            assert np.isclose(run.correct_of(outcomes, name, at).mean(), row[column], atol=1e-6)
    trials = rows.iloc[1:3].set_index("rate")[[f"accuracy_{at}" for at in protocol.BUDGETS]].mean(axis=1, skipna=False)
    chosen = rows.iloc[3]["rate"]
    assert chosen == trials.idxmax()
    for rate in tiny.rates:
        records = tmp_path / "runs" / "tiny-digits" / f"two-layers-{rate:g}-s0" / "records"
        assert (records / "test").is_dir() == (rate == chosen)
    capsys.readouterr()
    controls.work(jobs, tmp_path / "runs", tmp_path, "abc")
    assert capsys.readouterr().out == ""  # nothing was left
    changed = run.config_of(jobs[1], tiny, rows)
    assert changed is not None
    with pytest.raises(ValueError, match="another config"):
        run.is_done(jobs[1], changed.updated({"training.epochs": 3}), rows)


def test_a_job_waits_for_the_trials_of_its_rate(tmp_path: Path) -> None:
    job = next(job for job in protocol.plan() if job.experiment == "E2" and job.arm == "dmpo" and job.rate is None)
    assert run.config_of(job, protocol.EXPERIMENTS["E2"], run.read_rows(tmp_path)) is None


def test_a_row_takes_the_place_of_one_of_its_name(tmp_path: Path) -> None:
    correct = np.arange(11) % 3 == 0
    for value, seen in ((1.0, ~correct), (2.0, correct)):
        run.append(tmp_path, {"name": "a", "config": "0123456789012345", "exit_1": value}, {"exit 1": seen})
    run.append(tmp_path, {"name": "b", "config": "12e4567890123456", "exit_1": 3.0}, {"exit 1": ~correct})
    rows = run.read_rows(tmp_path)
    assert rows["exit_1"].to_dict() == {"a": 2.0, "b": 3.0} and rows.loc["a", "config"] == "0123456789012345"
    outcomes = pd.read_parquet(tmp_path / run.OUTCOMES)
    assert len(outcomes) == 2 and (run.correct_of(outcomes, "a", "exit 1") == correct).all()


# -- the queue --


def test_two_queues_do_not_share_runs(tmp_path: Path) -> None:
    with FileLock(tmp_path / "lock"), pytest.raises(BlockingIOError, match="another process"):
        controls.work([], tmp_path, tmp_path, "abc")


def test_code_that_differs_from_its_commit_is_refused(tmp_path: Path) -> None:
    code, results = (tmp_path / name for name in ("benchmarks/_controls/run.py", "benchmarks/results/controls.csv"))
    who = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for path in (code, results):
        path.parent.mkdir(parents=True)
        path.write_text("1\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run(["git", *words], cwd=tmp_path, env=os.environ | who, check=True)
    results.write_text("2\n")
    assert len(controls.commit_of(tmp_path)) == 40
    code.write_text("2\n")
    with pytest.raises(ValueError, match=r"_controls/run\.py"):
        controls.commit_of(tmp_path)


@pytest.mark.slow
def test_it_stands_still_while_the_pause_file_is_there(tmp_path: Path) -> None:
    pause, beats = tmp_path / "pause", tmp_path / "beats"
    code = f"import time\nfor i in range(40):\n open({str(beats)!r}, 'a').write('.')\n time.sleep(0.1)"
    status: list[int] = []
    pause.touch()
    queue = threading.Thread(
        target=lambda: status.append(controls.supervise([sys.executable, "-c", code], pause, every=0.02))
    )
    queue.start()
    time.sleep(1)
    before = beats.stat().st_size if beats.exists() else 0
    time.sleep(0.5)
    assert (beats.stat().st_size if beats.exists() else 0) == before < 40
    pause.unlink()
    queue.join(60)
    assert status == [0] and beats.stat().st_size == 40
