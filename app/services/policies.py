"""Policies fitted on calibration (or val), their trade-off curves and their outcomes, each computed once and kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

import pandas as pd
import streamlit as st
from dmpo_explore_app.services import own_runs, records
from dmpo_explore_app.services.records import Stamp

import dmpo_explore as dx


@dataclass(frozen=True)
class OperatingPoint:
    """A policy with its thresholds on a recorded split of a run: what a page shows, for as long as it is drawn."""

    run: dx.Run
    split: str
    policy: dx.Policy

    @cached_property
    def record(self) -> dx.ExitRecord:
        """The record as it was written."""
        return records.record(self.run, self.split)

    @cached_property
    def outcome(self) -> dx.Outcome:
        """The exit, prediction and confidence of every image; scores are those that the policy reads."""
        policy = self.policy
        return _outcome(records.stamp(self.run, self.split), policy, repr(policy.to_dict() | {"fitted": None}))


@own_runs.kept_apart
@st.cache_resource(max_entries=32, show_spinner=False)
def _outcome(stamp: Stamp, _policy: dx.Policy, key: str) -> dx.Outcome:
    del key
    temperatures = _policy.temperatures
    record = records.calibrated_at(stamp, temperatures) if temperatures else records.record_at(stamp)
    return dx.Outcome(record, _policy.exits(record))


class Untuned(NamedTuple):
    """A policy before its threshold is chosen, as a key of the caches."""

    learned_on: Stamp
    policy: str
    calibrated: bool  # with a temperature per exit, fitted on the same record


def untuned(run: dx.Run, split: str, policy: str, calibrated: bool) -> Untuned:
    """The key of a policy: learned on `Run.fitting_split`, or where nothing is learned it belongs to the record."""
    learns = calibrated or dx.POLICIES[policy].learns
    return Untuned(records.stamp(run, run.fitting_split if learns else split), policy, calibrated)


def base(run: dx.Run, split: str, policy: str, calibrated: bool = False) -> dx.Policy:
    """The policy with everything that it learns and a placeholder threshold; raises as `dx.fit_policy`."""
    return base_at(untuned(run, split, policy, calibrated))


@lru_cache(maxsize=256)
@st.cache_resource(max_entries=256, show_spinner=False)
def base_at(start: Untuned) -> dx.Policy:
    target = dx.Target.threshold(dx.POLICIES[start.policy].threshold_all, calibrate=start.calibrated)
    return dx.fit_policy(records.record_at(start.learned_on), start.policy, target=target)


def trade_off(run: dx.Run, split: str, policy: str, calibrated: bool = False) -> pd.DataFrame:
    """`dx.trade_off` of the record, thresholds as the policy keeps them: the slider's stops. Not to be changed."""
    return trade_off_at(records.stamp(run, split), untuned(run, split, policy, calibrated))


@lru_cache(maxsize=256)
@st.cache_resource(max_entries=256, show_spinner="Drawing the curve …")
def trade_off_at(stamp: Stamp, start: Untuned) -> pd.DataFrame:
    policy = base_at(start)
    table = dx.trade_off(records.record_at(stamp), policy)
    kept = [replace(policy, thresholds=(t,)).thresholds[0] for t in table["threshold"]]
    return table.assign(threshold=kept).drop_duplicates("threshold", ignore_index=True)


def fitted(run: dx.Run, policy: str, target: dx.Target) -> dx.Policy:
    """The policy fitted to ``target`` on the record of `Run.fitting_split`; raises as `dx.fit_policy`."""
    return _fitted(records.stamp(run, run.fitting_split), policy, target)


def can_fit(run: dx.Run) -> bool:
    return not {"calibration", "val"}.isdisjoint(run.splits())  # those of `Run.fitting_split`


def digest(run: dx.Run, split: str) -> str:
    """The digest of the record that thresholds are fitted on; of the record on screen where there is none to fit on."""
    return records.record(run, run.fitting_split if can_fit(run) else split).digest


def kept(point: OperatingPoint, target: dx.Target) -> str:
    """Whether the target that thresholds were fitted to elsewhere is kept on this record, as a sentence."""
    found, bound = point.outcome.summary(), target.epsilon if target.kind == "risk" else float(target.value)
    measured, words = {
        "flops": (found["flops_fraction"], "{:.1%} compute"),
        "accuracy_drop": (found["accuracy_drop"], "{points} the last exit"),
        "near_best": (max(found["exit_accuracy"]) - found["accuracy"], "{points} the best exit"),
        "risk": (found["too_early"], "{:.2%} early-exit errors"),
    }[target.kind]
    points = f"{100 * abs(measured):.2f} points {'below' if measured > 0 else 'above'}"
    points = "level with" if points.startswith("0.00 ") else points
    least, digits, more = measured, 3 if target.kind == "flops" else 4, ""  # digits: as it is written
    if target.kind == "risk":  # the bound is of all such images: a higher share of these may be chance
        errors = point.outcome.record.correct[:, -1] & ~point.outcome.correct
        least, high = dx.analysis.accuracy_interval(errors)
        more = f" (95%: {least:.2%} to {high:.2%})"
    verdict = "kept" if round(measured, digits) <= round(bound, digits) else "missed"
    if verdict == "missed" and round(least, digits) <= round(bound, digits):
        verdict = "exceeded, but within chance"
    return f"On {point.split} it is {verdict}: {words.format(measured, points=points)}{more}."


def unavailable_reason(run: dx.Run, split: str, policy: str) -> str | None:
    """Why the run cannot have this policy on a split, as plain text; None if it can."""
    kind, record = dx.POLICIES[policy], records.record(run, split)
    if can_fit(run):
        return dx.analysis.unavailable_reason(policy, records.record(run, run.fitting_split), record)
    if kind.learns:
        return "it learns on calibration or val, and neither is recorded"
    return full_depth(policy).unavailable_reason(record)


@st.cache_resource(max_entries=1024, show_spinner="Choosing the threshold …")
def _fitted(stamp: Stamp, policy: str, target: dx.Target) -> dx.Policy:
    return dx.fit_policy(records.record_at(stamp), policy, target=target)


def full_depth(name: str) -> dx.Policy:
    """Policy ``name`` with the threshold at which no image exits early."""
    kind = dx.POLICIES[name]
    return kind((kind.threshold_none,))
