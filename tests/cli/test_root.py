"""The command line: the whole way once, every bad input, exit status, and what may be on stdout."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from synthetic import make_record
from tiny import tiny_config, tiny_options
from typer.testing import CliRunner, Result

import dmpo_explore
from dmpo_explore.analysis.metrics import summarise
from dmpo_explore.cli import root as root_module
from dmpo_explore.config import Config
from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.inference.torch_recording import record_run
from dmpo_explore.policies.catalogue import POLICIES
from dmpo_explore.runs.store import load_run
from dmpo_explore.training.train import train, train_epochs

COMMANDS = ["fetch", "train", "record", "evaluate", "predict", "export", "policies", "search", "runs", "app", "doctor"]


def call(*arguments: Any, status: int | None = 0) -> Result:
    """Run a command in this process; a failure is one line on stderr and never a traceback."""
    result = CliRunner().invoke(root_module.app, [str(a) for a in arguments], prog_name="dmpo-explore")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    if status is not None:
        assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return result


def fails(*arguments: Any) -> str:
    """The one line that says what is wrong (exit status 1), or the usage error (2)."""
    result = call(*arguments, status=None)
    assert result.exit_code in (1, 2), result.output
    assert result.stdout == ""
    if result.exit_code == 1:
        (line,) = [line for line in result.stderr.splitlines() if line]
        assert line.startswith("error: ")
        return line
    return " ".join(result.stderr.replace("│", " ").split())


def listing(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*")} if folder.exists() else {}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs root with one trained and recorded run, ``mine``, and ``other`` with a single exit."""
    root = tmp_path_factory.mktemp("cli")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMPO_EXPLORE_RUNS", str(root))
        for name, config in (("mine", tiny_config(300, epochs=3)), ("other", tiny_config(model={"exits": 1}))):
            run = train(config, name, device="cpu")
            for split in ("val", "test"):
                record_run(run, split, device="cpu")
    return root


@pytest.fixture
def runs(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to spoil."""
    root = tmp_path / "runs"
    shutil.copytree(trained, root)
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(root))
    return root


@pytest.fixture
def no_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


# -- help, version --


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    text = call(command, "--help").stdout
    assert f"Usage: dmpo-explore {command}" in text
    assert call(command, "-h").stdout == text


def test_help_names_every_command_and_version_says_which() -> None:
    text = call("--help").stdout
    assert all(f"\n│ {command} " in text for command in COMMANDS)
    assert call("--version").stdout == f"dmpo-explore {dmpo_explore.__version__}\n"


# -- the whole way --


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
    assert load_run("new").record("test").logits is None
    assert "has a val record" in fails("record", "new")
    assert "has a test record" in fails("record", "new", "--split", "test")
    assert "test: 359 images, exits" in call("record", "new", "--split", "test", "--force").stdout

    row = json.loads(call("evaluate", "new", "--flops", 0.9, "--json").stdout)
    policy = fit_policy(load_run("new").record("val"), flops=0.9)
    record = load_run("new").record("test")
    assert row["threshold"] == policy.thresholds[0]
    assert row["target"] == {"flops": 0.9} and row["run"] == "new" and row["split"] == "test"
    expected = summarise(record, policy.exits(record))
    assert {key: row[key] for key in expected} == expected
    assert {"accuracy", "flops_fraction", "threshold", "exit_shares", "mean_exit", "full_accuracy"} <= row.keys()


def test_a_config_file_is_the_base_and_options_change_it(no_runs: Path, tmp_path: Path) -> None:
    config = tiny_config(epochs=5, schedule="uniform")
    (tmp_path / "config.json").write_text(config.to_json())
    call("train", "--config", tmp_path / "config.json", "--epochs", 1, "--no-flip", "--name", "new", "--device", "cpu")
    expected = tiny_config(epochs=1, schedule="uniform", flip=False)
    assert load_run("new").config == expected != config


def test_resume_goes_on_and_replacing_needs_force(no_runs: Path) -> None:
    running = train_epochs(tiny_config(), "half", device="cpu")
    next(running)
    running.close()
    assert "'half' exists" in fails("train", *tiny_options(), "--name", "half")
    assert "another config" in fails("train", "--resume", "half", "--rank", 5)
    assert "goes on with the run's own name" in fails("train", "--resume", "half", "--name", "x")
    done = call("train", "--resume", "half", "--device", "cpu")
    assert "epoch 2/2" in done.stderr and "epoch 1/2" not in done.stderr
    assert load_run("half").history()["epoch"].tolist() == [1, 2]
    assert "is finished" in fails("train", "--resume", "half")
    call("train", *tiny_options(epochs=1), "--name", "half", "--force", "--device", "cpu")
    assert len(load_run("half").history()) == 1


def test_the_best_epoch_may_lie_before_a_resumption(no_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    areas = iter([0.9, 0.1])
    monkeypatch.setattr("dmpo_explore.training.train.area", lambda record, name: next(areas))
    running = train_epochs(tiny_config(), "half", device="cpu")
    next(running)
    running.close()
    answer = json.loads(call("train", "--resume", "half", "--device", "cpu", "--json").stdout)
    assert (answer["best_epoch"], answer["area"]) == (1, 0.9) and len(answer["exit_accuracy"]) == 2


def test_a_torch_error_is_one_line(no_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "dmpo_explore.training.train.fit", lambda *a, **o: (_ for _ in ()).throw(RuntimeError("CUDA out of memory"))
    )
    assert "CUDA out of memory" in fails("train", *tiny_options(), "--name", "new", "--device", "cpu")


def test_a_broken_config_file_is_named(no_runs: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"modle": {}}')
    assert "mine.json: unknown key in config 'modle'" in fails("train", "--config", tmp_path / "mine.json")


def test_ctrl_c_says_how_to_go_on(no_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dmpo_explore.cli import output

    line = output.epoch_line

    def stop(results: Any) -> str:
        if len(results) == at:
            raise KeyboardInterrupt
        return line(results)

    monkeypatch.setattr(root_module, "epoch_line", stop)
    for at, hint in ((1, "go on with: dmpo-explore train --resume new"), (0, "")):
        result = call("train", *tiny_options(), "--name", "new", "--force", "--device", "cpu", status=130 if at else 0)
        assert hint in result.stderr
    monkeypatch.setattr("dmpo_explore.training.train.fit", lambda *a, **o: (_ for _ in ()).throw(KeyboardInterrupt))
    result = call("train", *tiny_options(), "--name", "none", "--device", "cpu", status=130)
    assert "stopped; no epoch was finished" in result.stderr and not (no_runs / "none").exists()


def test_a_tracker_is_passed_on(no_runs: Path) -> None:
    call("train", *tiny_options(epochs=1), "--name", "new", "--tracker", "tensorboard", "--device", "cpu")
    assert list((no_runs / "new").rglob("events.out.tfevents*"))


# -- evaluate --


def test_the_default_table_and_several_budgets(runs: Path) -> None:
    rows = json.loads(call("evaluate", "mine", "other", "--json").stdout)
    assert [(row["run"], row["target"]) for row in rows] == [
        ("mine", {"flops": 0.7}),
        ("mine", {"flops": 1.0}),
        ("mine", {"full_depth": True}),
        ("other", {"full_depth": True}),
    ]
    assert rows[2]["accuracy"] == rows[2]["full_accuracy"] and rows[2]["mean_exit"] == 2
    lines = call("evaluate", "mine", "other").stdout.splitlines()
    assert len(lines) == 6 and lines[0].startswith("| run ") and set(lines[1]) == {"|", "-"}
    assert f"{100 * rows[0]['accuracy']:.2f} %" in lines[2] and "| 70 % " in lines[2] and "| full " in lines[5]
    assert len(json.loads(call("evaluate", "mine", "--flops", 0.8, "--flops", 0.9, "--json").stdout)) == 2


def test_every_kind_of_target_on_either_split(runs: Path) -> None:
    def ask(*options: Any) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(call("evaluate", "mine", *options, "--json").stdout)
        return answer

    record = load_run("mine").record("test")
    assert ask("--threshold", 0.5)["threshold"] == 0.5
    assert ask("--threshold", 0.5)["exit_shares"][0] == pytest.approx((record.confidence[:, 0] >= 0.5).mean())
    assert ask("--accuracy-drop", 1)["mean_exit"] == 1
    assert ask("--shares", "0.25,0.75", "--split", "val")["exit_shares"][0] == pytest.approx(0.25, abs=0.01)
    assert ask("--threshold", 1, "--policy", "patience")["mean_exit"] == 2
    for policy in POLICIES:
        assert ask("--accuracy-drop", 0.05, "--policy", policy)["policy"] == policy


def test_against_another_run(runs: Path) -> None:
    row = json.loads(call("evaluate", "mine", "--flops", 0.9, "--against", "other", "--json").stdout)
    against = row["against"]
    assert against["run"] == "other" and against["low"] <= against["difference"] <= against["high"]
    assert against["difference"] == pytest.approx(row["accuracy"] - against["accuracy"])
    text = call("evaluate", "mine", "--against", "other").stdout
    assert "points above other [95 %]" in text
    make_record(359).save(runs / "foreign" / "records" / "test")
    make_record(100).save(runs / "foreign" / "records" / "val")
    (runs / "foreign" / "config.json").write_text(Config().to_json())
    assert "not recorded on the same test images" in fails("evaluate", "mine", "--against", "foreign")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--flops", 0.01], "run 'mine': flops=0.01 cannot be met: exit 1 alone costs"),
        (["--flops", 7], "flops=7 is above this run's full depth, which costs"),
        (["--flops", 7], "did you mean 0.07?"),
        (["--flops", -1], "must be a fraction"),
        (["--flops", "nan"], "must be a fraction"),
        (["--flops", "x"], "--flops"),
        (["--accuracy-drop", 2], "accuracy_drop=2.0 must be a fraction from 0 to 1"),
        (["--shares", "0.5,0.1"], "that sum to 1"),
        (["--shares", "a,b"], "must be numbers with commas"),
        (["--threshold", "0.5,0.5,0.5"], "3 thresholds; 2 exits need 1"),
        (["--threshold", "7"], "must be a number from"),
        (["--threshold", "1.5", "--policy", "patience"], "must be a whole number"),
        (["--flops", 0.9, "--accuracy-drop", 0.1], "give exactly one of"),
        (
            ["--policy", "confidance"],
            "unknown policy 'confidance'. Did you mean 'confidence'? Valid: budgeted, confidence, entropy",
        ),
        (["--split", "tset"], "no record of split 'tset' (records: test, val)"),
        (["--against", "nobody"], "unknown run 'nobody'"),
    ],
)
def test_a_bad_target_is_one_clear_error(runs: Path, options: list[Any], message: str) -> None:
    assert message in fails("evaluate", "mine", *options)


# -- predict --


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("b.png", "a.jpg", "more/c.png", ".hidden.png"):
        Image.fromarray(rng.integers(255, size=(20, 30, 3), dtype=np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_predict_writes_csv(runs: Path, pictures: Path, tmp_path: Path) -> None:
    done = call("predict", "mine", pictures, pictures / "b.png", "--threshold", 0.3, "--device", "cpu")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [Path(row["file"]).name for row in rows] == ["a.jpg", "b.png", "c.png", "b.png"]
    assert rows[1] == rows[3]
    for row in rows:
        assert row["label"] in "0123456789" and row["exit"] in "12"
        assert (float(row["confidence"]) >= 0.3) or row["exit"] == "2"
    out = tmp_path / "out.csv"
    silent = call("predict", "mine", pictures, "-o", out, "--device", "cpu", "--batch-size", 2)
    assert silent.stdout == "" and len(out.read_text().splitlines()) == 4
    for target in (["--flops", 0.9], ["--accuracy-drop", 0.1], ["--shares", "0.5,0.5"]):
        assert len(call("predict", "mine", pictures, *target, "--policy", "entropy").stdout.splitlines()) == 4


def test_predict_reports_what_it_cannot_read_and_goes_on(runs: Path, pictures: Path) -> None:
    whole = (pictures / "b.png").read_bytes()
    (pictures / "b.png").write_bytes(whole[:60])
    done = call("predict", "mine", pictures, pictures / "notes.txt", pictures / "none.png", status=1)
    assert [Path(row["file"]).name for row in csv.DictReader(io.StringIO(done.stdout))] == ["a.jpg", "c.png"]
    errors = done.stderr.splitlines()
    assert len(errors) == 3 and all(line.startswith("error: ") for line in errors)
    assert [name in line for name, line in zip(("b.png", "notes.txt", "none.png"), errors, strict=True)] == [True] * 3


def test_predict_refuses_wrong_usage(runs: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no pictures" in fails("predict", "mine", tmp_path / "empty")
    assert "give exactly one of" in fails("predict", "mine", pictures, "--flops", 0.9, "--threshold", 0.5)
    assert "Missing argument" in fails("predict", "mine")
    before = listing(tmp_path)
    assert "thresholds" in fails("predict", "mine", pictures, "--threshold", "0.1,0.2,0.3", "-o", tmp_path / "out.csv")
    assert listing(tmp_path) == before
    assert fails("predict", "mine", pictures, "--threshold", 0.5, "-o", pictures)  # a folder


def test_export_writes_what_onnxruntime_runs(runs: Path, tmp_path: Path) -> None:
    from dmpo_explore.inference.onnx_engine import OnnxEngine

    answer = json.loads(call("export", "mine", "--out", tmp_path / "onnx", "--threshold", 0.3, "--json").stdout)
    assert answer["path"] == str(tmp_path / "onnx") and answer["policy"]["thresholds"] == [0.3]
    run, rows = load_run("mine"), np.arange(40)
    out = OnnxEngine(tmp_path / "onnx").infer(run.inputs("test", rows).numpy())
    record = run.record("test").subset(rows)
    expected = fit_policy(record, "confidence", threshold=0.3).exits(record)
    clear = np.abs(record.confidence[:, 0] - 0.3) > 1e-4
    np.testing.assert_array_equal(out.exit[clear], expected[clear])
    assert "--force" in fails("export", "mine", "--out", tmp_path / "onnx")
    assert "Missing option '--out'" in fails("export", "mine")
    before = listing(tmp_path)
    assert "thresholds" in fails("export", "mine", "--out", tmp_path / "new", "--threshold", "0.1,0.2,0.3")
    assert listing(tmp_path) == before


# -- bad input --

BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"backbone": "test_vitt"}, "test_vit"),
    ({"backbone": "vgg11"}, "vgg11"),
    ({"data": "fashion"}, "unknown data 'fashion'. Did you mean 'fashion-mnist'?"),
    ({"predictor": "covarience"}, "Valid: covariance, linear, moment"),
    ({"bypass": "x"}, "Valid: conv, ladder, mlp, none"),
    ({"tuning": "x"}, "Valid: adapter, full, lora, lora-all, none"),
    ({"schedule": "x"}, "Valid: cosine, deep-only, early-only, exponential, linear, mixed, switch, uniform"),
    ({"coupling": "x"}, "Valid: none, sigmoid"),
    ({"precision": "fp8"}, "Valid: bf16, fp16, no"),
    ({"normalisation": "x"}, "isqrt, sqrt"),
    ({"read": "x"}, "cls"),
    ({"seed": -1}, "seed=-1 must lie in [0, 4294967295]"),
    ({"data-seed": 2**32}, "must lie in [0, 4294967295]"),
    ({"device": "tpu"}, "Valid: auto, cpu, cuda"),
    ({"tracker": "x"}, "tensorboard"),
    ({"exits": "2,9"}, "6 blocks"),
    ({"exits": "2,2"}, "rising"),
    ({"exits": "4,2"}, "rising"),
    ({"exits": "0,2"}, "counted from 1"),
    ({"exits": "0"}, "exits=0 must be at least 1"),
    ({"exits": "7"}, "exits=7"),
    ({"exits": "a,b"}, "neither a number nor blocks"),
    ({"image_size": 30}, "image_size=30"),
    ({"image_size": 0}, "image_size=0 must be at least 1"),
    ({"epochs": 0}, "epochs=0 must be at least 1"),
    ({"epochs": "many"}, "--epochs"),
    ({"batch_size": 0}, "batch_size=0 must be at least 1"),
    ({"train_size": 0}, "train_size=0 must be at least 1"),
    ({"train_size": 99999}, "99999"),
    ({"validation_size": 0}, "validation_size=0 must be at least 1"),
    ({"tuning_lr": "nan"}, "tuning_lr=nan must be"),
    ({"dropout": 1}, "dropout=1.0 must lie in [0, 1)"),
    ({"weights": "nowhere.safetensors"}, "no weights file nowhere.safetensors"),
    ({"name": "../out"}, "run name '../out'"),
    ({"name": "a/b"}, "run name 'a/b'"),
    ({"name": ".x"}, "run name '.x'"),
    ({"config": "nowhere.json"}, "no file nowhere.json"),
    ({"colour": "red"}, "No such option"),
]


@pytest.mark.parametrize(("change", "message"), BAD_OPTIONS, ids=[str(change) for change, _ in BAD_OPTIONS])
def test_a_bad_option_is_one_clear_error_and_leaves_nothing(
    no_runs: Path, change: dict[str, Any], message: str
) -> None:
    assert message in fails("train", *tiny_options(**{"name": "new"} | change))
    assert not no_runs.exists() and not (no_runs.parent / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not valid JSON"),
        ('{"model": {"exits"', "is not valid JSON"),
        ("[1]", "must be a JSON object"),
        ('{"modle": {}}', "unknown key in config 'modle'. Did you mean 'model'?"),
        ('{"model": {"rank": "8"}}', "config.model.rank='8' has the wrong type"),
        ("\x80\x04", "config"),
    ],
)
def test_a_broken_config_is_named(no_runs: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    assert message in fails("train", "--config", tmp_path / "config.json", "--name", "new")
    assert not no_runs.exists()


def test_broken_weights_files_are_named(no_runs: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "boom"),)

    safe, torched = tmp_path / "w.safetensors", tmp_path / "w.pth"
    cases: list[tuple[Path, Callable[[], object]]] = [
        (safe, lambda: safe.write_bytes(b"no weights")),
        (torched, lambda: torch.save({"blocks.0.weight": torch.zeros(2)}, torched)),  # foreign
        (torched, lambda: torched.write_bytes(torched.read_bytes()[:300])),  # truncated
        (torched, lambda: torch.save({"x": Bomb()}, torched)),
        (torched, lambda: torched.write_bytes(pickle.dumps(Bomb()))),
    ]
    for path, make in cases:
        make()
        assert (
            path.name in (line := fails("train", *tiny_options(weights=path), "--name", "new")) or "do not fit" in line
        )
    assert not no_runs.exists() and not (tmp_path / "boom").exists()


def spoil(name: str) -> Callable[[Path], object]:
    """Ways to break a run folder."""
    test = Path("records") / "test"

    def array(file: str, change: Callable[[Any], None]) -> Callable[[Path], object]:
        def write(run: Path) -> None:
            values = np.load(run / test / file)
            change(values)
            np.save(run / test / file, values)

        return write

    def meta(key: str, value: Any) -> Callable[[Path], object]:
        def write(run: Path) -> None:
            path = run / test / "meta.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

        return write

    ways: dict[str, Callable[[Path], object]] = {
        "confidence.npy is truncated": lambda run: _cut(run / test / "scores" / "confidence.npy"),
        "labels.npy is a pickle": lambda run: (run / test / "labels.npy").write_bytes(pickle.dumps([1, 2])),
        "margin.npy holds objects": lambda run: np.save(
            run / test / "scores/margin.npy", np.array([{}]), allow_pickle=True
        ),
        "entropy.npy is missing": lambda run: (run / test / "scores" / "entropy.npy").unlink(),
        "labels.npy: a label outside": array("labels.npy", lambda v: v.__setitem__(3, 10)),
        "prediction.npy: a class outside": array("scores/prediction.npy", lambda v: v.__setitem__((3, 1), -1)),
        "confidence.npy: NaN": array("scores/confidence.npy", lambda v: v.__setitem__((3, 1), np.nan)),
        "meta.json is cut": lambda run: _cut(run / test / "meta.json"),
        "meta.json: flops do not rise": meta("flops", [2.0, 1.0]),
        "meta.json: another version": meta("format_version", 99),
        "config.json is cut": lambda run: _cut(run / "config.json"),
    }
    return ways[name]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


SPOILS = [
    "confidence.npy is truncated", "labels.npy is a pickle", "margin.npy holds objects", "entropy.npy is missing",
    "labels.npy: a label outside", "prediction.npy: a class outside", "confidence.npy: NaN", "meta.json is cut",
    "meta.json: flops do not rise", "meta.json: another version", "config.json is cut",
]  # fmt: skip


@pytest.mark.parametrize("name", SPOILS)
def test_a_spoilt_run_is_one_error_naming_the_file(runs: Path, name: str) -> None:
    spoil(name)(runs / "mine")
    before = listing(runs)
    file = name.split()[0].rstrip(":")
    assert file in fails("evaluate", "mine", "--threshold", 0.5)
    assert listing(runs) == before
    if file == "config.json":
        rows = {row["run"]: row for row in json.loads(call("runs", "--json").stdout)}
        assert "config.json" in rows["mine"]["error"] and "error" not in rows["other"]
        assert "broken: " in call("runs").stdout


def test_spoilt_weights_of_a_run(runs: Path, pictures: Path) -> None:
    for spoiled in (b"no weights", (runs / "mine/weights.safetensors").read_bytes()[:500], None):
        path = runs / "mine" / "weights.safetensors"
        path.unlink() if spoiled is None else path.write_bytes(spoiled)
        before = listing(runs)
        for command in (["predict", "mine", pictures, "--threshold", 0.5], ["record", "mine", "--force"]):
            assert "weights.safetensors" in fails(*command)
        assert listing(runs) == before
    shutil.copy(runs / "other" / "weights.safetensors", runs / "mine" / "weights.safetensors")
    assert "not this model's" in fails("predict", "mine", pictures, "--threshold", 0.5)


def test_bad_names_elsewhere(runs: Path, tmp_path: Path) -> None:
    assert "unknown run 'nobody'" in fails("train", "--resume", "nobody")
    assert "unknown run 'mime'. Did you mean 'mine'? Valid: " in fails("evaluate", "mime")
    assert "is not a run folder" in fails("record", "../nowhere/x")
    assert "unknown split 'tset'. Did you mean 'test'? Valid: test, train, val" in fails(
        "record", "mine", "--split", "tset"
    )
    assert "unknown device 'tpu'" in fails("record", "mine", "--force", "--device", "tpu")
    assert "precision" in fails("record", "mine", "--force", "--precision", "fp8")
    assert "unknown backbone to fetch 'vit'" in fails("fetch", "--backbone", "vit")
    assert "unknown data 'mnist'" in fails("fetch", "--data", "mnist")
    assert fails("evaluate")
    assert "No such command" in fails("serve")


def test_debug_shows_where_it_comes_from(no_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(root_module.app, ["--debug", "evaluate", "nobody"])
    assert isinstance(result.exception, ValueError)
    monkeypatch.setenv("DMPO_EXPLORE_DEBUG", "1")
    assert isinstance(CliRunner().invoke(root_module.app, ["evaluate", "nobody"]).exception, ValueError)


# -- the small commands --


def test_fetch_says_where_things_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, Any]] = []

    def weights(name: str, progress: Callable[[str, int, int], None]) -> Path:
        progress("download", 1, 2)
        asked.append(("weights", name))
        return tmp_path / name

    monkeypatch.setattr("dmpo_explore.pretrained.weights.fetch_weights", weights)
    monkeypatch.setattr(
        "dmpo_explore.data.images.fetch_data", lambda name, root: asked.append(("data", name)) or tmp_path
    )
    answer = json.loads(call("fetch", "--json").stdout)
    assert asked == [("weights", "vit_small_patch14_dinov2"), ("data", "fashion-mnist")]
    assert answer == {
        "weights": {"vit_small_patch14_dinov2": str(tmp_path / "vit_small_patch14_dinov2")},
        "data": {"fashion-mnist": str(tmp_path)},
    }
    asked.clear()
    assert "digits: " in call("fetch", "--data", "digits").stdout
    call("fetch", "--backbone", "one", "--backbone", "two")
    assert asked == [("data", "digits"), ("weights", "one"), ("weights", "two")]


def test_policies_are_those_there_are() -> None:
    rows = json.loads(call("policies", "--json").stdout)
    assert [row["policy"] for row in rows] == list(POLICIES)
    for row in rows:
        kind = POLICIES[row["policy"]]
        assert row["rule"] == kind.rule.replace("**{}**", "T") and " T " in row["rule"].replace(",", " ").replace(
            ":", " "
        )
        assert (row["summary"], row["deployable"], row["reads"]) == (kind.summary, kind.deployable, list(kind.reads))
    lines = call("policies").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(POLICIES)


def test_all_policies_and_protocols(runs: Path) -> None:
    rows = json.loads(call("evaluate", "mine", "--all-policies", "--json").stdout)
    assert list(dict.fromkeys(row["policy"] for row in rows)) == list(POLICIES)
    assert "oracle (bound)" in call("evaluate", "mine", "--all-policies").stdout
    for protocol, number in (("anytime", 2), ("budgeted", 11)):
        assert len(json.loads(call("evaluate", "mine", "--protocol", protocol, "--json").stdout)) == number
    assert "anytime, budgeted" in call("evaluate", "mine", "--protocol", "batch", status=1).stderr
    usage = call("evaluate", "mine", "--all-policies", "--flops", 0.9, status=2).stderr
    assert "leave out --flops" in " ".join(usage.replace("│", " ").split())
    call("evaluate", "mine", "--protocol", "anytime", "--accuracy-drop", 0.1, status=2)


def test_guarantees_temperatures_and_thresholds_per_exit(runs: Path) -> None:
    done = call("evaluate", "mine", "--risk", "too_early", "--epsilon", 0.001, "--json")
    row = json.loads(done.stdout)
    assert row["certificate"]["certified"] is False and row["mean_exit"] == 2
    assert "mine: no threshold can be certified; with this policy no image exits early" in done.stderr
    row = json.loads(call("evaluate", "mine", "--accuracy-drop", 0.5, "--per-exit", "--calibrate", "--json").stdout)
    assert len(row["temperatures"]) == 2 and row["target"]["per_exit"] is True
    assert "unknown risk 'harm'" in call("evaluate", "mine", "--risk", "harm", status=1).stderr


def test_runs_in_one_line_each(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {row["run"]: row for row in json.loads(call("runs", "--json").stdout)}
    mine = rows["mine"]
    assert (mine["data"], mine["backbone"], mine["epochs"], mine["records"]) == (
        "digits",
        "test_vit",
        3,
        ["test", "val"],
    )
    (line,) = [line for line in call("runs").stdout.splitlines() if line.startswith("mine ")]
    assert "digits, test_vit, conv + covariance, epoch 3/3, records: test val" in line
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "none"))
    monkeypatch.setattr("dmpo_explore.runs.store.BUNDLED_RUNS", tmp_path / "none")
    assert call("runs").stdout == "no runs yet\n" and json.loads(call("runs", "--json").stdout) == []


def test_doctor(runs: Path) -> None:
    facts = json.loads(call("doctor", "--json").stdout)
    assert facts["versions"]["torch"] == torch.__version__ and facts["threads"] == torch.get_num_threads()
    assert {"mine", "other"} <= set(facts["runs"])
    assert facts["data"]["digits"] == "1,295 training pictures"
    text = call("doctor").stdout
    assert "device: " in text and "data digits: 1,295 training pictures" in text


def test_app_starts_streamlit_or_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(subprocess, "call", lambda command: calls.append(command) or 0)
    call("app", "--port", 8600, "--host", "0.0.0.0", "--no-browser")
    (command,) = calls
    assert command[:4] == [sys.executable, "-m", "streamlit", "run"] and Path(command[4]).name == "main.py"
    assert Path(command[4]).is_file()
    assert set(command[5:]) == {"--server.headless=true", "--server.address=0.0.0.0", "--server.port=8600"}
    monkeypatch.setattr("dmpo_explore.cli.doctor.find_spec", lambda name: None)
    assert "pip install 'dmpo-explore[app]'" in fails("app")


# -- separate processes --


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    values = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=values, check=False, timeout=300)


def test_the_quick_commands_load_no_torch(runs: Path) -> None:
    code = """
import json, sys
from typer.testing import CliRunner
from dmpo_explore.cli import app
seen = {}
for line in sys.argv[1:]:
    result = CliRunner().invoke(app, line.split())
    seen[line] = [result.exit_code, [m for m in ("torch", "timm", "torchvision") if m in sys.modules]]
print(json.dumps(seen))
"""
    lines = ["--help", "train --help", "policies", "runs", "evaluate mine", "evaluate mine --against other --flops 0.9"]
    done = run_python("-c", code, *lines)
    assert json.loads(done.stdout) == {line: [0, []] for line in lines}


def test_exit_status_and_streams(runs: Path) -> None:
    done = run_python("-m", "dmpo_explore.cli.root", "evaluate", "mine", "--json", "--flops", "0.9")
    assert done.returncode == 0 and json.loads(done.stdout)["run"] == "mine" and done.stderr == ""
    done = run_python("-m", "dmpo_explore.cli.root", "evaluate", "nobody")
    assert (done.returncode, done.stdout) == (1, "") and done.stderr.startswith("error: unknown run 'nobody'")
    assert done.stderr.count("\n") == 1
    assert run_python("-m", "dmpo_explore.cli.root", "evaluate", "mine", "--nonsense").returncode == 2


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_ctrl_c_in_a_training(no_runs: Path) -> None:
    command = [sys.executable, "-m", "dmpo_explore.cli.root", "train", *tiny_options(epochs=1000), "--name", "new"]
    values = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=values)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 2/"):
            process.send_signal(signal.SIGINT)
            break
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130 and out == ""
    assert error.splitlines()[-1] == "stopped; go on with: dmpo-explore train --resume new"
    assert len(load_run("new").history()) >= 2
    assert not [p for p in (no_runs / "new").iterdir() if p.name.startswith(".")]


@pytest.mark.slow
def test_two_processes_write_one_run(no_runs: Path) -> None:
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "dmpo_explore.cli.root"]
    options = [*tiny_options(predictor="linear"), "--no-flip", "--name", "new", "--json"]
    done = run_python(*start, "train", *options, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"] == "new"
    one = list(train_epochs(tiny_config(model={"predictor": "linear"}, flip=False), "one", device="cpu"))
    two = load_run("new").history()
    assert two["epoch"].tolist() == [1, 2]
    assert two["loss"].tolist() == pytest.approx([result.loss for result in one], rel=1e-4)
