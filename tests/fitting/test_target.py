"""One type of target for Python, files and options: checked when made, equal when read back."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.fitting.risk_control import RISKS
from dmpo_explore.fitting.target import CHECKS, KINDS, Target

RECORD, DEAR = make_record(50, 4), make_record(50, 2, flops=(700.0, 1247.2))  # costs 0.3, 0.5, 0.7, 0.9
hundredths = st.integers(1, 9999).map(lambda n: n / 10000)
switch = st.booleans()
targets = st.one_of(
    st.builds(lambda v, p, c: Target.flops(v, per_exit=p, calibrate=c), hundredths, switch, switch),
    st.builds(lambda v, p, c: Target.accuracy_drop(v, per_exit=p, calibrate=c), hundredths, switch, switch),
    st.builds(lambda v, p, c: Target.near_best(v, per_exit=p, calibrate=c), hundredths, switch, switch),
    st.builds(lambda c: Target.shares((0.4, 0.3, 0.1, 0.2), calibrate=c), switch),
    st.builds(
        lambda v, c: Target.threshold(v, calibrate=c),
        st.lists(st.floats(-1, 1e6), min_size=1, max_size=5),
        switch,
    ),
    st.builds(
        lambda r, e, d, c: Target.risk(r, epsilon=e, delta=d, calibrate=c),
        st.sampled_from(sorted(RISKS)),
        hundredths,
        hundredths,
        switch,
    ),
    st.just(Target.full_depth()),
)


@given(targets)
def test_every_form_gives_the_target_back(target: Target) -> None:
    assert Target.from_dict(target.to_dict()) == target
    code = f"dict({target.to_code()})"
    if target.kind == "full_depth":
        assert eval(code) == {"target": target}
    else:
        values = eval(code)
        calibrate = values.pop("temperatures", None) == "fit"
        assert Target.from_arguments(**values, calibrate=calibrate) == target


def test_every_kind_is_checked() -> None:
    assert set(CHECKS) == set(KINDS)


def test_options_are_those_of_the_command_line() -> None:
    from dmpo_explore.cli.options import TARGET

    made = [
        Target.flops(0.3, per_exit=True, calibrate=True),
        Target.near_best(0.01),
        Target.shares((0.5, 0.5)),
        Target.threshold((0.9, 0.8)),
        Target.risk("disagreement", epsilon=0.02),
    ]
    words = [word for target in made for word in target.to_options()]
    assert {word[2:].replace("-", "_") for word in words if word.startswith("--")} <= TARGET.keys()
    assert shlex.join(made[0].to_options()) == "--flops 0.3 --per-exit --calibrate"
    assert Target.full_depth().to_options() == []  # `evaluate` without a target prints full depth too
    assert Target.threshold(-0.01).to_options() == ["--threshold=-0.01"]  # a minus would begin another option


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Target("best", 1), "unknown target 'best'"),  # type: ignore[arg-type]
        (lambda: Target.flops(0), "flops=0 must be a fraction of reference_flops above 0"),
        (lambda: Target.flops(float("inf")), "flops=inf must be a fraction"),
        (lambda: Target.flops(float("nan")), "flops=nan must be a fraction"),
        (lambda: Target.flops(True), "flops=True must be a fraction"),
        (lambda: Target.flops("0.3"), "flops='0.3' must be a fraction"),  # type: ignore[arg-type]
        (lambda: Target.accuracy_drop(-0.1), "accuracy_drop=-0.1 must be a fraction from 0 and below 1"),
        (lambda: Target.accuracy_drop(1), "1 is 100 %, one point is 0.01"),
        (lambda: Target.near_best(1), "1 is 100 %, one point is 0.01"),
        (lambda: Target.accuracy_drop(2), "accuracy_drop=2 must be"),
        (lambda: Target.shares((0.5, 0.4)), "must be 2 fractions, one per exit, that sum to 1"),
        (lambda: Target.shares((1.5, -0.5)), "must be 2 fractions"),
        (lambda: Target.shares((float("nan"), 0.5)), "must be 2 fractions"),
        (lambda: Target.shares(("a",)), "must be 1 fractions"),  # type: ignore[arg-type]
        (lambda: Target.threshold(float("nan")), "threshold=nan must be a number"),
        (lambda: Target.threshold(()), "must be a number"),
        (lambda: Target.threshold("0.9"), "threshold='0.9' must be a number"),  # type: ignore[arg-type]
        (lambda: Target.risk("too_late"), "unknown risk 'too_late'.*disagreement, too_early"),
        (lambda: Target.risk("too_early", epsilon=1), "epsilon=1 must lie between 0 and 1"),
        (lambda: Target.risk("too_early", delta=0), "delta=0 must lie between 0 and 1"),
        (
            lambda: Target("threshold", 0.5, per_exit=True),
            "per_exit=True needs the target flops, accuracy_drop or near",
        ),
        (lambda: Target("full_depth", True, calibrate=True), "does not fit full_depth"),
        (lambda: Target("full_depth", False), "full_depth=False must be True"),
        # -- per cent is not taken for a fraction; costs of the record: 0.3, 0.5, 0.7, 0.9 --
        (lambda: Target.flops(7).check(RECORD), re.escape("full depth, which costs 0.9; did you mean 0.07?")),
        (lambda: Target.flops(1.2).check(RECORD), r"use Target\.full_depth\(\)"),
        (lambda: dx.fit_policy(RECORD, flops=30), "did you mean 0.3"),
        (lambda: Target.flops(1.25).check(DEAR), "costs 1.247"),
        (lambda: Target.shares((0.5, 0.5)).check(RECORD), "must be 4 fractions, one per exit"),
        # -- arguments and files --
        (lambda: Target.from_arguments(), "exactly one of flops, .*; got none"),
        (lambda: Target.from_arguments(flops=0.3, risk="too_early"), "got flops, risk"),
        (lambda: Target.from_dict({}), "target needs exactly one of"),
        (lambda: Target.from_dict({"flops": 0.3, "per_exits": True}), "unknown key in target 'per_exits'"),
        (lambda: Target.from_dict({"flops": 0.3, "temperatures": [1.0]}, "p.json"), "p.json: temperatures="),
    ],
)
def test_a_bad_target_is_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_values_of_numpy_are_numbers() -> None:
    assert Target.flops(np.float32(0.5)) == Target.flops(0.5)
    assert Target.threshold(np.array([0.5, 0.25])) == Target.threshold((0.5, 0.25))  # type: ignore[arg-type]
    assert Target.threshold([0.9]) == Target.threshold(0.9) == Target.threshold(np.float64(0.9))


def test_descriptions() -> None:
    described = {
        Target.flops(0.3): "30 %",
        Target.flops(0.305, per_exit=True, calibrate=True): "30.5 %, per exit, calibrated",
        Target.accuracy_drop(0.01): "drop 1 %",
        Target.near_best(0.01): "best exit − 1 %",
        Target.shares((1.0,)): "shares",
        Target.threshold(0.9): "threshold",
        Target.risk("too_early", epsilon=0.02): "early-exit error ≤ 2 %",
        Target.risk("disagreement"): "disagreement ≤ 1 %",
        Target.full_depth(): "full",
    }
    assert {target: target.describe() for target in described} == described
    assert Target.flops(0.3, per_exit=True, calibrate=True).without_options() == Target.flops(0.3)


def test_a_budget_is_checked_and_capped_by_the_records_costs() -> None:
    for target in (Target.flops(1.0), Target.flops(0.95), Target.accuracy_drop(0.99), Target.full_depth()):
        target.check(RECORD)
    Target.flops(1.248).check(DEAR)  # full depth, rounded up to a tenth of a per cent
    assert Target.flops(1.25).capped(RECORD) == Target.flops(1.0)
    assert dx.fit_policy(DEAR, target=Target.flops(9).capped(DEAR)) == dx.fit_policy(DEAR, flops=1.2472)


def test_policies_of_earlier_versions_say_what_they_were_fitted_to() -> None:
    for name in ("demo", "demo-naive", "demo-cnn"):
        policies = dx.load_run(name).policies()
        assert policies
        for policy in policies.values():
            target = Target.from_dict(policy.fitted["target"])
            assert target.to_dict() == policy.fitted["target"] and target.kind == "flops"


@pytest.mark.slow
@given(targets.filter(lambda t: t.kind not in ("shares", "threshold", "risk")))
def test_a_target_and_its_short_form_fit_alike(target: Target) -> None:
    record = make_record(60, 4)
    if target.kind == "flops" and target.value < 0.3:
        return
    policy = dx.fit_policy(record, target=target)
    assert policy.fitted["target"] == target.to_dict()
    if target.kind != "full_depth":
        short = eval(f"dx.fit_policy(record, {target.to_code()})", {"dx": dx, "record": record})
        assert short == policy and short.fitted == policy.fitted


def test_a_policy_file_keeps_its_target(tmp_path: Path) -> None:
    policy = dx.fit_policy(make_record(100, 4), target=Target.risk("too_early", epsilon=0.1, calibrate=True))
    policy.save(tmp_path / "policy.json")
    loaded = dx.load_policy(tmp_path / "policy.json")
    assert Target.from_dict(loaded.fitted["target"]) == Target.risk("too_early", epsilon=0.1, calibrate=True)
