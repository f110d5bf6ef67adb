"""What each exit sees: principal components of its patch tokens as colours, beside the image.

In: `ImageAnswers`. Out: a button, then a panel for every exit. The model is asked once the button is pressed.
"""

from __future__ import annotations

import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import widgets
from dmpo_explore_app.services import model_queries
from dmpo_explore_app.services.image_answers import ImageAnswers
from dmpo_explore_app.state import image as state

import dmpo_explore as dx

EXPLANATION = (
    "Patches of one colour have similar tokens at that exit: what the predictor reads. Red, green and blue are the "
    "first three principal components of the image's patch tokens, grey is the mean patch. Components are matched from "
    "exit to exit, so that colours can be compared. They show what differs **within** this image, not what the "
    "prediction depends on: that is what the maps below are for."
)


def section(answers: ImageAnswers) -> dict[str, go.Figure]:
    """The button or the panels; the figure that is shown."""
    st.header("What does each exit see?", anchor=False)
    if not state.tokens_shown():
        st.button("Show the patch tokens", icon=":material/palette:", on_click=state.show_tokens, key=state.TOKENS)
        st.caption("One pass of the model; its patch tokens as colours.")
        return {}
    try:
        with st.spinner("The model is looking …"):
            found = model_queries.patch_components(answers.image)
    except model_queries.UNAVAILABLE as error:
        messages.problem("The patch tokens cannot be shown here.", error)
        return {}
    labels = [f"Exit {k}" for k in range(1, len(found) + 1)]
    pixels = model_queries.model_input(answers.image)
    figure = dx.figures.token_colours_figure([one.rgb() for one in found], labels, pixels)
    shares = "; ".join(f"{name} {one.shares.sum():.0%}" for name, one in zip(labels, found, strict=True))
    widgets.chart(figure, "tokens", 230 if len(found) < 7 else 420, f"Patch tokens of every exit as colours: {shares}.")
    st.caption(f"{EXPLANATION} Share of the variance in the three: {shares}.")
    return {"tokens": figure}
