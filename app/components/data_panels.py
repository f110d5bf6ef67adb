"""Parts of Bring your own for images: what stops a training, counts by class, a contact sheet, what a training does."""

from __future__ import annotations

import html
import math
import shlex
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import streamlit as st
from dmpo_explore_app import access, messages
from dmpo_explore_app.components import gallery, progress, training_form, widgets
from dmpo_explore_app.services import class_rows, data_check
from dmpo_explore_app.services.class_rows import ClassView
from dmpo_explore_app.state import data_choices as state
from dmpo_explore_app.state import notes, training_choices

import dmpo_explore as dx

MOST_PLACES = 200


def verdict(found: dx.data.DataCheck) -> None:
    if found.ready:
        st.success("A training can start on these images.", icon=":material/check_circle:")
    for finding in found.findings:
        show, icon = (st.error, ":material/block:") if finding.stops else (st.warning, ":material/info:")
        kind = "Stops a training" if finding.stops else finding.check.capitalize()
        text = finding.text[:1].upper() + finding.text[1:]
        show(f"**{kind}**  \n{messages.with_code(text, 700)}", icon=icon)
        if len(finding.places) > 1:
            with st.expander(f"{len(finding.places):,} {finding.check}"):
                lines = [access.without_paths(place) for place in finding.places[:MOST_PLACES]]
                more = len(finding.places) - len(lines)
                st.text("\n".join(lines + [f"… {more:,} more"] * (more > 0)))


def numbers(found: dx.data.DataCheck) -> None:
    sizes, ratio = found.sizes(), found.imbalance
    splits = ", ".join(f"{int(counts.sum()):,} {split}" for split, counts in found.counts.items())
    with st.grid(4, min_column_width=180, gap="xsmall"):
        st.metric("Images", f"{found.n_images:,}", border=True, help=splits)
        st.metric("Classes", f"{len(found.class_names):,}", border=True)
        shown = "–" if ratio is None else "∞" if math.isinf(ratio) else f"{ratio:.1f}"
        st.metric("Largest class / smallest", shown, border=True)
        size = f"{sizes.median[0]:,} × {sizes.median[1]:,}" if sizes else "–"
        st.metric("Median size", size, border=True)
    facts = [splits]
    if sizes:
        ends = [f"{width:,} × {height:,}" for width, height in (sizes.smallest, sizes.largest)]
        low, high = (f"{sizes.aspect[i]:.2f}" for i in (0, 2))
        facts.append(f"all {ends[0]} pixels" if ends[0] == ends[1] else f"from {ends[0]} to {ends[1]} pixels")
        facts.append(f"width / height {low}" + (f" to {high}" if high != low else ""))
    facts += [", ".join(f"{count:,} {name}" for name, count in found.formats.items())]
    st.caption(" · ".join(messages.escape_markdown(fact) for fact in facts if fact))


def choose_classes(found: dx.data.DataCheck) -> ClassView:
    """A search and an order; with many classes both ends or all."""
    view = state.view()
    if len(found.class_names) <= class_rows.FEW:
        return ClassView(order="number", view="all")
    widgets.class_choices("data_classes", state.CLASSES, data_check.ORDERS, searching=bool(view.find))
    return view


def counts(found: dx.data.DataCheck, rows: Sequence[int], shown: Sequence[int]) -> None:
    """Bars of the classes of a page, ``shown``, and a table of all ``rows``."""
    labels = dx.figures.unique_labels(found.class_names)  # of all: their numbers do not depend on what is shown
    bars = {split: values[list(shown)] for split, values in found.counts.items()}
    figure = dx.figures.class_counts_figure(bars, [labels[c] for c in shown])
    text = f"Images of {len(shown)} of {len(found.class_names)} classes by split; the table has the numbers."
    widgets.chart(figure, "data counts", 110 + 22 * len(shown), text)
    names = [found.class_names[c] for c in rows]
    by_split = {split: values[list(rows)] for split, values in found.counts.items()}
    table = pd.DataFrame({"class": names} | by_split | {"all": sum(by_split.values())})
    with st.expander("As a table", icon=":material/table:"):
        st.dataframe(table, hide_index=True, key="data table")
    for place, line in found.ledger.items():
        st.caption(f"{place.capitalize()}: {line.described()}.")


def contact_sheet(found: dx.data.DataCheck, rows: Sequence[int]) -> None:
    items = []
    for c in rows:
        name = html.escape(found.class_names[c])
        images = "".join(f'<img src="{html.escape(uri)}" alt="{name}" width="72" height="72">'
                         for uri in data_check.sheet(found, c))  # fmt: skip
        total = sum(int(values[c]) for values in found.counts.values())
        count = "1 image" if total == 1 else f"{total:,} images"
        items.append(
            f'<li title="{name}"><figure><div class="dx-sheet">{images}</div><figcaption>'
            f"{gallery.short(found.class_names[c])}<small>{count}</small></figcaption></figure></li>"
        )
    st.html(f'<ul class="dx-gallery dx-contact">{"".join(items)}</ul>')


def start(found: dx.data.DataCheck) -> dx.Config:
    """The recipe for photographs on these images, of which digits stay upright."""
    config = replace(_usual(), data=found.data)
    flip = found.data.name not in training_choices.UPRIGHT
    return replace(config, training=replace(config.training, flip=flip))


def _usual() -> dx.Config:
    return training_form.presets()[training_form.OWN]


def plan(found: dx.data.DataCheck) -> None:
    """What the training that `next_steps` offers does with these images, and its command."""
    config = start(found)
    shown = dx.data.training_plan(found, config)
    shown["risk control"] = dx.fitting.certifiable(found.n_calibration)
    shown["resizing"] = shown["resizing"].replace(" x ", " × ")
    table = pd.DataFrame(
        {"what": [*shown], "by the recipe for photographs": [access.without_paths(text) for text in shown.values()]}
    )
    st.table(table, hide_index=True, alt="What a training does with these images.")
    beside = dx.Config(found.data, training=dx.TrainingConfig(flip=config.training.flip)).to_arguments()
    command = ["dmpo-explore", "train", "--recipe", "photographs", *beside, "--name", "mine", "--record"]
    if access.is_private():
        st.code(shlex.join(command), language="sh", wrap_lines=True)


def next_steps(found: dx.data.DataCheck, *, weights: bool) -> None:
    """Buttons to a training's form and, where the backbone's ``weights`` are here, to a forecast, which follows."""
    with st.container(horizontal=True, gap="small", vertical_alignment="center", key="next_steps"):
        if st.button(
            "Train on these images", key=state.TRAIN, type="primary", icon=":material/model_training:",
            on_click=training_choices.start_with, args=(training_form.OWN, start(found), _usual()),
        ):  # fmt: skip
            st.switch_page("views/training.py")
        asked = weights and notes.read(notes.FORECAST) == found.data
        if weights and not asked:
            st.button(
                "What could early exits save here?", key=state.FORECAST, icon=":material/query_stats:",
                on_click=notes.write, args=(notes.FORECAST, found.data),
                help=f"Ridge probes behind every block of the frozen backbone, on {data_check.PROBED} training "
                "images: a minute or a few.",
            )  # fmt: skip
    if asked:
        try:
            with progress.progress_bar("Reading images through the backbone") as shown:
                lines = data_check.forecast(found.data, shown)
        except (OSError, ValueError) as error:
            notes.write(notes.FORECAST, None)
            messages.problem("There is no forecast for these images.", error)
            return
        st.info("  \n".join(map(messages.escape_markdown, lines)), icon=":material/query_stats:")
