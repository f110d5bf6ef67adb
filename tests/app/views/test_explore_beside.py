"""Other runs beside the one on the page Explore."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from dmpo_explore_app.services import exploration, slider_data
from explore_page import address_of, checked, start
from made_up import save_run

import dmpo_explore as dx
from dmpo_explore.figures import trade_off


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
