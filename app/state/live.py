"""Session state of the page Live: batch size, number of images, engine, and the session's live run."""

from __future__ import annotations

import streamlit as st
from dmpo_explore_app.services import live_session
from dmpo_explore_app.services.live_session import LiveSession
from dmpo_explore_app.state import choices

import dmpo_explore as dx

BATCH, COUNT, ENGINE = ADDRESS = ("batch", "count", "engine")  # of the address and of the state
BATCHES, DEFAULT_BATCH = ("1", "8", "32", "64", "128", "256"), "64"
COUNTS, DEFAULT_COUNT = ("200", "1000", "all", "endless"), "1000"
ENGINES, DEFAULT_ENGINE = {"infer": "infer", "stream": "stream with refill"}, "infer"
BEGIN, RESUME, PAUSE, STOP, HELP = "begin", "resume", "pause", "stop", "measured"  # of buttons and of the popover
_SESSION, _START = "_live", "_start_live"


def validate(record: dx.ExitRecord) -> None:
    """Replace choices that are not offered by the defaults, and report them."""
    counts = counts_for(record)
    choices.validate(BATCH, BATCHES, DEFAULT_BATCH, "batch size")
    choices.validate(COUNT, counts, DEFAULT_COUNT if DEFAULT_COUNT in counts else "all", "number of images")
    choices.validate(ENGINE, tuple(ENGINES), DEFAULT_ENGINE, "engine")


def counts_for(record: dx.ExitRecord) -> list[str]:
    """The numbers of images that can be chosen."""
    return [count for count in COUNTS if not count.isdecimal() or int(count) < record.n_images]


def n_images(record: dx.ExitRecord) -> int | None:
    """The chosen number of images; None: until stopped."""
    count = str(st.session_state[COUNT])
    return None if count == "endless" else record.n_images if count == "all" else int(count)


def address() -> dict[str, str]:
    """Query parameters of the choices that differ from the defaults."""
    default = {BATCH: DEFAULT_BATCH, COUNT: DEFAULT_COUNT, ENGINE: DEFAULT_ENGINE}
    return {key: str(st.session_state[key]) for key in ADDRESS if st.session_state[key] != default[key]}


def request_start() -> None:
    """Request a new live run."""
    st.session_state[_START] = True


def take_start_request() -> bool:
    """Whether a new live run is requested; withdraws the request."""
    return bool(st.session_state.pop(_START, False))


def current() -> LiveSession | None:
    """This session's live run, at work or ended."""
    found = st.session_state.get(_SESSION)
    return found if isinstance(found, LiveSession) else None


def start(run: dx.Run, split: str, policy: dx.Policy, record: dx.ExitRecord) -> LiveSession:
    """End this session's live run and start another with the validated choices.

    Raises:
        OSError, ValueError, RuntimeError: as `live_session.open_session`.
    """
    end()
    state, count = st.session_state, n_images(record)
    session = live_session.open_session(
        run, split, policy, batch_size=int(state[BATCH]), n_images=count, engine=str(state[ENGINE])
    )
    state[_SESSION] = session
    session.live.start()
    return session


def end() -> None:
    """Stop and forget this session's live run, if there is one."""
    session = current()
    if session is not None:
        session.stop()
        del st.session_state[_SESSION]
