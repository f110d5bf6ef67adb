"""The address of Training: the form survives a reload, and a link fills in only what the form offers."""

from __future__ import annotations

from pathlib import Path

import pytest
from dmpo_explore_app.components import training_form
from made_up import save_run
from one_image import address_of, said
from training_page import command, opened
from visiting import checked

from dmpo_explore import jobs


@pytest.fixture
def empty_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runs root without runs, on a machine where every weight and data set is."""
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    monkeypatch.setattr(jobs, "check_ready", lambda config: None)
    return tmp_path


def test_the_form_survives_a_reload(empty_root: Path) -> None:
    app = opened()
    assert dict(app.query_params) == {} and app.text_input(key="train name").value == "mine"
    checked(app.pills(key="train start").set_value("naive exits").run())
    app.number_input(key="train training.epochs").set_value(7)
    app.number_input(key="train data.train_size").set_value(None)
    app.text_input(key="train model.exits").set_value("2,6")
    app.selectbox(key="train training.teacher").set_value("own")
    checked(app.text_input(key="train name").set_value("again").run())
    typed, address = command(app), address_of(app)
    assert set(address) == {"run", "begin", "name", "form"} and "training.epochs" in address["form"]
    again = opened(**address)  # another session
    assert command(again) == typed and again.pills(key="train start").value == "naive exits"
    assert again.number_input(key="train training.epochs").value == 7
    checked(again.number_input(key="train training.epochs").set_value(3).run())  # the start's own
    assert "training.epochs" not in address_of(again)["form"]


def test_a_form_that_began_with_another_run_survives_a_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    monkeypatch.setattr(jobs, "check_ready", lambda config: None)
    for name in ("one", "two"):
        save_run(tmp_path, name, images=40)
    app = opened(run="two", begin="like one", form='{"training.epochs":9}', name="again")
    assert app.pills(key="train start").value == "like one" and app.selectbox(key="run").value == "two"
    assert app.number_input(key="train training.epochs").value == 9
    assert app.text_input(key="train name").value == "again" and "There is no start" not in said(app)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "why"),
    [
        ("[1]", "not options of this form"),
        ("{", "cannot be used"),
        ('{"model.weights":"/etc/passwd"}', "has no choice '/etc/passwd'"),
        ('{"training.teacher":"../x"}', "has no choice '../x'"),
        ('{"training.epochs":-1}', "cannot be -1"),
        ('{"model.exits":[6,3]}', "rising"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_link_fills_in_only_what_the_form_offers(empty_root: Path, form: str, why: str) -> None:
    app = opened(form=form)
    assert why in said(app) and app.pills(key="train start").value == training_form.TOY
    assert command(app)[:4] == ["dmpo-explore", "train", "--data", "digits"]
    if form == "[1]":
        assert "There is no start '../x' here" in said(opened(begin="../x", form=form))
