"""The drift table against the metrics it is made of, and broken promises against the binomial distribution."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from synthetic import make_record

from dmpo_explore.analysis.calibration import calibration_error
from dmpo_explore.analysis.metrics import summarise
from dmpo_explore.analysis.shift import excess_p_value, shift_table
from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.fitting.temperature import tempered_record
from dmpo_explore.policies.rules import FixedPolicy
from dmpo_explore.policies.running import hold_budget


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
