"""page.json names a run, its exits and its policy as the library does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dmpo_explore as dx
from dmpo_explore.reports.report import report_html
from dmpo_explore.web.export import PAGE
from dmpo_explore.web.facts import RESIZING, check_policy, check_resizing, run_facts, write_record


def test_facts_are_the_records() -> None:
    run = dx.load_run("demo")
    policy = dx.fit_policy(run.record("calibration"), flops=0.3)
    facts = run_facts(run, run.record("test"), policy)
    assert facts["slider"]["thresholds"][facts["slider"]["place"]] == policy.thresholds[0]
    assert facts["blocks"] == [2, 4, 6, 8, 10, 12] and len(facts["colours"]) == 6
    assert facts["notes"][0].startswith("The slider begins at the policy confidence, fitted on calibration")
    assert "91.33 %" in facts["notes"][0]


def test_a_policy_that_names_a_split_and_no_target_was_set_by_hand() -> None:
    run, policy = dx.load_run("demo"), dx.policies.ConfidencePolicy((0.8,), {"split": "val"})
    assert "set by hand" in run_facts(run, run.record("test"), policy)["notes"][0]
    assert "its threshold set by hand" in report_html(run, policy, images=0)


def test_scores_have_the_policys_temperatures(mine: dx.Run, tmp_path: Path) -> None:
    record = mine.record("test")
    if record.logits is None:
        pytest.skip("a record without logits")
    policy = dx.POLICIES["margin"]((0.5,), temperatures=(2.0, 1.0, 0.5))
    entries = write_record(tmp_path, record, policy)
    found = np.fromfile(tmp_path / entries["scores"]["url"], "<f4").reshape(-1, 3)
    assert np.array_equal(found, policy.columns(record)["margin"])


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
