"""One image: what the model sees, what every exit says, where it leaves and why, where each exit looks.

In: a run, a policy as on the other pages, an image of the record or a picture that the reader sends. Out: numbers of
the record, or the model's own answers for a picture that no record knows. The record alone answers at once; a model
is loaded when it is needed, and explanations are made when they are asked for.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import (
    attribution_panel,
    class_table,
    gallery,
    image_picker,
    run_picker,
    threshold_controls,
    widgets,
)
from dmpo_explore_app.components import share as share_module
from dmpo_explore_app.messages import plain
from dmpo_explore_app.services import cache, code_export, model_queries
from dmpo_explore_app.services.images import Subject
from dmpo_explore_app.state import calibration, operating_point, url
from streamlit.delta_generator import DeltaGenerator

import dmpo_explore as dx
from dmpo_explore.analysis.decision_trace import Way, likeliest, way
from dmpo_explore.figures import compare
from dmpo_explore.figures.image import decision_trace_figure
from dmpo_explore.fitting.temperature import tempered_record

KEYS = (
    "run",
    "split",
    "policy",
    "threshold",
    calibration.KEY,
    *operating_point.WISHES,
    *image_picker.KEYS,
    *attribution_panel.KEYS,
)  # of the address and of the state
NEIGHBOURS = 10
SIDE = 144  # pixels of the pictures on top
UNUSUAL = 0.99  # of val's images are less unlike the others: then it is said
_ASK = "_ask_model"


class View(NamedTuple):
    """A picture, and what is known about it."""

    subject: Subject
    record: dx.ExitRecord  # the run's
    policy: dx.Policy
    one: dx.ExitRecord  # of this picture alone
    way: Way

    @property
    def read(self) -> dx.ExitRecord:
        """`one` with the scores that the policy reads."""
        return tempered_record(self.one, self.policy.temperatures) if self.policy.temperatures else self.one

    @property
    def truth(self) -> int | None:
        """Its class, for images of the record."""
        return None if self.subject.row is None else int(self.one.labels[0])


def page() -> None:
    """The address, then everything else."""
    names = dx.list_runs()
    if not names:
        title()
        widgets.no_runs()
        return
    if url.follow(KEYS):
        st.session_state["_fresh"] = True
    try:
        workbench(names)
    except (OSError, ValueError) as error:
        messages.problem("This run cannot be shown.", error)


def title() -> None:
    """The page's title."""
    st.title("Why did it leave here?", anchor=False)


def workbench(names: Sequence[str]) -> None:
    """Choices on top, then the picture and its answers, then explanations."""
    top = st.container(horizontal=True, vertical_alignment="center", gap="xsmall")
    with top:
        title()
    found = run_picker.settle(names)
    if found is None:
        return
    run, split, record, policy = found[:4]
    found.row(lambda: threshold(run, split, record, policy.name))
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom", key="picture"):
        subject = image_picker.choose(run, split, record)
    image_picker.receive()
    attribution_panel.settle(len(record.meta.class_names))
    if subject is None:
        make_ready(run)
    else:
        show(subject, record, policy, top)
    remember(run, split, policy, subject)


def threshold(run: dx.Run, split: str, record: dx.ExitRecord, policy_name: str) -> None:
    """The settled thresholds as text, to be changed by hand or solved on val; in the row that is open."""
    if record.n_exits == 1:
        return
    st.text_input(
        "Threshold",
        key="threshold",
        width=170,
        on_change=_typed,
        persist_state="session",
        help="One number, or one for every exit but the last with commas between. Explore has a slider for it.",
    )
    with st.popover("From val", icon=":material/tune:", help="Have it solved on val from a wish."):
        threshold_controls.controls(run, split, policy_name)


def _typed() -> None:
    operating_point.set_by_hand(str(st.session_state["threshold"])[: url.LONGEST])


def remember(run: dx.Run, split: str, policy: dx.Policy, subject: Subject | None) -> None:
    """Keep the view in the address."""
    parts = {"run": run.name, "split": split, "policy": policy.name}
    if cache.record(run, split).n_exits > 1:
        parts["threshold"] = operating_point.text(policy)
        parts |= {calibration.KEY: "1"} if calibration.on() else {}
        parts |= {
            key: f"{value:g}" for key in operating_point.WISHES if (value := st.session_state.get(key)) is not None
        }
    url.write(**parts, **image_picker.address(subject), **attribution_panel.address())


# -- one picture --


def show(subject: Subject, record: dx.ExitRecord, policy: dx.Policy, top: DeltaGenerator) -> None:
    """Everything about one picture. What the record knows comes first, what needs a model after it."""
    with st.container(key="halves"):
        left, right = st.columns([3, 9], gap="medium")
    with left, st.container(horizontal=True, gap="small"):
        with st.container(width=SIDE):
            original(subject, record)
        seen = st.container(width=SIDE)
    with right:
        view = look(subject, record, policy)
        charts = {} if view is None else spoken(view)
    with seen:
        seen_by_the_model(subject)
    if view is None:
        return
    with left:
        usual(view)
    neighbours(view)
    charts |= attribution_panel.section(subject, view.one, view.way.exit, record)
    with top:
        share(view, charts)


def original(subject: Subject, record: dx.ExitRecord) -> None:
    """The picture as it came."""
    name = image_picker.name_of(subject, record)
    if subject.sent is not None:
        facts = "{} × {} pixels".format(*subject.sent.size)
    else:
        facts = f"is {record.meta.class_names[record.labels[subject.row or 0]]}"
    try:
        st.image(subject.to_look_at(), alt=name, width=SIDE)
    except (OSError, ValueError) as error:
        text = f"The picture is not here; what the exits said about it is. {plain(error, 500)}"
        st.info(text, icon=":material/hide_image:")
    st.caption(f"**{plain(name, 80)}**  \n{plain(facts, 80)}")


def look(subject: Subject, record: dx.ExitRecord, policy: dx.Policy) -> View | None:
    """Ask the record, or the model about a picture that was sent; None, and the reason, where it cannot be asked."""
    if subject.row is not None:
        one = record.subset([subject.row])
        return View(subject, record, policy, with_logits(subject, record, one), way(record, policy, subject.row))
    try:
        with st.spinner("Asking the model …"):
            one = model_queries.answers(subject, record)
    except model_queries.HINDRANCES as error:
        no_model(error)
        return None
    return View(subject, record, policy, one, way(one, policy, 0))


def make_ready(run: dx.Run) -> None:
    """Load the model while the reader looks for a picture; say at once if there is none."""
    try:
        cache.model(run)
    except model_queries.HINDRANCES as error:
        no_model(error)


def no_model(error: Exception) -> None:
    """The model cannot be asked: why, and what helps."""
    messages.notice(
        f"The model cannot be asked here, so only images of the record have answers. {plain(error, 500)}  \n"
        "`dmpo-explore fetch` gets the weights of the bundled runs' backbone."
    )


def with_logits(subject: Subject, record: dx.ExitRecord, one: dx.ExitRecord) -> dx.ExitRecord:
    """``one`` with the model's logits where the record keeps none and the reader wants them."""
    if one.logits is not None or not st.session_state.get(_ASK):
        return one
    try:
        now = model_queries.answers(subject, record)
    except model_queries.HINDRANCES as error:
        no_model(error)
        return one
    return dx.ExitRecord(one.labels, one.prediction, one.confidence, one.entropy, one.margin, one.meta, now.logits)


def spoken(view: View) -> dict[str, go.Figure]:
    """Where it leaves and why, the curve, the most probable classes."""
    strange(view)
    names, way = view.record.meta.class_names, view.way
    said = int(view.one.prediction[0, way.exit])
    right = "" if view.truth is None else ", which is right" if said == view.truth else ", which is wrong"
    cost = view.record.flops_fraction[way.exit]
    answer = f"{html.escape(names[said])} at {view.read.confidence[0, way.exit]:.1%}{right}"
    st.html(
        f'<p class="dx-why">{html.escape(way.reason())} <b>It says {answer}</b>, for {cost:.1%} of the plain '
        "backbone's compute.</p>"
    )
    figure = way_curve(view)
    widgets.chart(figure, "way", 290 if len(figure.data) < 3 else 420, f"Confidence at every exit. {way.reason()}")
    top_five(view)
    return {"way": figure}


def way_curve(view: View) -> go.Figure:
    """`decision_trace_figure` of the picture."""
    names, meta = view.record.meta.class_names, view.record.meta
    marks = [" ✓" if label == view.truth else "" for label in view.one.prediction[0]]
    said = [compare.as_text(_short(names[c])) + m for c, m in zip(view.one.prediction[0], marks, strict=True)]
    labels = [f"exit {k}<br>block {block}" for k, block in enumerate(meta.exit_blocks, start=1)]
    by_confidence = view.way.what == "confidence"
    compared = None if by_confidence else view.way.values
    return decision_trace_figure(
        view.read.confidence[0], said, view.way.exit, labels, view.way.thresholds, compared, view.way.what
    )


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"


def top_five(view: View) -> None:
    """A table, where logits are known; else a button that asks the model."""
    if view.one.logits is None:
        st.button(
            "Ask the model for the other classes", icon=":material/leaderboard:", on_click=_ask, key="ask the model"
        )
        st.caption("The record keeps no logits, so it knows the best class of every exit only.")
        return
    classes, shares = likeliest(view.one.logits[0], 5, view.policy.temperatures)
    table = class_table.best(view.record.meta.class_names, classes, shares, view.way.exit, view.truth)
    st.html(f'<div class="dx-wide" tabindex="0" role="region" aria-label="Most probable classes">{table}</div>')


def _ask() -> None:
    st.session_state[_ASK] = True


def seen_by_the_model(subject: Subject) -> None:
    """The preprocessed input, its colours not normalised yet."""
    try:
        with st.spinner("Preparing the picture …"):
            image = model_queries.seen(subject)
    except model_queries.HINDRANCES as error:
        if subject.sent is not None:
            st.caption(f"What the model would see cannot be shown. {plain(error, 300)}")
        return
    st.image(image, alt="What the model sees", width=SIDE)
    st.caption(f"**What the model sees**  \n{image.shape[1]} × {image.shape[0]} pixels, colours not normalised yet")


# -- among others --


def unlike(view: View) -> tuple[float, str]:
    """Share of val's images that are less lonely than this one (`Crowd.unlike`), NaN if unknown; what was compared."""
    run, split, row = view.subject.run, view.subject.split, view.subject.row
    if "val" not in run.splits():
        return math.nan, ""
    crowd = cache.crowd(run, "val", view.one.logits is not None)
    return crowd.unlike(view.one, without=row if split == "val" else None), crowd.by


def strange(view: View) -> None:
    """A notice where the exits do not speak of it as of val's images."""
    share, _ = unlike(view)
    if share >= UNUSUAL:
        messages.notice(
            "**This picture looks unlike the training data.** The nearest images of val, by what the exits say, are "
            f"farther away than for {share:.1%} of val's own images. Its answers may mean nothing."
        )


def usual(view: View) -> None:
    """The same in small where it is not strange."""
    share, by = unlike(view)
    if share < UNUSUAL:
        coarse = ", the more so as no logits are recorded" if by == "scores" else ""
        st.caption(
            f"The exits speak of it as of usual images: {1 - share:.0%} of val's own have their nearest neighbours "
            f"farther away. Only answers are compared, so a strange picture can still pass{coarse}."
        )


def neighbours(view: View) -> None:
    """Images of the record about which the exits say the most similar things."""
    run, split, row = view.subject.run, view.subject.split, view.subject.row
    st.header("Images that the exits answer alike", anchor=False)
    crowd = cache.crowd(run, split, view.one.logits is not None)
    rows = crowd.nearest(view.one, NEIGHBOURS, without=row)
    exits = view.policy.exits(view.record)
    body = gallery.figures(view.record, exits, rows, _thumbnails(view.subject), buttons=True)
    widgets.clickable(f'<div class="dx-near">{body}</div>', "near", _picked)
    what = "all exits' logits" if crowd.by == "logits" else "every exit's answer and confidence"
    st.caption(f"The nearest of {view.record.n_images:,} images of {plain(split)} by {what}. Click one to open it.")


def _thumbnails(subject: Subject) -> Callable[[int], str] | None:
    try:
        return cache.thumbnails(subject.run, subject.split)
    except (OSError, ValueError):  # said above
        return None


def _picked(what: str) -> None:
    kind, _, number = what.partition(" ")
    if kind == "image" and number.isdecimal():
        image_picker.opened(int(number))


# -- to take away --


def share(view: View, charts: Mapping[str, go.Figure]) -> None:
    """The numbers of the exits, the figures, and the code for them."""
    subject, policy = view.subject, view.policy
    share_module.popover(
        f"{subject.run.name}-{image_picker.name_of(subject, view.record)}",
        {"thresholds": policy} if view.record.n_exits > 1 else {},
        {"exits": partial(class_table.table, view.read, view.way)},
        {name: (lambda figure=figure: figure) for name, figure in charts.items()},  # type: ignore[misc]
        partial(python_code, view),
        link=subject.row is not None,
    )


def python_code(view: View) -> str:
    """A program that prints where the picture leaves and makes the maps."""
    subject, split, row = view.subject, view.subject.split, view.subject.row
    load = f"run = dx.load_run({code_export.reference(subject.run)!r})\nrecord = run.record({split!r})"
    lines = [code_export.program(load, view.policy, 'run.record("val")')]
    if subject.sent is None:
        lines += [
            f"print(policy.exits(record)[{row}] + 1, record.confidence[{row}])\n",
            "model = run.model()",
            f"image = run.inputs({split!r}, [{row}])[0]",
        ]
    else:
        lines += [
            "\nfrom dmpo_explore.data.torch_loaders import make_transform",
            "from dmpo_explore.data.image_files import open_image\n",
            "model = run.model()",
            f"image = make_transform(model.preprocess)(open_image({subject.sent.name!r}))",
            "out = dx.infer(model, image[None], policy)",
            "print(out.exit + 1, [run.class_names[label] for label in out.label], out.confidence)",
        ]
    question = attribution_panel.question(view.one, view.way.exit)
    options = f"target={question.target}, method={question.method!r}, baseline={question.baseline!r}"
    return "\n".join([*lines, f"maps = dx.compare_exits(model, image, {options})"])


page()
