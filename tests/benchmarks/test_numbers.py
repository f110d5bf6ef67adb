"""Numbers in sentences of the pages are those of the rows: a table of page, sentence, and how its numbers are computed.

Beside it sentences without a number, each with what must hold for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import dmpo_explore as dx
import forecast
import speed
import third_study
from _common import comparisons
from _common.comparisons import Comparison
from _common.results import RESULTS
from _common.rows import Rows
from _controls.predictors import count
from _controls.protocol import DMPO
from _controls.run import correct_of
from _speed.early_exit import NO_EARLY_EXIT
from _third.data import TRAIN
from _third.protocol import BASE, PARTED, PARTS
from dmpo_explore.models.backbone import ExitShape
from dmpo_explore.models.bypass import BYPASSES
from dmpo_explore.models.predictors import PREDICTORS
from dmpo_explore.utils.files import read_json

DOCS = Path(__file__).parents[2] / "docs"
NAIVE, SINGLE, STATIC = third_study.NAIVE, third_study.SINGLE, third_study.STATIC
RELEASED = "the authors' parts in our training and naive exits"
SECOND_ADDED, PHASES_ADDED = "second-order predictors, added", "two-phase loss weights, added"
ON_TOP = "bypass and two-phase weights, added to second order"
CNN, SIZES, BUDGETS = ("caltech101-cnn", "grocery-cnn"), (600, 1500, 4000), ("30%", "40%", "50%")
DEEP = ("birds100", "caltech101")


@cache
def page(name: str) -> str:
    """A page with plain minus signs, each run of white space as one space."""
    return " ".join((DOCS / name).read_text(encoding="utf-8").replace("−", "-").split())


# -- the study with 1,000 images --


@cache
def third() -> pd.DataFrame:
    table = pd.read_csv(RESULTS / "third-comparisons.csv")
    return table.set_index(["comparison", "at", "set"]).sort_index()


def points(text: str, at: str) -> pd.Series[float]:
    """Data set → points of a comparison at an endpoint."""
    return third().loc[(text, at), "points"]


def vit(text: str, at: str) -> pd.Series[float]:
    return points(text, at).drop([*CNN], errors="ignore")


def ends(*series: pd.Series[float]) -> list[float]:
    """The smallest and the largest of each."""
    return [end for values in series for end in (values.min(), values.max())]


def part(name: str, how: str = "left out", at: str = "30 %") -> list[float]:
    """Points of a part on birds and Caltech-101."""
    return [points(f"{name}, {how}", at)[data] for data in DEEP]


def added_and_left_out(name: str) -> list[float]:
    return [*part(name, "added"), *(-lost for lost in part(name))]


def open_sets(text: str, at: str) -> set[str]:
    """The sets on which a comparison is open at an endpoint."""
    verdicts = third().loc[(text, at), "verdict"]
    return {*verdicts[verdicts == "open"].index}


def verdicts(text: str, *at: str) -> set[str]:
    return {*third().loc[text].loc[[*at] if at else slice(None), "verdict"]}


def most_of_phases() -> float:
    """The most that two-phase weights give anywhere, left out or added."""
    return float(third().loc[["two-phase loss weights, left out", PHASES_ADDED], "points"].max())


def signed(text: str, at: str, data: str) -> str:
    """Points with their interval, as the pages have them."""
    return comparisons.interval(third().loc[(text, at, data)]).replace("−", "-")


def survivors(low: float, high: float) -> list[int]:
    """How many comparisons of so many points there are, leave 0 out, and do so after Benjamini-Hochberg."""
    table = third()[third()["points"].abs().between(low, high, inclusive="right" if low == 3 else "both")]
    return [len(table), int((table["p"] <= 0.05).sum()), int((table["p_adjusted"] <= 0.05).sum())]


def used(arm: str, number: str) -> pd.Series[float]:
    """Data set → the mean of a number of an arm's trainings."""
    rows = Rows(RESULTS / "third.parquet").numbers()
    return rows[rows["run"].str.match(rf"{arm}-s\d")].groupby("set")[number].mean()


STEPS = BASE.training.epochs * math.ceil(TRAIN / BASE.training.batch_size)


def equal_weights(arm: str) -> Any:
    """Correctness by image on 30 % of the compute, of the first training of an arm of the controls on birds."""
    return correct_of(pd.read_parquet(RESULTS / "controls.parquet"), f"E1-birds100-{arm}-s0", "30 %")


def less_attention_pooling() -> list[float]:
    """Points of DMPO above it, with an interval over images."""
    both = dx.bootstrap_difference(equal_weights(DMPO), equal_weights("attention-pooling"))
    return [100 * value for value in both]


def weights_of(run: str) -> int:
    """Weights of the bypass and the predictor of a bundled run's first exit."""
    config = dx.load_run(run).config.model
    shape = ExitShape(384, (6, 6), 1, True)
    bypass = BYPASSES[config.bypass].at(shape, config)
    return count(bypass, PREDICTORS[config.predictor].at(shape, 81, config, "both"))


def violations() -> pd.Series[float]:
    table = pd.read_csv(RESULTS / "risk_control.csv")
    return table[table["risk"] == "too_early"]["violations"]


def ahead_of_one_threshold() -> list[Any]:
    """Gain, name and budget of the one policy whose interval on `fashion` lies above 0."""
    table = pd.read_csv(RESULTS / "policies.csv")
    (row,) = table[(table["run"] == "fashion") & (table["judged"] == "test") & (table["low"] > 0)].to_dict("records")
    return [100 * row["gain"], row["policy"], 100 * row["budget"]]


def exported() -> list[float]:
    """How many times as fast one graph of `fashion` is, and in the slowest and the quickest round."""
    rows = read_json(speed.RESULT)["early-exit"]["rows"]
    (row,) = (row for row in rows if (row["arm"], row["batch"], row.get("share")) == ("onnx", 1, "30 %"))
    return [row["speed_up"], *row["speed_up_range"]]


def second(data: str, text: str, at: str) -> pd.Series[Any]:
    """A claim of the second study."""
    table = pd.read_csv(RESULTS / "second-claims.csv").set_index(["study", "text", "at"]).sort_index()
    (row,) = table.loc[[(data, text, at)]].to_dict("records")
    return pd.Series(row)


# -- the recipe, and the second study by exit --


@cache
def recipe() -> pd.DataFrame:
    """The recipe less every other arm on test of Caltech-101, three trainings of each."""
    arms = ("full", "naive", "static-6", "small-70")
    pairs = [Comparison(arm, "dmpo", arm) for arm in arms]
    found = comparisons.table(Rows(RESULTS / "recipe.parquet"), pairs, BUDGETS, lambda *_: 3)
    assert not found["preliminary"].any()
    return found.set_index(["b", "at"]).sort_index()


def said(arm: str, *at: str) -> list[str]:
    return [comparisons.interval(recipe().loc[(arm, one)]).replace("−", "-") for one in at]


@cache
def trials() -> pd.DataFrame:
    return Rows(RESULTS / "recipe.parquet").numbers()


def mean_of(arm: str, number: str) -> float:
    """Per cent, the mean of an arm's trainings on test."""
    rows = trials()[(trials()["read"] == "test") & trials()["run"].str.match(rf"{arm}-s\d")]
    assert len(rows) == 3
    return float(100 * rows[number].mean())


def minutes(*runs: str) -> float:
    rows = trials()[trials()["set"] == "caltech101"].set_index("run")
    return float(rows.loc[[*runs], "seconds"].sum() / 60)


@cache
def answers(run: str) -> Any:
    """Endpoint → correctness by image of val, of a trial on Caltech-101."""
    return Rows(RESULTS / "recipe.parquet").outcomes("caltech101")[f"{run}-s0"]


def gains(first: str, second: str, at: Iterable[int] = (1, 3, 6)) -> list[float]:
    """Points of a training of the grid above another's, at some exits."""
    a, b = (np.array([answers(f"grid-{name}")[f"exit {k}"].mean() for k in at]) for name in (first, second))
    return [*np.round(100 * (a - b), 1)]


def epochs(size: int) -> list[float]:
    """What 24 epochs gain over six, with and without a teacher: the least and the most."""
    found = gains(f"{size}-24", f"{size}-6") + gains(f"{size}-24-taught", f"{size}-6-taught")
    return [min(found), max(found)]


def teacher_at_most() -> float:
    return max(max(gains(f"{size}-{n}-taught", f"{size}-{n}")) for size in SIZES for n in (6, 24))


def paired(a: str, at: str, b: str, there: str) -> tuple[float, float, float]:
    """Points of a training above another's on the same images, with an interval over images."""
    return tuple(100 * value for value in dx.bootstrap_difference(answers(a)[at], answers(b)[there]))  # type: ignore[return-value]


@cache
def by_exit() -> pd.Series[float]:
    texts = [one for one in PARTED if one.text.rpartition(", ")[0] in PARTS]
    found = comparisons.table(Rows(RESULTS / "second.parquet"), texts, BUDGETS, lambda *_: 3)
    return found.set_index(["set", "comparison", "at"])["points"]


# -- the forecast, and speed --


@cache
def off() -> tuple[list[float], list[float], int]:
    """Points by which forecasts are too low, too high, and how many are near."""
    table = pd.read_csv(RESULTS / "forecast.csv")
    wrong = 100 * (table["share"] - table["reached"])
    assert len(table) == 9
    return sorted(-wrong[wrong < -20]), sorted(wrong[wrong > 10]), int((wrong.abs() <= 6).sum())


def correlation() -> float:
    return forecast.correlation(pd.read_csv(RESULTS / "forecast.csv"))


README, EVIDENCE = "../README.md", "../benchmarks/EVIDENCE.md"
NUMBERS: list[tuple[str, str, Callable[[], Iterable[Any]]]] = [
    # the opening sentences
    ("results.md", "with {:,} training images and {} steps it is {:.0f} to {:.0f} points more accurate than linear",
     lambda: [TRAIN, STEPS, *ends(vit(NAIVE, "30 %"))]),
    ("results.md", "its covariance gives {:.1f} of {:.1f} points on birds and {:.1f} of {:.1f} on Caltech-101,",
     lambda: [points(text, "30 %")[data] for data in DEEP for text in (SECOND_ADDED, NAIVE)]),
    ("results.md", "two-phase loss weights at most about {:.0f}; attention", lambda: [most_of_phases()]),
    ("results.md", "which is {:.0f} to {:.0f} points higher", lambda: sorted(-x for x in ends(vit(SINGLE, "30 %")))),
    ("results.md", "simpler and on average at most {:.0f} points behind", lambda: [points(STATIC, "static-6").max()]),
    ("results.md", "On birds DMPO is {:.1f} points ahead of linear exits, its covariance predictor alone {:.1f}, "
     "bypass and two-phase weights on top {:.1f}; on Caltech-101 {:.1f}, {:.1f} and {:.1f}]",
     lambda: [points(text, "30 %")[data] for data in DEEP for text in (NAIVE, SECOND_ADDED, ON_TOP)]),
    (README, "With {:,} images and {} steps, exits with a bypass and a covariance predictor beat linear exits by "
     "{:.0f} to {:.0f} points at 30 %", lambda: [TRAIN, STEPS, *ends(vit(NAIVE, "30 %"))]),
    (README, "two-phase loss weights at most about {:.0f} points", lambda: [most_of_phases()]),
    # seven data sets
    ("results.md", "DMPO used {:.0f} to {:.0f} % where 50 % is written",
     lambda: ends(100 * used("dmpo", "share_50 %"))),
    ("results.md", "{:,} an early exit to DMPO's {:,}", lambda: [weights_of("demo-naive"), weights_of("demo")]),
    ("results.md", "on birds ({:.1f} points behind) and other shops ({:.1f})",
     lambda: [-vit(SINGLE, "50 %")[name] for name in ("birds100", "grocery-shops")]),
    ("results.md", "between {:.1f} behind and {:.1f} ahead, and every interval holds 0",
     lambda: np.abs(ends(vit(SINGLE, "50 %").drop(["grocery-shops", "birds100"])))),
    ("results.md", "by {:.1f} to {:.1f} points, the interval leaves 0 out",
     lambda: (-vit(SINGLE, "30 %")["grocery"], (-vit(SINGLE, "30 %")).max())),
    ("results.md", "by {:.1f} points on Caltech-101 and {:.1f} on other shops",
     lambda: points(STATIC, "static-6")[["caltech101", "grocery-shops"]]),
    ("results.md", "three trainings do not decide ({:.1f} to {:+.1f})",
     lambda: ends(points(STATIC, "static-6").drop(["caltech101", "grocery-shops"]))),
    # parts
    ("results.md", "add {:.1f} points to second-order predictors on birds and {:.1f} on Caltech-101 at 30 %, at 50 % "
     "only {:.1f} and {:.1f}. After [correction](#how-sure-is-this) the {:.1f} stays, the {:.1f} does not",
     lambda: [points(ON_TOP, at)[data] for at in ("30 %", "50 %", "30 %") for data in DEEP]),
    ("results.md", "have {:.2f} % with two layers, {:.2f} with a covariance and {:.2f} with attention pooling; linear "
     "ones have {:.2f}, DMPO {:.2f} (", lambda: [100 * equal_weights(arm).mean() for arm in (
         "two-layers", "covariance-wide", "attention-pooling", "linear", DMPO)]),
    ("results.md", "less attention pooling is {:+.1f} points [{:.1f}, {:.1f}] over", lambda: less_attention_pooling()),
    (EVIDENCE, "is {:.1f} points [{:.1f}, {:.1f}] behind DMPO in one", lambda: less_attention_pooling()),
    ("results.md", "added to naive exits on birds: {} points over the early exits, {:.1f} at exit 4",
     lambda: [signed(PHASES_ADDED, "early exits", "birds100"), points(PHASES_ADDED, "exit 4")["birds100"]]),
    ("results.md", "exit 1 of birds gains {:.1f} points, and the last exit loses {:.1f}.",
     lambda: np.abs([points("order: constant", at)["birds100"] for at in ("exit 1", "last exit")])),
    ("results.md", "up to {:.1f} points from early exits on birds (exit 2) and gives {:.1f} to the last",
     lambda: np.abs([points("rate: full in phase two", at)["birds100"] for at in ("exit 2", "last exit")])),
    ("results.md", "{:.1f} and {:.1f} points behind them on 50 %, and {:.1f} and {:.1f} at the last exit",
     lambda: [*-points(RELEASED, "50 %"), *-points(RELEASED, "last exit")]),
    ("results.md", "and they lose {:.0f} to {:.0f} points",
     lambda: ends(-third().loc["mixed training and naive exits"].loc[[f"exit {k}" for k in range(1, 6)], "points"])),
    ("results.md", "lose {:.1f} on birds on 30 %",
     lambda: [-points("combined answers and naive exits", "30 %")["birds100"]]),
    # how sure
    ("results.md", "has {} intervals. {} leave 0 out, {} after correction (Benjamini–Hochberg, 5 %)",
     lambda: survivors(0, np.inf)),
    ("results.md", "of {} effects of 1 to 3 points {} leave 0 out, {} after correction.", lambda: survivors(1, 3)),
    ("results.md", "Of {} larger ones {} stay.", lambda: survivors(3, np.inf)[::2]),
    (EVIDENCE, "All {} comparisons are in `results/third-comparisons.csv`: {} intervals leave 0 out, {} after",
     lambda: survivors(0, np.inf)),
    (EVIDENCE, "of the {} of 1 to 3 points {}, and {}.", lambda: survivors(1, 3)),
    (EVIDENCE, "on top add {:.1f} points on birds, and {:.1f} on Caltech-101",
     lambda: [points(ON_TOP, "30 %")[data] for data in DEEP]),
    ("results.md", "the only policy that is ahead by an interval gains {:.2f} points (`{}`, at {:.0f} %;",
     lambda: ahead_of_one_threshold()),
    ("results.md", "four sizes {:.1f} to {:.1f} % exceeded the bound", lambda: ends(100 * violations())),
    ("results.md", "runs {:.1f} times as fast as the plain model on 30 % ({:.1f} to {:.1f})", lambda: exported()),
    ("dmpo-parts.md", "together gain {:.1f} points on birds and {:.1f} on Caltech-101",
     lambda: [points(ON_TOP, "30 %")[data] for data in DEEP]),
    ("dmpo-parts.md", "| second-order predictors | {:+.1f} on birds, {:+.1f} on Caltech-101 | {:+.1f}, {:+.1f} |",
     lambda: added_and_left_out("second-order predictors")),
    ("dmpo-parts.md", "| bypass | {:+.1f}, {:+.1f} | {:+.1f}, {:+.1f} |", lambda: added_and_left_out("bypass")),
    ("dmpo-parts.md", "| two-phase loss weights | {:+.1f}, {:+.1f} | {:+.1f}, {:+.1f} |",
     lambda: added_and_left_out("two-phase loss weights")),
    ("results.md", "has {:.1f}, {:.1f} and {:.1f} % on 30, 40 and 50 %, the full model with the same teacher {:.1f} %",
     lambda: [*(mean_of("dmpo", f"accuracy_{at}") for at in BUDGETS), mean_of("full", "exit_1")]),
    ("your-images.md", "{:.1f} % at 30 % and {:.1f} % at 40 %, the full model with the same",
     lambda: [mean_of("dmpo", f"accuracy_{at}") for at in BUDGETS[:2]]),
    ("limits.md", "{:.1f} points behind it on test, where it has the teacher, too",
     lambda: [-recipe().loc[("full", "30%"), "points"]]),
    ("limits.md", "({:.1f} to {:.1f}; three trainings)",
     lambda: [-recipe().loc[("full", "30%"), side] for side in ("high", "low")]),
    ("limits.md", "hardly gains ({:.1f} points on val)",
     lambda: paired("single-crop-70-24-gentle", "exit 1", "single", "exit 1")[:1]),
    ("your-images.md", "{:.0f} minutes on one core in bfloat16, {:.0f} minutes in float32",
     lambda: [minutes("teacher-s1", "dmpo-s1"), minutes("single-s0", "taught-crop-70-24-gentle-s0")]),
    ("your-images.md", "gain {:.1f} to {:.1f} points",
     lambda: [end(gains("4000-24-taught", "600-24-taught")) for end in (min, max)]),
    ("your-images.md", "{:.1f} to {:.1f} points with 600 images and {:.1f} to {:.1f} with 4,000",
     lambda: [*epochs(600), *epochs(4000)]),
    ("your-images.md", "the teacher {:.1f} at most", lambda: [teacher_at_most()]),
    ("your-images.md", "{:.1f} % at 30 % and {:.1f} % at 40 %",
     lambda: [100 * answers("grid-4000-24-taught")[at].mean() for at in BUDGETS[:2]]),
    ("your-images.md", "has {:.1f} %.", lambda: [100 * answers("grid-4000")["exit 1"].mean()]),
    ("results.md", "{:.1f} [{:.1f}, {:.1f}], {:.1f} [{:.1f}, {:.1f}] and {:.1f} points [{:.1f}, {:.1f}] with 600",
     lambda: [v for n in SIZES for v in paired(f"grid-{n}", "exit 1", f"grid-{n}-24-taught", "30%")]),
    ("results.md", "second-order predictors are missed by {:.1f} points on Caltech-101, nothing else by an interval",
     lambda: [second("caltech", "second-order predictors, left out", "30%")["points"]]),
    ("results.md", "At exit 1 they are missed by {:.1f} and {:.1f} points, the bypass by {:.1f} on Fashion-MNIST",
     lambda: [by_exit()[data, f"{name}, left out", "exit 1"] for data, name in (
         ("caltech", "second-order predictors"), ("fashion", "second-order predictors"), ("fashion", "bypass"))]),
    ("your-images.md", "{:.0f} to {:.0f} points too low in three and {:.0f} to {:.0f} too high in two",
     lambda: [off()[k][end] for k in (0, 1) for end in (0, -1)]),
    ("your-images.md", "rank correlation with what they reach is {:.2f}", lambda: [correlation()]),
    ("results.md", "[rank correlation is {:.2f}]", lambda: [correlation()]),
    ("results.md", "in three the compute it names is {:.0f} to {:.0f} points too low",
     lambda: [off()[0][end] for end in (0, -1)]),
    ("photographs-road.md", "[{:.0f} to {:.0f} points higher]", lambda: [off()[0][end] for end in (0, -1)]),
]  # fmt: skip

HOLDS: list[tuple[str, str, Callable[[], bool]]] = [
    ("results.md", "on every set, on 30 and on 50 %", lambda: verdicts(NAIVE, "30 %", "50 %") == {"larger"}),
    ("results.md", "on all seven data sets.", lambda: len(vit(NAIVE, "30 %")) == 7),
    ("results.md", "mostly the predictor",
     lambda: all(points(SECOND_ADDED, "30 %")[data] > points(NAIVE, "30 %")[data] / 2 for data in DEEP)),
    ("results.md", "at half the compute a network",
     lambda: used("static-6", "full_share").round(2).isin([0.51]).all()),
    ("results.md", "the 6.2 stays, the 4.1 does not",
     lambda: [*(third().loc[(ON_TOP, "30 %"), "p_adjusted"] <= 0.05)] == [True, False]),
    ("results.md", "none of the nine rows", lambda: verdicts(SINGLE, "last exit") == {"open"}),
    *((page, "came within 1 point", lambda: abs(less_attention_pooling()[0]) < 1) for page in ("results.md", README)),
    ("results.md", "nothing else by an interval", lambda: [
        (data, name) for data in ("caltech", "fashion") for name in PARTS
        if second(data, f"{name}, left out", "30%")["low"] > 0] == [("caltech", "second-order predictors")]),
    ("results.md", "on four of them", lambda: (vit(SINGLE, "30 %") < 0).all() and len(open_sets(SINGLE, "30 %")) == 3),
    ("results.md", "without it half did",
     lambda: pd.read_csv(RESULTS / "risk_control.csv")["plug_in_violations"].min() > 0.4),
    (EVIDENCE, "which does not survive the correction",
     lambda: third().loc[(ON_TOP, "30 %", "caltech101"), "p_adjusted"] > 0.05),
    ("results.md", "every interval holds 0",
     lambda: open_sets(SINGLE, "50 %") - {*CNN} == {*vit(SINGLE, "50 %").drop(["grocery-shops", "birds100"]).index}),
    ("results.md", "not told apart from naive exits on 30 %", lambda: verdicts(RELEASED, "30 %") == {"open"}),
    ("results.md", "points behind them on 50 %", lambda: verdicts(RELEASED, "50 %", "last exit") == {"smaller"}),
    ("results.md", "leaves the early exits three epochs",
     lambda: int(BASE.training.epochs * BASE.training.phase_ratio) == 3),
    ("results.md", "and they lose",
     lambda: {*third().loc["mixed training and naive exits"].drop(index="last exit")["verdict"]} == {"smaller"}),
    ("results.md", "on birds on 30 %", lambda: open_sets("combined answers and naive exits", "30 %") == {"caltech101"}),
    ("results.md", "with 600, 1,500", lambda: all(low < 0 < high for n in SIZES for _, low, high in (
        paired(f"grid-{n}", "exit 1", f"grid-{n}-24-taught", "40%"),
        paired(f"grid-{n}-24-taught", "30%", f"grid-{n}-24", "30%")))),
    ("your-images.md", "too low in three", lambda: [len(off()[0]), len(off()[1]), off()[2]] == [3, 2, 3]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "sentence", "values"), NUMBERS, ids=[sentence[:40] for _, sentence, _ in NUMBERS])
def test_the_numbers_of_a_sentence_are_those_of_the_rows(
    name: str, sentence: str, values: Callable[[], Iterable[Any]]
) -> None:
    assert sentence.format(*values()) in page(name)


@pytest.mark.parametrize(("name", "sentence", "holds"), HOLDS, ids=map(str, range(len(HOLDS))))
def test_what_a_sentence_says_holds(name: str, sentence: str, holds: Callable[[], bool]) -> None:
    assert sentence in page(name) and holds()


def test_every_cell_with_more_images_is_computed() -> None:
    """But for the groceries, which tests/docs/test_pages.py compares with what the command prints."""
    text = (DOCS / "results.md").read_text(encoding="utf-8").partition("## With more images")[2]
    cells = {
        row[0]: row[2:] for row in (re.split(r" *\| *", line.strip("| ")) for line in text.splitlines()) if len(row) > 4
    }
    claims = {"on 30 %": ("within 3 points of the best single model", "30%"),
              "on 40 % (groceries 36 %)": ("within 1 point of the best single model", "40%"),
              "naive exits, both on 30 %": ("above the strongest naive arm", "30%"),
              "six blocks, on their budget": ("above static-6 at its compute", "static-6")}  # fmt: skip
    ours = [*said("full", "30%", "40%"), *said("naive", "30%"), *said("static-6", "static-6")]
    for (row, claim), of_recipe in zip(claims.items(), ours, strict=True):
        found = [second(data, *claim) for data in ("caltech", "fashion")]
        expected = ["{points:+.2f} [{low:+.2f}, {high:+.2f}]".format(**one) for one in found]
        assert [cell.replace("−", "-").replace("<br>", " ") for cell in cells[row]] == [of_recipe, *expected], row


def test_every_multiple_of_the_page_on_speed_was_measured() -> None:
    rows = read_json(speed.RESULT)["early-exit"]["rows"]
    found = {(row["arm"], row["batch"], row["share"]): f"{row['speed_up']:.2f}" for row in rows if "speed_up" in row}
    named = {
        "eager torch, `dx.infer`": ("infer", "infer"),
        "eager torch, `dx.stream` with refill": (None, "stream with refill"),
        "exported, stage by stage": ("onnx", "onnx"),
        "exported, one graph": ("onnx one graph", None),
        "exported, int8, one graph (in batches: stage by stage)": ("onnx int8 one graph", "onnx int8"),
        "no early exit, `dx.infer`": ("infer", "infer"),
    }
    for title, arms in named.items():
        budget = NO_EARLY_EXIT if title.startswith("no") else "30 %"
        cells = [found[arm, batch, budget] if arm else "" for arm, batch in zip(arms, (1, 64), strict=True)]
        assert f"| {title} | {' | '.join(cells)} |".replace("|  |", "| |") in page("speed.md"), title


def test_the_claims_of_the_second_study_follow_from_its_rows() -> None:
    """Each kept claim's points and interval, from answers of every test image."""
    rows, table = Rows(RESULTS / "second.parquet"), pd.read_csv(RESULTS / "second-claims.csv")
    for study, claims in table.groupby("study"):
        runs = rows.outcomes(str(study))
        for claim in claims.to_dict("records"):
            there = "exit 1" if claim["claim"] in (1, 2) else claim["at"]
            a, b = (
                {run[-1]: correct[at] for run, correct in runs.items() if run[:-3] == arm and at in correct}
                for arm, at in ((claim["a"], claim["at"]), (claim["b"], there))
            )
            shared = sorted(a.keys() & b.keys())
            ours = 100 * np.stack([a[seed].astype(float) - b[seed] for seed in shared])
            assert dx.analysis.seeds_interval(ours) == pytest.approx(
                [claim[name] for name in ("points", "low", "high")], rel=1e-4, abs=1e-3
            )
            assert claim["seeds"] == " ".join(f"{value:+.2f}" for value in ours.mean(axis=1))


@pytest.mark.slow
def test_every_number_of_a_kept_row_is_that_of_its_answers() -> None:
    for study in ("second", "third", "recipe"):
        rows = Rows(RESULTS / f"{study}.parquet")
        for data in {*rows.numbers()["set"]}:
            numbers = rows.numbers(data).set_index("run")
            for run, correct in rows.outcomes(data).items():
                for at, values in correct.items():
                    column = at.replace("exit ", "exit_") if at.startswith("exit ") else f"accuracy_{at}"
                    assert numbers.loc[run, column] == pytest.approx(values.mean(), rel=1e-9), (study, data, run, at)
