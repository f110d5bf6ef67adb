"""`dmpo-explore train`: the config, resuming, Ctrl-C, bad input, several processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from calls import call, fails, listing, run_python
from failing import raising
from image_files import clean_folder, fill, paint
from tiny import tiny_config, tiny_options
from tiny_training import stop_after

from dmpo_explore.cli import options, output
from dmpo_explore.cli import train as train_module
from dmpo_explore.config import OPTIONS
from dmpo_explore.runs.store import load_run
from dmpo_explore.training.checkpoint import held_run
from dmpo_explore.training.train import open_run, train_epochs


@pytest.mark.slow
def test_a_config_file_is_the_base_and_options_change_it(no_runs: Path, tmp_path: Path) -> None:
    config = tiny_config(epochs=5, schedule="uniform")
    (tmp_path / "config.json").write_text(config.to_json())
    how = ["--epochs", 1, "--no-flip", "--name", "new", "--tracker", "tensorboard", "--device", "cpu"]
    call("train", "--config", tmp_path / "config.json", *how)
    assert list((no_runs / "new").rglob("events.out.tfevents*"))
    expected = tiny_config(epochs=1, schedule="uniform", flip=False)
    assert load_run("new").config == expected != config


def test_a_run_is_a_base_too(no_runs: Path) -> None:
    for run in ("demo", str(load_run("demo").path)):  # by name and by folder
        assert train_module.base_config(run) == load_run("demo").config


@pytest.mark.slow
def test_a_recipe_is_a_base_and_options_change_it(no_runs: Path) -> None:
    tiny = tiny_options(epochs=1, teacher_epochs=1, teacher_size=32, tuning_lr=2e-3)
    call("train", "--recipe", "photographs", *tiny, "--name", "new", "--device", "cpu")
    chosen = {"label_smoothing": 0.1, "crop_scale": 0.7, "augment": "light", "teacher": "new-teacher"}
    assert load_run("new").config == tiny_config(epochs=1, teacher_epochs=1, teacher_size=32, **chosen)
    shown = " ".join(call("train", "--help").stdout.split())
    assert "photographs: --image-size 84 --exits 3,4,5,6,8,12 --epochs 24 --tuning-lr 0.0005" in shown


def test_help_shows_what_people_use_and_help_all_the_rest() -> None:
    usual, everything = (call("train", word).stdout for word in ("--help", "--help-all"))
    assert "--tuning-lr" in usual and "--help-all" in usual and "--phase-ratio" not in usual
    assert all(f"--{option.spelling} " in everything for option in OPTIONS.values() if bool not in option.kinds)
    shown, every = (len(re.findall(r"^│ --", text, re.MULTILINE)) for text in (usual, everything))
    assert 0 < shown < every / 1.8 and {option.spelling for option in OPTIONS.values()} >= options.SELDOM


@pytest.mark.slow
def test_its_own_teacher_reports_and_is_kept_on_ctrl_c(no_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["train", *tiny_options(epochs=1, teacher="own", teacher_epochs=1), "--name", "small", "--device", "cpu"]
    with monkeypatch.context() as patch:
        patch.setattr("dmpo_explore.training.train.open_run", _stop_at("small"))
        stopped = call(*words, status=130).stderr
    assert stopped.endswith("stopped; its teacher is kept; go on with the same command and --name small\n")
    told: list[str] = []
    monkeypatch.setattr(output.EpochReports, "before", lambda self, what, *rest: told.append(what))
    monkeypatch.setattr(train_module, "FAR_BEHIND", -1.0)
    done = call(*words).stderr
    assert "run 'small': its teacher, the run 'small-teacher', is trained first" in done
    assert "caution: on val the last exit is correct on " in done and "and its teacher small-teacher on " in done
    monkeypatch.setattr(train_module, "FAR_BEHIND", 1.1)
    assert "caution" not in call("train", "--resume", "small", "--epochs", 2).stderr
    assert "training its teacher" not in told and "teacher answers" in told
    assert load_run("small").config.get("training.teacher") == "small-teacher"
    monkeypatch.setattr("dmpo_explore.jobs.estimate.STEPS", 1)
    lines = call("train", *tiny_options(teacher="own", epochs=1), "--device", "cpu", "--estimate").stdout
    assert "of it for its teacher" in lines


@pytest.mark.slow
def test_what_is_found_in_the_images_is_said_once_for_a_run_and_its_teacher(no_runs: Path, tmp_path: Path) -> None:
    own = clean_folder(tmp_path / "own")
    shutil.copyfile(next((own / "train" / "cat").iterdir()), next((own / "test" / "cat").iterdir()))
    options = tiny_options(
        data=own, train_size=16, epochs=1, batch_size=4, validation_size=4, teacher="own", teacher_epochs=1
    )
    said = [line for line in call("train", *options, "--device", "cpu").stderr.splitlines() if "warning: " in line]
    assert len(said) == len({*said}) and [line for line in said if line.startswith("warning: leakage: ")]


def _stop_at(name: str) -> Any:
    """`open_run` for any run but this one."""

    def stopping(this: str, *rest: Any, **how: Any) -> Any:
        if this == name:
            raise KeyboardInterrupt
        return open_run(this, *rest, **how)

    return stopping


def test_a_file_that_leaves_things_out_has_todays_defaults(no_runs: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"data": {"name": "digits"}}')
    assert train_module.base_config(str(tmp_path / "mine.json")).data.calibration is None
    own = load_run("fashion").path / "config.json"  # of a version without calibration splits
    assert train_module.base_config(str(own)) == load_run("fashion").config
    assert load_run("fashion").config.data.calibration is False


def test_a_run_on_the_hub_is_a_base(monkeypatch: pytest.MonkeyPatch) -> None:
    demo, asked = load_run("demo"), []
    monkeypatch.setattr("dmpo_explore.runs.store.download_run", lambda address: asked.append(address) or demo.path)
    assert train_module.base_config("hf://someone/run") == demo.config and len(asked) == 1


@pytest.mark.slow
def test_a_static_net_may_have_the_head_of_the_early_exits(no_runs: Path) -> None:
    """One exit behind block 3 of 6, with bypass and covariance: trained, recorded, run."""
    parts = {"last_bypass": "conv", "last_predictor": "covariance"}
    call("train", *tiny_options(exits="3,", train_size=40, epochs=1, **parts), "--name", "static", "--device", "cpu")
    call("record", "static", "--split", "test", "--device", "cpu")
    run, model = load_run("static"), load_run("static").model("cpu")
    record = run.record("test")
    assert record.meta.exit_blocks == (3,) and record.flops_fraction[0] < 0.7 and model.exits == (3,)
    assert type(model.stages[0].bypass).__name__ == "ConvBypass"
    logits = model(run.inputs("test", slice(0, 8))).detach().numpy()
    assert (logits[:, 0].argmax(axis=1) == record.prediction[:8, 0]).all()


@pytest.mark.slow
def test_the_same_command_goes_on_and_makes_only_what_is_missing(no_runs: Path) -> None:
    words = ["train", *tiny_options(), "--name", "half", "--record", "--device", "cpu", "--json"]
    stop_after(1, tiny_config(), "half")
    done = call(*words)
    assert "run 'half' goes on after epoch 1" in done.stderr and "epoch 2/2" in done.stderr
    assert load_run("half").history()["epoch"].tolist() == [1, 2]
    before, folder = listing(no_runs / "half"), no_runs / "half" / "records" / "test"
    again = call(*words)
    assert "run 'half' is trained with this config; it is kept" in again.stderr
    assert [row["kept"] for row in json.loads(again.stdout)["records"]] == [True, True]
    assert listing(no_runs / "half") == before
    shutil.rmtree(folder)
    for command in (["train", "--resume", "half", "--record", "--device", "cpu", "--json"], words):
        rows = json.loads(call(*command).stdout)["records"]
        assert folder.is_dir() and [row["kept"] for row in rows] == [True, command is words]
    assert "is finished" in fails("train", "--resume", "half")
    assert "another config (training.epochs)" in fails("train", *tiny_options(epochs=3), "--name", "half")


def test_a_run_that_another_command_trains_is_left_to_it(no_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmpo_explore.training.checkpoint.WORKERS_END", 0.0)
    stop_after(1, tiny_config(), "half")
    before = listing(no_runs)
    for more in ((), ("--force",)):
        with held_run("half"):
            error = fails("train", *tiny_options(), "--name", "half", "--device", "cpu", *more)
        assert "another command trains run 'half'" in error and listing(no_runs) == before


@pytest.mark.slow
def test_images_that_were_added_to_a_finished_run_are_said(no_runs: Path, tmp_path: Path) -> None:
    words = ["train", *tiny_options(data=fill(tmp_path / "photos"), train_size=20, epochs=1), "--name", "new"]
    call(*words, "--device", "cpu")
    assert "changed" not in call(*words, "--device", "cpu").stderr
    paint(tmp_path / "photos" / "cat" / "more.png", 200)
    done = call(*words, "--device", "cpu").stderr
    assert "it is kept" in done and "has changed since run 'new' was trained: 1 added (cat/more.png)" in done


def test_several_processes_need_a_name(no_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "several processes train one run: give it a name" in fails("train", *tiny_options())
    with pytest.raises(ValueError, match="several processes train one run"):
        next(train_epochs(tiny_config()))


@pytest.mark.slow
def test_a_training_holds_its_run_from_the_first_epoch(no_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line, seen = output.epoch_line, []

    def looked(results: Any) -> str:
        with pytest.raises(BlockingIOError, match="another command trains run 'new'"), held_run("new"):
            raise AssertionError("it was free")
        seen.append(len(results))
        return line(results)

    monkeypatch.setattr(output, "epoch_line", looked)
    call("train", *tiny_options(), "--name", "new", "--device", "cpu")
    assert seen == [1, 2] and [path.name for path in no_runs.iterdir()] == ["new"]


@pytest.mark.slow
def test_the_best_epoch_may_lie_before_a_resumption(no_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    areas = iter([0.9, 0.1])
    monkeypatch.setattr("dmpo_explore.training.loop.area", lambda record, name: next(areas))
    stop_after(1, tiny_config(), "half")
    answer = json.loads(call("train", "--resume", "half", "--device", "cpu", "--json").stdout)
    assert (answer["best_epoch"], answer["area"]) == (1, 0.9) and len(answer["exit_accuracy"]) == 2


def test_a_torch_error_is_one_line(no_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmpo_explore.training.train.fit", raising(RuntimeError("CUDA out of memory")))
    done = call("train", *tiny_options(), "--name", "new", "--device", "cpu", status=1)
    assert done.stderr.splitlines()[-1] == "error: CUDA out of memory"


def test_ctrl_c_before_the_first_epoch_leaves_nothing(no_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmpo_explore.training.train.fit", raising(KeyboardInterrupt))
    result = call("train", *tiny_options(), "--name", "none", "--device", "cpu", status=130)
    assert "stopped; no epoch was finished" in result.stderr and not (no_runs / "none").exists()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_ctrl_c_in_a_training(no_runs: Path) -> None:
    command = [sys.executable, "-m", "dmpo_explore.cli", "train", *tiny_options(epochs=1000), "--name", "new"]
    values = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=values)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 2/"):
            process.send_signal(signal.SIGINT)
            break
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130 and out == ""
    assert error.splitlines()[-1] == "stopped; continue with: dmpo-explore train --resume new"
    assert len(load_run("new").history()) >= 2
    assert not [p for p in (no_runs / "new").iterdir() if p.name.startswith(".")]


@pytest.mark.slow
def test_two_processes_write_one_run(no_runs: Path) -> None:
    """By torchrun; accelerate's own launcher would silently start one process on a CPU."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "dmpo_explore.cli"]
    options = [*tiny_options(predictor="linear"), "--no-flip", "--name", "new", "--record", "--json"]
    done = run_python(*start, "train", *options, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["run"] == "new" and [row["images"] for row in answer["records"]] == [143, 359]
    one = list(train_epochs(tiny_config(model={"predictor": "linear"}, flip=False), "one", device="cpu"))
    two = load_run("new").history()
    assert two["epoch"].tolist() == [1, 2]
    assert two["loss"].tolist() == pytest.approx([result.loss for result in one], rel=1e-4)
