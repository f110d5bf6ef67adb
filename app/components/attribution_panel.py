"""Where each exit looks: method, class and baseline to choose, maps side by side, what they add, how good they are.

In: a `Subject`, what every exit says about it, ``st.session_state`` (perhaps filled from the address). Out: the lower
half of One image. Cheap methods answer at once; the others wait for their button, and so does the check.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.messages import plain
from dmpo_explore_app.services import model_queries
from dmpo_explore_app.services.images import Subject
from dmpo_explore_app.services.model_queries import Question
from dmpo_explore_app.state import choices

import dmpo_explore as dx
from dmpo_explore.figures import attribution as attribution_module

if TYPE_CHECKING:
    from dmpo_explore.attribution.quality import Quality
    from dmpo_explore.attribution.results import ExitComparison

KEYS = ("method", "target", "baseline")  # of the address and of the state


class Method(NamedTuple):
    """How a method is called and what it does; a cheap one takes a pass or two of the model for each exit."""

    title: str
    what: str
    cheap: bool = False
    signed: bool = True


METHODS = {
    "integrated_gradients": Method(
        "Integrated gradients",
        "Gradients summed up on the way from the baseline to the image. The values of a map add up to what the image "
        "changes in the logit, up to the convergence delta.",
    ),
    "gradient_shap": Method("Gradient SHAP", "The same with random places on the way, so it is a little noisy."),
    "saliency": Method("Saliency", "How much the logit changes with each pixel, whichever way.", True, False),
    "input_x_gradient": Method("Input × gradient", "Gradient times pixel: a first guess, cheap and rough.", True),
    "occlusion": Method("Occlusion", "What the logit loses while a window of one patch shows the baseline."),
    "feature_ablation": Method("Feature ablation", "What the logit loses while one patch shows the baseline."),
    "layer_integrated_gradients": Method(
        "Layer integrated gradients", "Integrated gradients of the tokens in the deepest block that the exit reads."
    ),
    "token_grad_cam": Method(
        "Token Grad-CAM", "Gradient times activation of each token (ours; Grad-CAM for tokens).", True
    ),
    "attention_rollout": Method(
        "Attention rollout",
        "Attention multiplied through the blocks. It knows neither the class nor the predictor, so it is no "
        "attribution: it says where information may have come from.",
        True,
        False,
    ),
}
BASELINES = {
    "black": "black: blind to what is black itself",
    "mean": "mean colour of pre-training",
    "blur": "the image, blurred",
}
REFUSED = ("deep_lift", "deep_lift_shap", "layer_grad_cam", "lrp")  # the library says why
LAST, HERE = "last", "here"  # targets: what the last exit says, what the image leaves with
UNITS = {"share": "share of the map", "logit": "as measured"}
GRAINS = ("patches", "pixels")


def settle(classes: int) -> None:
    """Method, target and baseline in the state, made valid; what was not is said."""
    state, asked = st.session_state, st.session_state.get("method")
    if asked in REFUSED:
        messages.notice(f"{plain(asked)} is not offered: {plain(_reason(str(asked)), 400)}.")
        state["method"] = None
    choices.settle("method", list(METHODS), "integrated_gradients", "method")
    choices.settle("baseline", list(BASELINES), "black", "baseline")
    target = state.get("target")
    if isinstance(target, str) and target.isdecimal() and len(target) < 10 and 1 <= int(target) <= classes:
        state["target"] = int(target)
    elif target not in (LAST, HERE, *range(1, classes + 1)):
        if target is not None:
            messages.notice(f"There is no class {plain(repr(target), 60)} to explain; showing what the last exit says.")
        state["target"] = LAST


def _reason(refused: str) -> str:
    from dmpo_explore.attribution.methods import REFUSED as reasons

    return reasons[refused]


def address() -> dict[str, str]:
    """What differs from the usual, for the address."""
    usual = {"method": "integrated_gradients", "target": LAST, "baseline": "black"}
    return {key: str(st.session_state[key]) for key in KEYS if st.session_state[key] != usual[key]}


def section(subject: Subject, one: dx.ExitRecord, exit: int, record: dx.ExitRecord) -> dict[str, go.Figure]:
    """All of it; the figures that are on screen.

    Args:
        one: what every exit says about the picture. exit: where it leaves, 0-based. record: the run's, for its names.
    """
    st.header("Where does each exit look?", anchor=False)
    question = _controls(one, exit, record)
    method = METHODS[question.method]
    st.caption(method.what)
    found = _found(subject, question)
    if found is None:
        return {}
    labels = [f"Exit {k + 1}" for k in found.exits]
    charts = _charts(subject, found, labels, question, record)
    _checked(subject, found, question, labels)
    return charts


def _controls(one: dx.ExitRecord, exit: int, record: dx.ExitRecord) -> Question:
    names, said = record.meta.class_names, one.prediction[0]

    def words(target: str | int) -> str:
        if isinstance(target, int):
            return names[target - 1]
        whose = "the last exit" if target == LAST else "the exit where it leaves"
        return f"{names[said[-1] if target == LAST else said[exit]]}, as {whose} says"

    with st.container(horizontal=True, gap="small", vertical_alignment="bottom", key="explain"):
        st.selectbox("Method", list(METHODS), format_func=_title, key="method", width=230, persist_state="session")
        st.selectbox(
            "What speaks for …",
            [LAST, HERE, *range(1, len(names) + 1)],
            format_func=words,
            key="target",
            width=300,
            persist_state="session",
            help="Every exit is asked about the same class, so that their maps can be compared.",
        )
        st.selectbox(
            "Beside a baseline",
            list(BASELINES),
            format_func=BASELINES.__getitem__,
            key="baseline",
            width=270,
            persist_state="session",
            help="What stands for “nothing there”. Where the image equals it, a map is blind.",
        )
    return question(one, exit)


def question(one: dx.ExitRecord, exit: int) -> Question:
    """What the settled choices ask about a picture that leaves at ``exit`` (0-based)."""
    asked, said = st.session_state["target"], one.prediction[0]
    target = int(said[-1]) if asked == LAST else int(said[exit]) if asked == HERE else int(asked) - 1
    return Question(st.session_state["method"], target, st.session_state["baseline"])


def _title(method: str) -> str:
    return METHODS[method].title


# -- maps --


def _found(subject: Subject, question: Question) -> ExitComparison | None:
    """The maps, if they are known, cheap or asked for; None, and the button, otherwise."""
    if (known := model_queries.known_maps(subject, question)) is not None:
        return known
    wanted = ("maps", *subject.key, *question)
    if not METHODS[question.method].cheap and st.session_state.get("_wanted") != wanted:
        st.button("Explain every exit", icon=":material/frame_inspect:", type="primary", on_click=_want, args=(wanted,))
        st.caption("The model runs many times for this, on two CPU cores usually for several seconds.")
        return None
    title = METHODS[question.method].title
    try:
        with _progress(title) as progress:
            return model_queries.maps(subject, question, progress)
    except model_queries.HINDRANCES as error:
        st.session_state["_wanted"] = None
        messages.problem(f"{title} cannot be had here.", error)
        return None


def _want(what: tuple[object, ...]) -> None:
    st.session_state["_wanted"] = what


@contextmanager
def _progress(what: str) -> Iterator[model_queries.Progress]:
    """A bar that is gone afterwards. Moving it ends the run if the page is not wanted any more."""
    bar = st.progress(0.0, f"{what} …")

    def show(done: int, total: int) -> None:
        share = min(1.0, done / max(total, 1))
        bar.progress(share, f"{what} … {share:.0%}")

    try:
        yield show
    finally:
        bar.empty()


def _charts(
    subject: Subject, found: ExitComparison, labels: Sequence[str], question: Question, record: dx.ExitRecord
) -> dict[str, go.Figure]:
    """Every exit's map, and what each adds to the one before."""
    grids = {a.tokens.shape for a in found.attributions}
    with st.container(horizontal=True, gap="small", key="drawn"):
        scale = st.segmented_control(
            "Scale", list(UNITS), format_func=UNITS.__getitem__, default="share", required=True, help=SCALE_HELP
        )
        grain = "pixels"
        if len(grids) == 1:  # else their cells are not the same places
            grain = st.segmented_control("Grain", GRAINS, default=GRAINS[0], required=True, help=GRAIN_HELP)
    as_shares, maps = scale == "share", found if grain == "pixels" else _by_patch(found)
    heats = maps.shares if as_shares else maps.heat
    unit = "share" if as_shares else found.attributions[0].unit
    signed = METHODS[question.method].signed
    picture = model_queries.seen(subject)
    name = record.meta.class_names[question.target]
    figure = attribution_module.exit_maps_figure(picture, heats, labels, signed=signed, unit=unit)
    charts = {"maps": figure}
    _drawn(figure, "maps", f"{_title(question.method)} for {name}: one map for each exit.")
    st.caption(f"What speaks for {plain(name)}{' (orange) and against it (blue)' if signed else ''}, on one scale.")
    if len(labels) > 1:
        st.subheader("What each exit adds to the one before", anchor=False)
        changes = maps.differences(shares=as_shares)
        figure = attribution_module.difference_maps_figure(picture, changes, labels, unit=unit)
        charts["differences"] = figure
        likeness = ", ".join(f"{value:.2f}" for value in maps.similarity().diagonal(1))
        _drawn(figure, "differences", "Each exit's map minus the one before it.")
        st.caption(f"Cosine between neighbouring maps: {likeness}. 1: they look at the same places.")
    return charts


def _drawn(figure: go.Figure, key: str, alt: str) -> None:
    st.plotly_chart(figure, key=key, config={"displayModeBar": False}, alt=alt)


SCALE_HELP = (
    "**Share of the map**: every map divided by the sum of its absolute values, so it says where. **As measured**: "
    "logits have another scale at every exit."
)
GRAIN_HELP = "**Patches** are the cells of the token grid: steadier than pixels."


def _by_patch(found: ExitComparison) -> ExitComparison:
    return replace(found, attributions=tuple(replace(a, heat=a.tokens) for a in found.attributions))


# -- how good they are --


def _checked(subject: Subject, found: ExitComparison, question: Question, labels: Sequence[str]) -> None:
    """A row of badges for each exit; infidelity on a button, for it costs as much again."""
    st.subheader("Can these maps be trusted?", anchor=False)
    qualities = model_queries.known_qualities(subject, question)
    wanted, table = ("quality", *subject.key, *question), st.empty()
    table.html(quality_table(found, qualities, labels))
    if qualities is None and st.session_state.get("_wanted_check") == wanted:
        try:
            with _progress("Hiding parts of the image and asking again") as progress:
                qualities = model_queries.qualities(subject, question, progress)
            table.html(quality_table(found, qualities, labels))
        except model_queries.HINDRANCES as error:
            st.session_state["_wanted_check"] = None
            messages.problem("The maps cannot be checked here.", error)
    if qualities is None:
        st.button("Check them by hiding parts", icon=":material/fact_check:", on_click=_want_check, args=(wanted,))
    st.caption("  \n".join(EXPLAINED))


def _want_check(what: tuple[object, ...]) -> None:
    st.session_state["_wanted_check"] = what


EXPLAINED = (
    "**Convergence delta**: what the values miss of the change in the logit; up to 5% of it, or of 1 logit if that is "
    "more, counts as good (our bound).",
    "**Unexplained** (infidelity as a share): hide random patches; 0% means the map predicts what the logit does then, "
    "100% no better than an empty map.",
    "**Insertion**: mean probability of the class while patches are shown, most important first; it should beat a "
    "random order.",
)


def quality_table(found: ExitComparison, qualities: Sequence[Quality] | None, labels: Sequence[str]) -> str:
    """Every exit's numbers as HTML, each with a word for how good it is."""
    rows = []
    for k, (attribution, label) in enumerate(zip(found.attributions, labels, strict=True)):
        quality = qualities[k] if qualities else None
        cells = [f"{attribution.logit:.2f}", f"{attribution.difference:+.2f}", _delta(attribution), *_hiding(quality)]
        rows.append(f'<tr><th scope="row">{label}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>')
    heads = ("exit", "logit", "change from baseline", "convergence delta", "unexplained", "insertion (random order)")
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in heads)
    return f'<table class="dx-quality"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _delta(attribution: dx.Attribution) -> str:
    from dmpo_explore.attribution.methods import within_bound

    if attribution.delta is None:
        return "not defined"
    good = within_bound(attribution.delta, attribution.difference)
    steps = f"{attribution.steps} steps" if attribution.steps else ""
    size = f"{attribution.delta:+.3f}" if abs(attribution.delta) >= 0.0005 else "below 0.001"
    return f"{size} {_badge('adds up' if good else 'too large', good)} <small>{steps}</small>"


def _hiding(quality: Quality | None) -> tuple[str, str]:
    if quality is None:
        return "not checked", "not checked"
    good = quality.unexplained < 0.5
    word = "explains most" if good else "explains little" if quality.unexplained < 1 else "no better than nothing"
    better = quality.insertion_area > quality.random_insertion_area
    area = f"{quality.insertion_area:.2f} ({quality.random_insertion_area:.2f})"
    beats = _badge("beats it" if better else "does not beat it", better)
    return f"{quality.unexplained:.0%} {_badge(word, good)}", f"{area} {beats}"


def _badge(word: str, good: bool) -> str:
    return f'<span class="{"good" if good else "poor"}">{"✓" if good else "!"} {word}</span>'
