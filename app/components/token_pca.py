"""Patch tokens at each exit: their principal components as colours, in a thin row below the maps."""

from __future__ import annotations

import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import widgets
from dmpo_explore_app.services import model_queries
from dmpo_explore_app.services.image_answers import ImageAnswers
from dmpo_explore_app.state import image_choices as state

import dmpo_explore as dx

HIGH, PANELS = 150, 7  # pixels of a line of panels; panels in it
EXPLANATION = (
    "Patches of one colour have similar tokens at that exit, as the predictor reads them. Red, green and blue are the "
    "first three principal components of the image's patch tokens, grey is the mean patch. Components are matched from "
    "exit to exit, so that colours can be compared. They show what differs **within** this image; the maps above "
    "show what the prediction depends on."
)


def row(answers: ImageAnswers) -> dict[str, go.Figure]:
    """The switch and the panels; the figure that is shown."""
    if not st.toggle("Patch tokens at each exit", key=state.TOKENS, help=EXPLANATION, persist_state="session"):
        return {}
    try:
        with st.spinner("Computing the patch tokens …"):
            found = model_queries.patch_components(answers.image)
    except model_queries.UNAVAILABLE as error:
        messages.problem("The patch tokens cannot be shown here.", error)
        return {}
    labels = [f"Exit {k}" for k in range(1, len(found) + 1)]
    pixels = model_queries.model_input(answers.image)
    figure = dx.figures.token_colours_figure([one.rgb() for one in found], labels, pixels)
    shares = "; ".join(f"{name} {one.shares.sum():.0%}" for name, one in zip(labels, found, strict=True))
    st.caption(f"Share of the variance in the three: {shares}.")
    thin = HIGH * -(-(len(found) + 1) // PANELS)
    widgets.chart(figure, "tokens", thin, f"Patch tokens of every exit as colours: {shares}.")
    return {"tokens": figure}
