"""Compare: several runs on the same images, at the same compute.

In: runs (bundled and under the runs root). Out: curves of `dx.trade_off`, accuracy at one budget with paired intervals
(`dx.bootstrap_difference`), accuracy by class, images on which two of them part. Thresholds are fitted on val.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import disagreement_tiles, gallery, run_picker, study_results, widgets
from dmpo_explore_app.components import share as share_module
from dmpo_explore_app.services import cache, comparison, images
from dmpo_explore_app.services.comparison import Side
from dmpo_explore_app.state import choices, links, operating_point, url
from streamlit.delta_generator import DeltaGenerator

import dmpo_explore as dx
from dmpo_explore.analysis import agreement
from dmpo_explore.analysis.evaluation import same_images
from dmpo_explore.figures import compare as compare_module

KEYS = ("runs", "against", "split", "policy", "compute", "other", "show")
FIRST, MOST, SHOWN = 3, 6, 24  # runs chosen at first, runs at most, pictures at a time
COMPUTE = 30  # per cent, where the slider begins
CLASSES = 12  # classes shown; where there are more, those that differ most
SHOW = {"only a": "Only A is right", "only b": "Only B is right", "both wrong": "Both wrong, not alike"}
Records = Mapping[str, tuple[dx.Run, dx.ExitRecord]]


def page() -> None:
    """Title, choices, and what they show."""
    top = st.container(horizontal=True, vertical_alignment="center")
    top.title("Which model gives more for the same compute?", anchor=False)
    st.markdown(
        "Every run gets **the same budget**, its thresholds are chosen on val, and the answers are held against each "
        "other image by image."
    )
    names = dx.list_runs()
    if not names:
        widgets.no_runs()
        return
    url.follow(KEYS)
    try:
        workbench(names, top)
    except (OSError, ValueError) as error:
        messages.problem("These runs cannot be compared.", error)
    study_results.show()


def workbench(names: Sequence[str], top: DeltaGenerator) -> None:
    """Choices, below them numbers, classes and pictures; ``top`` is the title's row, where one may share them."""
    settle_runs(names)
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom", key="compared"):
        chosen = st.multiselect("Runs", names, key="runs", max_selections=MOST, width=420, persist_state="session")
        row = st.container(horizontal=True, gap="medium", width="content")
    opened = open_runs(chosen)
    splits = sorted(set.intersection(*(set(run.splits()) for run in opened))) if opened else []
    if not splits:
        message = "Choose at least two runs." if not opened else "These runs have no split in common that is recorded."
        st.info(message, icon=":material/compare_arrows:")
        return
    split, policy = choices.settle_split(splits), choices.settle_policy()
    with row:
        run_picker.split_and_policy(splits, list(choices.RULES))
    records = on_the_same_images(opened, split)
    if len(records) < 2:
        st.info("Choose at least two runs that were recorded on the same images.", icon=":material/compare_arrows:")
        return
    compare(records, split, policy, top)


def compare(records: Records, split: str, policy: str, top: DeltaGenerator) -> None:
    """Budget, numbers and curves; then classes and budgets; then pictures."""
    different_backbones(records)
    against = choices.settle("against", list(records), list(records)[1], "run to compare with among these,")
    with st.container(key="halves"):
        left, right = st.columns([5, 7], gap="medium")
    with left:
        budget = budget_slider(records)
        st.selectbox("Compare with", list(records), key="against", persist_state="session")
    sides = comparison.in_order([comparison.stand(*pair, split, policy, budget) for pair in records.values()])
    base = next(side for side in sides if side.name == against)
    with left:
        summary(sides, base, split, policy)
    with right:
        charts = {"trade-off": curves(sides, split, policy)}
    with st.container(key="charts"):
        by_class, over_budgets = st.columns(2, gap="medium")
    with by_class:
        charts["by class"] = classes(sides)
    with over_budgets:
        if figure := differences(sides, base, split, policy):
            charts["at every budget"] = figure
    with top:
        share(sides, base, split, policy, charts)
    pictures(sides, base, split)
    kept = {key: str(st.session_state[key]) for key in ("against", "split", "policy", "compute", "other", "show")}
    url.write(runs=",".join(records), **kept)


# -- choices --


def settle_runs(names: Sequence[str]) -> None:
    """Which runs; from the address they come as one text. Nothing but a name of a run that is there gets through."""
    asked = st.session_state.get("runs")
    if asked is None:
        st.session_state["runs"] = first_runs(names)
        return
    wanted = list(dict.fromkeys(asked.split(",") if isinstance(asked, str) else asked))
    known = [name for name in wanted if name in names][:MOST]
    for name in wanted:
        if name not in names:
            messages.notice(f"There is no run {messages.plain(repr(name), 60)} here; it is left out.")
    if known != asked:
        st.session_state["runs"] = known or first_runs(names)


def first_runs(names: Sequence[str]) -> list[str]:
    """The usual run and the first others on the same test images with the same backbone."""
    start = choices.DEFAULT_RUN if choices.DEFAULT_RUN in names else names[0]
    found = [start]
    for name in names:
        try:
            ours, theirs = (cache.fingerprint(dx.load_run(n), "test") for n in (start, name))
            if name != start and len(found) < FIRST and ours.comparable(theirs):
                found.append(name)
        except (OSError, ValueError):
            continue
    return found


def open_runs(names: Sequence[str]) -> list[dx.Run]:
    """Those that can be opened and have a record; the others are named."""
    found = []
    for name in names:
        try:
            run = dx.load_run(name)
        except (OSError, ValueError) as error:
            messages.problem(f"{messages.plain(name)} cannot be opened and is left out.", error)
            continue
        if run.splits():
            found.append(run)
        else:
            command = f"dmpo-explore record {name}"
            messages.notice(f"{messages.plain(name)} has no record yet and is left out: `{command}` makes it.")
    return found


def on_the_same_images(runs: Sequence[dx.Run], split: str) -> Records:
    """Runs whose record is of the images of the first that can be read; the others are named."""
    found: dict[str, tuple[dx.Run, dx.ExitRecord]] = {}
    for run in runs:
        try:
            record = cache.record(run, split)
        except (OSError, ValueError) as error:
            messages.problem(f"{messages.plain(run.name)} cannot be read and is left out.", error)
            continue
        first = next(iter(found.values()), (run, record))
        if same_images(first[1], record):
            found[run.name] = (run, record)
        else:
            names = f"{messages.plain(run.name)} was recorded on other {messages.plain(split)} images"
            messages.notice(f"{names} than {messages.plain(first[0].name)} and is left out.")
    return found


def different_backbones(records: Records) -> None:
    """Say so where the same share of compute is not the same compute."""
    plain_costs = {name: record.meta.reference_flops for name, (_, record) in records.items()}
    if len(set(plain_costs.values())) > 1:
        each = ", ".join(f"{messages.plain(name)} {flops / 1e9:.3g}" for name, flops in plain_costs.items())
        messages.notice(
            "These runs have different backbones, and a share of compute is of the run's own: the same budget is not "
            f"the same compute. GFLOPs of the plain backbones: {each}."
        )


def budget_slider(records: Records) -> float:
    """One budget for all, as a fraction; from what the cheapest exit costs everywhere to the dearest full depth."""
    several = [record.flops_fraction for _, record in records.values() if record.n_exits > 1] or [np.array([0.0, 1.0])]
    low = math.ceil(100 * max(float(costs[0]) for costs in several) + 1e-9)
    high = max(math.ceil(100 * max(float(costs[-1]) for costs in several)), low + 1)
    asked = st.session_state.get("compute")
    try:
        value = COMPUTE if asked is None else int(asked)
        if not low <= value <= high and isinstance(asked, str):
            raise ValueError
    except ValueError:
        shown = messages.plain(repr(asked), 40)
        text = f"The link's compute {shown} must be a whole number from {low} to {high} per cent."
        messages.notice(text)
        value = COMPUTE
    st.session_state["compute"] = min(max(value, low), high)
    percent = st.slider(
        "At most this compute",
        low,
        high,
        key="compute",
        format="%d%%",
        help="Share of the plain backbone's compute, everything that runs counted. Each run gets its most accurate "
        "threshold on **val** within this budget.",
        persist_state="session",
    )
    return percent / 100


# -- numbers --


def summary(sides: Sequence[Side], base: Side, split: str, policy: str) -> None:
    """The table in words, and what may surprise in it."""
    rows = comparison.table(sides, base)
    differences = rows[["run", "difference", "low", "high"]].to_numpy().tolist()
    mixed = len({side.record.meta.reference_flops for side in sides}) > 1
    shown = pd.DataFrame(
        {
            "run": [messages.plain(name) for name in rows["run"]],
            "accuracy": [f"{value:.2%}" for value in rows["accuracy"]],
            "compute": [f"{value:.1%}" for value in rows["compute"]],
            **({"GFLOPs": [f"{value / 1e9:.3g}" for value in rows["flops"]]} if mixed else {}),
            f"points above {messages.plain(base.name)} [95%]": [
                "–" if name == base.name else comparison.interval(*numbers) for name, *numbers in differences
            ],
        }
    )
    st.table(shown, hide_index=True, alt="Accuracy and compute of each run, and the difference in accuracy.")
    st.caption("  \n".join(remarks(sides, split, policy)))


def remarks(sides: Sequence[Side], split: str, policy: str) -> list[str]:
    """What the reader of the table must know, as Markdown."""
    images = f"{sides[0].record.n_images:,} images of {messages.plain(split)}"
    notes = [f"{images}; thresholds chosen on val; intervals by a paired bootstrap over images."]
    if split == "val":
        notes = [f"{images}, on which the thresholds were chosen too: look at test for what they are worth."]
    for side in sides:
        name = messages.plain(side.name)
        if side.record.n_exits == 1:
            notes.append(f"{name} has a single exit and is taken as it is.")
        elif side.budget is None:
            fix = f"`dmpo-explore record {side.name} --split val`"
            notes.append(f"{name} has no val record to choose on, so every image goes to its last exit: {fix}")
            if (drawn := comparison.rule_of_curve(side, policy)) != policy:
                notes.append(f"Its curve is that of {drawn}: {policy} learns on val.")
    return notes


def curves(sides: Sequence[Side], split: str, policy: str) -> go.Figure:
    """Accuracy over compute of every run, and where each stands."""
    st.header("Accuracy over compute", anchor=False)
    numbers = ((side.name, side.here.summary) for side in sides)
    now = "; ".join(f"{name} {s['accuracy']:.1%} at {s['flops_fraction']:.1%}" for name, s in numbers)
    figure = comparison.curves_figure(sides, split, policy)
    widgets.chart(figure, "compare curves", 400, f"Accuracy over compute. Now: {now}.")
    return figure


def classes(sides: Sequence[Side]) -> go.Figure:
    """Where the runs differ most, class by class."""
    st.header("Class by class", anchor=False)
    frame = comparison.class_accuracy(sides)
    top = frame.head(CLASSES)
    if len(frame) > len(top):
        st.caption(f"The {len(top)} of {len(frame)} classes on which the runs differ most.")
    figure = compare_module.class_accuracy_figure(top, range(len(sides)))
    alt = f"Accuracy of each run on each class; they differ most on {top.index[0]}."
    widgets.chart(figure, "compare classes", 110 + 26 * len(top), alt)
    return figure


def differences(sides: Sequence[Side], base: Side, split: str, policy: str) -> go.Figure | None:
    """The difference at every budget."""
    st.header("At every budget", anchor=False)
    figure = comparison.differences_figure(sides, base, split, policy)
    if figure is None:
        st.caption("None of these runs has a budget to vary.")
        return None
    alt = f"Points of accuracy above {base.name} at budgets from small to full, with 95% intervals."
    widgets.chart(figure, "compare differences", 370, alt)
    return figure


# -- pictures --


def pictures(sides: Sequence[Side], base: Side, split: str) -> None:
    """Images on which two of the runs part."""
    st.header("Images on which they disagree", anchor=False)
    others = [side.name for side in sides if side is not base]
    choices.settle("other", others, others[0], "other run among these,")
    kind = choices.settle("show", list(SHOW), "only a", "filter")
    a = next(side for side in sides if side.name == st.session_state["other"])
    masks = agreement.parts(a.answers, base.answers)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="pairs"):
        label = f"A, beside B = {messages.plain(base.name)}"
        st.selectbox(label, others, key="other", width=220, persist_state="session")
        st.segmented_control(
            "Show",
            list(SHOW),
            format_func=lambda key: f"{SHOW[key]} · {int(masks[key].sum()):,}",
            key="show",
            required=True,
            persist_state="session",
        )
        if st.button("Show others", icon=":material/shuffle:", key="compare others"):
            st.session_state["_compare_page"] = st.session_state.get("_compare_page", 0) + 1
    order = images.shuffled(a.record.n_images)
    rows = gallery.page_of(order[masks[kind][order]], st.session_state.get("_compare_page", 0), SHOWN)
    if not rows.size:
        st.caption("No image.")
        return
    sides_of = {side.name: side for side in (a, base)}

    def link(name: str, row: int) -> str:
        side = sides_of[name]
        policy = side.here.policy
        wish = {} if side.budget is None else {"budget": f"{100 * side.budget:g}"}
        return links.href(side.run, split, row, policy=policy.name, threshold=operating_point.text(policy), **wish)

    st.html(disagreement_tiles.tiles(a.answers, base.answers, rows, widgets.picture_source(a.run, split), link))
    st.caption("What a model says is a link to why it says so.")


# -- to take away --


def share(sides: Sequence[Side], base: Side, split: str, policy: str, charts: Mapping[str, go.Figure]) -> None:
    """Thresholds, tables, figures and the code of this comparison."""
    policies = {f"thresholds of {side.name}": side.here.policy for side in sides if side.budget is not None}
    tables: dict[str, Callable[[], pd.DataFrame]] = {
        "comparison": lambda: comparison.table(sides, base),
        "classes": lambda: comparison.class_accuracy(sides).reset_index(),
    }
    share_module.popover(
        f"compare-{split}",
        policies,
        tables,
        {name: (lambda figure=figure: figure) for name, figure in charts.items()},  # type: ignore[misc]
        lambda: comparison.python_code(sides, base, split, policy),
        lambda: comparison.command_line(sides, base, split, policy),
    )


page()
