"""`dmpo-explore predict` and `export`, of `cli.export`. What is in the graphs: tests/inference."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from calls import call, fails, listing
from failing import raising

from dmpo_explore.inference.torch_engine import Prediction


@pytest.mark.slow
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
    monkeypatch.setattr("dmpo_explore.inference.torch_export._export_stage", raising(KeyboardInterrupt))
    done = call(*command.split(), "--out", tmp_path / "out", "--threshold", 0.4, status=130)
    assert "out was not written. Repeat the command to export" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_predict_loads_no_model_for_files_that_are_not_there(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmpo_explore.inference.torch_engine.predict_files", None)  # not reached
    done = call("predict", "mine", "none.jpg", status=1)
    assert done.stdout == "" and done.stderr == "error: no file none.jpg\n"


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


# -- exports that are there --


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "a"


@pytest.fixture
def words(place: Path) -> list[Any]:
    """A command that exports to this place."""
    return ["export", "mine", "--threshold", 0.4, "--out", place]


@pytest.mark.usefixtures("quick")
def test_an_export_that_is_whole_is_kept_and_any_other_is_an_error(runs: Path, place: Path, words: list[Any]) -> None:
    assert json.loads(call(*words, "--json").stdout)["kept"] is False
    made = listing(place)
    again = call(*words).stdout
    assert again.startswith(f"{place}: ") and again.endswith("; it was there and is kept\n") and listing(place) == made
    assert "replace it with --force" in fails(*words[:2], "--threshold", 0.5, "--out", place)
    assert "replace it with --force" in fails(*words, "--precision", "int8")
    shutil.copytree(runs / "mine", runs / "twin")
    assert "replace it with --force" in fails("export", "twin", *words[2:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dmpo_explore.inference.torch_export.__version__", "0.0.1")
        assert "replace it with --force" in fails(*words)
    (place / "stage-1.onnx").write_bytes(b"changed")
    for suffix in ("part", "lock"):  # of a single graph that was killed
        (place / f".single.onnx.0123abcd.{suffix}").touch()
    assert "replace it with --force" in fails(*words)
    call(*words, "--force")
    assert json.loads(call(*words, "--json").stdout)["kept"] is True and not list(place.glob(".*"))


@pytest.mark.usefixtures("quick")
def test_only_the_single_graph_is_made_where_the_stages_are_there(
    runs: Path, place: Path, words: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    call(*words)
    made, joined = listing(place), []
    monkeypatch.setattr("dmpo_explore.inference.onnx_single.join_stages", joined.append)
    assert "kept" not in call(*words, "--single").stdout
    assert joined == [place] and listing(place) == made


@pytest.mark.usefixtures("quick")
def test_a_service_is_added_to_the_export_that_is_there(runs: Path, place: Path, words: list[Any]) -> None:
    call(*words)
    made = (place / "stage-1.onnx").stat().st_mtime_ns
    assert "kept" not in call(*words, "--serve").stdout
    assert (place / "serve.py").is_file() and "## As a service" in (place / "README.md").read_text("utf-8")
    assert (place / "stage-1.onnx").stat().st_mtime_ns == made
    assert "kept" in call(*words, "--serve").stdout and "kept" in call(*words).stdout
    call(*words, "--force")
    assert not (place / "serve.py").exists()


@pytest.mark.usefixtures("quick")
def test_a_budget_is_held(runs: Path, place: Path, words: list[Any], tmp_path: Path) -> None:
    words = [*words, "--hold"]
    answer = json.loads(call(*words, "--json").stdout)
    assert answer["policy"] == json.loads((place / "policy.json").read_text("utf-8"))
    assert answer["policy"]["policy"] == "confidence" and answer["policy"]["running"]["window"] == 500
    assert "policy confidence with held shares, threshold 0.4; it was there and is kept" in call(*words).stdout
    assert "name another place" in fails(*words[:-1])
    from_file = ["export", "mine", "--policy", place / "policy.json", "--hold", "--out", tmp_path / "b"]
    assert json.loads(call(*from_file, "--json").stdout)["policy"] == answer["policy"]
    assert "'patience' compares no score" in fails(
        *words[:2], "--policy", "patience", "--threshold", 1, *words[4:], "--force"
    )
    certified = ["export", "mine", "--risk", "too_early", "--epsilon", 0.9, "--out", tmp_path / "c", "--hold"]
    assert "the bound on the risk, which does not hold any more" in call(*certified).stderr
