"""Quality of attribution maps: convergence delta, infidelity and insertion of every exit, as a table."""

from __future__ import annotations

import html
from collections.abc import Sequence

import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components.progress import progress_bar
from dmpo_explore_app.services import model_queries
from dmpo_explore_app.services.images import ChosenImage
from dmpo_explore_app.services.model_queries import Question
from dmpo_explore_app.state import attribution as state

import dmpo_explore as dx

COLUMNS = ("exit", "logit", "change from baseline", "convergence delta", "unexplained", "insertion (random order)")
EXPLANATIONS = (
    "**Convergence delta**: difference between the sum of the map and the change in the logit; up to 5% of that "
    "change, or of 1 logit if that is more, counts as good (our bound).",
    "**Unexplained** (infidelity as a share): random patches are hidden; 0%: the map predicts the logit exactly, 100%: "
    "no better than an empty map.",
    "**Insertion**: mean probability of the class while patches are shown, most important first; it should exceed that "
    "of a random order.",
)


def section(image: ChosenImage, maps: dx.ExitComparison, question: Question, labels: Sequence[str]) -> None:
    """A row for each exit; infidelity and insertion after a button, because they take many passes of the model."""
    st.subheader("Can these maps be trusted?", anchor=False)
    qualities = model_queries.cached_qualities(image, question)
    request, place = (*image.key, *question), st.empty()
    place.html(table(maps, qualities, labels))
    if qualities is None and state.check_requested(request):
        try:
            with progress_bar("Hiding parts of the image") as progress:
                qualities = model_queries.map_qualities(image, question, progress)
            place.html(table(maps, qualities, labels))
        except model_queries.UNAVAILABLE as error:
            state.request_check(None)
            messages.problem("The maps cannot be checked here.", error)
    if qualities is None:
        st.button(
            "Check them by hiding parts",
            icon=":material/fact_check:",
            on_click=state.request_check,
            args=(request,),
        )
    st.caption("  \n".join(EXPLANATIONS))


def table(maps: dx.ExitComparison, qualities: Sequence[dx.attribution.Quality] | None, labels: Sequence[str]) -> str:
    """HTML table with the numbers of every exit and a verdict on each."""
    rows = []
    for k, (attribution, label) in enumerate(zip(maps.attributions, labels, strict=True)):
        quality = qualities[k] if qualities else None
        cells = [
            messages.signed(attribution.logit).removeprefix("+"),
            messages.signed(attribution.difference),
            _delta(attribution),
            *_perturbation(quality),
        ]
        rows.append(f'<tr><th scope="row">{label}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>')
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in COLUMNS)
    table = f'<table class="dx-quality"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<div class="dx-wide" tabindex="0" role="region" aria-label="Numbers of every map">{table}</div>'


def _delta(attribution: dx.Attribution) -> str:
    if attribution.delta is None:
        return "not defined"
    good = dx.attribution.within_bound(attribution.delta, attribution.difference)
    steps = f"{attribution.steps} steps" if attribution.steps else ""
    size = messages.signed(attribution.delta, 3) if abs(attribution.delta) >= 0.0005 else "below 0.001"
    return f"{size} {_badge('adds up' if good else 'too large', good)} <small>{steps}</small>"


def _perturbation(quality: dx.attribution.Quality | None) -> tuple[str, str]:
    """Infidelity and insertion."""
    if quality is None:
        return "not checked", "not checked"
    good = quality.unexplained < 0.5
    word = "explains most" if good else "explains little" if quality.unexplained < 1 else "no better than nothing"
    better = quality.insertion_area > quality.random_insertion_area
    area = f"{quality.insertion_area:.2f} ({quality.random_insertion_area:.2f})"
    comparison = _badge("above random" if better else "not above random", better)
    return f"{quality.unexplained:.0%} {_badge(word, good)}", f"{area} {comparison}"


def _badge(word: str, good: bool) -> str:
    return f'<span class="{"good" if good else "poor"}">{"✓" if good else "!"} {word}</span>'
