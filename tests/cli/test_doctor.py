"""What is here: runs, also broken ones, and the installation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
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
    assert facts["facts"] == "fashion-mnist, vit_small_patch14_dinov2, conv + covariance, epoch 0/6, records: val"
    (folder / "history.csv").write_text("epoch,area\n1,0.5\n2,0.6\n")
    monkeypatch.setattr(doctor, "BUNDLED_RUNS", tmp_path)
    assert run_facts("run")["epochs"] == 2 and run_facts("run")["facts"].endswith("records: val, bundled")
    (folder / "history.csv").write_text("what")
    assert run_facts("run").keys() == {"run", "error", "facts"}
    assert "history.csv" in run_facts("run")["error"]
    assert run_facts("nobody")["facts"].startswith("broken: unknown run 'nobody'")


def test_the_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "no-such-package"))
    facts = diagnose()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["versions"]["torch"] == torch.__version__
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


def test_the_app_is_found_or_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert app_file().name == "main.py" and "streamlit" in app_file().read_text(encoding="utf-8")
    real = doctor.find_spec
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "dmpo_explore_app" else real(name))
    assert app_file() == Path(dmpo_explore.__file__).parents[1] / "app" / "main.py"  # of the checkout
    monkeypatch.setattr(doctor, "__file__", str(tmp_path / "dmpo_explore" / "cli" / "doctor.py"))
    with pytest.raises(FileNotFoundError, match="install dmpo-explore again"):
        app_file()
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="the app needs Streamlit: pip install"):
        app_file()
