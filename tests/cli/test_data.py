"""`dmpo-explore data`: every form of data, its tables and exit status; in `train`, too; and `probe`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from calls import call, fails
from failing import raising
from image_files import BROKEN, TOO_LARGE, clean_folder, dirty_folder, draw
from tiny import tiny_options

from dmpo_explore.cli import data as data_module
from dmpo_explore.records.record import ExitRecord
from dmpo_explore.runs.store import load_run


def test_a_dirty_folder_is_shown_whole_and_fails(tmp_path: Path) -> None:
    own = dirty_folder(tmp_path / "own")
    done = call("data", own, status=1)
    assert done.stderr.splitlines()[-1].startswith("error: a training cannot start")
    assert (
        "| cat   | 8     | 2   | 3    | 13  |" in done.stdout
        and "STOPS (broken): 3 images cannot be read: " in done.stdout
    )
    assert all(f"    {path}" in done.stdout.splitlines() for path in BROKEN)
    assert "note (leakage): 1 image of train is a copy of images in another split" in done.stdout
    assert "images per epoch: 26 in 1 step of 64" in done.stdout
    assert "risk control: no calibration images: " in done.stdout
    answer = json.loads(call("data", own, "--json", status=1).stdout)
    assert answer["ready"] is False and answer["counts"]["test"] == [3, 3, 3, 1] and answer["imbalance"] is None
    assert [finding["check"] for finding in answer["findings"] if finding["stops"]] == ["splits", "broken", "too large"]


def test_a_clean_folder_and_folders_of_splits_are_ready(tmp_path: Path) -> None:
    own = clean_folder(tmp_path / "own")
    done = call("data", own, "--image-size", 98, "--batch-size", 6)
    assert "findings: none" in done.stdout and "to 98 x 98 pixels" in done.stdout and "in 4 steps of 6" in done.stdout
    parts = call("data", "--train-dir", own / "train", "--test-dir", own / "test")
    assert parts.stdout.splitlines()[2:8] == done.stdout.splitlines()[2:8]
    assert parts.stdout.startswith(f"{own}: 39 images, 3 classes")  # by their common folder's name


@pytest.mark.slow
def test_many_classes_are_abbreviated(tmp_path: Path) -> None:
    for c in range(31):
        for i in range(5 + c // 3):
            draw(tmp_path / "own" / f"c{c:02d}" / f"{i}.png")
    short, whole = (call("data", tmp_path / "own", *more).stdout for more in ((), ("--all-classes",)))
    assert "| … 11 more (--all-classes) |" in short and "| c15 " not in short and "| c30 " in short
    assert "| c15 " in whole and "more (" not in whole
    assert data_module.MOST_CLASSES < 31


def test_ctrl_c_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmpo_explore.data.frame.Data.looked", raising(KeyboardInterrupt))
    done = call("data", tmp_path, status=130)
    assert "no file is half-written" in done.stderr and done.stderr.count("\n") == 1


def test_a_training_fails_before_its_first_step_with_all_findings(tmp_path: Path, no_runs: Path) -> None:
    own = dirty_folder(tmp_path / "own")
    no_runs.mkdir()
    (no_runs / "taken").mkdir()
    (no_runs / "taken" / "config.json").write_text("{}")
    line = fails("train", *tiny_options(data=own, train_size=20, weights=tmp_path / "none.pt"), "--name", "taken")
    for text in ("5 findings stop this training: (1) run 'taken' exists", "(2) no weights file", "zebra",
                 "images cannot be read", "(5) ", "huge.png has 6,000 x 5,000 pixels"):  # fmt: skip
        assert text in line
    assert [path.name for path in no_runs.iterdir()] == ["taken"]


@pytest.mark.slow
def test_what_is_skipped_is_listed_and_stays_out(tmp_path: Path, no_runs: Path) -> None:
    own = dirty_folder(tmp_path / "own")
    (own / "test" / "zebra" / "00.jpg").unlink()
    (own / "test" / "zebra").rmdir()
    options = tiny_options(data=own, train_size=23, epochs=1, batch_size=10, validation_size=6)
    assert "leave out what is broken with --skip-broken" in fails("train", *options, "--name", "mine")
    done = call("train", *options, "--skip-broken", "--name", "mine", "--record", "--device", "cpu")
    assert "4 left out as broken (train/cat/01.jpg" in done.stderr and "warning: leakage: 2 images" in done.stderr
    run = load_run("mine")
    assert run.manifest is not None and {*run.manifest.frame.query("why == 'broken or too large'")["path"]} == {
        *BROKEN, TOO_LARGE,
    }  # fmt: skip
    assert run.record("test").n_images == 9 and run.config.data.skip_broken
    again = call("record", "mine", "--split", "val", "--force", "--device", "cpu")
    assert "warning" not in again.stderr and "val: 6 images" in again.stdout
    (own / BROKEN[0]).write_bytes((own / "train" / "cat" / "05.jpg").read_bytes())  # mended: in no split
    call("record", "mine", "--split", "val", "--force", "--device", "cpu")
    assert "to train it longer, give a larger number" in fails("train", "--resume", "mine")


# -- `probe` --


TINY = ["--backbone", "test_vit", "--weights", "random", "--image-size", 32, "--images", 120]


@pytest.mark.slow
def test_it_says_where_exits_should_stand_and_keeps_the_record(tmp_path: Path) -> None:
    done = call("probe", "digits", *TINY, "--drop", 0.2, "--out", tmp_path / "probes")
    assert done.stdout.count("\n| ") == 6 and "Frozen features know the classes best" in done.stdout
    record = ExitRecord.load(tmp_path / "probes")
    assert record.n_images == 40 and record.n_exits == 6
    assert "valid" in call("check", tmp_path / "probes").stdout
    assert "exists" in call("probe", "digits", *TINY, "--out", tmp_path / "probes", status=1).stderr


@pytest.mark.slow
def test_json_has_the_whole_answer() -> None:
    answer = json.loads(call("probe", "digits", *TINY, "--json").stdout)
    assert (
        len(answer["probes"]) == 6 and answer["exits"][-1] == 6 and answer["low"] <= answer["share"] <= answer["high"]
    )


def test_what_cannot_be_is_said_before_an_image_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmpo_explore.training.block_probes.open_data", pytest.fail)
    assert "drop=1.5 must lie in [0, 1)" in call("probe", "digits", *TINY, "--drop", 1.5, status=1).stderr
