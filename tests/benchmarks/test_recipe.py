"""Trials of the recipe for photographs: their order, and rows that belong to the trials as they stand."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import dmpo_explore as dx
import recipe
from _photos.recipe import DATA, TRIALS, run_name, wanted
from dmpo_explore.training.own_teacher import own_teacher

RESULTS = Path(recipe.RESULTS)


def test_a_teacher_is_made_before_who_learns_from_it() -> None:
    assert wanted(["taught-24", "base"]) == ["single", "taught-24", "base"]
    assert all(trial.teacher in ("", *TRIALS) for trial in TRIALS.values())


def test_a_trial_is_a_change_of_the_base() -> None:
    base, taught = (TRIALS[name].config("caltech101", 1) for name in ("base", "taught"))
    differing = {key for key in dx.OPTIONS if base.get(key) != taught.get(key)}
    assert differing == {"training.teacher"} and taught.get("training.teacher") == run_name("single", 1)
    assert base.data.seed == base.training.seed == 1 and base.data.calibration


def test_the_grid_of_images_differs_in_images_epochs_and_teacher_alone(capsys: pytest.CaptureFixture[str]) -> None:
    config, other = (TRIALS[f"images-{name}"].config("caltech101", 0) for name in ("600-6", "4000-24-taught"))
    differing = {key for key in dx.OPTIONS if config.get(key) != other.get(key)}
    assert differing == {"data.train_size", "training.epochs", "training.teacher"}
    assert other.get("training.teacher") == "single-4000-s0"
    recipe.main(["images-600-6", "--list", "--seeds", "9"])
    assert capsys.readouterr().out == "caltech101 images-600-6-s9\n"  # groceries have fewer images than the grid


def test_the_recipe_is_the_trial_that_was_chosen_and_its_teacher_the_full_model() -> None:
    found = dx.training.with_recipe("photographs", dx.Config())
    ours = (found, own_teacher(found))
    for config, trial in zip(ours, ("taught-crop-70-24-gentle", "single"), strict=True):
        tried = TRIALS[trial].config("caltech101", 0)
        differing = {key for key in dx.OPTIONS if key[:4] != "data" and config.get(key) != tried.get(key)}
        taught = {"training.teacher", "training.teacher_size"} if config is found else set()
        assert differing == {"training.precision", "training.validation_size"} | taught


def test_every_row_is_of_a_trial_as_it_stands() -> None:
    table = pd.read_csv(RESULTS / "recipe.csv")
    assert len(table) and set(table["read"]) == {"val"} and set(table["data"]) <= set(DATA)
    for data, run in zip(table["data"], table["run"], strict=True):
        name, _, seed = run.rpartition("-s")
        kept = json.loads((RESULTS / "recipe" / data / run / "config.json").read_text(encoding="utf-8"))
        assert dx.Config.from_dict(kept) == TRIALS[name].config(data, int(seed))


def test_what_is_left_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe.main(["base", "--list", "--seeds", "9"]) == 0
    assert capsys.readouterr().out.split("\n")[0] == "caltech101 base-s9"
    with pytest.raises(SystemExit):
        recipe.main(["nonsense"])
