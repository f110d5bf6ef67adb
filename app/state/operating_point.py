"""The operating point: thresholds set by hand, one for all exits or one each, or fitted to a target. They are kept as
text under `THRESHOLD`, numbers with commas between, as in the address. Slider, curve and links only write that text;
`validate` checks it before the widgets are drawn, `current` reads it afterwards. When run or policy change, the target
is fitted again, and thresholds set by hand become the one of equal compute."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import streamlit as st
from dmpo_explore_app.messages import escape_markdown, notice, with_code
from dmpo_explore_app.services import own_runs, policies, records
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.state import calibration, choices, targets, url
from dmpo_explore_app.state.redraw import Fragments, redraw
from dmpo_explore_app.state.targets import KIND, KINDS, TARGETS, THRESHOLD

import dmpo_explore as dx

SLIDER = "threshold_slider"  # key of the component
MOST_TEXT = 20_000  # characters of thresholds that are set by hand
RECORD = "record"  # of the address: the digest of the record that its thresholds were fitted on
_SET = "_set_by_hand"  # thresholds were set and are to be validated
_LINK = "_from_link"  # an address was taken over and is to be validated
_OF = "_thresholds_of"  # ((run, policy, calibrated), kind) that the text belongs to
_COMPUTE = "_compute"  # mean compute on screen, kept when run or policy change


KEYS = (THRESHOLD, RECORD, calibration.KEY, *TARGETS)  # of the address and of the state


def follow(keys: Iterable[str]) -> bool:
    """Take over the address of a page with an operating point; see `url.follow`."""
    if taken := url.follow(keys):
        st.session_state[_LINK] = True
    return taken


# -- what the widgets may hold --


def per_exit_possible(run: dx.Run, split: str, name: str) -> bool:
    """Whether each exit can have a threshold of its own."""
    return records.record(run, split).n_exits > 2 and dx.POLICIES[name].per_exit_thresholds


def fitted(run: dx.Run, name: str) -> dx.Policy | None:
    """The policy fitted to the target that is set; raises OSError or ValueError where it cannot be met."""
    wanted = targets.chosen()
    return None if wanted is None else policies.fitted(run, name, wanted)


# -- validation --


def current(run: dx.Run, split: str) -> OperatingPoint:
    """The operating point under the chosen policy; what was set since the last `validate` is validated here."""
    name = str(st.session_state[choices.POLICY])
    policy = None if st.session_state.get(_SET) else _validated(run, split, name)
    return OperatingPoint(run, split, policy or validate(run, split, name))


def _validated(run: dx.Run, split: str, name: str) -> dx.Policy | None:
    """The policy as `validate` left it, without a write: its widgets may be drawn already; None if it fits no more."""
    base, n_exits = policies.base(run, split, name, calibration.on()), records.record(run, split).n_exits
    if n_exits == 1:
        return replace(base, thresholds=(base.threshold_none,))
    given, policy = _parsed(base, st.session_state.get(THRESHOLD), n_exits, tell=False), fitted(run, name)
    return policy if policy is not None and given is not None and policy.thresholds == given.thresholds else given


def validate(run: dx.Run, split: str, name: str) -> dx.Policy:
    """The policy with its thresholds; afterwards the state is what its widgets may hold."""
    state, base = st.session_state, policies.base(run, split, name, calibration.on())
    state.pop(_SET, None)
    n_exits, link = records.record(run, split).n_exits, state.pop(_LINK, False)
    if link:  # an address is complete: nothing of what was on screen before counts
        state.pop(_OF, None)
        state.pop(_COMPUTE, None)
    if n_exits == 1:  # nothing to validate, and the next run should find what the last one left
        if link:
            state.update(dict.fromkeys((THRESHOLD, *TARGETS)) | {KIND: "one"})
        return replace(base, thresholds=(base.threshold_none,))
    made = state.pop(RECORD, None)
    if absent := _of_absent_run(run, link):
        state.update({THRESHOLD: None, _OF: None})
        state.pop(_COMPUTE, None)
    if foreign := link and made and not absent and made != policies.digest(run, split):
        state[THRESHOLD] = None
    of, before = (run.name, name, calibration.on()), state.get(_OF) or (None, None)
    given = _parsed(base, state.get(THRESHOLD), n_exits, tell=link or before[0] == of)
    kind = KINDS[given is not None and len(given.thresholds) > 1] if link else state.get(KIND) or "one"
    state[KIND] = kind if per_exit_possible(run, split, name) else "one"
    targets.validate(run, name)
    if given is not None and (link or before == (of, state[KIND])):
        policy = _fitted_or_by_hand(run, given)
    else:
        policy = _anew(run, split, base, given, before[0] == of)
    state[_OF], state[THRESHOLD] = (of, state[KIND]), text(policy)
    if foreign:
        here, aim = escape_markdown(run.name), f" ({targets.in_words()})" * bool(targets.in_words())
        notice(f"This link was made for another record than {here} has now; its thresholds are fitted again{aim}.")
    return policy


def _of_absent_run(run: dx.Run, link: bool) -> bool:
    """Whether the thresholds belong to a run that is gone, and ``run`` is shown in its place."""
    before = (st.session_state.get(_OF) or (None,))[0]
    name = st.query_params.get(choices.RUN) if link else before and before[0]
    if name in (None, run.name) or (not link and name.endswith(own_runs.YOURS)):  # own scores may come back
        return False
    return name not in dx.list_runs()


def text(policy: dx.Policy) -> str:
    """Its thresholds as the address has them."""
    return ",".join(str(threshold) for threshold in policy.thresholds)


def _parsed(base: dx.Policy, given: object, n_exits: int, tell: bool) -> dx.Policy | None:
    if not isinstance(given, str):
        return None
    try:
        policy = replace(base, thresholds=tuple(float(number) for number in given.split(",")))
        policy.check(n_exits)
        by_hand = dx.Target.threshold(policy.thresholds, calibrate=bool(policy.temperatures))
        policy = replace(policy, fitted=policy.fitted | {"target": by_hand.to_dict()})
    except ValueError as error:
        if tell:
            notice(f"These thresholds cannot be used; showing the usual one. {with_code(error)}")
        return None
    return policy


def _fitted_or_none(run: dx.Run, name: str) -> dx.Policy | None:
    """As `fitted`; a target that cannot be met gives a notice and is cleared."""
    try:
        return fitted(run, name)
    except (OSError, ValueError) as error:
        notice(f"The target cannot be met. {with_code(error)}")
        targets.clear()
        return None


def _fitted_or_by_hand(run: dx.Run, given: dx.Policy) -> dx.Policy:
    """The fitted policy, which holds its target, if it has the given thresholds; else no target is set."""
    policy = _fitted_or_none(run, given.name)
    if policy is not None and policy.thresholds == given.thresholds:
        return policy
    targets.clear()
    return given


def _anew(run: dx.Run, split: str, base: dx.Policy, given: dx.Policy | None, only_kind: bool) -> dx.Policy:
    """For another run, policy or kind: fitted to the target; ``given``, if only the kind changed; of equal compute."""
    state, n_exits = st.session_state, records.record(run, split).n_exits
    if given is None and state.get(_OF) is None:
        targets.target_of_a_first_visit(run, base.name)
    policy = _fitted_or_none(run, base.name)
    if policy is None:
        policy = given if only_kind else None
    if policy is None:
        table = policies.trade_off(run, split, base.name, calibration.on())
        costs = table["flops_fraction"]
        place = int((costs - state.get(_COMPUTE, float(costs.mean()))).abs().argmin())
        policy = replace(base, thresholds=(table["threshold"].tolist()[place],))
    if state[KIND] == "per exit" and len(policy.thresholds) == 1:
        return replace(policy, thresholds=policy.thresholds * (n_exits - 1))
    if state[KIND] == "one" and len(policy.thresholds) > 1:
        return replace(policy, thresholds=(float(np.median(policy.thresholds)),))
    return policy


def forget() -> None:
    """Begin as on a first visit: another record may take the place of one of the same name."""
    targets.clear()
    for key in (_OF, _SET, _LINK, _COMPUTE, THRESHOLD):
        st.session_state.pop(key, None)


# -- what the controls write --


def set_by_hand(thresholds: str, fragments: Fragments = Fragments()) -> None:  # noqa: B008 - it cannot change
    """In a callback: take over thresholds from a slider, the curve or a text field; `validate` checks them."""
    state, before = st.session_state, _controls()
    targets.clear()
    state[THRESHOLD], state[KIND] = thresholds[:MOST_TEXT], KINDS["," in thresholds]
    state[_OF], state[_SET] = ((state.get(_OF) or (None,))[0], state[KIND]), True
    redraw(fragments.thresholds if _controls() == before else fragments.controls)


def _controls() -> list[object]:
    return [st.session_state.get(key) for key in (KIND, *TARGETS)]


def typed() -> None:
    set_by_hand(str(st.session_state[THRESHOLD]))


# -- the address --


def address(point: OperatingPoint) -> dict[str, str]:
    """Run, split, policy and, where there is something to choose, thresholds, calibration and target."""
    parts = {choices.RUN: point.run.name, choices.SPLIT: point.split, choices.POLICY: point.policy.name}
    if point.record.n_exits == 1:
        return parts
    return parts | thresholds_and_record(point) | settings()


def thresholds_and_record(point: OperatingPoint) -> dict[str, str]:
    """Thresholds, and the record that they belong to, as the address has them."""
    return {THRESHOLD: text(point.policy), RECORD: policies.digest(point.run, point.split)}


def settings() -> dict[str, str]:
    """Calibration and target, as the address has them."""
    state = st.session_state
    parts = {calibration.KEY: "1"} if calibration.on() else {}
    return parts | {key: f"{value:g}" for key in TARGETS if (value := state.get(key)) is not None}


def keep_compute(point: OperatingPoint) -> None:
    """Remember the mean compute on screen, for when run or policy change."""
    if point.record.n_exits > 1:
        st.session_state[_COMPUTE] = float(point.outcome.flops_fraction.mean())
