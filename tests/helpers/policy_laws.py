"""What holds for every policy that may be deployed, a plug-in's too: fitted, kept, applied, told, swept."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from synthetic import make_record

from dmpo_explore.analysis.decision_trace import trace_decision
from dmpo_explore.analysis.metrics import apply, summarise, trade_off
from dmpo_explore.analysis.sliders import counts_of, slider_counts
from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.fitting.target import Target
from dmpo_explore.policies.base import Policy
from dmpo_explore.policies.catalogue import POLICIES, policy_from_dict
from dmpo_explore.policies.ranking import ScorePolicy
from dmpo_explore.records.record import ExitRecord

CALIBRATION, TEST = make_record(400, 4, 5, seed=1), make_record(300, 4, 5, seed=2, split="test")


def check_laws(name: str) -> None:
    """Fitted to each kind of target that it takes, and at both ends of its threshold."""
    kind = POLICIES[name]
    targets = [Target.flops(0.5), Target.accuracy_drop(0.02, calibrate=True), Target.risk("too_early", epsilon=0.3)]
    if kind.per_exit_thresholds:
        targets += [Target.flops(0.5, per_exit=True), Target.shares((0.4, 0.3, 0.2, 0.1))]
    fitted = [fit_policy(CALIBRATION, name, target) for target in targets]
    ends = [replace(fitted[0], thresholds=(threshold,)) for threshold in (kind.threshold_all, kind.threshold_none)]
    for policy in (*fitted, *ends):
        assert policy_from_dict(json.loads(json.dumps(policy.to_dict()))) == policy
        assert apply(policy, TEST).exits.tolist() == policy.exits(TEST).tolist()
        check_traces(policy, TEST)
        for slider in slider_counts(TEST, policy).sliders:
            assert slider.counts[slider.position].tolist() == counts_of(TEST, policy.exits(TEST)).tolist()
        if policy.sweeps:
            check_curve(policy, TEST)


def check_traces(policy: Policy, record: ExitRecord) -> None:
    """An image exits at the first value beyond its threshold; the sentence names that exit."""
    exits = policy.exits(record)
    for row in range(0, record.n_images, 11):
        trace = trace_decision(record, policy, row)
        thresholds = np.float32(trace.thresholds)
        beyond = trace.values <= thresholds if policy.falling else trace.values >= thresholds
        assert np.array_equal(beyond, trace.reached)
        assert trace.exit == exits[row] == (beyond.argmax() if beyond.any() else 3)
        last = trace.exit == 3 and "Goes to the last exit" in trace.sentence()
        assert last or f"exit {trace.exit + 1}" in trace.sentence()
        if isinstance(policy, ScorePolicy):
            assert trace.values.tolist() == policy.values(record)[row].tolist()


def check_curve(policy: Policy, record: ExitRecord) -> None:
    """Every point of its trade-off is what that threshold does."""
    curve = trade_off(record, policy, points=20)
    assert curve["flops_fraction"].is_monotonic_increasing
    for point in curve.itertuples():
        found = summarise(record, replace(policy, thresholds=(point.threshold,)).exits(record))
        assert (found["accuracy"], found["flops_fraction"]) == pytest.approx((point.accuracy, point.flops_fraction))
