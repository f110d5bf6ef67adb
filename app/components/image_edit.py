"""Edit and see: the image cropped, blurred, greyed, turned or covered, and how its way through the stages changes."""

from __future__ import annotations

import html

import streamlit as st
from dmpo_explore_app.components import answer_panels, image_walk
from dmpo_explore_app.messages import with_code
from dmpo_explore_app.services import images
from dmpo_explore_app.services.image_answers import ImageAnswers
from dmpo_explore_app.state import image_choices as state

import dmpo_explore as dx


def section(answers: ImageAnswers) -> None:
    with st.container(horizontal=True, gap="medium", vertical_alignment="center", key="picture_edit"):
        st.markdown("**Edit and see**", width="content")
        name = st.pills("Edit", list(dx.data.EDITS), key=state.EDIT, label_visibility="collapsed", width="content")
        if name is None:
            return
        amount = st.slider(
            "Amount", 0, 100, 40, 5, key=state.AMOUNT, format="%d%%", width=240, label_visibility="collapsed"
        )
    try:
        image = images.edited(answers.image, name, amount / 100)
    except (OSError, ValueError) as error:
        st.caption(f"The image itself is needed. {with_code(error)}")
        return
    now = answer_panels.answers_about(image, answers.record, answers.policy, " edited")
    if now is None:
        return
    names = answers.record.meta.class_names
    with st.container(key="halves_edit"):
        left, right = st.columns([2, 9], gap="medium")
    with left:
        answer_panels.draw(image.preview_and_size()[0], f"The image after the edit: {name}")
    moved = f"exit {now.exit + 1}" + (f" instead of {answers.exit + 1}" if now.exit != answers.exit else " as before")
    right.html(
        f'<p class="dx-why">Edited, it exits at {moved}: {html.escape(names[now.prediction])}.</p>'
        f"{image_walk.walk(now, answer_panels.small(image), answers.label)}"
    )
