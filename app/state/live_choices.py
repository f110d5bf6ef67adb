"""Session state of the page Live: the settings of a live run, and the session's live run, also after a reload."""

from __future__ import annotations

import streamlit as st
from dmpo_explore_app.messages import notice
from dmpo_explore_app.services import live_session
from dmpo_explore_app.services.live_session import LiveSession, LiveSettings
from dmpo_explore_app.state import choices

import dmpo_explore as dx

BATCH, COUNT, ENGINE, PRECISION, DEVICE = SETTINGS = ("batch", "count", "engine", "precision", "device")
TOKEN = "live"  # of the session's live run: a reloaded page finds it again
ADDRESS = (*SETTINGS, TOKEN)  # of the address and of the state
BATCHES = ("1", "8", "32", "64", "128", "256")
COUNTS = ("200", "1000", "all", "endless")
ENGINES = {"infer": "torch", "stream": "torch, refill", "onnx": "ONNX"}
PRECISIONS = {"no": "float32", "bf16": "bf16", "int8": "int8"}
OFFERED = {"onnx": ("no", "int8")}  # engine → precisions, where they are not those of torch
DEVICES = {"auto": "GPU", "cpu": "CPU"}  # offered where there is a GPU
DEFAULTS = {BATCH: "64", COUNT: "1000", ENGINE: "infer", PRECISION: "no", DEVICE: "auto"}
BEGIN, RESUME, PAUSE, STOP, HELP, MORE = "begin", "resume", "pause", "stop", "measured", "live_settings"
_SESSION, _FOUND = "_live", "_live_found"  # the live run; whether it was found by its token


def validate(record: dx.ExitRecord) -> None:
    """Replace choices that are not offered by the defaults, and report them."""
    counts = counts_for(record)
    choices.validate(BATCH, BATCHES, DEFAULTS[BATCH], "batch size")
    choices.validate(COUNT, counts, DEFAULTS[COUNT] if DEFAULTS[COUNT] in counts else "all", "number of images")
    choices.validate(ENGINE, live_session.engines(), DEFAULTS[ENGINE], "engine", ENGINES)
    choices.validate(PRECISION, tuple(PRECISIONS), DEFAULTS[PRECISION], "precision", PRECISIONS)
    if st.session_state[PRECISION] not in precisions():
        name, able = PRECISIONS[st.session_state[PRECISION]], " or ".join(PRECISIONS[one] for one in precisions())
        notice(f"{ENGINES[engine()]} runs in {able} here, not in {name}, so the precision is float32 now.")
        st.session_state[PRECISION] = DEFAULTS[PRECISION]
    choices.validate(DEVICE, tuple(DEVICES), DEFAULTS[DEVICE], "device", DEVICES)
    token = st.session_state.get(TOKEN)
    if current() is None and isinstance(token, str) and (found := live_session.kept(token)) is not None:
        st.session_state.update({_SESSION: found, _FOUND: True})


def engine() -> str:
    return str(st.session_state[ENGINE])


def precisions() -> tuple[str, ...]:
    return OFFERED.get(engine(), ("no", "bf16"))


def counts_for(record: dx.ExitRecord) -> list[str]:
    return [count for count in COUNTS if not count.isdecimal() or int(count) < record.n_images]


def n_images(record: dx.ExitRecord) -> int | None:
    """The chosen number of images; None: until stopped."""
    count = str(st.session_state[COUNT])
    return None if count == "endless" else record.n_images if count == "all" else int(count)


def address() -> dict[str, str]:
    state, session = st.session_state, current()
    chosen = {key: str(state[key]) for key, default in DEFAULTS.items() if state[key] != default}
    return chosen | ({} if session is None else {TOKEN: session.token})


def current() -> LiveSession | None:
    """This session's live run, at work or ended."""
    found = st.session_state.get(_SESSION)
    return found if isinstance(found, LiveSession) else None


def start(run: dx.Run, split: str, policy: dx.Policy, record: dx.ExitRecord) -> LiveSession:
    """`end` this session's live run and start another with the validated choices; raises as
    `live_session.open_session`."""
    end()
    state, count = st.session_state, n_images(record)
    settings = LiveSettings(int(state[BATCH]), count, *(str(state[key]) for key in (ENGINE, PRECISION, DEVICE)))
    session = live_session.open_session(run, split, policy, settings)
    state[_SESSION] = session
    session.live.start()
    return session


def end() -> bool:
    """Forget this session's live run, if there is one, and stop it, unless it was found by its token: the page that
    began it may still show it. Whether it was stopped."""
    session, found = current(), st.session_state.pop(_FOUND, False)
    if session is not None:
        if not found:
            session.stop()
        del st.session_state[_SESSION]
    st.session_state.pop(TOKEN, None)
    return not found
