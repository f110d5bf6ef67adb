"""Classes by exits, whose parts filter the images; of many a search, an order, and both ends of it or pages."""

from __future__ import annotations

import streamlit as st
from dmpo_explore_app.components import gallery, widgets
from dmpo_explore_app.components.clickable import clickable
from dmpo_explore_app.messages import escape_markdown
from dmpo_explore_app.services import class_rows
from dmpo_explore_app.services.class_rows import ClassView
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.services.selection import Selection, within
from dmpo_explore_app.state import class_view as state
from dmpo_explore_app.state import filters, operating_point


def draw(point: OperatingPoint, chosen: Selection, fragments: tuple[str, ...]) -> None:
    """The heat map; a cell, a row's name or a column's number sets a filter and draws ``fragments`` again."""
    outcome, view = point.outcome, state.validate()
    names = outcome.record.meta.class_names
    if len(names) > class_rows.FEW:
        widgets.class_choices("class_rows", state.KEYS, class_rows.ORDERS, searching=bool(view.find))
    else:
        view = ClassView()
    pinned = {chosen.label - 1} if chosen.label else set()
    pinned |= set() if chosen.image is None else {int(outcome.record.labels[chosen.image])}
    _, pages = class_rows.rows(outcome, view, pinned)
    shown, _ = class_rows.rows(outcome, view, pinned, state.page(view, pages))
    st.caption(_summary(names, view, *class_rows.moved(outcome)))
    of = within(outcome.record, chosen)
    body = gallery.heat_map(outcome, (chosen.label, chosen.exit), chosen.image, shown, of)
    text = operating_point.text(point.policy)
    body = f'<div class="dx-heat" data-threshold="{text}">{body}</div>'
    clickable(body, "heat", filters.toggle, fragments)
    if pages > 1:
        st.pagination(pages, key=state.pager_key(view, pages))


def _summary(names: tuple[str, ...], view: ClassView, lose: int, gain: int) -> str:
    order = class_rows.ORDERS[view.order]
    if not view.find:
        return f"{len(names):,} classes, {order}. Against the last exit {lose:,} lose and {gain:,} gain."
    count = len(class_rows.found(names, view.find))
    return f"{count:,} of {len(names):,} classes contain “{escape_markdown(view.find)}”, {order}."
