"""The section of Decide with the training curves of the runs: closed at first, then a line per run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from decide_page import start, texts
from dmpo_explore_app.components.run_differences import LEGEND, alternatives, histories
from dmpo_explore_app.state import panels

import dmpo_explore as dx


def test_the_curves_are_drawn_when_the_section_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    names = "demo,demo-naive,demo-single"
    assert LEGEND not in texts(start(runs=names))
    app = start(panels.LEARNED, runs=names)
    assert LEGEND in texts(app) and "No training curves" not in texts(app) and not app.error


def test_a_run_without_curves_is_named_and_a_damaged_one_reported(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(runs, own := tmp_path / "runs")  # other tests use these runs as they are
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(own))
    app = start(panels.LEARNED, runs="four,six")
    assert "No training curves: four, six" in texts(app) and LEGEND not in texts(app) and not app.error
    (own / "four" / "history.csv").write_text("epoch\n1\n", encoding="utf-8")
    app = start(panels.LEARNED, runs="four,six")
    assert "The training curves of four cannot be shown" in texts(app) and "No training curves: six" in texts(app)


def test_every_panel_has_the_last_values_as_text() -> None:
    found, without = histories([dx.load_run("fashion"), dx.load_run("fashion-single")])
    assert list(found) == ["fashion", "fashion-single"] and not without
    texts = alternatives(dx.figures.histories_figure(found, [0, 1]), found)
    assert texts[0] == "Area on val, by epoch. fashion 91.1% after 4 epochs; fashion-single 91.4% after 4 epochs."
    assert texts[1] == "Exit 1, accuracy on val, by epoch. fashion 88.6% after 4 epochs."
    assert len(texts) == 3
