"""Novelty of an image, and the recorded images with the most similar answers."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import gallery
from dmpo_explore_app.components.clickable import clickable
from dmpo_explore_app.messages import escape_markdown
from dmpo_explore_app.services import image_answers, thumbnails
from dmpo_explore_app.services.image_answers import ImageAnswers
from dmpo_explore_app.services.images import ChosenImage
from dmpo_explore_app.state import image_choices as image_state

NOVEL = 0.99  # share of the val images with closer neighbours from which an image counts as novel


def novelty_warning(answers: ImageAnswers) -> None:
    try:
        share, _ = image_answers.novelty(answers)
    except (OSError, ValueError):  # of a val record that is broken or stale
        return
    if share >= NOVEL:
        messages.notice(
            "**Its answers are unlike those on val.** Its nearest neighbours there are farther away than those of "
            f"{share:.1%} of the val images. It may be out of distribution, or hard."
        )


def similar_images(answers: ImageAnswers) -> None:
    """Gallery of the recorded images with the most similar answers; a click opens one."""
    st.header("Images with similar answers", anchor=False)
    rows, by = image_answers.similar(answers)
    exits = answers.policy.exits(answers.record)
    body = gallery.figures(answers.record, exits, rows, _thumbnails(answers.image))
    clickable(f'<div class="dx-near">{body}</div>', "near", image_state.open_clicked)
    what = "all exits' logits" if by == "logits" else "every exit's prediction and confidence"
    split = escape_markdown(answers.image.split)
    st.caption(f"The nearest of {answers.record.n_images:,} images of {split} by {what}. Click one to open it.")


def _thumbnails(image: ChosenImage) -> Callable[[int], str] | None:
    try:
        return thumbnails.thumbnails(image.run, image.split)
    except (OSError, ValueError):  # `answer_panels.original` reports it
        return None
