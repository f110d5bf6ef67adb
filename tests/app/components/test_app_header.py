"""The header: the network's shares are the library's, what it falls back to, and that a broken run leaves it empty."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from dmpo_explore_app.components import app_header
from dmpo_explore_app.services import run_facts
from dmpo_explore_app.services.policies import OperatingPoint
from made_up import HOSTILE, MAIN
from streamlit.testing.v1 import AppTest

import dmpo_explore as dx


def header(app: AppTest) -> str:
    return next((str(e.proto.body) for e in app.get("html") if 'class="dx-run"' in str(e.proto.body)), "")


def opened(page: str, **parameters: str) -> AppTest:
    app = AppTest.from_file(str(MAIN), default_timeout=120)
    app.query_params.update(parameters)
    app.run()
    if page:
        app.switch_page(page).run()
    assert not app.exception
    return app


def test_exits_are_filled_with_the_shares_of_the_operating_point() -> None:
    run = dx.load_run("demo")
    point = OperatingPoint(run, "test", run_facts.usual_policy(run, "test"))
    shares, body = point.outcome.summary()["exit_shares"], app_header.body(point)
    assert re.findall(r"--share: ([\d.]+)", body) == [f"{share:.4f}" for share in shares]
    assert re.findall(r"--inside: ([\d.]+)", body)[1] == f"{1 - shares[0]:.4f}"
    assert f"exit 1 {shares[0]:.0%}" in body and f"exit 6 {shares[5]:.1%}" in body
    assert ">10,000 test images<" in body


def test_many_exits_keep_their_shares_for_the_screen_reader_alone() -> None:
    body = app_header.network([0.05] * 20)
    assert "<small>" not in body and body.count("data-exit") == 20 and "exit 20 5.0%" in body


@pytest.mark.parametrize("page", ["", "views/training.py"])
def test_pages_have_it_with_the_session_s_operating_point(runs: Path, page: str) -> None:
    app = opened(page, run="six", threshold="0.8")
    record = dx.load_run("six").record("test")
    first = dx.summarise(record, dx.policies.ConfidencePolicy((0.8,)).exits(record))["exit_shares"][0]
    assert f"--share: {first:.4f}" in header(app) and "6 exits" in header(app)


@pytest.mark.parametrize("page", ["views/data.py", "views/compare.py", "views/own_scores.py"])
def test_pages_of_no_single_run_show_none_and_open_one_in_explore(runs: Path, page: str) -> None:
    app = opened(page, run="six", threshold="0.8")
    assert header(app) == "" and "DMPO explore" in "".join(str(e.proto.body) for e in app.get("html"))
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
    assert not app.exception and app.selectbox(key="run").value == "six" and "6 exits" in header(app)


def test_a_long_list_of_runs_is_searched_by_name(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_header, "LISTED", 2)
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
    assert run_facts.data("/home/me/photos") == "photos" and run_facts.data("torch/mnist") == "torch/mnist"
    assert run_facts.data("fashion-mnist") == "Fashion-MNIST"


def test_names_are_text(runs: Path) -> None:
    assert HOSTILE not in header(opened("", run="hostile"))
