"""What a model's thresholds do on images of another place: against the single steps, on made-up records."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.analysis.metrics import apply
from dmpo_explore.analysis.shift import TARGETS, WAYS, HeldOut, transfer, transfer_run
from dmpo_explore.analysis.tables import transfer_lines
from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.fitting.target import Target
from dmpo_explore.records.record import ExitRecord
from dmpo_explore.runs.store import load_run


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


def test_a_budget_below_exit_1_is_left_out_and_other_exits_are_refused() -> None:
    home = held_out(1)
    assert transfer(home, home, [Target.flops(0.1), Target.accuracy_drop(0.0)]).thresholds["target"].nunique() == 1
    with pytest.raises(ValueError, match=r"flops=0\.1 cannot be met: exit 1 alone costs 0\.3"):
        transfer(home, home, [Target.flops(0.1)])
    three = make_record(50, 3, 5)
    with pytest.raises(ValueError, match="this record of synthetic val has other classes or exits than that of synth"):
        transfer(home, HeldOut(three, three))


def test_a_run_needs_records_of_the_other_data() -> None:
    with pytest.raises(ValueError, match="no record of digits calibration; make it with `dmpo-explore record demo"):
        transfer_run(load_run("demo"), "digits")
