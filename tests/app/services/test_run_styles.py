"""A run's colour: the same whatever runs are beside it, and lighter on a dark page."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import streamlit as st
from dmpo_explore_app.components import widgets
from dmpo_explore_app.services import run_styles

import dmpo_explore as dx


def add(root: Path, name: str, age: int) -> None:
    (root / name / "records" / "test").mkdir(parents=True)
    (root / name / "config.json").write_text("{}")
    (root / name / "records" / "test" / "meta.json").write_text(f'{{"created": "2026-01-{age + 1:02}T00:00:00+00:00"}}')


def test_bundled_runs_have_fixed_colours_that_differ(root: Path) -> None:
    names = ["demo-cnn", "demo", "demo-naive"]
    assert run_styles.places(names) == [3, 0, 1] == [run_styles.places([name])[0] for name in names]
    looks = {(run_styles.colour(number), run_styles.dash(number)) for number in run_styles.FIXED.values()}
    assert len(looks) == len(run_styles.FIXED)
    for family in (run_styles.GROCERIES, run_styles.FASHION):
        assert len({run_styles.colour(run_styles.FIXED[name]) for name in family}) == len(family)


def test_a_new_run_changes_no_colour(root: Path) -> None:
    for age in range(run_styles.OTHERS + 2):
        before = run_styles._places()
        add(root, f"run{19 - age}", age)  # by name it would come first
        after = run_styles._places()
        assert before.items() <= after.items()
    first = [run_styles.places([f"run{19 - age}"])[0] for age in range(run_styles.OTHERS)]
    assert len({run_styles.colour(number) for number in first}) == run_styles.OTHERS  # none twice
    assert not {run_styles.colour(n) for n in first} & {run_styles.colour(n) for n in run_styles.FIXED.values()}
    looks = {(run_styles.colour(number), run_styles.dash(number)) for number in run_styles._places().values()}
    assert len(looks) == len(run_styles._places())


def test_files_that_are_touched_or_copied_change_no_colour(root: Path) -> None:
    names = [f"run{19 - age}" for age in range(run_styles.OTHERS + 2)]
    for age, name in enumerate(names):
        add(root, name, age)
    before = run_styles.places(names)
    for age, name in enumerate(names):
        for file in root.glob(f"{name}/**/*.json"):
            os.utime(file, (10_000 - age, 10_000 - age))
    assert run_styles.places(names) == before


@pytest.mark.parametrize("text", ["", "[]", '{"created": 3}', "{}", '{"created": ""}'])
def test_a_run_without_a_date_comes_last(root: Path, text: str) -> None:
    add(root, "a", 0)
    (root / "a" / "records" / "test" / "meta.json").write_text(text)
    assert run_styles._created(root / "a") == run_styles.NEVER == run_styles._created(root / "gone")


def test_a_figure_has_the_runs_colours(root: Path) -> None:
    figure = dx.figures.trade_off_figure({}, singles={"demo-cnn": (1.0, 0.9), "x": (1.0, 0.8)})
    run_styles.coloured(figure, {"demo-cnn": run_styles.places(["demo-cnn"])[0]})
    assert figure.data[0].marker.color == dx.figures.MODEL_COLOURS[3]
    assert run_styles.places(["of no run"])[0] == run_styles.places(["of no run"])[0] >= run_styles.FIRST


def test_live_charts_have_the_runs_colour_beside_a_grey_reference(root: Path) -> None:
    figure = dx.figures.speed_figure([])
    run_styles.beside_reference(figure, "early exit", "demo-cnn", "full depth")
    early, full = figure.data
    assert early.line.color == dx.figures.MODEL_COLOURS[3] != dx.figures.MODEL_COLOURS[0]
    assert (full.line.color, full.line.dash) == (dx.figures.GREY, "dot")


@pytest.mark.parametrize(("theme", "blue", "first"), [
    ("dark", "rgb(89.25, 163.35, 204.95)", "rgb(119.8, 149.7, 180.25)"),
    ("light", "#0072B2", "rgb(47, 93, 140)"),
])  # fmt: skip
def test_lines_are_lighter_on_a_dark_page(theme: str, blue: str, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(st.context), "theme", SimpleNamespace(type=theme))
    assert [widgets.seen(colour) for colour in ("#0072B2", "rgb(47, 93, 140)")] == [blue, first]
    assert widgets.seen("white") == "white"
