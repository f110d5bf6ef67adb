"""The study's third edition: its plan, its orders of loss weights, its comparisons."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dmpo_explore as dx
import third_study
from _study.run import keep
from _third import comparisons, data, orders
from _third.protocol import BASE, COMPARISONS, PARTS_OF_STUDY, plan
from dmpo_explore.data import DATASETS
from dmpo_explore.training.schedules import SCHEDULES, loss_weights


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    data.register()
    orders.register()
    yield
    for name in data.SETS:
        del DATASETS[f"third-{name}"]
    for name in ("third-constant", "third-reversed"):
        del SCHEDULES[name]


def test_every_run_is_planned_once_and_every_comparison_has_its_arms() -> None:
    runs = plan(tuple(PARTS_OF_STUDY))
    configs = [PARTS_OF_STUDY[part].config(*run).to_json() for part, *run in runs]
    assert len(configs) == len({*configs})
    arms = {arm for part in PARTS_OF_STUDY.values() for arm in part.arms}
    assert {arm for comparison in COMPARISONS for arm in (comparison.arm, comparison.other)} <= arms
    tests = [(data_, arm, seed) for part, data_, arm, seed in runs if part == "b"]
    assert ("birds100", "dmpo", 0) not in tests and ("birds100", "dmpo-uniform", 0) in tests  # the first is in part a
    for part, *run in runs:
        config = PARTS_OF_STUDY[part].config(*run)
        assert len(loss_weights(config.training.schedule, 0, 12, 6)) == 6
        assert (config.data.train_size, config.data.calibration) == (None, None)  # all of the set, and with one


def test_the_pages_show_what_is_complete() -> None:
    table = pd.read_csv(third_study.RESULTS / "third-comparisons.csv")
    for page, name, lines in third_study.tables(table):
        assert "\n".join(lines) in page.read_text(encoding="utf-8"), name
    again = comparisons.table(third_study.RESULTS / "third")
    pd.testing.assert_frame_equal(again, table, check_exact=False)


def test_the_sentences_of_results_follow_from_the_table() -> None:
    whole = pd.read_csv(third_study.RESULTS / "third-comparisons.csv")
    verdicts = whole.groupby(["comparison", "at"])["verdict"].agg(set)
    table = whole.set_index(["comparison", "at", "set"])["points"].sort_index()
    text = third_study.SUMMARY.read_text(encoding="utf-8").replace("−", "-")
    naive, single, static = (table.loc[name] for name in (third_study.NAIVE, third_study.SINGLE, third_study.STATIC))
    cnn = [name for name in single["50 %"].index if name.endswith("-cnn")]
    (low, small_low), (half, small_half) = ((naive[at].drop(cnn), naive[at][cnn]) for at in ("30 %", "50 %"))
    assert (
        f"the ViT by {low.min():.0f} to {low.max():.0f} and {half.min():.0f} to {half.max():.0f} points, the CNN"
        in text
    )
    assert (
        f"by {small_low.min():.0f} to {small_low.max():.0f} and {small_half.min():.0f} to {small_half.max():.0f}."
        in text
    )
    assert verdicts[third_study.NAIVE, "30 %"] == verdicts[third_study.NAIVE, "50 %"] == {"larger"}
    assert open_ones(whole, third_study.NAIVE, "70 %") == {"grocery", "grocery-shops"}
    assert f"Last exits differ by at most {naive['last exit'].abs().max():.1f}" in text
    half, low = (-single[at].drop(cnn) for at in ("50 %", "30 %"))
    assert f"on birds ({half['birds100']:.1f} points behind) and other shops ({half['grocery-shops']:.1f})" in text
    five = half.drop(["grocery-shops", "birds100"])
    assert open_ones(whole, third_study.SINGLE, "50 %") - {*cnn} == {*five.index}
    assert f"between {five.max():.1f} behind and {-five.min():.1f} ahead, and every interval holds 0" in text
    assert (low > 0).all() and f"by {low['grocery']:.1f} to {low.max():.1f} points, the interval leaves 0 out" in text
    behind = -single["30 %"]
    assert f"{behind['grocery-cnn']:.0f} points behind on groceries and {behind['caltech101-cnn']:.0f} on Cal" in text
    static = static["static-6"]
    ahead = static.drop(["caltech101", "grocery-shops"])
    assert (
        f"by {static['caltech101']:.1f} points on Caltech-101 and {static['grocery-shops']:.1f} on other shops" in text
    )
    assert f"three trainings do not decide ({ahead.min():.1f} to +{ahead.max():.1f})" in text
    alone = table.loc["a static net of six blocks and a single model", "last exit"]
    near = ["fashion-mnist", "trashnet", "scenes15"]
    assert f"come within {alone[near].abs().max():.1f} points of the full model on average, and every" in text
    assert {*near} <= open_ones(whole, "a static net of six blocks and a single model", "last exit")
    assert f"the study with 1,000 images has {len(whole)}" in text


def open_ones(table: pd.DataFrame, comparison: str, at: str) -> set[str]:
    """The sets on which a comparison is open at an endpoint."""
    return {*table[table[["comparison", "at", "verdict"]].eq([comparison, at, "open"]).all(axis=1)]["set"]}


def test_the_sentences_about_the_parts_follow_from_the_table() -> None:
    whole = pd.read_csv(third_study.RESULTS / "third-comparisons.csv")
    table = whole.set_index(["comparison", "set", "at"])["points"].sort_index()
    results, parts = (
        path.read_text(encoding="utf-8").replace("−", "-")
        for path in (third_study.SUMMARY, third_study.SUMMARY.with_name("dmpo-parts.md"))
    )
    part = {
        (name, how): [table[f"{name}, {how}", data, "30 %"] for data in ("birds100", "caltech101")]
        for name in ("second-order predictors", "bypass", "two-phase loss weights")
        for how in ("left out", "added")
    }
    (birds, caltech), (b_birds, b_caltech) = (part[name, "left out"] for name in ("second-order predictors", "bypass"))
    assert f"loses {birds:.1f} points on birds and {caltech:.1f} on Caltech-101, on 30 % of the compute" in results
    assert f"without the bypass {b_birds:.1f} and {b_caltech:.1f}." in results
    weights, _ = part["two-phase loss weights", "left out"]
    assert f"without them (equal weights) DMPO loses {weights:.1f} points on birds at 30 %" in results
    both = whole[whole["comparison"].str.startswith("two-phase loss weights")]
    later = both[both["at"].isin(["40 %", "50 %", "70 %", "exit 4", "exit 5"])]
    assert not (later["verdict"] == "larger").any()
    worst = later[later["at"].isin(["exit 4", "exit 5"])]["points"].min()
    assert f"exits 4 and 5 lose up to {-worst:.1f} points by them" in results
    first, last = (table["order: constant", "birds100", at] for at in ("exit 1", "last exit"))
    assert f"exit 1 gains {first:.1f} points and the last exit loses {-last:.1f}; on Caltech-101 the signs" in results
    assert (
        open_ones(whole, "order: constant", "exit 1")
        == open_ones(whole, "order: constant", "last exit")
        == {"caltech101"}
    )
    assert table["order: constant", "caltech101", "exit 1"] > 0 > table["order: constant", "caltech101", "last exit"]
    rate = table["rate: full in phase two", "birds100"]
    second, last = rate["exit 2"], rate["last exit"]
    assert rate.idxmax() == "exit 2"
    assert f"up to {second:.1f} points from them (exit 2) and gives {-last:.1f} to the last" in results
    depth = whole[whole["comparison"] == "order: by depth"].set_index("at")
    birds, caltech = -depth.loc["exit 4", "points"]
    assert f"Weights by depth give {birds:.1f} and {caltech:.1f} points to exit 4, behind block 6" in results
    assert (depth["verdict"] == "open").eq(depth.index != "exit 4").all()
    for name in ("second-order predictors", "bypass", "two-phase loss weights"):
        added, left = part[name, "added"], part[name, "left out"]
        row = next(line for line in parts.splitlines() if line.startswith(f"| {name} |"))
        assert re.findall(r"[+-]\d+\.\d", row) == [f"{value:+.1f}" for value in (*added, -left[0], -left[1])]


def test_the_sentences_about_the_released_form_and_rivals_follow_from_the_table() -> None:
    table = pd.read_csv(third_study.RESULTS / "third-comparisons.csv")
    table = table.set_index(["comparison", "at", "set"]).sort_index()
    text = third_study.SUMMARY.read_text(encoding="utf-8").replace("−", "-")
    released = table.loc["DMPO as released and naive exits"]
    assert (released.loc["30 %", "verdict"] == "open").all() and "On 30 % it is not told apart from naive" in text
    (birds, caltech), (b_last, c_last) = (-released.loc[at, "points"] for at in ("50 %", "last exit"))
    assert f"on 50 % it is {birds:.1f} and {caltech:.1f} points behind them, at the last exit {b_last:.1f} and" in text
    assert f"and {c_last:.1f}." in text and "is 3 points behind them on 50 %" in text
    assert (released.loc[["50 %", "last exit"], "verdict"] == "smaller").all()
    assert (table.loc["DMPO and DMPO as released", "verdict"] == "larger").all() and "far behind our form" in text
    epochs = int(BASE.training.epochs * BASE.training.phase_ratio)
    assert epochs == 3 and "leaves the early exits three epochs" in text
    early = table.loc["mixed training and naive exits"].drop(index="last exit")
    assert (early["verdict"] == "smaller").all()
    exits = -early.loc[[f"exit {k}" for k in range(1, 6)], "points"]
    assert f"and they lose {exits.min():.0f} to {exits.max():.0f} points" in text
    combined = table.loc["combined answers and naive exits"].loc["30 %"]
    assert combined["verdict"].to_dict() == {"birds100": "smaller", "caltech101": "open"}
    assert f"on birds they lose {-combined.loc['birds100', 'points']:.1f} points on 30 %" in text


def test_orders_have_the_mean_of_linear_and_its_reverse() -> None:
    mean = loss_weights("third-constant", 3, 12, 6)
    assert mean == loss_weights("third-constant", 11, 12, 6)
    np.testing.assert_allclose(mean, (0.45, 0.36, 0.40, 0.68, 1.06, 1.48), atol=0.006)
    for epoch in range(12):
        assert loss_weights("third-reversed", epoch, 12, 6) == loss_weights("linear", 11 - epoch, 12, 6)


def test_comparisons_take_the_endpoints_that_both_arms_have(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    right = rng.random(400) < 0.7
    better = right | (rng.random(400) < 0.2)
    for seed in (0, 1):
        for arm, values in (("dmpo", better), ("naive", right)):
            found = {"exit 1": right, "exit 2": values, "30 %": values, "static-6": values}
            keep(made(tmp_path, arm, seed), BASE, {"run": arm}, found)
        keep(made(tmp_path, "single", seed), BASE, {"run": "single"}, {"exit 1": right})
        keep(made(tmp_path, "static-6", seed), BASE, {"run": "static-6"}, {"exit 1": right})
    found = comparisons.table(tmp_path)
    rows = found[found["b"] == "naive"].set_index("at")
    assert rows.index.tolist() == ["exit 1", "early exits", "last exit", "30 %"]
    gain = 100 * (better.mean() - right.mean())
    assert rows.loc["30 %", "points"] == pytest.approx(gain) and rows.loc["30 %", "verdict"] == "larger"
    assert rows.loc["exit 1", "points"] == 0 and rows.loc["exit 1", "verdict"] == "open"
    assert rows.preliminary.all() and (rows.seeds == 2).all()
    assert found[found["a"] == "dmpo"].groupby("b")["at"].apply(list).to_dict() == {
        "naive": rows.index.tolist(), "single": ["last exit", "30 %"], "static-6": ["last exit", "static-6"]
    }  # fmt: skip
    expected = dx.analysis.seeds_interval(100.0 * np.stack([better * 1.0 - right] * 2))
    assert tuple(rows.loc["30 %", ["points", "low", "high"]]) == pytest.approx(expected)


def made(root: Path, arm: str, seed: int) -> Path:
    folder = root / "birds100"
    folder.mkdir(exist_ok=True)
    return folder / f"{arm}-s{seed}"
