"""What is shown about one image without attribution: the image, the decision, probable classes."""

from __future__ import annotations

import html

import numpy as np
import numpy.typing as npt
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import fetch_offer, image_walk
from dmpo_explore_app.messages import escape_markdown, with_code
from dmpo_explore_app.services import downloads, image_answers, model_queries, own_runs
from dmpo_explore_app.services.image_answers import ImageAnswers
from dmpo_explore_app.services.images import ChosenImage
from dmpo_explore_app.state import image_choices as image_state

import dmpo_explore as dx

SIDE = 200  # pixels of the image; a click shows it large
WALKING = 40  # pixels of the one that goes through the stages
COARSE = 256  # images of fewer pixels are enlarged without smoothing


def original(image: ChosenImage, record: dx.ExitRecord) -> None:
    """The image at its own colours and aspect, its name, its class and size."""
    name, facts = image.name(record), []
    if image.upload is None:
        facts.append(f"class {record.meta.class_names[record.labels[image.row or 0]]}")
    try:
        pixels, size = image.preview_and_size()
    except (OSError, ValueError) as error:
        if isinstance(image.run, own_runs.OwnRun) and image.run.files is None:
            st.caption("No images were given. The page Bring your own takes them too.")
        else:
            text = f"The image file is missing; these are its recorded answers. {with_code(error)}"
            st.info(text, icon=":material/hide_image:")
    else:
        draw(pixels, name)
        facts.append("{} × {} pixels".format(*size))
        if max(size) > dx.figures.LONGEST_SHAPE * min(size):
            facts.append("the middle is shown")
    st.caption(f"**{escape_markdown(name, 80)}**  \n{escape_markdown(', '.join(facts), 120)}")


def draw(pixels: npt.NDArray[np.uint8], alt: str) -> None:
    """An image (H, W, 3) in its aspect within `SIDE` pixels; small ones sharp, all of them large on a click."""
    height, width = pixels.shape[:2]
    if coarse := max(height, width) < COARSE:
        pixels = pixels.repeat(factor := -(-2 * SIDE // max(height, width)), axis=0).repeat(factor, axis=1)
    with st.container(width=max(1, round(SIDE * min(1, width / height)))):
        st.image(pixels, alt=alt, width="stretch", output_format="PNG" if coarse else "JPEG")


def answers_about(image: ChosenImage, record: dx.ExitRecord, policy: dx.Policy, place: str = "") -> ImageAnswers | None:
    """The answers about ``image``; None, and a notice, where the model is needed and unavailable. ``place``: as in
    `fetch_offer.offer`."""
    answers = None
    try:
        with st.spinner("Computing the answers …"):
            answers = image_answers.answers_about(image, record, policy)
            return image_answers.with_logits(answers) if image_state.with_model() else answers
    except model_queries.UNAVAILABLE as error:
        unavailable(error, image.run, place)
        return answers


def unavailable(error: Exception, run: dx.Run, place: str = "") -> None:
    """What is shown without a model; weights that can be fetched are offered, else the reason is named."""
    wanted = downloads.missing_weights_of(run)
    if wanted is not None:
        without = "Recorded images have their recorded answers; files, edits and attribution need the model."
        fetch_offer.offer(wanted, without, place)
        return
    messages.notice(f"The model is not available, so only recorded images have answers. {with_code(error)}")


def decision(answers: ImageAnswers) -> None:
    names, exit = answers.record.meta.class_names, answers.exit
    known = "" if answers.label is None else ", correct" if answers.prediction == answers.label else ", incorrect"
    confidence, share = answers.calibrated.confidence[0, exit], answers.record.flops_fraction[exit]
    prediction = f"{html.escape(names[answers.prediction])} at {confidence:.1%}{known}"
    st.html(
        f'<p class="dx-why">{html.escape(answers.trace.sentence())} <b>Prediction: {prediction}</b>, for {share:.1%} '
        f"of the {'reference' if own_runs.is_own(answers.image.run) else 'plain backbone'}'s compute.</p>"
    )
    st.html(image_walk.walk(answers, small(answers.image), answers.label))
    if answers.one.logits is None and own_runs.is_own(answers.image.run):
        st.caption("These scores hold no logits, so only the predicted class of every exit is known.")
    elif answers.record.logits is None and answers.image.row is not None:
        text = "The record holds no logits, so only the predicted class of every exit is known."
        st.toggle("Other classes, from the model", key=image_state.QUERY, help=text, persist_state="session")


def small(image: ChosenImage) -> str | None:
    """A data URI of the image as it goes through the stages; None where it cannot be read."""
    try:
        return dx.figures.thumbnail_address(image.preview_and_size()[0], WALKING)
    except (OSError, ValueError):
        return None
