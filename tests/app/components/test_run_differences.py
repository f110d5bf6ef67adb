"""Decide's sections of what differs: the runs' settings in a table, their training curves in a figure."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import visiting
from decide_page import PAGE, start, texts
from dmpo_explore_app.components.run_differences import LEGEND, MEANING, alternatives, histories, remarks, table
from dmpo_explore_app.services import own_runs
from dmpo_explore_app.state import panels
from streamlit.testing.v1 import AppTest

import dmpo_explore as dx


def test_every_setting_has_a_label_of_its_own_and_its_help() -> None:
    naive, demo = (
        dx.runs.config_differences([dx.load_run("fashion"), dx.load_run(name)]) for name in ("fashion-naive", "fashion")
    )
    assert table(naive).loc["Bypass"].tolist() == ["conv", "none", r"Bypass before every exit but the last\."]
    assert list(table(naive)) == ["fashion", r"fashion\-naive", MEANING]
    titles = {name: found.title for name, found in dx.runs.COMPARED.items()}
    assert titles["data.train_size"] == "Training images" and titles["training.seed"] == "Seed"
    helps = [(found.title, found.help) for found in dx.runs.COMPARED.values()]
    assert len({*helps}) == len(helps) and all(name and text for name, text in helps)
    assert remarks(demo, ["fashion", "fashion"]) == [f"Nothing differs: all {len(dx.OPTIONS)} options are equal."]


def opened(runs: str, own: own_runs.OwnRun | None = None) -> AppTest:
    """The page with the section open."""
    return visiting.opened(PAGE, state={panels.SETTINGS: True, "_own_runs": [own] if own else []}, runs=runs)


def test_settings_that_differ_are_a_table_and_the_others_a_number(root: Path) -> None:
    names = ["demo", "demo-naive", "demo-single"]
    assert len(start(runs=",".join(names)).table) == 1  # closed: nothing is read for it
    app = opened(",".join(names))
    shown, found = app.table[1].value, dx.runs.config_differences([dx.load_run(name) for name in names])
    assert [name.replace("\\", "") for name in shown] == [*names, MEANING] and len(shown) == len(found) > 0
    assert [text.replace("\\", "") for text in shown.loc["Exits"].tolist()[:3]] == ["3,4,5,6,8,12"] * 2 + ["1"]
    assert f"{len({*dx.OPTIONS} - {*found.index})} further options are equal." in texts(app)


def test_equal_settings_and_scores_without_any_are_named(runs: Path) -> None:
    app = opened("four,six,one")
    assert len(app.table) == 1 and f"Nothing differs: all {len(dx.OPTIONS)} options are equal." in texts(app)
    own = own_runs.opened("mine", {"test": own_runs.OwnScores(dx.load_run("six").record("test"), "")}, None)
    app = opened("four,mine (yours)", own)
    assert len(app.table) == 1 and "mine (yours) has no config." in texts(app)
    assert "Two runs with a config are needed" in texts(app) and not app.error


def test_the_curves_are_drawn_when_the_section_is_open(root: Path) -> None:
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
