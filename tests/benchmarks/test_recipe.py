"""Trials of the recipe for photographs: their order, and rows that belong to the trials as they stand."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import dmpo_explore as dx
import recipe
from _photos.recipe import BASE, CHOSEN, COMPARED, DATA, FINAL, IMAGES, TRIALS, run_name, wanted
from _photos.run import BUDGETS
from _study.run import keep
from _third import comparisons
from dmpo_explore.training.part_options import own_teacher

RESULTS = Path(recipe.RESULTS)
GRID = [name for name in TRIALS if name.startswith("grid-")]


def test_a_teacher_is_made_before_who_learns_from_it() -> None:
    assert wanted(["taught-24", "base"]) == ["single", "taught-24", "base"]
    assert all(trial.teacher in ("", *TRIALS) for trial in TRIALS.values())


def test_a_trial_is_a_change_of_the_base() -> None:
    base, taught = (TRIALS[name].config("caltech101", 1) for name in ("base", "taught"))
    differing = {key for key in dx.OPTIONS if base.get(key) != taught.get(key)}
    assert differing == {"training.teacher"} and taught.get("training.teacher") == run_name("single", 1)
    assert base.data.seed == base.training.seed == 1 and base.data.calibration


def test_the_grid_of_images_differs_in_images_epochs_and_teacher_alone(capsys: pytest.CaptureFixture[str]) -> None:
    config, other = (TRIALS[f"grid-{name}"].config("caltech101", 0) for name in ("600-6", "4000-24-taught"))
    differing = {key for key in dx.OPTIONS if config.get(key) != other.get(key)}
    assert differing == {"data.train_size", "training.epochs", "training.teacher"}
    assert other.get("training.teacher") == "grid-4000-s0"
    recipe.main(["grid-600-6", "--list", "--seeds", "9"])
    assert capsys.readouterr().out == "caltech101 grid-600-6-s9\n"  # groceries have fewer images than the grid


def test_the_recipe_is_the_trial_that_was_chosen_and_its_teacher_the_full_model() -> None:
    found = dx.training.with_recipe("photographs", dx.Config())
    ours = (found, own_teacher(found))
    for config, trial in zip(ours, ("taught-crop-70-24-gentle", "single"), strict=True):
        tried = TRIALS[trial].config("caltech101", 0)
        differing = {key for key in dx.OPTIONS if key[:4] != "data" and config.get(key) != tried.get(key)}
        taught = {"training.teacher", "training.teacher_size"} if config is found else set()
        assert differing == {"training.precision", "training.validation_size"} | taught


def test_what_is_read_on_test_has_the_options_of_the_recipe_and_its_teacher() -> None:
    chosen = FINAL["dmpo"].config("caltech101", 2)
    other = TRIALS["taught-crop-70-24-gentle"].config("caltech101", 2)
    differing = {key for key in dx.OPTIONS if chosen.get(key) != other.get(key)}
    assert differing == {"training.precision", "training.teacher"}
    teacher, single = (TRIALS[name].config("caltech101", 2) for name in ("teacher", "single"))
    assert {key for key in dx.OPTIONS if teacher.get(key) != single.get(key)} == {"training.precision"}
    for name, trial in FINAL.items():
        config = trial.config("caltech101", 2)
        assert CHOSEN.items() <= trial.changes.items() and config.data == chosen.data
        schedules = {"naive": "uniform"}
        assert config.training == replace(chosen.training, schedule=schedules.get(name, chosen.training.schedule))


def test_arms_on_test_are_compared_at_every_exit_and_budget_that_both_have(tmp_path: Path) -> None:
    right = np.arange(40) % 4 > 0
    for seed in (0, 1):
        for arm in FINAL:
            exits = {f"exit {k}": right for k in range(1, 7 if arm in ("dmpo", "naive") else 2)}
            early = {at: np.ones(40, bool) for at in (*BUDGETS, "static-6", "small-70")} if arm == "dmpo" else exits
            path = tmp_path / "caltech101" / run_name(arm, seed)
            path.parent.mkdir(exist_ok=True)
            keep(path, BASE, {"run": path.name}, exits | early | ({"30%": ~right} if arm == "naive" else {}))
    table = comparisons.table(tmp_path, COMPARED, BUDGETS, 3)
    ends = {arm: [*rows["at"]] for arm, rows in table.groupby("b")}
    assert ends == {
        "full": ["last exit", *BUDGETS],
        "naive": [*(f"exit {k}" for k in range(1, 6)), "early exits", "last exit", "30%"],
        **{arm: ["last exit", arm] for arm in ("static-6", "small-70")},
    }
    found = table.set_index(["b", "at"]).sort_index()["points"]
    assert found["full", "40%"] == found["small-70", "small-70"] == 25 and found["naive", "30%"] == 75
    (titles, _, trainings), shown = ([*re.split(r" *\| *", line)] for line in recipe.differences_of(table)[:3]), {}
    for line in recipe.differences_of(table)[3:]:
        _, at, *cells, _ = re.split(r" *\| *", line)
        shown[at] = dict(zip(titles[2:], cells, strict=False))
    assert trainings[2:-1] == ["2"] * 4
    assert shown["on 40%"]["the full model"] == shown["on its compute"]["70 pixels"] == "+25.0 [+11.0, +39.0]"
    assert shown["on 30%"]["70 pixels"] == "" and shown["exit 5"]["naive exits"] == "+0.0 [+0.0, +0.0]"
    assert table["preliminary"].all() and not comparisons.table(tmp_path, COMPARED, BUDGETS, 2)["preliminary"].any()


def test_every_row_is_of_a_trial_as_it_stands() -> None:
    table = pd.read_csv(RESULTS / "recipe.csv")
    assert len(table) and set(table["data"]) <= set(DATA)
    for data, run, read in zip(table["data"], table["run"], table["read"], strict=True):
        name, _, seed = run.rpartition("-s")
        assert read == TRIALS[name].read and (read == "test") == (name in FINAL)
        kept = json.loads((RESULTS / "recipe" / data / run / "config.json").read_text(encoding="utf-8"))
        assert dx.Config.from_dict(kept) == TRIALS[name].config(data, int(seed))


def test_the_page_states_the_rows() -> None:
    text = (RESULTS.parent / "PHOTOS.md").read_text(encoding="utf-8")
    shown, groceries = text.split("## A recipe for photographs")[1].split("Groceries (2,817")
    table = pd.read_csv(RESULTS / "recipe.csv")
    of_grid = table["run"].str.match("grid-|teacher-")
    for _, row in table[~of_grid & (table["read"] == "val")].iterrows():
        page = shown if row["data"] == "caltech101" else groceries
        (line,) = re.findall(rf"(?m)^\| `{re.escape(row['run'].removesuffix('-s0'))}`.*$", page)
        exits = [row[f"exit_{k}"] for k in range(1, 7) if pd.notna(row[f"exit_{k}"])]
        cells = [" ".join(f"{100 * value:.1f}" for value in exits)]
        cells += [f"{100 * row[f'accuracy_{share}%']:.1f}" if len(exits) > 1 else "" for share in (30, 40)]
        assert [cell.strip() for cell in line.strip("|").split("|")][1:] == cells


def test_the_tables_of_the_page_are_those_of_the_rows() -> None:
    page = recipe.PAGE.read_text(encoding="utf-8")
    assert recipe.renewed(page) == page


def test_what_is_said_of_the_arms_on_test_is_that_of_the_rows() -> None:
    root = RESULTS.parents[1]
    names = ("benchmarks/PHOTOS.md", "docs/results.md", "docs/your-images.md", "docs/limits.md")
    photos, results, images, limits = ((root / name).read_text(encoding="utf-8") for name in names)
    rows = pd.read_csv(RESULTS / "recipe.csv")
    arms = rows[rows["read"] == "test"].groupby(rows["run"].str[:-3])
    means = 100 * arms.mean(numeric_only=True)
    assert arms.size().to_dict() == dict.fromkeys(FINAL, 3)
    compared = pd.read_csv(RESULTS / "recipe-comparisons.csv").set_index(["b", "at"]).sort_index()

    def said(arm: str, *at: str) -> str:
        *first, last = (comparisons.interval(compared.loc[(arm, place)]) for place in at)
        return ", ".join(first) + f" and {last}" if first else last

    used = [f"{means.loc['dmpo', f'share_{at}']:.0f}" for at in BUDGETS]
    assert "the recipe used {}, {} and {} %".format(*used) in photos
    ours = [f"{means.loc['dmpo', f'accuracy_{at}']:.1f}" for at in BUDGETS]
    full = f"{means.loc['full', 'exit_1']:.1f}"
    assert "on 30, 40 and 50 % it has {}, {} and {} %".format(*ours) in results
    assert f"{said('full', *BUDGETS)} from the full model's {full} %" in results
    assert f"from naive exits by {said('naive', *BUDGETS)}" in results
    alone = [(arm, means.loc[arm, "full_share"], said(arm, arm)) for arm in ("static-6", "small-70")]
    shown = "six blocks by {2}, on a budget of its {1:.0f} %, and from one on 70 pixels by {5}, on its {4:.0f} %"
    assert shown.format(*(part for row in alone for part in row)) in results
    assert "{} % at 30 % and {} % at 40 %, the full model with the same".format(*ours) in images and full in images
    behind = compared.loc[("full", "30%")]
    assert f"{-behind.points:.1f} points behind it on test, where it has the teacher, too" in limits
    assert f"({-behind.high:.1f} to {-behind.low:.1f}; three trainings)" in limits
    gains = [f"{compared.loc[('naive', f'exit {k}'), 'points']:.1f}" for k in (1, 5)]
    assert "{} points at exit 1 and {} at exit 5".format(*gains) in photos
    seconds = rows.set_index(["data", "run"])["seconds"]
    runs = (("teacher-s1", "dmpo-s1"), ("single-s0", "taught-crop-70-24-gentle-s0"))
    minutes = [f"{sum(seconds['caltech101', run] for run in pair) / 60:.0f} minutes" for pair in runs]
    assert minutes[0] in images and minutes[1] in images


def test_what_the_grid_shows_is_that_of_the_rows() -> None:
    photos = (RESULTS.parent / "PHOTOS.md").read_text(encoding="utf-8").replace("−", "-")
    page = (RESULTS.parents[1] / "docs/your-images.md").read_text(encoding="utf-8")
    grid = {name: np.load(RESULTS / f"recipe/caltech101/{run_name(name, 0)}/outcomes.npz") for name in GRID}

    def gains(first: str, second: str, at: tuple[int, ...] = (1, 3, 6)) -> list[float]:
        a, b = (np.array([grid[f"grid-{name}"][f"exit {k}"].mean() for k in at]) for name in (first, second))
        return [*np.round(100 * (a - b), 1)]

    def span(values: list[float]) -> str:
        return f"{min(values):.1f} to {max(values):.1f}"

    images = gains("4000-24-taught", "600-24-taught")
    assert "exit 1 gains {:.1f} points, exit 3 {:.1f} and the last {:.1f}".format(*images) in photos
    assert f"gain {span(images)} points" in page
    more = [span(gains(*pair, (1, 2, 3, 4, 5, 6))) for pair in (("1500-6", "600-24"), ("4000-6", "1500-24"))]
    assert re.search("untaught\\) are {}\\s+points.*{} ahead of 1,500".format(*more), photos, re.DOTALL)
    epochs = [span(gains(f"{n}-24", f"{n}-6") + gains(f"{n}-24-taught", f"{n}-6-taught")) for n in IMAGES]
    assert "{} points with 600 images, {} with 1,500, {} with 4,000".format(*epochs) in photos
    assert f"{epochs[0]} points with 600 images and {epochs[2]} with 4,000" in page
    taught = {(n, e): gains(f"{n}-{e}-taught", f"{n}-{e}") for n in IMAGES for e in (6, 24)}
    few, six = span(taught[600, 6]).replace("to 0.3", "to +0.3"), span(taught[1500, 6] + taught[4000, 6])
    patient = span([gain for n in IMAGES for gain in taught[n, 24]]).replace("to ", "to +")
    assert f"({few} points at these" in photos and f"six epochs {six}, with 24 epochs {patient}." in photos
    assert f"the teacher {max(map(max, taught.values())):.1f} at most" in page
    results = (RESULTS.parents[1] / "docs/results.md").read_text(encoding="utf-8").replace("−", "-")
    behind = {600: "6.0 [3.2, 8.9]", 1500: "5.2 [2.7, 7.7]", 4000: "1.2 points [-0.6, 2.8]"}
    assert "{}, {} and {} with 600, 1,500 and 4,000".format(*behind.values()) in results
    for n, stated in behind.items():
        full, ours, alone = (grid[f"grid-{name}"] for name in (n, f"{n}-24-taught", f"{n}-24"))
        points, low, high = (f"{100 * value:.1f}" for value in dx.bootstrap_difference(full["exit 1"], ours["30%"]))
        assert stated.replace(" points", "") == f"{points} [{low}, {high}]" and stated in photos
        for a, b in ((full["exit 1"], ours["40%"]), (ours["30%"], alone["30%"])):
            _, low_, high_ = dx.bootstrap_difference(a, b)
            assert low_ < 0 < high_
    shown = [100 * grid["grid-4000-24-taught"][at].mean() for at in ("30%", "40%")]
    assert "{:.1f} % at 30 % and {:.1f} % at 40 %".format(*shown) in page
    assert f"has {100 * grid['grid-4000']['exit 1'].mean():.1f} %." in page


def test_the_gain_of_a_better_teacher_is_that_of_the_rows() -> None:
    text = (RESULTS.parent / "PHOTOS.md").read_text(encoding="utf-8").replace("−", "-")
    names = ("taught-by-patient", "taught-crop-70-24-gentle", "single-crop-70-24-gentle")
    better, recipe_, full = (np.load(RESULTS / f"recipe/grocery/{name}-s0/outcomes.npz") for name in names)

    def stated(a: Any, b: Any) -> list[str]:
        return [f"{100 * value:.1f}" for value in dx.bootstrap_difference(a, b)]

    found = re.search(r"gain ([^;]*?) over the recipe's\. On 30 and 40 % it\nis (.*?) behind the full model", text)
    assert found
    numbers = re.findall(r"-?\d+\.\d", " ".join(found.groups()))
    exits = [stated(better[f"exit {k}"], recipe_[f"exit {k}"]) for k in (3, 4, 5)]
    ahead = [stated(better[at], recipe_[at]) for at in ("30%", "40%")]
    behind = [stated(full["exit 1"], better[at]) for at in ("30%", "40%")]
    assert numbers == [number for stated_ in (*exits, *ahead, *behind) for number in stated_]


def test_the_distance_to_the_full_model_of_caltech_is_that_of_the_rows() -> None:
    page = (RESULTS.parent / "PHOTOS.md").read_text(encoding="utf-8").replace("−", "-")
    limits = (RESULTS.parents[1] / "docs/limits.md").read_text(encoding="utf-8")
    names = ("taught-crop-70-24-gentle", "single-crop-70-24-gentle", "single")
    ours, full, short = (np.load(RESULTS / f"recipe/caltech101/{name}-s0/outcomes.npz") for name in names)
    pairs = ((full["exit 1"], short["exit 1"]), (full["exit 1"], ours["30%"]), (full["exit 1"], ours["40%"]))
    gain, low, more = ([f"{100 * value:.1f}" for value in dx.bootstrap_difference(*pair)] for pair in pairs)
    assert "they do not show ({} [{}, {}])".format(*gain) in page
    assert "the recipe is {} [{}, {}] and {} points [{}, {}] behind that".format(*low, *more) in page
    assert f"hardly gains ({gain[0]} points on val)" in limits


def test_what_is_left_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe.main(["base", "--list", "--seeds", "9"]) == 0
    assert capsys.readouterr().out.split("\n")[0] == "caltech101 base-s9"
    with pytest.raises(SystemExit):
        recipe.main(["nonsense"])
