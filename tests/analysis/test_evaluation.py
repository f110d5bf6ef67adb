"""Runs and targets → rows, on made-up records: no model, no torch."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import make_record

from dmpo_explore.analysis.evaluation import (
    BUDGETS,
    PROTOCOLS,
    TARGETS,
    evaluate_policies,
    evaluate_protocol,
    evaluate_runs,
    fit_run_policy,
)
from dmpo_explore.analysis.metrics import accuracy_interval, bootstrap_difference, summarise
from dmpo_explore.analysis.tables import class_table, describe, policy_table, table
from dmpo_explore.config import Config
from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.fitting.target import Target
from dmpo_explore.policies.catalogue import POLICIES
from dmpo_explore.runs.store import load_run
from dmpo_explore.utils.files import write_text

HALF = Target.flops(0.5)
BELOW = [Target.flops(0.5), Target.flops(0.7)]  # budgets below a single exit's compute


def make_run(root: Path, name: str, *, seed: int = 0, n_exits: int = 4, flops: tuple[float, ...] | None = None) -> None:
    """Costs 0.3, 0.5, 0.7, 0.9 of the reference if nothing else is said."""
    meta: dict[str, Any] = {"flops": flops} if flops else {}
    make_record(400, n_exits, seed=seed, **meta).save(root / name / "records" / "val")
    make_record(300, n_exits, seed=seed + 50, split="test", **meta).save(root / name / "records" / "test")
    (root / name / "config.json").write_text(Config().to_json())


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    make_run(tmp_path, "a")
    return tmp_path


def test_another_run_is_compared_on_the_same_other_data(root: Path) -> None:
    make_run(root, "b", seed=7)
    shop = make_record(200, 4, seed=90, split="test")
    for name in ("a", "b"):
        shop.save(root / name / "records" / "shop-test")
    (row,) = evaluate_runs(["a"], targets=Target.flops(0.5), split="shop-test", against="b")
    assert row["split"] == "shop-test" and row["images"] == 200 and row["against"]["run"] == "b"


def test_thresholds_come_from_val_and_numbers_from_test() -> None:
    (row,) = evaluate_runs(["a"], targets=Target.flops(0.5))
    run = load_run("a")
    policy = fit_policy(run.record("val"), flops=0.5)
    with pytest.warns(UserWarning, match="fitted on a test record"):
        flattered = fit_policy(run.record("test"), flops=0.5)
    assert row["threshold"] == policy.thresholds[0] != flattered.thresholds[0]
    expected = summarise(run.record("test"), policy.exits(run.record("test")))
    assert {key: row[key] for key in expected} == expected
    assert (row["run"], row["split"], row["policy"], row["target"]) == ("a", "test", "confidence", {"flops": 0.5})
    (on_val,) = evaluate_runs(["a"], targets=Target.flops(0.5), split="val")
    assert on_val["split"] == "val" and on_val["flops_fraction"] <= 0.5


def test_a_row_has_the_interval_of_its_accuracy_and_the_drop_on_the_evaluated_split() -> None:
    (row,) = evaluate_runs(["a"], targets=Target.accuracy_drop(0.01))
    correct = round(row["accuracy"] * 300)
    assert row["interval"] == list(accuracy_interval(np.arange(300) < correct))
    points = 100 * row["accuracy_drop"]
    assert points > 1.5  # more than on val: else this test tests little
    both = f"({100 * row['accuracy']:.2f} % against {100 * row['full_accuracy']:.2f} %)"
    assert row["note"] == f"on test it is {points:.1f} points below the last exit {both}"
    (none,) = evaluate_runs(["a"], targets=Target.accuracy_drop(0.0), split="val")
    assert "0 points below" not in none["note"] and none["note"].startswith("on val it is ")
    assert all("drop" not in row.get("note", "") and "interval" in row for row in evaluate_policies(["a"]))


@pytest.mark.parametrize("policy", POLICIES)
def test_without_a_target_the_budgets_that_can_be_met_and_full_depth(root: Path, policy: str) -> None:
    rows = evaluate_runs(["a"], policy)
    assert [row["target"] for row in rows] == [*({"flops": budget} for budget in BUDGETS), {"full_depth": True}]
    assert rows[-1]["mean_exit"] == 4 and rows[-1]["accuracy_drop"] == 0
    make_run(root, "dear", flops=(600.0, 800.0, 1000.0, 1200.0))
    assert [row["target"] for row in evaluate_runs(["dear"])] == [{"flops": 0.7}, {"flops": 1.0}, {"full_depth": True}]
    make_run(root, "single", n_exits=1)
    assert [row["target"] for row in evaluate_runs(["single"])] == [{"full_depth": True}]


def test_every_kind_of_target() -> None:
    (row,) = evaluate_runs(["a"], targets=Target.shares([0.25] * 4))
    assert row["target"] == {"shares": [0.25] * 4} and len(row["threshold"]) == 3
    (row,) = evaluate_runs(["a"], "margin", Target.threshold([0.9]))
    assert row["target"] == {"threshold": 0.9} and row["threshold"] == 0.9
    assert len(evaluate_runs(["a", "a"], targets=[Target.flops(0.4), Target.flops(0.5)])) == 4


def test_a_run_is_level_with_itself_only_under_the_same_policy(root: Path) -> None:
    make_run(root, "b")
    moved = replace(fit_run_policy(load_run("a"), target=Target.flops(0.6)), thresholds=(0.0,))  # all at exit 1
    *_, row = evaluate_runs(["b", "a"], moved, against="a")
    difference = row["against"]["difference"]
    assert difference == pytest.approx(row["accuracy"] - row["against"]["accuracy"]) and difference


def test_given_thresholds_need_no_record(root: Path) -> None:
    (root / "bare").mkdir()
    (root / "bare" / "config.json").write_text(Config().to_json())
    run = load_run("bare")
    assert fit_run_policy(run, "confidence", Target.threshold([0.5, 0.6])).thresholds == (0.5, 0.6)
    assert fit_run_policy(run, "entropy", Target.full_depth()).thresholds == (POLICIES["entropy"].threshold_none,)


def test_another_run_is_compared_under_the_same_target(root: Path) -> None:
    make_run(root, "b")  # the same images
    for split, n in (("val", 400), ("test", 300)):
        mine = load_run("a").record(split)
        other = make_record(n, seed=3, split=split)
        other = type(other)(**{**other.__dict__, "labels": np.asarray(mine.labels)})
        other.save(root / "b" / "records" / split, force=True)
    (row,) = evaluate_runs(["a"], targets=Target.flops(0.5), against="b")
    against = row["against"]
    right = {}
    for name in ("a", "b"):
        run = load_run(name)
        exits = fit_policy(run.record("val"), flops=0.5).exits(run.record("test"))
        right[name] = run.record("test").correct[np.arange(300), exits]
    expected = bootstrap_difference(right["a"], right["b"])
    assert (against["difference"], against["low"], against["high"]) == expected
    assert against["accuracy"] == pytest.approx(right["b"].mean()) and against["run"] == "b"


def test_a_single_exit_is_taken_as_it_is_and_other_images_are_refused(root: Path) -> None:
    make_run(root, "single", n_exits=1, flops=(1000.0,))
    for split in ("val", "test"):
        mine, other = load_run("a").record(split), load_run("single").record(split)
        same = type(other)(**{**other.__dict__, "labels": np.asarray(mine.labels)})
        same.save(root / "single" / "records" / split, force=True)
    rows = evaluate_runs(["a"], against="single")
    assert {row["against"]["mean_exit"] for row in rows} == {1.0}
    assert {row["against"]["flops_fraction"] for row in rows} == {1.0}
    below = evaluate_runs(["single"], targets=BELOW)
    assert [(row["target"], row["flops_fraction"]) for row in below] == [({"full_depth": True}, 1.0)]
    assert "one exit" in below[0]["note"]
    mine, alone = evaluate_runs(["a", "single"], targets=Target.flops(0.5), against="a")
    assert "note" not in mine and describe(alone["target"]) == "full"
    assert alone["note"].endswith("whatever the target; 50 % applies to a alone")
    assert alone["against"]["flops_fraction"] == mine["flops_fraction"] < 0.55
    assert [row["against"]["run"] for row in evaluate_runs(["single"], targets=BELOW, against="single")] == ["single"]
    assert len(evaluate_runs(["single"], targets=BELOW, against="a")) == 2
    make_run(root, "dear", flops=(600.0, 800.0, 1000.0, 1200.0))
    seen = [row["against"] is None for row in evaluate_runs(["a"], against="dear")]
    assert seen == [True, True, False, False, False]
    assert "| – " in "\n".join(table(evaluate_runs(["a"], against="dear")))


def test_the_table_says_what_the_rows_say() -> None:
    rows = evaluate_runs(["a"])
    lines = table(rows)
    assert len(lines) == 2 + len(rows) and len({len(line) for line in lines}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][:5] == ["run", "target", "accuracy", "balanced", "compute"]
    for row, line in zip(rows, cells[2:], strict=True):
        assert line[:3] == ["a", describe(row["target"]), f"{100 * row['accuracy']:.2f} %"]
        assert line[3:5] == [f"{100 * row['balanced_accuracy']:.2f} %", f"{100 * row['flops_fraction']:.1f} %"]
    assert cells[-1][1] == "full" and cells[-1][-1] == "–"
    more = [{"flops": 0.3, "per_exit": True, "temperatures": "fit"}, {"anytime": 2.0}, {"budgeted": 0.3}]
    assert [describe(t) for t in more] == ["30 %, per exit, calibrated", "exit 2", "30 % continue"]


def test_how_a_target_is_met_comes_with_it() -> None:
    run = load_run("a")
    (row,) = evaluate_runs(["a"], targets=Target.flops(0.5, per_exit=True, calibrate=True))
    policy = fit_policy(run.record("val"), flops=0.5, per_exit=True, temperatures="fit")
    assert row["threshold"] == list(policy.thresholds) and row["temperatures"] == list(policy.temperatures)
    assert row["target"] == {"flops": 0.5, "per_exit": True, "temperatures": "fit"}
    assert row["accuracy"] == summarise(run.record("test"), policy.exits(run.record("test")))["accuracy"]
    default = evaluate_runs(["a"], per_exit=True)
    assert [describe(r["target"]) for r in default] == [f"{b} %, per exit" for b in (30, 50, 70, 100)] + ["full"]


def test_a_target_or_an_option_that_would_not_be_used_is_refused() -> None:
    run = load_run("a")
    saved = fit_policy(run.record("val"), flops=0.5)
    assert fit_run_policy(run, saved, Target.flops(0.5)) == fit_run_policy(run, saved) == saved
    target = Target.flops(0.5, per_exit=True)
    assert evaluate_runs(["a"], targets=target, per_exit=True) == evaluate_runs(["a"], targets=target)


def test_one_run_alone_and_a_run_that_is_open_are_taken(root: Path) -> None:
    make_run(root, "b")
    run = load_run("a")
    rows = evaluate_runs(["a"], targets=Target.flops(0.5))
    for given in ("a", run, run.path, [run]):
        assert evaluate_runs(given, targets=Target.flops(0.5)) == rows
    assert evaluate_protocol(run, "anytime") == evaluate_protocol(["a"], "anytime")
    beside = evaluate_runs(run, targets=Target.flops(0.5), against=load_run("b"))
    assert beside == evaluate_runs(["a"], targets=Target.flops(0.5), against="b")


def test_a_risk_target_shows_whether_it_is_certified() -> None:
    (kept,) = evaluate_runs(["a"], targets=Target.risk("too_early", epsilon=0.2, delta=0.1))
    assert kept["certificate"]["certified"] and "images on val (" in kept["note"] and kept["flops_fraction"] < 0.9
    (none,) = evaluate_runs(["a"], targets=Target.risk("too_early", epsilon=0.001))
    assert none["certificate"]["certified"] is False and none["note"].startswith("no threshold can be certified")
    assert "none certified" in table([none])[-1] and none["mean_exit"] == 4


@pytest.mark.slow
def test_all_policies_side_by_side(root: Path) -> None:
    rows = evaluate_policies(["a"])
    columns = len(TARGETS)
    assert len(rows) == columns * (len(POLICIES) + 2)
    assert list(dict.fromkeys(row["policy"] for row in rows)) == list(POLICIES)
    run, seen = load_run("a"), {(row["policy"], describe(row["target"])): row for row in rows}
    for name in POLICIES:
        for target in TARGETS:
            policy = fit_policy(run.record("val"), name, target=target)
            expected = summarise(run.record("test"), policy.exits(run.record("test")))
            row = seen[name, target.describe()]
            assert (row["accuracy"], row["flops_fraction"]) == (expected["accuracy"], expected["flops_fraction"])
    lines = policy_table(rows)
    assert len(lines) == 2 + len(POLICIES) + 2 and len({len(line) for line in lines}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["run", "policy", "30 %", "50 %", "70 %", "drop 1 %"]
    assert [line[1] for line in cells[2:5]] == ["confidence", "confidence, per exit", "confidence, calibrated"]
    row = seen["oracle", "50 %"]
    assert cells[-1][1] == "oracle (bound)"
    assert cells[-1][3] == f"{100 * row['accuracy']:.2f} % at {100 * row['flops_fraction']:.1f} %"
    make_record(60, 4, with_logits=False).save(root / "a" / "records" / "val", force=True)
    bare = evaluate_policies(["a"])
    (reason,) = {row["unavailable"] for row in bare if "unavailable" in row}
    assert "temperatures, which need logits; this record of synthetic val has none" in reason
    assert len(bare) == len(rows) and sum("unavailable" in row for row in bare) == columns
    (line,) = [line for line in policy_table(bare) if "need logits" in line]
    assert "confidence, calibrated" in line and "%" not in line
    make_run(root, "dear", flops=(600.0, 800.0, 1000.0, 1200.0))
    few = evaluate_policies(["dear"])
    assert {describe(row["target"]).split(",")[0] for row in few} == {"70 %", "drop 1 %"}
    assert "–" not in "".join(policy_table(few))


def test_protocols_are_msdnets() -> None:
    record = load_run("a").record("test")
    anytime = evaluate_protocol(["a"], "anytime")
    assert [row["accuracy"] for row in anytime] == pytest.approx(record.correct.mean(axis=0).tolist())
    assert [row["flops_fraction"] for row in anytime] == pytest.approx(record.flops_fraction.tolist())
    assert [row["target"] for row in anytime] == [{"anytime": k} for k in (1, 2, 3, 4)]
    head, _, *lines = table(anytime)
    column = head.split("|").index(" threshold ")
    assert {line.split("|")[column].strip() for line in lines} == {"–"}  # an exit is no threshold
    budgeted = evaluate_protocol(["a"], "budgeted")
    assert len(budgeted) == 11 and {row["policy"] for row in budgeted} == {"budgeted"} == {PROTOCOLS["budgeted"]}
    assert [row["flops_fraction"] for row in budgeted] == sorted(row["flops_fraction"] for row in budgeted)
    assert 1 - budgeted[3]["exit_shares"][0] == pytest.approx(0.3, abs=0.07)  # the share was set on val


def test_many_classes_are_shown_by_the_best_and_the_worst(root: Path) -> None:
    for split, images in (("val", 400), ("test", 3000)):
        make_record(images, 3, 101, split=split, with_logits=False).save(root / "many" / "records" / split)
    (root / "many" / "config.json").write_text(Config().to_json())
    (row,) = evaluate_runs(["many"], targets=Target.flops(0.5), per_class=True)
    assert len(row["classes"]) == 101 and all(type(c["images"]) is int for c in row["classes"])
    lines = class_table(row)
    ranked = sorted(c["accuracy"] for c in row["classes"])
    assert lines[0].startswith("many, 50 %: accuracy ") and "mean over 101 classes" in lines[0]
    shown = [float(line.split("|")[3].strip(" %")) / 100 for line in lines if re.match(r"\| class \d", line)]
    assert shown == pytest.approx([*ranked[:-11:-1], *ranked[:10]], abs=1e-4)
    assert "balanced" in table([row])[0] and "balanced" not in table([row | {"balanced_accuracy": row["accuracy"]}])[0]


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: evaluate_runs(["a"], targets=Target.flops(0.1)), "run 'a': flops=0.1 cannot be met"),
        (lambda: evaluate_runs(["a"], targets=HALF, against="dear"), "run 'dear': flops=0.5 cannot be met"),
        (lambda: evaluate_runs(["a"], "margin", against="a"), "a would be compared with itself under the same policy"),
        (lambda: evaluate_runs(["a"], against="foreign"), "'foreign' was not recorded on the same test images"),
        (lambda: evaluate_runs(["a"], targets=HALF, per_exit=True), "per_exit=True is for the default budgets"),
        (lambda: evaluate_runs(["a"], targets=HALF, calibrate=True), "calibrate=True is for the default budgets"),
        (lambda: evaluate_protocol(["a"], "batch"), "unknown protocol 'batch'.*anytime, budgeted"),
        (lambda: fit_run_policy(load_run("bare"), "confidence", HALF), "no record of split 'val'"),
        (lambda: fit_run_policy(load_run("bare"), "x", Target.threshold(0.5)), "unknown policy 'x'"),
        (
            lambda: fit_run_policy(load_run("a"), fit_policy(load_run("a").record("val"), flops=0.6), HALF),
            r"fitted to {'flops': 0.6}, not to {'flops': 0.5}.* policy='confidence'",
        ),
    ],
)
def test_what_is_refused(root: Path, ask: Callable[[], object], words: str) -> None:
    make_run(root, "foreign", seed=9)
    make_run(root, "dear", flops=(600.0, 800.0, 1000.0, 1200.0))
    write_text(root / "bare" / "config.json", Config().to_json())
    with pytest.raises(ValueError, match=words):
        ask()
