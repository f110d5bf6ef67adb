"""What a run is, in words and numbers of its own files; the header's list of runs and the search in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from dmpo_explore_app.components import run_list
from dmpo_explore_app.services import run_facts
from dmpo_explore_app.services.policies import OperatingPoint
from made_up import MAIN
from streamlit.testing.v1 import AppTest
from visiting import checked, opened

import dmpo_explore as dx


def listed(page: str = "", **parameters: str) -> AppTest:
    """A page with the list of runs open."""
    app = opened(MAIN, **parameters)
    if page:
        checked(app.switch_page(page).run())
    app.session_state["runs_list"] = True
    return checked(app.run())


@pytest.mark.slow
@pytest.mark.parametrize("page", ["views/decide.py", "views/own.py"])
def test_pages_of_no_single_run_open_one_in_explore(runs: Path, page: str) -> None:
    app = listed(page, run="six", threshold="0.8")
    button = app.button(key="runs_list six")
    assert button.label == "Explore"
    checked(button.click().run())
    assert [title.value for title in app.title] == ["When may the model stop?"]
    assert app.session_state["run"] == "six"


def test_the_list_of_runs_shows_their_numbers_and_chooses_one(runs: Path) -> None:
    app = listed()
    said = "\n".join(element.value for element in app.markdown).replace("\\", "")
    found = run_facts.summary("six")
    assert f"**{found.accuracy:.2%}** accuracy · **{found.compute:.1%}** compute" in said
    checked(app.button(key="runs_list six").click().run())
    assert app.selectbox(key="run").value == "six"


def test_a_long_list_of_runs_is_searched_by_name(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_list, "LISTED", 2)
    app = listed()
    names = dx.list_runs()

    def found() -> list[str]:
        keys = [str(button.key).partition("runs_list ") for button in app.button]
        return [name for _, prefix, name in keys if prefix]

    assert len(names) > 3 and found() == names[:2]
    assert f"The first 2 of {len(names)} runs by name." in [caption.value for caption in app.caption]
    app.text_input(key="find_runs").set_value("S i").run()  # every word, in any case
    assert found() == [name for name in names if "s" in name and "i" in name][:2] != names[:2]
    app.text_input(key="find_runs").set_value("*nothing*").run()
    assert found() == [] and any("No run’s name contains" in caption.value for caption in app.caption)


def test_own_images_have_the_name_of_their_folder_not_its_place() -> None:
    assert run_facts.data("/home/me/photos") == "photos" and run_facts.data("hfds/beans") == "hfds/beans"
    assert run_facts.data("fashion-mnist") == "Fashion-MNIST"


def test_the_facts_of_the_bundled_runs() -> None:
    said = {}
    for name in ("demo", "demo-naive", "demo-single", "demo-cnn"):
        run = dx.load_run(name)
        said[name] = run_facts.facts(OperatingPoint(run, "test", run_facts.usual_policy(run, "test")))
    assert said["demo"] == ("DMPO", "ViT-S/14", "Groceries", "6 exits", "1,300 test images")
    assert said["demo-naive"][0] == "linear exits"
    assert said["demo-single"][::3] == ("plain model", "1 exit")
    assert said["demo-cnn"][1] == "EfficientNet-Lite0"


def test_the_two_numbers_are_the_library_s() -> None:
    run = dx.load_run("demo")
    policy = dx.fit_run_policy(run)
    expected, found = dx.apply(policy, run.record("test")).summary(), run_facts.summary("demo")
    assert (found.accuracy, found.compute) == (expected["accuracy"], expected["flops_fraction"])
    assert found.text == "DMPO on ViT-S/14, Groceries, 6 exits" and not found.problem
    single = run_facts.summary("demo-single")
    assert single.accuracy == dx.load_run("demo-single").record("test").correct[:, -1].mean()


def test_what_cannot_be_read_names_its_problem(runs: Path) -> None:
    assert "nowhere" in run_facts.summary("nowhere").problem
    assert run_facts.summary("four").accuracy > 0  # a made-up run, with names of its own
