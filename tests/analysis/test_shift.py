"""Drift against the metrics it is made of, broken promises, and what thresholds do on images of another place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.analysis.calibration import calibration_error
from dmpo_explore.analysis.metrics import apply, summarise
from dmpo_explore.analysis.shift import TARGETS, WAYS, HeldOut, excess_p_value, shift_table, transfer, transfer_run
from dmpo_explore.analysis.tables import transfer_lines
from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.fitting.target import Target
from dmpo_explore.fitting.temperature import tempered_record
from dmpo_explore.policies.rules import FixedPolicy
from dmpo_explore.policies.running import hold_budget
from dmpo_explore.records.record import ExitRecord
from dmpo_explore.runs.store import load_run


def test_rows_are_what_the_metrics_say() -> None:
    val = make_record(2000, 4, 5, seed=1)
    policies = {
        "30 %": fit_policy(val, flops=0.5),
        "calibrated": fit_policy(val, flops=0.5, temperatures="fit"),
        "certified": fit_policy(val, risk="too_early", epsilon=0.05),
        "exit 2": FixedPolicy((2,)),
    }
    records = [("none", 0, make_record(500, 4, 5, seed=2)), ("noise", 1, make_record(500, 4, 5, seed=3))]
    table = shift_table(records, policies)
    assert table["policy"].tolist() == list(policies) * 2
    assert table["strength"].tolist() == [0] * 4 + [1] * 4
    for row, (_, _, record) in ((table.iloc[0], records[0]), (table.iloc[6], records[1])):
        expected = summarise(record, policies[row["policy"]].exits(record))
        for key in ("accuracy", "full_accuracy", "flops_fraction", "mean_exit", "too_early"):
            assert row[key] == expected[key]
        assert row["disagreement"] == expected["changed"]
    by_exit = table[table["policy"] == "exit 2"].iloc[0]
    assert by_exit["ece"] == pytest.approx(calibration_error(records[0][2])[1])
    assert np.isnan(by_exit["epsilon"]) and by_exit["risk"] == "" and not by_exit["violated"]
    warm = tempered_record(records[0][2], policies["calibrated"].temperatures)
    exits = policies["calibrated"].exits(records[0][2])
    assert table.iloc[1]["confidence"] == pytest.approx(warm.confidence[np.arange(500), exits].mean(dtype=float))


@pytest.mark.parametrize(("losses", "images"), [(0, 100), (1, 100), (9, 100), (100, 100)])
def test_excess_is_a_binomial_tail(losses: int, images: int) -> None:
    assert excess_p_value(losses, images, 0.05) == pytest.approx(binom.sf(losses - 1, images, 0.05))


def test_a_promise_breaks_where_images_change() -> None:
    val = make_record(2000, 4, 5, seed=1)
    policy = fit_policy(val, risk="too_early", epsilon=0.05)
    other = make_record(2000, 4, 5, seed=2)
    says = np.asarray(other.prediction).copy()
    says[:, :2] = (says[:, :2] + 1) % 5  # early exits spoilt, and as sure as before
    spoilt = type(other)(**{**vars(other), "prediction": says})
    table = shift_table([("none", 0, other), ("spoilt", 5, spoilt)], {"certified": policy})
    assert table["violated"].tolist() == [False, True]
    assert table["epsilon"].tolist() == [0.05, 0.05] and table["risk"].tolist() == ["too_early"] * 2
    assert table["p_value"].iloc[1] < 1e-6


def test_what_claims_no_bound_breaks_none() -> None:
    val, other = make_record(2000, 4, 5, seed=1), make_record(2000, 4, 5, seed=2)
    policy = fit_policy(val, risk="too_early", epsilon=0.05)
    none = fit_policy(val.subset(slice(20)), risk="too_early", epsilon=0.05)  # too few images to certify anything
    table = shift_table([("none", 0, other)], {"held": hold_budget(policy, val), "none": none})
    assert table["risk"].tolist() == ["", ""] and not table["violated"].any()
    assert table[["epsilon", "p_value"]].isna().all(axis=None)


def held_out(seed: int, wrong: float = 0.0) -> HeldOut:
    """Records of 400 images each, a share of whose labels is wrong."""

    def one(split: str, seed: int) -> ExitRecord:
        record = make_record(400, 4, 5, seed)
        labels, bad = record.labels.copy(), np.random.default_rng(seed).random(400) < wrong
        labels[bad] = (labels[bad] + 1) % 5
        return replace(record, labels=labels, meta=replace(record.meta, split=split))

    return HeldOut(one("calibration", seed), one("test", seed + 1))


def test_every_number_is_that_of_the_single_steps() -> None:
    home, away, target = held_out(1), held_out(3, 0.3), Target.flops(0.5)
    found = transfer(home, away, [target], "entropy")
    lost = home.test.correct.mean(axis=0) - away.test.correct.mean(axis=0)
    np.testing.assert_allclose(found.exits["lost"], lost)
    assert (found.exits["away_low"] < found.exits["away"]).all() and (lost > 0).all()
    assert [*map(tuple, found.thresholds[["fitted_on", "tested_on", "held"]].to_numpy())] == [*WAYS]
    places = {"home": home, "away": away}
    for row in found.thresholds.to_dict("records"):
        policy = fit_policy(places[row["fitted_on"]].calibration, "entropy", target=target)
        there = apply(policy, places[row["fitted_on"]].calibration).summary()
        test = places[row["tested_on"]].test
        if row["held"]:
            test = test.subset(np.random.default_rng(0).permutation(test.n_images))
        held = dx.hold_budget(policy, places["home"].calibration) if row["held"] else policy
        here = apply(held, test).summary()
        for name, column in (("accuracy", "fitted_accuracy"), ("flops_fraction", "fitted_flops")):
            assert (row[column], row[name]) == pytest.approx((there[name], here[name]))
        assert row["too_early"] == pytest.approx(here["too_early"]) and row["fitted_flops"] <= 0.5


def test_usual_targets_and_their_sentences() -> None:
    found = transfer(held_out(1), held_out(3, 0.3))
    lines = transfer_lines(found, "our shop", "the other")
    assert len(found.thresholds) == 4 * len(TARGETS) and [*found.exits["exit"]] == [1, 2, 3, 4]
    for target, line in zip(TARGETS, lines[-len(TARGETS) :], strict=True):
        assert line.startswith(f"{target.describe()}: thresholds of our shop have ")
        assert "fitted again on the other they have" in line
    row = found.thresholds.iloc[1]
    assert (
        f"{100 * row['accuracy']:.2f} % at {100 * row['flops_fraction']:.1f} % on test images" in lines[-len(TARGETS)]
    )


def test_shares_are_held_where_a_score_is_compared() -> None:
    home = held_out(1)
    found = transfer(home, home, [Target.flops(0.5)], "patience")
    assert not found.thresholds["held"].any() and len(found.thresholds) == 3
    assert "made to follow" not in transfer_lines(found, "here", "there")[-1]


def test_a_budget_below_exit_1_is_left_out() -> None:
    home = held_out(1)
    assert transfer(home, home, [Target.flops(0.1), Target.accuracy_drop(0.0)]).thresholds["target"].nunique() == 1


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: transfer(held_out(1), held_out(1), [Target.flops(0.1)]), r"flops=0\.1 cannot be met: exit 1 alone"),
        (
            lambda: transfer(held_out(1), HeldOut(make_record(50, 3), make_record(50, 3))),
            "this record of synthetic val has other classes or exits than that of synth",
        ),
        (
            lambda: transfer_run(load_run("demo"), "digits"),
            "no record of digits calibration; make it with `dmpo-explore record demo",
        ),
    ],
)
def test_what_is_refused(ask: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ask()
