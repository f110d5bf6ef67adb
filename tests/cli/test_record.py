"""`dmpo-explore record`, the whole way from a training to an evaluation, and images of one's own that change."""

from __future__ import annotations

import inspect
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calls import call, fails
from image_files import fill, paint
from tiny import tiny_config, tiny_options

from dmpo_explore.analysis.metrics import one_answer, summarise
from dmpo_explore.cli.record import command_of, record
from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.inference.torch_recording import record_run
from dmpo_explore.records.writer import STATE, RecordWriter
from dmpo_explore.runs.store import load_run


@pytest.mark.slow
def test_train_record_evaluate(no_runs: Path) -> None:
    done = call("train", *tiny_options(), "--name", "new", "--device", "cpu", "--json")
    answer = json.loads(done.stdout)
    assert answer["run"] == "new" and Path(answer["path"]) == no_runs / "new" and len(answer["exit_accuracy"]) == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 2 and lines[0].startswith("epoch 1/2: loss ") and "val accuracy" in lines[0]
    assert "left)" in lines[0] and "left)" not in lines[1]
    assert load_run("new").config == tiny_config()
    with pytest.raises(ValueError, match="no record"):
        load_run("new").record("val")
    assert "no record of split 'val'" in fails("evaluate", "new")

    recorded = json.loads(call("record", "new", "--device", "cpu", "--batch-size", 100, "--no-logits", "--json").stdout)
    assert [row["split"] for row in recorded] == ["val", "test"] and recorded[1]["images"] == 359
    assert "test: 359 images" in load_run("new").card() and "| fitted on |" in load_run("new").card()
    assert load_run("new").record("test").logits is None
    assert "has a val record without logits; replace it with --force" in fails("record", "new")
    assert "has a test record without logits" in fails("record", "new", "--split", "test")
    assert "test: 359 images, exits" in call("record", "new", "--split", "test", "--force").stdout

    row = json.loads(call("evaluate", "new", "--flops", 0.9, "--json").stdout)
    policy = fit_policy(load_run("new").record("val"), flops=0.9)
    record = load_run("new").record("test")
    assert row["threshold"] == policy.thresholds[0]
    assert row["target"] == {"flops": 0.9} and row["run"] == "new" and row["split"] == "test"
    expected = summarise(record, policy.exits(record))
    assert {key: row[key] for key in expected} == expected
    assert {"accuracy", "flops_fraction", "threshold", "exit_shares", "mean_exit", "full_accuracy"} <= row.keys()


def test_ctrl_c_says_how_to_go_on(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = RecordWriter.write

    def stopped(self: RecordWriter, batch: int, arrays: Any) -> None:
        write(self, batch, arrays)
        if self.path.name == "test" and batch == 2:
            raise KeyboardInterrupt

    options = ["--device", "cpu", "--batch-size", "50", "--no-logits", "--force"]
    with monkeypatch.context() as patch:
        patch.setattr(RecordWriter, "write", stopped)
        done = call("record", "mine", *options, status=130)
    before, command = done.stderr.splitlines()[-1].split(" continue with: dmpo-explore ")
    assert before == "stopped;" and done.stdout == ""
    words = ["record", "mine", "--split", "test", "--device", "cpu", "--batch-size", "50", "--no-logits", "--force"]
    assert command.split() == words
    progress = runs / "progress.json"
    assert "test: 359 images" in call(*words, "--progress", progress).stdout
    assert json.loads(progress.read_text())["what"] == "done"
    assert list((runs / "mine" / "records").glob(".*")) == []


def test_the_command_leaves_out_what_is_usual() -> None:
    assert command_of("mine", ["val", "test"], device="auto", precision="no", batch_size=250, keep_logits=True) == (
        "dmpo-explore record mine --split val --split test"
    )
    assert command_of("mine", ["val"], precision="bf16", force=True).endswith("--precision bf16 --force")
    assert command_of("mine", ["test"], other_data="my photos").endswith("--other-data 'my photos'")
    options = inspect.signature(record).parameters
    usual = inspect.signature(record_run).parameters
    for name in ("device", "precision", "batch_size", "force"):
        assert options[name].default == usual[name].default


def test_a_split_that_is_named_twice_is_recorded_once(runs: Path) -> None:
    how = ("--split", "test", "--split", "test", "--force", "--device", "cpu", "--json")
    assert [row["split"] for row in json.loads(call("record", "mine", *how).stdout)] == ["test"]


def test_a_recording_killed_between_two_splits_goes_on_by_the_same_command(runs: Path) -> None:
    whole = (runs / "mine" / "records" / "val" / "meta.json").stat().st_ino
    card = load_run("mine").card()
    shutil.rmtree(runs / "mine" / "records" / "test")
    for kept in ("val", "val test"):
        rows = json.loads(call("record", "mine", "--device", "cpu", "--json").stdout)
        assert [row["split"] for row in rows] == ["val", "test"]
        assert " ".join(row["split"] for row in rows if row["kept"]) == kept
    meta = json.loads((runs / "mine" / "records" / "test" / "meta.json").read_text())
    left = runs / "mine" / "records" / ".test.partial"  # of a kill behind the last rename
    left.mkdir()
    (left / STATE).write_text(json.dumps({"created": meta["created"]}))
    val, _ = call("record", "mine", "--device", "cpu").stdout.splitlines()
    assert not left.exists()
    assert val.startswith("val: 143 images, exits ") and val.endswith("%; this record was there and is kept")
    assert (runs / "mine" / "records" / "val" / "meta.json").stat().st_ino == whole
    assert "## Results" in load_run("mine").card() != card  # a kill before it was written is made good


def test_a_record_without_what_is_asked_or_of_other_weights_or_images_is_an_error(runs: Path) -> None:
    assert "has a val record without features; replace it with --force" in fails("record", "mine", "--features")
    path = runs / "mine" / "records" / "test" / "meta.json"
    meta = path.read_text()
    path.write_text(json.dumps(json.loads(meta) | {"weights_sha256": "0" * 64}))
    assert "the test record of run 'mine' is of earlier weights" in fails("record", "mine")
    manifest = load_run("mine").manifest
    assert manifest is not None
    path = path.parents[1] / "val" / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"images_sha256": "0" * 64}))
    assert "the val record of run 'mine' is of other images" in fails("record", "mine")


def test_an_exit_that_calls_all_images_the_same_is_said_to_have_learned_nothing(runs: Path) -> None:
    found = load_run("mine").record("test")
    prediction = found.prediction.copy()
    prediction[:, 1] = 3
    assert one_answer(replace(found, prediction=prediction)) == ["exit 2 calls every image '3': it has learned nothing"]
    assert one_answer(replace(found, prediction=prediction, labels=np.full_like(found.labels, 3))) == []


# -- what is added, renamed or moved never changes a number silently --


OPTIONS = [*tiny_options(data="DATA", train_size=16, epochs=1, batch_size=8, validation_size=10), "--device", "cpu"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, and a run that was trained on them, typed as a relative path, and recorded."""
    root = tmp_path_factory.mktemp("own")
    fill(root / "images")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("DMPO_EXPLORE_RUNS", str(root / "runs"))
        arguments = [option if option != "DATA" else "images" for option in OPTIONS]
        done = call("train", *arguments, "--name", "mine", "--record")
    line = "data: 16 train, 4 val, 4 test, 2 classes; 80/10/10 % of every class into train, val, test, with seed 0; 16"
    assert line in done.stderr and "no calibration images: " in done.stderr.partition("epoch 1/1")[0]
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to spoil; the run's images are still those of the first place, until it is pointed here."""
    shutil.copytree(made / "runs", tmp_path / "runs")
    shutil.copytree(made / "images", tmp_path / "copy")
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_moved_folder_is_checked_and_added_images_change_nothing(root: Path, made: Path) -> None:
    before = load_run("mine").record("test")
    for i in range(10):
        paint(root / "copy" / "cat" / f"a{i}.png", 100 + i)
    assert f"the images of run 'mine' are read from {root / 'copy'}" in call("record", "mine", "--data", "copy").stderr
    assert load_run("mine").record("test").meta.created == before.meta.created
    done = call("record", "mine", "--split", "test", "--force", "--device", "cpu")
    assert done.stderr.count("10 added (cat/a0.png") == 1 and "they are in no split" in done.stderr
    after = load_run("mine").record("test")
    assert np.array_equal(after.prediction, before.prediction) and np.array_equal(after.labels, before.labels)
    assert np.allclose(after.confidence, before.confidence, atol=1e-6)
    assert after.meta.images_sha256 == before.meta.images_sha256 != ""
    assert load_run("mine").config.data.name == str(root / "copy") and after.meta.data != before.meta.data

    shutil.copytree(made / "runs" / "mine", root / "runs" / "first")  # recorded where the folder lay before
    row = json.loads(call("evaluate", "mine", "--flops", 0.9, "--against", "first", "--json").stdout)
    assert row["against"]["difference"] == 0
