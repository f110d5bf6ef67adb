"""The page Explore on runs that are missing, broken or replaced, and on the bundled ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from explore_page import bodies, cards, checked, expected, move, shown_policy, start
from made_up import MAIN, save_run

import dmpo_explore as dx


def test_a_single_exit_has_nothing_to_choose(runs: Path) -> None:
    app = start(run="four", threshold="0.8")
    before = cards(app)
    checked(app.selectbox(key="run").set_value("one").run())
    assert any("single exit" in caption.value for caption in app.caption)
    assert not any("Set by hand" in caption.value for caption in app.caption)
    assert not app.select_slider and not app.number_input and "threshold" not in app.query_params
    record = dx.load_run("one").record("test")
    assert cards(app) == expected("one", "test", dx.fit_policy(record, threshold=1.0))
    checked(app.selectbox(key="run").set_value("four").run())
    assert cards(app) == before
    assert len(start(run="one", threshold="0.8").metric) == 2


def test_no_compute_saved_has_no_sign(runs: Path) -> None:
    saved = {metric.label: metric.value for metric in start(run="demo-single").metric}["Compute saved"]
    assert saved == "0.0%"  # was "-0.0%": rounded from below zero


def test_no_runs_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    monkeypatch.setattr("dmpo_explore.runs.store.BUNDLED_RUNS", tmp_path / "none")
    app = start()
    assert "No runs yet" in app.subheader[0].value
    assert "dmpo-explore train" in app.code[0].value
    assert not app.metric


def test_broken_and_unfinished_runs_are_said_and_others_stay_in_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    for name in ("whole", "cut", "foreign", "unrecorded"):
        save_run(tmp_path, name, images=40)
    with (tmp_path / "cut/records/test/scores/confidence.npy").open("r+b") as stream:
        stream.truncate(100)
    (tmp_path / "foreign/config.json").write_text("{")
    shutil.rmtree(tmp_path / "unrecorded/records")
    for name, said in (("cut", "confidence.npy"), ("foreign", "config.json"), ("unrecorded", "dmpo-explore record")):
        app = start(run=name)
        texts = [element.value for element in [*app.error, *app.warning]]
        assert any(said.replace(".", "\\.") in text or said in text for text in texts), texts
        assert not app.metric
        checked(app.selectbox(key="run").set_value("whole").run())
        assert len(app.metric) == 2


def test_a_run_that_is_deleted_or_recorded_anew_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    save_run(tmp_path, "mine", images=40)
    app = start(run="mine")
    shutil.rmtree(tmp_path / "mine")
    save_run(tmp_path, "mine", images=50, seed=8)
    assert cards(checked(app.run())) == expected("mine", "test", shown_policy(app))
    shutil.rmtree(tmp_path / "mine/records/test")
    assert app.session_state["split"] == "test" and "no split" in checked(app.run()).warning[0].value
    shutil.rmtree(tmp_path / "mine")
    save_run(tmp_path, "other", images=40)
    assert "no run" in checked(app.run()).warning[0].value


def test_a_slider_is_released_on_a_run_that_was_recorded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    save_run(tmp_path, "mine", images=60, n_exits=6)
    app = move(start(run="mine", exit="6"), 9)  # by hand: no target will be cleared
    shutil.rmtree(tmp_path / "mine")
    save_run(tmp_path, "mine", images=50, n_exits=3)
    checked(app.select_slider(key="slider 0").set_value(3).run())
    assert "no exit 6" in app.warning[0].value
    assert cards(app) == expected("mine", "test", shown_policy(app)) and len(bodies(app)) == 3


def test_without_val_no_target_and_no_policy_that_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    save_run(tmp_path, "mine", images=60)
    shutil.rmtree(tmp_path / "mine/records/val")
    app = start(run="mine")
    assert not app.number_input and not {"gate", "budgeted"} & set(app.selectbox(key="policy").options)
    assert any("Record val" in caption.value for caption in app.caption)
    assert (
        "gate is unavailable here: it learns on calibration or val" in start(run="mine", policy="gate").warning[0].value
    )


@pytest.mark.slow
def test_the_page_needs_no_torch_and_no_optimizer(runs: Path) -> None:
    code = (
        "import sys; from streamlit.testing.v1 import AppTest; "
        f"app = AppTest.from_file({str(MAIN)!r}, default_timeout=60).run(); assert not app.exception and app.metric; "
        "print(sorted({'torch', 'timm', 'peft', 'torchvision', 'accelerate', 'scipy.optimize'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(MAIN.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_the_bundled_demo_opens_first_with_its_controls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    app = start()
    assert app.session_state["run"] == "demo"
    shown = {option.replace("\\", "") for option in app.button_group(key="beside demo").options}
    assert shown >= {"demo-naive", "demo-single"}
    assert bodies(app)[0].count("<img ") > 0
    policy = dx.fit_run_policy(dx.load_run("demo"))
    assert cards(app) == expected("demo", "test", policy)
