"""`dmpo-explore predict` and `export`, of `cli.export`."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calls import call, fails, listing

from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.inference.torch_engine import Prediction
from dmpo_explore.runs.store import load_run


def test_predict_writes_csv(runs: Path, image_folder: Path, tmp_path: Path) -> None:
    done = call("predict", "mine", image_folder, image_folder / "b.png", "--threshold", 0.3, "--device", "cpu")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [Path(row["file"]).name for row in rows] == ["a.jpg", "b.png", "c.png", "b.png"]
    assert rows[1] == rows[3]
    for row in rows:
        assert row["label"] in "0123456789" and row["exit"] in "12"
        assert (float(row["confidence"]) >= 0.3) or row["exit"] == "2"
    out = tmp_path / "out.csv"
    silent = call("predict", "mine", image_folder, "-o", out, "--device", "cpu", "--batch-size", 2)
    assert silent.stdout == "" and len(out.read_text().splitlines()) == 4
    for target in (["--flops", 0.9], ["--accuracy-drop", 0.1], ["--shares", "0.5,0.5"]):
        assert len(call("predict", "mine", image_folder, *target, "--policy", "entropy").stdout.splitlines()) == 4


def test_predict_reports_what_it_cannot_read_and_goes_on(runs: Path, image_folder: Path) -> None:
    whole = (image_folder / "b.png").read_bytes()
    (image_folder / "b.png").write_bytes(whole[:60])
    done = call("predict", "mine", image_folder, image_folder / "notes.txt", image_folder / "none.png", status=1)
    assert [Path(row["file"]).name for row in csv.DictReader(io.StringIO(done.stdout))] == ["a.jpg", "c.png"]
    *errors, caution = done.stderr.splitlines()
    assert caution.startswith("caution: run 'mine': it has no calibration record")
    assert len(errors) == 3 and all(line.startswith("error: ") for line in errors)
    assert [name in line for name, line in zip(("b.png", "notes.txt", "none.png"), errors, strict=True)] == [True] * 3


def test_ctrl_c_keeps_what_was_predicted(
    runs: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopping(*arguments: Any, **how: Any) -> Iterator[Prediction]:
        for i in range(at):
            yield Prediction(Path(f"{i}.png"), "7", exit=1, confidence=0.5)
        raise KeyboardInterrupt

    monkeypatch.setattr("dmpo_explore.inference.torch_engine.predict_files", stopping)
    out, at = tmp_path / "out.csv", 2
    done = call("predict", "mine", image_folder, "-o", out, status=130)
    assert out.read_text() == "file,label,exit,confidence\n0.png,7,2,0.500000\n1.png,7,2,0.500000\n"
    assert "stopped; 2 of 3 rows are written to" in done.stderr and done.stdout == ""
    assert call("predict", "mine", image_folder, status=130).stdout == out.read_text()
    before, at = listing(tmp_path), 0  # before the first row: an earlier file stays, nothing is left behind
    assert "stopped; no file is half-written" in call("predict", "mine", image_folder, "-o", out, status=130).stderr
    assert listing(tmp_path) == before


def test_an_error_midway_and_a_name_that_is_not_utf8_lose_no_row(
    runs: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: Any, **how: Any) -> Iterator[Prediction]:
        yield Prediction(Path("caf\udce9.png"), "7", exit=1, confidence=0.5)
        raise ValueError("exit 1 gave NaN")

    monkeypatch.setattr("dmpo_explore.inference.torch_engine.predict_files", failing)
    done = call("predict", "mine", image_folder, "-o", tmp_path / "out.csv", status=1)
    assert (tmp_path / "out.csv").read_bytes() == b"file,label,exit,confidence\ncaf\xe9.png,7,2,0.500000\n"
    said = f"stopped; 1 of 3 rows are written to {tmp_path / 'out.csv'}"
    assert said in done.stderr and "error: exit 1 gave NaN" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", ["export mine", "publish mine --model"])
def test_ctrl_c_in_an_export_leaves_nothing(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def stop(*arguments: Any, **how: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dmpo_explore.inference.torch_export._export_stage", stop)
    done = call(*command.split(), "--out", tmp_path / "out", "--threshold", 0.4, status=130)
    assert "out was not written. Repeat the command to export" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_predict_refuses_wrong_usage(runs: Path, image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no images" in fails("predict", "mine", tmp_path / "empty")
    assert "give exactly one of" in fails("predict", "mine", image_folder, "--flops", 0.9, "--threshold", 0.5)
    assert "Missing argument" in fails("predict", "mine")
    before = listing(tmp_path)
    assert "thresholds" in fails(
        "predict", "mine", image_folder, "--threshold", "0.1,0.2,0.3", "-o", tmp_path / "out.csv"
    )
    assert listing(tmp_path) == before
    assert fails("predict", "mine", image_folder, "--threshold", 0.5, "-o", image_folder)  # a folder


def test_predict_loads_no_model_for_files_that_are_not_there(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmpo_explore.inference.torch_engine.predict_files", None)  # not reached
    done = call("predict", "mine", "none.jpg", status=1)
    assert done.stdout == "" and done.stderr == "error: no file none.jpg\n"
    assert "no file a, b, c …" in fails("predict", "mine", *"abcd")


@pytest.mark.slow
def test_export_writes_what_onnxruntime_runs(runs: Path, tmp_path: Path) -> None:
    from dmpo_explore.inference.onnx_engine import OnnxEngine

    done = call("export", "mine", "--out", tmp_path / "onnx", "--threshold", 0.3, "--json")
    assert "caution: run 'mine': it has no calibration record" in done.stderr
    answer = json.loads(done.stdout)
    assert answer["path"] == str(tmp_path / "onnx") and answer["policy"]["thresholds"] == [0.3]
    run, rows = load_run("mine"), np.arange(40)
    out = OnnxEngine(tmp_path / "onnx").infer(run.inputs("test", rows).numpy())
    record = run.record("test").subset(rows)
    expected = fit_policy(record, "confidence", threshold=0.3).exits(record)
    clear = np.abs(record.confidence[:, 0] - 0.3) > 1e-4
    np.testing.assert_array_equal(out.exit[clear], expected[clear])
    assert "--force" in fails("export", "mine", "--out", tmp_path / "onnx")
    before = listing(tmp_path)
    assert "thresholds" in fails("export", "mine", "--out", tmp_path / "new", "--threshold", "0.1,0.2,0.3")
    assert listing(tmp_path) == before


def test_broken_weights_of_a_run(runs: Path, image_folder: Path) -> None:
    for spoiled in (b"no weights", (runs / "mine/weights.safetensors").read_bytes()[:500], None):
        path = runs / "mine" / "weights.safetensors"
        path.unlink() if spoiled is None else path.write_bytes(spoiled)
        before = listing(runs)
        for command in (["predict", "mine", image_folder, "--threshold", 0.5], ["record", "mine", "--force"]):
            assert "weights.safetensors" in fails(*command)
        assert listing(runs) == before
    shutil.copy(runs / "other" / "weights.safetensors", runs / "mine" / "weights.safetensors")
    assert "not this model's" in fails("record", "mine", "--force")
