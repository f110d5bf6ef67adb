"""One's own images on the command line: what is added, renamed or moved never changes a number silently."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from calls import call, fails
from image_files import fill, paint
from tiny import tiny_options

from dmpo_explore.runs.store import load_run

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


def again(*options: str) -> None:
    call("record", "mine", "--split", "test", "--force", "--device", "cpu", *options)


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


def test_other_photographs_of_the_same_names_are_not_compared(root: Path) -> None:
    shutil.copytree(root / "runs" / "mine", root / "runs" / "first")
    meta = root / "runs" / "first" / "records" / "test" / "meta.json"
    values = json.loads(meta.read_text())
    meta.write_text(json.dumps(values | {"images_sha256": "0" * 64}))
    assert "'first' was not recorded on the same test images" in fails("evaluate", "mine", "--against", "first")


def test_a_renamed_class_or_a_lost_image_stops_a_record(root: Path) -> None:
    again("--data", "copy")
    (root / "copy" / "cat").rename(root / "copy" / "zebra")
    assert "2 renamed (cat/" in fails("record", "mine", "--split", "test", "--force")
    (root / "copy" / "zebra").rename(root / "copy" / "cat")
    manifest = load_run("mine").manifest
    assert manifest is not None
    (root / "copy" / manifest.files["test"][0].path).unlink()
    assert "1 missing (" in fails("record", "mine", "--split", "test", "--force")
    assert "nothing to resume" not in fails("train", "--resume", "mine", "--data", "nowhere")


def test_the_run_works_from_any_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(root / "elsewhere" / "images", first=100)  # other images of the same relative name
    monkeypatch.chdir(root / "elsewhere")
    before = load_run("mine").record("test")
    again()
    assert np.array_equal(load_run("mine").record("test").prediction, before.prediction)
