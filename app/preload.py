"""What the first page needs, imported and read in a thread, while the browser still loads Streamlit's own page; and
after it the model, for which *One image* would wait."""

from __future__ import annotations

import importlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import streamlit as st
from dmpo_explore_app import access

MODULES = (  # what takes longest to import, in the order in which it is needed; components belong to Streamlit's thread
    "dmpo_explore_app.services.run_facts",
    "dmpo_explore_app.services.exploration",
    "dmpo_explore_app.services.mosaic_data",
    "dmpo_explore_app.state.choices",
    "plotly.graph_objects",
)
LONGEST = 60  # seconds that a page waits for the imports
_imported = threading.Event()
_imported.set()


@asynccontextmanager
async def while_starting(_: object) -> AsyncIterator[None]:
    """For the server: it begins when the server starts to answer. Where a token is set, the address is printed."""
    if access.token():
        address, port = st.get_option("server.address") or "localhost", st.get_option("server.port")
        print(f"\n  Open http://{address}:{port}/?token={access.token()}\n", flush=True)  # noqa: T201
    start()
    yield


def start() -> threading.Thread:
    """Begin, and return the thread."""
    _imported.clear()
    thread = threading.Thread(target=_run, name="preload", daemon=True)
    thread.start()
    return thread


def wait() -> None:
    """Until the imports are done: two threads that import the same packages may find them half made."""
    _imported.wait(LONGEST)


def _run() -> None:
    try:
        for name in MODULES:
            importlib.import_module(name)
    finally:
        _imported.set()
    with suppress(OSError, ValueError, LookupError):  # a page says what is wrong with its run
        _usual()
        _model()


@st.cache_resource(show_spinner=False)  # what it calls shows no spinner then: there is no page
def _usual() -> None:
    """Read what Explore shows first."""
    from dmpo_explore_app.services import (
        exploration,
        mosaic_data,
        policies,
        records,
        run_facts,
        slider_data,
        thumbnails,
    )
    from dmpo_explore_app.state import choices

    import dmpo_explore as dx

    names = dx.list_runs()
    run = dx.load_run(choices.usual_run(names))
    split = "test" if "test" in run.splits() else run.splits()[0]
    point = policies.OperatingPoint(run, split, run_facts.usual_policy(run, split))
    others = records.comparable_runs(names, run, split)
    tables = exploration.curves(point, others)
    found = slider_data.counts(point, None)
    slider_data.slider_data(point, tables, found=found)
    mosaic_data.exits(point, found)
    mosaic_data.pictures(point, mosaic_data.USUAL)
    with suppress(OSError, ValueError):  # without images their numbers are shown
        thumbnails.thumbnails(run, split)


def _model() -> None:
    """Load the model of the usual run, if its weights are here: that takes seconds, in which Explore is looked at."""
    from dmpo_explore_app.services import downloads, models
    from dmpo_explore_app.state import choices

    import dmpo_explore as dx

    run = dx.load_run(choices.usual_run(dx.list_runs()))
    if downloads.missing_weights_of(run) is None:
        models.model(run)
        _ = dx.compare_exits  # imports Captum
