"""Parts of the page Decide: which runs can be compared, the charts, the images, the downloads."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import gallery, widgets
from dmpo_explore_app.components import share as share_popover
from dmpo_explore_app.services import comparison, comparison_code, own_runs, policies, records, selection
from dmpo_explore_app.services.comparison import Side, Wanted
from dmpo_explore_app.services.images import shuffled
from dmpo_explore_app.state import choices, decide_choices, links, opened_scores, operating_point, targets

import dmpo_explore as dx

CLASSES = 12  # classes shown; where there are more, those that differ most
IMAGES = 24  # at a time
Rows = Sequence[int] | npt.NDArray[np.int64]
Link = Callable[[str, int], str]
Named = tuple[str, dx.Outcome]  # a run's name and its outcome


def open_runs(names: Sequence[str]) -> list[dx.Run]:
    """Runs that can be opened and have a record; the others are named."""
    found = []
    for name in names:
        try:
            run = opened_scores.load(name)
        except (OSError, ValueError) as error:
            messages.problem(f"{messages.escape_markdown(name)} cannot be opened and is left out.", error)
            continue
        if run.splits():
            found.append(run)
        else:
            command = f"dmpo-explore record {name}"
            messages.notice(
                f"{messages.escape_markdown(name)} has no record yet and is left out: `{command}` makes it."
            )
    return found


def on_the_same_images(runs: Sequence[dx.Run], split: str) -> list[dx.Run]:
    """Runs whose record is of the images of the first that can be read; the others are named."""
    found: list[dx.Run] = []
    for run in runs:
        name = messages.escape_markdown(run.name)
        try:
            same = comparison.same_images(found[0] if found else run, run, split)
        except (OSError, ValueError) as error:
            messages.problem(f"{name} cannot be read and is left out.", error)
            continue
        if same:
            found.append(run)
        else:
            first = messages.escape_markdown(found[0].name)
            messages.notice(
                f"{name} was recorded on other {messages.escape_markdown(split)} images than {first} and is left out."
            )
    return found


def remarks(sides: Sequence[Side], split: str, policy: str, wanted: Wanted) -> list[str]:
    images = f"{sides[0].record.n_images:,} images of {messages.escape_markdown(split)}"
    fitted_on = " and ".join(dict.fromkeys(side.point.run.fitting_split for side in sides if side.fitted))
    fits = f"thresholds fitted on {fitted_on}; " if fitted_on else ""
    notes = [f"{images}; {fits}intervals are paired, over images."]
    if split in fitted_on.split():
        notes = [f"{images}, on which the thresholds were fitted too: test shows their result on other images."]
    for side in sides:
        name, run = messages.escape_markdown(side.name), side.point.run
        if not policies.can_fit(run) and side.record.n_exits > 1:
            fix = f"`dmpo-explore record {side.name} --split val`"
            fix = "the page Bring your own takes them" if own_runs.is_own(run) else fix
            notes.append(f"{name} has no calibration or val record to fit on, so every image exits at its last: {fix}.")
        if (drawn := comparison.policy_of_curve(side, policy)) != policy and side.record.n_exits > 1:
            notes.append(f"{name}: its curve is that of {drawn}, as {policy} is unavailable.")
        elif side.fitted:
            text = dx.fitting.few_images(records.record(run, run.fitting_split).n_images, run.fitting_split)
            notes += [f"Caution, {name}: {messages.escape_markdown(text, 400)}."] if text else []
        limit, cost = f"{wanted.budget or math.inf:.3g}", f"{side.cost(wanted):.3g}"
        if side.fitted and not side.refused and float(cost) > float(limit):
            text = f"{limit} {wanted.unit} on {run.fitting_split} are {cost} on {split}"
            notes.append(f"{name}: {messages.escape_markdown(text)}.")
        if comparison.taken_for_the_same(sides[0].point.run, side.point.run, split):
            notes.append(f"{name}: its labels are equal in the same order, so its images are taken for the same.")
    return notes


def curves(sides: Sequence[Side], split: str, policy: str, wanted: Wanted, choice: dx.analysis.RunChoice) -> go.Figure:
    reference = comparison.side_of(sides, choice.reference)
    least = None if wanted.lose is None else float(reference.record.correct[:, -1].mean()) - wanted.lose
    figure = comparison.curves_figure(sides, split, policy, wanted, least)
    now = "; ".join(
        f"{side.name} {side.outcome.summary()['accuracy']:.1%} at {side.cost(wanted):.3g} {wanted.unit}"
        for side in sides
    )
    widgets.chart(figure, "decide curves", 400, f"Accuracy over {wanted.unit}. Now: {now}.")
    return figure


def classes(sides: Sequence[Side], choice: dx.analysis.RunChoice) -> go.Figure:
    st.header("Class by class", anchor=False)
    frame = comparison.class_accuracy(sides)
    top = frame.head(CLASSES)
    some = f"The {CLASSES} of {len(frame):,} classes on which the runs differ most" if len(top) < len(frame) else ""
    struck = ", ".join(messages.escape_markdown(row["run"]) for _, row in choice.table.iterrows() if row["reason"])
    st.caption(
        f"{some or 'Those on which the runs differ most'} at this budget, in that order."
        + f" Struck out above: {struck}." * bool(struck)
    )
    labels = comparison.axis_labels(sides, top)
    figure = dx.figures.class_accuracy_figure(top, list(comparison.run_numbers(sides).values()), labels=labels)
    alt = f"Accuracy of each run on each class; they differ most on {frame.index[0]}."
    widgets.chart(figure, "decide classes", 110 + (16 + 5 * len(sides)) * len(top), alt)
    return figure


def base(sides: Sequence[Side]) -> Side:
    """The run that the others are compared with."""
    name = decide_choices.validate_against([side.name for side in sides])
    st.header("At every budget", anchor=False)
    names = [side.name for side in sides]
    st.selectbox("Compared with", names, key=decide_choices.AGAINST, width=220, persist_state="session")
    return next(side for side in sides if side.name == name)


def differences(sides: Sequence[Side], base: Side, split: str, policy: str) -> go.Figure | None:
    figure = comparison.differences_figure(sides, base, split, policy)
    if figure is None:
        st.caption("None of these runs has a budget to vary.")
        return None
    alt = f"Points of accuracy above {base.name} at budgets from small to full, with 95% intervals."
    widgets.chart(figure, "decide differences", 370, alt)
    return figure


def images(sides: Sequence[Side], base: Side, split: str) -> None:
    st.header("Images on which they disagree", anchor=False)
    others = [side.name for side in sides if side is not base]
    other, kind = decide_choices.validate_images(others)
    a = next(side for side in sides if side.name == other)
    masks = dx.analysis.parts(a.outcome, base.outcome)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="pairs"):
        label = f"A (B is {messages.escape_markdown(base.name)}, compared with above)"
        st.selectbox(label, others, key=decide_choices.OTHER, width=220, persist_state="session")
        st.segmented_control(
            "Show",
            list(decide_choices.SHOWN),
            format_func=lambda key: f"{decide_choices.SHOWN[key]} · {int(masks[key].sum()):,}",
            key=decide_choices.SHOW,
            required=True,
            persist_state="session",
        )
        if st.button("Show others", icon=":material/shuffle:", key=decide_choices.OTHERS):
            decide_choices.next_page()
    order = shuffled(a.record.n_images)
    rows = selection.page_of(order[masks[kind][order]], decide_choices.page(), IMAGES)
    if not rows.size:
        st.caption("No image.")
        return
    both = {side.name: side for side in (a, base)}
    pictured = base if own_runs.is_own(a.point.run) else a  # the same images
    thumbnail = widgets.thumbnail_source(pictured.point.run, split)
    first, second = ((side.name, side.outcome) for side in (a, base))
    leads = not any(own_runs.is_own(side.point.run) for side in sides)  # a link opens a session without own scores
    to_image = (lambda name, row: link(both[name], row)) if leads else None
    st.html(tiles(first, second, rows, thumbnail, to_image))
    if leads:
        st.caption("A prediction is a link to its explanation.")


def tiles(a: Named, b: Named, rows: Rows, thumbnail: Callable[[int], str] | None, link: Link | None = None) -> str:
    """Images with the prediction of each model; ``thumbnail``: row → data URI; ``link``: run and row → address."""
    items = "".join(_tile(a, b, int(row), thumbnail, link) for row in rows)
    return f'<ul class="dx-gallery dx-pairs">{items}</ul>'


def _tile(a: Named, b: Named, row: int, thumbnail: Callable[[int], str] | None, link: Link | None) -> str:
    record = a[1].record
    label = record.meta.class_names[record.labels[row]]
    lines = [_line(letter, *named, row, link) for letter, named in (("A", a), ("B", b))]
    title = f"{gallery.name(record, row)}: {label}"
    return (
        f'<li title="{html.escape(title)}"><figure>{gallery.image(record, row, thumbnail)}<figcaption>'
        f"<strong>{gallery.short(label)}</strong>{''.join(lines)}</figcaption></figure></li>"
    )


def _line(letter: str, run: str, outcome: dx.Outcome, row: int, link: Link | None) -> str:
    record, correct = outcome.record, bool(outcome.correct[row])
    predicted = gallery.short(record.meta.class_names[outcome.prediction[row]])
    where = f" · exit\N{NO-BREAK SPACE}{outcome.exits[row] + 1}" if record.n_exits > 1 else ""
    text = f"<b>{letter} {'✓' if correct else '✗'}</b> {predicted}{where}"
    if link is not None:
        title = html.escape(f"Open in One image: {run}")
        text = f'<a href="{html.escape(link(run, row))}" target="_self" title="{title}">{text}</a>'
    return f'<small class="{"correct" if correct else "incorrect"}">{text}</small>'


def link(side: Side, row: int) -> str:
    """The address of an image in One image, under the side's thresholds and target."""
    run, split, policy = side.point.run, side.point.split, side.point.policy
    more = {choices.POLICY: policy.name, **operating_point.thresholds_and_record(side.point)}
    if side.fitted and (target := comparison_code.target(side)).kind == "flops" and not side.refused:
        more["budget"] = targets.offered_budget(run, policy.name, target.value)
    return links.href(links.query(run, split, row, **more))


def share(sides: Sequence[Side], base: Side, split: str, policy: str, charts: Mapping[str, go.Figure]) -> None:
    thresholds = {f"thresholds of {side.name}": side.point.policy for side in sides if side.fitted}
    tables: dict[str, Callable[[], pd.DataFrame]] = {
        "comparison": lambda: dx.analysis.run_differences({side.name: side.outcome for side in sides}, base.name),
        "classes": lambda: comparison.class_accuracy(sides).reset_index(),
    }
    share_popover.popover(
        f"decide-{split}",
        thresholds,
        tables,
        {name: (lambda figure=figure: figure) for name, figure in charts.items()},  # type: ignore[misc]
        lambda: comparison_code.python_code(sides, base, split, policy),
        lambda: comparison_code.command_line(sides, split),
        link=not any(own_runs.is_own(side.point.run) for side in sides),
    )
