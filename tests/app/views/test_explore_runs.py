"""Explore's runs: missing, broken, replaced, bundled; others beside, and records of other places."""

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
import json
from dmpo_explore_app.services import exploration, slider_data
from explore_page import address_of, checked, start
from made_up import save_run
from dmpo_explore.figures import trade_off
from dataclasses import replace
from explore_page import start
from visiting import checked
from explore_page import bodies, cards, expected, start
from streamlit.testing.v1 import AppTest



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


def test_other_runs_stand_beside(runs: Path) -> None:
    app = start(run="four")
    beside = app.button_group(key="beside four")
    assert {"one", "six"} <= set(beside.options) and "hostile" not in beside.options  # other images
    checked(beside.set_value(["six"]).run())
    alt = next(chart.proto.alt for chart in app.get("plotly_chart"))
    assert alt == "Accuracy over compute of four, six."


def test_what_stands_beside_is_in_the_address_and_checked(runs: Path) -> None:
    app = start(run="four", threshold="0.8")
    checked(app.button_group(key="beside four").set_value(["six"]).run())
    link = address_of(app)
    assert link["beside"] == "six"
    beside = app.button_group(key="beside four")
    assert start(**link).button_group(key="beside four").value == beside.value == ["six"]
    checked(beside.set_value([]).run())
    assert start(**address_of(app)).button_group(key="beside four").value == []
    wrong = start(run="four", beside="six,hostile,<b>")
    assert [said in warning.value for warning, said in zip(wrong.warning, ("hostile", "b"), strict=True)] == [True] * 2
    assert wrong.button_group(key="beside four").value == ["six"] and address_of(wrong)["beside"] == "six"


def test_only_the_same_images_stand_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    for name in ("mine", "other", "dearer", "elsewhere"):
        save_run(tmp_path, name, images=60)
    change_meta(tmp_path / "dearer", reference_flops=9e9)
    change_meta(tmp_path / "elsewhere", data="cifar10")
    beside = start(run="mine").button_group(key="beside mine")
    assert {"other", "dearer"} <= set(beside.options) and "elsewhere" not in beside.options
    assert "other" in beside.value and "dearer" not in beside.value  # whose axis would leave no room for mine


def test_curves_of_another_rule_are_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    for name in ("mine", "other"):
        save_run(tmp_path, name, images=60, logits_of=("test", "val"))
    shutil.rmtree(tmp_path / "other" / "records" / "val")
    app = start(run="mine", policy="gate", beside="other", calibrated="1")
    said = "\n".join(caption.value for caption in app.caption).replace("\\", "")
    assert "other: its curve is that of confidence, as gate is unavailable." in said
    assert "Only the curve of mine is calibrated." in said
    assert "its curve is" not in "".join(c.value for c in start(run="mine", beside="other").caption)


def test_many_runs_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    save_run(tmp_path, "mine", images=30)
    for number in range(70):  # more than the records that are kept
        shutil.copytree(tmp_path / "mine", tmp_path / f"copy{number}")
    app = start(run="mine")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("dmpo_explore.runs.run.ExitRecord.load", refuse)
    assert checked(app.run()).metric and not app.error
    assert len(app.button_group(key="beside mine").options) == 70


def change_meta(run: Path, **values: object) -> None:
    for meta in run.glob("records/*/meta.json"):
        meta.write_text(json.dumps(json.loads(meta.read_text()) | values))


def test_the_exported_figures_have_the_pages_colours_and_names(runs: Path) -> None:
    names = ["four", "one", "six"]  # a single exit in the middle
    tables = {name: dx.trade_off(dx.load_run(name).record("test"), "confidence") for name in names}
    page = {c["name"]: c["colour"] for c in slider_data.curves(tables)}
    lines = {name: tables[name] for name in ("four", "six")}
    figure = exploration.coloured(trade_off.trade_off_figure(lines, None, {"one": (1.0, 0.9)}), names)
    drawn = {t.name: t.marker.color if t.mode == "markers" else t.line.color for t in figure.data}
    assert drawn == page


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dx.Run:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    save_run(tmp_path, "mine", images=60)
    return dx.load_run("mine")


def test_a_run_that_was_recorded_elsewhere_shows_what_thresholds_do_there(run: dx.Run) -> None:
    assert not checked(start(run="mine", view="elsewhere")).table
    own, place = run.record("val"), str(run.path.parent / "private" / "elsewhere")
    for split in ("calibration", "test"):
        meta = replace(own.meta, data=place, split=split, images_sha256="")
        replace(own, meta=meta).save(run.path / "records" / f"elsewhere-{split}")
    app = checked(start(run="mine", view="elsewhere", budget="80"))
    found = dx.analysis.transfer_run(run, place, [dx.Target.flops(0.8)])
    shown = app.table[0].value
    assert shown["compute"].tolist() == [f"{share:.1%}" for share in found.thresholds["flops_fraction"]]
    said = " ".join(text.value for text in app.markdown)
    assert f"**{found.thresholds['flops_fraction'].iloc[1]:.0%}**" in said and "its answers on elsewhere" in said
    assert "private" not in said + str([chart.proto for chart in app.get("plotly_chart")])  # for shared sessions


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    return tmp_path


def pictures(app: AppTest) -> str:
    return "".join(bodies(app))


def test_without_its_pictures_it_has_all_numbers_and_offers_them(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_DATA", str(root / "empty"))
    app = start(run="caltech")
    policy = dx.fit_run_policy(dx.load_run("caltech"))
    assert cards(app) == expected("caltech", "test", policy)
    text = " ".join(element.value for element in [*app.markdown, *app.caption])
    assert r"Images not fetched yet: Caltech\-101" in text and "101 classes" in text
    assert "data:image/" not in pictures(app)
    assert "dmpo-explore fetch --data caltech101" in text and not app.error


@pytest.mark.slow
def test_with_its_pictures_they_are_those_of_its_records(root: Path) -> None:
    """Without the mark `data`: Caltech-101 is in no registry, so that it may skip in CI."""
    run = dx.load_run("caltech")
    try:
        images = {split: run.image_set(split) for split in run.splits()}
    except FileNotFoundError as error:
        pytest.skip(f"needs Caltech-101: name its folder in DMPO_EXPLORE_DATA ({error})")
    assert {split: len(found) for split, found in images.items()} == {"calibration": 867, "val": 867, "test": 1734}
    app = start(run="caltech")
    assert "data:image/" in pictures(app) and "not fetched yet" not in " ".join(text.value for text in app.markdown)
