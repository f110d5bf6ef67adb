"""Session state of the page Training: timed configs, and the jobs that this session started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st
from dmpo_explore_app.state import notes

import dmpo_explore as dx

Snapshot = tuple[tuple[str, str, int, tuple[str, ...]], ...]  # of every job: name, state, epochs, recorded splits
_RATES, _RATES_OF = "_rates", "_rates_of"
_FOLLOWED, _SNAPSHOT = "_followed_jobs", "_jobs_snapshot"
RUN = "run"  # of the address and of the state
BESIDE = "train beside"


def shown_run() -> str:
    return str(st.session_state.get(RUN))


def rates_of(config: dx.Config) -> dx.jobs.Rates | None:
    """What was measured for configs whose training steps are like those of ``config``."""
    measured: dict[str, dx.jobs.Rates] = st.session_state.get(_RATES, {})
    return measured.get(dx.jobs.probe(config).to_json())


def keep_rates(config: dx.Config, rates: dx.jobs.Rates) -> None:
    st.session_state.setdefault(_RATES, {})[dx.jobs.probe(config).to_json()] = rates


def rates_before(name: str) -> dx.jobs.Rates | None:
    """What this session measured before it started the job ``name``."""
    found: dict[str, dx.jobs.Rates | None] = st.session_state.get(_RATES_OF, {})
    return found.get(name)


def follow_started(name: str, config: dx.Config) -> None:
    """Remember a job that was just started: it is announced, and its run is shown when it has ended."""
    st.session_state.setdefault(_RATES_OF, {})[name] = rates_of(config)
    notes.write(notes.STARTED, name)
    _followed().add(name)


def show_ended(active: Mapping[str, bool], names: Sequence[str]) -> None:
    """Show the run of a job (``active``: name → whether it runs, the newest last) that has ended; on a first visit the
    newest."""
    first = st.session_state.get(RUN) is None
    for name, runs in active.items():
        if runs:
            _followed().add(name)
        elif name in names and (first or name in _followed()):
            _followed().discard(name)
            st.session_state[RUN] = name


def _followed() -> set[str]:
    found: set[str] = st.session_state.setdefault(_FOLLOWED, set())
    return found


def keep_snapshot(snapshot: Snapshot) -> None:
    st.session_state[_SNAPSHOT] = snapshot


def outdated(snapshot: Snapshot) -> bool:
    """Whether the whole page has to be drawn again: a job changed, or an error is to be shown."""
    return bool(snapshot != st.session_state.get(_SNAPSHOT)) or notes.read(notes.JOB) is not None
