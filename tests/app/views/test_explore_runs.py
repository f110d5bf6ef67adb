"""Explore's runs: missing, broken, replaced, bundled; others beside, and records of other places."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from explore_page import (
    address_of,
    bodies,
    cards,
    checked,
    expected,
    move,
    shown_policy,
    slider,
    start,
    tab,
    words,
)
from made_up import MAIN, change_meta, save_run

import dmpo_explore as dx


@pytest.mark.slow
def test_a_single_exit_has_nothing_to_choose(runs: Path) -> None:
    app = start(run="four", threshold="0.8")
    before = cards(app)
    checked(app.selectbox(key="run").set_value("one").run())
    assert "single exit" in words(app) and "Set by hand" not in words(app)
    assert not slider(app)["sliders"] and not app.number_input and "threshold" not in app.query_params
    record = dx.load_run("one").record("test")
    assert cards(app) == expected("one", "test", dx.fit_policy(record, threshold=1.0))
    checked(app.selectbox(key="run").set_value("four").run())
    assert cards(app) == before
    assert cards(start(run="one", threshold="0.8")) == cards(start(run="one"))
    assert cards(start(run="demo-single"))["Compute saved"] == "0.0%"  # was "-0.0%": rounded from below zero


def test_no_runs_says_how_to_make_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmpo_explore.runs.store.BUNDLED_RUNS", root / "none")
    app = start()
    assert "No runs yet" in app.subheader[0].value
    assert "dmpo-explore train" in app.code[0].value
    assert not cards(app)


@pytest.mark.slow
def test_a_run_that_is_deleted_or_recorded_anew_meanwhile(root: Path) -> None:
    save_run(root, "mine", images=60, n_exits=6)
    app = move(start(run="mine", exit="6", view="images"), 9)  # by hand: no target will be cleared
    shutil.rmtree(root / "mine")
    save_run(root, "mine", images=50, n_exits=3)
    assert "no exit 6" in checked(app.run()).warning[0].value
    assert cards(app) == expected("mine", "test", shown_policy(app)) and len(bodies(app)) == 3
    shutil.rmtree(root / "mine/records/test")
    assert app.session_state["split"] == "test" and "no split" in checked(app.run()).warning[0].value
    shutil.rmtree(root / "mine")
    save_run(root, "other", images=40)
    assert "no run" in checked(app.run()).warning[0].value


def test_without_val_no_target_and_no_policy_that_learns(root: Path) -> None:
    save_run(root, "mine", images=60)
    shutil.rmtree(root / "mine/records/val")
    app = start(run="mine")
    assert not app.number_input and not {"gate", "budgeted"} & set(app.selectbox(key="policy").options)
    assert "Record val" in words(app)
    assert "gate is unavailable here: it learns on calibration or val" in words(start(run="mine", policy="gate"))


@pytest.mark.slow
def test_the_page_needs_no_torch_and_no_optimizer(runs: Path) -> None:
    code = (
        "import sys; from streamlit.testing.v1 import AppTest; app = AppTest.from_file("
        f"{str(MAIN)!r}, default_timeout=60).run(); assert not app.exception and app.get('bidi_component'); "
        "print(sorted({'torch', 'timm', 'peft', 'torchvision', 'accelerate', 'scipy.optimize'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(MAIN.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


# -- bundled --


def test_the_bundled_demo_opens_first_with_its_controls(root: Path) -> None:
    app = start()
    assert app.session_state["run"] == "demo"
    beside = {option.replace("\\", "") for option in app.button_group(key="beside demo").options}
    assert beside >= {"demo-naive", "demo-single"}
    assert cards(app) == expected("demo", "test", dx.fit_run_policy(dx.load_run("demo")))
    assert bodies(tab(app, "images"))[0].count("<img ") > 0


def test_without_its_photographs_a_run_has_all_numbers_and_offers_them(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_DATA", str(root / "empty"))
    app = start(run="caltech", view="images")
    assert cards(app) == expected("caltech", "test", dx.fit_run_policy(dx.load_run("caltech")))
    text = " ".join(element.value for element in [*app.markdown, *app.caption])
    assert r"Images not fetched yet: Caltech\-101" in text and "data:image/" not in "".join(bodies(app))
    assert "dmpo-explore fetch --data caltech101" in text and not app.error


# -- beside and elsewhere --


def test_other_runs_stand_beside_and_are_in_the_address(runs: Path) -> None:
    app = start(run="four", threshold="0.8")
    beside = app.button_group(key="beside four")
    assert {"one", "six"} <= set(beside.options) and "hostile" not in beside.options  # other images
    checked(beside.set_value(["six"]).run())
    assert slider(app)["alt"] == "Accuracy over compute of four, six" and address_of(app)["beside"] == "six"
    beside = app.button_group(key="beside four")
    assert start(**address_of(app)).button_group(key="beside four").value == beside.value == ["six"]
    checked(beside.set_value([]).run())
    assert start(**address_of(app)).button_group(key="beside four").value == []
    wrong = start(run="four", beside="six,hostile,<b>")
    assert [said in warning.value for warning, said in zip(wrong.warning, ("hostile", "b"), strict=True)] == [True] * 2
    assert wrong.button_group(key="beside four").value == ["six"] and address_of(wrong)["beside"] == "six"


def test_only_the_same_images_stand_beside(root: Path) -> None:
    for name in ("mine", "other", "dearer", "elsewhere"):
        save_run(root, name, images=60)
    change_meta(root / "dearer", reference_flops=9e9)
    change_meta(root / "elsewhere", data="cifar10")
    beside = start(run="mine").button_group(key="beside mine")
    assert {"other", "dearer"} <= set(beside.options) and "elsewhere" not in beside.options
    assert "other" in beside.value and "dearer" not in beside.value  # whose axis would leave no room for mine


def test_curves_of_another_rule_are_said_to_be(root: Path) -> None:
    for name in ("mine", "other"):
        save_run(root, name, images=60, logits_of=("test", "val"))
    shutil.rmtree(root / "other" / "records" / "val")
    said = words(start(run="mine", policy="gate", beside="other", calibrated="1"))
    assert "other: its curve is that of confidence, as gate is unavailable." in said
    assert "Only the curve of mine is calibrated." in said
    assert "its curve is" not in words(start(run="mine", beside="other"))


def test_a_run_that_was_recorded_elsewhere_shows_what_thresholds_do_there(root: Path) -> None:
    save_run(root, "mine", images=60)
    assert not start(run="mine", view="elsewhere").table
    run = dx.load_run("mine")
    own, place = run.record("val"), str(root / "private" / "elsewhere")
    for split in ("calibration", "test"):
        meta = replace(own.meta, data=place, split=split, images_sha256="")
        replace(own, meta=meta).save(run.path / "records" / f"elsewhere-{split}")
    app = start(run="mine", view="elsewhere", budget="80")
    found = dx.analysis.transfer_run(run, place, [dx.Target.flops(0.8)])
    shown = app.table[0].value
    assert shown["compute"].tolist() == [f"{share:.1%}" for share in found.thresholds["flops_fraction"]]
    said = " ".join(text.value for text in app.markdown)
    assert f"**{found.thresholds['flops_fraction'].iloc[1]:.0%}**" in said and "its answers on elsewhere" in said
    assert "private" not in said + str([chart.proto for chart in app.get("plotly_chart")])  # for shared sessions
