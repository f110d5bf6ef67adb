"""What is here: runs, also broken ones, the installation, the check of a folder, and the server of the app."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from calls import call
from failing import raising
from synthetic import make_record

import dmpo_explore
from dmpo_explore.cli import doctor
from dmpo_explore.cli.doctor import app_file, diagnose, run_facts
from dmpo_explore.config import Config


def test_a_run_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    folder = tmp_path / "run"
    make_record().save(folder / "records" / "val")
    (folder / "config.json").write_text(Config().to_json())
    facts = run_facts("run")
    assert facts["epochs"] == 0 and facts["records"] == ["val"] and not facts["bundled"]
    words = "vit_small_patch14_dinov2, 70 px, squashed to a square, bypass conv, predictor covariance"
    assert facts["facts"] == f"fashion-mnist, {words}, epoch 0/6, records: val" and facts["resize"] == "squash"
    (folder / "history.csv").write_text("epoch,area\n1,0.5\n2,0.6\n")
    monkeypatch.setattr(doctor, "BUNDLED_RUNS", tmp_path)
    assert run_facts("run")["epochs"] == 2 and run_facts("run")["facts"].endswith("records: val, bundled")
    (folder / "history.csv").write_text("what")
    assert run_facts("run").keys() == {"run", "error", "facts"}
    assert "history.csv" in run_facts("run")["error"]
    assert (
        "px, squashed to a square, bypass none, predictor linear, epoch" in run_facts("demo-single")["facts"]
    )  # its only exit
    assert run_facts("nobody")["facts"].startswith("broken: unknown run 'nobody'")


def test_the_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "no-such-package"))
    facts = diagnose()
    assert json.loads(json.dumps(facts)) == facts
    assert torch.__version__.startswith(facts["versions"]["torch"])  # which has no +cu126
    assert facts["versions"]["dmpo-explore"] == dmpo_explore.__version__
    assert facts["versions"]["no-such-package"] == "not installed"
    assert facts["cache"] == str(tmp_path / "cache") and facts["runs_root"] == str(tmp_path / "runs")
    assert facts["weights"]["vit_small_patch14_dinov2"].startswith("not fetched: run `dmpo-explore fetch")
    assert "fetch --data cifar10" in facts["data"]["cifar10"] and "1,295" in facts["data"]["digits"]
    assert not (tmp_path / "cache").exists()
    (tmp_path / "cache" / "weights").mkdir(parents=True)
    path = tmp_path / "cache" / "weights" / "vit_small_patch14_dinov2.safetensors"
    path.touch()
    assert diagnose()["weights"]["vit_small_patch14_dinov2"] == str(path)
    monkeypatch.setattr(doctor, "load_images", raising(KeyError("digits")))  # of a plug-in's data set
    assert diagnose()["data"]["digits"] == "KeyError: 'digits'"


def test_the_app_is_found_or_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert app_file().name == "main.py" and "streamlit" in app_file().read_text(encoding="utf-8")
    real = doctor.find_spec
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "dmpo_explore_app" else real(name))
    assert app_file() == Path(dmpo_explore.__file__).parents[1] / "app" / "main.py"  # of the checkout
    monkeypatch.setattr(doctor, "__file__", str(tmp_path / "dmpo_explore" / "cli" / "doctor.py"))
    with pytest.raises(FileNotFoundError, match="install dmpo-explore again"):
        app_file()
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="the app needs streamlit, which is not installed"):
        app_file()


def test_runs_in_one_line_each(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = [row for row in json.loads(call("runs", "--json").stdout) if row["run"] == "mine"]
    assert row == run_facts("mine")
    assert any(line.startswith("mine ") and row["facts"] in line for line in call("runs").stdout.splitlines())
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "none"))
    monkeypatch.setattr("dmpo_explore.runs.store.BUNDLED_RUNS", tmp_path / "none")
    assert call("runs").stdout == "no runs yet; make one with `dmpo-explore train`\n"
    assert json.loads(call("runs", "--json").stdout) == []


@pytest.mark.slow
def test_doctor(runs: Path) -> None:
    facts = json.loads(call("doctor", "--json").stdout)
    assert facts["threads"] == torch.get_num_threads() and (facts["device"] == "cpu") != torch.cuda.is_available()
    assert {"mine", "other"} <= set(facts["runs"])
    assert facts["data"]["digits"] == "1,295 training images"
    text = call("doctor").stdout
    assert "device: " in text and "data digits: 1,295 training images" in text


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], ["--server.headless=false", "--server.address=localhost"]),
        (
            ["--no-browser", "--port", 8600],
            ["--server.headless=true", "--server.address=localhost", "--server.port=8600"],
        ),
        (["--host", "::1"], ["--server.headless=false", "--server.address=::1"]),
        (["--host", "0.0.0.0"], ["--server.headless=false", "--server.address=0.0.0.0", "--server.allowedHosts=*"]),
        (
            ["--allow-host", "app.example.org"],
            ["--server.headless=false", "--server.address=localhost"]
            + [f"--server.allowedHosts={name}" for name in ("localhost", "127.0.0.1", "::1", "app.example.org")],
        ),
    ],
)
def test_app_starts_the_server(arguments: list[object], options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(doctor, "_run_app", lambda command: calls.append(command) or 0)
    call("app", *arguments)
    (command,) = calls
    assert command[:4] == [sys.executable, "-m", "streamlit", "run"] and Path(command[4]).name == "server.py"
    assert Path(command[4]).is_file() and command[5:] == options


def test_a_token_is_made_and_no_browser_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(doctor, "_run_app", lambda command: calls.append(command) or 0)
    monkeypatch.setenv("DMPO_EXPLORE_TOKEN", "")
    call("app", "--token")
    assert "--server.headless=true" in calls[0] and len(os.environ["DMPO_EXPLORE_TOKEN"]) >= 32
    monkeypatch.setenv("DMPO_EXPLORE_TOKEN", "mine")
    call("app", "--token")
    assert os.environ["DMPO_EXPLORE_TOKEN"] == "mine"


STARTER = """
import sys
from dmpo_explore.cli.doctor import _run_app
sys.exit(_run_app([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    "kind",
    [signal.SIGTERM, *(pytest.param(kind, marks=pytest.mark.slow) for kind in (signal.SIGINT, signal.SIGHUP))],
)
def test_a_signal_ends_the_server_too(kind: signal.Signals) -> None:
    """In a process of its own, which the signal is sent to; the server is one that would sleep for a minute."""
    process = subprocess.Popen(
        [sys.executable, "-c", STARTER], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout and process.stdout.readline() == "up\n"
    (server,) = psutil.Process(process.pid).children()
    process.send_signal(kind)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0 and rest == "" and not server.is_running()


# -- `check` --


def test_a_valid_folder_is_said_to_be_valid(runs: Path) -> None:
    for name in ("mine", runs / "mine"):
        assert call("check", name).stdout == f"run {runs / 'mine'} (records: test, val): valid\n"
    done = call("check", runs / "mine/records/val")
    assert "exits, 10 classes): valid" in done.stdout and done.stderr == ""
    assert json.loads(call("check", "demo", "--json").stdout)["valid"] is True


def test_every_problem_is_a_line_and_the_status_is_1(runs: Path) -> None:
    folder = runs / "mine/records/val"
    np.save(folder / "scores/confidence.npy", np.full_like(np.load(folder / "scores/confidence.npy"), 70))
    (folder / "labels.npy").unlink()
    done = call("check", "mine", status=1)
    first, *lines = done.stdout.splitlines()
    assert first == f"run {runs / 'mine'} (records: test, val): 2 problems"
    assert "labels.npy is missing" in lines[0] and "70.0 at image 0" in lines[1] and len(lines) == 2
    assert done.stderr == f"error: {runs / 'mine'} is not valid; correct these and repeat\n"
    answer = json.loads(call("check", folder, "--json", status=1).stdout)
    assert [row["file"] for row in answer["problems"]] == ["labels.npy", "scores/confidence.npy"]
    assert (answer["kind"], answer["valid"], answer["format_version"]) == ("record", False, 1)
