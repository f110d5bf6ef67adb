"""Progress of a query to a model, and the notice that it waits in the model queue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st
from dmpo_explore_app.services import model_queries, model_queue
from streamlit.delta_generator import DeltaGenerator


@contextmanager
def progress_bar(what: str) -> Iterator[model_queries.Progress]:
    """A progress bar that is removed afterwards. Updating it ends an outdated run of the page."""
    bar = st.progress(0.0, f"{what} …")

    def show(done: int, total: int) -> None:
        share = min(1.0, done / max(total, 1))
        bar.progress(share, f"{what} … {share:.0%}")

    try:
        yield show
    finally:
        bar.empty()


@contextmanager
def waiting_notice() -> Iterator[None]:
    """Context in which waiting for a model is shown where the model is queried, and removed afterwards."""
    place: DeltaGenerator | None = None

    def show(purpose: str) -> None:
        nonlocal place
        if purpose:
            place = place or st.empty()
            place.info(f"Waiting for {purpose} …", icon=":material/hourglass_top:")  # ends an outdated run
        elif place is not None:
            place.empty()
            place = None

    with model_queue.waiting_reports(show):
        yield
