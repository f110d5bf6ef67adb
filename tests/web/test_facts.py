"""page.json names a run, its exits and its policy as the library does."""

from __future__ import annotations

from typing import Any

import pytest

import dmpo_explore as dx
from dmpo_explore.web.export import PAGE
from dmpo_explore.web.facts import RESIZING, check_policy, check_resizing, run_facts
from dmpo_explore.web.publish import page_html
from dmpo_explore.web.tiles import slider_of


def facts_at(run: dx.Run, policy: dx.Policy) -> dict[str, Any]:
    outcome = dx.apply(policy, run.record("test"))
    return run_facts(run, policy, outcome, slider_of(policy, outcome))


def test_facts_are_the_records() -> None:
    run = dx.load_run("demo")
    policy = dx.fit_policy(run.record("calibration"), flops=0.3)
    facts = facts_at(run, policy)
    assert facts["slider"]["thresholds"][facts["slider"]["place"]] == policy.thresholds[0]
    assert facts["blocks"] == [3, 4, 5, 6, 8, 12] and len(facts["colours"]) == 6
    assert facts["notes"][0].startswith("The slider begins at the policy confidence, fitted on calibration")
    assert "86.69 %" in facts["notes"][0]
    counts = dx.analysis.slider_counts(run.record("test"), policy).sliders[0].counts
    assert facts["slider"]["counts"] == counts.tolist()


def test_a_policy_that_names_a_split_and_no_target_was_set_by_hand() -> None:
    run, policy = dx.load_run("demo"), dx.policies.ConfidencePolicy((0.8,), {"split": "val"})
    assert "its threshold set by hand" in facts_at(run, policy)["notes"][0]
    assert "its threshold set by hand" in page_html(run, policy, pictures=False)


def test_a_policy_on_one_score_with_one_threshold_is_shown() -> None:
    for name in ("confidence", "margin", "entropy"):
        check_policy(dx.POLICIES[name]((0.5,)), 3)
    with pytest.raises(ValueError, match="no policy 'gate'"):
        check_policy(dx.POLICIES["gate"]((0.5,)), 3)


def test_the_pages_interpolations_are_named() -> None:
    text = (PAGE / "resize.js").read_text(encoding="utf-8")
    assert all(f"  {name}: [" in text for name in RESIZING)
    check_resizing("bicubic")
    with pytest.raises(ValueError, match="no interpolation 'nearest'"):
        check_resizing("nearest")
