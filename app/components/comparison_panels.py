"""Parts of the page Compare: which runs can be compared, the table, the charts, the images, the downloads.

In: runs, or `Side`s: runs under one budget. Out: elements of the page. Runs that cannot be compared are named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import compute_help, disagreement_tiles, widgets
from dmpo_explore_app.components import share as share_popover
from dmpo_explore_app.services import class_rows, comparison, comparison_code, own_runs, records, run_facts, selection
from dmpo_explore_app.services.comparison import Side
from dmpo_explore_app.services.images import shuffled
from dmpo_explore_app.state import choices, compare_choices, links, opened_scores, operating_point, targets

import dmpo_explore as dx

CLASSES = 12  # classes shown; where there are more, those that differ most
IMAGES = 24  # at a time


# -- runs --


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


RUNS_HELP = (
    "Every run with several exits gets the same budget. A run with one exit cannot exit early: it uses its full "
    "compute. Predictions are compared image by image, so all runs must have recorded the same images."
)
BUDGET_HELP = (
    "everything that runs counted. Each run gets its most accurate threshold on **calibration** (**val** where it has "
    "none) within this budget."
)


def budget(runs: Sequence[dx.Run], split: str) -> comparison.Budget:
    """One budget for all: a share of the plain backbone's compute, or GFLOPs where the backbones differ."""
    if comparison.mixed(runs, split):
        return _budget_in_gflops(runs, split)
    low, high = comparison.budget_range(runs, split)
    compare_choices.validate_compute(low, high, math.ceil(100 * comparison.usual_budget(runs)))
    percent = st.slider(
        "Max compute (%)",
        low,
        high,
        key=compare_choices.COMPUTE,
        format="%d%%",
        help=f"Share of the plain backbone's compute, {BUDGET_HELP}",
        persist_state="session",
    )
    return comparison.Budget(percent / 100)


def _budget_in_gflops(runs: Sequence[dx.Run], split: str) -> comparison.Budget:
    stops, gflops = comparison.gflops_stops(runs, split), comparison.reference_gflops(runs, split)
    compare_choices.validate_gflops(stops, comparison.usual_budget(runs, gflops=True))
    value = st.select_slider(
        "Max compute (GFLOPs)",
        stops,
        key=compare_choices.GFLOPS,
        format_func=lambda stop: f"{stop:.3g}",
        help=f"Mean GFLOPs of an image, {BUDGET_HELP} 1 MAC is 2 FLOPs.",
        persist_state="session",
    )
    models = {run_facts.backbone(records.record(run, split).meta.model): gflops[run.name] for run in runs}
    each = ", ".join(f"{messages.escape_markdown(name)} {number:.3g}" for name, number in models.items())
    st.caption(f"In GFLOPs, because the backbones differ. Without exits: {each}.")
    return comparison.Budget(float(value), gflops=True)


# -- numbers --


def summary(sides: Sequence[Side], base: Side, split: str, policy: str) -> None:
    """The table as text, and remarks on it."""
    rows = comparison.table(sides, base)
    differences = rows[["run", "difference", "low", "high"]].to_numpy().tolist()
    compute = {"compute": [f"{value:.1%}" for value in rows["compute"]]}
    if comparison.mixed([side.point.run for side in sides], split):
        compute = {"GFLOPs": [f"{value / 1e9:.3g}" for value in rows["flops"]], "of its backbone": compute["compute"]}
    shown = pd.DataFrame(
        {
            "run": [messages.escape_markdown(name) for name in rows["run"]],
            "accuracy": [f"{value:.2%}" for value in rows["accuracy"]],
            **compute,
            f"points above {messages.escape_markdown(base.name)} [95%]": [
                "–" if name == base.name else comparison.interval(*numbers) for name, *numbers in differences
            ],
        }
    )
    st.table(shown, hide_index=True, alt="Accuracy and compute of each run, and the difference in accuracy.")
    st.caption("  \n".join(remarks(sides, split, policy)))


def remarks(sides: Sequence[Side], split: str, policy: str) -> list[str]:
    """Remarks on the table, as Markdown."""
    images = f"{sides[0].record.n_images:,} images of {messages.escape_markdown(split)}"
    fitted_on = " and ".join(dict.fromkeys(side.point.run.fitting_split for side in sides if side.budget is not None))
    fits = f"thresholds fitted on {fitted_on}; " if fitted_on else ""
    notes = [f"{images}; {fits}intervals by a paired bootstrap over images."]
    if split in fitted_on.split():
        notes = [f"{images}, on which the thresholds were fitted too: test shows their result on other images."]
    for side in sides:
        name = messages.escape_markdown(side.name)
        if side.record.n_exits == 1:
            notes.append(f"{name} has a single exit: no threshold is fitted; all its compute is used at every budget.")
        elif side.least is not None:
            notes.append(
                f"{name} cannot meet this budget: its exit 1, where all images exit, needs {side.least:.3g} GFLOPs."
            )
        elif side.unavailable:
            reason = messages.escape_markdown(side.unavailable, 300)
            notes.append(f"{name}: every image exits at its last exit, as {policy} is unavailable: {reason}.")
        elif side.budget is None and own_runs.is_own(side.point.run):
            notes.append(
                f"{name} has no held-out scores to fit on, so every image exits at its last exit. The page Your own "
                "scores takes them."
            )
        elif side.budget is None:
            fix = f"`dmpo-explore record {side.name} --split val`"
            notes.append(
                f"{name} has no calibration or val record to fit on, so every image exits at its last exit: {fix}"
            )
            if (drawn := comparison.policy_of_curve(side, policy)) != policy:
                notes.append(f"Its curve is that of {drawn}: {policy} learns on these.")
        elif text := dx.fitting.few_images(
            records.record(side.point.run, side.point.run.fitting_split).n_images, side.point.run.fitting_split
        ):
            notes.append(f"Caution, {name}: {messages.escape_markdown(text, 400)}.")
        if text := compute_help.recount(side.point.run, side.record):
            notes.append(f"Caution, {name}: its {text}")
        if comparison.taken_for_the_same(sides[0].point.run, side.point.run, split):
            notes.append(f"{name}: its labels are equal in the same order, so its images are taken for the same.")
    return notes


# -- charts --


def curves(sides: Sequence[Side], split: str, policy: str) -> go.Figure:
    """Accuracy over compute of every run, and the operating point of each."""
    st.header("Accuracy over compute", anchor=False)
    mixed = comparison.mixed([side.point.run for side in sides], split)
    numbers = comparison.table(sides, sides[0])[["run", "accuracy", "compute", "flops"]].to_numpy().tolist()
    now = "; ".join(
        f"{name} {accuracy:.1%} at {f'{flops / 1e9:.3g} GFLOPs' if mixed else f'{compute:.1%}'}"
        for name, accuracy, compute, flops in numbers
    )
    figure = comparison.curves_figure(sides, split, policy)
    widgets.chart(figure, "compare curves", 400, f"Accuracy over compute. Now: {now}.")
    return figure


def classes(sides: Sequence[Side]) -> go.Figure:
    """The classes on which the runs differ most."""
    st.header("Class by class", anchor=False)
    frame = comparison.class_accuracy(sides)
    top = frame.head(CLASSES)
    if len(frame) > len(top):
        text = (
            st.text_input(
                "Find classes",
                key=compare_choices.FIND,
                placeholder="part of a name",
                width=220,
                persist_state="session",
            )
            or ""
        )
        found = frame.iloc[class_rows.found(tuple(frame.index), text)]
        top = top if found.empty else found.head(CLASSES)
        st.caption(_which_classes(len(top), len(found), len(frame), text))
    figure = dx.figures.class_accuracy_figure(top, list(comparison.run_numbers(sides).values()))
    alt = f"Accuracy of each run on each class; they differ most on {frame.index[0]}."
    widgets.chart(figure, "compare classes", 110 + 26 * len(top), alt)
    return figure


def _which_classes(shown: int, found: int, classes: int, text: str) -> str:
    words = f" that contain “{messages.escape_markdown(text[:60])}”" if text.strip() else ""
    none = "" if found else f"No class{words.replace('contain', 'contains')}. "
    return f"{none}The {shown} of {found or classes:,} classes{words if found else ''} on which the runs differ most."


def differences(sides: Sequence[Side], base: Side, split: str, policy: str) -> go.Figure | None:
    """The difference to the base run at every budget."""
    st.header("At every budget", anchor=False)
    figure = comparison.differences_figure(sides, base, split, policy)
    if figure is None:
        st.caption("None of these runs has a budget to vary.")
        return None
    alt = f"Points of accuracy above {base.name} at budgets from small to full, with 95% intervals."
    widgets.chart(figure, "compare differences", 370, alt)
    return figure


# -- images --


def images(sides: Sequence[Side], base: Side, split: str) -> None:
    """Images on which two of the runs disagree."""
    st.header("Images on which they disagree", anchor=False)
    others = [side.name for side in sides if side is not base]
    other, kind = compare_choices.validate_images(others)
    a = next(side for side in sides if side.name == other)
    masks = comparison.disagreements(a, base)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="pairs"):
        label = f"A (B is {messages.escape_markdown(base.name)})"
        st.selectbox(label, others, key=compare_choices.OTHER, width=220, persist_state="session")
        st.segmented_control(
            "Show",
            list(compare_choices.SHOWN),
            format_func=lambda key: f"{compare_choices.SHOWN[key]} · {int(masks[key].sum()):,}",
            key=compare_choices.SHOW,
            required=True,
            persist_state="session",
        )
        if st.button("Show others", icon=":material/shuffle:", key=compare_choices.OTHERS):
            compare_choices.next_page()
    order = shuffled(a.record.n_images)
    rows = selection.page_of(order[masks[kind][order]], compare_choices.page(), IMAGES)
    if not rows.size:
        st.caption("No image.")
        return
    both = {side.name: side for side in (a, base)}
    pictured = base if own_runs.is_own(a.point.run) else a  # the same images
    thumbnail = widgets.thumbnail_source(pictured.point.run, split)
    first, second = ((side.name, side.outcome) for side in (a, base))
    leads = not any(own_runs.is_own(side.point.run) for side in sides)  # a link opens a session without own scores
    to_image = (lambda name, row: link(both[name], row)) if leads else None
    st.html(disagreement_tiles.tiles(first, second, rows, thumbnail, to_image))
    if leads:
        st.caption("A prediction is a link to its explanation.")


def link(side: Side, row: int) -> str:
    """The address of an image in One image, under the side's thresholds and target."""
    run, split, policy = side.point.run, side.point.split, side.point.policy
    more = {choices.POLICY: policy.name, **operating_point.thresholds_and_record(side.point)}
    if side.budget is not None and side.least is None:
        more["budget"] = targets.offered_budget(run, policy.name, side.budget)
    return links.href(run, split, row, **more)


# -- downloads --


def share(sides: Sequence[Side], base: Side, split: str, policy: str, charts: Mapping[str, go.Figure]) -> None:
    """Thresholds, tables, figures and the code of this comparison."""
    policies = {f"thresholds of {side.name}": side.point.policy for side in sides if side.budget is not None}
    tables: dict[str, Callable[[], pd.DataFrame]] = {
        "comparison": lambda: comparison.table(sides, base),
        "classes": lambda: comparison.class_accuracy(sides).reset_index(),
    }
    share_popover.popover(
        f"compare-{split}",
        policies,
        tables,
        {name: (lambda figure=figure: figure) for name, figure in charts.items()},  # type: ignore[misc]
        lambda: comparison_code.python_code(sides, base, split, policy),
        lambda: comparison_code.command_line(sides, base, split, policy),
        link=not any(own_runs.is_own(side.point.run) for side in sides),
    )
