"""One image: the answers of all exits, the decision of a policy, similar images, and attribution maps. Recorded images
need no model until an explanation is requested; own scores have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import (
    answer_panels,
    attribution_panel,
    image_edit,
    image_picker,
    run_picker,
    share,
    similar_images,
    threshold_controls,
    token_pca,
    widgets,
)
from dmpo_explore_app.components.progress import waiting_notice
from dmpo_explore_app.services import model_queries, models, own_runs
from dmpo_explore_app.services.image_answers import ImageAnswers, python_code
from dmpo_explore_app.services.images import ChosenImage
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.state import (
    attribution,
    choices,
    events,
    image_choices,
    opened_scores,
    operating_point,
    sequence,
    url,
)
from streamlit.delta_generator import DeltaGenerator

import dmpo_explore as dx

KEYS = (*choices.KEYS, *operating_point.KEYS, *image_choices.ADDRESS, *sequence.ADDRESS, *attribution.ADDRESS)


def page() -> None:
    events.keep_choices(False)
    names = opened_scores.names()
    if not names:
        widgets.no_runs()
        return
    sequence.follow(KEYS)
    with messages.problems("This run cannot be shown."), waiting_notice():
        workbench(names)


def workbench(names: Sequence[str]) -> None:
    places: list[DeltaGenerator] = []
    point = run_picker.choose(names, lambda point: places.append(row(point)))
    if point is None:
        return
    chosen = image_picker.choose(point)
    attribution.validate(point.record.meta.class_names)
    if chosen is None:
        prepare_model(point.run)
    else:
        show(chosen, point.record, point.policy, places[0])
    url.write(**operating_point.address(point), **sequence.address(chosen, point.record), **attribution.address())


def row(point: OperatingPoint) -> DeltaGenerator:
    """The threshold in the row of choices, and a place after it."""
    threshold_controls.text_field(point)
    return st.container(width="content")


def prepare_model(run: dx.Run) -> None:
    """Load the model before an image is uploaded; report at once if it is unavailable."""
    try:
        models.model(run)
    except model_queries.UNAVAILABLE as error:
        answer_panels.unavailable(error, run)


def show(chosen: ChosenImage, record: dx.ExitRecord, policy: dx.Policy, top: DeltaGenerator) -> None:
    has_model = not own_runs.is_own(chosen.run)
    with st.container(key="halves"):
        left, right = st.columns([2, 9], gap="medium")
    with left:
        answer_panels.original(chosen, record)
    with right:
        answers = answer_panels.answers_about(chosen, record, policy)
        if answers is None:
            return
        similar_images.novelty_warning(answers)
        answer_panels.decision(answers)
    charts: dict[str, go.Figure] = {}
    if has_model:
        image_edit.section(answers)
        charts |= attribution_panel.section(answers)
        charts |= token_pca.row(answers)
    else:
        st.caption("Patch tokens and the maps of where each exit looks need the model itself. Own scores have none.")
    similar_images.similar_images(answers)
    with top:
        share_popover(answers, charts)


def share_popover(answers: ImageAnswers, charts: Mapping[str, go.Figure]) -> None:
    question = attribution.question(answers.one, answers.exit)
    share.popover(
        f"{answers.image.run.name}-{answers.image.name(answers.record)}",
        {"thresholds": answers.policy} if answers.record.n_exits > 1 else {},
        {"exits": partial(dx.analysis.trace_table, answers.calibrated, answers.trace)},
        {name: partial(go.Figure, figure) for name, figure in charts.items()},
        partial(python_code, answers, question),
        link=answers.image.row is not None and not own_runs.is_own(answers.image.run),
        besides=sequence.not_in_address(answers.record),
    )


page()
