"""The live run of a browser session: at most one, on a model that sessions share, in turns with all others.

In: a run, a split, a policy, settings. Out: `Running` in ``st.session_state``, with what has to be said beside its
numbers. It ends by itself when the session goes away, for then nobody looks any more (`live.IDLE`).
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass

import streamlit as st
from dmpo_explore_app.services import cache, model_queue

import dmpo_explore as dx
from dmpo_explore.inference.live import LiveRun, Look
from dmpo_explore.inference.torch_live import load_average, open_arms
from dmpo_explore.pretrained.weights import find_weights
from dmpo_explore.runs.weights_file import read_weights_meta

KEY = "_live"
WHAT = "a live run"  # for whoever waits for its turn
WAIT = 10.0  # seconds for the call that is under way when another live run is to begin

_ALL: weakref.WeakSet[LiveRun] = weakref.WeakSet()  # of all sessions of this server
_GUARD = threading.Lock()


@dataclass
class Running:
    """A live run and its circumstances.

    Args:
        of: folder of the run, split. load: load average before it began. others: most live runs of other sessions that
            were seen at work beside it.
    """

    live: LiveRun
    of: tuple[str, str]
    load: float | None
    others: int = 0

    def look(self) -> Look:
        """`LiveRun.look`, and a glance at who else is at work."""
        look = self.live.look()
        if look.alive:
            with _GUARD:
                working = sum(live.working for live in _ALL if live is not self.live)
            self.others = max(self.others, working)
        return look


def current() -> Running | None:
    """This session's."""
    found = st.session_state.get(KEY)
    return found if isinstance(found, Running) else None


def start(run: dx.Run, split: str, policy: dx.Policy, *, batch_size: int, images: int | None, engine: str) -> Running:
    """End this session's live run and begin another; raises as `loading.model` and `open_arms`."""
    end()
    load = load_average()
    model = cache.model(run, merge=True)
    arms = open_arms(run, split, model, batch_size, engine)
    live = LiveRun(arms, cache.record(run, split), policy, images=images, turn=lambda: model_queue.taken(WHAT))
    with _GUARD:
        others = sum(one.working for one in _ALL)
        _ALL.add(live)
    running = st.session_state[KEY] = Running(live, of(run, split), load, others)
    live.start()
    return running


def end() -> None:
    """End this session's live run, if there is one, and forget it."""
    running = current()
    if running is not None:
        running.live.stop(WAIT)
        del st.session_state[KEY]


def of(run: dx.Run, split: str) -> tuple[str, str]:
    """What `Running.of` has for these."""
    return str(run.path), split


def hindrance(run: dx.Run) -> Exception | None:
    """Why ``run`` has no model here, without loading it; the library's errors name the fix."""
    try:
        read_weights_meta(run.path)
        find_weights(run.config.model.backbone, run.config.model.weights)
    except (OSError, ValueError) as error:
        return error
    return None
