"""What a run holds besides its weights: the logs of trackers, and records of its splits."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from synthetic import make_record
from tiny_training import CONFIG, stop_after

from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.inference.torch_recording import record_run
from dmpo_explore.policies.catalogue import read_policies, write_policies
from dmpo_explore.runs.run import Run
from dmpo_explore.runs.store import BUNDLED_RUNS, load_run
from dmpo_explore.training.loop import EpochResult
from dmpo_explore.training.train import train_epochs

pytestmark = pytest.mark.usefixtures("runs")


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
