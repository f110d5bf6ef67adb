"""Run, split and policy: the choices that pages share, kept in the session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st
from dmpo_explore_app.messages import escape_markdown, notice
from dmpo_explore_app.services import own_runs
from dmpo_explore_app.services.policies import unavailable_reason
from dmpo_explore_app.services.run_facts import USUAL_POLICY
from dmpo_explore_app.state import url

import dmpo_explore as dx

RUN, SPLIT, POLICY = KEYS = ("run", "split", "policy")  # of the address and of the state
DEFAULT_RUN = "demo"
BASELINES = ("random", "fixed")  # policies that only serve comparison
WITH_BASELINES = "with_baselines"  # key of their checkbox
_AWAY = "_own_run_away"  # own scores that a page could not show, their split, and the run it showed instead


def rules() -> dict[str, str]:
    """The rules of all policies that can be chosen, those of plug-ins too, by name."""
    return {name: kind.rule for name, kind in dx.POLICIES.items() if kind.deployable}


def validate(key: str, options: Sequence[str], default: str, what: str, names: Mapping[str, str] | None = None) -> str:
    """The value of widget ``key``, one of ``options``, else ``default`` with a notice; ``names``: as they are shown."""
    value = st.session_state.get(key)
    if value in options:
        return str(value)
    if value is not None:
        shown = (names or {}).get(default, default)
        notice(f"There is no {what} {escape_markdown(repr(value), 60)} here; showing {escape_markdown(shown)}.")
    st.session_state[key] = default
    return default


def keep_for(key: str, of: object) -> None:
    """Drop the value of widget ``key`` if it was chosen for something else than ``of``; a text is of an address."""
    state, kept = st.session_state, f"_{key}_of"
    if not isinstance(state.get(key), str) and state.get(kept, of) != of:
        state[key] = None
    state[kept] = of


def images_of(record: dx.ExitRecord) -> tuple[str, str, int, str]:
    """Data, split, number and hash of images: records of the same images have the same."""
    return record.meta.data, record.meta.split, record.n_images, record.meta.images_sha256


def validate_run(names: Sequence[str]) -> str:
    """The chosen run, one of ``names``. Own scores that a page cannot show come back on the next page that can."""
    state = st.session_state
    own, split, instead = state.get(_AWAY, ("", None, None))
    if own in names:
        del state[_AWAY]
        if state.get(RUN) == instead and RUN not in st.query_params:
            state.update({RUN: own, SPLIT: split})
    value = str(state.get(RUN) or "")
    if value not in names and value.endswith(own_runs.YOURS):
        name = escape_markdown(value, 60)
        notice(
            f"{name}: own scores have no model and stay in their session, which a reload ends. Explore, Decide and "
            f"One image show those that are open. Showing {escape_markdown(usual_run(names))}."
        )
        state[_AWAY], state[RUN] = (value, state.get(SPLIT), usual_run(names)), None
    return validate(RUN, names, usual_run(names), "run")


def choose_run(name: str) -> None:
    """Show a run on all pages, whose addresses are not bare from then on."""
    st.session_state[RUN] = name
    url.keep_choices()


def chosen_run(names: Sequence[str]) -> str:
    """The session's run, on a page that has no widget for it; nothing is changed."""
    value = st.session_state.get(RUN)
    return str(value) if value in names else usual_run(names)


def usual_run(names: Sequence[str]) -> str:
    """The run that a new session shows."""
    return DEFAULT_RUN if DEFAULT_RUN in names else names[0]


def validate_split(splits: Sequence[str]) -> str:
    return validate(SPLIT, splits, "test" if "test" in splits else splits[0], "split")


def validate_policy() -> str:
    return validate(POLICY, [*rules()], USUAL_POLICY, "policy")


def validate_policy_of(run: dx.Run, split: str) -> str:
    """The chosen policy's name; one that the run cannot have there gives a notice with the reason."""
    name = validate_policy()
    if reason := unavailable_reason(run, split, name):
        notice(f"{escape_markdown(name)} is unavailable here: {escape_markdown(reason, 300)}. Showing {USUAL_POLICY}.")
        st.session_state[POLICY] = name = USUAL_POLICY
    return name


def baselines() -> bool:
    return st.session_state.get(WITH_BASELINES) is True


def policies(run: dx.Run, split: str) -> list[str]:
    """Policies that this run can have on a split."""
    return [name for name in rules() if not unavailable_reason(run, split, name)]
