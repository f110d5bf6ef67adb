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
    table = pd.read_csv(third_study.RESULTS / "third-comparisons.csv").set_index(["comparison", "at", "set"])["points"]
    text = third_study.SUMMARY.read_text(encoding="utf-8").replace("−", "-")
    naive, single, static = (table.loc[name] for name in (third_study.NAIVE, third_study.SINGLE, third_study.STATIC))
    low, half, last = naive["30 %"], naive["50 %"], naive["last exit"].abs()
    assert f"by {low.min():.0f} to {low.max():.0f} points on 30 % of the compute" in text
    assert (
        f"by {half.min():.0f} to {half.max():.0f} on 50 %. Their last exits differ by at most {last.max():.1f}" in text
    )
    small = [name for name in single["50 %"].index if name.endswith("-cnn")]
    half, low = (-single[at].drop(small) for at in ("50 %", "30 %"))
    five = half.drop(["caltech101", "birds100"])
    assert f"between {five.max():.1f} points behind the full model and {-five.min():.1f} ahead on five sets" in text
    assert f"{half['caltech101']:.1f} behind on Caltech-101 and {half['birds100']:.1f} on birds" in text
    assert (low > 0).all() and f"by {low['grocery']:.1f} to {low.max():.1f} points, the interval leaves 0 out" in text
    behind = -single["30 %"]
    assert f"The CNN is {behind['grocery-cnn']:.0f} and {behind['caltech101-cnn']:.0f} behind" in text
    static = static["static-6"]
    ahead = static.drop(["caltech101", "grocery-shops"])
    assert f"{static['caltech101']:.1f} points behind on Caltech-101 and {static['grocery-shops']:.1f} on other" in text
    assert f"three trainings do not decide ({ahead.min():.1f} to +{ahead.max():.1f})" in text


def test_the_sentences_about_the_parts_follow_from_the_table() -> None:
    whole = pd.read_csv(third_study.RESULTS / "third-comparisons.csv")
    table = whole.set_index(["comparison", "set", "at"])["points"]
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
    assert f"without them (equal weights) DMPO loses {weights:.1f} points on birds" in results
    first, last = (table["order: constant", "birds100", at] for at in ("exit 1", "last exit"))
    assert f"birds gain {first:.1f} points at exit 1 and lose {-last:.1f} at the last exit" in results
    low, last = (table["order: full-rate", "birds100", at] for at in ("30 %", "last exit"))
    assert f"birds have {low:.1f} points less at 30 % with it and {-last:.1f} more at the last exit" in results
    depth = whole[whole["comparison"] == "order: by-depth"].set_index("at")
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
    assert (released.loc["30 %", "verdict"] == "open").all() and "on 30 % not told apart from naive exits" in text
    birds, caltech = -released.loc["last exit", "points"]
    assert f"its last exit is {birds:.1f} and {caltech:.1f} points behind theirs" in text
    assert (released.loc["last exit", "verdict"] == "smaller").all()
    assert (table.loc["DMPO and DMPO as released", "verdict"] == "larger").all() and "far behind our form" in text
    epochs = int(BASE.training.epochs * BASE.training.phase_ratio)
    assert epochs == 3 and "leaves the early exits three epochs" in text
    early = table.loc["mixed training and naive exits"].drop(index="last exit")
    assert (early["verdict"] == "smaller").all()
    assert not (table.loc["combined answers and naive exits", "verdict"] == "larger").any()


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
