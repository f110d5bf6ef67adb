"""Session state of the attribution choices on One image: method, target class and baseline."""

from __future__ import annotations

from typing import Final

import streamlit as st
from dmpo_explore_app.messages import escape_markdown, notice
from dmpo_explore_app.services.attribution_methods import BASELINES, METHODS, REFUSED
from dmpo_explore_app.services.model_queries import Question
from dmpo_explore_app.state import choices

import dmpo_explore as dx

METHOD, TARGET, BASELINE = ADDRESS = ("method", "target", "baseline")  # of the address and of the state
DEFAULT_METHOD, DEFAULT_BASELINE = "token_grad_cam", "black"
SCORE: Final = "score"  # as `dx.compare_exits` takes it
LAST, HERE = "last", "here"
TARGETS = {
    SCORE: "each exit's confidence, which decides",
    LAST: "the last exit's prediction",
    HERE: "the prediction of the exit taken",
}
CANCEL = "cancel maps"  # key of a button


def validate(class_names: tuple[str, ...]) -> None:
    """Replace choices that are not offered by the defaults, and report them; a class of other names without words."""
    state, asked = st.session_state, st.session_state.get(METHOD)
    if asked in REFUSED:
        reason = escape_markdown(dx.attribution.REFUSED[str(asked)], 400)
        notice(f"{escape_markdown(asked)} is not offered: {reason}.")
        state[METHOD] = None
    choices.validate(METHOD, list(METHODS), DEFAULT_METHOD, "method")
    choices.validate(BASELINE, list(BASELINES), DEFAULT_BASELINE, "baseline")
    choices.keep_for(TARGET, class_names)
    target, n_classes = state.get(TARGET), len(class_names)
    if isinstance(target, str) and target.isdecimal() and len(target) < 10 and 1 <= int(target) <= n_classes:
        state[TARGET] = int(target)
    elif target not in (*TARGETS, *range(1, n_classes + 1)):
        if target is not None:
            notice(f"There is no class {escape_markdown(repr(target), 60)}; explaining each exit's confidence.")
        state[TARGET] = SCORE


def address() -> dict[str, str]:
    """Query parameters of the choices that differ from the defaults."""
    default = {METHOD: DEFAULT_METHOD, TARGET: SCORE, BASELINE: DEFAULT_BASELINE}
    return {key: str(st.session_state[key]) for key in ADDRESS if st.session_state[key] != default[key]}


def question(one: dx.ExitRecord, exit: int) -> Question:
    """The validated choices for an image that exits at ``exit`` (0-based); ``one``: its record of one image."""
    asked, predicted = st.session_state[TARGET], one.prediction[0]
    if asked == SCORE:
        return Question(st.session_state[METHOD], SCORE, st.session_state[BASELINE])
    target = int(predicted[-1]) if asked == LAST else int(predicted[exit]) if asked == HERE else int(asked) - 1
    return Question(st.session_state[METHOD], target, st.session_state[BASELINE])
