"""Quality of attribution maps: convergence delta, infidelity and insertion of every exit, as a table."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components.progress import progress_bar
from dmpo_explore_app.services import model_queries
from dmpo_explore_app.services.images import ChosenImage
from dmpo_explore_app.services.model_queries import Question
from dmpo_explore_app.state import notes, panels

import dmpo_explore as dx

EXPLANATIONS = (
    "**Convergence delta**: difference between the sum of the map and the change in what is explained; up to 5% of "
    "it, or of 1 logit if that is more, counts as good (our bound).",
    "**Unexplained** (infidelity as a share): random patches are hidden; 0%: the map predicts the change exactly, "
    "100%: no better than an empty map.",
    "**Insertion**: mean probability of the class while patches are shown, most important first; it should exceed that "
    "of a random order.",
)


def section(image: ChosenImage, maps: dx.ExitComparison, question: Question, labels: Sequence[str]) -> None:
    """A closed section with a row for each exit; infidelity and insertion after a button: they take many passes."""
    title = "Can these maps be trusted?"
    with st.expander(title, icon=":material/fact_check:", key=panels.QUALITY, on_change="rerun") as box:
        if not box.open:
            return
        qualities, request = model_queries.cached_qualities(image, question), (*image.key, *question)
        if qualities is None and notes.read(notes.CHECK) == request:
            try:
                with progress_bar("Hiding parts of the image") as progress:
                    qualities = model_queries.map_qualities(image, question, progress)
            except model_queries.UNAVAILABLE as error:
                notes.write(notes.CHECK, None)
                messages.problem("The maps cannot be checked here.", error)
        if qualities or any(one.delta is not None for one in maps.attributions):  # else nothing is known yet
            st.table(table(maps, qualities, labels), hide_index=True, alt="Numbers of every map.")
        if qualities is None:
            st.button("Check them by hiding parts", on_click=notes.write, args=(notes.CHECK, request))
        st.caption("  \n".join(EXPLANATIONS))


def table(
    maps: dx.ExitComparison, qualities: Sequence[dx.attribution.Quality] | None, labels: Sequence[str]
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "exit": labels,
            "value": [messages.signed(one.logit).removeprefix("+") for one in maps.attributions],
            "change from baseline": [messages.signed(one.difference) for one in maps.attributions],
            "convergence delta": [_delta(one) for one in maps.attributions],
            "unexplained": [*map(_unexplained, qualities)] if qualities else "not checked",
            "insertion (random order)": [*map(_insertion, qualities)] if qualities else "not checked",
        }
    )


def _delta(attribution: dx.Attribution) -> str:
    if attribution.delta is None:
        return "not defined"
    good = dx.attribution.within_bound(attribution.delta, attribution.difference)
    steps = f", {attribution.steps} steps" if attribution.steps else ""
    size = messages.signed(attribution.delta, 3) if abs(attribution.delta) >= 0.0005 else "below 0.001"
    return f"{size} {'✓ adds up' if good else '! too large'}{steps}"


def _unexplained(quality: dx.attribution.Quality) -> str:
    share = quality.unexplained
    word = "✓ explains most" if share < 0.5 else "! explains little" if share < 1 else "! no better than nothing"
    return f"{share:.0%} {word}"


def _insertion(quality: dx.attribution.Quality) -> str:
    better = quality.insertion_area > quality.random_insertion_area
    area = f"{quality.insertion_area:.2f} ({quality.random_insertion_area:.2f})"
    return f"{area} {'✓ above random' if better else '! not above random'}"
