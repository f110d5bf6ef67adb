"""Policies fitted to a certified risk."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import DEPLOYABLE, make_record, record_from_logits

from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.fitting.risk_control import RISKS, certify
from dmpo_explore.fitting.temperature import fit_temperatures
from dmpo_explore.policies.rules import ConfidencePolicy


@pytest.mark.parametrize("risk", sorted(RISKS))
def test_a_guarantee_is_a_certificate_in_a_policy(risk: str) -> None:
    record = make_record(2000, 4, 5, seed=2)
    policy = fit_policy(record, risk=risk, epsilon=0.05, delta=0.1)
    expected = certify(record, ConfidencePolicy((0.5,)), risk, 0.05, 0.1)
    assert expected.certified and policy.thresholds == (ConfidencePolicy((expected.threshold,)).thresholds)
    assert policy.fitted["target"] == {"risk": risk, "epsilon": 0.05, "delta": 0.1}
    assert policy.fitted["certificate"]["p_value"] <= 0.1 and "note" not in policy.fitted
    loss = RISKS[risk](record, policy.exits(record)).mean()
    assert policy.fitted["certificate"]["risk"] == pytest.approx(loss) and loss < 0.05


@pytest.mark.parametrize("name", DEPLOYABLE)
def test_where_nothing_can_be_certified_no_image_exits_early(name: str) -> None:
    record = make_record(100, 4, 5)
    policy = fit_policy(record, name, risk="too_early")  # 100 images cannot show 1 %
    assert (policy.exits(record) == 3).all()
    half = "50 images (the other half is learned on)" if policy.learns else "100 images"
    none, few = policy.fitted["note"].split("; ")
    assert "no threshold can be certified" in none
    assert few.startswith(f"{half} cannot") and "1 %" in few and "299" in few
    assert policy.fitted["certificate"]["certified"] is False


def test_with_enough_images_the_note_names_no_number() -> None:
    logits = np.broadcast_to(20.0 * np.eye(2)[[1, 0]], (299, 2, 2))  # exit 1 is certain and incorrect
    policy = fit_policy(record_from_logits(logits, np.zeros(299, int)), risk="too_early")
    assert "no threshold can be certified" in policy.fitted["note"] and "needed" not in policy.fitted["note"]


def test_what_is_learned_is_certified_on_other_images() -> None:
    record, target = make_record(600, 4, 5, seed=2), {"risk": "too_early", "epsilon": 0.1}
    half = fit_policy(record, temperatures="fit", **target)  # type: ignore[arg-type]
    for policy in (fit_policy(record, "gate", **target), half):  # type: ignore[arg-type]
        assert policy.fitted["certificate"]["images"] == 300 and policy.fitted["images"] == 600
        assert policy.fitted["certificate"]["certified"]
    assert fit_policy(record, **target).fitted["certificate"]["images"] == 600  # type: ignore[arg-type]
    assert half.temperatures != fit_temperatures(record)
    with pytest.raises(ValueError, match="risk control of a policy that learns needs at least 2 images"):
        fit_policy(make_record(1, 4, 5), "gate", risk="too_early")


def test_the_oracle_gets_no_certificate() -> None:
    with pytest.raises(ValueError, match="'oracle' is a bound that reads the labels"):
        fit_policy(make_record(50, 4, 3), "oracle", risk="too_early")
