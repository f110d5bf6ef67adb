"""Single images of a live run: the last answers, and the disagreements with the record."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import gallery
from dmpo_explore_app.services import images

import dmpo_explore as dx

ROUNDING = 1e-4  # distance to a threshold within which rounding may decide

Link = Callable[[int], str]


def answers(
    record: dx.ExitRecord, last: Sequence[dx.inference.Answer], image: Link | None, link: Link | None = None
) -> str:
    """The last images with the exit taken and the prediction there, as HTML."""
    colours = dx.figures.exit_colours(record.n_exits)
    items = "".join(_answer(record, one, image, link, colours[one.exit]) for one in last)
    return f'<ul class="dx-gallery dx-answers">{items}</ul>'


def _answer(record: dx.ExitRecord, one: dx.inference.Answer, image: Link | None, link: Link | None, colour: str) -> str:
    names, label = record.meta.class_names, int(record.labels[one.row])
    correct, is_ = one.label == label, gallery.short(names[label])
    shown = gallery.image(record, one.row, image)
    if link is not None:
        shown = f'<a href="{html.escape(link(one.row))}" target="_self" title="Open in One image">{shown}</a>'
    title = f"{gallery.name(record, one.row)}: {names[label]}; exits at exit {one.exit + 1} as {names[one.label]}"
    return (
        f'<li class="{"correct" if correct else "incorrect"}" title="{html.escape(title)}"><figure>{shown}<figcaption>'
        f'<i class="dx-dot" style="--exit: {colour}"></i>exit\N{NO-BREAK SPACE}{one.exit + 1}'
        f"<small><b>{'✓' if correct else '✗'}</b> {gallery.short(names[one.label])} {one.confidence:.0%}</small>"
        f"{'' if correct else f'<small>is {is_}</small>'}</figcaption></figure></li>"
    )


def disagreements(look: dx.inference.Look, record: dx.ExitRecord, precision: str = "no") -> None:
    """Warning with every image whose exit or prediction is not the recorded one, and its distance to the threshold."""
    count = look.count
    if not count.disagreements:
        return
    differing, shown = count.images - count.agreed, count.disagreements
    text = f"**{differing:,} of {count.images:,} images took another exit, or got another answer, than recorded.** "
    if all(one.distance is not None and one.distance <= ROUNDING for one in shown):
        text += (
            "Their scores are so close to the threshold that rounding decides: other batch sizes, merged tuning or "
            "another processor change a score by some millionths."
        )
    elif precision != "no":
        text += f"The live run computes in {precision}, the record is in float32: such differences are expected."
    else:
        text += (
            "Not all of them are so close to the threshold that rounding could decide: was the record made with these "
            "weights, in float32?"
        )
    if differing > len(shown):
        text += f" The first {len(shown)}:"
    st.warning(text, icon=":material/compare_arrows:")
    st.table(table(record, shown), hide_index=True, width="content", alt="Images that did not exit as recorded.")


def table(record: dx.ExitRecord, shown: Sequence[dx.inference.Disagreement]) -> pd.DataFrame:
    names = [messages.escape_markdown(name) for name in record.meta.class_names]
    return pd.DataFrame(
        {
            "image": [str(images.number_of(record, one.row)) for one in shown],
            "exit taken": [str(one.exit + 1) for one in shown],
            "recorded exit": [str(one.recorded_exit + 1) for one in shown],
            "prediction": [names[one.label] for one in shown],
            "recorded prediction": [names[one.recorded_label] for one in shown],
            "score to threshold": ["" if one.distance is None else f"{one.distance:.1e}" for one in shown],
        }
    )
