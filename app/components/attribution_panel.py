"""Attribution of One image: method, class, baseline, and the maps of all exits; dear ones wait for a button."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import fetch_offer
from dmpo_explore_app.components.progress import progress_bar
from dmpo_explore_app.messages import escape_markdown
from dmpo_explore_app.services import downloads, model_queries
from dmpo_explore_app.services.attribution_methods import BASELINES, METHODS
from dmpo_explore_app.services.image_answers import ImageAnswers
from dmpo_explore_app.services.images import ChosenImage
from dmpo_explore_app.services.model_queries import Question
from dmpo_explore_app.state import attribution as state
from dmpo_explore_app.state import notes, panels
from streamlit.delta_generator import DeltaGenerator

import dmpo_explore as dx

UNITS = {"share": "share", "logit": "as measured"}
GRAINS = ("patches", "pixels")
PANELS = 7  # maps in a row
UNIT_HELP = (
    "**Share of the map**: every map divided by the sum of its absolute values, so that locations can be compared. "
    "**As measured**: logits have another scale at every exit."
)

QUALITY_HELP = (
    "**Convergence delta**: difference between the sum of the map and the change in what is explained; up to 5% of "
    "it, or of 1 logit if that is more, counts as good (our bound).",
    "**Unexplained** (infidelity as a share): random patches are hidden; 0%: the map predicts the change exactly, "
    "100%: no better than an empty map.",
    "**Insertion**: mean probability of the class while patches are shown, most important first; it should exceed that "
    "of a random order.",
)


def section(answers: ImageAnswers) -> dict[str, go.Figure]:
    st.header("Where does each exit look?", anchor=False)
    drawn = _controls(answers)
    question = state.question(answers.one, answers.exit)
    st.caption(METHODS[question.method].explanation)
    maps = _maps(answers.image, question)
    if maps is None:
        return {}
    labels = [f"Exit {k + 1}" for k in maps.exits]
    with drawn:
        as_shares, shown = _display_choices(maps)
    charts = _charts(answers, shown, labels, question, as_shares)
    quality(answers.image, maps, question, labels)
    return charts


def _controls(answers: ImageAnswers) -> DeltaGenerator:
    """What is explained, and how; a place in the row for how it is drawn."""
    names = dx.figures.unique_labels(answers.record.meta.class_names, 60)

    def words(target: str | int) -> str:  # the same for every image: a browser keeps a choice by its words
        return names[target - 1] if isinstance(target, int) else state.TARGETS[target]

    with st.container(horizontal=True, gap="small", vertical_alignment="bottom", key="explain"):
        for label, key, options, shown, width in (
            ("Method", state.METHOD, list(METHODS), lambda method: METHODS[method].title, 210),
            ("What is explained", state.TARGET, [*state.TARGETS, *range(1, len(names) + 1)], words, 270),
            ("Baseline", state.BASELINE, list(BASELINES), BASELINES.__getitem__, 200),
        ):
            st.selectbox(label, options, format_func=shown, key=key, width=width, persist_state="session")
        return st.container(horizontal=True, gap="small", width="content", vertical_alignment="bottom", key="drawn")


def _maps(image: ChosenImage, question: Question) -> dx.ExitComparison | None:
    """The maps if they are cached, cheap or requested; else None, and the button that requests them."""
    if (cached := model_queries.cached_maps(image, question)) is not None:
        return cached
    request = (*image.key, *question)
    if not METHODS[question.method].cheap and notes.read(notes.MAPS) != request:
        st.button(
            "Explain every exit",
            icon=":material/frame_inspect:",
            type="primary",
            on_click=notes.write,
            args=(notes.MAPS, request),
        )
        st.caption("Many passes of the model: several seconds on two CPU cores.")
        return None
    title, place = METHODS[question.method].title, st.empty()
    if not METHODS[question.method].cheap:
        place.button("Cancel", icon=":material/close:", on_click=notes.write, args=(notes.MAPS, None), key=state.CANCEL)
    try:
        with progress_bar(title) as progress:
            return model_queries.attribution_maps(image, question, progress)
    except model_queries.UNAVAILABLE as error:
        notes.write(notes.MAPS, None)
        wanted = downloads.missing_weights_of(image.run)
        if isinstance(error, FileNotFoundError) and wanted is None:
            st.caption(f"The maps need the image and the model. {messages.with_code(error)}")
        elif wanted is None:
            messages.problem(f"{title} is not available here.", error)
        else:
            fetch_offer.offer(wanted, f"{title} needs the model. The answers above are recorded.", " maps")
        return None
    finally:
        place.empty()


def _charts(
    answers: ImageAnswers, maps: dx.ExitComparison, labels: Sequence[str], question: Question, as_shares: bool
) -> dict[str, go.Figure]:
    """The map of every exit, and what an exit that was correct looks at more than the incorrect one before."""
    heats, labels = [*(maps.shares if as_shares else maps.heat)], [*labels]
    signed, pair = METHODS[question.method].signed, answers.contrast
    words = "the logarithm of each exit's confidence" if question.target == state.SCORE else ""
    words = words or answers.record.meta.class_names[int(question.target)]
    title = METHODS[question.method].title + f" for {words}" * maps.attributions[0].is_attribution
    text = f"Evidence for {escape_markdown(words)} (orange) and against it (blue)" if signed else escape_markdown(title)
    text += ", on one scale."
    if pair is not None:
        between = replace(maps, attributions=tuple(maps.attributions[k] for k in pair))
        heats.append(between.differences(shares=as_shares)[0])
        labels.append(f"{labels[pair[1]]} − {labels[pair[0]]}")
        similarity = messages.signed(float(between.similarity()[0, 1])).removeprefix("+")
        text += (
            f" Last: the map of exit {pair[1] + 1}, correct, minus that of exit {pair[0] + 1}, incorrect; their cosine "
            f"similarity is {similarity}."
        )
    unit = "share" if as_shares else maps.attributions[0].unit
    pixels, columns = model_queries.model_input(answers.image), min(len(heats), PANELS)
    signed = signed or pair is not None
    figure = dx.figures.exit_maps_figure(pixels, heats, labels, signed=signed, unit=unit, columns=columns)
    with st.container(key="scrolled_maps"):  # on a phone, where maps would be too small to read
        st.html('<p class="dx-sideways" tabindex="0">Scroll sideways to see all exits.</p>')
        alt = f"{title}: one map for each exit."
        st.plotly_chart(figure, key="maps", config={"displayModeBar": False}, alt=alt)
    height, width = pixels.shape[:2]
    resizing = answers.image.run.config.model.resizing
    st.caption(f"{text} Behind them: the model's input, {width} × {height} pixels, {resizing}.")
    return {"maps": figure}


def _display_choices(found: dx.ExitComparison) -> tuple[bool, dx.ExitComparison]:
    """Whether maps are shown as shares; the maps at the chosen resolution."""
    grids = {attribution.tokens.shape for attribution in found.attributions}
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


def quality(image: ChosenImage, maps: dx.ExitComparison, question: Question, labels: Sequence[str]) -> None:
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
            st.table(quality_table(maps, qualities, labels), hide_index=True, alt="Numbers of every map.")
        if qualities is None:
            st.button("Check them by hiding parts", on_click=notes.write, args=(notes.CHECK, request))
        st.caption("  \n".join(QUALITY_HELP))


def quality_table(
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
