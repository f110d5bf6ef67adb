"""The header: the list of runs, their numbers, and the search in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from dmpo_explore_app.components import run_list
from dmpo_explore_app.services import run_facts
from made_up import MAIN
from streamlit.testing.v1 import AppTest

import dmpo_explore as dx


def opened(page: str, **parameters: str) -> AppTest:
    app = AppTest.from_file(str(MAIN), default_timeout=120)
    app.query_params.update(parameters)
    app.run()
    if page:
        app.switch_page(page).run()
    assert not app.exception
    return app


@pytest.mark.slow
@pytest.mark.parametrize("page", ["views/decide.py", "views/own.py"])
def test_pages_of_no_single_run_open_one_in_explore(runs: Path, page: str) -> None:
    app = opened(page, run="six", threshold="0.8")
    app.session_state["runs_list"] = True
    app.run()
    button = app.button(key="runs_list six")
    assert button.label == "Explore"
    button.click().run()
    assert not app.exception and [title.value for title in app.title] == ["When may the model stop?"]
    assert app.session_state["run"] == "six"


def test_the_list_of_runs_shows_their_numbers_and_chooses_one(runs: Path) -> None:
    app = opened("")
    app.session_state["runs_list"] = True
    app.run()
    said = "\n".join(element.value for element in app.markdown).replace("\\", "")
    found = run_facts.summary("six")
    assert f"**{found.accuracy:.2%}** accuracy · **{found.compute:.1%}** compute" in said
    app.button(key="runs_list six").click().run()
    assert not app.exception and app.selectbox(key="run").value == "six"


def test_a_long_list_of_runs_is_searched_by_name(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_list, "LISTED", 2)
    app = opened("")
    app.session_state["runs_list"] = True
    app.run()
    names = dx.list_runs()

    def listed() -> list[str]:
        return [
            str(button.key).removeprefix("runs_list ")
            for button in app.button
            if str(button.key).startswith("runs_list ")
        ]

    assert len(names) > 3 and listed() == names[:2]
    assert f"The first 2 of {len(names)} runs by name." in [caption.value for caption in app.caption]
    app.text_input(key="find_runs").set_value("S i").run()  # every word, in any case
    assert listed() == [name for name in names if "s" in name and "i" in name][:2] != names[:2]
    app.text_input(key="find_runs").set_value("*nothing*").run()
    assert listed() == [] and any("No run’s name contains" in caption.value for caption in app.caption)
    assert not app.exception


def test_own_images_have_the_name_of_their_folder_not_its_place() -> None:
    assert run_facts.data("/home/me/photos") == "photos" and run_facts.data("hfds/beans") == "hfds/beans"
    assert run_facts.data("fashion-mnist") == "Fashion-MNIST"
