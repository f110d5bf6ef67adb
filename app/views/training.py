"""Training: background trainings, each a process of its own, the curves of any run, and a form that starts one."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress

import streamlit as st
from dmpo_explore_app import access, messages
from dmpo_explore_app.components import fetch_offer, job_cards, learning_curves, training_form, training_plan
from dmpo_explore_app.services import downloads, models
from dmpo_explore_app.state import choices, notes, url
from dmpo_explore_app.state import jobs as state
from dmpo_explore_app.state import training_choices as form_state

import dmpo_explore as dx

LIKE = "like "  # before a run's name: a start of the form
KEYS = (state.RUN, *form_state.ADDRESS)  # of the address and of the state


def page() -> None:
    if name := notes.take(notes.STARTED):
        text = f"{messages.escape_markdown(name)} is being trained; its card is on top of this page."
        st.toast(text, icon=":material/check:")
    names = dx.list_runs()
    if url.follow(KEYS):
        form_state.follow_link()
    job_cards.panel(names)
    first = st.container()  # the form, which begins with the run whose curves stand below it
    if names:
        curves(names)
    with first:
        form(names)


def curves(names: Sequence[str]) -> None:
    name = choices.validate_run(names)
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom", key="choices"):
        st.selectbox("Run", names, key=state.RUN, width=240, persist_state="session")
        facts, top = st.container(), st.container(width="content")
    try:
        run = dx.load_run(name)
        learning_curves.curves(run, facts, top)
    except (OSError, ValueError) as error:
        messages.problem(f"The training curves of {messages.escape_markdown(name)} cannot be shown.", error)


def form(names: Sequence[str]) -> None:
    """The form of a new training, or the command where other machines can reach this app."""
    st.header("Train your own", anchor=False)
    if not access.is_private():
        st.info(
            "This app can be reached from other machines, so trainings are started on its own machine: "
            "`dmpo-explore train --data grocery --epochs 3 --name mine --record`.",
            icon=":material/lock:",
        )
        url.write(run=state.shown_run())
        return
    st.fragment(_form)(tuple(names))


def _form(names: Sequence[str]) -> None:
    with st.container(key="halves"):
        left, right = st.columns([7, 5], gap="medium")
    with left, st.container(border=True):
        training_form.draw(_shown_config(names))
    url.write(run=state.shown_run(), **form_state.address())
    with right:
        name, config = form_state.name(), None
        try:
            config = form_state.read()
            dx.jobs.check_name(name)
            models.check_ready(config)
            training_plan.planned(config)
        except (OSError, ValueError) as error:
            wanted = [] if config is None else downloads.missing(config)
            for one in wanted:
                fetch_offer.offer(one, "A training needs it; the form and the curves do not.")
            if not wanted:
                training_form.warn(error)
            return
        with st.container(border=True):
            training_plan.start_controls(config, name)
        st.caption("The same in a terminal:")
        command = ["dmpo-explore", "train", *config.to_arguments(), "--name", name, "--record"]
        st.code(shlex.join(command), language="sh", wrap_lines=True)


def _shown_config(names: Sequence[str]) -> dict[str, dx.Config]:
    """The configs of the run whose curves are shown, and of one that a link's form begins with, as presets."""
    found = dict[str, dx.Config]()
    for name in (state.shown_run(), form_state.linked().removeprefix(LIKE)):
        with suppress(OSError, ValueError):  # `curves` reports it
            found |= {f"{LIKE}{name}": dx.load_run(name).config} if name in names else {}
    return found


page()
