"""The section of Decide with the settings in which the runs differ: closed at first, then a table and its remarks."""

from __future__ import annotations

from pathlib import Path

import pytest
import visiting
from decide_page import PAGE, start, texts
from dmpo_explore_app.components.run_differences import MEANING
from dmpo_explore_app.services import own_runs
from dmpo_explore_app.state import panels
from streamlit.testing.v1 import AppTest

import dmpo_explore as dx


def opened(runs: str, own: own_runs.OwnRun | None = None) -> AppTest:
    """The page with the section open."""
    return visiting.opened(PAGE, state={panels.SETTINGS: True, "_own_runs": [own] if own else []}, runs=runs)


def test_settings_that_differ_are_a_table_and_the_others_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
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
