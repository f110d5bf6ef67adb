"""Attribution of One image: method, class and baseline, and the maps of all exits side by side.

Cheap methods run at once; the others, like the check of the maps, run when their button is pressed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import attribution_quality, fetch_offer
from dmpo_explore_app.components.progress import progress_bar
from dmpo_explore_app.messages import escape_markdown
from dmpo_explore_app.services import downloads, model_queries
from dmpo_explore_app.services.attribution_methods import BASELINES, METHODS
from dmpo_explore_app.services.image_answers import ImageAnswers
from dmpo_explore_app.services.images import ChosenImage
from dmpo_explore_app.services.model_queries import Question
from dmpo_explore_app.state import attribution as state

import dmpo_explore as dx

UNITS = {"share": "share of the map", "logit": "as measured"}
GRAINS = ("patches", "pixels")
UNIT_HELP = (
    "**Share of the map**: every map divided by the sum of its absolute values, so that locations can be compared. "
    "**As measured**: logits have another scale at every exit."
)


def section(answers: ImageAnswers) -> dict[str, go.Figure]:
    """Choices, maps and their quality; the figures that are shown."""
    st.header("Where does each exit look?", anchor=False)
    _controls(answers)
    question = state.question(answers.one, answers.exit)
    st.caption(METHODS[question.method].explanation)
    maps = _maps(answers.image, question)
    if maps is None:
        return {}
    labels = [f"Exit {k + 1}" for k in maps.exits]
    charts = _charts(answers, maps, labels, question)
    attribution_quality.section(answers.image, maps, question, labels)
    return charts


def _controls(answers: ImageAnswers) -> None:
    names = dx.figures.unique_labels(answers.record.meta.class_names, 60)

    def words(target: str | int) -> str:  # the same for every image: a browser keeps a choice by its words
        return names[target - 1] if isinstance(target, int) else state.TARGETS[target]

    with st.container(horizontal=True, gap="small", vertical_alignment="bottom", key="explain"):
        st.selectbox("Method", list(METHODS), format_func=_title, key=state.METHOD, width=230, persist_state="session")
        st.selectbox(
            "Target class",
            [state.LAST, state.HERE, *range(1, len(names) + 1)],
            format_func=words,
            key=state.TARGET,
            width=300,
            persist_state="session",
        )
        st.selectbox(
            "Baseline",
            list(BASELINES),
            format_func=BASELINES.__getitem__,
            key=state.BASELINE,
            width=270,
            persist_state="session",
        )


def _title(method: str) -> str:
    return METHODS[method].title


# -- maps --


def _maps(image: ChosenImage, question: Question) -> dx.ExitComparison | None:
    """The maps if they are cached, cheap or requested; else None, and the button that requests them."""
    if (cached := model_queries.cached_maps(image, question)) is not None:
        return cached
    request = (*image.key, *question)
    if not METHODS[question.method].cheap and not state.maps_requested(request):
        st.button(
            "Explain every exit",
            icon=":material/frame_inspect:",
            type="primary",
            on_click=state.request_maps,
            args=(request,),
        )
        st.caption("This takes many passes of the model, on two CPU cores usually several seconds.")
        return None
    title = _title(question.method)
    try:
        with progress_bar(title) as progress:
            return model_queries.attribution_maps(image, question, progress)
    except model_queries.UNAVAILABLE as error:
        state.request_maps(None)
        wanted = downloads.missing_weights_of(image.run)
        if wanted is None:
            messages.problem(f"{title} is not available here.", error)
        else:
            fetch_offer.offer(wanted, f"{title} needs the model. The answers above are recorded.", " maps")
        return None


def _charts(
    answers: ImageAnswers, found: dx.ExitComparison, labels: Sequence[str], question: Question
) -> dict[str, go.Figure]:
    """The map of every exit, and the difference to the exit before."""
    as_shares, maps = _display_choices(found)
    heats = maps.shares if as_shares else maps.heat
    unit = "share" if as_shares else found.attributions[0].unit
    signed = METHODS[question.method].signed
    pixels = model_queries.model_input(answers.image)
    name = answers.record.meta.class_names[question.target]
    figure = dx.figures.exit_maps_figure(pixels, heats, labels, signed=signed, unit=unit)
    charts = {"maps": figure}
    _drawn(figure, "maps", f"{_title(question.method)} for {name}: one map for each exit.")
    against = " (orange) and evidence against it (blue)" if signed else ""
    st.caption(f"Evidence for {escape_markdown(name)}{against}, on one scale.")
    if len(labels) > 1:
        st.subheader("Difference of each exit to the one before", anchor=False)
        changes = maps.differences(shares=as_shares)
        figure = dx.figures.difference_maps_figure(pixels, changes, labels, unit=unit)
        charts["differences"] = figure
        values = maps.similarity().diagonal(1)
        similarities = ", ".join(messages.signed(float(value)).removeprefix("+") for value in values)
        _drawn(figure, "differences", "Each exit's map minus the one before it.")
        st.caption(f"Cosine similarity of neighbouring maps: {similarities}. 1: the same locations.")
    return charts


def _display_choices(found: dx.ExitComparison) -> tuple[bool, dx.ExitComparison]:
    """Whether maps are shown as shares; the maps at the chosen resolution."""
    grids = {attribution.tokens.shape for attribution in found.attributions}
    with st.container(horizontal=True, gap="small", key="drawn"):
        unit = st.segmented_control(
            "Scale", list(UNITS), format_func=UNITS.__getitem__, default="share", required=True, help=UNIT_HELP
        )
        grain = "pixels"
        if len(grids) == 1:  # else the cells of two exits are not the same locations
            grain = st.segmented_control("Grain", GRAINS, default=GRAINS[0], required=True)
    if grain == "pixels":
        return unit == "share", found
    return unit == "share", replace(
        found, attributions=tuple(replace(one, heat=one.tokens) for one in found.attributions)
    )


def _drawn(figure: go.Figure, key: str, alt: str) -> None:
    with st.container(key=f"scrolled_{key}"):  # on a phone, where maps would be too small to read
        st.html('<p class="dx-sideways" tabindex="0">Scroll sideways to see all exits.</p>')
        st.plotly_chart(figure, key=key, config={"displayModeBar": False}, alt=alt)
